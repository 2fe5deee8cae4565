"""TIFF against tifffile, Pillow and OpenCV: depths, layouts, compressions, pages, EXIF."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from cnnfilter.errors import ImageError
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.formats.tiff_segments import open_segmented_page
from cnnfilter.images.image import Image
from cnnfilter.images.metadata import Metadata


def random_pixels(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (rng.standard_normal(shape) * 1000).astype(dtype)
    return rng.integers(np.iinfo(dtype).min, int(np.iinfo(dtype).max) + 1, shape, dtype=dtype)


def by_tifffile(pixels: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_round_trip_and_tifffile_agrees(rng: np.random.Generator, channels: int, dtype: type) -> None:
    pixels = random_pixels(rng, (9, 7, channels), dtype)
    file = encode_image(pixels, "tiff")
    back = read_image(file)
    assert back.pixels.dtype == dtype
    assert back.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    np.testing.assert_array_equal(back.pixels, pixels)
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(file)), pixels.squeeze(2) if channels == 1 else pixels)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK"])
def test_pillow_reads_what_we_write(rng: np.random.Generator, mode: str) -> None:
    pixels = random_pixels(rng, (9, 7, {"L": 1, "LA": 2, "RGB": 3}.get(mode, 4)), np.uint8)
    picture = Pillow.open(io.BytesIO(encode_image(Image(pixels, mode), "tiff")))
    assert picture.mode == mode
    np.testing.assert_array_equal(np.asarray(picture), pixels.squeeze())


def test_opencv_reads_16_bit_colour(rng: np.random.Generator) -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = random_pixels(rng, (9, 7, 3), np.uint16)
    decoded = cv2.imdecode(np.frombuffer(encode_image(pixels, "tiff"), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded[:, :, ::-1], pixels)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_of_number(rng: np.random.Generator, dtype: str, channels: int, order: Any) -> None:
    pixels = random_pixels(rng, (6, 5, channels), dtype)
    if dtype in ("u4", "i4"):
        pixels //= 2**10  # float32 holds 24 bits
    photometric = "rgb" if channels == 3 else "minisblack"
    image = read_image(by_tifffile(pixels.squeeze(), byteorder=order, photometric=photometric))
    assert image.pixels.dtype == {"u1": np.uint8, "u2": np.uint16}.get(dtype, np.float32)
    np.testing.assert_array_equal(image.pixels, pixels.astype(image.pixels.dtype))


LAYOUTS: list[dict[str, Any]] = [{}, {"tile": (16, 32)}, {"rowsperstrip": 3}, {"planarconfig": "separate"}]
LAYOUTS += [{"tile": (16, 32), "planarconfig": "separate"}]
PACKINGS: list[dict[str, Any]] = [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}]


def in_layout(pixels: np.ndarray, layout: dict[str, Any], packing: dict[str, Any]) -> bytes:
    stored = np.moveaxis(pixels, 2, 0) if "planarconfig" in layout else pixels
    return by_tifffile(stored, photometric="rgb", **packing, **layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("packing", PACKINGS)
def test_strips_tiles_and_planes(rng: np.random.Generator, layout: Any, packing: Any) -> None:
    pixels = random_pixels(rng, (37, 51, 3), np.uint16)
    np.testing.assert_array_equal(read_image(in_layout(pixels, layout, packing)).pixels, pixels)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("packing", PACKINGS[1:])
@pytest.mark.parametrize("order", ["<", ">"])
def test_strips_tiles_and_planes_through_libtiff(
    rng: np.random.Generator, layout: Any, packing: Any, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 37 * 51)  # the bytes are more than the pixels
    pixels = random_pixels(rng, (37, 51, 3), np.uint16)
    file = in_layout(pixels, layout, packing | {"byteorder": order})
    np.testing.assert_array_equal(read_image(file).pixels, pixels)


# OpenCV's codes: 5 LZW, 8 Deflate, 32773 PackBits; predictors 1 to 3.
FLOATS = (np.float32, np.float64)  # predictor 3 is for them alone


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
@pytest.mark.parametrize(
    ("dtype", "predictor"),
    [(np.uint16, 1), (np.uint16, 2), *((kind, n) for kind in FLOATS for n in (1, 2, 3))],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_compressions_that_opencv_writes(
    rng: np.random.Generator, compression: int, predictor: int, dtype: type, channels: int
) -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = random_pixels(rng, (50, 33, channels), dtype)
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    options += [cv2.IMWRITE_TIFF_ROWSPERSTRIP, 16]
    done, file = cv2.imencode(".tiff", pixels, options)
    assert done
    image = read_image(file.tobytes())
    expected = pixels if channels == 1 else pixels[:, :, [2, 1, 0, 3][:channels]]
    np.testing.assert_array_equal(image.pixels, expected.astype(image.pixels.dtype))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_reads_what_pillow_writes(rng: np.random.Generator, mode: str, compression: str | None) -> None:
    colours = Pillow.fromarray(rng.integers(0, 256, (12, 9, 4), dtype=np.uint8))
    if mode == "I;16":
        picture = Pillow.fromarray(rng.integers(0, 65536, (12, 9), dtype=np.uint16))
    elif mode == "F":
        picture = Pillow.fromarray(rng.standard_normal((12, 9)).astype(np.float32))
    else:
        picture = colours.convert("RGB").convert(mode) if mode not in ("LA", "RGBA") else colours.convert(mode)
    stream = io.BytesIO()
    picture.save(stream, "TIFF", compression=compression)
    image = read_image(stream.getvalue())
    plain = {"1": "L", "P": "RGB", "YCbCr": "RGB"}.get(mode)
    expected = np.asarray(picture.convert(plain) if plain else picture)
    off_by = 1 if mode == "YCbCr" else 0  # libtiff and Pillow round the conversion differently
    np.testing.assert_allclose(image.pixels.squeeze(), expected, rtol=0, atol=off_by)
    assert image.mode == {"I;16": "L", "F": "L", "1": "L", "P": "RGB", "YCbCr": "RGB"}.get(mode, mode)


def test_white_is_zero(rng: np.random.Generator) -> None:
    pixels = random_pixels(rng, (4, 5), np.uint16)
    image = read_image(by_tifffile(pixels, photometric="miniswhite"))
    np.testing.assert_array_equal(image.pixels[:, :, 0], 65535 - pixels)


def test_premultiplied_alpha_is_divided_out() -> None:
    pixels = np.array([[[100, 200, 0, 32768], [5, 6, 7, 65535], [0, 0, 0, 0]]], np.uint16)
    image = read_image(by_tifffile(pixels, photometric="rgb", extrasamples=["assocalpha"]))
    assert image.mode == "RGBA"
    assert image.pixels.tolist() == [[[200, 400, 0, 32768], [5, 6, 7, 65535], [0, 0, 0, 0]]]


def test_samples_of_no_known_meaning_are_maps(rng: np.random.Generator) -> None:
    pixels = random_pixels(rng, (4, 5, 6), np.uint16)
    image = read_image(by_tifffile(pixels, photometric="minisblack", planarconfig="contig"))
    assert image.mode == "maps"
    np.testing.assert_array_equal(image.pixels, pixels)


def test_bigtiff(rng: np.random.Generator) -> None:
    pixels = random_pixels(rng, (4, 5, 3), np.uint16)
    np.testing.assert_array_equal(read_image(by_tifffile(pixels, bigtiff=True, photometric="rgb")).pixels, pixels)


# --- pages --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pages_round_trip(rng: np.random.Generator, dtype: type) -> None:
    frames = tuple(random_pixels(rng, (5, 3, 3), dtype) for _ in range(3))
    back = read_image(encode_image(Image(frames[0], "RGB", frames=frames), "tiff"))
    assert len(back.frames) == 3
    assert back.durations == ()
    for ours, theirs in zip(back.frames, frames, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_maps_are_pages(rng: np.random.Generator) -> None:
    maps = random_pixels(rng, (5, 3, 6), np.float32)
    back = read_image(encode_image(maps, "tiff"))
    np.testing.assert_array_equal(np.concatenate(back.frames, axis=2), maps)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_smaller_copies_are_no_pages(rng: np.random.Generator, dtype: type) -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(random_pixels(rng, (8, 4, 3), dtype), photometric="rgb")
        writer.write(random_pixels(rng, (4, 2, 3), dtype), photometric="rgb", subfiletype=1)
    image = read_image(stream.getvalue())
    assert image.pixels.shape == (8, 4, 3)
    assert image.frames == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_limit_counts_all_pages(rng: np.random.Generator, dtype: type) -> None:
    frames = tuple(random_pixels(rng, (5, 3, 3), dtype) for _ in range(3))
    file = encode_image(Image(frames[0], "RGB", frames=frames), "tiff")
    with pytest.raises(ImageError, match="3 frames of 3x5 is 45 pixels"):
        read_image(file, max_pixels=44)


def circular(file: bytes, back_to: int = 0) -> bytes:
    """A file whose last directory is followed by the first one, or by one of its others."""
    places, at = [], int.from_bytes(file[4:8], "little")
    while at:
        places.append(at)
        end = at + 2 + 12 * int.from_bytes(file[at : at + 2], "little")
        at = int.from_bytes(file[end : end + 4], "little")
    return file[:end] + places[back_to].to_bytes(4, "little") + file[end + 4 :]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("back_to", [0, 1])
@pytest.mark.parametrize("copies", [0, 1], ids=["pages", "smaller copies"])
def test_a_chain_of_pages_ends_where_it_comes_back(
    rng: np.random.Generator, dtype: type, back_to: int, copies: int
) -> None:
    pages, stream = random_pixels(rng, (2, 8, 4, 3), dtype), io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for index, page in enumerate(pages):
            writer.write(page, photometric="rgb", metadata=None, subfiletype=index * copies)
    image = read_image(circular(stream.getvalue(), back_to))
    np.testing.assert_array_equal(image.frames or image.pixels, pages[0] if copies else pages)


def test_a_chain_that_comes_back_is_completed_at_once(rng: np.random.Generator) -> None:
    pages = random_pixels(rng, (2, 8, 4, 3), np.uint8)
    file = circular(by_tifffile(pages, photometric="rgb", metadata=None))
    cut = changed(file, 259, lambda new, entry: struct.pack_into("<H", new, entry + 8, 60416))
    with pytest.raises(ImageError, match="page 1: "):
        read_image(cut, accept_truncated=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("tag", [34412, 65420], ids=["LSM", "NDPI"])
def test_a_microscope_s_file_is_opened_without_following_its_pages(
    rng: np.random.Generator, dtype: type, tag: int, tmp_path: Path
) -> None:
    pages, stream = random_pixels(rng, (2, 8, 4, 3), dtype), io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for page in pages:
            writer.write(
                page,
                photometric="rgb",
                metadata=None,
                compression="zlib",
                extratags=[(tag, "I", 1, 1, True), (65441, "I", 1, 7, True)],
            )
    path = tmp_path / "a.tif"
    path.write_bytes(circular(stream.getvalue()))
    np.testing.assert_array_equal(read_image(path).frames, pages)
    with open_segmented_page(str(path), 1000) as page:
        assert page is None, "two pages"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("number", [10_001, 2_000_000])
def test_endless_smaller_copies_are_refused_at_once(
    rng: np.random.Generator, tmp_path: Path, dtype: type, number: int
) -> None:
    file = bytearray(by_tifffile(random_pixels(rng, (4, 4, 3), dtype), photometric="rgb", metadata=None))
    end = int.from_bytes(file[4:8], "little")
    end += 2 + 12 * int.from_bytes(file[end : end + 2], "little")
    start = len(file) + len(file) % 2
    file[end : end + 4] = start.to_bytes(4, "little")
    copies = np.zeros(number, [("count", "<u2"), ("entry", "V12"), ("next", "<u4")])
    copies["count"] = 1
    copies["entry"] = np.void(struct.pack("<HHIHH", 254, 3, 1, 1, 0))
    copies["next"][:-1] = start + 18 * np.arange(1, number)
    path = tmp_path / "a.tif"
    path.write_bytes(bytes(file).ljust(start, b"\0") + copies.tobytes())
    began = time.process_time()
    refused = r"10,002 frames; the limit is 10,000|more than 1,048,576 pages"
    with pytest.raises(ImageError, match=refused):
        read_image(path)
    with pytest.raises(ImageError, match=refused), open_segmented_page(str(path), 1000):
        pass
    assert time.process_time() - began < 5


@pytest.mark.parametrize("number", [50706, None], ids=["DNG", "NEF"])
def test_the_preview_of_a_raw_photo_is_not_taken_for_the_photo(rng: np.random.Generator, number: int | None) -> None:
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    version = [] if number is None else [(number, "B", 4, (1, 4, 0, 0))]
    with tifffile.TiffWriter(stream) as file:
        preview, photo = random_pixels(rng, (22, 26, 3), np.uint8), random_pixels(rng, (64, 80), np.uint16)
        file.write(preview, photometric="rgb", subfiletype=1, subifds=1, metadata=None, extratags=version)
        file.write(photo, photometric=32803, metadata=None)
    with pytest.raises(ImageError, match="this is a raw photo, of which a TIFF reader sees only the preview"):
        read_image(stream.getvalue())


def changed(file: bytes, tag: int, change: Callable[[bytearray, int], None]) -> bytes:
    """A file in whose first directory the entry of `tag` is changed."""
    new, at = bytearray(file), int.from_bytes(file[4:8], "little")
    for entry in range(at + 2, at + 2 + 12 * int.from_bytes(file[at : at + 2], "little"), 12):
        if int.from_bytes(file[entry : entry + 2], "little") == tag:
            change(new, entry)
    assert new != file
    return bytes(new)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(("tile", "tag"), [(None, 273), (None, 279), ((16, 16), 324), ((16, 16), 325)])
@pytest.mark.parametrize("missing", ["the tag", "some values"])
def test_missing_strips_and_tiles_are_not_black(
    rng: np.random.Generator,
    tmp_path: Path,
    compression: str | None,
    tile: tuple[int, int] | None,
    tag: int,
    missing: str,
) -> None:
    file = by_tifffile(
        random_pixels(rng, (40, 40, 3), np.uint16),
        photometric="rgb",
        metadata=None,
        byteorder="<",
        rowsperstrip=None if tile else 10,
        tile=tile,
        compression=compression,
    )

    def change(new: bytearray, entry: int) -> None:
        if missing == "the tag":
            struct.pack_into("<H", new, entry, 60000)
        else:
            struct.pack_into("<I", new, entry + 4, 2)

    path = tmp_path / "a.tif"
    path.write_bytes(changed(file, tag, change))
    with pytest.raises(ImageError, match=r"cut off: [012] of its [49] strips or tiles"):
        read_image(path)
    with open_segmented_page(str(path), 10_000) as page:
        assert page is None or page.start is None, "there is no such piece of the file"


def test_samples_count_as_pixels(rng: np.random.Generator) -> None:
    pixels = random_pixels(rng, (4, 5, 9), np.uint16)
    file = by_tifffile(pixels, photometric="minisblack", planarconfig="contig", metadata=None, byteorder="<")
    np.testing.assert_array_equal(read_image(file, max_pixels=60).pixels, pixels)
    with pytest.raises(ImageError, match=r"5x4 of 9 samples is as much as 60 pixels; .*--max-pixels 60 allows"):
        read_image(file, max_pixels=59)
    absurd = changed(file, 277, lambda new, entry: struct.pack_into("<HII", new, entry + 2, 4, 1, 352321536))
    with pytest.raises(ImageError, match="352321536 samples are not possible"):
        read_image(absurd)


# --- metadata -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("order", ["<", ">"])
def test_metadata_round_trip(rng: np.random.Generator, dtype: type, order: str) -> None:
    exif = Pillow.Exif()
    exif.endian = order
    exif[0x010F] = "A maker of cameras"
    exif[0x8298] = "© nobody"
    exif.get_ifd(0x8769)[0x9003] = "2024:02:29 12:00:00"
    icc = read_image("samples/chelsea.png").metadata.icc
    metadata = Metadata(icc, exif.tobytes().removeprefix(b"Exif\0\0"), (300.0, 150.5), {"XML:com.adobe.xmp": "<x/>"})
    image = Image(random_pixels(rng, (5, 4, 3), dtype), "RGB", metadata=metadata)
    file = encode_image(image, "tiff")
    back = read_image(file)
    np.testing.assert_array_equal(back.pixels, image.pixels)
    assert back.metadata.icc == icc
    assert back.metadata.dpi == pytest.approx((300, 150.5))
    assert back.metadata.text["XML:com.adobe.xmp"] == "<x/>"
    assert back.metadata.exif is not None
    read = Pillow.Exif()
    read.load(back.metadata.exif)
    assert read[0x010F] == "A maker of cameras"
    assert read.get_ifd(0x8769)[0x9003] == "2024:02:29 12:00:00"
    assert 256 not in read  # how the pixels lie is not EXIF


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_orientation_is_applied(rng: np.random.Generator, dtype: type) -> None:
    pixels = random_pixels(rng, (5, 4, 3), dtype)
    file = by_tifffile(pixels, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    image = read_image(file)
    np.testing.assert_array_equal(image.pixels, np.rot90(pixels, -1))
    again = read_image(encode_image(image, "tiff"))
    np.testing.assert_array_equal(again.pixels, image.pixels)


# --- damage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_every_cut_is_an_error_and_nothing_is_printed(
    rng: np.random.Generator, compression: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = io.BytesIO()
    Pillow.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(stream, "TIFF", compression=compression)
    whole = stream.getvalue()
    for length in range(4, len(whole) - 1, 101):
        with pytest.raises(ImageError):
            read_image(whole[:length])
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_cuts_of_deep_files(rng: np.random.Generator, dtype: type, capfd: pytest.CaptureFixture[str]) -> None:
    whole = encode_image(random_pixels(rng, (20, 10, 3), dtype), "tiff")
    for length in range(4, len(whole) - 1, 53):
        with pytest.raises(ImageError):
            read_image(whole[:length])
    assert capfd.readouterr().err == ""


def test_what_pillow_logs_is_not_printed() -> None:
    file = bytearray(encode_image(np.zeros((3, 3, 3), np.uint8), "tiff"))
    at = file.index(b"\x15\x01\x03\x00\x01\x00\x00\x00\x03\x00")  # tag 277, a short, one of them, 3 samples
    file[at + 8 : at + 10] = b"\x10\x10"
    code = "import sys; from cnnfilter import read_image; read_image(sys.stdin.buffer)"
    result = subprocess.run([sys.executable, "-c", code], input=bytes(file), capture_output=True, check=False)
    assert b"ImageError" in result.stderr
    assert b"More samples per pixel" not in result.stderr.split(b"Traceback")[0]


def test_a_header_that_asks_for_too_much() -> None:
    file = bytearray(encode_image(np.zeros((3, 3, 3), np.uint16), "tiff"))
    at = file.index(b"\x00\x01\x03\x00\x01\x00\x00\x00\x03\x00")  # tag 256, a short, one of them, 3
    file[at + 2 : at + 12] = b"\x04\x00\x01\x00\x00\x00\x00\x00\x00\x10"
    with pytest.raises(ImageError, match="the limit is"):
        read_image(bytes(file))


def test_tifffile_is_imported_only_where_it_is_needed() -> None:
    code = (
        "import sys; import numpy as np; from cnnfilter.images.files import read_image, encode_image\n"
        "for dtype, needed in ((np.uint8, False), (np.uint16, True)):\n"
        "    read_image(encode_image(np.zeros((2, 2, 3), dtype), 'tiff'))\n"
        "    assert ('tifffile' in sys.modules) == needed\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("bits", [12, 16])
def test_a_strip_that_unpacks_to_far_more_than_its_place(bits: int) -> None:
    """Three hundred thousand bytes of Deflate in a picture of three rows."""
    packed = zlib.compress(bytes(300 << 20), 9)
    file = bytearray(by_tifffile(np.zeros((3, 4), np.uint16), compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(file)) as opened:
        tags = opened.pages[0].tags  # type: ignore[union-attr]
        places = {number: tags[number].valueoffset for number in (258, 273, 279)}
    struct.pack_into("<H", file, places[258], bits)
    struct.pack_into("<I", file, places[273], len(file))
    struct.pack_into("<I", file, places[279], len(packed))
    tracemalloc.start()
    with contextlib.suppress(ImageError):  # libtiff takes the beginning
        assert read_image(bytes(file) + packed).pixels.shape == (3, 4, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_compressed_floats_of_the_other_byte_order() -> None:
    """Pillow exchanges their bytes once more after libtiff has done it, and so gives other numbers."""
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    file = io.BytesIO()
    tifffile.imwrite(file, values, byteorder=">", compression="zlib", metadata=None)
    np.testing.assert_array_equal(read_image(file.getvalue()).pixels[:, :, 0], values)
