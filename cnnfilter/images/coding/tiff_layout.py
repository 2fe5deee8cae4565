"""The layout of TIFF files that are written: headers, places of pixels, and directories with their metadata."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cnnfilter.images.coding.tiff_packing import Packed
from cnnfilter.images.formats import tiff_tags as tag
from cnnfilter.images.formats.tiff_tags import Entry, Layout, entries_of_exif
from cnnfilter.images.image import Bands, warn
from cnnfilter.images.metadata import XMP, Metadata

DESCRIPTIVE_TAGS = (270, 271, 272, tag.ORIENTATION, 305, 306, 315, 316, 33432, tag.EXIF, tag.GPS)
"""The tags of EXIF's first directory that a TIFF file keeps."""

_PHOTOMETRIC_OF = {
    "L": tag.BLACK_IS_ZERO,
    "LA": tag.BLACK_IS_ZERO,
    "RGB": tag.RGB,
    "RGBA": tag.RGB,
    "CMYK": tag.CMYK,
}
_MAX_STRIP_BYTES = 16 << 20
"""Bytes of a strip in files that are written; readers take one strip at a time."""


class Page(NamedTuple):
    """A page to be written; `exif` is that of its own directory, `rows` are those of a strip that is not compressed."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    mode: str
    bands: Bands | None
    metadata: Metadata
    exif: bytes | None
    packed: Packed | None = None
    rows: int | None = None

    @property
    def strip_rows(self) -> int:
        """The rows of a strip of pixels that are not compressed."""
        height, width, channels = self.shape
        most = max(1, _MAX_STRIP_BYTES // (width * channels * self.dtype.itemsize))
        return min(self.rows or height, most, height)

    @property
    def size(self) -> int:
        """The bytes of its pixels in the file, an even number."""
        size = self.packed.size if self.packed else math.prod(self.shape) * self.dtype.itemsize
        return size + size % 2


class FileLayout:
    """The layout of a file: `head` before the pixels, `tail` with the directories after them.

    EXIF is a TIFF structure. That of the first page is put at the start of the file, where its offsets stay valid, and
    its entries go into the page's directory. A file of 4 GiB or more needs longer offsets (BigTIFF), and so keeps only
    those entries of EXIF that have none, as do the pages after the first.
    """

    def __init__(self, pages: Sequence[Page]) -> None:
        sizes = [page.size for page in pages]
        exif = pages[0].exif or b""
        texts = sum(_text_bytes(page) for page in pages)
        segments = sum(len(page.packed.sizes) if page.packed else page.shape[0] // page.strip_rows for page in pages)
        max_bytes = len(exif) + sum(sizes) + len(pages) * 4096 + texts + segments * 16
        big = max_bytes > tag.MAX_CLASSIC_BYTES
        is_packed = any(page.packed for page in pages)  # in the order of EXIF
        self.layout = Layout("<" if big and not is_packed else tag.order_of(exif), big)
        described = entries_of_exif(exif, self.layout, DESCRIPTIVE_TAGS) if exif else {}
        if big and exif and {tag.EXIF, tag.GPS} & entries_of_exif(exif, Layout(""), DESCRIPTIVE_TAGS).keys():
            warn("a TIFF file of 4 GiB or more is written without what its camera said (EXIF)")
        head = self.layout.head(0) if big or not exif else exif + bytes(len(exif) % 2)
        at, directories = len(head), []
        for index, (page, size) in enumerate(zip(pages, sizes, strict=True)):
            entries = described
            if index:
                entries = entries_of_exif(page.exif, self.layout, DESCRIPTIVE_TAGS, anew=True) if page.exif else {}
            entries |= self._page_entries(page, at)
            entries |= self._metadata_entries(page)
            directories.append(list(entries.values()))
            at += size
        self.head = self.layout.head(at) + head[self.layout.head_size :]
        tail = []
        for index, directory in enumerate(directories):
            tail.append(self.layout.directory(directory, at, last=index == len(directories) - 1))
            at += len(tail[-1])
        self.tail = b"".join(tail)

    def _page_entries(self, page: Page, at: int) -> dict[int, Entry]:
        (height, width, channels), dtype = page.shape, page.dtype
        row = width * channels * dtype.itemsize
        rows = page.strip_rows
        starts = range(0, height, rows)
        values: dict[int, Any] = {
            tag.SUBFILE: 0,
            tag.WIDTH: width,
            tag.LENGTH: height,
            tag.BITS: [8 * dtype.itemsize] * channels,
            tag.COMPRESSION: 1,
            tag.PHOTOMETRIC: _PHOTOMETRIC_OF[_colours(page)],
            tag.STRIPS: [at + start * row for start in starts],
            tag.SAMPLES: channels,
            tag.ROWS_PER_STRIP: rows,
            tag.STRIP_BYTES: [min(rows, height - start) * row for start in starts],
            tag.PLANES: 1,
            tag.FORMAT: [3 if dtype.kind == "f" else 1] * channels,
        }
        if page.bands:
            values[tag.EXTRA] = list(page.bands.extra)
        elif page.mode in ("LA", "RGBA"):
            values[tag.EXTRA] = tag.ALPHA
        if page.packed:
            strips = (tag.STRIPS, tag.ROWS_PER_STRIP, tag.STRIP_BYTES)
            values = {number: value for number, value in values.items() if number not in strips}
            values |= page.packed.tags(at)
        return {number: self.layout.entry(number, value) for number, value in values.items()}

    def _metadata_entries(self, page: Page) -> dict[int, Entry]:
        metadata, layout = page.metadata, self.layout
        values: dict[int, Any] = {}
        if icc := metadata.icc_for(_colours(page)):
            values[tag.ICC] = icc
        if xmp := metadata.text.get(XMP):
            values[tag.XMP] = xmp.encode()
        if metadata.iptc:
            values[tag.IPTC] = metadata.iptc
        if metadata.dpi:
            values[tag.UNIT] = 2
        entries = {number: layout.entry(number, value) for number, value in values.items()}
        if metadata.georeference:
            for number, kind, count, content in metadata.georeference.packed(layout.order):
                entries[number] = layout.raw(number, kind, count, content)
        for number, dots in zip((tag.ACROSS, tag.DOWN), metadata.dpi or (), strict=False):
            entries[number] = layout.raw(number, 5, 1, struct.pack(layout.order + "II", round(dots * 10_000), 10_000))
        return entries


def _colours(page: Page) -> str:
    """Return the mode of a page's colours."""
    return page.bands.colours if page.bands else page.mode


def _text_bytes(page: Page) -> int:
    """Return the most bytes that profile, XMP and EXIF of a page take in its directory."""
    metadata = page.metadata
    content = (metadata.icc, metadata.iptc, page.exif)
    return sum(len(each or b"") for each in content) + len(metadata.text.get(XMP, "")) * 4
