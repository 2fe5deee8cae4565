"""The bytes of a stream that were read and not yet taken; more are read when they are needed."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable

READ_BYTES = 1 << 16
"""Bytes that one read asks for: a pipe of Linux holds so many."""


class Buffer:
    """The bytes of a stream from the start of the next picture.

    Parameters
    ----------
    read : callable
        Takes a number of bytes, and returns at least one and at most so many; none at the end of the stream.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self.data: bytearray = bytearray()
        self.is_complete = False
        """Whether the stream has ended, so that `data` holds all that is left of it."""

    def has(self, size: int) -> bool:
        """Return whether there are `size` bytes, and wait for them."""
        while len(self.data) < size and not self.is_complete:
            piece = self._read(READ_BYTES)
            self.data += piece
            self.is_complete = not piece
        return len(self.data) >= size

    def read_all(self) -> None:
        """Read the stream to its end."""
        self.has(sys.maxsize)

    def close(self) -> None:
        """Forget what was read, and read no more."""
        self.data.clear()
        self.is_complete = True

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes, or what is left of the stream if that is less, and forget them."""
        with memoryview(self.data) as view:
            taken = bytes(view[:size])
        del self.data[:size]
        missing = size - len(taken)
        if missing == 0:
            return taken
        file = io.BytesIO()  # it grows without a copy, and gives its content without one
        file.write(taken)
        while missing and not self.is_complete:
            piece = self._read(min(missing, READ_BYTES))
            file.write(piece)
            missing -= len(piece)
            self.is_complete = not piece
        return file.getvalue()

    def search(self, pattern: bytes, start: int, longest: int) -> re.Match[bytes] | None:
        """Return the first match from `start` on, waiting for more bytes; None if there is none up to the end.

        A match has at most `longest` bytes, and more bytes would not make it longer.
        """
        compiled = re.compile(pattern)
        while (match := compiled.search(self.data, start)) is None:
            start = max(start, len(self.data) - longest + 1)
            if not self.has(len(self.data) + 1):
                break
        return match
