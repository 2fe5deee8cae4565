"""Every limit of size and memory that an option can change, in one place.

========================  =======================  =============  ===================================================
limit                     option                   default        what it limits
========================  =======================  =============  ===================================================
pixels of a picture       ``--max-pixels N``       89,478,485     width x height x frames, read or written
frames of an animation    ``--max-frames N``       10,000         frames of GIF, WebP, APNG; pages of TIFF
side of a kernel          ``--max-kernel N``       1,023          rows or columns, typed, made or read from a file
size of a model's file    ``--max-model SIZE``     1G             any model that is loaded
memory of the process     ``--max-memory SIZE``    none           all memory; a picture that does not fit fails
========================  =======================  =============  ===================================================

The limits of pixels are parameters (`read_image`, `write_image`); those of frames, kernels and models are the
variables of this module, which hold for the process.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

PIXELS = 89_478_485
"""Width times height times frames: 256 MiB as 8-bit RGB."""

frames = 10_000
"""Frames of an animation, pages of a TIFF file."""

kernel_side = 1023
"""Rows or columns of a kernel."""

model_bytes = 1 << 30
"""Bytes of a model's file."""

memory: int | None = None
"""Bytes that the process may take; None is no limit. `limit_memory` sets it."""

MIN_MEMORY_BYTES = 128 << 20
"""Bytes that the program needs for a small picture, once its loops are compiled."""


_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(text: str) -> int:
    """Return a size in bytes: ``500M``, ``2G``, ``1.5GB``, ``4GiB``, or a number of bytes.

    Raises
    ------
    ValueError
        The text is no size, or the size is not above 0.

    Examples
    --------
    >>> parse_size("1.5k"), parse_size("2 GiB")
    (1536, 2147483648)
    """
    plain = text.strip().lower().removesuffix("b").removesuffix("i")
    unit = plain[-1:] if plain[-1:].isalpha() else ""
    size = float(plain.removesuffix(unit)) * _UNITS.get(unit, 0)
    if not 1 <= size < 2**62:
        raise ValueError(f"{text!r} is not a size")
    return int(size)


@contextlib.contextmanager
def limit_memory(size: int | None) -> Iterator[None]:
    """Limit the private memory of the process to `size` bytes while the block runs; None is no limit.

    Beyond it, allocations raise MemoryError. Mapped files do not count.

    Raises
    ------
    NotImplementedError
        The system has no such limit.
    """
    if size is None:
        yield
        return
    if not sys.platform.startswith("linux"):
        raise NotImplementedError("only Linux holds a process to a limit of memory")
    import resource

    global memory
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    ceiling = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))
    memory = size
    try:
        yield
    finally:
        memory = None
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def is_memory_limited() -> bool:
    """Return whether the process has a limit of memory (``ulimit -v``, ``ulimit -d``, ``--max-memory``)."""
    return any(allowed is not None for allowed in allowed_memory())


def is_memory_error(error: BaseException | None) -> bool:
    """Return whether an import failed for lack of memory, here or in a thread that had started it."""
    return isinstance(error, ImportError) and is_memory_limited()


def max_jobs(count: int) -> int:
    """Return the number of jobs that may run at a time, at most `count`: one for each `MIN_MEMORY_BYTES` of a limit."""
    return min([count, *(allowed // MIN_MEMORY_BYTES for allowed in allowed_memory() if allowed is not None)])


def has_memory_for(addresses: int, data: int) -> bool:
    """Return whether the limits of memory leave so many bytes of addresses, and of data."""
    allowed = allowed_memory()
    if allowed == (None, None):
        return True
    return all(
        limit is None or taken + wanted <= limit
        for limit, taken, wanted in zip(allowed, taken_memory(), (addresses, data), strict=True)
    )


def allowed_memory() -> tuple[int | None, int | None]:
    """Return the limits in bytes of addresses, and of data; None where there is no limit."""
    if not sys.platform.startswith("linux"):
        return None, None
    import resource

    addresses, data = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    no = resource.RLIM_INFINITY
    return None if addresses == no else addresses, None if data == no else data


def taken_memory() -> tuple[int, int]:
    """Return the bytes of addresses, and of data, that the process has; 0 where the system does not tell."""
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as file:
        pages = file.read().split()
        size = os.sysconf("SC_PAGE_SIZE")
        return int(pages[0]) * size, int(pages[5]) * size
    return 0, 0
