"""DEFLATE and its checksums: Intel's ISA-L where it is installed, else zlib."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from threading import Condition
from typing import Any

from cnnfilter.errors import ImageError
from cnnfilter.runtime.buffers import zeros
from cnnfilter.runtime.threads import PATIENCE, start_thread

_library: Any
try:
    from isal import isal_zlib as _library
except ImportError:  # several times slower, otherwise the same
    _library = zlib

adler32 = _library.adler32
crc32 = _library.crc32

ZLIB_HEADER = b"\x78\x01"
_RAW = -15  # DEFLATE without zlib's header and trailer, with the largest window
_LEVEL = 1
_SLICE = 1 << 16
_PIECE = 1 << 21  # of what is made ahead: between pieces, the thread has to wait for the interpreter
_ADLER_BASE = 65521


def compress_band(data: Any, *, last: bool, stored: bool = False) -> tuple[bytes, bytes]:
    """Return the raw DEFLATE blocks of one band of a stream, which end on a byte, in two parts.

    Bands are independent of each other, so they can be made at the same time and joined in order.
    """
    library = zlib if stored else _library
    compressor = library.compressobj(0 if stored else _LEVEL, zlib.DEFLATED, _RAW)
    blocks: bytes = compressor.compress(data)
    return blocks, compressor.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


def join_adler32(first: int, second: int, length: int) -> int:
    """Return the Adler-32 of two pieces from theirs and the second one's length (RFC 1950, section 8.2).

    >>> join_adler32(adler32(b"ab"), adler32(b"cde"), 3) == adler32(b"abcde")
    True
    """
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + length * ((first & 0xFFFF) - 1)
    return (high % _ADLER_BASE) << 16 | low % _ADLER_BASE


MOST_FOR_A_BYTE = 1032
"""Bytes that one compressed byte can stand for: 258 for two bits (RFC 1951)."""


class Inflater:
    """Read a zlib stream piece by piece: never more memory than what is asked for."""

    def __init__(self, parts: Iterable[Any], slice_size: int = _SLICE):
        self._decompressor = _library.decompressobj()
        self._slices = _slices(parts, slice_size)
        self._pending: Any = b""

    def fill(self, target: memoryview) -> None:
        """Fill a buffer with the next bytes.

        Raises
        ------
        ImageError
            If the stream ends before, or is damaged.
        """
        done = 0
        while done < len(target):
            piece = self._next(len(target) - done)
            if not piece:
                raise ImageError("the compressed data end too early")
            target[done : done + len(piece)] = piece
            done += len(piece)

    def finish(self) -> None:
        """Check that the stream's end and its checksum are there. What it holds beyond is left."""
        while not self._decompressor.eof and not self._next(1):
            pass

    def _next(self, length: int) -> bytes:
        """Return at least one byte, or none at the stream's end.

        The library may have taken all of its input and still hold output back, so it is asked for that first.
        """
        while not self._decompressor.eof:
            try:
                piece: bytes = self._decompressor.decompress(self._pending, length)
            except (zlib.error, _library.error) as error:
                raise ImageError(f"the compressed data are damaged ({error})") from None
            self._pending = self._decompressor.unconsumed_tail
            if piece:
                return piece
            if not self._pending and not self._decompressor.eof:
                self._pending = next(self._slices, None)
                if self._pending is None:
                    raise ImageError("the file is cut off")
        return b""


class InflaterAhead:
    """An `Inflater` that has its first `size` bytes made before they are asked for, on a thread of its own.

    They wait in `memory`, which is free again as far as they were taken.
    """

    def __init__(self, parts: Iterable[Any], size: int) -> None:
        """Begin.

        Raises
        ------
        MemoryError, RuntimeError
            There is no room for the bytes, or no thread.
        """
        self._inflater = Inflater(_gathered(parts), _PIECE)
        self.memory = zeros(size)
        self.size = size
        self._filled = 0
        self._taken = 0
        self._failure: BaseException | None = None
        self._changed = Condition()
        thread = start_thread(self._work)
        if thread is None:
            raise RuntimeError("there is no thread for it")
        self._thread = thread

    def _work(self) -> None:
        try:
            with memoryview(self.memory) as whole:
                for first in range(0, self.size, _PIECE):
                    self._inflater.fill(whole[first : first + _PIECE])
                    self._tell(min(first + _PIECE, self.size))
        except BaseException as failure:
            self._tell(self._filled, failure)

    def _tell(self, filled: int, failure: BaseException | None = None) -> None:
        with self._changed:
            self._filled, self._failure = filled, failure
            self._changed.notify_all()

    def fill(self, target: memoryview) -> None:
        """Fill a buffer with the next bytes, as `Inflater.fill`."""
        ready = min(len(target), self.size - self._taken)
        if ready:
            self._wait_for(self._taken + ready)
            with memoryview(self.memory) as whole:
                target[:ready] = whole[self._taken : self._taken + ready]
            self._taken += ready
        if ready < len(target):
            self._inflater.fill(target[ready:])

    def finish(self) -> None:
        """Check the stream's end, as `Inflater.finish`."""
        self._wait_for(self.size)
        self._inflater.finish()

    def _wait_for(self, end: int) -> None:
        with self._changed:
            while self._filled < end and self._failure is None:
                if not self._thread.is_alive:  # it had no memory to say what is wrong
                    raise MemoryError
                self._changed.wait(PATIENCE)
            if self._filled < end and self._failure is not None:
                raise self._failure


AnyInflater = Inflater | InflaterAhead


def _slices(parts: Iterable[Any], size: int) -> Iterator[Any]:
    for part in parts:
        for start in range(0, len(part), size):
            yield part[start : start + size]


def _gathered(parts: Iterable[Any]) -> Iterator[bytes]:
    """Join parts to some of at least half a piece each."""
    group, size = [], 0
    for part in parts:
        group.append(part)
        size += len(part)
        if size >= _PIECE // 2:
            yield b"".join(group)
            group, size = [], 0
    yield b"".join(group)


def inflate(data: Any, limit: int) -> bytes | None:
    """Return a small zlib stream's content; None if it is damaged or longer than the limit."""
    decompressor = _library.decompressobj()
    try:
        content: bytes = decompressor.decompress(data, limit)
    except (zlib.error, _library.error):
        return None
    return content if decompressor.eof else None
