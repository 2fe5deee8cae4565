"""Kernels that are written as numbers: rows of text, the notations of other tools, JSON, and the errors in them.

=========================================  =========================================================================
``0 -1 0; -1 5 -1; 0 -1 0``                rows between semicolons or line ends; numbers between spaces or commas
``0 -1 0, -1 5 -1, 0 -1 0``                rows between commas, numbers between spaces
``0,-1,0 -1,5,-1 0,-1,0``                  rows between spaces, numbers between commas
``[0 -1 0; -1 5 -1; 0 -1 0]``              Octave and Julia
``[[0, -1, 0], [-1, 5, -1], [0, -1, 0]]``  Python and JSON; numpy prints it without commas
``{{0,-1,0},{-1,5,-1},{0,-1,0}}``          C and Mathematica
``((0,-1,0), (-1,5,-1), (0,-1,0))``        tuples of Python
``3x3: 0,-1,0,-1,5,-1,0,-1,0``             ImageMagick, square sizes only
``1 2 1;``                                 one row
=========================================  =========================================================================

A row of 9, 25, 49, … numbers could be a square kernel in the notation of other tools. It is refused unless a semicolon,
a size or a second pair of brackets says which of the two it is. Comments, continued lines and decimal commas are left
to `cnnfilter.kernels.plain_text`, making arrays of the numbers to `cnnfilter.kernels.files`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from cnnfilter.errors import KernelError, count_text
from cnnfilter.kernels.plain_text import plain_text, refuse_decimal_commas
from cnnfilter.runtime import limits

_EXAMPLE = "'0 -1 0; -1 5 -1; 0 -1 0'"
_SHOWN_CHARACTERS_MAX = 80
"""Longest row that a message repeats in full, so that the message stays on one or two lines of a terminal."""

# ImageMagick's geometry before the colon: WIDTHxHEIGHT or one SIDE, and the position of the origin.
_SIZE = r"(?s)(\d{1,9})(?:[xX](\d{1,9}))?([+-]\d{1,9}[+-]\d{1,9})?\s*:\s*(.*)"
# A decimal number of C with the suffix of its type, as in 0.5f.
_C_FLOAT = r"([-+]?(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?)[fF]"
_BRACKETS = str.maketrans("{}()", "[][]")
_OPENING_BRACKETS = ("[", "{", "(")


class Written(NamedTuple):
    """The words of each row, and a divisor and an offset if the text gives them."""

    rows: list[list[Any]]
    divisor: Any = None
    offset: Any = None


def looks_like_numbers(text: str) -> bool:
    """Return whether a text is meant as numbers: brackets, several rows, a size, or a number at its beginning."""
    if text.removeprefix("\ufeff")[:1] in _OPENING_BRACKETS or ";" in text or "\n" in text or re.fullmatch(_SIZE, text):
        return True
    first = re.split(r"[\s,]", text.removeprefix("\ufeff").strip(), maxsplit=1)[0]
    try:
        value_of(first)
    except ZeroDivisionError:
        return True
    except ValueError:
        return False
    return True


def read_numbers(text: str) -> Written:
    """Return the numbers of a text in any notation, as words.

    Raises
    ------
    KernelError
        If the text is in no notation, or can mean a square kernel as well as one row. Words that are not numbers, and
        rows that differ in length, are left to `numbers_of`.

    Examples
    --------
    >>> read_numbers("1, 2; 1/3 4").rows
    [['1', '2'], ['1/3', '4']]
    >>> read_numbers("{{1, 2}, {3, 4}}").rows == read_numbers("2x2: 1,2,3,4").rows == read_numbers("1 2, 3 4").rows
    True
    >>> read_numbers("0,-1,0,-1,5,-1,0,-1,0")
    Traceback (most recent call last):
    cnnfilter.errors.KernelError: 9 numbers in a row can be a kernel of 3x3 or one row: write '3x3: 0,-1,0,-1,5,-1,...
    """
    plain = plain_text(text)
    if plain[:1] == "(":
        text = text.translate(_BRACKETS)
    if plain[:1] in _OPENING_BRACKETS:
        return read_brackets(text)
    if size := re.fullmatch(_SIZE, plain):
        return Written(_sized_rows(*size.groups()))
    refuse_decimal_commas(plain)
    return Written(_plain_rows(plain))


def _plain_rows(text: str) -> list[list[str]]:
    """Return the words of rows between semicolons, line ends, commas or spaces."""
    lines = lines_of(text)
    if len(lines) > 1 and all(line.endswith(",") for line in lines[:-1]):
        lines = [line.rstrip(", ") for line in lines]
    closed = lines[0].removesuffix(";").split(";") if len(lines) == 1 else []
    if len(closed) > 1 and all(row.rstrip().endswith(",") for row in closed[:-1]):
        lines = [";".join(row.rstrip(", ") for row in closed)]
    if len(lines) == 1 and ";" not in lines[0]:
        rows = _rows_of_line(lines[0])
        if len(rows) == 1:
            refuse_ambiguous(rows[0])
        return rows
    rows = []
    for line in lines:
        rows += [cells_of(row, len(rows) + n) for n, row in enumerate(line.removesuffix(";").split(";"), 1)]
    return rows


def _rows_of_line(line: str) -> list[list[str]]:
    """Return the rows of a line without semicolons: of commas and spaces, the one that comes first is inside a row.

    Examples
    --------
    >>> _rows_of_line("1 2, 3 4") == _rows_of_line("1,2 3,4") == _rows_of_line("1, 2  3, 4")
    True
    >>> _rows_of_line("1, 2, 3")
    [['1', '2', '3']]
    """
    separators = re.findall(r"\s*,\s*|\s+", line)
    if len({"," in separator for separator in separators}) < 2:
        return [cells_of(line, 1)]
    between_rows = r"(?<![\s,])\s+(?![\s,])" if "," in separators[0] else r"\s*,\s*"
    return [cells_of(row, number) for number, row in enumerate(re.split(between_rows, line), 1)]


def _sized_rows(width: str, height: str | None, origin: str | None, body: str) -> list[list[str]]:
    """Return the rows of ImageMagick's notation, which gives the size before the numbers."""
    height = width if height is None else height
    size = f"{width}x{height}"
    if int(width) != int(height):
        raise _oblong_error(int(width), int(height), re.split(r"[\s,;]+", body.strip(" ,;\n")))
    side = int(width)
    check_size(side, side)
    if origin and [int(number) for number in re.findall(r"[+-]\d+", origin)] != [(side - 1) // 2] * 2:
        raise KernelError(f"'{size}{origin}:': the middle of a kernel cannot be moved; write '{size}:'")
    if ":" in body:
        raise KernelError(f"'{size}: …' holds several kernels; give each one by itself")
    body = body.strip()
    if body[:1] in ("[", "{") and body[-1:] in ("]", "}"):
        body = re.sub(r"[\[\]{}]", " ", body) if ";" in body else re.sub(r"[\[\]{}]", " , ", body)
        body = re.sub(r"(\s*,)+", ",", body)
    body = body.removesuffix(";")
    if ";" in body:
        rows = _plain_rows(body)
        if [len(row) for row in rows] != [side] * side:
            wanted = f"{count_text(side, 'row')} of {count_text(side, 'number')}"
            raise KernelError(f"'{size}:' needs {wanted}, and there are {len(rows)} rows")
        return rows
    cells = re.split(r"\s*,\s*|\s+", body.strip(" ,\t\r\n"))
    if len(cells) != side * side:
        count = len(cells) if cells != [""] else 0
        raise KernelError(f"'{size}:' needs {count_text(side * side, 'number')}, and there are {count}")
    return [cells[start : start + side] for start in range(0, side * side, side)]


def _oblong_error(width: int, height: int, cells: list[str]) -> KernelError:
    """Return the error for a size that is not square, with the numbers in both orders."""
    message = (
        f"'{width}x{height}:' is width x height in ImageMagick, and every size here is height x width; "
        "only square sizes mean one thing: write "
    )
    if len(cells) != width * height:
        return KernelError(f"{message}rows, as in {_EXAMPLE}")
    wide, narrow = ("; ".join(" ".join(cells[i : i + n]) for i in range(0, len(cells), n)) for n in (width, height))
    closed = (text if ";" in text else f"{text};" for text in map(_shown, (wide, narrow)))
    return KernelError("{}'{}' or '{}'".format(message, *closed))


def refuse_ambiguous(cells: Sequence[Any]) -> None:
    """Refuse a row without a mark of its end that could also be a square kernel: of 9, 25, 49, … numbers."""
    if not could_be_square(len(cells)):
        return
    side = math.isqrt(len(cells))
    words = [str(cell) for cell in cells]
    square, row = _shown(",".join(words)), _shown(" ".join(words))
    raise KernelError(
        f"{len(words)} numbers in a row can be a kernel of {side}x{side} or one row: "
        f"write '{side}x{side}: {square}' or '{row};'"
    )


def refuse_ambiguous_shape(count: int) -> None:
    """Refuse an array without rows of a length that could also be a square kernel."""
    if could_be_square(count):
        side = math.isqrt(count)
        raise KernelError(
            f"{count} numbers without rows can be a kernel of {side}x{side} or one row: "
            f"give them the shape ({side}, {side}) or (1, {count})"
        )


def could_be_square(count: int) -> bool:
    """Return whether so many numbers in a row could be a square kernel with a middle: 9, 25, 49, …"""
    side = math.isqrt(count)
    return count >= 9 and count % 2 == 1 and side * side == count


def _shown(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS_MAX:
        return text
    return re.sub(r"[^\s,]*$", "", text[: _SHOWN_CHARACTERS_MAX // 2]) + "…"


def lines_of(text: str) -> list[str]:
    """Return the lines of a text without blank lines and comments."""
    stripped = (line.strip() for line in plain_text(text).splitlines())
    return [line for line in stripped if line]


def cells_of(row: str, number: int) -> list[str]:
    """Return the words of a row, which are separated by spaces or commas."""
    if not row.strip():
        raise KernelError(f"row {number} is empty")
    return re.split(r"\s*,\s*|\s+", row.strip())


# ---------------------------------------------------------------- brackets and JSON


def read_brackets(text: str) -> Written:
    """Return the numbers of JSON, or of rows in brackets as in Octave, numpy, C and Mathematica.

    Raises
    ------
    KernelError
        As `read_numbers`.
    """
    import json  # here, because names and rows do not need it

    plain = text
    try:
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            plain = plain_text(text)
            value = json.loads(plain)
    except RecursionError:
        raise KernelError(
            "not a kernel: lists nested too deeply; write [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]"
        ) from None
    except ValueError as error:
        if plain[:1] in ("[", "{") and '"' not in plain and re.search(r"\w", plain):
            refuse_decimal_commas(plain)
            return Written(_bracketed_rows(plain.translate(_BRACKETS)))
        raise KernelError(f"not JSON: {error}") from None
    return _json_rows(value, plain)


def _json_rows(value: Any, text: str) -> Written:
    divisor = offset = None
    if isinstance(value, dict):
        divisor, offset, value = value.get("divisor"), value.get("offset"), value.get("weights")
    if isinstance(value, list) and value and not any(isinstance(row, list) for row in value):
        refuse_ambiguous(value)
        if text.startswith("["):
            _refuse_broken_row(text.strip()[1:-1])
        value = [value]
    if not isinstance(value, list) or not all(isinstance(row, list) for row in value):
        raise KernelError("JSON for a kernel is a list of rows, as in [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]")
    return Written(value, divisor, offset)


def _bracketed_rows(text: str) -> list[list[str]]:
    """Return the rows of ``[a b; c d]`` or ``[[a, b], [c, d]]``; the latter may lack its commas."""
    match = re.fullmatch(r"\[(.*)\]\s*(;?)", text, re.DOTALL)
    if match is None:
        last = max(text.rfind("]"), 0)
        after = text[last + 1 :].strip() if last else ""
        said = f"{_excerpt([after])!r} stands after the last bracket" if after else "a bracket is not closed"
        raise KernelError(f"{said}: write [0 -1 0; -1 5 -1; 0 -1 0]")
    inner, closing = match[1].strip(), match[2]
    if "[" not in inner and "]" not in inner:
        return _rows_in_one_pair(inner, closing)
    row = re.compile(r"\[([^\[\]]*)\]")
    if not re.fullmatch(r"[\s,;]*", row.sub("", inner)) or any(";" in cells for cells in row.findall(inner)):
        raise KernelError(f"brackets hold one row each, as in [[0, -1, 0], [-1, 5, -1], [0, -1, 0]], or {_EXAMPLE}")
    return [cells_of(cells.strip().removesuffix(","), n) for n, cells in enumerate(row.findall(inner), 1)]


def _rows_in_one_pair(inner: str, closing: str) -> list[list[str]]:
    """Return the rows of the text between one pair of brackets, in which a comma never ends a row."""
    if ";" in inner:
        return _plain_rows(inner)
    lines = inner.splitlines()
    if len(lines) > 1 and not any(line.rstrip().endswith(",") for line in lines[:-1]):
        return _plain_rows(inner)
    _refuse_broken_row(inner)
    flat = inner.replace("\n", " ").strip().removesuffix(",")
    if len(rows := _rows_of_line(flat)) > 1:
        raise KernelError(
            f"commas and spaces in one pair of brackets can mean {len(rows)} rows or one: "
            f"write [0 -1 0; -1 5 -1; 0 -1 0], or [0 -1 0;] for one row"
        )
    if not closing:
        refuse_ambiguous(rows[0])
    return rows


def _refuse_broken_row(inner: str) -> None:
    """Refuse a flat list whose numbers stand on several lines, and several of them on a line."""
    lines = [line.strip().strip(",") for line in inner.splitlines() if line.strip()]
    if len(lines) > 1 and any(len(re.split(r"[\s,]+", line)) > 1 for line in lines):
        cells = [cell for line in lines for cell in cells_of(line, 1)]
        refuse_ambiguous(cells)
        raise KernelError(
            f"{len(cells)} numbers on {len(lines)} lines of one list can be {len(lines)} rows or one: "
            f"write [[…], […]], or '{_shown(' '.join(cells))};' for one row"
        )


# ---------------------------------------------------------------- words


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
    if match := re.fullmatch(_C_FLOAT, cell):
        cell = match[1]
    above, slash, below = cell.replace("\N{MINUS SIGN}", "-").partition("/")
    return float(above) / float(below) if slash else float(above)
