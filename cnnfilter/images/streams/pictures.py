"""The pictures of a stream, one after another, each as soon as its last byte has come."""

from __future__ import annotations

import re
from collections.abc import Callable

from cnnfilter.errors import ImageError
from cnnfilter.images.formats.detect import TEXT_FORMATS, sniff
from cnnfilter.images.streams.buffer import Buffer
from cnnfilter.images.streams.ends import LONG_SIGNATURE, end_of
from cnnfilter.images.streams.unended import PADDING, is_followed

_HEAD_SIZES = (3, 12, 32, 64, 4096)
"""Numbers of first bytes by which the format is looked for. A picture may be shorter than the later ones."""

_SHOWN_BYTES = 12
_COMMENT = ord("#")
"""The first byte of a comment, which may also stand behind the numbers of a plain PNM file."""

_LINE_END = rb"[\r\n]"


class PictureStream:
    """The pictures of a stream, taken one after another.

    Parameters
    ----------
    read : callable
        Takes a number of bytes, and returns at least one and at most so many; none at the end of the stream.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._buffer = Buffer(read)
        self._last_format = ""
        self.taken = 0
        """The number of pictures that were taken."""

    def head(self) -> bytes:
        """Return the first bytes of the next picture, as many as tell its format if that is known."""
        data, size = self._buffer.data, 0
        for size in _HEAD_SIZES:
            is_there = self._buffer.has(size)
            try:
                format = sniff(bytes(data[:size]))
            except ImageError:
                format = None
            if format is not None and (format not in ("tga", *TEXT_FORMATS) or size == _HEAD_SIZES[-1] or not is_there):
                break
            if not is_there:
                break
        return bytes(data[:size])

    def take(self) -> bytes:
        """Return the bytes of the next picture. Without a known format, they are the first bytes of the stream.

        Raises
        ------
        ImageError
            The format does not tell where its picture ends, and another picture seems to follow.
        """
        head = self.head()
        try:
            format = sniff(head)
        except ImageError:
            self._buffer.close()
            return head
        end = end_of(self._buffer, format)
        if end is None:
            self._buffer.read_all()
            end = len(self._buffer.data)
        data = self._buffer.take(end)
        if len(data) < end and (next_one := re.compile(LONG_SIGNATURE).search(data, 1)):  # it is cut off, and more came
            self._buffer.data[:] = data[next_one.start() :]
            data = data[: next_one.start()]
        self.taken += 1
        self._last_format = format
        if is_followed(data, format):
            raise ImageError(
                f"another picture follows this {format.upper()}, whose bytes do not tell where it ends: "
                "send each one by itself"
            )
        return data

    def has_more(self) -> bool:
        """Return whether anything but padding follows the picture that was taken last, and wait for it."""
        buffer, padding = self._buffer, 0
        while buffer.has(padding + 1):
            if buffer.data[padding] == _COMMENT and self._last_format == "ppm":
                line_end = buffer.search(_LINE_END, padding, 1)
                padding = line_end.end() if line_end else len(buffer.data)
            elif buffer.data[padding] in PADDING:
                padding += 1
            else:
                break
        if padding >= 3 and buffer.has(padding + 5):  # the size of the first box of AVIF begins with zeros
            box = buffer.data.find(b"ftyp", padding, padding + 5)
            padding = box - 4 if box >= 4 else padding
        del buffer.data[:padding]
        return len(buffer.data) > 0

    def take_following(self) -> bytes:
        """Return the bytes of the next picture after another one.

        Raises
        ------
        ImageError
            What follows is no picture, or as `take`.
        """
        head = self.head()
        if not self._is_recognised(head):
            shown = repr(head[:_SHOWN_BYTES]).removeprefix("b")
            advice = "; as a file it is read without them" if self.taken == 1 else ""
            raise ImageError(f"after picture {self.taken} come bytes that are no picture ({shown}){advice}")
        return self.take()

    def _is_recognised(self, head: bytes) -> bool:
        """Return whether a picture begins here. TGA has no signature, and numbers follow only upon numbers."""
        try:
            format = sniff(head)
        except ImageError:
            return False
        return format != "tga" and (format not in TEXT_FORMATS or self._last_format in TEXT_FORMATS)
