"""An image in memory: pixels, mode, frames and metadata; checks of its size; its EXIF orientation."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from cnnfilter.errors import CnnfilterError, ImageError, count_text
from cnnfilter.images.coding.coding import Coding
from cnnfilter.images.metadata import Metadata, is_part_of
from cnnfilter.runtime import limits

MAX_PIXELS = limits.PIXELS

CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
"""Channels of each mode; ``maps`` may have any number."""

_MODE_OF_CHANNELS = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


class ImageWarning(UserWarning):
    """A warning that a file cannot hold a part of the picture, which was left out or changed."""


def warn(message: str) -> None:
    """Warn that a part of a picture was left out. The caller's caller adds the file's name."""
    warnings.warn(message, ImageWarning, stacklevel=3)


def mode_of(channels: int) -> str:
    """Return the usual mode of a number of channels.

    >>> mode_of(3), mode_of(7)
    ('RGB', 'maps')
    """
    return _MODE_OF_CHANNELS.get(channels, "maps")


def check_size(width: int, height: int, max_pixels: int, frames: int = 1) -> None:
    """Check that a picture has pixels, and no more pixels and frames than the limits.

    Raises
    ------
    ImageError
        A side is below 1, the pixels of all frames are more than `max_pixels`, or the frames than ``limits.frames``.
    """
    if width < 1 or height < 1:
        raise ImageError(f"{width}x{height} is not the size of a picture")
    check_frames(frames)
    pixels = width * height * frames
    if pixels > max_pixels:
        size = f"{width}x{height}" if frames == 1 else f"{frames} frames of {width}x{height}"
        raise ImageError(f"{size} is {pixels:,} pixels; the limit is {max_pixels:,} (--max-pixels {pixels} allows it)")


def check_frames(frames: int) -> None:
    """Check that there are no more frames than ``limits.frames``.

    Raises
    ------
    ImageError
        There are more.
    """
    if frames > limits.frames:
        raise ImageError(f"{frames:,} frames; the limit is {limits.frames:,} (--max-frames {frames} allows them)")


def as_pixels(values: np.ndarray) -> np.ndarray:
    """Return an array as uint8, uint16 or float32 with the same values.

    uint8 and uint16 stay; booleans become 0 and 255; all other types become float32.

    >>> as_pixels(np.array([True, False]))
    array([255,   0], dtype=uint8)
    >>> as_pixels(np.array([-1, 300]))
    array([ -1., 300.], dtype=float32)
    """
    if values.dtype.kind == "b":
        return np.ascontiguousarray(values).view(np.uint8) * np.uint8(255)
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    if values.dtype.kind in "ui":
        return whole_numbers(np.ascontiguousarray(values))
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def whole_numbers(values: np.ndarray) -> np.ndarray:
    """Return integers of any width as float32, which holds them exactly up to 16,777,216."""
    floats = values.astype(np.float32)
    if int(values.max(initial=0)) > 2**24 or int(values.min(initial=0)) < -(2**24):
        warn("whole numbers above 16,777,216 are rounded to float32")
    return floats


def widened(values: np.ndarray, maximum: int) -> np.ndarray:
    """Return whole numbers 0…`maximum` stretched to 0…255 or 0…65535, the next larger of the two, rounded half up.

    >>> widened(np.array([0, 1, 1023]), 1023)
    array([    0,    64, 65535], dtype=uint16)
    """
    full, dtype = (255, np.uint8) if maximum <= 255 else (65535, np.uint16)
    if maximum == full and values.dtype.kind == "u":
        return values.astype(dtype)
    wide = np.minimum(values.astype(np.uint64), maximum)
    stretched: np.ndarray = ((wide * (2 * full) + maximum) // (2 * maximum)).astype(dtype)
    return stretched


class AsImageError:
    """Context in which any exception of a codec becomes an ImageError, because the file caused it.

    It is a class and not a generator: a generator's frame and the exception would hold each other, and with them the
    pixels, until the garbage collector runs.

    Parameters
    ----------
    message : the error's beginning, such as "cannot be decoded as png"
    """

    def __init__(self, message: str) -> None:
        self.message = message

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if limits.is_memory_error(error):
            error = MemoryError()
        if isinstance(error, MemoryError):
            raise ImageError(f"{self.message}: not enough memory") from error
        if isinstance(error, Exception) and not isinstance(error, CnnfilterError):
            detail = " ".join(str(error).split()) or type(error).__name__
            raise ImageError(f"{self.message}: {detail}") from error


class Bands(NamedTuple):
    """The meaning of the channels of a TIFF page with extra samples.

    Attributes
    ----------
    colours : the mode of the first channels: L, RGB or CMYK
    extra : for each channel after them its kind in TIFF's tag 338: 0 is unspecified, 1 and 2 are alpha
    """

    colours: str
    extra: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Image:
    """An image with one frame or more.

    Parameters
    ----------
    pixels : ndarray, shape (H, W, C)
        uint8, uint16 or float32, in the file's own units (0…255, 0…65535); the first frame of an animation.
    mode : str
        ``L``, ``LA``, ``RGB``, ``RGBA``, ``CMYK`` (0 is no ink), or ``maps`` for any channels.
    format : str
        The format of the file that it was read from, one of the values of ``SUFFIXES``.
    metadata : Metadata
        Profile, EXIF, resolution, texts.
    frames : tuple of ndarray, each shape (H, W, C)
        All frames of an animation (or pages of a TIFF file), each complete; empty for a still picture.
    durations : tuple of int
        Duration of each frame in milliseconds; empty for pages.
    loop : int, optional
        Repetitions of an animation after the first; 0 is endless, None is no repetition.
    pages : tuple of Image
        All pages of a TIFF file whose pages differ in size, depth or kind, each with metadata of its own; empty for
        other images. `pixels`, `mode` and `metadata` are those of the first page.
    page_count : int
        The pages of the file, if only the first was read.
    page_number : int
        The number of the page in its file, from 1.
    bands : Bands, optional
        The meaning of the channels of mode ``maps`` if they are those of a TIFF page with extra samples.
    coding : Coding, optional
        How the file that it was read from is compressed, where a result in the same format keeps that.
    axes : str
        The order of the axes of the npy file that it was read from, in which an npy file is written: ``hwc``, ``chw``,
        or ``zyx`` and ``nhwc``, whose slices and pictures are the frames.
    """

    pixels: np.ndarray
    mode: str
    format: str = "png"
    metadata: Metadata = field(default_factory=Metadata)
    frames: tuple[np.ndarray, ...] = ()
    durations: tuple[int, ...] = ()
    loop: int | None = None
    bands: Bands | None = None
    pages: tuple[Image, ...] = ()
    page_count: int = 1
    page_number: int = 1
    coding: Coding | None = None
    axes: str = "hwc"

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or 0 in self.pixels.shape:
            raise ImageError(f"pixels must have the shape (H, W, C), not {self.pixels.shape}")
        if self.pixels.dtype not in (np.uint8, np.uint16, np.float32):
            raise ImageError(f"pixels must be uint8, uint16 or float32, not {self.pixels.dtype}")
        if self.mode != "maps" and CHANNELS.get(self.mode) != self.pixels.shape[2]:
            raise ImageError(f"mode {self.mode!r} does not have {count_text(self.pixels.shape[2], 'channel')}")

    @classmethod
    def from_array(cls, pixels: np.ndarray) -> Image:
        """Return an image with the pixels of an array (H, W) or (H, W, C).

        >>> Image.from_array(np.zeros((2, 3), np.uint8)).mode
        'L'
        """
        pixels = np.ascontiguousarray(pixels)
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if pixels.ndim != 3:
            raise ImageError(f"an array of the shape {pixels.shape} is not a picture; (H, W) or (H, W, C) is")
        return cls(pixels, mode_of(pixels.shape[2]))

    @property
    def has_alpha(self) -> bool:
        """Return whether the last channel is alpha."""
        return self.mode in ("LA", "RGBA")

    @property
    def colour(self) -> np.ndarray:
        """The channels without alpha, shape (H, W, C), as a view."""
        return self.pixels[:, :, :-1] if self.has_alpha else self.pixels

    @property
    def alpha(self) -> np.ndarray | None:
        """The alpha channel, shape (H, W, 1), as a view; None if there is none."""
        return self.pixels[:, :, -1:] if self.has_alpha else None

    def is_like(self, first: Image) -> bool:
        """Return whether it can be a frame after a first one: of its shape, dtype and mode, with nothing of its own.

        Metadata are those of the first frame; EXIF may say less, such as no description.
        """
        mine, others = self.pixels, first.pixels
        is_same = (mine.shape, mine.dtype, self.mode) == (others.shape, others.dtype, first.mode)
        metadata = dataclasses.replace(self.metadata, exif=first.metadata.exif)
        has_nothing_else = metadata == first.metadata and is_part_of(self.metadata.exif, first.metadata.exif)
        return is_same and self.bands == first.bands and has_nothing_else

    def replace(self, **changes: Any) -> Image:
        """Return this image with other fields (``pixels``, ``mode``, …)."""
        return dataclasses.replace(self, **changes)

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> Image:
        """Return the image with ``function`` applied to each frame's pixels, shape (H, W, C) to (H', W', C').

        Pages that differ from the first are left out; see `map_pages`.

        If the number of channels changes, the mode becomes the usual one of the new number.

        >>> red = Image.from_array(np.ones((2, 2, 3), np.uint8)).map(lambda pixels: pixels[:, :, :1])
        >>> red.mode, red.pixels.shape
        ('L', (2, 2, 1))
        """
        frames = tuple(_as_pixels(function(frame)) for frame in self.frames)
        pixels = frames[0] if frames else _as_pixels(function(self.pixels))
        same = pixels.shape[2] == self.pixels.shape[2]
        if same:
            return self.replace(pixels=pixels, frames=frames, pages=())
        return self.replace(pixels=pixels, frames=frames, pages=(), mode=mode_of(pixels.shape[2]), bands=None)

    def map_pages(self, function: Callable[[Image], Image]) -> Image:
        """Return the image with ``function`` applied to each page if its pages differ, else to the image itself."""
        return join_pages(self.of_pages(function)) if self.pages else function(self)

    def of_pages(self, function: Callable[[Image], Any]) -> list[Any]:
        """Return what ``function`` returns for each page of an image whose pages differ; its errors name the page."""
        results = []
        for page in self.pages:
            try:
                results.append(function(page))
            except CnnfilterError as error:
                raise type(error)(f"page {page.page_number}: {error}") from error
        return results


def join_pages(pages: Sequence[Image]) -> Image:
    """Return an image with these pages, which may have frames: pages of one size, depth and kind become frames."""
    singles: list[Image] = []
    for page in pages:
        singles += [page.replace(pixels=frame, frames=()) for frame in page.frames] or [page]
    first = singles[0]
    if len(singles) == 1:
        return first
    if all(page.is_like(first) for page in singles):
        return first.replace(frames=tuple(page.pixels for page in singles))
    return first.replace(pages=tuple(singles))


def page_dtype(dtype: DTypeLike | None, image: Image, page: Image) -> DTypeLike | None:
    """Return the dtype of the result of a page: that of the page where `dtype` is that of the first page."""
    return page.pixels.dtype if dtype is not None and np.dtype(dtype) == image.pixels.dtype else dtype


def _as_pixels(result: np.ndarray) -> np.ndarray:
    result = np.ascontiguousarray(result)
    return result[:, :, None] if result.ndim == 2 else result


# By EXIF orientation: whether rows and columns are exchanged, and the flips that follow (EXIF 2.32, section 4.6.4).
_ORIENTATIONS: dict[int, tuple[bool, Any]] = {
    2: (False, np.s_[:, ::-1]),
    3: (False, np.s_[::-1, ::-1]),
    4: (False, np.s_[::-1]),
    5: (True, np.s_[:]),
    6: (True, np.s_[:, ::-1]),
    7: (True, np.s_[::-1, ::-1]),
    8: (True, np.s_[::-1]),
}


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels (H, W, C) of a file with this EXIF orientation as they are to be shown, as a view."""
    exchanged, flips = _ORIENTATIONS.get(orientation, (False, np.s_[:]))
    seen: np.ndarray = (pixels.swapaxes(0, 1) if exchanged else pixels)[flips]
    return seen


def turn_back(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return upright pixels in the order of a file with this orientation, as a view: the inverse of `turn_upright`."""
    exchanged, flips = _ORIENTATIONS.get(orientation, (False, np.s_[:]))
    filed: np.ndarray = pixels[flips].swapaxes(0, 1) if exchanged else pixels[flips]
    return filed
