"""Formats whose end is not in their bytes, TIFF and TGA: notice that another picture follows one of them.

Both are read up to the end of the stream. A second picture there would be lost without a word, so it is looked for.
"""

from __future__ import annotations

import struct

from cnnfilter.errors import ImageError
from cnnfilter.images.formats.detect import TEXT_FORMATS, sniff

PADDING = b"\0 \t\r\n"
"""Bytes that may stand between pictures and behind the last one.

Cameras and video devices fill files up with zeros, and netpbm's plain formats end with white space.
"""

_TGA_FOOTER = b"TRUEVISION-XFILE.\0"
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value of each type of TIFF 6.0 and BigTIFF."""

_OFFSET_TAGS = {273: 279, 324: 325}
"""The tags of the offsets of strips and tiles, and those of their sizes."""

_DIRECTORY_TAGS = (330, 34665, 34853, 40965)
"""The tags that point at further directories: SubIFDs, EXIF, GPS, interoperability."""

_DIRECTORIES_MAX = 10_000
"""Directories that are followed; a damaged file may hold a circle of them."""


def is_followed(data: bytes, format: str) -> bool:
    """Return whether another picture follows a TIFF or TGA file."""
    try:
        if format == "tiff":
            return _begins_picture(data, _end_of_tiff(data))
        if format == "tga":
            return _is_tga_followed(data)
    except (struct.error, OverflowError):  # a damaged file, about which its decoder says more
        pass
    return False


def _begins_picture(data: bytes, at: int) -> bool:
    """Return whether a picture with a signature begins at `at`, or after some padding."""
    try:
        return sniff(data[at:].lstrip(PADDING)[:64]) not in ("tga", *TEXT_FORMATS)
    except ImageError:
        return False


def _is_tga_followed(data: bytes) -> bool:
    footer = data.find(_TGA_FOOTER)
    if footer >= 0:
        return bool(data[footer + len(_TGA_FOOTER) :].strip(b"\0"))
    id_bytes, kind, bits = data[0], data[2], data[16]
    if kind > 8:  # run lengths, whose end is known only after they are unpacked
        return False
    palette = int.from_bytes(data[5:7], "little") * ((data[7] + 7) // 8) if data[1] else 0
    width, height = struct.unpack_from("<HH", data, 12)
    return bool(data[18 + id_bytes + palette + width * height * ((bits + 7) // 8) :].strip(b"\0"))


def _end_of_tiff(data: bytes) -> int:
    """Return the end of the last byte that the directories of a TIFF file point at."""
    order = ">" if data[:2] == b"MM" else "<"
    is_big = 43 in data[2:4]
    offset = "Q" if is_big else "I"
    seen: set[int] = set()
    end, pending = 8, [struct.unpack_from(order + offset, data, 8 if is_big else 4)[0]]
    while pending and len(seen) < _DIRECTORIES_MAX:
        at = pending.pop()
        if not at or at in seen:
            continue
        seen.add(at)
        count = struct.unpack_from(order + ("Q" if is_big else "H"), data, at)[0]
        at += 8 if is_big else 2
        values = {}
        for _ in range(count):
            tag, kind, number = struct.unpack_from(f"{order}HH{offset}", data, at)
            field = at + (12 if is_big else 8)
            size = _TYPE_BYTES.get(kind, 1) * number
            place = field if size <= (8 if is_big else 4) else struct.unpack_from(order + offset, data, field)[0]
            end = max(end, place + size)
            values[tag] = (kind, number, place)
            at += 20 if is_big else 12
        pending.append(struct.unpack_from(order + offset, data, at)[0])
        end = max(end, at + (8 if is_big else 4))
        pending += [value for tag in _DIRECTORY_TAGS if tag in values for value in _numbers(data, order, *values[tag])]
        for starts, sizes in _OFFSET_TAGS.items():
            if starts in values and sizes in values:
                pairs = zip(_numbers(data, order, *values[starts]), _numbers(data, order, *values[sizes]), strict=False)
                end = max([end, *(start + size for start, size in pairs)])
    return end


def _numbers(data: bytes, order: str, kind: int, count: int, at: int) -> tuple[int, ...]:
    code = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}.get(kind)
    return () if code is None else struct.unpack_from(f"{order}{count}{code}", data, at)
