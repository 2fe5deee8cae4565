"""What PNG files are made of: chunks, the header, filtered rows (W3C specification, third edition).

Still and animated pictures, `cnnfilter.images.formats.png` and `cnnfilter.images.formats.apng`, are put together from
these. Rows are filtered, and
their DEFLATE is made, in bands on several threads; the row filters are compiled loops, DEFLATE is a library's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.images.formats import deflate, png_loops
from cnnfilter.images.image import check_size
from cnnfilter.runtime.buffers import Memory
from cnnfilter.runtime.parallel import default_threads, run_tasks
from cnnfilter.runtime.prefetch import run_ahead

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

_BAND_BYTES = 1 << 19


class Header(NamedTuple):
    """IHDR: what the pixels are."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool

    @property
    def step(self) -> int:
        """Bytes from a pixel to its left neighbour, at least 1."""
        return max(1, self.depth * _CHANNELS[self.colour] // 8)

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of `width` pixels, without its filter type."""
        return (width * _CHANNELS[self.colour] * self.depth + 7) // 8


class Chunks(NamedTuple):
    """A file taken apart: its header, image data, and the other chunks that mean something here."""

    header: Header
    data: list[memoryview]
    other: dict[bytes, memoryview]
    texts: list[tuple[bytes, memoryview]]
    animation: list[tuple[bytes, memoryview]]


# --- reading --------------------------------------------------------------------------------------------------


def split(data: memoryview, max_pixels: int) -> Chunks:
    """Take a file apart, and check its header and the checksums of what matters."""
    chunks = Chunks(_header(data, max_pixels), [], {}, [], [])
    for kind, content, intact in _walk(data[8:]):
        if not intact:
            if kind[0] & 0x20:  # a lower-case letter: the picture can be shown without it
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
    """Yield kind, content and whether the checksum is right, of each chunk before IEND."""
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
    """Return the samples as they are in the file, shape (H, W, channels), uint8 or uint16."""
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
    """Inflate and unfilter one pass, a band of rows at a time while it is in the processor's cache."""
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
    """Yield bands of filtered rows; of a large picture, the next is inflated meanwhile on a second thread."""
    rows = min(height, max(1, _BAND_BYTES // length))
    helped = height > 2 * rows
    buffers = [np.empty((rows, 1 + length), np.uint8) for _ in range(3 if helped else 1)]

    def fill(index: int) -> np.ndarray:
        band = buffers[index % len(buffers)][: min(rows, height - index * rows)]
        inflater.fill(band.data.cast("B"))
        return band

    return run_ahead(fill, -(-height // rows)) if len(buffers) > 1 else map(fill, range(-(-height // rows)))


def _samples(rows: np.ndarray, header: Header, width: int) -> np.ndarray:
    """Return rows of bytes as samples, (H, W, channels)."""
    if header.depth == 16:
        return rows.view(np.uint16).reshape(len(rows), width, -1)
    if header.depth == 8:
        return rows.reshape(len(rows), width, -1)
    per_byte = 8 // header.depth
    shifts = np.arange(per_byte - 1, -1, -1, dtype=np.uint8) * header.depth
    parts = (rows[:, :, None] >> shifts) & ((1 << header.depth) - 1)
    return np.ascontiguousarray(parts.reshape(len(rows), -1)[:, :width, None])


def interpret(samples: np.ndarray, chunks: Chunks) -> tuple[np.ndarray, str]:
    """Return pixels and mode: colours looked up, depths below 8 stretched to 8, one colour made alpha."""
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
    """Return the colours of palette indices; a palette of greys gives a grey picture."""
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
    """Return an IDAT chunk in parts: its content is most of the file, and need not be copied."""
    checksum = deflate.crc32(b"IDAT")
    for part in content:
        checksum = deflate.crc32(part, checksum)
    return four_bytes(sum(map(len, content))) + b"IDAT", *content, four_bytes(checksum)


def chunk(kind: bytes, *parts: bytes) -> bytes:
    """Return a chunk: length, kind, content, checksum."""
    content = b"".join([kind, *parts])
    return b"".join([four_bytes(len(content) - 4), content, four_bytes(deflate.crc32(content))])


def four_bytes(value: int) -> bytes:
    """Return a number as PNG has it, the high byte first."""
    return struct.pack(">I", value)


def compress(pixels: np.ndarray, fast: bool, threads: int | None) -> list[tuple[bytes, ...]]:
    """Return the zlib stream of a picture's filtered rows, in pieces of some parts each.

    The bands' height depends on the picture alone, so the bytes do not depend on the number of threads.
    """
    height, width, channels = pixels.shape
    length = width * channels * pixels.dtype.itemsize
    band = max(1, _BAND_BYTES // length)
    firsts = range(0, height, band)
    threads = default_threads() if threads is None else threads
    memory = Memory()
    tasks = [partial(_compress_band, pixels, first, min(first + band, height), fast, memory) for first in firsts]
    bands = run_tasks(tasks, threads)
    total = 1
    for _, checksum, size in bands:
        total = deflate.join_adler32(total, checksum, size)
    return [(deflate.ZLIB_HEADER,), *(blocks for blocks, _, _ in bands), (four_bytes(total),)]


def _compress_band(
    pixels: np.ndarray, first: int, end: int, fast: bool, memory: Memory
) -> tuple[tuple[bytes, bytes], int, int]:
    """Filter and compress rows; each thread uses its `memory` again for its next band."""
    rows = _rows_with_one_above(pixels, first, end)
    filtered = memory.array("filtered", (end - first, 1 + rows.shape[1]), np.uint8)
    if fast:
        filtered[:, 0] = png_loops.NONE
        filtered[:, 1:] = rows[1:]
    else:
        png_loops.filter_rows(rows, filtered, pixels.shape[2] * pixels.dtype.itemsize)
    data = filtered.data.cast("B")
    blocks = deflate.compress_band(data, last=end == len(pixels), stored=fast)
    return blocks, deflate.adler32(data), len(data)


def _rows_with_one_above(pixels: np.ndarray, first: int, end: int) -> np.ndarray:
    """Return a band's rows as the file has them (16 bits with the high byte first), zeros above the first."""
    band = pixels[max(first - 1, 0) : end]
    if pixels.dtype == np.uint16:
        band = band.astype(">u2").view(np.uint8)
    rows = band.reshape(len(band), -1)
    if first == 0:
        rows = np.concatenate([np.zeros_like(rows[:1]), rows])
    return rows
