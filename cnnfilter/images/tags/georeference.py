"""The tags of GeoTIFF and GDAL: where a picture is on the earth, and the value that stands for no data.

Tags stay as they are, except those that refer to rows and columns: they follow the pixels of a result.

References
----------
OGC GeoTIFF Standard 1.1 (19-008r4), chapter 7; https://gdal.org/drivers/raster/gtiff.html;
GeoTIFF RPC extension (RPCCoefficientTag), https://geotiff.maptools.org/rpc_prop.html
"""

from __future__ import annotations

import dataclasses
import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

PIXEL_SCALE, TIEPOINT, TRANSFORMATION, RPC = 33550, 33922, 34264, 50844
GEO_KEYS, GEO_DOUBLES, GEO_TEXTS = 34735, 34736, 34737
GDAL_METADATA, GDAL_NODATA = 42112, 42113

_TEXT, _SHORT, _DOUBLE = 2, 3, 12  # types of values (TIFF 6.0, section 2)
_TYPES = {
    PIXEL_SCALE: _DOUBLE,
    TIEPOINT: _DOUBLE,
    TRANSFORMATION: _DOUBLE,
    GEO_KEYS: _SHORT,
    GEO_DOUBLES: _DOUBLE,
    GEO_TEXTS: _TEXT,
    GDAL_METADATA: _TEXT,
    GDAL_NODATA: _TEXT,
    RPC: _DOUBLE,
}
TAGS = tuple(_TYPES)
"""The numbers of all these tags."""

_PLACE_TAGS = (PIXEL_SCALE, TIEPOINT, TRANSFORMATION, RPC)
_TIEPOINT_NUMBERS, _MATRIX_NUMBERS, _RPC_NUMBERS = 6, 16, 92
_RASTER_TYPE_KEY, _PIXEL_IS_POINT = 1025, 2  # GTRasterTypeGeoKey; tiepoints then refer to the centres of pixels
_STATISTICS = r"\s*<Item name=\"STATISTICS_[^>]*>[^<]*</Item>"
"""Items of GDAL's metadata that hold smallest, largest and mean value, which those of a result are not."""


class Sampling(NamedTuple):
    """The positions of the pixels of a result along one axis of its input.

    The edge before pixel `n` of the result is at ``n * step + offset`` on the input, in pixels.
    """

    step: float = 1.0
    offset: float = 0.0


SAME = Sampling()


