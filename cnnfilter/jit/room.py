"""Whether there is room to compile: where memory runs out, LLVM ends the process, or never ends."""

from __future__ import annotations

import sys

from cnnfilter.errors import RoomError
from cnnfilter.runtime import limits

_TO_IMPORT = (256 << 20, 96 << 20)
"""Bytes of addresses, and of data, that Numba takes before it compiles anything."""

_TO_COMPILE = (128 << 20, 96 << 20)
"""The same for one loop."""


def refuse_little_room() -> None:
    """Raise where the limits of this process (``ulimit -v``, ``ulimit -d``) leave too little room to compile a loop.

    Raises
    ------
    RoomError
        It says what would do.
    """
    imported = "numba.core.compiler" in sys.modules
    for allowed, taken, to_import, to_compile in zip(
        limits.allowed_memory(), limits.taken_memory(), _TO_IMPORT, _TO_COMPILE, strict=True
    ):
        needed = taken + to_compile + (0 if imported else to_import)
        if allowed is not None and needed > allowed:
            raise RoomError(
                f"compiling a loop takes up to {needed >> 20} MB of memory, and {allowed >> 20} are allowed; "
                "'cnnfilter warmup' without that limit compiles all of them once and for all"
            )
