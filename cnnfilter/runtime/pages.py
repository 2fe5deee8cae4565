"""Memory straight from the system, for pixels that are wanted before numpy is there."""

from __future__ import annotations

import contextlib
import mmap

LARGE = 4 << 20
"""Bytes from which on large pages are worth it: memory that the system clears, where others keep what they had."""


def zeros(size: int) -> mmap.mmap | bytearray:
    """Return `size` bytes of 0: many in large pages, where there are such, as each small one would be a trap.

    Raises
    ------
    MemoryError
        There are not so many.
    """
    if size < LARGE:
        return bytearray(size)
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    try:
        memory = mmap.mmap(-1, size, **private)
    except OSError as error:
        raise MemoryError(f"no {size:,} bytes for the pixels") from error
    with contextlib.suppress(AttributeError, OSError):  # not on Linux
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
