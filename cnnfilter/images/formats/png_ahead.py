"""The image data of a PNG file, inflated ahead on another thread. It needs no numpy."""

from __future__ import annotations

import struct

from cnnfilter.images.formats import deflate

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_MOST = 1 << 26
"""Bytes that are inflated ahead: more take longer than what they do not have to wait for."""


def begin(data: bytes, max_pixels: int) -> deflate.InflaterAhead | None:
    """Begin to inflate a file's image data; None if it is not an ordinary still picture within the limit."""
    width, height, depth, colour, *_, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    size = height * (1 + (width * _CHANNELS[colour] * depth + 7) // 8)
    parts = _image_data(memoryview(data))
    if interlaced or width * height > max_pixels or size > deflate.MOST_FOR_A_BYTE * sum(map(len, parts)):
        return None
    return deflate.InflaterAhead(parts, min(size, _MOST))


def _image_data(data: memoryview) -> list[memoryview]:
    parts, at = [], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if bytes(data[at + 4 : at + 8]) == b"IDAT":
            parts.append(data[at + 8 : end - 4])
        at = end
    return parts
