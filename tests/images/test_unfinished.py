"""Large pictures in rows: what comes of them is what comes of them as a whole, and so is what is wrong with them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pillow

from cnnfilter.cli import main
from cnnfilter.errors import ImageError, UnreadableError
from cnnfilter.filters.convolution.convolve import filter_picture
from cnnfilter.filters.images import filter_image
from cnnfilter.images import unfinished
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.image import Image, ImageWarning
from cnnfilter.images.unfinished import Arriving, OnDemand, finished
from cnnfilter.runtime import buffers


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "LEAST", 0)


def arriving(pixels: np.ndarray, step: int = 7, upto: int | None = None) -> Arriving:
    """Pixels that arrive some rows at a time; below them is something else until they do."""
    memory = np.full_like(pixels, 99)

    def filling() -> Iterator[int]:
        for first in range(0, len(pixels), step):
            if upto is not None and first >= upto:
                raise ImageError("the rest is missing")
            memory[first : first + step] = pixels[first : first + step]
            yield min(first + step, len(pixels))

    return Arriving(memory, filling())


def in_bands(pixels: Any, rows: int, above: int = 0) -> np.ndarray:
    """All rows, asked for some at a time, with one more above as PNG wants it."""
    bands = []
    for first in range(0, len(pixels), rows):
        start = max(first - above, 0)
        bands.append(pixels[start : first + rows][first - start :].copy())
    return np.concatenate(bands)


KERNELS = [
    "sobel-h",
    "sharpen",
    "gaussian:1",
    "gaussian:3",
    "box:3",
    "box:9",
    "blur",
    "sobel",
    "kirsch",
    "unsharp:2,0.7",
]
OPTIONS = [
    {},
    {"border": "reflect", "signed": "offset"},
    {"border": "wrap", "padding": (9, 0, 1, 2)},
    {"border": "constant:30", "signed": "clip", "bias": 3.5},
    {"stride": (3, 1), "dilation": 2, "padding": "valid"},
    {"signed": "stretch"},
]


@pytest.mark.parametrize("kernel", [*KERNELS, "9 -3 4; 0.5 -2 1; 1 2 3; 4 5 6"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint8, 1), (np.uint16, 3)])
def test_rows_on_demand_are_those_of_the_whole(
    rng: np.random.Generator, kernel: str, options: dict[str, Any], dtype: type, channels: int
) -> None:
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, (83, 150, channels)).astype(dtype)
    whole = filter_picture(pixels, [kernel], **options)
    for rows, above in ((8, 0), (29, 1), (83, 0)):
        part = filter_picture(arriving(pixels), [kernel], on_demand=True, threads=1, **options)
        assert isinstance(part.pixels, OnDemand)
        np.testing.assert_array_equal(in_bands(part.pixels, rows, above), whole.pixels)
        assert part.clipped == pytest.approx(whole.clipped, abs=0.02)
        np.testing.assert_array_equal(finished(part.pixels), whole.pixels)
        assert part.pixels[len(part.pixels) :].shape == (0, *whole.pixels.shape[1:])


@pytest.mark.parametrize("kernel", ["gabor:12,30", "box:81"])
def test_what_bands_would_compute_otherwise_or_again_is_computed_as_a_whole(
    rng: np.random.Generator, kernel: str
) -> None:
    pixels = rng.integers(0, 256, (190, 200, 3), np.uint8)
    algorithm = "fft" if kernel.startswith("gabor") else "auto"
    found = filter_picture(arriving(pixels), [kernel], on_demand=True, algorithm=algorithm)
    np.testing.assert_array_equal(found.pixels, filter_picture(pixels, [kernel], algorithm=algorithm).pixels)
    assert isinstance(found.pixels, np.ndarray)


def test_a_stack_of_maps_and_alpha_are_computed_as_a_whole(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (40, 50, 4), np.uint8)
    kernels = ["sobel-h", "sobel-v"]
    for image, options in (
        (Image(pixels[:, :, :3].copy(), "RGB"), {"combine": "stack"}),
        (Image(pixels, "RGBA"), {}),
    ):
        coming: Any = arriving(image.pixels)
        result, clipped, _ = filter_image(image.replace(pixels=coming), kernels, on_demand=True, **options)
        expected, share, _ = filter_image(image, kernels, **options)
        assert isinstance(result.pixels, np.ndarray)
        np.testing.assert_array_equal(result.pixels, expected.pixels)
        assert result.mode == expected.mode
        assert clipped() == share()


def test_a_band_waits_for_the_rows_that_it_sees_and_no_others(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (80, 60, 3), np.uint8)
    coming = arriving(pixels, step=10)
    result = filter_picture(coming, ["box:5"], on_demand=True).pixels
    result[10:20]
    np.testing.assert_array_equal(coming.memory[:30], pixels[:30])
    assert (coming.memory[30:] == 99).all()


def test_numpy_is_given_all_rows(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
    for coming in (
        arriving(pixels),
        OnDemand(pixels.shape, pixels.dtype, lambda first, end, out: np.copyto(out, pixels[first:end])),
    ):
        assert (coming.shape, coming.ndim, coming.size, len(coming)) == (pixels.shape, 3, pixels.size, 20)
        np.testing.assert_array_equal(coming[15:], pixels[15:])
        np.testing.assert_array_equal(coming[25:], pixels[25:])
        np.testing.assert_array_equal(coming[::2, 3], pixels[::2, 3])
        np.testing.assert_array_equal(np.array(coming, copy=True), pixels)
        np.testing.assert_array_equal(np.asarray(coming, np.float32), pixels)
        image = Image(coming, "RGB")  # type: ignore[arg-type]
        np.testing.assert_array_equal(image.finished().pixels, pixels)
        np.testing.assert_array_equal(image.map(lambda frame: 255 - frame).pixels, 255 - pixels)


def test_every_thread_is_told_that_rows_are_missing(rng: np.random.Generator) -> None:
    coming = arriving(rng.integers(0, 256, (40, 30, 3), np.uint8), upto=21)
    assert len(coming[:21]) == 21
    for _ in range(2):
        with pytest.raises(UnreadableError, match="the rest is missing"):
            coming[:30]
    assert len(coming[:21]) == 21


# --- files --------------------------------------------------------------------------------------------


def file_of(pixels: np.ndarray, name: str) -> bytes:
    if name.endswith("png"):
        return encode_image(pixels, "png")
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "jpeg", quality=92)
    return file.getvalue()


def run(path: Path, target: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["convolve", str(path), "-o", str(target), "-k", "sharpen", *options])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "16.png"])
@pytest.mark.parametrize("format", ["png", "jpg"])
def test_no_result_is_in_memory_as_a_whole(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, format: str
) -> None:
    dtype = np.uint16 if name.startswith("16") else np.uint8
    path, target = tmp_path / name, tmp_path / f"out.{format}"
    path.write_bytes(file_of(rng.integers(0, np.iinfo(dtype).max + 1, (900, 700, 3)).astype(dtype), name))
    with warnings.catch_warnings(action="ignore", category=ImageWarning):
        expected = encode_image(filter_image(read_image(path), ["sharpen"])[0], format)
    made: list[tuple[int, ...]] = []

    def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        made.append(shape)
        return np.empty(shape, dtype)

    monkeypatch.setattr(buffers, "empty", empty)
    result = run(path, target)
    assert result.exit_code == 0, result.output
    assert target.read_bytes() == expected
    assert "clipped to the range" in result.stderr
    is_converted = name.startswith("16") and format == "jpg"
    assert made == ([(900, 700, 3)] if is_converted else [])


@pytest.mark.parametrize("options", [["-k", "sobel-h", "-f", "tiff"], ["-k", "blur", "-f", "npy"]], ids=str)
def test_other_formats_get_all_rows(rng: np.random.Generator, tmp_path: Path, options: list[str]) -> None:
    path, target = tmp_path / "a.jpg", tmp_path / "out"
    path.write_bytes(file_of(rng.integers(0, 256, (300, 400, 3), np.uint8), "a.jpg"))
    result = CliRunner().invoke(main, ["convolve", str(path), "-o", str(target), *options])
    assert result.exit_code == 0, result.output
    dtype = np.float32 if "npy" in options else np.uint8
    expected = filter_image(read_image(path), [options[1]], dtype=dtype)[0]
    np.testing.assert_array_equal(read_image(target).pixels, expected.pixels)
