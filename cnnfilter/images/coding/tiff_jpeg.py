"""JPEG data in TIFF files (TIFF Technical Note 2): each strip or tile is a JPEG file, compressed as those of the input.

Pillow encodes them. The quantization tables of the input are in a tag that all segments share, or in the first segment.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from cnnfilter.images.coding.coding import Coding
from cnnfilter.images.coding.settings import SUBSAMPLINGS

JPEG = 7
"""The value of tag 259; 6 is an older kind, which is not written."""

_PHOTOMETRIC, _STRIPS, _TILES, _TABLES, _YCBCR_FACTORS = 262, 273, 324, 347, 530
_YCBCR = 6
_FACTORS = {"444": (1, 1), "422": (2, 1), "420": (2, 2)}
_BLOCK_PIXELS = 8
_HEADER_BYTES = 4096
"""Bytes of a segment in which its tables are looked for; they come first."""

_DQT, _SOS = 0xDB, 0xDA  # markers of quantization tables and of the scan (ITU-T T.81, table B.1)
_QUALITY = 95  # without tables, as for JPEG files


def settings_of(tags: Mapping[int, Any], file: BinaryIO) -> tuple[tuple[tuple[int, ...], ...], str | None]:
    """Return quantization tables and subsampling of a page with these tags.

    There are no tables if they are not found, and the subsampling is None for colours that are not YCbCr.
    """
    shared = tags.get(_TABLES)
    found = dict(_tables(shared)) if isinstance(shared, bytes) else {}
    places = tags.get(_TILES) or tags.get(_STRIPS) or ()
    first = places[0] if isinstance(places, tuple) else places
    if not found and isinstance(first, int):
        file.seek(first)
        found = dict(_tables(file.read(_HEADER_BYTES)))
    factors = tags.get(_YCBCR_FACTORS, (2, 2))
    subsampling = next((name for name, each in _FACTORS.items() if each == factors), SUBSAMPLINGS[0])
    is_subsampled = tags.get(_PHOTOMETRIC) == _YCBCR
    return tuple(found[number] for number in sorted(found))[:2], subsampling if is_subsampled else None


def _tables(data: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield number and 64 values of each quantization table of 8 bits in a JPEG file's head (T.81, section B.2.4.1)."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _SOS:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == _DQT:
            for start in range(at + 4, end - 64, 65):
                values = data[start + 1 : start + 65]
                if data[start] < 4 and len(values) == 64 and all(values):
                    yield data[start], tuple(values[index] for index in _ZIGZAG)
        at = end


def _zigzag() -> list[int]:
    """Return the place of each coefficient in zigzag order, row by row (T.81, figure 5)."""
    diagonals = sorted(
        ((row, column) for row in range(8) for column in range(8)),
        key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]),
    )
    places = {at: index for index, at in enumerate(diagonals)}
    return [places[row, column] for row in range(8) for column in range(8)]


_ZIGZAG = _zigzag()


def holds(dtype: np.dtype[Any], mode: str) -> bool:
    """Return whether such pixels are written as JPEG data: 8 bits, grey or RGB."""
    return dtype == np.uint8 and mode in ("L", "RGB")


def unit_rows(coding: Coding) -> int:
    """Return the rows of a unit of the JPEG data, of which every strip but the last holds a whole number."""
    return _BLOCK_PIXELS * _FACTORS[coding.subsampling or SUBSAMPLINGS[0]][1]


def compress(segment: np.ndarray, coding: Coding) -> bytes:
    """Return pixels (h, w, c) as a JPEG file."""
    from PIL import Image as PillowImage
    from PIL import JpegImagePlugin

    options: dict[str, Any] = {"subsampling": SUBSAMPLINGS.index(coding.subsampling or SUBSAMPLINGS[0])}
    if coding.subsampling is None:
        options["keep_rgb"] = True
    options |= {"qtables": list(coding.tables)} if coding.tables else {"quality": _QUALITY}
    stream = io.BytesIO()
    format = JpegImagePlugin.JpegImageFile.format  # the plugin is imported, so that `save` does not import all
    PillowImage.fromarray(segment[:, :, 0] if segment.shape[2] == 1 else segment).save(stream, format, **options)
    return stream.getvalue()


def tags(channels: int, coding: Coding) -> dict[int, Any]:
    """Return the tags of a page of such segments, if its colours are YCbCr."""
    if channels == 1 or coding.subsampling is None:
        return {}
    return {_PHOTOMETRIC: _YCBCR, _YCBCR_FACTORS: [*_FACTORS[coding.subsampling]]}
