"""Start threads under a limit of memory: `start_thread` returns None where a thread cannot run.

`threading.Thread.start` waits until the new thread reports that it runs. If that thread ends before, for lack of
memory, the wait never ends (https://github.com/python/cpython/issues/140746).
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
"""Seconds between two checks whether a thread that is waited for is alive; it ends early only without memory."""

_START_POLL_SECONDS = 0.01
"""Seconds between two checks of a thread that has not reported that it runs."""

_THREAD_BYTES = (88 << 20, 12 << 20)
"""Bytes of addresses, and of data, of a thread: a stack of 8 MiB, a heap of glibc of 64 MiB, and a margin."""


class Thread:
    """A running thread. The process does not wait for it at its end."""

    def __init__(self) -> None:
        self._is_starting = _thread.allocate_lock()
        self._is_running = _thread.allocate_lock()
        self._is_starting.acquire()
        self._is_running.acquire()

    @property
    def is_alive(self) -> bool:
        """Return whether the thread has not ended yet."""
        return self._is_running.locked()

    def join(self, seconds: float | None = None) -> None:
        """Wait until the thread has ended, at most `seconds`."""
        if self._is_running.acquire(timeout=-1 if seconds is None else max(0.0, seconds)):
            self._is_running.release()


class _Lifetime:
    """An object that the thread of the system refers to until it ends, also if it never ran any code."""


def start_thread(target: Callable[[], None]) -> Thread | None:
    """Call `target` on a new thread; return None if the system refuses one, or memory is too short for it.

    `target` has to keep its exceptions itself. Python prints those that it raises, except MemoryError.
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
    """Wait for the next item that a producer puts into a queue, and return it.

    Raises
    ------
    MemoryError
        The queue is empty, and a producer has ended: it had no memory to report why.
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
