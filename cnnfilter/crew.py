"""Threads that take items one after another, and give back what comes of them in the items' order."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 64
"""Results for each thread that may wait for an earlier one, so that a slow one does not fill the memory."""

GRACE = 1.5
"""Seconds that threads get to end their item after an interruption, before they are left behind."""


class Turns:
    """Some work together; who waits for a disk lets another in; who finds no room may try again alone."""

    def __init__(self, together: int) -> None:
        self.most = together
        self.changed = threading.Condition()
        self.working = 0
        self.waiting = 0
        self.were_many = False

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: not self.waiting and self.working < self.most)
            self.working += 1
            self.were_many = self.were_many or self.working > 1
        try:
            yield
        finally:
            self._leave()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Let another work while this one waits."""
        self._leave()
        try:
            yield
        finally:
            with self.changed:
                self.working += 1

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self.changed:
            self.waiting += 1
            self.changed.wait_for(lambda: not self.working)
            self.working += 1
        try:
            yield
        finally:
            self._leave(waited=1)

    def _leave(self, waited: int = 0) -> None:
        with self.changed:
            self.working -= 1
            self.waiting -= waited
            self.changed.notify_all()


def in_order(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    jobs: int,
    stopping: threading.Event | None = None,
) -> Generator[Result, None, None]:
    """Yield ``work(item)`` for every item, in order; up to `jobs` are being worked on at a time.

    One job runs in the calling thread. Otherwise the threads stop taking items as soon as the generator is
    closed or an exception comes out of it, and get `GRACE` seconds to end what they have begun; `stopping` is
    set meanwhile, so that the work can see it.

    >>> list(in_order(lambda number: number * number, range(5), jobs=2))
    [0, 1, 4, 9, 16]
    """
    if jobs <= 1:
        yield from map(work, items)
        return
    crew = _Crew(work, items, stopping or threading.Event())
    crew.start(jobs)
    try:
        for index in range(len(items)):
            yield crew.wait_for(index)
    finally:
        crew.stop()


class _Crew:
    """Threads that take items one after another and put down the results."""

    def __init__(self, work: Callable[[Any], Any], items: Sequence[Any], stopping: threading.Event) -> None:
        self.work = work
        self.stopping = stopping
        self.items = items
        self.begun = 0
        self.used = 0
        self.done: dict[int, tuple[Any, BaseException | None]] = {}
        self.changed = threading.Condition()
        self.threads: list[threading.Thread] = []

    def start(self, jobs: int) -> None:
        self.ahead = AHEAD * jobs
        for _ in range(jobs):
            thread = threading.Thread(target=self._serve, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system gives no more threads
                break
            self.threads.append(thread)

    def _serve(self) -> None:
        while (index := self._next()) is not None:
            outcome: tuple[Any, BaseException | None]
            try:
                outcome = self.work(self.items[index]), None
            except BaseException as error:
                outcome = None, error
            with self.changed:
                self.done[index] = outcome
                self.changed.notify_all()

    def _next(self) -> int | None:
        with self.changed:
            while self.begun - self.used >= self.ahead and not self.stopping.is_set():
                self.changed.wait()
            if self.stopping.is_set() or self.begun == len(self.items):
                return None
            self.begun += 1
            return self.begun - 1

    def wait_for(self, index: int) -> Any:
        if not self.threads:
            return self.work(self.items[index])
        with self.changed:
            while index not in self.done:
                self.changed.wait()
            result, error = self.done.pop(index)
            self.used = index + 1
            self.changed.notify_all()
        if error is not None:
            raise error
        return result

    def stop(self) -> None:
        self.stopping.set()
        with self.changed:
            self.changed.notify_all()
        end = time.monotonic() + GRACE
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))
