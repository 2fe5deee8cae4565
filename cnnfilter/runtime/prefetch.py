"""Prefetch: make the next piece on a second thread while the current one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TypeVar

from cnnfilter.runtime.threads import next_item, start_thread

Piece = TypeVar("Piece")


def prefetch(make: Callable[[int], Piece], count: int) -> Iterator[Piece]:
    """Yield ``make(0)``, ``make(1)``, …, at most two pieces ahead of the one that is used.

    So `make` may use three buffers in turn: one is used, one is ready, and one is filled.

    >>> list(prefetch(lambda index: index * index, 4))
    [0, 1, 4, 9]
    """
    ready: SimpleQueue[Piece | BaseException] = SimpleQueue()
    allowed: SimpleQueue[bool] = SimpleQueue()

    def work() -> None:
        for index in range(count):
            if not allowed.get():
                return
            try:
                ready.put(make(index))
            except BaseException as failure:
                ready.put(failure)
                return

    thread = start_thread(work)
    if thread is None:
        yield from map(make, range(count))
        return
    allowed.put(True)
    allowed.put(True)
    try:
        for _ in range(count):
            piece = next_item(ready, [thread])
            if isinstance(piece, BaseException):
                raise piece
            yield piece
            allowed.put(True)
    finally:
        allowed.put(False)
