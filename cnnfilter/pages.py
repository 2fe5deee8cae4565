"""Memory straight from the system, for pixels that are wanted before numpy is there."""

from __future__ import annotations

import contextlib
import mmap


def zeros(size: int) -> mmap.mmap:
    """Return `size` bytes of 0 in large pages, where there are such: of small ones, each would be a trap.

    Raises
    ------
    MemoryError
        There are not so many.
    """
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    try:
        memory = mmap.mmap(-1, size, **private)
    except OSError as error:
        raise MemoryError(f"no {size:,} bytes for the pixels") from error
    with contextlib.suppress(AttributeError, OSError):  # not on Linux
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
