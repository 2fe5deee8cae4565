"""Messages of one line, without control characters that a terminal would act on; and exit codes.

A character that the encoding of stdout or stderr lacks is written in ASCII.
"""

from __future__ import annotations

import codecs
import os
import sys
import warnings
from collections.abc import Iterable
from typing import Any

import click

from cnnfilter.errors import CompileMemoryError
from cnnfilter.runtime import limits

QUIET = "cnnfilter.quiet"
"""The key in the data that a context of click shares with its parents: whether ``--quiet`` was given."""

EXIT_FAILED = 1
EXIT_CHECK_FAILED = 4


def one_line(text: str, keep: str = "") -> str:
    r"""Return `text` with every control character and undecodable byte escaped, except those in `keep`.

    >>> print(one_line("a\nb\x1b[31m.png"))
    a\nb\x1b[31m.png
    """
    return "".join(char if char.isprintable() or char in keep else _escaped(char) for char in text)


_ASCII_CHARACTERS = {
    "…": "...",
    "·": ".",
    "−": "-",
    "–": "-",
    "─": "-",
    "├": "|",
    "└": "`",
    "░": ".",
    "▒": ":",
    "▓": "*",
    "█": "#",
    "×": "x",
    "→": "->",
    "°": " deg",
    "²": "^2",
    "⁴": "^4",
    "α": "alpha",
    "σ": "sigma",
    "Σ": "sum",
    "π": "pi",
}
"""The ASCII text for each character of a message that the encoding of the stream may lack."""


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return the characters that an encoding lacks in ASCII: the handler of encoding errors of stdout and stderr."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_ASCII_CHARACTERS.get(char) or _escaped(char) for char in lacking), error.end


def accept_every_character() -> None:
    """Let stdout and stderr write every character, in whatever encoding they have (``PYTHONIOENCODING=latin-1``).

    A handler of errors that the user has named there is kept.
    """
    codecs.register_error("cnnfilter.ascii", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) in ("strict", "surrogateescape", "backslashreplace"):
            stream.reconfigure(errors="cnnfilter.ascii")  # type: ignore[union-attr]


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte of a file name that is not UTF-8 (PEP 383)
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def reason(error: BaseException) -> str:
    """Return the message of an expected error, without the name of the file.

    >>> reason(FileNotFoundError(2, "No such file or directory", "a.png"))
    'no such file or directory'
    """
    if isinstance(error, MemoryError) and not isinstance(error, CompileMemoryError):
        return f"there is not enough memory for it{_memory_limit_text()}"
    if isinstance(error, FileExistsError):
        return "exists already; --force replaces it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return str(error) or type(error).__name__


def _memory_limit_text() -> str:
    names = ("ulimit -v", "--max-memory" if limits.memory else "ulimit -d")
    allowed = [(size, name) for size, name in zip(limits.allowed_memory(), names, strict=True) if size is not None]
    return "".join(f"; {size >> 20} MB are allowed ({name})" for size, name in sorted(allowed)[:1])


def say(*parts: str) -> None:
    """Write one line such as ``Error: a.png: no such file or directory`` to stderr."""
    click.echo(one_line(": ".join(parts)), err=True)


def print_line(text: str, end: str = "\n") -> None:
    """Write a line to stdout: paths byte for byte, or with control characters escaped if stdout is a terminal."""
    if sys.stdout.isatty():
        click.echo(one_line(text))
    else:
        click.echo(os.fsencode(text + end), nl=False)


def print_paths(text: str, end: str) -> None:
    """Write a path, or a line that holds paths, to stdout.

    In a list whose paths end with the end of a line, a line break in a path is written as ``\\n``, with a warning.
    """
    if end == "\n" and "\n" in text and not sys.stdout.isatty():
        warnings.warn("a path holds a line break, which is written as \\n; -0 writes paths as they are", stacklevel=2)
        text = text.replace("\n", "\\n")
    print_line(text, end)


def json_line(value: Any) -> str:
    """Return a value as a line of JSON: in ASCII if a character is invisible, or lacking in the encoding of stdout."""
    import json

    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text if text.isprintable() else json.dumps(value)


def print_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Write lines of text to stdout or stderr, with control characters escaped."""
    click.echo("\n".join(map(one_line, lines)), err=err)
