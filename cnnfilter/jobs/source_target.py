"""The source and the target of a picture: a file, or a standard stream. Decoding and encoding are left to images."""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import BinaryIO

from cnnfilter.errors import ImageError
from cnnfilter.images.formats.detect import sniff

STDIN = STDOUT = "-"
HEAD_BYTES = 4096
"""First bytes of a file that tell its format: a text may begin with a comment."""


class Source:
    """The input of a job: a file, or the first picture of a stream, such as ``-`` for standard input.

    An `error` of the search for files is raised when the source is read.
    """

    pages: str | None = None
    """The choice of its pages, as `read_image` takes it."""

    page = 1
    """The number of its page in the name of its result."""

    number_of_input: int | None = None
    """The number of the input that it is, if several sources are one input."""

    number = 1
    """Which picture of its stream it is."""

    def __init__(self, path: str, error: Exception | None = None) -> None:
        self.path = path
        self.error = error

    @property
    def name(self) -> str:
        """The name in messages."""
        return self.file_name

    @property
    def file_name(self) -> str:
        """The path from which the names of results are made."""
        return "stdin" if self.path == STDIN else self.path

    @property
    def listed_path(self) -> str:
        """The path in lists and reports."""
        return self.path

    @cached_property
    def _stream(self) -> _SharedStream | None:
        """The stream that the source is the first picture of; None for a regular file."""
        if self.error is not None:
            raise self.error
        if self.path == STDIN:
            return _SharedStream(stdin_reader())
        mode = os.stat(self.path).st_mode
        if stat.S_ISREG(mode):
            return None
        if stat.S_ISDIR(mode):
            raise ImageError("is a folder; -r reads the pictures in it")
        if not stat.S_ISFIFO(mode) and not stat.S_ISSOCK(mode):
            raise ImageError("is a device, not a picture")
        return _SharedStream(pipe_reader(self.path))

    @property
    def is_file(self) -> bool:
        """Return whether the source is a regular file, which can be read again."""
        return self.error is None and self.path != STDIN and os.path.isfile(self.path)

    @property
    def is_stream(self) -> bool:
        """Return whether it is the first picture of a stream, which others may follow."""
        if self.error is not None or self.path == STDIN:
            return self.error is None
        try:
            mode = os.stat(self.path).st_mode
        except OSError:
            return False
        return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)

    def is_followed(self) -> bool:
        """Return whether it is a stream of several pictures; wait until the second begins, or the stream ends."""
        if not self.is_stream:
            return False
        try:
            return self._stream is not None and self._stream.has_second()
        except (ImageError, OSError):  # raised again when the source is read
            return False

    def head(self, size: int = HEAD_BYTES) -> bytes:
        """Return the first bytes, at most `size`, which tell the format."""
        if self._stream is not None:
            return self._stream.head()[:size]
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
        return self.path if self._stream is None else self._stream.take_first()

    def drop(self) -> None:
        """Forget the bytes of a picture that is not read."""

    def following(self) -> Iterator[Source]:
        """Yield the sources of the further pictures of a stream, each when it has come as a whole.

        The last one may hold the error of what follows: bytes that are no picture, or that cannot be read.
        """
        if not self.is_stream:
            return
        try:
            stream = self._stream
        except (ImageError, OSError):  # raised again when the source is read
            return
        number = 1
        while stream is not None and not stream.is_unreadable():
            number += 1
            try:
                data = stream.take_next()
            except (ImageError, OSError) as error:
                yield Source(self.path, error)
                return
            if data is None:
                return
            picture = StreamedPicture(self.path, number, data)
            picture.pages = self.pages
            yield picture


class StreamedPicture(Source):
    """A further picture of a stream, with its bytes."""

    def __init__(self, path: str, number: int, data: bytes) -> None:
        super().__init__(path)
        self.number = number
        self._head = data[:HEAD_BYTES]
        self._data = data

    @property
    def name(self) -> str:
        """The name in messages."""
        return f"{super().name} (picture {self.number})"

    @property
    def listed_path(self) -> str:
        """The path in lists and reports, with the number of the picture."""
        return f"{self.path}#{self.number}"

    @property
    def is_file(self) -> bool:
        """Return whether the source can be read again."""
        return False

    @property
    def is_stream(self) -> bool:
        """Return whether it is the first picture of a stream."""
        return False

    def is_followed(self) -> bool:
        """Return whether the stream has several pictures."""
        return True

    def head(self, size: int = HEAD_BYTES) -> bytes:
        """Return the first bytes, at most `size`, which tell the format."""
        if self.error is not None:
            raise self.error
        return self._head[:size]

    def path_or_data(self) -> bytes:
        """Return the bytes of the picture, which are not kept."""
        if self.error is not None:
            raise self.error
        data = self._data
        self.drop()
        return data

    def drop(self) -> None:
        """Forget the bytes of the picture."""
        self._data = b""


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

    def head(self, size: int = HEAD_BYTES) -> bytes:
        """Return the first bytes, which tell the format."""
        return super().head(size) if self._data is None else self._data[:size]

    def path_or_data(self) -> str | bytes:
        """Return the argument of `read_image`: the path or the bytes, which all pages of a file share."""
        return self.path if self._data is None else self._data


class _SharedStream:
    """The pictures of a stream, which the thread of the first picture and those that ask for others take."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        from cnnfilter.images.streams.pictures import PictureStream  # here, as most runs read no stream

        self._lock = threading.RLock()
        self._pictures = PictureStream(read)
        self._first: bytes | None = None
        self._error: Exception | None = None
        self._first_head: bytes | None = None

    def head(self) -> bytes:
        """Return the first bytes of the first picture."""
        with self._lock:
            if self._first_head is None:
                self._first_head = self._pictures.head()
            if not self._first_head:
                raise ImageError("empty: no picture came in")
            return self._first_head

    def take_first(self) -> bytes:
        """Return the bytes of the first picture, which are not kept."""
        with self._lock:
            self._load_first()
            data, self._first = self._first, b""
            assert data is not None
            return data

    def _load_first(self) -> None:
        if self._error is not None:
            raise self._error
        if self._first is not None:
            return
        try:
            self.head()
            self._first = self._pictures.take()
        except (ImageError, OSError) as error:
            self._error = error
            raise

    def is_unreadable(self) -> bool:
        """Return whether not even the first picture can be taken."""
        with self._lock:
            try:
                self._load_first()
            except (ImageError, OSError):
                return True
            return False

    def has_second(self) -> bool:
        """Return whether anything follows the first picture."""
        with self._lock:
            self._load_first()
            return self._pictures.has_more()

    def take_next(self) -> bytes | None:
        """Return the bytes of the next picture after the first; None at the end of the stream."""
        with self._lock:
            return self._pictures.take_following() if self._pictures.has_more() else None


def stdin_reader() -> Callable[[int], bytes]:
    """Return the function that reads some bytes of stdin, as many as are there.

    It reads past the buffer of Python, whose lock a thread would hold that waits for bytes when the process ends.
    """
    if sys.stdin is None:
        raise OSError(errno.EBADF, "closed")
    raw = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)

    def read(size: int) -> bytes:
        while (piece := raw.read(size)) is None:  # the pipe does not block, and is empty
            select.select([raw], [], [])
        data: bytes = piece
        return data

    return read


def pipe_reader(path: str) -> Callable[[int], bytes]:
    """Return the function that reads some bytes of a named pipe, as many as are there, and closes it at its end."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def read(size: int) -> bytes:
        piece = os.read(descriptor, size)
        if not piece:  # the stream asks for nothing more
            os.close(descriptor)
        return piece

    return read


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
