"""Where a picture comes from, and where it goes."""

from __future__ import annotations

import errno
import os
import stat
import sys
from functools import cached_property
from typing import BinaryIO

from cnnfilter.errors import ImageError

STDIN = STDOUT = "-"


class Source:
    """Where one picture comes from: a file, or ``-`` for standard input.

    An `error` that was met while looking for it is raised when it is read.
    """

    def __init__(self, path: str, error: Exception | None = None) -> None:
        self.path = path
        self.error = error

    @property
    def name(self) -> str:
        """What messages call it."""
        return "stdin" if self.path == STDIN else self.path

    @cached_property
    def _streamed(self) -> bytes | None:
        """All bytes of what can be read only once; None for an ordinary file."""
        if self.error is not None:
            raise self.error
        if self.path == STDIN:
            return read_stdin()
        mode = os.stat(self.path).st_mode
        if stat.S_ISREG(mode):
            return None
        if stat.S_ISDIR(mode):
            raise ImageError("is a folder; -r reads the pictures in it")
        if not stat.S_ISFIFO(mode) and not stat.S_ISSOCK(mode):
            raise ImageError("is a device, not a picture")
        with open(self.path, "rb") as file:
            return file.read()

    @property
    def is_file(self) -> bool:
        """Whether it can be read more than once."""
        return self.error is None and self.path != STDIN and os.path.isfile(self.path)

    def head(self, size: int = 64) -> bytes:
        """Return the first bytes, by which a format is recognised."""
        if self._streamed is not None:
            return self._streamed[:size]
        with open(self.path, "rb") as file:
            return file.read(size)

    def path_or_data(self) -> str | bytes:
        """Return what `read_image` wants: the path, or the bytes, which are then let go."""
        data = self._streamed
        if data is None:
            return self.path
        self.__dict__["_streamed"] = b""
        return data


def read_stdin() -> bytes:
    if sys.stdin is None:
        raise OSError(errno.EBADF, "closed")
    data = sys.stdin.buffer.read()
    if not data:
        raise ImageError("empty: no picture came in")
    return data


class Target:
    """Where one picture goes: a file, or ``-`` for standard output; and in which format."""

    def __init__(self, path: str, format: str | None, *, make_folder: bool = False) -> None:
        self.path = path
        self.format = format
        self.make_folder = make_folder
        self.force = False
        self.skip_reason: str | None = None
        """Why it is not written, where that is known before any work."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return "stdout" if self.path == STDOUT else self.path

    @property
    def is_file(self) -> bool:
        """Whether it is replaced as a whole: no stream, device or pipe."""
        return self.path != STDOUT and (os.path.isfile(self.path) or not os.path.exists(self.path))

    def create_folder(self) -> None:
        """Make the folder that it is to be in, if that was asked for."""
        folder = os.path.dirname(self.path) or "."
        if self.make_folder and not os.path.isdir(folder):
            os.makedirs(folder, exist_ok=True)


def open_stdout() -> BinaryIO:
    return sys.stdout.buffer
