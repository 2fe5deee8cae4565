"""Memory that is reused, because the system clears new memory, which takes time."""

from __future__ import annotations

import contextlib
import math
import mmap
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Memory(local):
    """Uninitialised arrays of any dtype by name, which each thread has for itself and reuses."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, Any], NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return an uninitialised array; it may share memory with the last one of that name and dtype."""
        key, size = (name, dtype), math.prod(shape)
        if key not in self._arrays or self._arrays[key].size < size:
            self._arrays[key] = np.empty(size, dtype)
        return self._arrays[key][:size].reshape(shape)


Maps = NDArray[np.float32]


_CACHE_LINE_BYTES = 64
"""Bytes of a cache line of x86 and most ARM processors. A vector across two lines takes two loads."""


def aligned(size: int) -> Maps:
    """Return an uninitialised array of `size` float32 that starts at a cache line."""
    memory = np.empty(size * 4 + _CACHE_LINE_BYTES, np.uint8)
    first = -memory.ctypes.data % _CACHE_LINE_BYTES
    return memory[first : first + size * 4].view(np.float32)


class Scratch:
    """Uninitialised float32 arrays by name, for one thread: each name has one block of memory, which grows.

    Unlike `Memory`, arrays start at a cache line, and asking for one again is one look-up.
    """

    def __init__(self) -> None:
        self._zeros = np.zeros(0, np.float32)
        self._memory: dict[str, Maps] = {}
        self._views: dict[tuple[str, tuple[int, ...]], Maps] = {}

    def array(self, name: str, *shape: int) -> Maps:
        """Return an uninitialised array; it shares memory with others of that name."""
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
        """Return at least `size` zeros, which must not be written."""
        if self._zeros.size < size:
            self._zeros = aligned(size)
            self._zeros[:] = 0
        return self._zeros


MIN_HUGE_PAGE_BYTES = 4 << 20
"""Bytes from which memory is taken in huge pages: two of 2 MiB. The C library reuses smaller blocks."""


def zeros(size: int) -> mmap.mmap | bytearray:
    """Return `size` zero bytes. Large blocks use huge pages, to save a page fault for every 4 KiB.

    Raises
    ------
    MemoryError
        There is too little memory.
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
