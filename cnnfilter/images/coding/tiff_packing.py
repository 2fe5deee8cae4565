"""Strips and tiles of TIFF pages, compressed as those of the input or as it was asked for.

Deflate is compressed by zlib, and all others by Pillow's libtiff, as pictures of bytes. Predictors are applied here.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import mmap
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.images.coding import tiff_jpeg
from cnnfilter.images.coding.coding import Coding, Packing
from cnnfilter.images.coding.settings import DEFAULT, FAST, Settings
from cnnfilter.images.formats import pillow
from cnnfilter.images.formats.tiff_tags import read_tags
from cnnfilter.images.image import warn
from cnnfilter.runtime.parallel import default_threads, run_tasks

NONE, LZW, DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, 8, 32773, 34925, 50000
"""Values of tag 259."""

_NAMES = {"none": NONE, "lzw": LZW, "deflate": DEFLATE, "packbits": PACKBITS, "lzma": LZMA, "zstd": ZSTD}
_OLD_DEFLATE = 32946
_LIBTIFF_NAMES = {LZW: "tiff_lzw", PACKBITS: "packbits", LZMA: "lzma", ZSTD: "zstd"}
_OTHER_NAMES = {2: "CCITT", 3: "CCITT fax 3", 4: "CCITT fax 4", 6: "JPEG", 7: "JPEG", 34712: "JPEG 2000"}

_DIFFERENCES, _FLOAT_DIFFERENCES = 2, 3  # values of tag 317
_PREDICTABLE = (LZW, DEFLATE, _OLD_DEFLATE, LZMA, ZSTD)

DEFAULT_LEVEL = 6
"""The level of Deflate, zlib's own default."""
_MAX_SEGMENT_BYTES = 16 << 20
"""Bytes of an unpacked strip at most; readers take one strip at a time."""

_DEFAULT_SEGMENT_BYTES = 1 << 18
"""Bytes of an unpacked strip where the input has none: enough for each thread of a large page, and for compression."""

_BATCH_BYTES = 64 << 20
"""Bytes of unpacked segments that are compressed before they are put away."""

_MEMORY_BYTES = 256 << 20
"""Bytes of compressed segments from which on they are put into a temporary file."""

_COMPRESSION, _STRIPS, _ROWS_PER_STRIP, _STRIP_BYTES, _PREDICTOR = 259, 273, 278, 279, 317
_TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_BYTES = 322, 323, 324, 325


class Packed(NamedTuple):
    """The compressed segments of a page: how they are packed, the bytes of each, all of them in pieces, and tags."""

    packing: Packing
    sizes: list[int]
    pieces: list[bytes | memoryview]
    more_tags: Mapping[int, Any]

    @property
    def size(self) -> int:
        """The bytes of all segments, each of which begins at an even offset."""
        return sum(size + size % 2 for size in self.sizes)

    def tags(self, at: int) -> dict[int, Any]:
        """Return the tags that describe the segments, which follow one another from offset `at`."""
        starts = itertools.accumulate((size + size % 2 for size in self.sizes[:-1]), initial=at)
        tags: dict[int, Any] = {_COMPRESSION: self.packing.compression, **self.more_tags}
        if self.packing.predictor != 1:
            tags[_PREDICTOR] = self.packing.predictor
        if self.packing.tile is None:
            return tags | {_STRIPS: [*starts], _ROWS_PER_STRIP: self.packing.rows, _STRIP_BYTES: self.sizes}
        down, across = self.packing.tile
        return tags | {_TILE_LENGTH: down, _TILE_WIDTH: across, _TILES: [*starts], _TILE_BYTES: self.sizes}


def coding_of(file: BinaryIO) -> Coding:
    """Return how a file's first page is compressed, and cut into strips or tiles."""
    file.seek(0)
    try:
        tags = read_tags(file)
        packing = packing_of(tags)
        tables, subsampling = tiff_jpeg.settings_of(tags, file) if packing.compression == tiff_jpeg.JPEG else ((), None)
        return Coding("tiff", tables, subsampling, packing=packing)
    except Exception:  # the picture can be read without it
        return Coding("tiff")


