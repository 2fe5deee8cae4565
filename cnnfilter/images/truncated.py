"""Complete files that are cut off, so that their decoders read what there is.

Each decoder refuses a file whose data end early. With ``accept_truncated``, `cnnfilter.images.files` lets this module
fill the missing part of such a file, in the file's own format, and decodes it again. WebP and AVIF cannot be completed,
because their decoders need all data of a frame.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator

from cnnfilter.images import gif

_END_OF_JPEG = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_SEGMENT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8\xda-\xfe]")
"""Every marker but restart and end markers, which have no segment; FF 00 and FF FF are none (T.81, B.1.1)."""

_PNG_SIGNATURE_BYTES = 8
_MAX_SAMPLE_BYTES = 8
"""Bytes of the longest sample of PNM and PNG files, and characters of a number that fills a plain PNM file."""


def completed(data: bytes, format: str, max_pixels: int) -> bytes | None:
    """Return a file that is cut off with its missing part filled; None if nothing of the picture is there.

    >>> completed(b"P5 2 1 255 a", "ppm", 100)[:13]
    b'P5 2 1 255 a\\x00'
    """
    complete = _COMPLETIONS.get(format)
    return None if complete is None else complete(data, max_pixels)


def _complete_jpeg(data: bytes, max_pixels: int) -> bytes | None:
    """Return the file with an end marker behind its last complete segment: the decoder fills the blocks before it."""
    at, has_scan = 2, False
    while (at := _next_marker(data, at)) + 4 <= len(data):
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end >= len(data):
            break
        has_scan |= data[at + 1] == _START_OF_SCAN
        at = end
    return data[:at] + _END_OF_JPEG if has_scan else None


def _next_marker(data: bytes, at: int) -> int:
    """Return the position of the next marker that begins a segment, or of the end without an incomplete marker."""
    found = _SEGMENT_MARKER.search(data, at)
    return found.start() if found else len(data.rstrip(b"\xff"))


def _complete_png(data: bytes, max_pixels: int) -> bytes | None:
    """Return the file with the rows that can be unpacked, and zeros for the others."""
    chunks = list(_png_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        return None
    frames = [index for index, (kind, _) in enumerate(chunks) if kind == b"fcTL"]
    if frames and any(kind == b"fdAT" for kind, _ in chunks):  # the last frame of an animation may be incomplete
        chunks = chunks[: frames[-1]]
    width, height = struct.unpack_from(">II", chunks[0][1])
    packed = b"".join(content for kind, content in chunks if kind == b"IDAT")
    rows = _unpacked(packed, (width * _MAX_SAMPLE_BYTES + 8) * (height + 8)) if width * height <= max_pixels else b""
    if not rows:
        return None
    bits = chunks[0][1][8] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(chunks[0][1][9], 4)
    filled = rows.ljust((-(-width * bits // 8) + 8) * (height + 8) * (2 if chunks[0][1][12] else 1), b"\0")
    first = next(index for index, (kind, _) in enumerate(chunks) if kind == b"IDAT")
    kept = [chunk for chunk in chunks if chunk[0] not in (b"IDAT", b"IEND")]
    kept.insert(first, (b"IDAT", zlib.compress(filled, 1)))
    parts = [data[:_PNG_SIGNATURE_BYTES]]
    for kind, content in [*kept, (b"IEND", b"")]:
        parts.append(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
    return b"".join(parts)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of each chunk that is whole, and of IDAT also what there is."""
    at = _PNG_SIGNATURE_BYTES
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        content = data[at + 8 : at + 8 + length]
        is_whole = data[at + 8 + length : at + 12 + length] == struct.pack(">I", zlib.crc32(kind + content))
        if is_whole or kind == b"IDAT":
            yield kind, content
        at += 12 + length


def _unpacked(packed: bytes, limit: int) -> bytes:
    """Return up to `limit` bytes of a zlib stream that may be cut off or damaged."""
    inflater, found = zlib.decompressobj(), bytearray()
    for at in range(0, len(packed), 64):
        try:
            found += inflater.decompress(packed[at : at + 64], max(1, limit - len(found)))
        except zlib.error:
            break
        if len(found) >= limit:
            break
    return bytes(found)


def _complete_gif(data: bytes, max_pixels: int) -> bytes | None:
    """Return the file up to its last complete frame; of a first frame that is cut off, what can be unpacked."""
    blocks = list(gif.blocks(data))
    frame_ends = [end for kind, end in blocks if kind == gif.IMAGE]
    if frame_ends:
        return data[: frame_ends[-1]] + bytes([gif.TRAILER])
    start = blocks[-1][1] if blocks else 13 + gif.palette_bytes(data[10])
    if data[start : start + 1] != bytes([gif.IMAGE]) or start + 10 > len(data):
        return None
    width, height = struct.unpack_from("<HH", data, start + 5)
    codes_at = start + 10 + gif.palette_bytes(data[start + 9])
    packed, at = b"", codes_at + 1
    while at < len(data) and data[at]:
        packed += data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
    if not packed or width * height > max_pixels or not 1 <= data[codes_at] <= 8:
        return None
    indices = gif.unpack(packed, data[codes_at], width * height)
    return data[: codes_at + 1] + gif.pack(indices.ljust(width * height, b"\0"), data[codes_at])


