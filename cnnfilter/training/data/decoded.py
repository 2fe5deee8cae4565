"""Decode all pictures of a split once, fitted to one size, into an array of bytes for training from nothing."""

from __future__ import annotations

import math
import tempfile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.layers.layer import Shape
from cnnfilter.networks.model_file import Preparation
from cnnfilter.networks.preparation import as_picture, fit
from cnnfilter.training.data.duplicates import fingerprint
from cnnfilter.training.data.examples import ArrayExamples, Examples, FileExamples, Picture, Skipped, read_each
from cnnfilter.training.progress import Watcher

MEMORY_BYTES_MAX = 1 << 31
"""Bytes of an array that is held in memory (2 GiB, chosen by hand).

A larger one is mapped from a temporary file, of which the system caches as much as memory allows.
"""

_OWN_SIDE_PIXELS_MAX = 96
"""Height or width up to which pictures keep their size: that of STL-10, the largest of the usual small data sets."""

_DEFAULT_SIDE_PIXELS = 64
"""Height and width to which all other pictures are fitted, as the help of ``train`` promises."""

_SHAPE_PICTURES_MAX = 16
"""Pictures that are read to choose the shape of the input; chosen by hand, so that it takes no noticeable time."""


class Pixels(NamedTuple):
    """The pictures (N, H, W, C) that could be read, and their fingerprints (None for pictures of arrays)."""

    array: NDArray[np.uint8]
    fingerprints: list[bytes | None]


def read_pixels(
    examples: Examples, shape: Shape, how: Preparation, threads: int | None, watcher: Watcher
) -> tuple[Pixels, list[Skipped]]:
    """Read every picture of a split, fitted to `shape` (H, W, C), and return those that cannot be read beside them."""
    if (
        isinstance(examples.source, ArrayExamples)
        and (whole := examples.source.rows(examples.places, shape)) is not None
    ):
        return Pixels(whole, [None] * len(whole)), []
    array = _empty_array(len(examples), shape)
    with_prints = isinstance(examples.source, FileExamples)

    def keep(index: int, picture: Picture) -> bytes:
        array[index] = fit(picture, shape, how)
        return fingerprint(array[index]) if with_prints else b""

    prints, unreadable = read_each(examples, keep, threads=threads, advance=watcher.advance)
    if not unreadable:
        return Pixels(array, prints), []
    missing = {found.path for found in unreadable}
    readable = [index for index in range(len(examples)) if examples.name(index) not in missing]
    for row, index in enumerate(readable):  # in place, as memory may not suffice for a second array
        array[row] = array[index]
    return Pixels(array[: len(readable)], [prints[index] for index in readable]), unreadable


def _empty_array(count: int, shape: Shape) -> NDArray[np.uint8]:
    """Return an array (count, *shape), mapped from a temporary file if it is large."""
    if count * math.prod(shape) <= MEMORY_BYTES_MAX:
        return np.empty((count, *shape), np.uint8)
    from cnnfilter.images import mapped_files

    try:
        # The array keeps the mapped file open.
        return mapped_files.temporary_array(None, (count, *shape), np.dtype(np.uint8)).array
    except OSError as error:
        error.filename = error.filename or tempfile.gettempdir()
        raise


def find_shape(examples: Examples) -> Shape:
    """Choose the shape (H, W, C) of the input of a network, by some of the pictures.

    It is their own size if they are small and all of one size, else 64x64; with one channel if all of them are grey.
    """
    shapes = []
    for index in np.unique(np.linspace(0, len(examples) - 1, _SHAPE_PICTURES_MAX).astype(int)):
        try:
            pixels = as_picture(examples.read(int(index)))
        except ValueError:
            continue
        grey = bool((pixels == pixels[:, :, :1]).all())
        shapes.append((*pixels.shape[:2], 1 if grey else 3))
    channels = max((shape[2] for shape in shapes), default=3)
    sizes = {shape[:2] for shape in shapes}
    if len(sizes) == 1 and max(size := sizes.pop()) <= _OWN_SIDE_PIXELS_MAX:
        return (*size, channels)
    return (_DEFAULT_SIDE_PIXELS, _DEFAULT_SIDE_PIXELS, channels)


def measure(array: NDArray[np.uint8]) -> Preparation:
    """Return the preparation that gives each channel of the pictures (N, H, W, C) mean 0 and deviation 1."""
    counts = np.zeros((array.shape[3], 256), np.int64)
    for start in range(0, len(array), 1024):
        for channel in range(array.shape[3]):
            counts[channel] += np.bincount(array[start : start + 1024, :, :, channel].ravel(), minlength=256)
    values = np.arange(256)
    mean = counts @ values / counts.sum(axis=1)
    deviation = np.sqrt(np.maximum(counts @ values**2 / counts.sum(axis=1) - mean**2, 1.0))
    return Preparation("crop", 1.0, "bicubic", tuple(mean.round(3).tolist()), tuple(deviation.round(3).tolist()))
