"""Run tasks, bands of rows and calls on threads. The results come in the order of the tasks.

A result does not depend on the number of threads if each row of a band is computed by itself. Prefetching is left to
`cnnfilter.runtime.prefetch`.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from queue import SimpleQueue
from threading import Event, get_ident, main_thread
from typing import Generic, TypeVar

from cnnfilter.runtime import blas
from cnnfilter.runtime.buffers import Scratch
from cnnfilter.runtime.threads import Thread, next_item, start_thread

Result = TypeVar("Result")
Item = TypeVar("Item")

INTERRUPTED_JOIN_SECONDS = 0.5
"""Seconds in which a thread may end its task after an interruption; one that compiles would go on for seconds."""


def default_threads() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def split_rows(rows: int, pieces: int) -> list[tuple[int, int]]:
    """Cut `rows` into at most `pieces` bands ``(first, end)`` of nearly equal height.

    >>> split_rows(10, 3)
    [(0, 3), (3, 6), (6, 10)]
    """
    pieces = max(1, min(pieces, rows))
    edges = [rows * piece // pieces for piece in range(pieces + 1)]
    return list(pairwise(edges))


def run_in_bands(
    task: Callable[[int, int], Result],
    rows: int,
    *,
    threads: int | None = None,
    min_rows: int = 16,
    max_rows: int | None = None,
) -> list[Result]:
    """Call ``task(first, end)`` for bands of `min_rows` to `max_rows` rows; return the results in order.

    One band runs in the calling thread. When all have ended, the first exception in the order of the bands is raised.
    An interruption is raised before other exceptions: no further band is started, and the others are waited for at
    most `INTERRUPTED_JOIN_SECONDS`.
    """
    threads = default_threads() if threads is None else threads
    pieces = min(threads, max(1, rows // min_rows))
    bands = split_rows(rows, max(pieces, -(-rows // max_rows)) if max_rows else pieces)
    return run_tasks([partial(task, first, end) for first, end in bands], threads)


class _SharedItems(Generic[Item]):
    """Items of which several threads take one at a time, each item once; also where Python has no global lock."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._waiting = deque(items)

    def __iter__(self) -> Iterator[Item]:
        while True:
            try:
                item = self._waiting.popleft()  # documented as safe between threads, unlike next() of an iterator
            except IndexError:
                return
            yield item


def run_tasks(tasks: Sequence[Callable[[], Result]], threads: int) -> list[Result]:
    """Run `tasks` on up to `threads` threads, the calling one among them; return the results in order."""
    # Allocated before the work, so that no outcome is lost for lack of memory: a picture without one of its bands would
    # look like a result.
    results: list[Result | None] = [None] * len(tasks)
    failures: list[BaseException | None] = [None] * len(tasks)
    done = bytearray(len(tasks))
    waiting = _SharedItems(range(len(tasks)))
    interrupted = False

    def work() -> None:
        nonlocal interrupted
        for index in waiting:
            if interrupted:
                return
            try:
                results[index] = tasks[index]()
                done[index] = True
            except BaseException as failure:
                failures[index] = failure
                interrupted = interrupted or not isinstance(failure, Exception)
                return

    others = []
    for _ in range(min(threads, len(tasks)) - 1):
        thread = start_thread(work)
        if thread is None:  # the other threads run all tasks
            break
        others.append(thread)
    try:
        work()
    finally:
        for thread in others:
            thread.join(INTERRUPTED_JOIN_SECONDS if interrupted else None)
    raised = [failure for failure in failures if failure is not None]
    if raised:  # an interruption first, because others may have failed due to it
        raise next((failure for failure in raised if not isinstance(failure, Exception)), raised[0])
    if not all(done):  # a thread ended without memory
        raise MemoryError
    return results  # type: ignore[return-value]  # every task has a result


def off_the_main_thread(work: Callable[[], Result]) -> Result:
    """Return ``work()``, called on another thread with the caller's `contextvars`, while the main thread waits.

    Python handles signals on the main thread. If that ran C code of a library, a Ctrl-C would wait until it returns,
    and be lost where the library drops exceptions.
    """
    if get_ident() != main_thread().ident:
        return work()
    outcome: list[Result] = []
    failures: list[BaseException] = []
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.append(context.run(work))
        except BaseException as failure:
            failures.append(failure)

    thread = start_thread(run)
    if thread is None:
        return work()
    while thread.is_alive:
        thread.join(1)  # some systems deliver no signal during a wait without a limit
    if failures:
        raise failures.pop()  # this frame must not hold it: its traceback refers to the picture
    if not outcome:
        raise MemoryError
    return outcome[0]


@contextlib.contextmanager
def repeating(call: Callable[[], object], seconds: float) -> Iterator[None]:
    """Call a function every `seconds` on another thread while the block runs; never if no thread can be started."""
    has_ended = Event()

    def run() -> None:
        while not has_ended.wait(seconds):
            call()

    thread = start_thread(run)
    try:
        yield
    finally:
        has_ended.set()
        if thread is not None:
            thread.join()


Piece = Callable[[Scratch], None]


class Workers:
    """Threads that compute the pieces of a step, each with its scratch memory; one is the calling thread."""

    def __init__(self, threads: int = 1) -> None:
        self.scratch = Scratch()
        self._others: list[Thread] = []
        self._calls: SimpleQueue[Piece | None] = SimpleQueue()
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()
        for others in range(threads - 1):
            if not blas.has_memory_for(others + 2):
                break
            thread = start_thread(partial(_serve, self._calls, self._ended))
            if thread is None:
                break
            self._others.append(thread)

    def __del__(self) -> None:
        for _ in self._others:
            self._calls.put(None)

    def run(self, pieces: Sequence[Piece]) -> None:
        """Compute every piece; when all have ended, raise the first exception."""
        if not self._others:
            for piece in pieces:
                piece(self.scratch)
            return
        waiting = _SharedItems(pieces)

        def work(scratch: Scratch) -> None:
            for piece in waiting:
                piece(scratch)

        others = min(len(self._others), len(pieces) - 1)
        for _ in range(others):
            self._calls.put(work)
        failures: list[BaseException | None] = []
        try:
            work(self.scratch)
        finally:
            failures += [next_item(self._ended, self._others) for _ in range(others)]
        for failure in failures:
            if failure is not None:
                raise failure


def _serve(calls: SimpleQueue[Piece | None], ended: SimpleQueue[BaseException | None]) -> None:
    scratch = Scratch()
    while (call := calls.get()) is not None:
        try:
            call(scratch)
        except BaseException as failure:
            ended.put(failure)
        else:
            ended.put(None)
