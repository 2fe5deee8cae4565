"""npy: what is a picture, what is refused, and how little is believed."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest

from cnnfilter.errors import ImageError
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.image import Image, ImageWarning


def saved(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4", ">f4", "f2", "f8", "i1", "i4", "u4", "i8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 1), (3, 5, 3), (3, 5, 7)])
def test_numbers_of_every_kind(rng: np.random.Generator, dtype: str, order: Any, shape: tuple[int, ...]) -> None:
    values = np.array(rng.integers(0, 100, shape), dtype=dtype, order=order)
    image = read_image(saved(values))
    assert image.format == "npy"
    assert image.pixels.flags.c_contiguous
    kept = {"u1": np.uint8, "<u2": np.uint16, ">u2": np.uint16, "?": np.uint8}
    assert image.pixels.dtype == kept.get(dtype, np.float32)
    expected = values.reshape(3, 5, -1) * (255 if dtype == "?" else 1)
    np.testing.assert_array_equal(image.pixels, expected)


@pytest.mark.parametrize(
    ("dtype", "channels", "mode"),
    [
        *[("u1", 1, "L"), ("u1", 2, "LA"), ("u2", 3, "RGB"), ("u2", 4, "RGBA"), ("u1", 5, "maps")],
        *[("f4", 1, "L"), ("f4", 2, "maps"), ("f4", 3, "RGB"), ("f4", 4, "maps")],
    ],
)
def test_modes(dtype: str, channels: int, mode: str) -> None:
    assert read_image(saved(np.zeros((2, 2, channels), dtype))).mode == mode


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_written_as_numpy_reads_it(rng: np.random.Generator, channels: int, dtype: type) -> None:
    pixels = (rng.random((4, 6, channels)) * 200 - (100 if dtype == np.float32 else 0)).astype(dtype)
    array = np.load(io.BytesIO(encode_image(pixels, "npy")))
    assert array.shape == ((4, 6) if channels == 1 else (4, 6, channels))
    assert array.dtype == dtype
    np.testing.assert_array_equal(array.reshape(pixels.shape), pixels)


def test_nan_and_infinity_are_data() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, -0.0]], np.float32)
    np.testing.assert_array_equal(read_image(saved(values)).pixels[:, :, 0], values)


def test_large_whole_numbers_warn() -> None:
    with pytest.warns(ImageWarning, match="rounded to float32"):
        read_image(saved(np.array([[2**24 + 1]])))


def test_an_array_is_an_image() -> None:
    assert Image.from_array(np.zeros((2, 3), np.float32)).pixels.shape == (2, 3, 1)
    with pytest.raises(ImageError, match=r"\(2,\)"):
        Image.from_array(np.zeros(2, np.uint8))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((1, 2, 2, 3), np.uint8), r"shape \(1, 2, 2, 3\)"),
        (np.uint8(3), r"shape \(\)"),
        (np.zeros((0, 3), np.uint8), "3x0"),
        (np.zeros((3, 3, 0), np.uint8), "no channels"),
        (np.zeros((2, 2), np.complex64), "complex64"),
        (np.array([["a"]]), "U1"),
        (np.zeros((2, 2), [("a", "u1")]), "numbers"),
    ],
)
def test_refused(array: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(saved(array))


def test_objects_are_refused_and_never_loaded() -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (exec, ("raise SystemExit('it ran')",))

    with pytest.raises(ImageError, match="object"):
        read_image(saved(np.array([[Trap()]], object), allow_pickle=True))


def header(text: str, version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode()


def test_a_header_that_asks_for_more_than_is_there_takes_no_memory() -> None:
    file = header("{'descr': '<f8', 'fortran_order': False, 'shape': (9000, 9000, 400), }\n")
    with pytest.raises(ImageError, match=r"cut off: .* are 259,200,000,000 bytes, and 0 are there"):
        read_image(file)
    with pytest.raises(ImageError, match="the limit is"):
        read_image(header("{'descr': '<f8', 'fortran_order': False, 'shape': (90000, 90000), }\n"))


@pytest.mark.parametrize(
    "file",
    [
        header("{'descr': '<f8'}\n"),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 5), }\n"),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': ('a', 5), }\n"),
        header("__import__('os').abort()\n"),
        header("", b"\3\0") + b"\0\0",
        header("", b"\x09\0"),
        b"\x93NUMPY\1\0\xff\xff{",
        b"\x93NUMPY",
    ],
)
def test_damaged_headers(file: bytes) -> None:
    with pytest.raises(ImageError):
        read_image(file)


def test_every_cut_is_an_error() -> None:
    whole = saved(np.zeros((4, 4), np.uint16))
    for length in range(1, len(whole)):
        with pytest.raises(ImageError):
            read_image(whole[:length])


# --- the order of axes


def test_many_channels_need_axes() -> None:
    data = saved(np.zeros((5, 30, 17), np.uint8))
    with pytest.raises(ImageError, match=r"\(5, 30, 17\) has 17 channels as \(H, W, C\); --axes hwc takes it so, chw"):
        read_image(data)
    assert read_image(saved(np.zeros((5, 30, 16), np.uint8))).pixels.shape == (5, 30, 16)
    assert read_image(data, axes="hwc").pixels.shape == (5, 30, 17)
    assert read_image(data, axes="chw").pixels.shape == (30, 17, 5)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "<u2", "f4", "f8", "i4"])
@pytest.mark.parametrize(
    ("axes", "shape", "each", "frames"),
    [
        ("hwc", (6, 5), (6, 5, 1), 0),
        ("chw", (3, 6, 5), (6, 5, 3), 0),
        ("chw", (1, 6, 5), (6, 5, 1), 0),
        ("zyx", (4, 6, 20), (6, 20, 1), 4),
        ("nhwc", (4, 6, 5, 3), (6, 5, 3), 4),
    ],
)
def test_axes_are_kept(
    rng: np.random.Generator,
    axes: str,
    shape: tuple[int, ...],
    each: tuple[int, ...],
    frames: int,
    dtype: str,
    order: Any,
) -> None:
    values = np.array(rng.integers(0, 100, shape), dtype=dtype, order=order)
    image = read_image(saved(values), axes=axes)
    assert image.pixels.shape == each
    assert len(image.frames) == frames
    if frames:
        np.testing.assert_array_equal(np.stack(image.frames).reshape(shape), values)
    written = np.load(io.BytesIO(encode_image(image.map(lambda pixels: pixels), "npy")))
    assert written.shape == shape
    np.testing.assert_array_equal(written, values)


def test_axes_that_do_not_fit_are_refused() -> None:
    for axes, shape in [("nhwc", (3, 4, 5)), ("zyx", (4, 5)), ("chw", (4, 5)), ("hwc", (2, 3, 4, 5))]:
        with pytest.raises(ImageError, match=f"has {len(shape)} axes; --axes {axes} names {len(axes)}"):
            read_image(saved(np.zeros(shape, np.uint8)), axes=axes)
    with pytest.raises(ImageError, match="has no pictures"):
        read_image(saved(np.zeros((0, 3, 4), np.uint8)), axes="zyx")
    with pytest.raises(ImageError, match="5 frames of 4x3 is 60 pixels; the limit is 59"):
        read_image(saved(np.zeros((5, 3, 4), np.uint8)), axes="zyx", max_pixels=59)
