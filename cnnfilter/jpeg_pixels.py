"""The pixels of a JPEG file, decoded by Pillow into memory of ours, also ahead on another thread; without numpy."""

from __future__ import annotations

import contextlib
import io
import mmap
from collections.abc import Iterator
from typing import Any

from cnnfilter.pages import zeros
from cnnfilter.threads import start_thread

MARKER, START, END, SCAN, RESTART, COMMENT = b"\xff", 0xD8, 0xD9, 0xDA, 0xD0, 0xFE
"""The byte before a marker, and some of them (ITU-T T.81, table B.1)."""

_METADATA = (*range(0xE1, 0xEE), 0xEF, COMMENT)  # not APP0 and APP14, which say what the colours are
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


def decode(picture: Any, size: int) -> mmap.mmap | bytearray | None:
    """Decode a file of `size` bytes that Pillow has opened: rows of pixels of 1 byte (grey) or 4 (RGB and 255, CMYK).

    None where this Pillow does not decode into memory that is given to it.

    Raises
    ------
    MemoryError
        There is not enough.
    """
    from PIL import Image as PillowImage

    mode = _KEPT.get(picture.mode)
    if mode is None:
        return None
    memory = zeros(picture.width * picture.height * len(mode))
    given: Any = memory
    shared = PillowImage.frombuffer(mode, picture.size, given, "raw", mode, 0, 1)
    picture.im = shared.im
    picture.decodermaxblock = size  # all of it in one piece, for which the interpreter is let go once
    picture.load()
    return memory if picture.im is shared.im else None


# --- ahead ----------------------------------------------------------------------------------------------------


class Decoding:
    """A file that is being decoded on a thread of its own."""

    def __init__(self, data: bytes, max_pixels: int) -> None:
        from PIL import JpegImagePlugin

        self._data = data
        self._max_pixels = max_pixels
        self._plugin = JpegImagePlugin.JpegImageFile
        self._memory: mmap.mmap | bytearray | None = None
        self._thread = start_thread(self._decode)

    def _decode(self) -> None:
        # Whatever is wrong with it is found again, and told, when it is read. Without metadata, nothing warns.
        with contextlib.suppress(Exception), self._plugin(io.BytesIO(_without_metadata(self._data))) as picture:
            width, height = picture.size
            if width * height <= self._max_pixels and is_whole(width, height, len(self._data)):
                self._memory = decode(picture, len(self._data))

    def result(self) -> mmap.mmap | bytearray | None:
        """Wait, and return what `decode` gave; None if the file is damaged or too large, or there was no thread."""
        if self._thread is not None:
            self._thread.join()
        return self._memory


def begin(data: bytes, max_pixels: int) -> Decoding:
    """Begin to decode a file on another thread."""
    return Decoding(data, max_pixels)


def _without_metadata(data: bytes) -> bytes:
    whole = memoryview(data)
    parts, kept = [], 0
    for marker, start, end in segments(data):
        if marker in _METADATA:
            parts.append(whole[kept:start])
            kept = end
    return b"".join([*parts, whole[kept:]]) if parts else data
