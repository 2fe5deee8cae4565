"""Animated PNG with 8 or 16 bits (W3C PNG specification, third edition, sections 4.9 and 11.3.6)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.images.formats import png_chunks
from cnnfilter.images.image import Image, check_size
from cnnfilter.images.metadata import Metadata

_DISPOSE_NONE, _DISPOSE_BACKGROUND, _DISPOSE_PREVIOUS = range(3)  # dispose_op: how a region is cleared after a frame
_BLEND_SOURCE, _BLEND_OVER = range(2)  # blend_op: how a region is drawn


class Control(NamedTuple):
    """The fields of fcTL: a frame's region, its duration, and how it is drawn."""

    sequence: int
    width: int
    height: int
    x: int
    y: int
    delay: int
    delay_unit: int
    dispose: int
    blend: int

    @property
    def milliseconds(self) -> int:
        """The duration of the frame; a unit of 0 means 1/100 s."""
        return round(1000 * self.delay / (self.delay_unit or 100))


_CONTROL_STRUCT = struct.Struct(">IIIIIHHBB")


def read(chunks: png_chunks.Chunks, metadata: Metadata, max_pixels: int) -> Image | None:
    """Return the animation in a file's chunks, each frame complete; None if it has one frame."""
    frames = _frames(chunks)
    if len(frames) < 2:
        return None
    header = chunks.header
    check_size(header.width, header.height, max_pixels, len(frames))
    shown, mode = _compose(chunks, frames)
    if all((frame[:, :, -1] == np.iinfo(frame.dtype).max).all() for frame in shown):
        shown = [np.ascontiguousarray(frame[:, :, :-1]) for frame in shown]
        mode = mode.removesuffix("A")
    plays = next(struct.unpack_from(">I", content, 4)[0] for kind, content in chunks.animation if kind == b"acTL")
    loop = 0 if plays == 0 else plays - 1 or None
    durations = tuple(control.milliseconds for control, _ in frames)
    return Image(shown[0], mode, "png", metadata, tuple(shown), durations, loop)


def _frames(chunks: png_chunks.Chunks) -> list[tuple[Control, list[memoryview]]]:
    """Return control and data of each frame; image data before the first control are not part of the animation."""
    frames: list[tuple[Control, list[memoryview]]] = []
    for kind, content in chunks.animation:
        if kind == b"fcTL":
            control = Control(*_CONTROL_STRUCT.unpack(content))
            header = chunks.header
            if control.x + control.width > header.width or control.y + control.height > header.height:
                raise ImageError("a frame reaches beyond the picture")
            frames.append((control, []))
        elif kind == b"IDAT" and frames:
            frames[-1][1].append(content)
        elif kind == b"fdAT" and frames:
            frames[-1][1].append(content[4:])
    return [frame for frame in frames if frame[1]]


def _compose(chunks: png_chunks.Chunks, frames: list[tuple[Control, list[memoryview]]]) -> tuple[list[np.ndarray], str]:
    """Draw the frames on a canvas, and return a copy of the canvas after each, and the mode."""
    shown: list[np.ndarray] = []
    canvas, mode = None, ""
    for control, parts in frames:
        header = chunks.header._replace(width=control.width, height=control.height)
        check_size(header.width, header.height, header.width * header.height)
        pixels, mode = png_chunks.interpret(png_chunks.decode(header, parts), chunks)
        if not mode.endswith("A"):
            opaque = np.full_like(pixels[:, :, :1], np.iinfo(pixels.dtype).max)
            pixels, mode = np.concatenate([pixels, opaque], axis=2), mode + "A"
        if canvas is None:
            canvas = np.zeros((chunks.header.height, chunks.header.width, pixels.shape[2]), pixels.dtype)
        region = canvas[control.y : control.y + control.height, control.x : control.x + control.width]
        before = region.copy()
        region[...] = _over(pixels, before) if control.blend == _BLEND_OVER else pixels
        shown.append(canvas.copy())
        if control.dispose == _DISPOSE_BACKGROUND or (control.dispose == _DISPOSE_PREVIOUS and len(shown) == 1):
            region[...] = 0
        elif control.dispose == _DISPOSE_PREVIOUS:
            region[...] = before
    return shown, mode


def _over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return pixels drawn over others; both have alpha last and are not premultiplied."""
    full = np.iinfo(above.dtype).max
    top, bottom = above.astype(np.float64) / full, below.astype(np.float64) / full
    under = bottom[:, :, -1:] * (1 - top[:, :, -1:])
    alpha = top[:, :, -1:] + under
    mixed = top[:, :, :-1] * top[:, :, -1:] + bottom[:, :, :-1] * under
    colour = np.divide(mixed, alpha, out=np.zeros_like(mixed), where=alpha > 0)
    result: np.ndarray = np.floor(np.concatenate([colour, alpha], axis=2) * full + 0.5).astype(above.dtype)
    return result


def encode(image: Image, *, level: int, threads: int | None) -> Iterator[bytes]:
    """Yield the chunks of an animation; of each frame after the first, only the rectangle that has changed."""
    plays = 0 if image.loop == 0 else (image.loop or 0) + 1
    yield png_chunks.chunk(b"acTL", struct.pack(">II", len(image.frames), plays))
    sequence = 0
    before: np.ndarray | None = None
    for frame, milliseconds in zip(image.frames, image.durations, strict=True):
        rows, columns = _changed(frame, before)
        part = frame[rows, columns]
        size = part.shape[1], part.shape[0]
        delay = (milliseconds, 1000) if milliseconds < 65536 else (min(milliseconds // 1000, 65535), 1)
        control = Control(sequence, *size, columns.start, rows.start, *delay, _DISPOSE_NONE, _BLEND_SOURCE)
        yield png_chunks.chunk(b"fcTL", _CONTROL_STRUCT.pack(*control))
        sequence += 1
        for piece in png_chunks.compress(np.ascontiguousarray(part), level, threads):
            if before is None:
                yield png_chunks.chunk(b"IDAT", *piece)
            else:
                yield png_chunks.chunk(b"fdAT", struct.pack(">I", sequence), *piece)
                sequence += 1
        before = frame


def _changed(frame: np.ndarray, before: np.ndarray | None) -> tuple[Any, Any]:
    """Return rows and columns of the smallest rectangle with all changed pixels; it has one pixel at least."""
    if before is None:
        return slice(0, frame.shape[0]), slice(0, frame.shape[1])
    differs = (frame != before).any(axis=2)
    return _extent(differs.any(axis=1)), _extent(differs.any(axis=0))


def _extent(flags: np.ndarray) -> slice:
    where = np.flatnonzero(flags)
    return slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 1)
