"""The picture that is begun before it is wanted: decoded on a thread while numpy and the filters are imported.

Nothing here needs numpy. Each format says what it can begin with a file's bytes, and takes it up again when it is
given them to read.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any, NamedTuple

from cnnfilter.runtime import limits
from cnnfilter.runtime.threads import start_thread

_FORMATS = {b"\xff\xd8\xff": "cnnfilter.images.formats.jpeg_pixels", b"\x89PN": "cnnfilter.images.formats.png_ahead"}
"""The modules that begin a file, by its first bytes."""


class _Begun(NamedTuple):
    path: str
    state: tuple[int, ...]
    data: bytes
    made: Any


_begun: _Begun | None = None


def begin(path: str, max_pixels: int) -> None:
    """Begin to decode a file, if its format can, unless memory is scarce. What is wrong with it, reading will find."""
    global _begun
    _begun = None
    if limits.is_memory_limited():
        return
    with contextlib.suppress(Exception), open(path, "rb", buffering=0) as file:
        head = file.read(3)
        if head in _FORMATS:
            file.seek(0)
            data = file.readall()
            _begun = _Begun(path, _state(os.fstat(file.fileno())), data, _made(data, max_pixels))


def _made(data: bytes, max_pixels: int) -> Any:
    return importlib.import_module(_FORMATS[data[:3]]).begin(data, max_pixels)


class _Stream:
    """Standard input, which a thread reads, and begins to decode when it has all of it."""

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._data: bytes | None = None
        self._failure: BaseException = MemoryError()  # what is not there even to be told of
        self.thread = start_thread(self._read)

    def _read(self) -> None:
        global _begun
        try:  # not by the buffer of sys.stdin, which the interpreter wants for itself when it ends
            with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as file:
                self._data = data = file.readall() or b""
        except BaseException as failure:
            self._failure = failure
            return
        with contextlib.suppress(Exception):
            if data[:3] in _FORMATS:
                _begun = _Begun("", (), data, _made(data, self._max_pixels))

    def bytes(self) -> bytes:
        """Wait for all of it."""
        assert self.thread is not None
        self.thread.join()
        if self._data is None:
            raise self._failure
        return self._data


_stream: _Stream | None = None


def begin_stdin(max_pixels: int) -> None:
    """Begin to read standard input, and to decode what comes, unless memory is scarce."""
    global _stream
    if sys.stdin is not None and sys.stdin is sys.__stdin__ and not limits.is_memory_limited():
        stream = _Stream(max_pixels)
        _stream = stream if stream.thread is not None else None


def bytes_of_stdin() -> bytes | None:
    """Return all that came, once; None if nobody began to read it.

    Raises
    ------
    OSError, MemoryError
        It cannot be read.
    """
    global _stream
    stream, _stream = _stream, None
    return None if stream is None else stream.bytes()


def bytes_of(source: Any) -> bytes | None:
    """Return the bytes of a file that was begun; None if `source` is anything else, or another file by now."""
    if _begun is None or source != _begun.path:
        return None
    with contextlib.suppress(OSError):
        if _state(os.stat(source)) == _begun.state:
            return _begun.data
    return None


def _state(status: os.stat_result) -> tuple[int, ...]:
    """Return what tells one file, as it is, from any other."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def take(data: bytes) -> Any:
    """Return what was begun with these bytes, once; None if nothing was."""
    global _begun
    if _begun is None or _begun.data is not data:
        return None
    made, _begun = _begun.made, None
    return made
