"""Pages of TIFF files: each in its own size, depth and kind, chosen by number; damage that names its page."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile

from cnnfilter.errors import ImageError
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.image import Bands, Image, ImageWarning
from cnnfilter.images.metadata import Metadata
from cnnfilter.images.pages import choose_pages, parse_pages
from tests.images.test_tiff import random_pixels

KINDS: list[tuple[tuple[int, ...], str, dict[str, Any]]] = [
    ((20, 30), "u1", {"photometric": "minisblack"}),
    ((10, 12, 3), "u2", {"photometric": "rgb"}),
    ((10, 12, 3), "u1", {"photometric": "rgb", "compression": "zlib", "predictor": True}),
    ((24, 30), "f4", {"photometric": "minisblack", "tile": (16, 16)}),
    ((7, 9, 4), "u1", {"photometric": "rgb", "extrasamples": [2]}),
    ((7, 9, 5), "u2", {"photometric": "rgb", "extrasamples": [0, 0], "planarconfig": "contig"}),
    ((7, 9, 4), "u1", {"photometric": "separated"}),
]
MODES = ["L", "RGB", "RGB", "L", "RGBA", "maps", "CMYK"]


def different_pages(rng: np.random.Generator, **options: Any) -> tuple[bytes, list[np.ndarray]]:
    arrays = [random_pixels(rng, shape, dtype) for shape, dtype, _ in KINDS]
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, **options) as writer:
        for number, (array, (_, _, how)) in enumerate(zip(arrays, KINDS, strict=True), 1):
            writer.write(array, metadata=None, description=f"page {number}", resolution=(100 * number, 50), **how)
    return stream.getvalue(), [array[:, :, None] if array.ndim == 2 else array for array in arrays]


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"bigtiff": True}], ids=str)
def test_each_page_keeps_its_own(rng: np.random.Generator, options: dict[str, Any]) -> None:
    file, arrays = different_pages(rng, **options)
    image = read_image(file)
    assert image.frames == ()
    assert [page.mode for page in image.pages] == MODES
    assert image.pages[5].bands == Bands("RGB", (0, 0))
    written = encode_image(image, "tiff")
    for pages in (image.pages, read_image(written).pages):
        for page, array in zip(pages, arrays, strict=True):
            assert page.pixels.dtype == array.dtype.newbyteorder("=")
            np.testing.assert_array_equal(page.pixels, array)
    with tifffile.TiffFile(io.BytesIO(written)) as opened:
        for number, (page, array) in enumerate(zip(opened.pages, arrays, strict=True), 1):
            np.testing.assert_array_equal(page.asarray(), array.squeeze())
            assert page.description == f"page {number}"  # type: ignore[union-attr]
            assert page.get_resolution("inch")[0] == pytest.approx(100 * number)  # type: ignore[union-attr]


def test_strip_leaves_the_metadata_of_every_page_out(rng: np.random.Generator) -> None:
    file, _ = different_pages(rng)
    assert b"page 3" not in encode_image(read_image(file), "tiff", strip=True)
    assert b"page 3" in encode_image(read_image(file), "tiff")


def test_each_page_is_turned_by_its_own_orientation(rng: np.random.Generator) -> None:
    arrays = [random_pixels(rng, (5, 4, 3), dtype) for dtype in ("u1", "u1", "u2")]
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for array, orientation in zip(arrays, (1, 6, 3), strict=True):
            writer.write(array, photometric="rgb", metadata=None, extratags=[(274, "H", 1, orientation, True)])
    image = read_image(stream.getvalue())
    expected = [arrays[0], np.rot90(arrays[1], -1), arrays[2][::-1, ::-1]]
    for page, array in zip(image.pages, expected, strict=True):
        np.testing.assert_array_equal(page.pixels, array)


def test_other_formats_hold_the_first_page(rng: np.random.Generator) -> None:
    file, arrays = different_pages(rng)
    with pytest.warns(ImageWarning, match="png holds one page: the first of 7 is written; tiff would keep all"):
        written = encode_image(read_image(file), "png")
    np.testing.assert_array_equal(read_image(written).pixels, arrays[0])


def test_pages_of_one_kind_that_are_chosen_are_frames(rng: np.random.Generator) -> None:
    frames = tuple(random_pixels(rng, (5, 3, 3), np.uint8) for _ in range(4))
    file = encode_image(Image(frames[0], "RGB", frames=frames), "tiff")
    for pages in ("4,2", [4, 2]):
        np.testing.assert_array_equal(read_image(file, pages=pages).frames, [frames[3], frames[1]])
    first = read_image(file, pages="first")
    assert (first.frames, first.page_count) == ((), 4)


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [("1", 3, [1]), ("2-", 4, [2, 3, 4]), ("3,1", 3, [3, 1]), (" 1 , 2 - 3 ", 3, [1, 2, 3]), ("2-2", 2, [2])],
)
def test_choices(text: str, count: int, expected: list[int]) -> None:
    assert choose_pages(text, count) == expected


@pytest.mark.parametrize("text", ["", "0", "-3", "3-1", "1,,2", "1;2", "one", "1.5", "+1", "1-2-3", "٣"])
def test_what_is_no_choice(text: str) -> None:
    with pytest.raises(ImageError, match="is not a list of pages, counted from 1, such as 2 or 1,3-5 or 4-"):
        parse_pages(text)


@pytest.mark.parametrize(
    ("pages", "count", "fault", "message"),
    [
        ("4", 3, "", "there is no page 4; it has 3 pages"),
        ("2-4", 3, "", "there is no page 4; it has 3 pages"),
        ("5-", 3, "", "there is no page 5; it has 3 pages"),
        ("2", 1, "", "there is no page 2; it has 1 page"),
        ([0], 1, "", "there is no page 0; it has 1 page"),
        ("1,1-2", 3, "", "page 1 is chosen twice"),
        (None, 2, "broken", "page 3: broken"),
        ("2-", 2, "broken", "page 3: broken"),
        ("3", 2, "broken", "page 3: broken"),
        ("2-5", 2, "broken", "page 3: broken"),
        (None, 0, "broken", "page 1: broken"),
        ("first", 0, "", "it has no page"),
    ],
)
def test_pages_that_are_not_there(pages: Any, count: int, fault: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        choose_pages(pages, count, fault)


def test_a_picture_of_another_format_is_one_page(rng: np.random.Generator) -> None:
    pixels = random_pixels(rng, (5, 4, 3), np.uint8)
    png = encode_image(pixels, "png")
    np.testing.assert_array_equal(read_image(png, pages="1").pixels, pixels)
    with pytest.raises(ImageError, match="there is no page 2; it has 1 page"):
        read_image(png, pages="2")
    moving = encode_image(Image(pixels, "RGB", frames=(pixels, 255 - pixels), durations=(100, 100)), "gif")
    with pytest.raises(ImageError, match="gif has frames, not pages"):
        read_image(moving, pages="1")


def test_the_limit_counts_the_pixels_of_all_chosen_pages(rng: np.random.Generator) -> None:
    file, _ = different_pages(rng)
    with pytest.raises(ImageError, match=r"7 pages have 1,749 pixels; the limit is 1,748 \(--max-pixels 1749 allows"):
        read_image(file, max_pixels=1748)
    assert len(read_image(file, max_pixels=1749).pages) == 7
    assert len(read_image(file, max_pixels=720, pages="1,2").pages) == 2
    with pytest.raises(ImageError, match="7 pages have 1,749 pixels; the limit is 1,000"):
        encode_image(read_image(file), "tiff", max_pixels=1000)


# --- damage -------------------------------------------------------------------------------------------


def places_of(file: bytes) -> list[tuple[int, int]]:
    """Where each directory is and where its pointer to the next one is, in a classic little-endian file."""
    found, at = [], int.from_bytes(file[4:8], "little")
    while at:
        end = at + 2 + 12 * int.from_bytes(file[at : at + 2], "little")
        found.append((at, end))
        at = int.from_bytes(file[end : end + 4], "little")
    return found


def with_number(file: bytes, at: int, form: str, number: int) -> bytes:
    changed = bytearray(file)
    struct.pack_into(form, changed, at, number)
    return bytes(changed)


def entry_of(file: bytes, page: int, tag: int) -> int:
    at, end = places_of(file)[page - 1]
    return next(entry for entry in range(at + 2, end, 12) if int.from_bytes(file[entry : entry + 2], "little") == tag)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("damage", ["pointer", "compression", "offset", "kind"])
def test_a_damaged_page_is_named_and_the_pages_before_it_can_be_chosen(
    rng: np.random.Generator, dtype: type, damage: str
) -> None:
    frames = tuple(random_pixels(rng, (5, 3, 3), dtype) for _ in range(3))
    file = encode_image(Image(frames[0], "RGB", frames=frames), "tiff")
    if damage == "pointer":
        file = with_number(file, places_of(file)[1][1], "<I", 100_000)
    else:
        tag, form, number = {"compression": (259, "<H", 60416), "offset": (273, "<I", 99_999), "kind": (262, "<H", 77)}[
            damage
        ]
        file = with_number(file, entry_of(file, 3, tag) + 8, form, number)
    for pages in (None, "3", "2-"):
        with pytest.raises(ImageError, match=r"^page 3: "):
            read_image(file, pages=pages)
    np.testing.assert_array_equal(read_image(file, pages="1-2").frames, frames[:2])
    if damage == "pointer":
        with pytest.warns(ImageWarning, match="page 3: its directory should be at byte 100,000, and the file ends at"):
            first = read_image(file, pages="first")
    else:
        first = read_image(file, pages="first")
    np.testing.assert_array_equal(first.pixels, frames[0])


def test_a_first_page_that_is_damaged_is_named_where_there_are_others(rng: np.random.Generator) -> None:
    frames = tuple(random_pixels(rng, (5, 3, 3), np.uint8) for _ in range(2))
    file = encode_image(Image(frames[0], "RGB", frames=frames), "tiff")
    file = with_number(file, entry_of(file, 1, 259) + 8, "<H", 60416)
    with pytest.raises(ImageError, match=r"^page 1: samples of|^page 1: 3 samples of 8 bits with the compression"):
        read_image(file)
    np.testing.assert_array_equal(read_image(file, pages="2").pixels, frames[1])


def test_a_last_pointer_into_nothing_still_gives_the_page(rng: np.random.Generator) -> None:
    pixels = random_pixels(rng, (5, 3, 1), np.uint8)
    file = encode_image(pixels, "tiff")
    for broken in (with_number(file, places_of(file)[0][1], "<I", 4_000_000_000), file[: places_of(file)[0][1] + 2]):
        with pytest.raises(ImageError, match=r"^page 2: .*the file ends at byte"):
            read_image(broken)
        np.testing.assert_array_equal(read_image(broken, pages="1").pixels, pixels)


@pytest.mark.parametrize("compression", [None, "packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg"])
@pytest.mark.parametrize("count", [1, 3])
def test_every_cut_of_pages_is_an_error(rng: np.random.Generator, compression: str | None, count: int) -> None:
    from PIL import Image as Pillow

    stream = io.BytesIO()
    smooth = np.cumsum(rng.integers(0, 2, (count, 20, 30, 3)), axis=2).astype(np.uint8)
    first, *others = [Pillow.fromarray(array) for array in smooth]
    first.save(stream, "TIFF", compression=compression, save_all=True, append_images=others)
    whole = stream.getvalue()
    end = len(whole) - (16 if others else 1)  # Pillow fills pages up to 16 bytes
    for length in [*range(4, end, 37), *range(end - 40, end)]:
        with pytest.raises(ImageError):
            read_image(whole[:length])


@pytest.mark.parametrize("bits", [8, 16])
def test_the_pages_before_a_cut_are_what_there_is(rng: np.random.Generator, bits: int) -> None:
    dtype = np.dtype(f"u{bits // 8}")
    frames = tuple(random_pixels(rng, (5, 3, 3), dtype) for _ in range(3))
    file = encode_image(Image(frames[0], "RGB", frames=frames), "tiff")
    cut = file[: places_of(file)[2][0] + 20]
    with pytest.warns(ImageWarning, match=r"page 3: .*; what there is of it is read"):
        image = read_image(cut, accept_truncated=True)
    np.testing.assert_array_equal(image.frames, frames[:2])


def test_jpeg_data_without_their_end_are_an_error() -> None:
    from PIL import Image as Pillow

    stream = io.BytesIO()
    smooth = np.indices((64, 48)).sum(axis=0).astype(np.uint8)
    Pillow.fromarray(smooth).save(stream, "TIFF", compression="jpeg", tiffinfo={278: 64})
    whole = stream.getvalue()
    entry = entry_of(whole, 1, 279) + 8
    half = with_number(whole, entry, "<H", int.from_bytes(whole[entry : entry + 2], "little") // 2)
    with pytest.raises(ImageError, match="it is cut off: 1 of its strips or tiles of JPEG data have no end"):
        read_image(half)
    with pytest.warns(ImageWarning, match="it is cut off: .*; what there is of it is read, the rest is filled"):
        image = read_image(half, accept_truncated=True)
    np.testing.assert_array_equal(image.pixels[:8], read_image(whole).pixels[:8])


def test_pages_of_one_kind_with_metadata_of_their_own_keep_them(rng: np.random.Generator) -> None:
    arrays = [random_pixels(rng, (5, 4, 3), np.uint8) for _ in range(3)]
    own: list[dict[str, Any]] = [{"description": "first", "resolution": (300, 300)}, {"resolution": (300, 300)}]
    for kinds, are_frames in [
        ([own[0], own[1], own[1]], True),  # as stacks are written: the description is that of the file
        ([own[0], own[0], own[0]], True),
        ([own[0], {**own[1], "description": "second"}, own[1]], False),
        ([own[0], {"resolution": (150, 150)}, own[1]], False),
    ]:
        stream = io.BytesIO()
        with tifffile.TiffWriter(stream) as writer:
            for array, how in zip(arrays, kinds, strict=True):
                writer.write(array, photometric="rgb", metadata=None, **how)
        image = read_image(stream.getvalue())
        assert bool(image.frames) == are_frames
        pages = read_image(encode_image(image, "tiff"))
        np.testing.assert_array_equal(pages.frames or [page.pixels for page in pages.pages], arrays)
        with tifffile.TiffFile(io.BytesIO(encode_image(image, "tiff"))) as file:
            for page, how in zip(file.pages, kinds, strict=True):
                assert page.get_resolution()[0] == pytest.approx(how["resolution"][0])  # type: ignore[union-attr]
                if not are_frames:
                    assert page.description == how.get("description", "")  # type: ignore[union-attr]


def test_metadata_of_pages_of_one_kind_is_that_of_the_first(rng: np.random.Generator) -> None:
    frames = tuple(random_pixels(rng, (5, 3, 3), np.uint8) for _ in range(2))
    image = Image(frames[0], "RGB", frames=frames, metadata=Metadata(dpi=(300, 300)))
    assert read_image(encode_image(image, "tiff")).metadata.dpi == pytest.approx((300, 300))
