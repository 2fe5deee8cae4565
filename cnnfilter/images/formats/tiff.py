"""TIFF files with pages of 8, 16 and 32 bits, integers or float32.

Pillow reads the pages that it can hold without loss, tifffile all others: Pillow reduces 16-bit colour to 8 bits and
has no 32-bit colour. Files are written here, because neither library writes all of EXIF; their layout is in
`cnnfilter.images.coding.tiff_layout`. Strips and tiles are read in `cnnfilter.images.formats.tiff_segments`,
directories in `cnnfilter.images.formats.tiff_tags`.
"""

from __future__ import annotations

import ctypes
import functools
import io
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.images.coding.settings import NO_SETTINGS, Settings
from cnnfilter.images.coding.tiff_layout import DESCRIPTIVE_TAGS, FileLayout, Page
from cnnfilter.images.coding.tiff_packing import DEFAULT_LEVEL, choose_packing, coding_of, pack
from cnnfilter.images.formats import pillow
from cnnfilter.images.formats import tiff_tags as tag
from cnnfilter.images.formats.detect import unreadable
from cnnfilter.images.formats.tiff_segments import TIFFFILE_OPTIONS, check_page, segments_of
from cnnfilter.images.formats.tiff_tags import Layout
from cnnfilter.images.image import (
    AsImageError,
    Image,
    as_pixels,
    check_frames,
    check_size,
    join_pages,
    turn_upright,
    warn,
)
from cnnfilter.images.metadata import XMP, Metadata, resolution, upright
from cnnfilter.images.pages import FIRST, Pages, choose_pages
from cnnfilter.images.tags.georeference import georeference_of
from cnnfilter.images.tags.iptc import records_of_tags
from cnnfilter.images.unpacking.tiff_samples import bands_of, interpret, refuse_unknown

if TYPE_CHECKING:
    from PIL import Image as PillowImage
    from PIL.TiffImagePlugin import TiffImageFile
    from tifffile import TiffPage


# --- reading ------------------------------------------------------------------------------------------


def read(data: bytes, max_pixels: int, pages: Pages = None) -> Image:
    """Decode pages of a TIFF file's bytes: upright, each in its own size, depth and kind.

    Parameters
    ----------
    pages : a choice of pages, as `choose_pages` takes it

    Raises
    ------
    ImageError
        A page is damaged or is not there, the pages have more than `max_pixels`, or a page has pixels of a kind that
        neither library reads.
    """
    _silence_libtiff()
    directories, fault = tag.follow_directories(io.BytesIO(data))
    if pages is None:
        check_frames(len(directories))
    if not directories:
        raise ImageError(f"cannot be decoded as tiff: {fault or 'it has no page'}")
    if tag.is_raw_photo(data, directories[0]):
        raise unreadable("a raw photo, of which a TIFF reader sees only the preview (DNG, NEF, ARW)")
    offsets = tag.without_copies(io.BytesIO(data), directories)
    chosen = choose_pages(pages, len(offsets), fault)
    check_frames(len(chosen))
    if len(chosen) > 1:
        _refuse_large(data, [offsets[number - 1] for number in chosen], max_pixels)
    reader = _Reader(tag.without_fault(data) if fault else data, max_pixels)
    if len(offsets) == 1 and not fault:
        return reader.page(offsets[0])
    read_pages = []
    for number in chosen:
        try:
            with AsImageError("cannot be decoded as tiff"):
                read_pages.append(reader.page(offsets[number - 1]).replace(page_number=number))
        except ImageError as error:
            raise ImageError(f"page {number}: {error}") from error
    if pages != FIRST:
        return join_pages(read_pages)
    if fault:
        warn(f"page {len(offsets) + 1}: {fault}; only the first page is read")
    return read_pages[0].replace(page_count=len(offsets))


def _refuse_large(data: bytes, directories: Sequence[int], max_pixels: int) -> None:
    """Raise ImageError if the pages have more than `max_pixels` together."""
    sizes = [
        tuple(max(tag.numbers_of(data, directory, side), default=0) for side in (tag.WIDTH, tag.LENGTH))
        for directory in directories
    ]
    pixels = sum(map(math.prod, sizes))
    if pixels <= max_pixels:
        return
    if len(set(sizes)) == 1:
        check_size(sizes[0][0], sizes[0][1], max_pixels, len(sizes))
    raise ImageError(
        f"{len(sizes)} pages have {pixels:,} pixels; the limit is {max_pixels:,} (--max-pixels {pixels} allows them)"
    )


