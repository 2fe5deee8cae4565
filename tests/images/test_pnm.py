"""PNM against Pillow where it keeps all bits, and by hand where it does not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Pillow

from cnnfilter.errors import ImageError
from cnnfilter.images.files import encode_image, read_image


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_round_trip(rng: np.random.Generator, channels: int, dtype: type) -> None:
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, (5, 7, channels), dtype=dtype)
    file = encode_image(pixels, "ppm")
    assert file[:2] == {1: b"P5", 3: b"P6"}.get(channels, b"P7")
    back = read_image(file)
    assert back.pixels.dtype == dtype
    np.testing.assert_array_equal(back.pixels, pixels)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_reads_what_pillow_writes(rng: np.random.Generator, mode: str) -> None:
    picture = Pillow.fromarray(rng.integers(0, 256, (6, 11, 3), dtype=np.uint8)).convert(mode)
    stream = io.BytesIO()
    picture.save(stream, "PPM")
    expected = np.asarray(picture.convert("L") if mode == "1" else picture)
    np.testing.assert_array_equal(read_image(stream.getvalue()).pixels.squeeze(), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_pillow_reads_what_we_write(rng: np.random.Generator, channels: int) -> None:
    pixels = rng.integers(0, 256, (6, 11, channels), dtype=np.uint8)
    picture = Pillow.open(io.BytesIO(encode_image(pixels, "ppm")))
    np.testing.assert_array_equal(np.asarray(picture), pixels.squeeze())


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (b"P1\n# a comment\n3 2\n1 0 1\n0 1 0\n", [[0, 255, 0], [255, 0, 255]]),
        (b"P1 3 2 101010", [[0, 255, 0], [255, 0, 255]]),
        (b"P4\n3 2\n\xa0\x40", [[0, 255, 0], [255, 0, 255]]),
        (b"P2 2 1 # max\n255\n 7 #x\n 200", [[7, 200]]),
        (b"P2 3 1 100 0 50 100", [[0, 128, 255]]),
        (b"P2 2 1 1023 0 1023", [[0, 65535]]),
        (b"P5 2 1 1 \0\1", [[0, 255]]),
        (b"P5\t2 1\r65535\n\x12\x34\0\1", [[0x1234, 1]]),
        (b"P3 1 1 65535 4660 1 65535", [[[4660, 1, 65535]]]),
        (b"P6 1 1 65535\n\x12\x34\0\1\xff\xff", [[[4660, 1, 65535]]]),
        (b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 2\nMAXVAL 255\nTUPLTYPE GRAYSCALE_ALPHA\nENDHDR\n\1\2", [[[1, 2]]]),
        (b"Pf 1 2 -1.0\n\0\0\x80\xbf\0\0\x80\x3f", [[1.0], [-1.0]]),
        (b"PF 1 1 1.0\n\x3f\x80\0\0\xbf\x80\0\0\0\0\0\0", [[[1.0, -1.0, 0.0]]]),
    ],
)
def test_by_hand(file: bytes, expected: list[object]) -> None:
    pixels = read_image(file).pixels
    np.testing.assert_array_equal(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels, expected)


def pam(kind: str, pixels: np.ndarray) -> bytes:
    height, width, depth = pixels.shape
    maximum = np.iinfo(pixels.dtype).max
    head = f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {depth}\nMAXVAL {maximum}\n{kind}ENDHDR\n"
    return head.encode() + pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize(
    ("kind", "channels", "mode"),
    [
        ("TUPLTYPE CMYK\n", 4, "CMYK"),
        ("TUPLTYPE RGB_ALPHA\n", 4, "RGBA"),
        ("", 4, "RGBA"),
        ("TUPLTYPE RED_GREEN_BLUE_INFRARED\n", 4, "maps"),
        ("TUPLTYPE BLACKANDWHITE_ALPHA\n", 2, "LA"),
        ("TUPLTYPE ANGLE_LENGTH\n", 2, "maps"),
        ("TUPLTYPE DEPTHS\n", 1, "L"),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_tuple_type_names_the_channels(
    rng: np.random.Generator, kind: str, channels: int, mode: str, dtype: type
) -> None:
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, (3, 4, channels), dtype=dtype)
    image = read_image(pam(kind, pixels))
    assert image.mode == mode
    np.testing.assert_array_equal(image.pixels, pixels)


def test_inks_of_a_pam_file_stay_inks() -> None:
    inks = np.array([[[0, 0, 0, 255], [255, 0, 0, 0]]], np.uint8)  # black and cyan
    image = read_image(pam("TUPLTYPE CMYK\n", inks))
    assert encode_image(image, "ppm") == pam("TUPLTYPE CMYK\n", inks)
    png = read_image(encode_image(image, "png"))
    assert (png.mode, png.pixels.tolist()) == ("RGB", [[[0, 0, 0], [0, 255, 255]]])
    assert encode_image(image.replace(format="jpg"), "ppm")[:2] == b"P6"  # other inks become colours


def test_a_tuple_type_of_other_channels_is_refused() -> None:
    with pytest.raises(ImageError, match="its header says CMYK and 3 channels; CMYK has 4"):
        read_image(pam("TUPLTYPE CMYK\n", np.zeros((1, 1, 3), np.uint8)))


@pytest.mark.parametrize(
    "file",
    [
        b"P5 2 2 255\n\0\0\0",
        b"P6 1 1 65535\n\0\0\0",
        b"P4 9 1\n\0",
        b"P2 2 1 255 7",
        b"P2 2 1 255 7 x",
        b"P2 2 1 255 7 -3",
        b"P1 3 1 10",
        b"P5 2 2",
        b"P5 2 x 255\n\0\0\0\0",
        b"P5 2 2 0\n\0\0\0\0",
        b"P5 2 2 70000\n\0\0\0\0",
        b"P5 0 2 255\n",
        b"P5 -1 2 255\n",
        b"Pf 1 1 x\n\0\0\0\0",
        b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 9\nMAXVAL 255\nENDHDR\n123456789",
        b"P7\nWIDTH 1\n",
        b"P2 99999 800 255 1 1",
        b"P5 99999 99999 255\n",
        b"P5 99999999999 1 255\n",
    ],
)
def test_damaged(file: bytes) -> None:
    with pytest.raises(ImageError):
        read_image(file)