def _complete_bmp(data: bytes, max_pixels: int) -> bytes | None:
    if len(data) <= 54 or len(data) <= int.from_bytes(data[10:14], "little"):
        return None
    width, height = struct.unpack_from("<ii", data, 18)
    return _with_zeros(data, (abs(width) + 4) * 4, abs(height), max_pixels)


def _complete_tga(data: bytes, max_pixels: int) -> bytes | None:
    width, height = struct.unpack_from("<HH", data, 12)
    palette = int.from_bytes(data[5:7], "little") * (data[7] + 7) // 8 if data[1] else 0
    return _with_zeros(data, width * 8, height, max_pixels) if len(data) > 18 + data[0] + palette else None


def _complete_pnm(data: bytes, max_pixels: int) -> bytes | None:
    if data[:2] == b"P7":
        fields = dict(re.findall(rb"(?m)^(WIDTH|HEIGHT)\s+(\d{1,9})\s*$", data[:4096]))
        start = data.find(b"ENDHDR\n") + 7
        sides = [int(fields.get(name, 0)) for name in (b"WIDTH", b"HEIGHT")]
    else:
        words = 2 if data[:2] in (b"P1", b"P4") else 3
        header = re.match(rb"P.(?:(?:\s|#[^\n\r]*[\n\r])+([^\s#]+)){%d}" % words, data)
        found = re.findall(rb"\b(\d{1,9})\b", re.sub(rb"#[^\n\r]*", b"", data[2:4096]))[:2]
        if header is None or len(found) < 2:
            return None
        start, sides = header.end() + 1, [int(word) for word in found]
    if len(data) <= max(start, 7) or sides[0] * sides[1] > max_pixels:
        return None
    if data[1:2] in b"123":
        return data + b" 0" * (sides[0] * sides[1] * 3)
    return _with_zeros(data, sides[0] * 2 * _MAX_SAMPLE_BYTES, sides[1], max_pixels)


def _complete_npy(data: bytes, max_pixels: int) -> bytes | None:
    from cnnfilter.images.formats import npy

    stream = io.BytesIO(data)
    shape, _, dtype = npy.parse_header(stream)
    samples = 1
    for side in shape:
        samples *= side
    if len(data) <= stream.tell() or samples > 16 * max_pixels:
        return None
    return data.ljust(stream.tell() + samples * dtype.itemsize, b"\0")


def _complete_tiff(data: bytes, max_pixels: int) -> bytes | None:
    """Return the file with zeros up to the end of its last strip or tile, without directories that are not there."""
    from cnnfilter.images.formats import tiff_tags as tag

    data = _with_ends_of_jpeg(tag.without_fault(data))
    end = 0
    for directory in tag.follow_directories(io.BytesIO(data))[0]:
        offsets = tag.numbers_of(data, directory, tag.STRIPS) or tag.numbers_of(data, directory, tag.TILES)
        sizes = tag.numbers_of(data, directory, tag.STRIP_BYTES) or tag.numbers_of(data, directory, tag.TILE_BYTES)
        if not offsets or not sizes or min(offsets) >= len(data):
            return None
        end = max([end, *(offset + size for offset, size in zip(offsets, sizes, strict=False))])
    return data.ljust(end, b"\0") if end <= len(data) + 64 * max_pixels else None


def _with_ends_of_jpeg(data: bytes) -> bytes:
    """Return a TIFF file whose strips and tiles of JPEG data have an end marker."""
    from cnnfilter.images.formats import tiff_tags

    ended = bytearray(data)
    for directory in tiff_tags.follow_directories(io.BytesIO(data))[0]:
        for at, size in tiff_tags.segments_without_end(data, directory):
            if at + size <= len(data):
                ended[at + size - 2 : at + size] = _END_OF_JPEG
    return bytes(ended)


def _with_zeros(data: bytes, row_bytes: int, rows: int, max_pixels: int) -> bytes | None:
    """Return the data with so many rows of zeros; None for more than a picture of `max_pixels` has."""
    return data + bytes(row_bytes * rows) if row_bytes * rows <= 64 * max_pixels else None


_COMPLETIONS: dict[str, Callable[[bytes, int], bytes | None]] = {
    "jpg": _complete_jpeg,
    "png": _complete_png,
    "gif": _complete_gif,
    "bmp": _complete_bmp,
    "tga": _complete_tga,
    "ppm": _complete_pnm,
    "npy": _complete_npy,
    "tiff": _complete_tiff,
}