class _Reader:
    """The pages of a file, each decoded by itself, so that a damaged page does not keep others from being read.

    Both libraries begin with the first directory of a file: the file's header is changed to point to each page's.
    """

    def __init__(self, data: bytes, max_pixels: int) -> None:
        self.data, self.max_pixels = data, max_pixels
        self.stream = io.BytesIO(data)
        self.layout = Layout("<" if data[:2] == b"II" else ">", 43 in data[2:4])

    def page(self, offset: int) -> Image:
        """Return the page whose directory is at this offset, upright."""
        self.stream.seek(0)
        self.stream.write(self.layout.head(offset))
        tag.refuse_cut_values(self.data, offset)
        if {5, 6} & {*tag.numbers_of(self.data, offset, tag.FORMAT)}:
            raise ImageError("samples of complex numbers are not a picture; real numbers are")
        if cut := tag.segments_without_end(self.data, offset):
            raise ImageError(f"it is cut off: {len(cut)} of its strips or tiles of JPEG data have no end")
        self.stream.seek(0)
        metadata = metadata_of(self.stream)
        coding = coding_of(self.stream)
        page = self._by_pillow(metadata) or self._by_tifffile(metadata)
        height, width = page.pixels.shape[:2]
        orientation, metadata = upright(page.metadata, page.metadata.size or (width, height))
        if orientation != 1:
            page = page.map(lambda pixels: turn_upright(pixels, orientation))
        return page.replace(metadata=metadata, coding=coding)

    def _by_pillow(self, metadata: Metadata) -> Image | None:
        """Return the page; None if Pillow does not hold all bits of its samples."""
        self.stream.seek(0)
        try:
            with pillow.pillow_limit.at_least(self.max_pixels), pillow.open_file(self.stream, "tiff") as picture:
                check_size(picture.width, picture.height, self.max_pixels)
                if not _is_lossless_in_pillow(picture):
                    return None
                pixels, mode = pillow.to_array(picture)
                if tag.ORIENTATION not in picture.tag_v2:  # Pillow has turned the page upright
                    metadata = upright(metadata, (picture.tag_v2[tag.WIDTH], picture.tag_v2[tag.LENGTH]))[1]
        except SyntaxError:  # raised by Pillow for kinds of pixels that it does not read
            return None
        return Image(pixels, mode, "tiff", metadata)

    def _by_tifffile(self, metadata: Metadata) -> Image:
        import tifffile

        pillow.silence_logging("tifffile")
        self.stream.seek(0)
        with tifffile.TiffFile(self.stream, **TIFFFILE_OPTIONS) as file:
            page = file.pages[0]
            assert isinstance(page, tifffile.TiffPage)
            check_page(page, self.max_pixels)
            return _page(self.data, page).replace(metadata=metadata)


@functools.cache
def _silence_libtiff() -> None:
    """Stop libtiff from printing errors on standard error, which Pillow raises as exceptions.

    libtiff is found through Pillow's module, which is linked to it. Where it exports no symbols, it goes on printing.
    """
    from PIL import _imaging

    try:
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
    except (OSError, AttributeError):
        pass


def _is_lossless_in_pillow(picture: TiffImageFile) -> bool:
    """Return whether Pillow holds a page's samples without loss: 8 bits, or grey of 16 bits or float32, none extra."""
    tags = picture.tag_v2
    if _has_extra_samples(tags):
        return False
    bits, formats = tags.get(tag.BITS, (1,)), tags.get(tag.FORMAT, (1,))
    if isinstance(bits, int):
        bits = (bits,)
    shallow = max(bits) <= 8 and set(formats) <= {1, 4}
    if picture.mode == "F" and tags.prefix == b"MM" and tags.get(tag.COMPRESSION, 1) != 1:
        return False  # Pillow exchanges the bytes that libtiff has exchanged
    deep_grey = picture.mode in ("I;16", "I;16B", "F") and tags.get(tag.PHOTOMETRIC) == tag.BLACK_IS_ZERO
    return shallow or (deep_grey and max(bits) in (16, 32))  # Pillow does not widen 12 bits


def _has_extra_samples(tags: Mapping[int, Any]) -> bool:
    """Return whether a page has samples beside its colours and one alpha; those without a kind are extra, too."""
    colours = tag.COLOURS_OF_PHOTOMETRIC.get(int(tags.get(tag.PHOTOMETRIC, tag.BLACK_IS_ZERO)), 1)
    samples, kinds = int(tags.get(tag.SAMPLES, 1)), tags.get(tag.EXTRA, ())
    if samples <= colours:
        return False
    return samples > colours + 1 or colours == 4 or kinds not in ((tag.PREMULTIPLIED,), (tag.ALPHA,))


