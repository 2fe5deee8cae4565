"""DEFLATE (RFC 1951) and the checksums of zlib and PNG, by Intel's ISA-L where it is installed, else by zlib."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from cnnfilter.errors import ImageError

_library: Any
try:
    from isal import isal_zlib as _library
except ImportError:  # zlib is several times slower, and its pictures are the same
    _library = zlib

adler32 = _library.adler32
crc32 = _library.crc32

ZLIB_HEADER = b"\x78\x01"
_RAW_WINDOW_BITS = -15  # negative is zlib's sign for no header and no checksum; 15 is the largest window
DEFAULT_LEVEL = 1  # of zlib's 1 to 9 and ISA-L's 0 to 3: fast, and files are as small as those of libpng's level 1
_SLICE_BYTES = 1 << 16  # compressed bytes that the library gets in one call
_ADLER_MODULUS = 65521  # RFC 1950, section 8.2


def compress_band(data: Any, *, last: bool, level: int = DEFAULT_LEVEL) -> tuple[bytes, bytes]:
    """Return the raw DEFLATE blocks of one band of a stream, in two parts.

    The blocks end on a byte and refer to nothing before them, so bands can be compressed at the same time and joined.

    Parameters
    ----------
    last : whether the stream ends with this band
    level : from 0 (stored without compression) to 9; ISA-L, which has other levels, is used for the default only
    """
    library = _library if level == DEFAULT_LEVEL else zlib
    compressor = library.compressobj(level, zlib.DEFLATED, _RAW_WINDOW_BITS)
    blocks: bytes = compressor.compress(data)
    return blocks, compressor.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


def join_adler32(first: int, second: int, length: int) -> int:
    """Return the Adler-32 of two pieces joined, from both checksums and the second piece's length.

    >>> join_adler32(adler32(b"ab"), adler32(b"cde"), 3) == adler32(b"abcde")
    True
    """
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + length * ((first & 0xFFFF) - 1)
    return (high % _ADLER_MODULUS) << 16 | low % _ADLER_MODULUS


MAX_EXPANSION_FACTOR = 1032
"""Bytes that one compressed byte can expand to: a match of 258 bytes takes two bits (RFC 1951, section 3.2.5)."""


class Inflater:
    """A zlib stream that is decompressed piece by piece, so that it takes no more memory than a piece."""

    def __init__(self, parts: Iterable[Any]) -> None:
        self._decompressor = _library.decompressobj()
        self._slices = _slices(parts)
        self._pending: Any = b""

    def fill(self, target: memoryview) -> None:
        """Fill a buffer with the next bytes.

        Raises
        ------
        ImageError
            The stream is damaged, or ends before the buffer is full.
        """
        done = 0
        while done < len(target):
            piece = self._next(len(target) - done)
            if not piece:
                raise ImageError("the compressed data end too early")
            target[done : done + len(piece)] = piece
            done += len(piece)

    def finish(self) -> None:
        """Check the end of the stream and its checksum; data that are left over before it are not unpacked.

        Raises
        ------
        ImageError
            The stream is damaged or cut off.
        """
        while not self._decompressor.eof and not self._next(1):
            pass

    def _next(self, length: int) -> bytes:
        """Return at least one and at most `length` bytes; none at the stream's end.

        The library may hold back output after it has taken all input, so it is called again before it gets more.
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
    """Return the content of a small zlib stream; None if it is damaged or longer than `limit` bytes."""
    decompressor = _library.decompressobj()
    try:
        content: bytes = decompressor.decompress(data, limit)
    except (zlib.error, _library.error):
        return None
    return content if decompressor.eof else None
