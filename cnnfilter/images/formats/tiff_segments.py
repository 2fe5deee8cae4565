"""Segments of a TIFF page, which are its strips or tiles: decompressed one after the other.

Segments with whole bytes are decompressed by Pillow's libtiff as pictures of bytes, and predictors are undone here.
libtiff allocates only the size that a segment must have; tifffile would decompress Deflate to any size, and LZW only
with a further library. tifffile reads uncompressed segments with whole bytes.

Samples that do not fill bytes are widened in `cnnfilter.images.unpacking.tiff_samples`, where pixels get their mode.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from cnnfilter.errors import CnnfilterError, ImageError
from cnnfilter.images.formats import pillow
from cnnfilter.images.formats.tiff_tags import (
    BITS,
    BLACK_IS_ZERO,
    CMYK,
    COMPRESSION,
    LENGTH,
    PHOTOMETRIC,
    PREMULTIPLIED,
    RGB,
    ROWS_PER_STRIP,
    SAMPLES,
    STRIP_BYTES,
    STRIPS,
    TILE_BYTES,
    TILE_LENGTH,
    TILE_WIDTH,
    TILES,
    WHITE_IS_ZERO,
    WIDTH,
    Layout,
    follow_directories,
    without_copies,
)
from cnnfilter.images.image import AsImageError, as_pixels, check_frames, check_size
from cnnfilter.images.unpacking.tiff_samples import bands_of, interpret, is_packed, name_of, unpack_samples

if TYPE_CHECKING:
    from tifffile import TiffPage

_READ_BYTES = 8 << 20
"""Bytes of small segments that are read and decompressed together."""

MAX_SEGMENT_BYTES = 64 << 20
"""Bytes of an unpacked segment; a page with larger ones is not read segment by segment into a mapped file."""

_UNCOMPRESSED = 1  # the value of tag 259
_LIBTIFF_COMPRESSIONS = (5, 8, 32946, 32773, 34925, 50000)
"""Lossless compressions that libtiff decompresses: LZW, Deflate under two numbers, PackBits, LZMA, Zstandard."""

_UNBOUNDED_DECOMPRESSORS = {8: "zlib.decompressobj", 32946: "zlib.decompressobj", 34925: "lzma.LZMADecompressor"}
"""The decompressors of compressions that tifffile decompresses without a limit of size."""

_WHOLE_BYTE_BITS = (8, 16, 32, 64)  # bits of a sample that libtiff can treat as bytes

_MAX_SAMPLES_PER_PIXEL = 0xFFFF  # tag 277 is a 16-bit number

TIFFFILE_OPTIONS = {"is_lsm": False, "is_ndpi": False, "is_scanimage": False}
"""Options with which tifffile does not read all directories of a microscope's file when it opens it."""

ReadAt = Callable[[int, int], bytes]
"""A function of offset and count that returns bytes of a file."""


class Segment(NamedTuple):
    """A strip or tile, or several joined: its place in the page, and its samples (h, w, c)."""

    top: int
    left: int
    channel: int
    values: np.ndarray

    def fill(self, pixels: np.ndarray) -> None:
        """Copy the samples to their place in the page (H, W, C)."""
        height, width, channels = self.values.shape
        rows, columns = slice(self.top, self.top + height), slice(self.left, self.left + width)
        pixels[rows, columns, self.channel : self.channel + channels] = self.values


