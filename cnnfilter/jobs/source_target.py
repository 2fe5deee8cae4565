"""The source and the target of a picture: a file, or a standard stream. Decoding and encoding are left to images."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from functools import cached_property
from typing import BinaryIO

from cnnfilter.errors import ImageError
from cnnfilter.images.formats.detect import sniff

STDIN = STDOUT = "-"


class Source:
    """The input of a job: a file, or ``-`` for standard input.

    An `error` of the search for files is raised when the source is read.
    """

    pages: str | None = None
    """The choice of its pages, as `read_image` takes it."""

    page = 1
    """The number of its page in the name of its result."""

    number_of_input: int | None = None
    """The number of the input that it is, if several sources are one input."""

    def __init__(self, path: str, error: Exception | None = None) -> None:
        self.path = path
        self.error = error

    @property
    def name(self) -> str:
        """The name in messages."""
        return "stdin" if self.path == STDIN else self.path

    @cached_property
    def _streamed(self) -> bytes | None:
        """All bytes of a stream, which can be read only once; None for a regular file."""
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
        """Return whether the source is a regular file, which can be read again."""
        return self.error is None and self.path != STDIN and os.path.isfile(self.path)

    def head(self, size: int = 64) -> bytes:
        """Return the first bytes, which tell the format."""
        if self._streamed is not None:
            return self._streamed[:size]
        with open(self.path, "rb") as file:
            return file.read(size)

    def open_pages(self) -> BinaryIO:
        """Open a TIFF file to count its pages, or its bytes if it is a stream.

        Raises
        ------
        ImageError
            It is no TIFF file.
        """
        if sniff(self.head()) != "tiff":
            raise ImageError("only TIFF files have pages")
        data = self.path_or_data()
        return io.BytesIO(data) if isinstance(data, bytes) else open(data, "rb")

    def path_or_data(self) -> str | bytes:
        """Return the argument of `read_image`: the path, or the bytes of a stream, which are not kept."""
        data = self._streamed
        if data is None:
            return self.path
        self.__dict__["_streamed"] = b""
        return data


class PageSource(Source):
    """One page of a TIFF file or of its bytes, with a result of its own."""

    is_stream = False  # its bytes have been read

    def __init__(self, source: Source, page: int, data: bytes | None) -> None:
        super().__init__(source.path)
        self.page, self.pages, self.number_of_input = page, str(page), source.number_of_input
        self._data = data

    @property
    def is_file(self) -> bool:
        """Return whether the source is a regular file, which can be read again."""
        return self._data is None

    def head(self, size: int = 64) -> bytes:
        """Return the first bytes, which tell the format."""
        return super().head(size) if self._data is None else self._data[:size]

    def path_or_data(self) -> str | bytes:
        """Return the argument of `read_image`: the path or the bytes, which all pages of a file share."""
        return self.path if self._data is None else self._data


def read_stdin() -> bytes:
    if sys.stdin is None:
        raise OSError(errno.EBADF, "closed")
    data = sys.stdin.buffer.read()
    if not data:
        raise ImageError("empty: no picture came in")
    return data


class Target:
    """The output of a job: a file, or ``-`` for standard output, and its format."""

    def __init__(self, path: str, format: str | None, *, make_folder: bool = False) -> None:
        self.path = path
        self.format = format
        self.make_folder = make_folder
        self.force = False
        self.skip_reason: str | None = None
        """The reason why it is not written, if the command line has found one."""

    @property
    def name(self) -> str:
        """The name in messages."""
        return "stdout" if self.path == STDOUT else self.path

    @property
    def is_file(self) -> bool:
        """Return whether the target is a regular file, old or new, rather than a stream, device or pipe."""
        return self.path != STDOUT and (os.path.isfile(self.path) or not os.path.exists(self.path))

    def create_folder(self) -> None:
        """Create the folder of the file if `make_folder`."""
        folder = os.path.dirname(self.path) or "."
        if self.make_folder and not os.path.isdir(folder):
            os.makedirs(folder, exist_ok=True)


def open_stdout() -> BinaryIO:
    return sys.stdout.buffer
