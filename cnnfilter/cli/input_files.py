"""The files that a command reads: from INPUT, from lists of files, and from folders by patterns."""

from __future__ import annotations

import codecs
import errno
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import click

from cnnfilter.errors import ImageError
from cnnfilter.images.formats.detect import SUFFIXES, TEXT_FORMATS, UNREADABLE_SUFFIXES, sniff
from cnnfilter.jobs.source_target import STDIN, Source


class Patterns:
    """Patterns of paths: a path must match one of `include`, if there are any, and none of `exclude`.

    ``*``, ``?`` and ``[…]`` mean the same as in a shell, but case is ignored, and ``*`` matches slashes too.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self.include = [_with_slashes(pattern.lower()) for pattern in include]
        self.exclude = [_with_slashes(pattern.lower()) for pattern in exclude]

    @property
    def any(self) -> bool:
        """Return whether there are any patterns."""
        return bool(self.include or self.exclude)

    def file(self, path: str) -> bool:
        """Return whether a file is read.

        >>> Patterns(["*.jpg"], ["*/raw/*"]).file("a/B.JPG"), Patterns(["*.jpg"], ["*/raw/*"]).file("a/raw/b.jpg")
        (True, False)
        """
        return (not self.include or _matches(path, self.include)) and not _matches(path, self.exclude)

    def folder(self, path: str) -> bool:
        """Return whether a folder is searched."""
        return not _matches(path, self.exclude)


ALL_PATHS = Patterns()


def _matches(path: str, patterns: list[str]) -> bool:
    from fnmatch import fnmatchcase

    path = _with_slashes(path.lower())
    name = path.rpartition("/")[2]
    return any(fnmatchcase(path if "/" in pattern else name, pattern) for pattern in patterns)


def _with_slashes(path: str) -> str:
    """Return a path or pattern with slashes between its parts: Windows has backslashes, and takes both."""
    return path if os.sep == "/" else path.replace(os.sep, "/")


SHELL_EXPANDS_PATTERNS = os.name != "nt"
"""Whether the shell replaces ``*.jpg`` by the files that match, before the command runs; those of Windows do not."""


def _expanded(paths: Iterable[str]) -> Iterator[str]:
    """Yield the paths, with patterns replaced by the files that match, in order, where the shell has not done it."""
    from glob import glob

    for path in paths:
        found = sorted(glob(path)) if set(path) & set("*?[") and not os.path.lexists(path) else []
        yield from found or [path]


class Selection:
    """The options that select the inputs of a command."""

    OPTIONS: tuple[Callable[..., Any], ...] = (
        click.argument("input", nargs=-1, type=click.Path(readable=False)),
        click.option(
            "--files-from",
            type=click.Path(readable=False),
            metavar="FILE",
            help="Read also the files that FILE lists, one path a line; - is stdin.",
        ),
        click.option(
            "-0",
            "--null",
            "--print0",
            "null",
            is_flag=True,
            help="End paths with a NUL instead of a line's end, in --files-from and in the output.",
        ),
        click.option(
            "-r",
            "--recursive",
            is_flag=True,
            help="Read the pictures in folders and their subfolders. Names that begin with a dot are left out.",
        ),
        click.option(
            "--include",
            metavar="GLOB",
            multiple=True,
            help="Read only files whose name matches, such as '*.jpg'; a GLOB with a slash has to match the "
            "path: 'photos/2024*'.",
        ),
        click.option("--exclude", metavar="GLOB", multiple=True, help="Leave out files and folders that match."),
    )

    def __init__(
        self,
        *,
        input: tuple[str, ...] = (),
        files_from: str | None = None,
        null: bool = False,
        recursive: bool = False,
        include: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
    ) -> None:
        given = input if SHELL_EXPANDS_PATTERNS else _expanded(input)
        self.paths = list(given) if input or files_from is not None else ["-"]
        self.files_from = files_from
        self.end = "\0" if null else "\n"
        self.recursive = recursive
        self.matches = Patterns(include, exclude)
        self.left_out: Counter[str] = Counter()
        if [*self.paths, files_from].count("-") > 1:
            raise click.BadParameter("'-' (stdin) can be read only once.", param_hint="'INPUT'")
        if "-" in (*self.paths, files_from) and sys.stdin is not None and sys.stdin.isatty():
            _refuse_terminal(explicit=bool(input) or files_from is not None)

    def sources(self, leave_out: str | None = None) -> list[Source]:
        """Return the sources to read; folders are searched without `leave_out`, the folder of the results."""
        paths = [*self.paths, *self._listed]
        self.left_out.clear()
        found = list(
            find_sources(paths, self.recursive, leave_out=leave_out, matches=self.matches, left_out=self.left_out)
        )
        if not found and self.files_from is None:
            raise click.BadParameter("--include and --exclude leave none of the inputs.", param_hint="'INPUT'")
        return found

    @property
    def is_one(self) -> bool:
        """Return whether the input is one file or stream; a list or a folder may hold any number of files."""
        folder = self.recursive and os.path.isdir(self.paths[0]) if self.paths else False
        return len(self.paths) == 1 and self.files_from is None and not folder

    @cached_property
    def _listed(self) -> list[str]:
        """The paths in the file `files_from`; the name - stands for a file there, not for stdin."""
        if self.files_from is None:
            return []
        try:
            data = _read(self.files_from)
        except OSError as error:
            raise click.BadParameter(f"{self.files_from!r}: {error.strerror}.", param_hint="'--files-from'") from error
        paths = [os.fsdecode(path) for path in _utf_8(data).split(self.end.encode()) if path]
        if self.end == "\n" and any("\0" in path for path in paths):
            raise click.BadParameter("there are NULs in it: say -0 too.", param_hint="'--files-from'")
        if self.end == "\n":
            paths = [path for path in map(_without_carriage_return, paths) if path]
        return ["./-" if path == "-" else path for path in paths]


def _utf_8(data: bytes) -> bytes:
    """Return the text of a list in UTF-8 without a byte order mark, with which a list from Windows may begin."""
    for mark, encoding in (
        (codecs.BOM_UTF8, ""),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            rest = data[len(mark) :]
            return rest.decode(encoding, "replace").encode("utf-8", "replace") if encoding else rest
    return data


def _without_carriage_return(path: str) -> str:
    """Return a path without the carriage return of a line's end of Windows, unless a file has that name."""
    return path[:-1] if path.endswith("\r") and not os.path.lexists(path) else path


