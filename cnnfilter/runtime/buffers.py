"""Memory that is used again and again: new memory has to be cleared by the system, which takes time."""

from __future__ import annotations

import contextlib
import math
import mmap
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Memory(local):
    """Arrays that each thread uses again and again, for a new one has to be cleared by the system first."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, Any], NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return an array with anything in it; the one that had the same name before is given up."""
        key, size = (name, dtype), math.prod(shape)
        if key not in self._arrays or self._arrays[key].size < size:
            self._arrays[key] = np.empty(size, dtype)
        return self._arrays[key][:size].reshape(shape)


Maps = NDArray[np.float32]


_CACHE_LINE_BYTES = 64
"""Bytes of a cache line. Vectors that lie across two of them take twice as long to load."""


def aligned(size: int) -> Maps:
    """Return memory for so many numbers that begins with a cache line."""
    memory = np.empty(size * 4 + _CACHE_LINE_BYTES, np.uint8)
    first = -memory.ctypes.data % _CACHE_LINE_BYTES
    return memory[first : first + size * 4].view(np.float32)


class Scratch:
    """Arrays for what stands between two steps, reused: each name has one piece of memory that grows."""

    def __init__(self) -> None:
        self._zeros = np.zeros(0, np.float32)
        self._memory: dict[str, Maps] = {}
        self._views: dict[tuple[str, tuple[int, ...]], Maps] = {}

    def array(self, name: str, *shape: int) -> Maps:
        """Return an array of `shape` with anything in it."""
        view = self._views.get((name, shape))
        if view is None:
            size = math.prod(shape)
            memory = self._memory.get(name)
            if memory is None or memory.size < size:
                memory = self._memory[name] = aligned(size)
                self._views = {key: view for key, view in self._views.items() if key[0] != name}
            view = self._views[name, shape] = memory[:size].reshape(shape)
        return view

    def zeros(self, size: int) -> Maps:
        """Return at least so many zeros, which stay so."""
        if self._zeros.size < size:
            self._zeros = aligned(size)
            self._zeros[:] = 0
        return self._zeros


MIN_HUGE_PAGE_BYTES = 4 << 20
"""Bytes from which on large pages are worth it: memory that the system clears, where others keep what they had."""


def zeros(size: int) -> mmap.mmap | bytearray:
    """Return `size` bytes of 0: many in large pages, where there are such, as each small one would be a trap.

    Raises
    ------
    MemoryError
        There are not so many.
    """
    if size < MIN_HUGE_PAGE_BYTES:
        return bytearray(size)
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    try:
        memory = mmap.mmap(-1, size, **private)
    except OSError as error:
        raise MemoryError(f"no {size:,} bytes for the pixels") from error
    with contextlib.suppress(AttributeError, OSError):  # not on Linux
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
