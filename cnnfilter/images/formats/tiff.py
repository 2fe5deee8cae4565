"""TIFF files with pages of 8, 16 and 32 bits, integers or float32.

Pillow reads the pages that it can hold without loss, tifffile all others: Pillow reduces 16-bit colour to 8 bits and
has no 32-bit colour. Files are written here, uncompressed, because neither library writes all of EXIF. Strips
and tiles are read in `cnnfilter.images.formats.tiff_segments`, directories in `cnnfilter.images.formats.tiff_tags`.
"""

from __future__ import annotations

import ctypes
import functools
import io
import itertools
import math
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from cnnfilter.images.formats import pillow
from cnnfilter.images.formats import tiff_tags as tag
from cnnfilter.images.formats.tiff_segments import TIFFFILE_OPTIONS, check_page, segments_of
from cnnfilter.images.formats.tiff_tags import Entry, Layout, entries_of_exif
from cnnfilter.images.image import Bands, Image, as_pixels, check_frames, check_size, warn
from cnnfilter.images.metadata import XMP, Metadata, resolution, upright
from cnnfilter.images.tags.georeference import georeference_of
from cnnfilter.images.unpacking.tiff_samples import bands_of, interpret, refuse_unknown

if TYPE_CHECKING:
    from PIL import Image as PillowImage
    from PIL.TiffImagePlugin import TiffImageFile
    from tifffile import TiffPage

_DESCRIPTIVE_TAGS = (270, 271, 272, tag.ORIENTATION, 305, 306, 315, 316, 33432, tag.EXIF, tag.GPS)
_PHOTOMETRIC_OF = {
    "L": tag.BLACK_IS_ZERO,
    "LA": tag.BLACK_IS_ZERO,
    "RGB": tag.RGB,
    "RGBA": tag.RGB,
    "CMYK": tag.CMYK,
}
_MAX_STRIP_BYTES = 16 << 20
"""Bytes of a strip in files that are written; readers take one strip at a time."""


# --- reading ------------------------------------------------------------------------------------------


def read(data: bytes, max_pixels: int) -> Image:
    """Decode a TIFF file's bytes, with all its pages if they have one size and mode.

    Raises
    ------
    ImageError
        The file is damaged, has more than `max_pixels`, or pixels of a kind that neither library reads.
    """
    _silence_libtiff()
    metadata, pages = metadata_of(io.BytesIO(data)), None
    count = len(tag.follow_directories(io.BytesIO(data))[0])
    check_frames(count)
    try:
        with pillow.pillow_limit.at_least(max_pixels), pillow.open_file(data, "tiff") as picture:
            check_size(picture.width, picture.height, max_pixels)
            if _is_lossless_in_pillow(picture):
                pages = _pages_by_pillow(picture, max_pixels, count)
                if tag.ORIENTATION not in picture.tag_v2:  # Pillow has turned the pages upright
                    metadata = upright(metadata)[1]
    except SyntaxError:  # raised by Pillow for kinds of pixels that it does not read
        pass
    pages = pages or _pages_by_tifffile(data, max_pixels, count)
    first = pages[0].replace(metadata=metadata)
    alike = [page.pixels for page in pages if page.is_like(first)]
    if len(alike) < len(pages):
        warn(f"its {len(pages)} pages differ in size or kind: only the first is read")
        alike = alike[:1]
    return first.replace(frames=tuple(alike) if len(alike) > 1 else ())


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
    deep_grey = picture.mode in ("I;16", "I;16B", "F") and tags.get(tag.PHOTOMETRIC) == tag.BLACK_IS_ZERO
    return shallow or (deep_grey and max(bits) in (16, 32))  # Pillow does not widen 12 bits


def _has_extra_samples(tags: Mapping[int, Any]) -> bool:
    """Return whether a page has samples beside its colours and one alpha; those without a kind are extra, too."""
    colours = tag.COLOURS_OF_PHOTOMETRIC.get(int(tags.get(tag.PHOTOMETRIC, tag.BLACK_IS_ZERO)), 1)
    samples, kinds = int(tags.get(tag.SAMPLES, 1)), tags.get(tag.EXTRA, ())
    if samples <= colours:
        return False
    return samples > colours + 1 or colours == 4 or kinds not in ((tag.PREMULTIPLIED,), (tag.ALPHA,))


