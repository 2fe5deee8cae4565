"""Compute each matrix product on the thread that asks for it.

The BLAS of numpy may share a product among its own threads. How it does so may change the last bit of a result, and
products of several threads would wait for each other.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from cnnfilter.runtime import limits

_PRODUCT_BYTES_PER_THREAD = 48 << 20
"""Bytes of the buffer of OpenBLAS for one thread. Without them OpenBLAS ends the process."""

_THREAD_ADDRESS_BYTES = 72 << 20
"""Bytes of addresses that each further thread takes: a stack of 8 MiB and a heap of glibc of 64 MiB."""

_lock = Lock()
_is_reserved = False
_active_blocks = 0
_limit: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit the BLAS to one thread while such a block runs on at least one thread.

    Raises
    ------
    MemoryError
        There is too little memory for a product.
    """
    global _active_blocks, _limit
    with _lock:
        if not (_is_reserved and _active_blocks == 0) and not has_memory_for(1):
            raise MemoryError
        _active_blocks += 1
        if _active_blocks == 1:
            _allow_this_thread()
            _limit = _controller().limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _active_blocks -= 1
            if _active_blocks == 0:
                _allow_this_thread()
                _limit.restore_original_limits()


def has_memory_for(threads: int) -> bool:
    """Return whether the limits of memory allow products on `threads` threads at a time."""
    buffers = threads * _PRODUCT_BYTES_PER_THREAD
    return limits.has_memory_for(buffers + (threads - 1) * _THREAD_ADDRESS_BYTES, buffers)


def reserve_buffer() -> None:
    """Let OpenBLAS take the buffer of one thread now, where memory is limited.

    Later, threads and pictures can leave too little memory for it, and OpenBLAS would end the process.
    """
    global _is_reserved
    if _is_reserved or not limits.is_memory_limited() or not has_memory_for(1):
        return
    import numpy as np

    np.linalg.svd(np.eye(2))
    _is_reserved = True


@functools.cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def _allow_this_thread() -> None:
    """Let the calling thread set the limit: threadpoolctl 3.8 and later ignore all threads but one."""
    from threadpoolctl import OpenBLASController

    if hasattr(OpenBLASController, "clear_controlling_thread"):
        OpenBLASController.clear_controlling_thread(force=True)
