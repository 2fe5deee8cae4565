"""Find the end of a JPEG file in a stream, by its markers, and the ends of the pictures that an MPO file adds to it.

References
----------
ITU-T T.81, annex B (markers); CIPA DC-007, section 5 (Multi-Picture Format)
"""

from __future__ import annotations

import struct

from cnnfilter.images.streams.buffer import Buffer

_MARKER = rb"\xff+[\x02-\xcf\xd8-\xfe]"
"""A marker that begins a segment, a file or its end: neither a restart marker (D0 to D7) nor 01, which stand alone."""

_START, _END, _APP0, _APP2, _APP15, _COMMENT = 0xD8, 0xD9, 0xE0, 0xE2, 0xEF, 0xFE
_LONGEST_FILL_BYTES = 64
"""Bytes FF that may stand before a marker and that a search looks back for."""

_MP_ENTRIES_TAG = 0xB002
_MP_ENTRY_BYTES = 16


def end_of_jpeg(buffer: Buffer) -> int | None:
    """Return the end of the file, which is the start of the next one if the file is cut off; None if there is none.

    Thumbnails stand in segments, which are left out as a whole. Pictures that the index of an MPO file names, such as
    the second view of a stereo camera, belong to the file.
    """
    end, members = _end_of_picture(buffer, 0)
    for start in sorted(members):
        if end is None or start < end or not buffer.has(start + 3) or buffer.data[start : start + 3] != b"\xff\xd8\xff":
            continue  # an index that was left in a file whose other pictures were removed
        end = _end_of_picture(buffer, start)[0]
    return end


def _end_of_picture(buffer: Buffer, start: int) -> tuple[int | None, list[int]]:
    """Return the end of the picture that begins at `start`, and where the pictures of its index begin."""
    at = start + 2
    members: list[int] = []
    while marker := buffer.search(_MARKER, at, _LONGEST_FILL_BYTES):
        kind, at = buffer.data[marker.end() - 1], marker.end()
        if kind == _END:
            return at, members
        if kind == _START:
            if buffer.has(at + 1) and buffer.data[at] == 0xFF:  # else it is damage in the scan
                return at - 2, members
            continue
        if not buffer.has(at + 2):
            break
        length = int.from_bytes(buffer.data[at : at + 2], "big")
        if (cut := _start_in_segment(buffer, kind, at, length)) > 0:
            return cut, members
        if kind == _APP2 and buffer.has(at + length):
            members += _members(bytes(buffer.data[at + 2 : at + length]), at + 2)
        at += max(length, 2)
    return None, members


def _start_in_segment(buffer: Buffer, kind: int, at: int, length: int) -> int:
    """Return where another file begins within a segment of tables, because this one is cut off there; else -1.

    Segments of applications and comments may hold a file, which is a thumbnail.
    """
    if _APP0 <= kind <= _APP15 or kind == _COMMENT:
        return -1
    buffer.has(at + length + 2)
    return buffer.data.find(b"\xff\xd8\xff", at, at + length + 2)


def _members(segment: bytes, start: int) -> list[int]:
    """Return where the further pictures of an MPO file begin, by the index in a segment whose content is at `start`."""
    if segment[:4] != b"MPF\0":
        return []
    index, order = segment[4:], ">" if segment[4:6] == b"MM" else "<"
    try:
        at = struct.unpack_from(f"{order}I", index, 4)[0]
        for number in range(struct.unpack_from(f"{order}H", index, at)[0]):
            tag, _, size, offset = struct.unpack_from(f"{order}HHII", index, at + 2 + 12 * number)
            if tag == _MP_ENTRIES_TAG:
                entries = struct.iter_unpack(f"{order}IIIHH", index[offset : offset + size // _MP_ENTRY_BYTES * 16])
                return [start + 4 + entry[2] for entry in entries if entry[2]]
    except struct.error:  # a damaged index
        pass
    return []