def _pages_by_pillow(picture: TiffImageFile, max_pixels: int, count: int) -> list[Image]:
    pages: list[Image] = []
    pixels = 0
    for index in range(picture.n_frames):
        picture.seek(index)
        if index and int(picture.tag_v2.get(tag.SUBFILE, 0)) & 1:  # a reduced copy of another page
            continue
        pixels += picture.width * picture.height
        if pixels > max_pixels:
            check_size(picture.width, picture.height, max_pixels, count)
        pages.append(Image(*pillow.to_array(picture), "tiff"))
    return pages


def metadata_of(file: BinaryIO) -> Metadata:
    """Return the metadata in a file's first directory; none if it is damaged."""
    try:
        tags = tag.read_tags(file)
        icc, xmp = tags.get(tag.ICC), tags.get(tag.XMP)
        inches = {2: 1.0, 3: 2.54}.get(tags.get(tag.UNIT, 2), 0.0)
        dpi = resolution((tags.get(tag.ACROSS, 0) * inches, tags.get(tag.DOWN, 0) * inches))
        georeference = georeference_of(tags)
        exif = _descriptive(tags)
    except Exception:  # the picture can be read without its metadata
        return Metadata()
    text = {XMP: xmp.decode("utf-8", "replace")} if isinstance(xmp, bytes) else {}
    return Metadata(icc if isinstance(icc, bytes) else None, exif, dpi, text, georeference=georeference)


def _descriptive(tags: PillowImage.Exif) -> bytes | None:
    for number in set(tags) - set(_DESCRIPTIVE_TAGS):
        del tags[number]
    if not len(tags):
        return None
    tags.bigtiff = False  # EXIF has the layout of a classic TIFF file
    return tags.tobytes()


def _pages_by_tifffile(data: bytes, max_pixels: int, count: int) -> list[Image]:
    import tifffile

    pillow.silence_logging("tifffile")
    pages: list[Image] = []
    pixels = 0
    with tifffile.TiffFile(io.BytesIO(data), **TIFFFILE_OPTIONS) as file:
        for index, page in enumerate(itertools.islice(file.pages, count)):  # a circular chain of pages has no end
            assert isinstance(page, tifffile.TiffPage)
            if index and page.is_reduced:
                continue
            check_page(page, max_pixels)
            pixels += page.imagewidth * page.imagelength
            if pixels > max_pixels:
                check_size(page.imagewidth, page.imagelength, max_pixels, count)
            pages.append(_page(data, page))
    return pages


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


def encode(image: Image) -> list[bytes | memoryview]:
    """Return the pieces of an uncompressed TIFF file with a page for each frame, or for each map of mode ``maps``.

    The maps of an image that has bands are the samples of one page.
    """
    frames: Sequence[np.ndarray] = image.frames or (image.pixels,)
    mode = image.mode
    if mode == "maps" and image.bands is None:
        frames = [np.ascontiguousarray(frame[:, :, c : c + 1]) for frame in frames for c in range(frame.shape[2])]
        mode = "L"
    file = _FileLayout(image.metadata, mode, image.bands, [(frame.shape, frame.dtype) for frame in frames])
    pieces: list[bytes | memoryview] = [file.head]
    for frame in frames:
        pieces.append(np.ascontiguousarray(frame, file.layout.order + frame.dtype.str[1:]).data.cast("B"))
        pieces.append(bytes(frame.nbytes % 2))
    return [*pieces, file.tail]


