"""JPEG files (ITU-T T.81): decoded by Pillow without copies, and encoded by Pillow on several threads.

Pillow stores RGB in four bytes a pixel. Here it decodes into memory of this module, in which a compiled loop removes
each fourth byte. A large picture is encoded in bands of rows as one picture each; the scans of all bands are joined
with restart markers, after which a decoder starts anew.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.images.coding.coding import of_jpeg
from cnnfilter.images.coding.settings import NO_SETTINGS, Settings
from cnnfilter.images.formats import pillow
from cnnfilter.images.formats.jpeg_loops import add_fourth, drop_fourth
from cnnfilter.images.image import Image, check_size
from cnnfilter.runtime.buffers import Memory, zeros
from cnnfilter.runtime.parallel import default_threads, run_tasks

_MARKER, _END, _SCAN, _RESTART = b"\xff", 0xD9, 0xDA, 0xD0
"""The byte before each marker, and markers (ITU-T T.81, table B.1)."""

_MODE_IN_MEMORY = {"L": "L", "RGB": "RGBX", "CMYK": "CMYK"}  # the mode in which Pillow stores each mode
_MAX_PIXELS_PER_BYTE = 2048  # 16x16 pixels take a bit at least, if chroma is subsampled and in a scan of its own
_MODE_OF_CHANNELS = {1: "L", 3: "RGBX", 4: "CMYK"}
_FRAMES = (0xC0, 0xC1)  # SOF0 and SOF1, the segment with the picture's size; tables of 16 bits make it SOF1
_UNIT_PIXELS = (
    (8, 8),
    (16, 8),
    (16, 16),
)  # columns and rows of a unit of 444, 422 and 420; restart intervals count units
_MAX_INTERVAL_UNITS = 0xFFFF  # the restart interval is a 16-bit number (ITU-T T.81, B.2.4.4)
_BAND_BYTES = 3 << 19  # bytes of pixels that are encoded as one band
_MAX_BYTES_PER_SAMPLE = 2
"""Bytes of a progressive file for a sample of the picture at most: noise at quality 100 takes 1.2."""
_MAX_HEADER_BYTES = 2048  # more than the headers of a band without metadata take


def read(data: bytes, max_pixels: int) -> Image:
    """Decode a JPEG file's bytes.

    Raises
    ------
    ImageError
        The file is cut off, or has more than `max_pixels`.
    """
    with pillow.open_file(data, "jpg") as picture:
        width, height = picture.size
        check_size(width, height, max_pixels)
        if not _is_possible_size(width, height, len(data)):
            raise ImageError(f"the file is cut off: {width}x{height} pixels need more than is there")
        if not picture.tile:  # `_decode_into` gives Pillow memory, which hides from it that nothing was decoded
            raise ImageError("the file is cut off: it ends before its scan")
        metadata = pillow.read_metadata(picture)
        coding = of_jpeg(picture)
        pixels, mode = _decoded(picture, len(data))
    return Image(pixels, mode, "jpg", metadata, coding=coding)


def _is_possible_size(width: int, height: int, size: int) -> bool:
    """Return whether a file of `size` bytes can hold so many pixels."""
    return width * height <= _MAX_PIXELS_PER_BYTE * size + 65536


_Pixels = mmap.mmap | bytearray
"""Memory for pixels of 1 byte (grey) or 4 bytes (RGB and a fourth, CMYK)."""


def _decoded(picture: Any, size: int) -> tuple[np.ndarray, str]:
    """Return pixels and mode of a file of `size` bytes that Pillow has opened."""
    width, height = picture.size
    memory = _memory_for(picture)
    if not _decode_into(picture, size, memory):
        return pillow.to_array(picture)
    pixels = np.frombuffer(memory, np.uint8)
    if picture.mode == "RGB":
        drop_fourth(pixels, 0, width * height)
        pixels = pixels[: 3 * width * height]
        _release_unused(memory, pixels.size)
    return pixels.reshape(height, width, -1), picture.mode


def _memory_for(picture: Any) -> _Pixels:
    """Return memory for the pixels of a file that Pillow has opened, filled with zeros.

    Raises
    ------
    MemoryError
        There is not enough memory.
    """
    return zeros(picture.width * picture.height * len(_MODE_IN_MEMORY.get(picture.mode, "")))


def _decode_into(picture: Any, size: int, memory: _Pixels) -> bool:
    """Decode a file of `size` bytes that Pillow has opened into memory that `_memory_for` returned.

    Returns False, with nothing decoded into it, for other modes and if this Pillow decodes into memory of its own.
    """
    from PIL import Image as PillowImage

    mode = _MODE_IN_MEMORY.get(picture.mode)
    if mode is None:
        return False
    given: Any = memory
    shared = PillowImage.frombuffer(mode, picture.size, given, "raw", mode, 0, 1)
    picture.im = shared.im
    picture.decodermaxblock = size  # one piece, so that Pillow releases the interpreter lock once for all of it
    picture.load()
    return picture.im is shared.im


def _release_unused(memory: _Pixels, used: int) -> None:
    """Return the pages behind the first `used` bytes to the system."""
    unused = -(-used // mmap.PAGESIZE) * mmap.PAGESIZE
    if isinstance(memory, mmap.mmap) and unused < len(memory):
        with contextlib.suppress(AttributeError, OSError):  # not on Linux
            memory.madvise(mmap.MADV_DONTNEED, unused, len(memory) - unused)


def encode(image: Image, *, threads: int | None = None, settings: Settings = NO_SETTINGS) -> list[bytes]:
    """Return the pieces of a JPEG file.

    Parameters
    ----------
    image : Image
        uint8; L, RGB or CMYK.
    threads : int, optional
        Threads that encode; None is one for each core. The bytes do not depend on it.
    settings : Settings
        The quality and others that were asked for; without them, those of the file that the image was read from.
    """
    pixels = np.ascontiguousarray(image.pixels)
    height, width, channels = pixels.shape
    options = pillow.save_options(image, "jpg", settings)
    unit_width, unit_height = _UNIT_PIXELS[options["subsampling"] if channels == 3 else 0]
    across = -(-width // unit_width)
    units_high = max(1, min(_BAND_BYTES // (unit_height * width * channels), _MAX_INTERVAL_UNITS // across))
    band = unit_height * units_high
    if options.get("progressive"):  # its scans go over the whole picture
        with pillow.block_limit.at_least(_MAX_BYTES_PER_SAMPLE * pixels.size + _MAX_HEADER_BYTES):
            return [_encode_band(pixels, slice(height), options)]
    if height <= band:
        return [_encode_band(pixels, slice(height), options)]
    interval = {"restart_marker_blocks": across * units_high}
    plain = {name: options[name] for name in ("quality", "qtables", "subsampling") if name in options} | interval
    tasks: list[Callable[[], bytes]] = [
        partial(_encode_band, pixels, slice(band), options | interval),
        *(partial(_encode_scan, pixels, slice(first, first + band), plain) for first in range(band, height, band)),
    ]
    head, *scans = run_tasks(tasks, default_threads() if threads is None else threads)
    return _join_bands(head, scans, height)


def _encode_band(pixels: np.ndarray, rows: slice, settings: dict[str, Any]) -> bytes:
    """Return a band of rows as the bytes of a JPEG file."""
    with _memory_file() as file:
        size = _write_band(file, pixels[rows], settings)
        file.seek(0)
        return _read(file, size)


def _encode_scan(pixels: np.ndarray, rows: slice, settings: dict[str, Any]) -> bytes:
    """Return the scan of a band of rows: its JPEG file without headers and end marker."""
    with _memory_file() as file:
        size = _write_band(file, pixels[rows], settings)
        file.seek(0)
        start = _segment_bounds(_read(file, min(size, _MAX_HEADER_BYTES)))[_SCAN][1]
        file.seek(start)
        return _read(file, size - start - 2)


def _write_band(file: Any, pixels: np.ndarray, settings: dict[str, Any]) -> int:
    from PIL import Image as PillowImage
    from PIL import JpegImagePlugin

    height, width, channels = pixels.shape
    mode = _MODE_OF_CHANNELS[channels]
    given = _with_fourth_byte(pixels) if channels == 3 else pixels
    picture: Any = PillowImage.frombuffer(mode, (width, height), given, "raw", mode, 0, 1)
    picture.encoderinfo = settings  # as save() does, which would import the plugins of all formats
    PillowImage.SAVE[JpegImagePlugin.JpegImageFile.format](picture, file, "")
    size: int = file.tell()
    return size


_memory = Memory()
"""New memory costs more than filling it, so each thread keeps what it encodes from."""


def _with_fourth_byte(pixels: np.ndarray) -> np.ndarray:
    """Return RGB pixels (H, W, 3) as a flat array of RGBX, in memory that the thread's next call overwrites."""
    count = pixels.size // 3
    four: np.ndarray = _memory.array("RGBX", (4 * count,), np.uint8)
    add_fourth(pixels.reshape(-1), four, count)
    return four


