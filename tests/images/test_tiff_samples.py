"""Samples of TIFF pages against tifffile and by hand: numbers of any bits, complex numbers, extra samples."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile

from cnnfilter.errors import ImageError
from cnnfilter.images.colour import visible_bytes
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.formats.tiff_tags import Layout
from cnnfilter.images.image import Bands, ImageWarning
from tests.images.test_tiff import by_tifffile, changed, random_pixels


@pytest.mark.parametrize("dtype", ["c8", "c16"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_complex_numbers_are_refused(dtype: str, compression: str | None) -> None:
    with pytest.raises(ImageError, match=r"samples of complex numbers are not a picture; real numbers are"):
        read_image(by_tifffile(np.ones((4, 5), dtype), compression=compression))


def test_complex_whole_numbers_are_refused() -> None:
    file = by_tifffile(np.ones((4, 5), np.int16), metadata=None, byteorder="<")
    with pytest.raises(ImageError, match="samples of complex numbers are not a picture"):
        read_image(changed(file, 339, lambda new, entry: struct.pack_into("<H", new, entry + 8, 5)))


def packed_file(values: np.ndarray, bits: int, *, compression: int = 1, order: str = "<", **tags: Any) -> bytes:
    """A file of one strip, or of tiles, whose samples are packed without regard to bytes."""
    height, width, channels = values.shape
    down, across = tags.get("tile", (height, width))
    strips = []
    for top in range(0, height, down):
        for left in range(0, width, across):
            tile = np.zeros((down, across, channels), np.uint32)
            part = values[top : top + down, left : left + across]
            tile[: part.shape[0], : part.shape[1]] = part
            digits = tile.reshape(down, -1, 1) >> np.arange(bits)[::-1] & 1
            packed = np.packbits(digits.reshape(down, -1).astype(np.uint8), axis=1).tobytes()
            strips.append(zlib.compress(packed) if compression == 8 else packed)
    layout = Layout(order)
    ends = np.cumsum([8, *map(len, strips)]).tolist()
    entries: dict[int, Any] = {256: width, 257: height, 258: [bits] * channels, 259: compression, 277: channels}
    entries |= {262: tags.get("photometric", 2 if channels > 2 else 1), 278: height, 284: 1}
    if "tile" in tags:
        entries |= {322: across, 323: down, 324: ends[:-1], 325: [len(strip) for strip in strips]}
    else:
        entries |= {273: ends[0], 279: len(strips[0])}
    if channels in (2, 4):
        entries[338] = tags.get("extra", 2)
    body = b"".join(strips)
    body += bytes(len(body) % 2)
    directory = layout.directory([layout.entry(number, value) for number, value in entries.items()], 8 + len(body))
    return layout.head(8 + len(body)) + body + directory


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_every_number_of_bits_is_widened(
    rng: np.random.Generator, bits: int, channels: int, compression: int, tile: tuple[int, int] | None
) -> None:
    top = 2**bits - 1
    values = rng.integers(0, top + 1, (5, 21, channels))
    values[0, 0], values[0, 1] = 0, top
    image = read_image(packed_file(values, bits, compression=compression, **({"tile": tile} if tile else {})))
    full = 255 if bits <= 8 else 65535
    assert image.pixels.dtype == (np.uint8 if bits <= 8 else np.uint16)
    assert image.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    np.testing.assert_array_equal(image.pixels, np.floor(values / top * full + 0.5 + 1e-9))


@pytest.mark.parametrize("order", ["<", ">"])
def test_twelve_bits_as_png_and_pgm_widen_them(order: str) -> None:
    values = np.array([0, 1, 2047, 4095, 100, 200, 300, 4095]).reshape(2, 4, 1)
    pgm = read_image(b"P2 4 2 4095 " + b" ".join(b"%d" % value for value in values.ravel()))
    image = read_image(packed_file(values, 12, order=order))
    np.testing.assert_array_equal(image.pixels, pgm.pixels)
    inverse = read_image(packed_file(4095 - values, 12, order=order, photometric=0))
    np.testing.assert_allclose(inverse.pixels, image.pixels.astype(int), rtol=0, atol=1)


def test_twelve_bits_that_are_cut_off() -> None:
    file = packed_file(np.full((5, 20, 1), 7), 12, compression=1)
    short = changed(file, 279, lambda new, entry: struct.pack_into("<H", new, entry + 8, 149))
    with pytest.raises(ImageError, match="it is cut off: 149 of the 150 bytes of a strip or tile are there"):
        read_image(short)


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [
        (317, 2, "samples of 12 bits with the predictor 2 cannot be read"),
        (259, 7, "samples of 12 bits with the compression JPEG cannot be read"),
        (258, 24, "samples of 24 bits cannot be read; those of 1 to 16, 32 and 64 bits can"),
    ],
)
def test_samples_that_nothing_unpacks(tag: int, value: int, message: str) -> None:
    file = by_tifffile(np.zeros((4, 8), np.uint16), metadata=None, byteorder="<", predictor=None)
    for number, what in [(258, 12), (tag, value)]:
        if number == 317:
            file = changed(file, 305, lambda new, entry: struct.pack_into("<HHII", new, entry, 317, 3, 1, 2))
        elif number == 258 or value:
            file = changed(file, number, lambda new, entry, what=what: struct.pack_into("<H", new, entry + 8, what))
    with pytest.raises(ImageError, match=message):
        read_image(file)


# --- extra samples ------------------------------------------------------------------------------------

BANDS = [
    ("rgb", 4, [0], Bands("RGB", (0,))),
    ("rgb", 5, [2, 0], Bands("RGB", (2, 0))),
    ("rgb", 7, [0, 0, 0, 0], Bands("RGB", (0, 0, 0, 0))),
    ("minisblack", 2, [0], Bands("L", (0,))),
    ("minisblack", 3, [0, 0], Bands("L", (0, 0))),
    ("separated", 5, [0], Bands("CMYK", (0,))),
    ("separated", 5, [2], Bands("CMYK", (2,))),
]
LAYOUTS: list[dict[str, Any]] = [{}, {"planarconfig": "separate"}, {"tile": (16, 32)}, {"compression": "zlib"}]
LAYOUTS += [{"planarconfig": "separate", "compression": "zlib", "predictor": True}]


@pytest.mark.parametrize(("photometric", "channels", "extra", "bands"), BANDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_extra_samples_are_channels(
    rng: np.random.Generator,
    photometric: str,
    channels: int,
    extra: list[int],
    bands: Bands,
    dtype: type,
    layout: dict[str, Any],
) -> None:
    pixels = random_pixels(rng, (19, 35, channels), dtype)
    separate = "planarconfig" in layout
    options = {"planarconfig": "contig", "metadata": None, **layout}
    if dtype == np.float32:  # tifffile predicts floats only with a further package
        options.pop("predictor", None)
    stored = np.moveaxis(pixels, 2, 0) if separate else pixels
    image = read_image(by_tifffile(stored, photometric=photometric, extrasamples=extra, **options))
    assert (image.mode, image.bands, image.frames) == ("maps", bands, ())
    np.testing.assert_array_equal(image.pixels, pixels)
    with tifffile.TiffFile(io.BytesIO(encode_image(image, "tiff"))) as file:
        (page,) = file.pages
        np.testing.assert_array_equal(page.asarray(), pixels)
        assert page.photometric.name == photometric.upper()  # type: ignore[union-attr]
        assert page.extrasamples == bands.extra  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_samples_without_a_kind_are_no_alpha(rng: np.random.Generator, dtype: type) -> None:
    pixels = random_pixels(rng, (4, 5, 4), dtype)
    file = by_tifffile(pixels, photometric="rgb", extrasamples=[2], metadata=None, byteorder="<")
    unnamed = changed(file, 338, lambda new, entry: struct.pack_into("<H", new, entry, 60000))
    assert read_image(file).mode == "RGBA"
    image = read_image(unnamed)
    assert image.bands == Bands("RGB", (0,))
    np.testing.assert_array_equal(image.pixels, pixels)


def test_only_the_first_sample_of_white_is_zero_is_inverted() -> None:
    pixels = np.array([[[10, 20], [255, 0]]], np.uint8)
    image = read_image(by_tifffile(pixels, photometric="miniswhite", planarconfig="contig", extrasamples=[0]))
    assert image.pixels.tolist() == [[[245, 20], [0, 0]]]


def test_extra_samples_are_refused_where_there_is_no_place(rng: np.random.Generator) -> None:
    file = by_tifffile(random_pixels(rng, (4, 5, 4), np.uint8), photometric="rgb", extrasamples=[0])
    for format in ("png", "jpg", "webp", "ppm"):
        with pytest.raises(ImageError, match=f"{format} cannot hold 4 channels; npy and tiff can"):
            encode_image(read_image(file), format)


def test_a_look_at_the_colours_leaves_extra_samples_out(rng: np.random.Generator) -> None:
    pixels = random_pixels(rng, (4, 5, 5), np.uint8)
    image = read_image(by_tifffile(pixels, photometric="rgb", extrasamples=[0, 0], planarconfig="contig"))
    with pytest.warns(ImageWarning, match=r"its 2 extra channels are left out: only its colours \(RGB\)"):
        seen = visible_bytes(image)
    np.testing.assert_array_equal(seen, pixels[:, :, :3])
