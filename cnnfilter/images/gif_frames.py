"""Frames of GIF files, drawn on the screen one after another as the GIF89a specification says.

Pillow decodes the palette indices of a single frame. What it composes is not used: after a frame that is to be cleared
it fills the place with a colour of that frame's own palette.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from cnnfilter.images import gif

_GRAPHIC_CONTROL = 0xF9
_DISPOSE_BACKGROUND, _DISPOSE_PREVIOUS = 2, 3  # GIF89a specification, section 23; 0 and 1 leave the frame
_INTERLACED, _TRANSPARENT = 0x40, 0x01  # flags of a frame, and of the graphic control before it
_MILLISECONDS = 10  # the unit of delays


class Frame(NamedTuple):
    """A frame: its place on the screen, its colours and what becomes of it, and its compressed indices.

    Attributes
    ----------
    palette : bytes
        Three bytes for each colour; empty if neither the frame nor the file has a palette.
    transparent : int
        The index that is not drawn; -1 if every index is.
    codes : bytes
        The code size and the blocks of LZW codes.
    """

    left: int
    top: int
    width: int
    height: int
    interlaced: bool
    palette: bytes
    transparent: int
    disposal: int
    milliseconds: int
    codes: bytes

    def as_file(self) -> bytes:
        """Return a GIF file with this frame alone, without a palette, so that its grey values are the indices."""
        screen = b"GIF89a" + struct.pack("<HHBBB", self.width, self.height, 0, 0, 0)
        place = struct.pack("<BHHHHB", gif.IMAGE, 0, 0, self.width, self.height, _INTERLACED * self.interlaced)
        return screen + place + self.codes + bytes([gif.TRAILER])

    def covers(self, width: int, height: int) -> bool:
        """Return whether the frame fills a screen of this size."""
        return self.left == self.top == 0 and self.width >= width and self.height >= height


def frames(data: bytes) -> Iterator[Frame]:
    """Yield the frames of a file that are complete."""
    shared = data[13 : 13 + gif.palette_bytes(data[10])]
    control = bytes(4)
    at = 13 + len(shared)
    for kind, end in gif.blocks(data):
        while data[at] != kind:  # bytes between blocks
            at += 1
        if kind == gif.EXTENSION and data[at + 1] == _GRAPHIC_CONTROL and data[at + 2] >= 4:
            control = data[at + 3 : at + 7]
        elif kind == gif.IMAGE:
            left, top, width, height, flags = struct.unpack_from("<HHHHB", data, at + 1)
            start = at + 10 + gif.palette_bytes(flags)
            palette = data[at + 10 : start] or shared
            transparent = control[3] if control[0] & _TRANSPARENT else -1
            delay = struct.unpack_from("<H", control, 1)[0] * _MILLISECONDS
            interlaced, disposal = bool(flags & _INTERLACED), control[0] >> 2 & 7
            place = left, top, width, height
            yield Frame(*place, interlaced, palette, transparent, disposal, delay, data[start:end])
            control = bytes(4)
        at = end


def screen_size(data: bytes, first: Frame) -> tuple[int, int]:
    """Return width and height of the screen; it grows to the first frame, as in browsers."""
    width, height = struct.unpack_from("<HH", data, 6)
    return max(width, first.left + first.width), max(height, first.top + first.height)


def compose(
    shown: list[Frame], width: int, height: int, decode: Callable[[bytes], np.ndarray]
) -> tuple[list[np.ndarray], str]:
    """Return the screen after each frame, uint8 (H, W, C), and the mode: RGB if no pixel is ever transparent.

    The screen is transparent before the first frame, and where a frame is cleared to the background, as in browsers.

    Parameters
    ----------
    decode : callable
        Takes a file with one frame, and returns its palette indices (h, w).
    """
    screen = np.zeros((height, width, 4), np.uint8)
    pictures = []
    for frame in shown:
        rows, columns = slice(frame.top, frame.top + frame.height), slice(frame.left, frame.left + frame.width)
        region = screen[rows, columns]
        before = region.copy() if frame.disposal == _DISPOSE_PREVIOUS else None
        if region.size:
            _draw(frame, region, decode(frame.as_file())[: region.shape[0], : region.shape[1]])
        pictures.append(screen.copy())
        if frame.disposal == _DISPOSE_BACKGROUND:
            region[...] = 0
        elif before is not None:
            region[...] = before
    if any((picture[:, :, 3] != 255).any() for picture in pictures):
        return pictures, "RGBA"
    for index, picture in enumerate(pictures):  # one by one, so that only one picture is in memory twice
        pictures[index] = np.ascontiguousarray(picture[:, :, :3])
    return pictures, "RGB"


def _draw(frame: Frame, region: np.ndarray, indices: np.ndarray) -> None:
    """Draw the colours of palette indices (h, w) on a region of the screen, except the transparent index."""
    table = np.full((256, 4), 255, np.uint8)
    table[:, :3] = np.arange(256)[:, None]  # without a palette, indices are grey values, as in Pillow
    if frame.palette:
        colours = np.frombuffer(frame.palette, np.uint8).reshape(-1, 3)
        table[:, :3] = 0
        table[: len(colours), :3] = colours
    drawn = table[indices]
    if frame.transparent < 0:
        region[...] = drawn
    else:
        np.copyto(region, drawn, where=(indices != frame.transparent)[:, :, None])