def _memory_file() -> Any:
    """Return a file in memory with a descriptor if possible, as Pillow writes to those without the interpreter lock."""
    with contextlib.suppress(ImportError, AttributeError, OSError):  # not on Linux, or not allowed
        if not _are_files_limited():
            return open(os.memfd_create("jpeg"), "w+b", buffering=0)
    return io.BytesIO()  # the bytes are the same, but only one thread encodes at a time


def _are_files_limited() -> bool:
    """Return whether the process may only write files up to a size; that limit holds for files in memory, too."""
    import resource

    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY


def _read(file: Any, size: int) -> bytes:
    data: bytes = file.read(size)
    if len(data) != size:
        raise OSError("what was encoded cannot be read back")
    return data


def _segment_bounds(file: bytes) -> dict[int, tuple[int, int]]:
    """Return start and end of each segment of a file by its marker."""
    return {marker: (start, end) for marker, start, end in _segments(file)}


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment of a file up to the header of its first scan."""
    at = 2
    while at + 4 <= len(data) and data[at : at + 1] == _MARKER:
        marker = data[at + 1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, at, end
        if marker == _SCAN:
            return
        at = end


def _join_bands(first: bytes, scans: list[bytes], height: int) -> list[bytes]:
    """Return the parts of a file: the first band's file with the height of all bands, and the scans of the others."""
    bounds = _segment_bounds(first)
    size_at = (
        next(bounds[marker][0] for marker in _FRAMES if marker in bounds) + 5
    )  # after marker, length, sample depth
    parts = [first[:size_at], height.to_bytes(2, "big"), first[size_at + 2 : -2]]
    for index, scan in enumerate(scans):
        parts += [_MARKER + bytes([_RESTART + index % 8]), scan]
    return [*parts, _MARKER + bytes([_END])]
