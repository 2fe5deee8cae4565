"""Examples, which are labelled pictures: each is decoded when it is read, from a file or from an array.

They are found by `cnnfilter.training.data.image_files` and `cnnfilter.training.data.array_files`, and put together in
`cnnfilter.training.data.dataset`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ImageError, ShapeError
from cnnfilter.images.files import read_image
from cnnfilter.images.image import MAX_PIXELS, Image
from cnnfilter.networks.float_scales import Scale, to_bytes
from cnnfilter.networks.preparation import as_image
from cnnfilter.runtime.parallel import default_threads, run_tasks

EMPTY_CLASS = "a class without a picture"
HIDDEN, JUNK = "hidden", "junk of another program"
"""Reasons why a folder or file is left out, by which the command line sorts them."""

Picture = Image | NDArray[Any]


class Skipped(NamedTuple):
    """A file or folder that was left out of the data, and the reason."""

    path: str
    reason: str


class ExampleSource(Protocol):
    """A sequence of pictures, each read by its number."""

    def name(self, index: int) -> str:
        """Return the name of a picture for messages."""

    def read(self, index: int) -> Picture:
        """Return a picture; ImageError if it cannot be decoded."""

    def digest(self, index: int) -> bytes:
        """Return a checksum of the stored picture; OSError if it cannot be read."""


@dataclass(frozen=True)
class FileExamples:
    """Pictures from files.

    One of more than `max_pixels` pixels is refused when it is read. Floats become bytes by `scale`, if it is given.
    The axes of npy files are in the order `axes`.
    """

    paths: Sequence[str]
    max_pixels: int = MAX_PIXELS
    scale: Scale | None = None
    axes: str | None = None

    def name(self, index: int) -> str:
        return self.paths[index]

    def read(self, index: int) -> Picture:
        image = read_image(self.paths[index], max_pixels=self.max_pixels, pages="first", axes=self.axes)
        return image if self.scale is None else to_bytes(image, self.scale)

    def digest(self, index: int) -> bytes:
        with open(self.paths[index], "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()


class ArrayExamples:
    """Pictures from arrays (N, H, W) or (N, H, W, C), numbered through from the first array to the last.

    Parameters
    ----------
    parts : sequence of (title, array)
        The title is part of the names of the pictures, such as ``title#3``.
    scale : (float, float), optional
        The scale by which floats become bytes.
    """

    def __init__(self, parts: Sequence[tuple[str, NDArray[Any]]], scale: Scale | None = None) -> None:
        self.parts = list(parts)
        self.scale = scale
        self._starts = np.cumsum([0, *(len(pixels) for _, pixels in parts)])

    def _find(self, index: int) -> tuple[str, int, NDArray[Any]]:
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        title, pixels = self.parts[which]
        row = index - int(self._starts[which])
        return title, row, pixels[row]

    def rows(self, places: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
        """Return pictures, by number, as one array (N, H, W, C); None unless all are bytes of the shape (H, W, C)."""
        fitting = (shape, shape[:2]) if shape[2] == 1 else (shape,)
        if any(pixels.dtype != np.uint8 or pixels.shape[1:] not in fitting for _, pixels in self.parts):
            return None
        whole = np.empty((len(places), *shape), np.uint8)
        which = np.searchsorted(self._starts, places, side="right") - 1
        for number, (_, pixels) in enumerate(self.parts):
            own = which == number
            whole[own] = pixels[places[own] - self._starts[number]].reshape(-1, *shape)
        return whole

    def name(self, index: int) -> str:
        title, row, _ = self._find(index)
        return f"{title}#{row}"

    def read(self, index: int) -> Picture:
        pixels = self._find(index)[2]
        return pixels if self.scale is None else to_bytes(as_image(pixels), self.scale).pixels

    def digest(self, index: int) -> bytes:
        return hashlib.sha256(np.ascontiguousarray(self._find(index)[2]).data).digest()


@dataclass(frozen=True)
class Examples:
    """Some pictures of a source, and the number of the class of each.

    Attributes
    ----------
    source : ExampleSource
    places : (N,) int array
        The numbers of the pictures in the source.
    labels : (N,) int array
        The numbers of their classes.
    """

    source: ExampleSource
    places: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        """Return the name of a picture for messages."""
        return self.source.name(int(self.places[index]))

    def read(self, index: int) -> Picture:
        """Return a picture; ImageError if it cannot be decoded."""
        return self.source.read(int(self.places[index]))

    def digest(self, index: int) -> bytes:
        """Return a checksum of the stored picture; OSError if it cannot be read."""
        return self.source.digest(int(self.places[index]))

    def take(self, which: NDArray[Any]) -> Examples:
        """Return the examples that an array of numbers or a mask selects."""
        return Examples(self.source, self.places[which], self.labels[which])

    def counts(self, classes: int) -> NDArray[np.int64]:
        """Count the pictures of each class."""
        return np.bincount(self.labels, minlength=classes)


Result = TypeVar("Result")


def read_each(
    examples: Examples,
    work: Callable[[int, Picture], Result],
    *,
    threads: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> tuple[list[Result | None], list[Skipped]]:
    """Read every picture on threads, and call a function with it.

    Parameters
    ----------
    work : callable
        Called with the number of a picture and the picture.
    advance : callable
        Called after each picture, on any thread.

    Returns
    -------
    results : list
        What `work` returned, in the order of the examples; None for a picture that cannot be read.
    unreadable : list of Skipped
        The pictures that cannot be read, in the same order.
    """
    unreadable: dict[int, Skipped] = {}

    def task(index: int) -> Result | None:
        try:
            return work(index, examples.read(index))
        except (ImageError, ShapeError) as error:
            unreadable[index] = Skipped(examples.name(index), str(error))
            return None
        finally:
            advance()

    tasks = [partial(task, index) for index in range(len(examples))]
    results = run_tasks(tasks, threads or default_threads())
    return results, [unreadable[index] for index in sorted(unreadable)]
