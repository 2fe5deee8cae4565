"""Find where a picture ends in a stream of bytes, by the structure of its format.

A function for each format takes a `Buffer` that begins with the picture. It returns the number of the picture's bytes,
which need not have come, or None if they do not tell it: then the picture has everything up to the end of the stream.
One that is cut off or damaged ends where the next one begins, if that has a long signature. JPEG is in
``cnnfilter.images.streams.jpeg``; formats whose end is not in their bytes are in ``cnnfilter.images.streams.unended``.

References
----------
PNG: https://www.w3.org/TR/png-3/#5Chunk-layout; GIF: https://www.w3.org/Graphics/GIF/spec-gif89a.txt; WebP: RFC 9649;
AVIF: ISO/IEC 14496-12, section 4.2; Netpbm: https://netpbm.sourceforge.net/doc/
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

from cnnfilter.errors import ImageError
from cnnfilter.images.formats.detect import TEXT_FORMATS, sniff
from cnnfilter.images.streams import jpeg
from cnnfilter.images.streams.buffer import Buffer
from cnnfilter.images.streams.unended import PADDING

# Patterns are compiled on their first use, as most pictures do not come in a stream.
LONG_SIGNATURE = rb"(?s)\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBPVP8|\x93NUMPY|P[56]\s\d{1,5}\s\d{1,5}\s(?:255|65535)\s"
"""The signatures that are too long to stand in a picture by chance: where one that is cut off or damaged must end.

