"""Chunks, header and rows of PNG files (W3C specification, third edition).

`cnnfilter.images.formats.png` and `cnnfilter.images.formats.apng` read and write whole files with them. Rows are
filtered and compressed in bands on several threads. The row filters are compiled loops in
`cnnfilter.images.formats.png_loops`, DEFLATE is in `cnnfilter.images.deflate`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.images import deflate
from cnnfilter.images.formats import png_loops
from cnnfilter.images.image import check_size
from cnnfilter.runtime.buffers import Memory
from cnnfilter.runtime.parallel import default_threads, run_tasks
from cnnfilter.runtime.prefetch import prefetch

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Colour types (section 11.2.1): channels in the file, and the depths that each may have.
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_DEPTHS = {
    _GREY: (1, 2, 4, 8, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _GREY_ALPHA: (8, 16),
    _RGBA: (8, 16),
}
COLOUR_TYPE = {"L": _GREY, "LA": _GREY_ALPHA, "RGB": _RGB, "RGBA": _RGBA}

# Adam7 (section 8.1): first column, first row, and the steps between the pixels of each pass.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

_BAND_BYTES = 1 << 19  # bytes of rows that are filtered or compressed at a time, so that they stay in a core's cache


class Header(NamedTuple):
    """The fields of IHDR that vary: size, depth, colour type and interlacing."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    @property
    def step(self) -> int:
        """Bytes from a pixel to its right neighbour, at least 1."""
        return max(1, self.depth * _CHANNELS[self.colour] // 8)

    def row_bytes(self, width: int) -> int:
        """Return the bytes of a row of `width` pixels, without its filter type."""
        return (width * _CHANNELS[self.colour] * self.depth + 7) // 8


class Chunks(NamedTuple):
    """The chunks of a file.

    Attributes
    ----------
    data : contents of IDAT
    other : contents of chunks that occur once, by type
    texts : type and content of tEXt, zTXt and iTXt
    damaged : types of chunks whose checksum is wrong, and without which the picture can be shown
    animation : type and content of acTL, fcTL, fdAT and IDAT in their order; empty for a still picture
    """

    header: Header
    data: list[memoryview]
    other: dict[bytes, memoryview]
    texts: list[tuple[bytes, memoryview]]
    animation: list[tuple[bytes, memoryview]]
    damaged: list[bytes]


# --- reading --------------------------------------------------------------------------------------------------


def split(data: memoryview, max_pixels: int) -> Chunks:
    """Return the chunks of a file, after checks of its header and checksums.

    Raises
    ------
    ImageError
        The file is cut off, has more than `max_pixels`, or a chunk without which it cannot be shown is damaged.
    """
    chunks = Chunks(_header(data, max_pixels), [], {}, [], [], [])
    for kind, content, intact in _walk(data[8:]):
        if not intact:
            if kind[0] & 0x20:  # lower case marks a chunk without which the picture can be shown
                chunks.damaged.append(kind)
                continue
            raise ImageError(f"the {kind.decode('latin-1')} part of the file is damaged (its checksum is wrong)")
        if kind == b"IDAT":
            chunks.data.append(content)
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            chunks.texts.append((kind, content))
        elif kind in (b"fcTL", b"fdAT", b"acTL", b"IDAT"):
            chunks.animation.append((kind, content))
        else:
            chunks.other[kind] = content
    if b"acTL" not in dict(chunks.animation):
        chunks.animation.clear()
    if not chunks.data:
        raise ImageError("the file has no image data")
    return chunks


def _header(data: memoryview, max_pixels: int) -> Header:
    if len(data) < 33:
        raise ImageError("the file is cut off in its header")
    length, kind, width, height, depth, colour, compression, filters, interlace = struct.unpack_from(
        ">I4sIIBBBBB", data, 8
    )
    if kind != b"IHDR" or length != 13:
        raise ImageError("the file does not begin with a header")
    if depth not in _DEPTHS.get(colour, ()) or compression or filters or interlace > 1:
        raise ImageError(f"its header is not one of a PNG file (colour type {colour}, {depth} bits)")
    check_size(width, height, max_pixels)
    return Header(width, height, depth, colour, bool(interlace))


def _walk(data: memoryview) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Yield type and content of each chunk before IEND, and whether its checksum is right."""
    at = 0
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, end = bytes(data[at + 4 : at + 8]), at + 8 + length
        if kind == b"IEND":
            return
        if not kind.isalpha():
            raise ImageError("the file is damaged (a part of it has no valid name)")
        if end + 4 > len(data):
            break
        checksum = deflate.crc32(data[at + 4 : end])
        yield kind, data[at + 8 : end], checksum == int.from_bytes(data[end : end + 4], "big")
        at = end + 4
    raise ImageError("the file is cut off")


def decode(header: Header, parts: list[memoryview]) -> np.ndarray:
    """Return the samples of a file's image data, uint8 or uint16 (H, W, C), palette indices and low depths as stored.

    Raises
    ------
    ImageError
        The data are damaged or cut off.
    """
    if header.height * header.row_bytes(header.width) > deflate.MAX_EXPANSION_FACTOR * sum(map(len, parts)) + 4096:
        raise ImageError(f"the file is cut off: {header.width}x{header.height} pixels need more than is there")
    inflater = deflate.Inflater(parts)
    if not header.interlaced:
        samples = _pass(inflater, header, header.height, header.width)
    else:
        kind = np.uint16 if header.depth == 16 else np.uint8
        samples = np.empty((header.height, header.width, _CHANNELS[header.colour]), kind)
        for left, top, across, down in _PASSES:
            target = samples[top::down, left::across]
            if target.size:
                target[...] = _pass(inflater, header, *target.shape[:2])
    inflater.finish()
    return samples


def _pass(inflater: deflate.Inflater, header: Header, height: int, width: int) -> np.ndarray:
    """Return the samples of one pass, inflated and unfiltered in bands that stay in the processor's cache."""
    length = header.row_bytes(width)
    rows = np.empty((height, length), np.uint8)
    above = np.zeros(length, np.uint8)
    first = 0
    for filtered in _inflate_bands(inflater, height, length):
        part = rows[first : first + len(filtered)]
        first += len(filtered)
        if png_loops.unfilter(filtered, above, part, header.step):
            raise ImageError("the file is damaged (a row has a filter that does not exist)")
        above = part[-1]
        if header.depth == 16:
            above = above.copy()
            part.view(np.uint16).byteswap(inplace=True)
    return _samples(rows, header, width)


def _inflate_bands(inflater: deflate.Inflater, height: int, length: int) -> Iterator[np.ndarray]:
    """Yield bands of filtered rows; for large pictures a second thread inflates the next band meanwhile."""
    rows = min(height, max(1, _BAND_BYTES // length))
    is_prefetched = height > 2 * rows
    buffers = [np.empty((rows, 1 + length), np.uint8) for _ in range(3 if is_prefetched else 1)]

    def fill(index: int) -> np.ndarray:
        band = buffers[index % len(buffers)][: min(rows, height - index * rows)]
        inflater.fill(band.data.cast("B"))
        return band

    return prefetch(fill, -(-height // rows)) if is_prefetched else map(fill, range(-(-height // rows)))


def _samples(rows: np.ndarray, header: Header, width: int) -> np.ndarray:
    """Return rows of bytes as samples (H, W, C)."""
    if header.depth == 16:
        return rows.view(np.uint16).reshape(len(rows), width, -1)
    if header.depth == 8:
        return rows.reshape(len(rows), width, -1)
    per_byte = 8 // header.depth
    shifts = np.arange(per_byte - 1, -1, -1, dtype=np.uint8) * header.depth
    parts = (rows[:, :, None] >> shifts) & ((1 << header.depth) - 1)
    return np.ascontiguousarray(parts.reshape(len(rows), -1)[:, :width, None])


def interpret(samples: np.ndarray, chunks: Chunks) -> tuple[np.ndarray, str]:
    """Return the pixels and the mode of samples: palette looked up, 1 to 4 bits stretched to 8, tRNS made alpha."""
    header, transparent = chunks.header, chunks.other.get(b"tRNS")
    if header.colour == _PALETTE:
        return _look_up(samples[:, :, 0], chunks.other.get(b"PLTE"), transparent)
    mode = {_GREY: "L", _RGB: "RGB", _GREY_ALPHA: "LA", _RGBA: "RGBA"}[header.colour]
    pixels = samples * np.uint8(255 // (2**header.depth - 1)) if header.depth < 8 else samples
    channels = samples.shape[2]
    if transparent is None or mode not in ("L", "RGB") or len(transparent) < 2 * channels:
        return pixels, mode
    key = np.array(struct.unpack_from(f">{channels}H", transparent)) & (2**header.depth - 1)
    full = np.iinfo(pixels.dtype).max
    alpha = np.where((samples == key).all(axis=2, keepdims=True), 0, full).astype(pixels.dtype)
    return np.concatenate([pixels, alpha], axis=2), mode + "A"


def _look_up(indices: np.ndarray, palette: memoryview | None, transparent: memoryview | None) -> tuple[np.ndarray, str]:
    """Return the colours of palette indices (H, W), as grey if the palette is, and their mode."""
    if palette is None or len(palette) % 3 or not 3 <= len(palette) <= 768:
        raise ImageError("the file has no valid palette")
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    table = np.zeros((256, 4), np.uint8)
    table[:, 3] = 255
    table[: len(colours), :3] = colours
    if transparent is not None:
        opacities = np.frombuffer(transparent, np.uint8)[:256]
        table[: len(opacities), 3] = opacities
    grey = bool((colours == colours[:, :1]).all())
    opaque = bool((table[:, 3] == 255).all())
    columns = [0] if grey else [0, 1, 2]
    mode = "L" if grey else "RGB"
    if not opaque:
        columns, mode = [*columns, 3], mode + "A"
    return np.ascontiguousarray(table[:, columns])[indices], mode


# --- writing --------------------------------------------------------------------------------------------------


def image_data(*content: bytes) -> tuple[bytes, ...]:
    """Return an IDAT chunk in parts, so that its large content is not copied."""
    checksum = deflate.crc32(b"IDAT")
    for part in content:
        checksum = deflate.crc32(part, checksum)
    return four_bytes(sum(map(len, content))) + b"IDAT", *content, four_bytes(checksum)


def chunk(kind: bytes, *parts: bytes) -> bytes:
    """Return a chunk: length, type, content, checksum."""
    content = b"".join([kind, *parts])
    return b"".join([four_bytes(len(content) - 4), content, four_bytes(deflate.crc32(content))])


def four_bytes(value: int) -> bytes:
    """Return a number in PNG's byte order, the high byte first."""
    return struct.pack(">I", value)


def compress(pixels: np.ndarray, level: int, threads: int | None) -> list[tuple[bytes, ...]]:
    """Return the zlib stream of filtered rows in pieces, each for a chunk of its own and in several parts.

    Rows are not filtered at level 0, which does not compress them.
    The height of the bands depends on the picture alone, so the bytes do not depend on the number of threads.
    """
    height, width, channels = pixels.shape
    length = width * channels * pixels.dtype.itemsize
    band = max(1, _BAND_BYTES // length)
    firsts = range(0, height, band)
    threads = default_threads() if threads is None else threads
    memory = Memory()
    tasks = [partial(_compress_band, pixels, first, min(first + band, height), level, memory) for first in firsts]
    bands = run_tasks(tasks, threads)
    total = 1
    for _, checksum, size in bands:
        total = deflate.join_adler32(total, checksum, size)
    return [(deflate.ZLIB_HEADER,), *(blocks for blocks, _, _ in bands), (four_bytes(total),)]


def _compress_band(
    pixels: np.ndarray, first: int, end: int, level: int, memory: Memory
) -> tuple[tuple[bytes, bytes], int, int]:
    """Return the DEFLATE blocks of a band of rows, and Adler-32 and size of what is in them."""
    rows = _rows_with_one_above(pixels, first, end)
    filtered = memory.array("filtered", (end - first, 1 + rows.shape[1]), np.uint8)
    if level == 0:
        filtered[:, 0] = png_loops.NONE
        filtered[:, 1:] = rows[1:]
    else:
        png_loops.filter_rows(rows, filtered, pixels.shape[2] * pixels.dtype.itemsize)
    data = filtered.data.cast("B")
    blocks = deflate.compress_band(data, last=end == len(pixels), level=level)
    return blocks, deflate.adler32(data), len(data)


def _rows_with_one_above(pixels: np.ndarray, first: int, end: int) -> np.ndarray:
    """Return a band of rows as bytes (16 bits with the high byte first), after the row above it, or zeros."""
    band = pixels[max(first - 1, 0) : end]
    if pixels.dtype == np.uint16:
        band = band.astype(">u2").view(np.uint8)
    rows = band.reshape(len(band), -1)
    if first == 0:
        rows = np.concatenate([np.zeros_like(rows[:1]), rows])
    return rows