def metadata_of(file: BinaryIO) -> Metadata:
    """Return the metadata in a file's first directory; none if it is damaged."""
    try:
        tags = tag.read_tags(file)
        icc, xmp = tags.get(tag.ICC), tags.get(tag.XMP)
        inches = {2: 1.0, 3: 2.54}.get(tags.get(tag.UNIT, 2), 0.0)
        dpi = resolution((tags.get(tag.ACROSS, 0) * inches, tags.get(tag.DOWN, 0) * inches))
        georeference, iptc = georeference_of(tags), records_of_tags(tag.bytes_of_values(tags))
        exif = _descriptive(tags)
    except Exception:  # the picture can be read without its metadata
        return Metadata()
    text = {XMP: xmp.decode("utf-8", "replace")} if isinstance(xmp, bytes) else {}
    return Metadata(icc if isinstance(icc, bytes) else None, exif, dpi, text, iptc=iptc, georeference=georeference)


def _descriptive(tags: PillowImage.Exif) -> bytes | None:
    for number in set(tags) - set(DESCRIPTIVE_TAGS):
        del tags[number]
    if not len(tags):
        return None
    tags.bigtiff = False  # EXIF has the layout of a classic TIFF file
    return tags.tobytes()


def _page(data: bytes, page: TiffPage) -> Image:
    refuse_unknown(page)
    assert page.dtype is not None
    pixels = np.empty(
        (page.imagelength, page.imagewidth, page.samplesperpixel), as_pixels(np.empty(0, page.dtype)).dtype
    )
    for segment in segments_of(page, lambda offset, count: data[offset : offset + count]):
        segment._replace(values=as_pixels(segment.values)).fill(pixels)
    pixels, mode = interpret(pixels, page)
    return Image(pixels, mode, "tiff", bands=bands_of(page, mode))


# --- writing ------------------------------------------------------------------------------------------


def encode(image: Image, *, threads: int | None = None, settings: Settings = NO_SETTINGS) -> list[bytes | memoryview]:
    """Return the pieces of a TIFF file with a page for each frame, or for each map of mode ``maps``.

    The maps of an image that has bands are the samples of one page. `settings` are those that were asked for; without
    them, the pages are compressed as those of the file that the image was read from. The bytes do not depend on the
    number of threads.
    """
    _silence_libtiff()
    pages, arrays = list[Page](), list[np.ndarray]()
    order, level = tag.order_of(image.metadata.exif or b""), settings.deflate_level(DEFAULT_LEVEL)
    for page in image.pages or (image,):
        exif = page.metadata.exif
        for array in _arrays(page):
            mode = "L" if page.mode == "maps" and page.bands is None else page.mode
            packing = choose_packing(
                page.coding, settings, array.dtype, page.bands.colours + "+" if page.bands else mode
            )
            packed = None
            if not packing.is_plain:
                packed = pack(array, packing, order, level=level, kept=page.coding, threads=threads)
            pages.append(Page(array.shape, array.dtype, mode, page.bands, page.metadata, exif, packed, packing.rows))
            arrays.append(array)
            exif = None
    file = FileLayout(pages)
    pieces: list[bytes | memoryview] = [file.head]
    for written, array in zip(pages, arrays, strict=True):
        if written.packed:
            pieces += written.packed.pieces
            continue
        pieces.append(np.ascontiguousarray(array, file.layout.order + array.dtype.str[1:]).data.cast("B"))
        pieces.append(bytes(array.nbytes % 2))
    return [*pieces, file.tail]


def _arrays(image: Image) -> Sequence[np.ndarray]:
    """Return the pixels of each frame, or of each map that is a page of its own."""
    frames = image.frames or (image.pixels,)
    if image.mode != "maps" or image.bands is not None:
        return frames
    return [np.ascontiguousarray(frame[:, :, c : c + 1]) for frame in frames for c in range(frame.shape[2])]


def head_and_tail(page: Page) -> tuple[bytes, bytes] | None:
    """Return the bytes before and after the pixels of a file with one page.

    None if the pixels would need another byte order than this machine's, which is that of the EXIF.
    """
    file = FileLayout([page])
    if page.dtype.itemsize > 1 and file.layout.order != {"little": "<", "big": ">"}[sys.byteorder]:
        return None
    return file.head, bytes(math.prod(page.shape) * page.dtype.itemsize % 2) + file.tail