def packing_of(tags: Mapping[int, Any]) -> Packing:
    """Return how a page with these tags is packed; values that are no whole numbers from 1 up are none."""
    compression, predictor = (_number(tags.get(tag, 1)) or 1 for tag in (_COMPRESSION, _PREDICTOR))
    tile = _number(tags.get(_TILE_LENGTH)), _number(tags.get(_TILE_WIDTH))
    rows = _number(tags.get(_ROWS_PER_STRIP))
    if tile[0] and tile[1] and tile[0] % 16 == tile[1] % 16 == 0:  # TIFF 6.0, section 15
        return Packing(compression, predictor, (tile[0], tile[1]))
    return Packing(compression, predictor, None, rows)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def choose_packing(kept: Coding | None, settings: Settings, dtype: np.dtype[Any], mode: str) -> Packing:
    """Return how a page of this dtype and mode is to be packed: as was asked for, else as the input was.

    Warns
    -----
    ImageWarning
        The input has a compression that is not written here.
    """
    packing = kept.packing if kept is not None and kept.format == "tiff" else Packing()
    if settings.compression not in (DEFAULT, FAST):
        compression = _NAMES.get(settings.compression, DEFLATE if settings.deflate_level(1) else NONE)
        predictor = packing.predictor if compression == packing.compression else _DIFFERENCES
        packing = dataclasses.replace(packing, compression=compression, predictor=predictor)
    elif packing.compression == tiff_jpeg.JPEG and tiff_jpeg.holds(dtype, mode):
        pass
    elif packing.compression not in (*_NAMES.values(), _OLD_DEFLATE):
        name = _OTHER_NAMES.get(packing.compression, f"number {packing.compression}")
        reason = "which is not written here"
        if packing.compression == tiff_jpeg.JPEG:
            reason = "which holds grey and RGB of 8 bits only"
        warn(f"the input is compressed by {name}, {reason}: deflate, without loss, takes its place")
        packing = dataclasses.replace(packing, compression=DEFLATE, predictor=_DIFFERENCES)
    return dataclasses.replace(packing, predictor=_predictor_for(packing, dtype))


def _predictor_for(packing: Packing, dtype: np.dtype[Any]) -> int:
    """Return the predictor that readers know for a compression and a dtype: floats have one of their own."""
    if packing.predictor not in (_DIFFERENCES, _FLOAT_DIFFERENCES) or packing.compression not in _PREDICTABLE:
        return 1
    return _FLOAT_DIFFERENCES if dtype.kind == "f" else _DIFFERENCES


