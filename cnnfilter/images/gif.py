"""The blocks of GIF files (GIF89a specification), and the LZW codes of their pixels.

Pillow decodes and encodes GIF files. This module finds out whether a file is whole, and repacks frames that are not.
"""

from __future__ import annotations

from collections.abc import Iterator

from cnnfilter.errors import ImageError

IMAGE, EXTENSION, TRAILER = 0x2C, 0x21, 0x3B
"""The first byte of each kind of block."""

_MAX_CODES = 4096  # codes have 12 bits at most


def refuse_cut(data: bytes) -> None:
    """Raise ImageError if a GIF file ends before its trailer: the frames behind its end would be lost unseen."""
    if not any(kind == TRAILER for kind, _ in blocks(data)):
        raise ImageError("the file is cut off: it ends before its trailer")


def unpack(packed: bytes, bits: int, count: int) -> bytes:
    """Return up to `count` palette indices of LZW codes (GIF89a specification, appendix F) that may be cut off."""
    clear, width = 1 << bits, bits + 1
    table: list[bytes] = []
    found, before = bytearray(), b""
    number, length = 0, 0
    for byte in packed:
        number, length = number | byte << length, length + 8
        while length >= width:
            code, number, length = number & ((1 << width) - 1), number >> width, length - width
            if code == clear or not table:
                table, width, before = [bytes([index]) for index in range(clear)] + [b"", b""], bits + 1, b""
                if code == clear:
                    continue
            if code == clear + 1 or code > len(table) or (code == len(table) and not before) or len(found) >= count:
                return bytes(found[:count])
            entry = table[code] if code < len(table) else before + before[:1]
            if before and len(table) < _MAX_CODES:
                table.append(before + entry[:1])
            found += entry
            before = entry
            if len(table) == 1 << width and width < 12:
                width += 1
    return bytes(found[:count])


def pack(indices: bytes, bits: int) -> bytes:
    """Return palette indices as the data of a GIF file up to its end: clear codes keep all codes at one width."""
    clear, width = 1 << bits, bits + 1
    step = max(1, clear - 2)
    number, length, packed = 0, 0, bytearray()
    for start in range(0, len(indices), step):
        for code in (clear, *indices[start : start + step]):
            number, length = number | code << length, length + width
            while length >= 8:
                packed.append(number & 255)
                number, length = number >> 8, length - 8
    number |= (clear + 1) << length
    packed += number.to_bytes(4, "little")
    blocks = [packed[at : at + 255] for at in range(0, len(packed), 255)]
    return b"".join(bytes([len(block)]) + block for block in blocks) + bytes([0, TRAILER])


def blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the first byte and the end of each complete block of a GIF file, the trailer included."""
    if len(data) < 13:
        return
    at = 13 + palette_bytes(data[10])
    while at < len(data):
        kind = data[at]
        if kind == TRAILER:
            yield kind, at + 1
            return
        if kind == EXTENSION:
            at += 2
        elif kind == IMAGE and at + 10 < len(data):
            at += 11 + palette_bytes(data[at + 9])
        else:
            at += 1
            continue
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
        if at <= len(data):
            yield kind, at


def palette_bytes(flags: int) -> int:
    """Return the length of the palette that these flags of a screen or a frame announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0
