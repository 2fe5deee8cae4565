"""Kernels that are written as numbers: rows of text and JSON, and the errors in them.

Making arrays of the numbers is left to `cnnfilter.kernels.files`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from cnnfilter.errors import KernelError
from cnnfilter.runtime import limits


def looks_like_rows(text: str) -> bool:
    """Return whether a text is meant as numbers: it has several rows, or begins with a number."""
    if ";" in text or "\n" in text:
        return True
    first = re.split(r"[\s,]", text.strip(), maxsplit=1)[0]
    try:
        value_of(first)
    except ZeroDivisionError:
        return True
    except ValueError:
        return False
    return True


def split_rows(text: str) -> list[list[str]]:
    """Return the words of each row; rows end at ``;`` or at the line's end.

    Examples
    --------
    >>> split_rows("1, 2; 1/3 4")
    [['1', '2'], ['1/3', '4']]
    """
    rows: list[list[str]] = []
    for line in lines_of(text):
        rows += [cells_of(row, len(rows) + n) for n, row in enumerate(line.removesuffix(";").split(";"), 1)]
    return rows


def lines_of(text: str) -> list[str]:
    """Return the lines of a text without blank lines and ``#`` comments."""
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def cells_of(row: str, number: int) -> list[str]:
    """Return the words of a row, which are separated by spaces or commas."""
    if not row.strip():
        raise KernelError(f"row {number} is empty")
    return re.split(r"\s*,\s*|\s+", row.strip())


def json_rows(text: str) -> tuple[list[list[Any]], Any, Any]:
    """Return the rows of a JSON text, and its divisor and offset or None."""
    import json  # here, because names and rows do not need it

    try:
        value = json.loads(text)
    except RecursionError:
        raise KernelError(
            "not a kernel: lists nested too deeply; write [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]"
        ) from None
    except ValueError as error:
        raise KernelError(f"not JSON: {error}") from None
    divisor = offset = None
    if isinstance(value, dict):
        divisor, offset, value = value.get("divisor"), value.get("offset"), value.get("weights")
    if isinstance(value, list) and value and not any(isinstance(row, list) for row in value):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(row, list) for row in value):
        raise KernelError("JSON for a kernel is a list of rows, as in [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]")
    return value, divisor, offset


def numbers_of(rows: Sequence[Any]) -> list[list[float]]:
    """Return rows of numbers or words as numbers.

    Raises
    ------
    KernelError
        If there are no numbers, rows differ in length, a word is not a finite number, or a side is longer than
        ``limits.kernel_side``. The message names the row and the number.

    Examples
    --------
    >>> numbers_of([[1, 2], [3]])
    Traceback (most recent call last):
    cnnfilter.errors.KernelError: row 2 has 1 number (3), row 1 has 2: every row needs as many
    """
    rows = [row if isinstance(row, list | tuple) else [row] for row in rows]
    if not any(len(row) for row in rows):
        raise KernelError("a kernel needs at least one number, as in '0 -1 0; -1 5 -1; 0 -1 0'")
    check_size(len(rows), max(len(row) for row in rows))
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            have = "1 number" if len(row) == 1 else f"{len(row)} numbers"
            raise KernelError(
                f"row {number} has {have} ({_excerpt(row)}), row 1 has {len(rows[0])}: every row needs as many"
            )
    return [[_number(cell, i, j) for j, cell in enumerate(row, 1)] for i, row in enumerate(rows, 1)]


def check_size(height: int, width: int) -> None:
    """Refuse a kernel without weights, or with a side longer than `limits.kernel_side`."""
    if min(height, width) < 1:
        raise KernelError(f"a kernel of {height}x{width} has no numbers")
    if max(height, width) > limits.kernel_side:
        raise KernelError(
            f"a kernel of {height}x{width} is too large: {limits.kernel_side} a side is the most "
            f"(--max-kernel {max(height, width)} allows it)"
        )


def _excerpt(cells: Sequence[Any]) -> str:
    words = " ".join(str(cell) for cell in cells)
    return words if len(words) <= 40 else words[:37] + "..."


def _number(cell: Any, i: int, j: int) -> float:
    position = f"row {i}, column {j}"
    try:
        value = value_of(cell)
    except ZeroDivisionError:
        raise KernelError(f"{position}: {cell} divides by zero") from None
    except (ValueError, TypeError, OverflowError):
        shown = "nothing" if cell == "" else repr(cell) if isinstance(cell, str) else str(cell)
        raise KernelError(f"{position}: {_excerpt([shown])} is not a number") from None
    if not math.isfinite(value):
        raise KernelError(f"{position}: {cell} is not a finite number")
    return value


def value_of(cell: Any) -> float:
    """Return the number of a word such as ``-1``, ``0.5`` or ``1/9``.

    Raises
    ------
    ValueError, TypeError, OverflowError, ZeroDivisionError
        If the word is not a number.
    """
    if isinstance(cell, bool) or cell is None:
        raise TypeError
    if not isinstance(cell, str):
        return float(cell)
    above, slash, below = cell.replace("\N{MINUS SIGN}", "-").partition("/")
    return float(above) / float(below) if slash else float(above)
