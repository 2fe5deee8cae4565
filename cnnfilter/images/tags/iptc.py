"""The records of IPTC: caption, keywords, author and others, as JPEG and TIFF files hold them.

References
----------
IPTC-NAA Information Interchange Model, version 4.2; Adobe Photoshop file formats, "Image Resource Blocks"
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

TAG, PHOTOSHOP_TAG = 33723, 34377
"""The tags of a TIFF file with the records, and with Photoshop's resources."""

RESOURCE = 0x0404
"""The number of the records among Photoshop's resources."""

_MARK = 0x1C  # begins each data set (IIM, section 1.6)
_LONG = 0x8000  # flag of a length that is itself the number of bytes of the length
_PREVIEWS = {(2, 200), (2, 201), (2, 202)}  # a preview of the picture: its format, version and data (section 6)


def without_previews(records: bytes) -> bytes | None:
    """Return records without previews, which show the picture before filtering, and without what is behind them.

    None if there are none; records that are damaged at their start are returned as they are.

    >>> without_previews(b"\\x1c\\x02x\\0\\3abc" + b"\\x1c\\2\\xca\\0\\1p" + bytes(3))
    b'\\x1c\\x02x\\x00\\x03abc'
    """
    sets = list(_data_sets(records))
    if not sets:
        return records if records.strip(b"\0") else None
    return b"".join(content for number, content in sets if number not in _PREVIEWS) or None


def _data_sets(records: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield record and number, and the bytes, of each data set that is whole."""
    at = 0
    while at + 5 <= len(records) and records[at] == _MARK:
        length = int.from_bytes(records[at + 3 : at + 5], "big")
        start = at + 5
        if length & _LONG:
            start += length & ~_LONG
            length = int.from_bytes(records[at + 5 : start], "big")
        if start + length > len(records):
            return
        yield (records[at + 1], records[at + 2]), records[at : start + length]
        at = start + length


def records_of_tags(values: Mapping[int, bytes]) -> bytes | None:
    """Return the records in a TIFF file, from the bytes of its tags, whatever their type; None if there are none."""
    records = values.get(TAG) or _resource(values.get(PHOTOSHOP_TAG, b""))
    return without_previews(records) if records else None


def _resource(resources: bytes) -> bytes | None:
    """Return the records among Photoshop's resources: signature, number, name, length and content of each."""
    at = 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        number, name = struct.unpack_from(">HB", resources, at + 4)
        start = at + 6 + (name + 2) // 2 * 2
        length = int.from_bytes(resources[start : start + 4], "big")
        if number == RESOURCE:
            return resources[start + 4 : start + 4 + length]
        at = start + 4 + length + length % 2
    return None