def segments_of(page: TiffPage, read: ReadAt) -> Iterator[Segment]:
    """Return the segments of a page, small ones joined.

    Raises
    ------
    ImageError
        The page has too few segments, or much too large ones. While the segments are read, the two libraries
        raise exceptions of their own.
    """
    down, across = _segment_size(page)
    place = page.samplesperpixel * -(-page.bitspersample // 8)
    if down * across * place > max(MAX_SEGMENT_BYTES, 2 * page.imagelength * page.imagewidth * place):
        raise ImageError(
            f"tiles of {across}x{down} are out of proportion to {page.imagewidth}x{page.imagelength} pixels"
        )
    there, needed = _count_segments(page)
    if there < needed:
        raise ImageError(f"it is cut off: {there} of its {needed} strips or tiles are there")
    if is_packed(page):
        return _segments_of_packed(page, read)
    if page.compression in _LIBTIFF_COMPRESSIONS and page.bitspersample in _WHOLE_BYTE_BITS and page.fillorder == 1:
        return _segments_by_libtiff(page, read)
    if page.compression not in (_UNCOMPRESSED, *_LIBTIFF_COMPRESSIONS):
        samples = f"{page.samplesperpixel} samples of {page.bitspersample} bits"
        raise ImageError(f"{samples} with the compression {name_of(page.compression)} cannot be read")
    if page.bitspersample not in _WHOLE_BYTE_BITS:
        raise ImageError(f"samples of {page.bitspersample} bits cannot be read; those of 1 to 16, 32 and 64 bits can")
    return _segments_by_tifffile(page, read)


def _count_segments(page: TiffPage) -> tuple[int, int]:
    """Return the number of segments that have an offset and a size, and the number that the page needs."""
    return min(len(page.dataoffsets), len(page.databytecounts)), math.prod(page.chunked)


def check_page(page: TiffPage, max_pixels: int) -> None:
    """Check the sizes of a page: whole numbers, and no more than `max_pixels`.

    A pixel counts once for every four samples that it has, because a short file can claim billions of samples.

    Raises
    ------
    ImageError
        A size is not a whole number, there are no pixels, or too many.
    """
    sizes = (page.samplesperpixel, page.bitspersample, page.rowsperstrip, page.tilewidth, page.tilelength)
    if not all(isinstance(size, int) for size in (page.imagewidth, page.imagelength, *sizes)):
        raise ImageError("its sizes are not whole numbers")
    if not 0 < page.samplesperpixel <= _MAX_SAMPLES_PER_PIXEL:
        raise ImageError(f"pixels of {page.samplesperpixel} samples are not possible")
    check_size(page.imagewidth, page.imagelength, max_pixels)
    if (pixels := page.imagewidth * page.imagelength * -(-page.samplesperpixel // 4)) > max_pixels:
        raise ImageError(
            f"{page.imagewidth}x{page.imagelength} of {page.samplesperpixel} samples is as much as {pixels:,} pixels; "
            f"the limit is {max_pixels:,} (--max-pixels {pixels} allows it)"
        )


def _refuse_unbounded(page: TiffPage, read: ReadAt) -> None:
    """Raise ImageError if a segment that tifffile is to decompress expands to more bytes than it must have."""
    module, _, name = _UNBOUNDED_DECOMPRESSORS.get(int(page.compression), "").partition(".")
    if not module:
        return
    unpacker = getattr(importlib.import_module(module), name)
    down, across = _segment_size(page)
    max_bytes = down * (across * page.samplesperpixel * page.bitspersample + 7) // 8 + down
    for place in zip(page.dataoffsets, page.databytecounts, strict=True):
        if len(unpacker().decompress(read(*place), max_bytes + 1)) > max_bytes:
            raise ImageError("a strip or tile of it unpacks to more than there is room for")


def _segment_size(page: TiffPage) -> tuple[int, int]:
    """Return rows and columns of a segment."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _segments_by_tifffile(page: TiffPage, read: ReadAt) -> Iterator[Segment]:
    _refuse_unbounded(page, read)
    for found in page.segments(maxworkers=1, buffersize=_READ_BYTES):
        data, (channel, _, top, left, _), shape = found
        values = np.full(shape, page.nodata, page.dtype) if data is None else data
        yield Segment(top, left, channel, values[0, : page.imagelength - top, : page.imagewidth - left])


def _segments_by_libtiff(page: TiffPage, read: ReadAt) -> Iterator[Segment]:
    assert page.dtype is not None
    separate = page.planarconfig == 2 and page.samplesperpixel > 1
    samples, planes = (1, page.samplesperpixel) if separate else (page.samplesperpixel, 1)
    width, length = page.imagewidth, page.imagelength
    down, across = _segment_size(page)
    columns, rows = -(-width // across), -(-length // down)
    together = 1 if page.is_tiled else max(1, _READ_BYTES // (down * across * samples * page.dtype.itemsize))
    for plane in range(planes):
        for row in range(0, rows, together):
            first = (plane * rows + row) * columns
            end = (plane * rows + min(row + together, rows)) * columns
            places = zip(page.dataoffsets[first:end], page.databytecounts[first:end], strict=True)
            segments = [read(*place) for place in places]
            height = down if page.is_tiled else min(together * down, length - row * down)
            unpacked = _unpack(segments, page, samples, across, (height, columns * across, down))
            yield Segment(row * down, 0, plane, unpacked[: length - row * down, :width])


def _segments_of_packed(page: TiffPage, read: ReadAt) -> Iterator[Segment]:
    bits, compression = page.bitspersample, page.compression
    if page.predictor != 1 or compression not in (_UNCOMPRESSED, *_LIBTIFF_COMPRESSIONS):
        how = f"compression {name_of(compression)}" if page.predictor == 1 else f"predictor {page.predictor}"
        raise ImageError(f"samples of {bits} bits with the {how} cannot be read")
    if page.fillorder != 1 and compression != _UNCOMPRESSED:
        raise ImageError(f"compressed samples of {bits} bits that begin with the lowest bit cannot be read")
    separate = page.planarconfig == 2 and page.samplesperpixel > 1
    samples, planes = (1, page.samplesperpixel) if separate else (page.samplesperpixel, 1)
    width, length = page.imagewidth, page.imagelength
    down, across = _segment_size(page)
    row_bytes = -(-across * samples * bits // 8)
    columns, rows = -(-width // across), -(-length // down)
    for number in range(planes * rows * columns):
        plane, row, column = number // (rows * columns), number // columns % rows, number % columns
        height = down if page.is_tiled else min(down, length - row * down)
        data = read(page.dataoffsets[number], page.databytecounts[number])
        if compression == _UNCOMPRESSED:
            needed = height * row_bytes
            if len(data) < needed:
                raise ImageError(f"it is cut off: {len(data):,} of the {needed:,} bytes of a strip or tile are there")
            packed = np.frombuffer(data, np.uint8, needed)
        else:
            packed = _decompress([data], page, row_bytes, (height, 1, down))
        values = unpack_samples(packed.reshape(height, row_bytes), across * samples, bits, page.fillorder)
        pixels = values.reshape(height, across, samples)
        yield Segment(row * down, column * across, plane, pixels[: length - row * down, : width - column * across])


def _unpack(segments: list[bytes], page: TiffPage, samples: int, across: int, size: tuple[int, int, int]) -> np.ndarray:
    """Return segments of `across` columns, joined and decompressed by libtiff, as (height, width, samples).

    Parameters
    ----------
    samples : samples of a pixel in these segments
    size : height and width of all segments together, and the rows of one
    """
    assert page.dtype is not None
    height, width, down = size
    row_bytes = across * samples * page.dtype.itemsize
    blocks = _decompress(segments, page, row_bytes, (height, width // across, down))
    return _undo_predictor(blocks, page, samples).reshape(height, width, samples)


def _decompress(segments: list[bytes], page: TiffPage, row_bytes: int, size: tuple[int, int, int]) -> np.ndarray:
    """Return the bytes of segments, decompressed by libtiff, as (height, columns, row_bytes).

    Parameters
    ----------
    row_bytes : bytes of a row of a segment
    size : rows of all segments together, columns of segments, and the rows of one segment
    """
    height, columns, down = size
    layout = Layout(page.parent.byteorder)
    ends = np.cumsum([layout.head_size, *map(len, segments)]).tolist()
    counts = list(map(len, segments))
    entries: dict[int, Any] = {BITS: 8, COMPRESSION: int(page.compression), PHOTOMETRIC: BLACK_IS_ZERO, SAMPLES: 1}
    entries |= {WIDTH: columns * row_bytes, LENGTH: height}
    if page.is_tiled:
        entries |= {TILE_WIDTH: row_bytes, TILE_LENGTH: down, TILES: ends[:-1], TILE_BYTES: counts}
    else:
        entries |= {ROWS_PER_STRIP: down, STRIPS: ends[:-1], STRIP_BYTES: counts}
    start = ends[-1] + ends[-1] % 2
    directory = layout.directory([layout.entry(tag, value) for tag, value in entries.items()], start)
    file = b"".join([layout.head(start), *segments, bytes(start - ends[-1]), directory])
    with pillow.pillow_limit.at_least(columns * row_bytes * height), pillow.open_file(file, "tiff") as picture:
        return np.array(picture).reshape(height, columns, row_bytes)


def _undo_predictor(blocks: np.ndarray, page: TiffPage, samples: int) -> np.ndarray:
    """Return rows of bytes (length, segments across, bytes) as samples, with TIFF's predictors 1 to 3 undone."""
    assert page.dtype is not None
    dtype = page.dtype.newbyteorder(page.parent.byteorder)
    if page.predictor == 3:  # differences along a row whose bytes are sorted by significance (TIFF Technical Note 3)
        rows = blocks.reshape(*blocks.shape[:2], -1, samples).cumsum(axis=2, dtype=np.uint8)
        planes = rows.reshape(*blocks.shape[:2], dtype.itemsize, -1)
        floats: np.ndarray = np.ascontiguousarray(planes.swapaxes(2, 3)).view(f">f{dtype.itemsize}")
        return floats.astype(page.dtype)
    if page.predictor == 2:  # differences of the samples' bits as integers, for floats, too
        whole = np.ascontiguousarray(blocks).view(dtype.str.replace(dtype.kind, "u"))
        native = whole.dtype.newbyteorder("=")
        sums = whole.reshape(*blocks.shape[:2], -1, samples).cumsum(axis=2, dtype=native)
        numbers: np.ndarray = sums.view(page.dtype.newbyteorder("="))
        return numbers
    if page.predictor != 1:
        raise ImageError(f"predictor {page.predictor} cannot be read")
    plain: np.ndarray = np.ascontiguousarray(blocks).view(dtype)
    return plain.astype(page.dtype)


# --- pages larger than memory -------------------------------------------------------------------------


class SegmentedPage:
    """A file's only page, read segment by segment as pixels.

    Attributes
    ----------
    shape : (H, W, C), in the file's orientation
    dtype, mode, bands : those of the pixels, as in `Image`
    start : the offset of the pixels if the file holds them as an array; None if they have to be unpacked
    """

    def __init__(self, page: TiffPage, read: ReadAt) -> None:
        assert page.dtype is not None
        self._page, self._read = page, read
        self.shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
        sample, self.mode = interpret(as_pixels(np.zeros((1, 1, page.samplesperpixel), page.dtype)), page)
        self.dtype = sample.dtype
        self.bands = bands_of(page, self.mode)
        self.start = page.dataoffsets[0] if self._is_plain() else None

    def _is_plain(self) -> bool:
        page = self._page
        native = self.dtype.itemsize == 1 or np.dtype(page.parent.byteorder + "u2").isnative
        as_it_is = self.dtype == page.dtype and native and int(page.photometric) != WHITE_IS_ZERO
        in_one_piece = page.is_contiguous and page.predictor == page.fillorder == 1
        end = page.dataoffsets[0] + page.nbytes if page.dataoffsets else 0
        there, needed = _count_segments(page)
        return (
            as_it_is
            and there >= needed
            and in_one_piece
            and not _is_premultiplied(page)
            and (page.planarconfig == 1 or page.samplesperpixel == 1)
            and page.dataoffsets[0] % self.dtype.itemsize == 0
            and end <= page.parent.filehandle.size
        )

    def segments(self) -> Iterator[Segment]:
        """Yield all segments.

        Raises
        ------
        ImageError
            A segment is damaged.
        """
        page = self._page
        separate = page.planarconfig == 2 and page.samplesperpixel > 1
        with AsImageError("cannot be decoded as tiff"):
            for segment in segments_of(page, self._read):
                pixels = as_pixels(segment.values)
                yield segment._replace(values=pixels if separate else interpret(pixels, page)[0])


@contextlib.contextmanager
def open_segmented_page(path: str, max_pixels: int) -> Iterator[SegmentedPage | None]:
    """Open the page of a TIFF file; None if the file has several pages, or one that cannot be read in segments.

    Raises
    ------
    ImageError
        The page has more than `max_pixels`.
    """
    import tifffile

    pillow.silence_logging("tifffile")
    with contextlib.ExitStack() as stack:
        found = None
        try:
            file = stack.enter_context(tifffile.TiffFile(path, **TIFFFILE_OPTIONS))
            page = file.pages[0]
            assert isinstance(page, tifffile.TiffPage)
            check_page(page, max_pixels)
            stream = stack.enter_context(open(path, "rb"))
            directories, fault = follow_directories(stream)
            check_frames(len(directories))
            is_alone = not fault and len(without_copies(stream, directories)) == 1
            if is_alone and _can_be_read_in_segments(page):
                found = SegmentedPage(page, functools.partial(_read_at, stream))
        except CnnfilterError:
            raise
        except Exception:  # reading the whole file will raise it again
            found = None
        yield found


def _read_at(stream: BinaryIO, offset: int, count: int) -> bytes:
    stream.seek(offset)
    return stream.read(count)


def _can_be_read_in_segments(page: TiffPage) -> bool:
    if page.dtype is None or page.axes not in ("YX", "YXS", "SYX") or page.bitspersample not in _WHOLE_BYTE_BITS:
        return False
    if int(page.photometric) not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK) or page.dtype.kind not in "uif":
        return False
    if not all(isinstance(place, int) and place >= 0 for place in (*page.dataoffsets, *page.databytecounts)):
        return False
    separate = page.planarconfig == 2 and page.samplesperpixel > 1
    if separate and (int(page.photometric) == WHITE_IS_ZERO or _is_premultiplied(page)):
        return False
    down, across = _segment_size(page)
    size = down * across * (1 if separate else page.samplesperpixel) * page.dtype.itemsize
    if page.compression == _UNCOMPRESSED and page.is_contiguous:
        return True
    return (
        page.compression in (_UNCOMPRESSED, *_LIBTIFF_COMPRESSIONS)
        and page.fillorder == 1
        and size <= MAX_SEGMENT_BYTES
    )


def _is_premultiplied(page: TiffPage) -> bool:
    return PREMULTIPLIED in map(int, page.extrasamples or ())
