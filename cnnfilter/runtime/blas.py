"""Matrix products on one thread each, so that the threads are ours.

How numpy's BLAS shares a product among its own threads may change the last bit of a result, and products that several
threads ask for at once wait for each other. So each of ours is computed by the thread that asks for it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from cnnfilter.runtime import limits

_PRODUCT_BYTES_PER_THREAD = 48 << 20
"""Bytes that OpenBLAS takes for the products of a thread. It ends the process if it does not get them."""

_lock = Lock()
_active_blocks = 0
_limit: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit the BLAS to one thread while at least one such block runs, on whatever thread.

    Raises
    ------
    MemoryError
        There is too little left for any product.
    """
    global _active_blocks, _limit
    with _lock:
        if _limit is None and not has_memory_for(1):
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
    """Whether the limits of memory leave enough for products on so many threads at a time."""
    return limits.has_memory_for(threads * _PRODUCT_BYTES_PER_THREAD, threads * _PRODUCT_BYTES_PER_THREAD)


@functools.cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def _allow_this_thread() -> None:
    """Let the calling thread set the limit: from version 3.8, threadpoolctl silently ignores all threads but one."""
    from threadpoolctl import OpenBLASController

    if hasattr(OpenBLASController, "clear_controlling_thread"):
        OpenBLASController.clear_controlling_thread(force=True)
