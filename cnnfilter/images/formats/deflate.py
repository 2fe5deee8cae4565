"""DEFLATE and its checksums: Intel's ISA-L where it is installed, else zlib."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from cnnfilter.errors import ImageError

_library: Any
try:
    from isal import isal_zlib as _library
except ImportError:  # several times slower, otherwise the same
    _library = zlib

adler32 = _library.adler32
crc32 = _library.crc32

ZLIB_HEADER = b"\x78\x01"
_RAW_WINDOW_BITS = -15  # DEFLATE without zlib's header and trailer, with the largest window
_COMPRESSION_LEVEL = 1
_SLICE_BYTES = 1 << 16
_ADLER_MODULUS = 65521


def compress_band(data: Any, *, last: bool, stored: bool = False) -> tuple[bytes, bytes]:
    """Return the raw DEFLATE blocks of one band of a stream, which end on a byte, in two parts.

    Bands are independent of each other, so they can be made at the same time and joined in order.
    """
    library = zlib if stored else _library
    compressor = library.compressobj(0 if stored else _COMPRESSION_LEVEL, zlib.DEFLATED, _RAW_WINDOW_BITS)
    blocks: bytes = compressor.compress(data)
    return blocks, compressor.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


def join_adler32(first: int, second: int, length: int) -> int:
    """Return the Adler-32 of two pieces from theirs and the second one's length (RFC 1950, section 8.2).

    >>> join_adler32(adler32(b"ab"), adler32(b"cde"), 3) == adler32(b"abcde")
    True
    """
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + length * ((first & 0xFFFF) - 1)
    return (high % _ADLER_MODULUS) << 16 | low % _ADLER_MODULUS


MAX_EXPANSION_FACTOR = 1032
"""Bytes that one compressed byte can stand for: 258 for two bits (RFC 1951)."""


class Inflater:
    """Read a zlib stream piece by piece: never more memory than what is asked for."""

    def __init__(self, parts: Iterable[Any]) -> None:
        self._decompressor = _library.decompressobj()
        self._slices = _slices(parts)
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


def _slices(parts: Iterable[Any]) -> Iterator[Any]:
    for part in parts:
        for start in range(0, len(part), _SLICE_BYTES):
            yield part[start : start + _SLICE_BYTES]


def inflate(data: Any, limit: int) -> bytes | None:
    """Return a small zlib stream's content; None if it is damaged or longer than the limit."""
    decompressor = _library.decompressobj()
    try:
        content: bytes = decompressor.decompress(data, limit)
    except (zlib.error, _library.error):
        return None
    return content if decompressor.eof else None
