"""The table of ``describe``: one row for each layer, and totals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cnnfilter.cli.messages import one_line

if TYPE_CHECKING:
    from cnnfilter.layers.summary import LayerCost, Summary


_COLUMN_NAMES = ("", "layer", "output", "parameters", "multiply-adds", "memory", "sees", "fully connected", "size")
"""Names above the columns; ``sees`` is the receptive field, ``size`` the formula of the output size."""

_LEFT_ALIGNED_COLUMNS = {"layer", "output", "size"}
"""The columns of text; all others hold numbers, which end at the same place."""


def layer_table(summary: Summary) -> Iterable[str]:
    """Return a summary as lines of text: one row for each layer, then the totals."""
    start = ("", "input", _shape(summary.input), "", "", size_text(math.prod(summary.input) * 4), "", "", "")
    cells: list[Sequence[str]] = [_COLUMN_NAMES, start]
    for number, row in enumerate(summary.rows, 1):
        first, *more = row.formula.split("\n")
        cells.append((*_cells(number, row), first))
        cells.extend(("",) * (len(_COLUMN_NAMES) - 1) + (line,) for line in more)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        aligned = (
            cell.ljust(width) if name in _LEFT_ALIGNED_COLUMNS else cell.rjust(width)
            for name, cell, width in zip(_COLUMN_NAMES, line, widths, strict=True)
        )
        yield "  ".join(aligned).rstrip()
    yield ""
    yield from _totals(summary)


def _cells(number: int, row: LayerCost) -> tuple[str, ...]:
    return (
        str(number),
        one_line(row.layer),
        _shape(row.output),
        f"{row.parameters:,}",
        f"{row.multiply_adds:,}",
        size_text(row.memory),
        _shape(row.receptive_field) if row.receptive_field else "all",
        "" if row.fully_connected is None else f"{row.fully_connected:,}",
    )


def _totals(summary: Summary) -> Iterable[str]:
    yield f"parameters     {summary.parameters:,} ({size_text(summary.parameters * 4)} as float32)"
    yield f"multiply-adds  {summary.multiply_adds:,}"
    yield (
        f"memory         {size_text(summary.memory)} for the input and all maps;"
        f" {size_text(summary.peak_memory)} for the largest input and output of a layer"
    )
    if summary.fully_connected:
        yield f"beside it      fully connected layers of the same outputs: {_fully_connected(summary)}"


def _fully_connected(summary: Summary) -> str:
    needed = f"{summary.fully_connected:,} parameters"
    if not summary.parameters:
        return needed
    ratio = summary.fully_connected / summary.parameters
    return f"{needed}, {ratio:,.{0 if ratio >= 10 else 1}f} times as many"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def size_text(count: int) -> str:
    """Return a number of bytes with a decimal unit.

    >>> size_text(128), size_text(100_352), size_text(12_345_678)
    ('128 B', '100.4 kB', '12.3 MB')
    """
    if count < 1000:
        return f"{count} B"
    unit = next(unit for unit in _UNIT_BYTES if count < 999_950 * _UNIT_BYTES[unit] / 1000 or unit == "TB")
    return f"{count / _UNIT_BYTES[unit]:,.1f} {unit}"


_UNIT_BYTES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
"""Bytes of each decimal unit (IEC 80000-13)."""
