"""Worker threads that take items one after another; the results come in the order of the items."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

from cnnfilter.runtime.threads import POLL_SECONDS, Thread, start_thread

Item = TypeVar("Item")
Result = TypeVar("Result")

WAITING_RESULTS_PER_WORKER = 64
"""Results per worker that may wait for an earlier, slow one; more would fill the memory."""

SHUTDOWN_SECONDS = 1.5
"""Seconds in which workers may end their item after an interruption; the process exits at most 2 s after a signal."""


def in_order(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    stopping: threading.Event | None = None,
    needs_rerun: Callable[[Result], bool] = lambda result: False,
) -> Generator[Result, None, None]:
    """Yield ``work(item)`` for every item, in order, computed by up to `workers` threads.

    A single worker is the calling thread. When the generator is closed or raises an exception, `stopping` is set, the
    threads take no further item, and have `SHUTDOWN_SECONDS` to end the current one.

    If ``needs_rerun(result)``, the calling thread works on the item once more, while no other item is worked on.

    >>> list(in_order(lambda number: number * number, range(5), workers=2))
    [0, 1, 4, 9, 16]
    """
    if workers <= 1:
        yield from map(work, items)
        return
    pool = WorkerPool(work, items, workers, stopping or threading.Event())
    try:
        for index, item in enumerate(items):
            result = pool.wait_for(index)
            if needs_rerun(result):
                with pool.paused():
                    result = work(item)
            yield result
    finally:
        pool.stop()


Outcome = tuple[Any, BaseException | None]


class WorkerPool:
    """Threads that take items one after another, and the results that were not yielded yet."""

    def __init__(
        self, work: Callable[[Any], Any], items: Sequence[Any], workers: int, stopping: threading.Event
    ) -> None:
        self.work = work
        self.stopping = stopping
        self.items = items
        self.max_waiting = WAITING_RESULTS_PER_WORKER * workers
        self.taken = 0
        self.yielded = 0
        self.is_paused = False
        self.done: dict[int, Outcome] = {}
        lock = threading.Lock()
        # Two conditions, so that notify() wakes only a thread that can go on.
        self.may_take = threading.Condition(lock)
        self.has_ended = threading.Condition(lock)
        self.threads: list[Thread] = []
        self.failure: BaseException | None = None
        for _ in range(workers):
            thread = start_thread(self._serve)
            if thread is None:
                break
            self.threads.append(thread)

    def _serve(self) -> None:
        try:
            while (index := self._next()) is not None:
                self._keep(index, self._outcome(index))
        except BaseException as failure:  # no memory was left, not even for the result: `wait_for` raises it
            self.failure = failure

    def _next(self) -> int | None:
        with self.may_take:
            while not self.stopping.is_set() and (self.is_paused or self.taken - self.yielded >= self.max_waiting):
                self.may_take.wait()
            if self.stopping.is_set() or self.taken == len(self.items):
                return None
            self.taken += 1
            return self.taken - 1

    def _outcome(self, index: int) -> Outcome:
        try:
            return self.work(self.items[index]), None
        except BaseException as error:
            return None, error

    def _keep(self, index: int, outcome: Outcome) -> None:
        with self.has_ended:
            self.done[index] = outcome
            if index == self.yielded or self.is_paused:
                self.has_ended.notify()

    def wait_for(self, index: int) -> Any:
        if not self.threads:
            self.taken += 1
            self._keep(index, self._outcome(index))
        with self.has_ended:
            self._wait_until(lambda: index in self.done)
            result, error = self.done.pop(index)
            self.yielded = index + 1
            self.may_take.notify()
        if error is not None:
            raise error
        return result

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Wait until no item is worked on, and let the workers take none while the block runs."""
        with self.has_ended:
            self.is_paused = True
            self._wait_until(lambda: self.taken == self.yielded + len(self.done))
        try:
            yield
        finally:
            with self.may_take:
                self.is_paused = False
                self.may_take.notify_all()

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self.failure is not None:
                raise self.failure
            self.has_ended.wait(POLL_SECONDS)

    def stop(self) -> None:
        self.stopping.set()
        with self.may_take:
            self.may_take.notify_all()
        end = time.monotonic() + SHUTDOWN_SECONDS
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))
