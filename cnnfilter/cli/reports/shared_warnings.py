"""The warnings of a run over many inputs: one line for each kind of warning, with the number of its inputs."""

from __future__ import annotations

import re
from collections.abc import Iterator

_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?%?")

NAMED_INPUTS_MAX = 3
"""Inputs that the line of a shared warning names."""


class SharedWarnings:
    """Collects warnings of inputs; those that differ only in their numbers are of one kind.

    Examples
    --------
    >>> found = SharedWarnings()
    >>> for name, share in (("a.png", 52), ("b.png", 49), ("c.png", 52)):
    ...     found.add(name, f"{share}% of the samples are clipped")
    >>> list(found.lines())
    [('3 inputs (a.png, b.png, c.png)', '49% to 52% of the samples are clipped')]
    """

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def add(self, name: str, text: str) -> None:
        """Count a warning of the input `name`."""
        self._kinds.setdefault(_NUMBER.sub("0", text), _Kind(text)).add(name, text)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield the inputs and the text of each kind, in the order in which the kinds appeared."""
        for kind in self._kinds.values():
            yield kind.inputs(), kind.text()


class _Kind:
    """The number of the inputs of a kind of warning, the first of their names, and the ranges of its numbers."""

    def __init__(self, text: str) -> None:
        self.parts = _NUMBER.split(text)
        self.ranges = [(number, number) for number in _NUMBER.findall(text)]
        self.count = 0
        self.names: list[str] = []

    def add(self, name: str, text: str) -> None:
        self.count += 1
        if len(self.names) < NAMED_INPUTS_MAX:
            self.names.append(name)
        numbers = _NUMBER.findall(text)
        self.ranges = [
            (min(low, number, key=_value), max(high, number, key=_value))
            for (low, high), number in zip(self.ranges, numbers, strict=True)
        ]

    def inputs(self) -> str:
        if self.count == 1:
            return self.names[0]
        more = ", …" if self.count > len(self.names) else ""
        return f"{self.count} inputs ({', '.join(self.names)}{more})"

    def text(self) -> str:
        numbers = [low if _value(low) == _value(high) else f"{low} to {high}" for low, high in self.ranges]
        return "".join(part + number for part, number in zip(self.parts, [*numbers, ""], strict=True))


def _value(number: str) -> float:
    return float(number.rstrip("%").replace(",", ""))
