"""Memory for the pictures that come out of filters, used again when they are gone.

The system clears every page that it gives, which takes as long as filtering with a small kernel does. So the
memory of a large result is kept for the next one when no array sees it any more.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cnnfilter import limits
from cnnfilter.pages import zeros

LEAST = 32 << 20
"""Bytes from which on the system gives memory and takes it back each time; smaller ones glibc keeps."""

MOST = 64 << 20
"""Bytes that are kept at the most."""

_kept: list[mmap.mmap] = []


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Return an array with anything in it, as `numpy.empty`."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < LEAST or limits.is_memory_limited():
        return np.empty(shape, dtype)
    memory = _taken(size)
    flat = np.frombuffer(memory, dtype, math.prod(shape))
    weakref.finalize(flat, _keep, memory).atexit = False  # views hold on to this array, not to its memory
    return flat.reshape(shape)


def _taken(size: int) -> Any:
    """Return kept memory of about that size, or new."""
    for memory in _kept:
        if size <= len(memory) <= size + size // 4:
            with contextlib.suppress(ValueError):  # another thread was faster
                _kept.remove(memory)
                return memory
            break
    return zeros(size)


def _keep(memory: mmap.mmap) -> None:
    if len(memory) <= MOST:
        _kept.append(memory)
    with contextlib.suppress(IndexError):  # other threads took it all
        while sum(map(len, _kept)) > MOST:
            del _kept[0]
