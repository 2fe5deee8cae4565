"""Pixels that are not all there yet: those of a file that is being decoded, and those that are computed on demand.

A large picture so goes through a filter band by band: while its rows come in, others are filtered and encoded, and of
the result no more is in memory than the bands that are being encoded. Whoever asks for rows, ``pixels[first:end]``,
gets those; for anything else numpy is given all of them, as an ordinary array.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ImageError, UnreadableError
from cnnfilter.runtime import buffers
from cnnfilter.runtime.buffers import Memory

LEAST = 4 << 20
"""Bytes of pixels from which on it is worth it."""

Samples = NDArray[Any]


def is_worth_it(size: int) -> bool:
    """Whether a picture of so many bytes is so large."""
    return size >= LEAST


class Unfinished(ABC):
    """Pixels (H, W, C) of which each row is there when it is asked for."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        self.ndim = len(shape)
        self.size = math.prod(shape)

    @abstractmethod
    def rows(self, first: int, end: int) -> Samples:
        """Return some rows, which the same thread's next call may overwrite."""

    @abstractmethod
    def finish(self) -> Samples:
        """Return all rows."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Samples:
        if isinstance(key, slice) and key.step in (None, 1):
            first, end, _ = key.indices(len(self))
            return self.rows(first, end)
        picked: Samples = self.finish()[key]
        return picked

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Samples:
        return np.array(self.finish(), dtype, copy=copy) if copy else np.asarray(self.finish(), dtype)


def finished(pixels: Any) -> Samples:
    """Return pixels with all their rows."""
    return pixels.finish() if isinstance(pixels, Unfinished) else pixels


class Arriving(Unfinished):
    """Pixels that are filled from the top.

    Parameters
    ----------
    memory : (H, W, C)
    filling : fills it, and yields again and again how many rows are there, all of them at the end
    """

    def __init__(self, memory: Samples, filling: Iterator[int]) -> None:
        super().__init__(memory.shape, memory.dtype)
        self.memory = memory
        self._filling = filling
        self._ready = 0
        self._failure: Exception | None = None
        self._lock = Lock()

    def wait_for(self, end: int) -> None:
        """Wait until the rows above `end` are there.

        Raises
        ------
        UnreadableError
            They will never be.
        """
        if self._ready >= end:
            return
        with self._lock:
            if self._failure is not None:
                raise self._failure
            try:
                while self._ready < end:
                    self._ready = next(self._filling)
            except ImageError as failure:
                self._failure = UnreadableError(str(failure))
                raise self._failure from failure.__cause__

    def rows(self, first: int, end: int) -> Samples:
        """Return some rows."""
        self.wait_for(end)
        return self.memory[first:end]

    def finish(self) -> Samples:
        """Return all rows."""
        self.wait_for(len(self))
        return self.memory


class OnDemand(Unfinished):
    """Pixels that are computed whenever they are asked for.

    Parameters
    ----------
    compute : called with `first`, `end` and an array for these rows
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], compute: Callable[[int, int, Samples], None]
    ) -> None:
        super().__init__(shape, dtype)
        self._compute = compute
        self._memory = Memory()

    def rows(self, first: int, end: int) -> Samples:
        """Return some rows, which the same thread's next call overwrites."""
        out = self._memory.array("rows", (max(end - first, 0), *self.shape[1:]), self.dtype)
        if len(out):
            self._compute(first, end, out)
        return out

    def finish(self) -> Samples:
        """Return all rows, computed anew."""
        out = buffers.empty(self.shape, self.dtype)
        self._compute(0, len(self), out)
        return out
