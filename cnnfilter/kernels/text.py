"""Kernels as text: how they are written, and the errors in them that can be found without importing numpy.

`kind_of` says how a kernel is written. Making arrays of numbers is left to `cnnfilter.kernels.lookup` and
`cnnfilter.kernels.files`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from typing import Any

from cnnfilter.errors import KernelError
from cnnfilter.kernels.catalogue import ENTRIES, OTHER_NAMES, Entry, Parameter
from cnnfilter.runtime import limits


def kind_of(text: str) -> str:
    """Return how a kernel is written: empty, file, json, name, learned, rows, path or unknown.

    The first that fits decides, so that a name or a number is never taken for a file.

    Examples
    --------
    >>> [kind_of(text) for text in ("sobel-h", "gaussian:2", "1 2 1", "[[1]]", "@my", "my.txt", "my")]
    ['name', 'name', 'rows', 'json', 'file', 'path', 'unknown']
    """
    if not text:
        return "empty"
    if text[0] in "@[{":
        return "file" if text[0] == "@" else "json"
    if canonical(text.partition(":")[0]) in ENTRIES:
        return "name"
    if re.search(r"#\d+(\[|$)", text):
        return "learned"
    if looks_like_rows(text):
        return "rows"
    return "path" if _looks_like_path(text) else "unknown"


def check(text: str) -> None:
    """Refuse text that is not a kernel, as far as it can be checked without opening a file or importing numpy.

    Raises
    ------
    KernelError
        As `cnnfilter.kernels.lookup.find_kernels`.
    """
    text = text.strip()
    match kind_of(text):
        case "empty":
            raise empty_error()
        case "unknown":
            raise unknown_error(text)
        case "name":
            entry_and_values(text)
        case "rows":
            numbers_of(split_rows(text))
        case "json":
            numbers_of(json_rows(text)[0])


# ---------------------------------------------------------------- names


def canonical(name: str) -> str:
    """Return a name as the catalogue writes it."""
    return name.strip().lower().replace("_", "-")


def entry_and_values(text: str) -> tuple[Entry, list[Any]]:
    """Return the entry of a name, and its checked arguments (none if the name stands for several kernels).

    Examples
    --------
    >>> entry, values = entry_and_values("dog:2")
    >>> entry.name, values
    ('dog', [2.0, 1.6])
    """
    name, colon, arguments = text.partition(":")
    entry = ENTRIES[canonical(name)]
    if entry.members and not colon:
        return entry, []
    if colon and not entry.parameters:
        raise KernelError(f"{entry.name} takes no arguments, {text!r} has some")
    return entry, _values(entry, arguments if colon else None)


def _values(entry: Entry, arguments: str | None) -> list[Any]:
    """Return the checked arguments and the defaults of the rest; those without a default are left to the formula."""
    given = [] if arguments is None else [word.strip() for word in arguments.split(",")]
    if len(given) > len(entry.parameters):
        raise KernelError(
            f"{entry.name} takes {entry.usage}, as in {entry.example}; {len(given)} arguments are too many"
        )
    values = [_value(entry, parameter, word) for parameter, word in zip(entry.parameters, given, strict=False)]
    rest = [p.default for p in entry.parameters[len(given) :] if p.default is not None]
    return values + [int(d) if isinstance(d, int) else d for d in rest]


def _value(entry: Entry, parameter: Parameter, word: str) -> Any:
    if parameter.choices:
        if word.lower() in parameter.choices:
            return word.lower()
        expected = f"one of {' '.join(parameter.choices)}"
    else:
        kind = "a whole number" if parameter.is_integer else "a number"
        expected = f"{kind} from {parameter.minimum:g} to {parameter.maximum_allowed:g}"
        try:
            value: float = int(word) if parameter.is_integer else float(word)
        except ValueError:
            value = math.nan
        if parameter.minimum <= value <= parameter.maximum_allowed:
            return value
        if parameter.maximum is None and parameter.maximum_allowed < value < math.inf:
            expected += f" (--max-kernel {math.ceil(value)} allows it)"
    raise KernelError(
        f"the {parameter.name} of {entry.name} is {expected}, as in {entry.example}; given was {word or 'nothing'!r}"
    )


def unknown_error(text: str) -> KernelError:
    """Return the error for a text that is not a kernel, with a suggestion."""
    import difflib

    name = canonical(text.partition(":")[0]).replace(" ", "-")
    # A name of another program is suggested only for close matches, since "median" must not become "mean".
    elsewhere = difflib.get_close_matches(name, OTHER_NAMES, 1, 0.85)
    near = [OTHER_NAMES[word] for word in elsewhere] or difflib.get_close_matches(name, ENTRIES, 3, 0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    if re.match(r"\d+x\d+", text):
        # ImageMagick's notation. It is not accepted, as some of its operators flip the kernel and some do not.
        hint = "rows of numbers are written '0 -1 0; -1 5 -1; 0 -1 0'; "
    shown = text if len(text) <= 60 else text[:57] + "..."
    return KernelError(f"no kernel is called {shown!r}: {hint}`cnnfilter kernels list` shows all")


def empty_error() -> KernelError:
    """Return the error for an empty text."""
    return KernelError("the kernel is empty: give a name (sharpen), numbers ('0 -1 0; -1 5 -1; 0 -1 0') or a file")


def _looks_like_path(text: str) -> bool:
    # os.path.exists returns False, and does not raise, for a text that is too long or contains NUL.
    return "/" in text or os.path.exists(text) or bool(re.search(r"\.(txt|csv|json|npy|mat)$", text, re.IGNORECASE))


# ---------------------------------------------------------------- numbers


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
