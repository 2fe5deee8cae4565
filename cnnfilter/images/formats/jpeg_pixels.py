"""The pixels of a JPEG file, decoded by Pillow into memory of ours, also ahead on another thread; without numpy."""

from __future__ import annotations

import contextlib
import io
import mmap
import platform
from collections.abc import Iterator
from typing import Any

from cnnfilter.runtime.buffers import zeros
from cnnfilter.runtime.threads import start_thread

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


# --- ahead ----------------------------------------------------------------------------------------------------


_STORES_IN_ORDER = platform.machine().lower() in ("x86_64", "amd64")
"""Whether what a processor's core has stored before something that is seen is seen too, as other threads look at it."""

_PAUSE = 0.0005
"""Seconds between two looks at how far it is."""


class Decoding:
    """A file that is being decoded on a thread of its own.

    Attributes
    ----------
    memory : its `room_for` the pixels; None while there is none
    """

    def __init__(self, data: bytes, max_pixels: int) -> None:
        from PIL import JpegImagePlugin

        self._data = data
        self._max_pixels = max_pixels
        self._plugin = JpegImagePlugin.JpegImageFile
        self.memory: Pixels | None = None
        self._line = 0
        self._is_whole = False
        self._thread = start_thread(self._decode)

    def _decode(self) -> None:
        # Whatever is wrong with it is found again, and told, when it is read. Without metadata, nothing warns.
        with contextlib.suppress(Exception), self._plugin(io.BytesIO(_without_metadata(self._data))) as picture:
            width, height = picture.size
            if width * height <= self._max_pixels and is_whole(width, height, len(self._data)):
                memory = room_for(picture)
                self._line = len(memory) // height
                self.memory = memory
                self._is_whole = decode(picture, len(self._data), memory)

    def wait_for_memory(self) -> Pixels | None:
        """Wait for the memory of the pixels; None if there will be none."""
        while self.memory is None and self._thread is not None and self._thread.is_alive:
            self._thread.join(_PAUSE)
        return self.memory

    def wait_for(self, rows: int) -> bool:
        """Wait until so many rows of RGB are there; False if the file is damaged, or there is no thread for it.

        Pillow has written a row when it has begun with the next one, in whose pixels 255 stands behind the colours.
        """
        begun = rows * self._line + 3
        while self._thread is not None and self._thread.is_alive:
            if _STORES_IN_ORDER and self.memory is not None and begun < len(self.memory) and self.memory[begun]:
                return True
            self._thread.join(_PAUSE)
        return self._is_whole

    def result(self) -> Pixels | None:
        """Wait for all rows; None if the file is damaged or too large, or there was no thread."""
        if self._thread is not None:
            self._thread.join()
        return self.memory if self._is_whole else None


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