def pack(
    pixels: np.ndarray,
    packing: Packing,
    order: str,
    *,
    level: int = DEFAULT_LEVEL,
    kept: Coding | None = None,
    threads: int | None = None,
) -> Packed:
    """Compress the segments of a page (H, W, C) on several threads.

    Parameters
    ----------
    order : byte order of the file, ``<`` or ``>``
    level : of Deflate
    kept : how the input is compressed, for the tables of JPEG data

    Raises
    ------
    ImageError
        This Pillow does not have the compression.
    """
    height, width, channels = pixels.shape
    row_bytes = width * channels * pixels.itemsize
    is_jpeg = packing.compression == tiff_jpeg.JPEG
    coding = kept or Coding("tiff")
    segment_bytes = math.prod(packing.tile or ()) * channels * pixels.itemsize
    if packing.tile is None or segment_bytes > _MAX_SEGMENT_BYTES:
        wanted = packing.rows or max(1, _DEFAULT_SEGMENT_BYTES // row_bytes)
        rows = min(wanted, max(1, _MAX_SEGMENT_BYTES // row_bytes))
        if is_jpeg:
            rows = -(-rows // tiff_jpeg.unit_rows(coding)) * tiff_jpeg.unit_rows(coding)
        packing = dataclasses.replace(packing, tile=None, rows=min(height, rows))
        segment_bytes = min(height, rows) * row_bytes
    if is_jpeg:
        compress = partial(tiff_jpeg.compress, coding=coding)
    else:
        compress = partial(_compress, packing=packing, order=order, level=level)
    store = _Store()
    batch: list[np.ndarray] = []
    for segment in _segments(pixels, packing):
        batch.append(segment)
        if len(batch) * segment_bytes >= _BATCH_BYTES:
            store.put(_compressed(batch, compress, threads))
            batch = []
    store.put(_compressed(batch, compress, threads))
    more = tiff_jpeg.tags(channels, coding) if is_jpeg else {}
    return Packed(packing, store.sizes, store.pieces(), more)


def _segments(pixels: np.ndarray, packing: Packing) -> Iterator[np.ndarray]:
    """Yield strips, or tiles that repeat the edge of the page where they reach beyond it."""
    height, width, _ = pixels.shape
    if packing.tile is None:
        rows = packing.rows or height
        yield from (pixels[top : top + rows] for top in range(0, height, rows))
        return
    down, across = packing.tile
    for top in range(0, height, down):
        for left in range(0, width, across):
            part = pixels[top : top + down, left : left + across]
            if part.shape[:2] == packing.tile:
                yield part
            else:
                missing = (0, down - part.shape[0]), (0, across - part.shape[1]), (0, 0)
                yield np.pad(part, missing, mode="edge")


def _compressed(batch: list[np.ndarray], compress: Callable[[np.ndarray], bytes], threads: int | None) -> list[bytes]:
    tasks = [partial(compress, segment) for segment in batch]
    return run_tasks(tasks, default_threads() if threads is None else threads) if tasks else []


def _compress(segment: np.ndarray, packing: Packing, order: str, level: int) -> bytes:
    rows = _predicted(segment, packing.predictor, order)
    if packing.compression == NONE:
        return rows.tobytes()
    if packing.compression in (DEFLATE, _OLD_DEFLATE):
        return zlib.compress(rows.data, level)
    return _by_libtiff(rows, _LIBTIFF_NAMES[packing.compression])


def _predicted(segment: np.ndarray, predictor: int, order: str) -> np.ndarray:
    """Return the rows (h, bytes) of a segment (h, w, c) with a predictor applied, in a byte order."""
    height, _, channels = segment.shape
    if predictor == _FLOAT_DIFFERENCES:  # the bytes of a row sorted by significance (TIFF Technical Note 3)
        size = segment.itemsize
        numbers = np.ascontiguousarray(segment, f">f{size}").view(np.uint8).reshape(height, -1, size)
        planes = np.ascontiguousarray(numbers.swapaxes(1, 2)).reshape(height, -1, channels)
        return _differences(planes).reshape(height, -1)
    if predictor == _DIFFERENCES:
        segment = _differences(np.ascontiguousarray(segment).view(f"u{segment.itemsize}"))
    stored = np.ascontiguousarray(segment, order + segment.dtype.str[1:])
    return stored.view(np.uint8).reshape(height, -1)


def _differences(samples: np.ndarray) -> np.ndarray:
    """Return unsigned samples (h, w, c), each but the first of a row less that on its left."""
    result = samples.copy()
    result[:, 1:] -= samples[:, :-1]
    return result


def _by_libtiff(rows: np.ndarray, name: str) -> bytes:
    """Return rows of bytes compressed by libtiff: the only strip of a picture that Pillow writes."""
    from PIL import Image as PillowImage
    from PIL import TiffImagePlugin

    stream = io.BytesIO()
    try:
        format = TiffImagePlugin.TiffImageFile.format  # the plugin is imported, so that `save` does not import all
        PillowImage.fromarray(rows).save(stream, format, compression=name, strip_size=rows.nbytes)
    except OSError as error:
        raise ImageError(f"this Pillow does not compress tiff by {name.removeprefix('tiff_')}: {error}") from error
    with pillow.open_file(stream.getvalue(), "tiff") as written:
        (offset,), (size,) = written.tag_v2[273], written.tag_v2[279]
    return stream.getvalue()[offset : offset + size]


class _Store:
    """Compressed segments, in memory or, if they are large, in a temporary file that has no name."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._parts: list[bytes] = []
        self._bytes = 0
        self._file: Any = None

    def put(self, segments: list[bytes]) -> None:
        """Add segments; each begins at an even offset."""
        self.sizes += map(len, segments)
        for segment in segments:
            self._parts += [segment, bytes(len(segment) % 2)]
        self._bytes += sum(map(len, segments))
        if self._bytes > _MEMORY_BYTES:
            self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115 - it lasts as long as its mapping
            for part in self._parts:
                self._file.write(part)
            self._parts.clear()

    def pieces(self) -> list[bytes | memoryview]:
        """Return all segments, each followed by a byte if its size is odd."""
        if self._file is None:
            return [*self._parts]
        self._file.flush()
        with self._file:
            stored = memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
        return [stored, *self._parts]
