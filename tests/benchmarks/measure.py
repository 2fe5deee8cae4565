"""Interleaved timing: what is measured, how, and what a result is held against.

Every row has a subject, ours, and peers that do the same work. They run in turns (A B C A B C …), so that
whatever else the machine does meets all of them; a ratio is the median of the ratios within each turn.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

OURS = "cnnfilter"


class Unavailable(Exception):  # noqa: N818 - not an error
    """A peer is not installed, or cannot do this work."""


class Contender(Protocol):
    """One way to do the work of a row.

    Attributes
    ----------
    took : what the first time took, in the row's unit; known when `first` has run.
    """

    took: float

    def first(self) -> Any:
        """Do the work once, to warm up, and return the result for a comparison."""

    def sample(self) -> float:
        """Do the work and return what it took, in the row's unit."""


class Call:
    """A function of this process, timed in seconds."""

    def __init__(self, function: Callable[[], Any], *, least: float = 0.01) -> None:
        self.function = function
        self.least = least  # seconds that one sample takes at least, by repetition
        self.repeats = 1
        self.took = 0.0

    def first(self) -> Any:
        began = time.perf_counter()
        result = self.function()
        self.took = time.perf_counter() - began
        if self.took < 1:  # it may have been compiled just then
            self.took = self.sample()
        self.repeats = max(1, round(self.least / max(self.took, 1e-9)))
        return result

    def sample(self) -> float:
        began = time.perf_counter()
        for _ in range(self.repeats):
            self.function()
        return (time.perf_counter() - began) / self.repeats


class Constant:
    """A number to be held against, such as a limit."""

    def __init__(self, value: float) -> None:
        self.value = self.took = value

    def first(self) -> None:
        return None

    def sample(self) -> float:
        return self.value


@dataclass(frozen=True)
class Target:
    """The target of a row: at least `faster` times as fast as a peer, or at most `within` times its cost.

    `peers` are those that it is held against: the best of them that is here.
    """

    peers: tuple[str, ...]
    faster: float | None = None
    within: float | None = None

    def reached(self, result: Result) -> float | None:
        """Return what was reached, in the target's own terms, or None where no peer was there."""
        peer = result.best_of(self.peers)
        if peer is None:
            return None
        return result.ratio(peer) if self.faster is not None else 1 / result.ratio(peer)

    def is_met(self, value: float) -> bool:
        return value >= self.faster if self.faster is not None else value <= (self.within or 0)

    def wanted(self, peer: str) -> str:
        """Say what is wanted: ``≥ 1.2x OpenCV`` is a speed, ``≤ 0.8 of vips`` a share of its time."""
        return f"≥ {self.faster:g}x {peer}" if self.faster is not None else f"≤ {self.within:g} of {peer}"


@dataclass
class Row:
    """One line of the table.

    Attributes
    ----------
    contenders : makes those that take part, by name; one that raises `Unavailable` is left out.
    agree : whether a peer's result is the same as ours; None where there is nothing to compare.
    multiplies, moved : multiply-adds and bytes of the work as it is written down, for the roofline.
    unit : of the samples: ``s`` for seconds, ``MB`` for bytes that are shown in megabytes.
    """

    section: str
    name: str
    contenders: Callable[[], Mapping[str, Callable[[], Contender]]]
    targets: tuple[Target, ...] = ()
    agree: Callable[[Any, Any], bool] | None = None
    multiplies: float = 0.0
    moved: float = 0.0
    unit: str = "s"
    note: str = ""

    @property
    def full_name(self) -> str:
        return f"{self.section}/{self.name}"


@dataclass
class Result:
    """The measurement of a row: for each contender one number a turn."""

    row: Row
    samples: dict[str, list[float]] = field(default_factory=dict)
    differing: set[str] = field(default_factory=set)
    left_out: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return statistics.median(self.samples[name])

    def ratio(self, peer: str) -> float:
        """Return how many times as fast as `peer` we are (for memory and files: how many times as small)."""
        pairs = zip(self.samples[peer], self.samples[OURS], strict=False)
        return statistics.median(theirs / max(ours, 1e-12) for theirs, ours in pairs)

    def best_of(self, peers: Iterable[str]) -> str | None:
        present = [peer for peer in peers if self.samples.get(peer)]
        return min(present, key=self.median) if present and self.samples.get(OURS) else None

    def verdicts(self) -> list[tuple[str, float | None, bool | None]]:
        """Return for each target what is wanted, what was reached and whether it is met."""
        found = []
        for target in self.row.targets:
            value = target.reached(self)
            peer = self.best_of(target.peers) or ", ".join(target.peers)
            found.append((target.wanted(peer), value, None if value is None else target.is_met(value)))
        return found


def measure(row: Row, *, rounds: int, budget: float) -> Result:
    """Run a row's contenders in turns, each at most `rounds` times and about `budget` seconds.

    One that fails does not end the measurements; it is left out, and the table says so.
    """
    result = Result(row)
    ready: dict[str, Contender] = {}
    reference = None
    for name, make in row.contenders().items():
        with _left_out(result, name):
            contender = make()
            found = contender.first()
            if name == OURS:
                reference = found
            elif row.agree and found is not None and reference is not None and not row.agree(reference, found):
                result.differing.add(name)
            slow = name != OURS and row.unit == "s" and contender.took > 2 * budget
            result.samples[name] = [contender.took] if slow else []  # minutes are not spent twice
            if not slow:
                ready[name] = contender
    spent = dict.fromkeys(ready, 0.0)
    for turn in range(rounds):
        for name, contender in ready.items():
            if name not in result.left_out and (turn == 0 or spent[name] < budget or name == OURS):
                with _left_out(result, name):
                    began = time.perf_counter()
                    result.samples[name].append(contender.sample())
                    spent[name] += time.perf_counter() - began
        if spent.get(OURS, 0.0) >= 2 * budget:
            break
    return result


@contextlib.contextmanager
def _left_out(result: Result, name: str) -> Iterator[None]:
    """Leave a contender out of a result if it is unavailable, or fails."""
    try:
        yield
    except Exception as failure:
        result.samples.pop(name, None)
        expected = isinstance(failure, Unavailable)
        result.left_out[name] = str(failure) if expected else f"failed: {type(failure).__name__}: {failure}"