def head_and_tail(
    metadata: Metadata, mode: str, bands: Bands | None, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[bytes, bytes] | None:
    """Return the bytes before and after the pixels of a file with one page.

    None if the pixels would need another byte order than this machine's, which is that of the EXIF.
    """
    file = _FileLayout(metadata, mode, bands, [(shape, dtype)])
    if dtype.itemsize > 1 and file.layout.order != {"little": "<", "big": ">"}[sys.byteorder]:
        return None
    return file.head, bytes(math.prod(shape) * dtype.itemsize % 2) + file.tail


class _FileLayout:
    """The layout of a file of uncompressed pages: `head` before the pixels, `tail` with the directories after them.

    EXIF is a TIFF structure. It is put at the start of the file, where its offsets stay valid, and its entries go into
    the first page's directory. A file of 4 GiB or more needs longer offsets (BigTIFF), and so keeps only those entries
    of EXIF that have none.
    """

    def __init__(
        self,
        metadata: Metadata,
        mode: str,
        bands: Bands | None,
        pages: Sequence[tuple[tuple[int, ...], np.dtype[Any]]],
    ) -> None:
        self.metadata, self.mode = metadata, bands.colours if bands else mode
        self.extra = bands.extra if bands else (tag.ALPHA,) if mode in ("LA", "RGBA") else ()
        sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in pages]
        exif = metadata.exif or b""
        texts = len(metadata.icc or b"") + len(metadata.text.get(XMP, "")) * 4
        max_bytes = len(exif) + sum(sizes) + len(pages) * (4096 + texts) + sum(sizes) // _MAX_STRIP_BYTES * 16
        big = max_bytes > tag.MAX_CLASSIC_BYTES
        self.layout = Layout("<" if big else tag.order_of(exif), big)
        described = entries_of_exif(exif, self.layout, _DESCRIPTIVE_TAGS) if exif else {}
        if big and exif and {tag.EXIF, tag.GPS} & entries_of_exif(exif, Layout(""), _DESCRIPTIVE_TAGS).keys():
            warn("a TIFF file of 4 GiB or more is written without what its camera said (EXIF)")
        head = self.layout.head(0) if big or not exif else exif + bytes(len(exif) % 2)
        at, directories = len(head), []
        for index, ((shape, dtype), size) in enumerate(zip(pages, sizes, strict=True)):
            entries = {} if index else described
            entries |= self._page_entries(shape, dtype, at)
            entries |= self._metadata_entries()
            directories.append(list(entries.values()))
            at += size + size % 2
        self.head = self.layout.head(at) + head[self.layout.head_size :]
        tail = []
        for index, directory in enumerate(directories):
            tail.append(self.layout.directory(directory, at, last=index == len(directories) - 1))
            at += len(tail[-1])
        self.tail = b"".join(tail)

    def _page_entries(self, shape: tuple[int, ...], dtype: np.dtype[Any], at: int) -> dict[int, Entry]:
        height, width, channels = shape
        row = width * channels * dtype.itemsize
        rows = min(max(1, _MAX_STRIP_BYTES // row), height)
        starts = range(0, height, rows)
        values: dict[int, Any] = {
            tag.SUBFILE: 0,
            tag.WIDTH: width,
            tag.LENGTH: height,
            tag.BITS: [8 * dtype.itemsize] * channels,
            tag.COMPRESSION: 1,
            tag.PHOTOMETRIC: _PHOTOMETRIC_OF[self.mode],
            tag.STRIPS: [at + start * row for start in starts],
            tag.SAMPLES: channels,
            tag.ROWS_PER_STRIP: rows,
            tag.STRIP_BYTES: [min(rows, height - start) * row for start in starts],
            tag.PLANES: 1,
            tag.FORMAT: [3 if dtype.kind == "f" else 1] * channels,
        }
        if self.extra:
            values[tag.EXTRA] = list(self.extra)
        return {number: self.layout.entry(number, value) for number, value in values.items()}

    def _metadata_entries(self) -> dict[int, Entry]:
        metadata, layout = self.metadata, self.layout
        values: dict[int, Any] = {}
        if icc := metadata.icc_for(self.mode):
            values[tag.ICC] = icc
        if xmp := metadata.text.get(XMP):
            values[tag.XMP] = xmp.encode()
        if metadata.dpi:
            values[tag.UNIT] = 2
        entries = {number: layout.entry(number, value) for number, value in values.items()}
        if metadata.georeference:
            for number, kind, count, content in metadata.georeference.packed(layout.order):
                entries[number] = layout.raw(number, kind, count, content)
        for number, dots in zip((tag.ACROSS, tag.DOWN), metadata.dpi or (), strict=False):
            entries[number] = layout.raw(number, 5, 1, struct.pack(layout.order + "II", round(dots * 10_000), 10_000))
        return entries
