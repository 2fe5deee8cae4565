"""Whether there is room to compile: where memory runs out, LLVM ends the process, or never ends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from cnnfilter.errors import CnnfilterError

_TO_IMPORT = (256 << 20, 96 << 20)
"""Bytes of addresses, and of data, that Numba takes before it compiles anything."""

_TO_COMPILE = (128 << 20, 96 << 20)
"""The same for one loop."""


def refuse_little_room() -> None:
    """Raise where the limits of this process (``ulimit -v``, ``ulimit -d``) leave too little room to compile a loop.

    Raises
    ------
    CnnfilterError
        It says what would do.
    """
    if not sys.platform.startswith("linux"):
        return
    import resource

    imported = "numba.core.compiler" in sys.modules
    for limit, taken, to_import, to_compile in zip(
        (resource.RLIMIT_AS, resource.RLIMIT_DATA), _taken(), _TO_IMPORT, _TO_COMPILE, strict=True
    ):
        allowed, _ = resource.getrlimit(limit)
        needed = taken + to_compile + (0 if imported else to_import)
        if allowed != resource.RLIM_INFINITY and needed > allowed:
            raise CnnfilterError(
                f"compiling a loop takes up to {needed >> 20} MB of memory, and {allowed >> 20} are allowed; "
                "'cnnfilter warmup' without that limit compiles all of them once and for all"
            )


def _taken() -> tuple[int, int]:
    """Return the bytes of addresses and of data that this process has (0 where that cannot be told)."""
    with suppress(OSError), open("/proc/self/statm", encoding="ascii") as file:
        pages = file.read().split()
        size = os.sysconf("SC_PAGE_SIZE")
        return int(pages[0]) * size, int(pages[5]) * size
    return 0, 0
