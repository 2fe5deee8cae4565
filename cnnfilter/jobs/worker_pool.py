"""Worker threads that take items one after another; the results come in the order of the items."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
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
    items: Iterable[Item],
    *,
    workers: int,
    stopping: threading.Event | None = None,
    needs_rerun: Callable[[Result], bool] = lambda result: False,
    max_waiting: int | None = None,
) -> Generator[Result, None, None]:
    """Yield ``work(item)`` for every item, in order, computed by up to `workers` threads.

    The items may come one after another: a thread that takes the next one waits for it, while the others work. At most
    `max_waiting` items are taken and not yielded; by default `WAITING_RESULTS_PER_WORKER` for each worker.

    A single worker is the calling thread. When the generator is closed or raises an exception, `stopping` is set, the
    threads take no further item, and have `SHUTDOWN_SECONDS` to end the current one.

    If ``needs_rerun(result)``, the calling thread works on the item once more, while no other item is worked on.

    >>> list(in_order(lambda number: number * number, range(5), workers=2))
    [0, 1, 4, 9, 16]
    """
    if workers <= 1:
        yield from map(work, items)
        return
    pool = WorkerPool(work, items, workers, stopping or threading.Event(), max_waiting)
    try:
        for item, result in pool.results():
            if needs_rerun(result):
                with pool.paused():
                    result = work(item)
            yield result
    finally:
        pool.stop()


Outcome = tuple[Any, Any, BaseException | None]
"""An item, its result, and the error of the work."""


class WorkerPool:
    """Threads that take items one after another, and the results that were not yielded yet."""

    def __init__(
        self,
        work: Callable[[Any], Any],
        items: Iterable[Any],
        workers: int,
        stopping: threading.Event,
        max_waiting: int | None = None,
    ) -> None:
        self.work = work
        self.stopping = stopping
        self.items = iter(items)
        self.next_item = threading.Lock()
        """Held while the next item is taken, which may mean to wait for it."""
        self.max_waiting = max_waiting or WAITING_RESULTS_PER_WORKER * workers
        self.is_exhausted = False
        """Whether all items were taken."""
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
            while (taken := self._take()) is not None:
                self._keep(*taken)
        except BaseException as failure:  # no memory was left, not even for the result: `results` raises it
            self.failure = failure

    def _take(self) -> tuple[int, Any] | None:
        """Return the next item and its number; None if there is none, or the threads are to stop."""
        with self.next_item:
            with self.may_take:
                while not self.stopping.is_set() and (self.is_paused or self.taken - self.yielded >= self.max_waiting):
                    self.may_take.wait()
                if self.stopping.is_set():
                    return None
            try:
                item = next(self.items)
            except StopIteration:
                with self.has_ended:
                    self.is_exhausted = True
                    self.has_ended.notify()
                return None
            with self.may_take:
                while not self.stopping.is_set() and self.is_paused:
                    self.may_take.wait()
                self.taken += 1
                return self.taken - 1, item

    def _keep(self, index: int, item: Any) -> None:
        """Work on an item, and keep its result or its error."""
        try:
            outcome: Outcome = item, self.work(item), None
        except BaseException as error:
            outcome = item, None, error
        with self.has_ended:
            self.done[index] = outcome
            if index == self.yielded or self.is_paused:
                self.has_ended.notify()

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Yield each item and its result, in order."""
        while True:
            if not self.threads and (taken := self._take()) is not None:
                self._keep(*taken)
            with self.has_ended:
                self._wait_until(
                    lambda: self.yielded in self.done or (self.is_exhausted and self.yielded == self.taken)
                )
                if self.yielded not in self.done:
                    return
                item, result, error = self.done.pop(self.yielded)
                self.yielded += 1
                self.may_take.notify()
            if error is not None:
                raise error
            yield item, result

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
        """Let the threads take no further item, and wait until they have ended those that they work on.

        A thread that waits for an item to come is not waited for.
        """
        self.stopping.set()
        end = time.monotonic() + SHUTDOWN_SECONDS
        with self.has_ended:
            self.may_take.notify_all()
            self.is_paused = True  # so that every result is announced
            while self.taken > self.yielded + len(self.done) and (left := end - time.monotonic()) > 0:
                self.has_ended.wait(left)
