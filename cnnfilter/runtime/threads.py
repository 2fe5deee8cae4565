"""Threads that can be had where memory is short: one that cannot run is none, and nobody waits for it.

`threading.Thread.start` waits until the new thread says that it runs. One that dies before that, for want of
memory, is waited for without end (https://github.com/python/cpython/issues/140746).
"""

from __future__ import annotations

import _thread
import weakref
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

from cnnfilter.runtime import limits

Value = TypeVar("Value")

POLL_SECONDS = 0.5
"""Seconds between two looks whether a thread that is waited for still lives."""

_START_POLL_SECONDS = 0.01
"""Seconds between two looks at a thread that does not say that it runs."""

_THREAD_BYTES = (88 << 20, 12 << 20)
"""Bytes of addresses, and of data, that a thread takes: its stack, and the heap that glibc gives it."""


class Thread:
    """A thread that runs. The process does not wait for it when it ends."""

    def __init__(self) -> None:
        self._is_starting = _thread.allocate_lock()
        self._is_running = _thread.allocate_lock()
        self._is_starting.acquire()
        self._is_running.acquire()

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._is_running.locked()

    def join(self, seconds: float | None = None) -> None:
        """Wait until it has ended, at most so many seconds."""
        if self._is_running.acquire(timeout=-1 if seconds is None else max(0.0, seconds)):
            self._is_running.release()


class _Lifetime:
    """What the system's thread holds on to until it is over, whether it came to run anything or not."""


def start_thread(target: Callable[[], None]) -> Thread | None:
    """Call `target` on another thread; None if the system gives no more of them, or too little memory for one.

    Nobody is told what `target` raises, so it has to keep that itself. Python prints it, unless it is want of memory.
    """
    if not limits.has_memory_for(*_THREAD_BYTES):
        return None
    thread, life = Thread(), _Lifetime()
    is_over = weakref.ref(life)
    try:
        _thread.start_new_thread(_run, (thread, target, life))
    except (RuntimeError, MemoryError):
        return None
    del life
    while not thread._is_starting.acquire(timeout=_START_POLL_SECONDS):
        if is_over() is None and thread.is_alive:
            return None
    return thread


def next_item(made: SimpleQueue[Value], makers: Sequence[Thread]) -> Value:
    """Wait for the next thing that some threads make, and return it.

    Raises
    ------
    MemoryError
        There is none, and one of the threads has ended: it had no memory even to say so.
    """
    while True:
        all_live = all(maker.is_alive for maker in makers)
        try:
            return made.get(timeout=POLL_SECONDS if all_live else 0)
        except Empty:
            if not all_live:
                raise MemoryError from None


def _run(thread: Thread, target: Callable[[], None], life: _Lifetime) -> None:
    thread._is_starting.release()
    try:
        target()
    except MemoryError:
        pass
    finally:
        thread._is_running.release()
