"""Kernels as text: their notations, and the errors in them that can be found without importing numpy.

`kind_of` returns the notation of a text. Making arrays of numbers is left to `cnnfilter.kernels.lookup` and
`cnnfilter.kernels.files`.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterable
from typing import Any

from cnnfilter.errors import KernelError
from cnnfilter.kernels.catalogue import ENTRIES, OTHER_NAMES, Entry, Parameter
from cnnfilter.kernels.numbers import looks_like_numbers, numbers_of, read_numbers


def kind_of(text: str) -> str:
    """Return the notation of a kernel: empty, file, name, learned, numbers, path or unknown.

    The first that fits decides, so that a name or a number is never taken for a file.

    Examples
    --------
    >>> [kind_of(text) for text in ("sobel-h", "gaussian:2", "1 2 1", "[[1]]", "@my", "my.txt", "my")]
    ['name', 'name', 'numbers', 'numbers', 'file', 'path', 'unknown']
    """
    if not text:
        return "empty"
    if text[0] == "@":
        return "file"
    if canonical(text.partition(":")[0]) in ENTRIES:
        return "name"
    if re.search(r"\S#\d+(\[|$)", text):
        return "learned"
    if looks_like_numbers(text):
        return "numbers"
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
        case "numbers":
            numbers_of(read_numbers(text).rows)


def bare_numbers(words: Iterable[str]) -> list[str]:
    """Return the numbers at the beginning of the words of a command: several are a kernel without its quotes.

    A number that is the name of a file is none.

    Examples
    --------
    >>> bare_numbers(["-1", "0", "1/9", "photo.jpg"])
    ['-1', '0', '1/9']
    """
    number = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(/\d+)?[,;]?")
    return list(itertools.takewhile(lambda word: number.fullmatch(word) and not os.path.exists(word), words))


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
        hint = "numbers are written '0 -1 0; -1 5 -1; 0 -1 0' or '3x3: 0,-1,0,-1,5,-1,0,-1,0'; "
    shown = text if len(text) <= 60 else text[:57] + "..."
    return KernelError(f"no kernel is called {shown!r}: {hint}`cnnfilter kernels list` shows all")


def empty_error() -> KernelError:
    """Return the error for an empty text."""
    return KernelError("the kernel is empty: give a name (sharpen), numbers ('0 -1 0; -1 5 -1; 0 -1 0') or a file")


def _looks_like_path(text: str) -> bool:
    # os.path.exists returns False, and does not raise, for a text that is too long or contains NUL.
    return "/" in text or os.path.exists(text) or bool(re.search(r"\.(txt|csv|json|npy|mat)$", text, re.IGNORECASE))