Those of JPEG are left out, because thumbnails have them.
"""

_QUICKLY_ENDED = frozenset({"png", "gif", "webp", "bmp", "npy", "ppm"})
_LONG_SIGNATURE_BYTES = 21
_LONGEST_PNG_CHUNK_BYTES = (1 << 31) - 1
_LONGEST_HEADER_BYTES = 4096
"""Bytes in which the header of a PNM file must end; comments may be long, and no program writes more."""

_PNM_WORD = rb"(?:\s|#[^\n\r]*[\n\r])*([^\s#]+)\s"
_PLAIN_WORD = rb"(?:\s|#[^\n\r]*[\n\r])*[^\s#]+"
_PLAIN_BIT = rb"(?:[^01#]|#[^\n\r]*[\n\r])*[01]"
_COMMENT = rb"#[^\n\r]*"
_BLANK_LINE = rb"(\S[^\S\n]*\n)[^\S\n]*\n"
_LINES_BYTES = 1 << 16
"""Bytes of lines whose numbers are counted at a time."""

_ISO_BOXES = frozenset(b"ftyp meta mdat moov free skip uuid udta moof mfra sidx styp wide pdin idat".split())


def end_of(buffer: Buffer, format: str) -> int | None:
    """Return the number of bytes of the picture with which the buffer begins; None if its bytes do not tell.

    >>> pieces = [b"P5 2 1 255 abP5", b" 1 1 255 c"]
    >>> end_of(Buffer(lambda size: pieces.pop(0) if pieces else b""), "ppm")
    13
    """
    find = _ENDS.get(format)
    if find is None:
        return None
    end = find(buffer)
    if end is not None and end > 0:
        return end
    next_one = None if format in TEXT_FORMATS else buffer.search(LONG_SIGNATURE, 8, _LONG_SIGNATURE_BYTES)
    return next_one.start() if next_one else None


def is_followed(data: bytes, format: str) -> bool:
    """Return whether a file holds another picture after its first, for formats that tell their end quickly.

    >>> is_followed(b"P5 2 1 255 abP5 1 1 255 c", "ppm"), is_followed(b"P5 2 1 255 ab", "ppm")
    (True, False)
    """
    if format not in _QUICKLY_ENDED or data[:2] in (b"P1", b"P2", b"P3"):
        return False
    buffer = Buffer(lambda size: b"")
    buffer.data = cast("bytearray", data)  # it is complete, so that nothing is added to it
    buffer.is_complete = True
    end = _ENDS[format](buffer)
    if not end or end >= len(data):
        return False
    try:
        return sniff(data[end : end + _LONGEST_HEADER_BYTES].lstrip(PADDING)) not in ("tga", *TEXT_FORMATS)
    except ImageError:
        return False


def _end_of_png(buffer: Buffer) -> int | None:
    at = 8
    while buffer.has(at + 8):
        length, kind = int.from_bytes(buffer.data[at : at + 4], "big"), bytes(buffer.data[at + 4 : at + 8])
        if length > _LONGEST_PNG_CHUNK_BYTES or not kind.isalpha():
            break
        at += 12 + length
        if kind == b"IEND":
            return at
    return None


def _end_of_gif(buffer: Buffer) -> int | None:
    if not buffer.has(13):
        return None
    at = 13 + _palette_bytes(buffer.data[10])
    while buffer.has(at + 1) and (kind := buffer.data[at]) != 0x3B:
        if kind == 0x21:  # an extension
            at += 2
        elif kind == 0x2C and buffer.has(at + 10):  # an image
            at += 11 + _palette_bytes(buffer.data[at + 9])
        else:
            return None
        while buffer.has(at + 1) and buffer.data[at]:
            at += 1 + buffer.data[at]
        at += 1
    return at + 1


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _end_of_webp(buffer: Buffer) -> int | None:
    return 8 + int.from_bytes(buffer.data[4:8], "little") if buffer.has(12) else None


def _end_of_bmp(buffer: Buffer) -> int | None:
    """Return the size in the header; where that is too small for the rows, the end of the rows."""
    if not buffer.has(34):
        return None
    number = [int.from_bytes(buffer.data[at : at + 4], "little", signed=at in (18, 22)) for at in range(2, 34, 4)]
    size, start, header = number[0], number[2], number[3]
    if header < 40:  # OS/2: 16-bit sides, and no compression
        sides = [int.from_bytes(buffer.data[at : at + 2], "little") for at in (18, 20, 24)]
        return max(size, start + (sides[0] * sides[2] + 31) // 32 * 4 * sides[1])
    width, height, bits, compression = number[4], number[5], buffer.data[28], number[7]
    if compression in (0, 3, 6):
        return max(size, start + (abs(width) * bits + 31) // 32 * 4 * abs(height))
    return size if size > start else None


def _end_of_avif(buffer: Buffer) -> int | None:
    """Return the end of the last box: what follows is no box, or the first box of another file."""
    at = 0
    while buffer.has(at + 8):
        size, kind = int.from_bytes(buffer.data[at : at + 4], "big"), bytes(buffer.data[at + 4 : at + 8])
        if kind not in _ISO_BOXES or (kind == b"ftyp" and at):
            return at
        if size == 1:
            size = int.from_bytes(buffer.data[at + 8 : at + 16], "big") if buffer.has(at + 16) else 0
        if size < 8:  # 0 is a box up to the end of the file
            return None
        at += size
    return at


def _end_of_npy(buffer: Buffer) -> int | None:
    import io
    import math

    from cnnfilter.images.formats.npy import parse_header

    size = 10 if buffer.has(10) and buffer.data[6] == 1 else 12
    if not buffer.has(size):
        return None
    size += int.from_bytes(buffer.data[8:size], "little")
    if size > 1 << 20 or not buffer.has(size):
        return None
    try:
        header = io.BytesIO(buffer.data[:size])
        shape, _, dtype = parse_header(header)
    except Exception:  # the decoder says what is wrong with it
        return None
    return None if dtype.hasobject else size + math.prod(shape) * dtype.itemsize


def _end_of_pnm(buffer: Buffer) -> int | None:
    kind = bytes(buffer.data[:2])
    if kind == b"P7":
        return _end_of_pam(buffer)
    at = 2
    words: list[bytes] = []
    while len(words) < (2 if kind in (b"P1", b"P4") else 3):
        while (match := re.compile(_PNM_WORD).match(buffer.data, at)) is None:
            if len(buffer.data) - at > _LONGEST_HEADER_BYTES or not buffer.has(len(buffer.data) + 1):
                return None
        words.append(match[1])
        at = match.end()
    if not all(word.isdigit() and len(word) <= 10 for word in words[:2]):
        return None
    width, height = int(words[0]), int(words[1])
    if kind in (b"Pf", b"PF"):
        return at + width * height * (4 if kind == b"Pf" else 12)
    if kind == b"P4":
        return at + (width + 7) // 8 * height
    if kind == b"P1":
        return _end_of_plain(buffer, at, width * height, _PLAIN_BIT, _count_bits)
    channels = 3 if kind in (b"P3", b"P6") else 1
    if kind in (b"P2", b"P3"):
        return _end_of_plain(buffer, at, width * height * channels, _PLAIN_WORD, _count_words)
    wide = words[2].isdigit() and len(words[2]) <= 10 and int(words[2]) > 255
    return at + width * height * channels * (2 if wide else 1)


def _end_of_pam(buffer: Buffer) -> int | None:
    while (start := buffer.data.find(b"ENDHDR\n", 0, _LONGEST_HEADER_BYTES) + 7) < 7:
        if len(buffer.data) >= _LONGEST_HEADER_BYTES or not buffer.has(len(buffer.data) + 1):
            return None
    fields = dict(re.findall(rb"(?m)^(WIDTH|HEIGHT|DEPTH|MAXVAL)\s+(\d{1,10})\s*$", buffer.data[:start]))
    if len(fields) < 4:
        return None
    count = int(fields[b"WIDTH"]) * int(fields[b"HEIGHT"]) * int(fields[b"DEPTH"])
    return start + count * (2 if int(fields[b"MAXVAL"]) > 255 else 1)


def _end_of_plain(buffer: Buffer, at: int, count: int, item: bytes, count_items: Callable[[bytes], int]) -> int | None:
    """Return the end of the `count`-th item from `at` on: of a word, or of a digit, which needs no space after it."""
    while True:
        end = _end_of_lines(buffer, at)
        found = count_items(re.sub(_COMMENT, b"", buffer.data[at:end]))
        if found >= count:
            break
        if end == len(buffer.data) and not buffer.has(end + 1):
            return None
        at, count = end, count - found
    one = re.compile(item)
    for _ in range(count):
        match = one.match(buffer.data, at)
        assert match is not None  # as many were counted
        at = match.end()
    return at


def _end_of_lines(buffer: Buffer, at: int) -> int:
    """Return the end of some complete lines from `at` on; the last line of a stream may lack its end."""
    end = buffer.data.rfind(b"\n", at, at + _LINES_BYTES) + 1
    while end <= at:
        end = buffer.data.find(b"\n", at) + 1
        if end <= at and not buffer.has(len(buffer.data) + 1):
            return len(buffer.data)
    return end


def _count_words(piece: bytes) -> int:
    return len(piece.split())


def _count_bits(piece: bytes) -> int:
    return piece.count(b"0") + piece.count(b"1")


def _end_of_text(buffer: Buffer) -> int | None:
    """Return the end of the last row before a blank line, which separates two matrices."""
    at = 0
    while blank := buffer.search(_BLANK_LINE, at, _LONGEST_HEADER_BYTES):
        at = blank.end(1)
        if re.sub(_COMMENT, b"", buffer.data[:at]).strip():
            return at
    return None


_ENDS: dict[str, Callable[[Buffer], int | None]] = {
    "jpg": jpeg.end_of_jpeg,
    "png": _end_of_png,
    "gif": _end_of_gif,
    "webp": _end_of_webp,
    "bmp": _end_of_bmp,
    "avif": _end_of_avif,
    "npy": _end_of_npy,
    "ppm": _end_of_pnm,
    "txt": _end_of_text,
    "csv": _end_of_text,
}
