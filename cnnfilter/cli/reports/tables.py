"""Rows of cells as lines of text: aligned for people, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines, the first column aligned to the left and the others to the right.

    >>> aligned([("a", "10"), ("bcd", "5")])
    ['a    10', 'bcd   5']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]


def csv_line(cells: Iterable[Any]) -> str:
    """Return cells as one line of CSV, without the end of the line.

    >>> csv_line(["a.png", 1, "red, blue"])
    'a.png,1,"red, blue"'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # cells that hold a character of it are put between quotes
    return text.getvalue().removesuffix("\r\n")