@dataclass(frozen=True)
class Georeference:
    """The tags of a picture.

    Parameters
    ----------
    values : mapping of int to tuple of numbers, or str
        The value of each tag by its number.
    fault : str
        The reason why tags that refer to rows and columns were left out; empty if none were.
    """

    values: Mapping[int, Any]
    fault: str = ""

    def sampled(self, down: Sampling, across: Sampling) -> Georeference:
        """Return the tags of a result whose pixels are there on the picture with these tags."""
        if down == across == SAME:
            return self
        values = dict(self.values)
        points, scale = values.get(TIEPOINT, ()), values.get(PIXEL_SCALE)
        x, y = self._in_raster_units(across), self._in_raster_units(down)
        if scale and len(points) == _TIEPOINT_NUMBERS:  # the tiepoint stays at its row and column, and moves on the map
            column, row, depth, east, north, height = points
            east += (column * x.step + x.offset - column) * scale[0]
            north -= (row * y.step + y.offset - row) * scale[1]
            values[TIEPOINT] = column, row, depth, east, north, height
        elif points:
            values[TIEPOINT] = tuple(_moved_points(points, x, y))
        if scale:
            values[PIXEL_SCALE] = scale[0] * x.step, scale[1] * y.step, *scale[2:]
        if matrix := values.get(TRANSFORMATION):
            values[TRANSFORMATION] = tuple(_moved_matrix(matrix, x, y))
        if rpc := values.get(RPC):
            values[RPC] = _moved_rpc(rpc, _at_centres(across), _at_centres(down))
        return dataclasses.replace(self, values=values)

    def without_place(self, fault: str) -> Georeference:
        """Return the tags without those that refer to rows and columns; `fault` says why."""
        kept = {number: value for number, value in self.values.items() if number not in _PLACE_TAGS}
        is_less = len(kept) < len(self.values)
        return Georeference(kept, fault) if is_less else self

    def _in_raster_units(self, sampling: Sampling) -> Sampling:
        return _at_centres(sampling) if self._refers_to_centres else sampling

    @property
    def _refers_to_centres(self) -> bool:
        keys = self.values.get(GEO_KEYS, ())
        found = {keys[at]: keys[at + 1 : at + 4] for at in range(4, len(keys) - 3, 4)}
        return found.get(_RASTER_TYPE_KEY) == (0, 1, _PIXEL_IS_POINT)

    def packed(self, order: str) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield number, type, count and bytes of each tag for a file of this byte order, ``<`` or ``>``."""
        for number, value in self.values.items():
            kind = _TYPES[number]
            if kind == _TEXT:
                content = value.encode("utf-8") + b"\0"
                yield number, kind, len(content), content
            else:
                letter = {_SHORT: "H", _DOUBLE: "d"}[kind]
                yield number, kind, len(value), struct.pack(f"{order}{len(value)}{letter}", *value)


def _at_centres(sampling: Sampling) -> Sampling:
    """Return a sampling of positions that count from the centre of the first pixel, not from its edge."""
    return Sampling(sampling.step, sampling.offset + (sampling.step - 1) / 2)


def _moved_points(points: tuple[float, ...], x: Sampling, y: Sampling) -> Iterator[float]:
    """Yield the numbers of tiepoints, each at the column and row of the result that is at the same place."""
    for at in range(0, len(points), _TIEPOINT_NUMBERS):
        column, row, *rest = points[at : at + _TIEPOINT_NUMBERS]
        yield from ((column - x.offset) / x.step, (row - y.offset) / y.step, *rest)


def _moved_matrix(matrix: tuple[float, ...], x: Sampling, y: Sampling) -> Iterator[float]:
    """Yield a 4x4 matrix, row by row, that takes columns and rows of the result."""
    for at in range(0, _MATRIX_NUMBERS, 4):
        of_column, of_row, of_depth, constant = matrix[at : at + 4]
        yield from (of_column * x.step, of_row * y.step, of_depth)
        yield constant + of_column * x.offset + of_row * y.offset


def _moved_rpc(rpc: tuple[float, ...], x: Sampling, y: Sampling) -> tuple[float, ...]:
    """Return rational polynomial coefficients whose offset and scale of rows and columns are those of the result."""
    moved = list(rpc)
    for offset, scale, axis in ((2, 7, y), (3, 8, x)):
        moved[offset] = (rpc[offset] - axis.offset) / axis.step
        moved[scale] = rpc[scale] / axis.step
    return tuple(moved)


def georeference_of(tags: Mapping[int, Any]) -> Georeference | None:
    """Return the georeference in the tags of a TIFF file; damaged tags are left out, and None is for none."""
    values = {number: value for number in TAGS if (value := _value(number, tags.get(number))) is not None}
    return Georeference(values) if values else None


def _value(number: int, value: Any) -> Any:
    if _TYPES[number] == _TEXT:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if not isinstance(text, str) or not text.strip("\0 "):
            return None
        text = text.rstrip("\0")
        return re.sub(_STATISTICS, "", text) if number == GDAL_METADATA else text
    numbers = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in numbers):
        return None
    if _TYPES[number] == _SHORT and not all(isinstance(each, int) and 0 <= each < 1 << 16 for each in numbers):
        return None
    count = len(numbers)
    is_whole = {
        PIXEL_SCALE: count >= 2,
        TIEPOINT: count % _TIEPOINT_NUMBERS == 0,
        TRANSFORMATION: count == _MATRIX_NUMBERS,
        RPC: count == _RPC_NUMBERS,
    }
    return numbers if is_whole.get(number, True) else None
