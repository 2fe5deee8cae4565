"""Arrays that need not fit in memory: npy files that are mapped, read and filled piece by piece.

What was read or filled already is let go again and again, so that a run takes the memory of the pieces it works
on, whatever the array's size. The disk's cache keeps as much of it as the system has room for.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import threading
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Self

import numpy as np

from cnnfilter import npy
from cnnfilter.files import flush, replace_file
from cnnfilter.picture import Image, check_size

LEAST = 64 << 20
"""Bytes from which on it is worth it."""

PAUSE = 0.05
"""Seconds between two times that what was used is let go."""


class Mapping:
    """A mapped file as an array; while the block runs, what was used of it is let go.

    Attributes
    ----------
    array : (H, W, C) array
    """

    def __init__(self, file: int, shape: tuple[int, ...], dtype: np.dtype[Any], start: int, *, writable: bool) -> None:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(file, start + math.prod(shape) * dtype.itemsize, access=access)
        self.array: np.ndarray = np.frombuffer(self._map, dtype, math.prod(shape), start).reshape(shape)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._let_go, daemon=True)

    def _let_go(self) -> None:
        advice = getattr(mmap, "MADV_DONTNEED", None)
        while advice is not None and not self._ended.wait(PAUSE):
            self._map.madvise(advice)

    def __enter__(self) -> Self:
        with suppress(RuntimeError):  # no more threads: the system lets go when it has to
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()


def map_npy(path: str, max_pixels: int) -> tuple[Image, Mapping] | None:
    """Map an npy file as a picture; None if it is none, or small, or holds numbers that have to be converted.

    Raises
    ------
    ImageError
        It is no picture, cut off, or has more than `max_pixels`.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < LEAST or file.read(6) != b"\x93NUMPY":
            return None
        file.seek(0)
        found = npy.read_header(io.BytesIO(file.read(1 << 16)), size, max_pixels)
        kept = found.dtype in (np.uint8, np.uint16, np.float32) and found.dtype.isnative
        if not kept or found.fortran_order:
            return None
        mapping = Mapping(file.fileno(), found.shape, found.dtype, found.start, writable=False)
    return Image(mapping.array, npy.mode_for(found.dtype, found.shape[2]), "npy"), mapping


class NewNpy:
    """An npy file that is filled in place, hidden until it is whole. Leaving it without `keep` leaves nothing."""

    def __init__(
        self, path: str, shape: tuple[int, ...], dtype: np.dtype[Any], *, force: bool, max_pixels: int
    ) -> None:
        check_size(shape[1], shape[0], max_pixels)
        header = npy.header(shape, dtype)
        with ExitStack() as stack:
            self._file = stack.enter_context(replace_file(path, force=force))
            self._file.write(header)
            self._file.flush()
            _reserve(self._file.fileno(), len(header) + math.prod(shape) * dtype.itemsize)
            mapping = Mapping(self._file.fileno(), shape, dtype, len(header), writable=True)
            self.array = stack.enter_context(mapping).array
            self._stack = stack.pop_all()

    def holds(self, pixels: np.ndarray) -> bool:
        """Whether an array is this one."""
        return np.may_share_memory(self.array, pixels)

    def keep(self) -> None:
        """Put the file in its place."""
        with self._stack:
            flush(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(_NotKeptError):
            self._stack.__exit__(_NotKeptError, _NotKeptError(), None)


class _NotKeptError(Exception):
    """Tells `replace_file` that the file is not to take its place."""


def _reserve(file: int, size: int) -> None:
    """Take the room on the disk now: a mapped file on a full one would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)