def _read(path: str) -> bytes:
    if path != "-":
        with open(path, "rb") as file:
            return file.read()
    if sys.stdin is None:
        raise OSError(errno.EBADF, "stdin is closed")
    return sys.stdin.buffer.read()


def _refuse_terminal(explicit: bool) -> None:
    """Raise a usage error with examples, because a terminal is no source of pictures."""
    command = click.get_current_context().command_path
    what = "'-' is the terminal" if explicit else "no picture was given"
    raise click.UsageError(
        f"{what}. Name a file, or send one through a pipe:\n  {command} photo.jpg …\n  cat photo.jpg | {command} …"
    )


def find_sources(
    inputs: Sequence[str],
    recursive: bool = False,
    *,
    leave_out: str | None = None,
    matches: Patterns = ALL_PATHS,
    left_out: Counter[str] | None = None,
) -> Iterator[Source]:
    """Yield the sources to read; with `recursive`, every picture in the folders among the inputs and below them.

    The entries of a folder are sorted. Hidden ones are skipped, and so is the folder `leave_out`, which receives the
    results. `left_out` counts the pictures in folders that cannot be read, by their formats.
    """
    left_out = Counter() if left_out is None else left_out
    for path in inputs:
        if recursive and path != STDIN and os.path.isdir(path):
            yield from _walk(path, leave_out, matches, left_out)
        elif path == STDIN or matches.file(path):
            yield Source(path)


def _walk(folder: str, leave_out: str | None, matches: Patterns, left_out: Counter[str]) -> Iterator[Source]:
    found = False
    left_out_here: Counter[str] = Counter()
    unreadable: list[OSError] = []
    for root, folders, files in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and matches.folder(path := os.path.normpath(os.path.join(root, name)))
            and not _is_same_folder(path, leave_out)
        )
        for name in sorted(files):
            path = os.path.normpath(os.path.join(root, name))
            if name.startswith(".") or not matches.file(path):
                continue
            if _is_picture(path, matches):
                found = True
                yield Source(path)
            elif format := UNREADABLE_SUFFIXES.get(os.path.splitext(path)[1].lower()):
                left_out_here[format] += 1
    left_out.update(left_out_here)
    yield from (Source(error.filename, error) for error in unreadable)
    if not found and not unreadable:
        of_those = " that --include and --exclude leave" if matches.any else ""
        others = f" ({describe_left_out(left_out_here)})" if left_out_here else ""
        raise click.BadParameter(
            f"there is no picture in the folder {folder!r}{of_those}{others}.", param_hint="'INPUT'"
        )


def describe_left_out(left_out: Counter[str]) -> str:
    """Return how many files are left out, and their formats.

    >>> describe_left_out(Counter({"HEIC": 3, "JPEG XL": 1}))
    '4 files are left out, because their formats cannot be read: HEIC (3), JPEG XL (1)'
    """
    total = left_out.total()
    if total == 1:
        return f"1 file is left out, because its format cannot be read: {next(iter(left_out))}"
    formats = ", ".join(f"{format} ({count})" for format, count in left_out.most_common())
    return f"{total:,} files are left out, because their formats cannot be read: {formats}"


def _is_same_folder(path: str, other: str | None) -> bool:
    return other is not None and os.path.exists(other) and os.path.samefile(path, other)


def _is_picture(path: str, matches: Patterns) -> bool:
    """Return whether the suffix or the content of a file in a folder is that of a picture.

    The suffix counts too, so that a damaged photo is reported rather than skipped. TGA counts by its suffix only,
    because its content has no signature. A text beside pictures is rarely a matrix, so that --include has to name it.
    """
    suffix = os.path.splitext(path)[1].lower()
    if SUFFIXES.get(suffix) in TEXT_FORMATS:
        return any(pattern.endswith(suffix) for pattern in matches.include)
    if suffix in SUFFIXES:
        return True
    return os.path.isfile(path) and format_of(Source(path)) not in (None, "tga", *TEXT_FORMATS)


def format_of(source: Source) -> str | None:
    """Return the format of an input; None if it is unknown, which is reported when the input is read."""
    try:
        return sniff(source.head())
    except (ImageError, OSError):
        return None
