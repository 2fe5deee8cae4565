"""The pixels of a JPEG file, decoded by Pillow into memory of ours; without numpy."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

from cnnfilter.runtime.buffers import zeros

MARKER, END, SCAN, RESTART = b"\xff", 0xD9, 0xDA, 0xD0
"""The byte before a marker, and some of them (ITU-T T.81, table B.1)."""

_KEPT = {"L": "L", "RGB": "RGBX", "CMYK": "CMYK"}
_PIXELS_FOR_A_BYTE = 2048  # a block of 16x16 takes a bit at least, in one scan of coarse chroma


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment of a file, the start of its first scan the last of them."""
    at = 2
    while at + 4 <= len(data) and data[at : at + 1] == MARKER:
        marker = data[at + 1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, at, end
        if marker == SCAN:
            return
        at = end


def is_whole(width: int, height: int, size: int) -> bool:
    """Whether so many pixels can be in a file of `size` bytes."""
    return width * height <= _PIXELS_FOR_A_BYTE * size + 65536


Pixels = mmap.mmap | bytearray
"""Memory for rows of pixels of 1 byte (grey) or 4 (RGB and 255, CMYK)."""


def room_for(picture: Any) -> Pixels:
    """Return zeros for the pixels of a file that Pillow has opened.

    Raises
    ------
    MemoryError
        There are not so many.
    """
    return zeros(picture.width * picture.height * len(_KEPT.get(picture.mode, "")))


def decode(picture: Any, size: int, memory: Pixels) -> bool:
    """Decode a file of `size` bytes that Pillow has opened into its `room_for` them.

    Returns whether it is there. It is not where this Pillow does not decode into memory that is given to it.
    """
    from PIL import Image as PillowImage

    mode = _KEPT.get(picture.mode)
    if mode is None:
        return False
    given: Any = memory
    shared = PillowImage.frombuffer(mode, picture.size, given, "raw", mode, 0, 1)
    picture.im = shared.im
    picture.decodermaxblock = size  # all of it in one piece, for which the interpreter is let go once
    picture.load()
    return picture.im is shared.im
