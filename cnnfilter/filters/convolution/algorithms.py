"""The ways to convolve a band of rows.

An algorithm turns rows with their border (`cnnfilter.filters.convolution.geometry`) into sums, float32 or rounded.
Which of them is the quickest, `cnnfilter.filters.convolution.choice` knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnfilter.filters.convolution.border_loops import side_sums
from cnnfilter.filters.convolution.box_loops import (
    BOX_CHANNELS_MAX,
    BOX_ROWS_MAX_U16,
    box_means,
    box_sums,
    columns_of,
    small_means,
)
from cnnfilter.filters.convolution.direct_loops import (
    BLOCK_SAMPLES,
    OVERREAD_SAMPLES,
    TILE_ROWS,
    TILE_SAMPLES,
    integers,
    separable,
    separable_tile,
    taps,
    tile,
)
from cnnfilter.filters.convolution.fourier_loops import ROW_PADDING, convolve_pair, transform
from cnnfilter.filters.convolution.geometry import Geometry, Region, RowOffsets, band_rows
from cnnfilter.filters.windows import border_constant
from cnnfilter.jit.instructions import has_wide_registers
from cnnfilter.jit.integer_vectors import division
from cnnfilter.kernels.structure import factor
from cnnfilter.runtime.buffers import Memory

Samples = NDArray[Any]

_INT16_MAX = 32767
"""The largest int16."""

_MEAN_ERROR_MAX = 1e-12
"""By how much the mean of an even number of bytes may be off, in levels: a mean can lie half way between two levels."""

SIDE_PRODUCTS_MAX = 20
"""Columns of a narrow region times taps, up to which it is faster to sum without a padded copy (measured)."""

MIN_ROWS_PER_CALL = 64
"""Rows of a band from which on the time of a call of a loop, some microseconds, does not matter."""

_BOX_COPY_SHARE = 1 / 32
"""A box wider than this share of the image runs on a padded copy: the regions beside the inner one would be large."""

_SMALL_BOX_SAMPLES_MAX = 25
"""Samples of a box, here 5x5, up to which it is faster to add all of them than to keep running sums (measured)."""

_PAIRED_TAP_DISTANCES = {1}, {3}
"""Distances of neighbouring taps, in samples, that have a loop for two taps at once: a dense row of grey and of RGB."""


class Rounding(NamedTuple):
    """What becomes of a sum `v`: ``v·gain + shift``, of which whole numbers keep the absolute value with `absolute`.

    Whole numbers are rounded half up into 0…top. Those that lie outside are counted in the rows whose number
    `count_every` divides; a dense kernel counts one row of four unless that is 1.
    """

    gain: float = 1.0
    shift: float = 0.0
    absolute: bool = False
    top: float = 255.0
    count_every: int = 1

    @property
    def passed(self) -> tuple[float, int, float, int]:
        """What the loops take of it; the gain is in the weights."""
        return self.shift, int(self.absolute), self.top, self.count_every


class Algorithm(Protocol):
    """One way to convolve.

    Attributes
    ----------
    band : the rows of output that are best made at once from a scratch.
    columns : the same for columns of output; None for all of them.
    inner_band : the rows where they are made from the picture itself.
        None where whole rows of output are wanted.
    products : the multiply-adds of a sample of output.
    least : the samples of a row that are worth a call: what lies beside those of the picture itself is so wide.
    sides : what does the little that lies there, where that is cheaper.
    exact : whether a NaN or an infinity reaches only the outputs whose taps see it.
    rounds : whether it reads any type of samples and stores that type too; else it makes float32 of float32.
    """

    geometry: Geometry
    band: int
    columns: int | None
    inner_band: int | None
    products: int
    least: int
    sides: Sides | None
    exact: bool
    rounds: bool

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        """Store the sums in the `count` samples from `first` on of each row of `out` (H, W'·C).

        Returns how many whole numbers were found outside of their range.
        """


class Sides:
    """Few taps at the left and right side of a picture, read where they are, by the rule of its border."""

    def __init__(self, weights: Samples, geometry: Geometry) -> None:
        self.geometry = geometry
        rows, columns = np.nonzero(weights)
        self.tap_rows = geometry.row_numbers()[rows]
        self.tap_columns = columns * geometry.horizontal.dilation
        self.weights = weights[rows, columns].astype(np.float32)

    def suit(self, region: Region) -> bool:
        """Return whether that is cheaper for a region than to copy it with its border."""
        few = (region.right - region.left) * len(self.weights) <= SIDE_PRODUCTS_MAX
        return few and self.geometry.horizontal.stride == 1

    def run(self, source: Samples, region: Region, out: Samples, first: int, rounding: Rounding) -> int:
        """Store the sums of a region of `source` (H, W·C), as an algorithm does."""
        rows, columns = self.geometry.places(source, region)
        weights = self.weights * np.float32(rounding.gain)
        taps = self.tap_rows, self.tap_columns, weights
        constant = border_constant(self.geometry.border) or 0.0
        window = region.right - region.left, self.geometry.channels, self.geometry.step
        loop = side_sums(out.dtype.kind == "u")
        outside: int = loop(*rows, columns, *taps, out, first, *window, constant, *rounding.passed)
        return outside


class Direct:
    """The taps that are not 0, one after the other: any stride, dilation and shape."""

    exact = rounds = True
    columns: int | None = None
    inner_band: int | None = MIN_ROWS_PER_CALL
    least = 1
    sides: Sides | None = None

    def __init__(self, weights: Samples, geometry: Geometry) -> None:
        self.geometry = geometry
        self.band = band_rows(geometry)
        rows, columns = np.nonzero(weights)
        self.tap_rows = geometry.row_numbers()[rows]
        self.tap_columns = geometry.column_offsets()[columns]
        self.weights = weights[rows, columns].astype(np.float32)
        self.products = len(self.weights)

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        weights = self.weights * np.float32(rounding.gain)
        where = *rows, self.tap_rows, self.tap_columns
        loop = taps(out.dtype.kind == "u")
        outside: int = loop(*where, weights, out, first, count, self.geometry.step, *rounding.passed)
        return outside


class DirectIntegers(Direct):
    """Few taps whose weights are whole numbers, or whole multiples of one, on bytes: sums of 16 bits."""

    def __init__(self, weights: Samples, geometry: Geometry, unit: float) -> None:
        super().__init__(weights, geometry)
        self.unit = unit
        self.integers = np.rint(self.weights / np.float32(unit)).astype(np.int64)
        self.largest = 255 * int(np.abs(self.integers).sum())

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        if out.dtype != np.uint8:
            return super().run(rows, out, first, count, rounding)
        gain, shift = rounding.gain * self.unit, rounding.shift
        loop = integers(gain != 1 or shift != int(shift) or abs(shift) + self.largest > _INT16_MAX)
        where = *rows, self.tap_rows, self.tap_columns
        place = out, first, count, self.geometry.step
        outside: int = loop(*where, self.integers, *place, gain, shift, int(rounding.absolute), rounding.count_every)
        return outside


def integer_unit(weights: Samples) -> float:
    """Return the number that all weights are whole multiples of, if the sums of bytes fit into 16 bits, else 0."""
    taps = weights[weights != 0]
    largest = np.abs(taps).max(initial=0)
    for unit in (1.0, float(np.abs(taps).min(initial=1.0))):
        if largest > unit * _INT16_MAX:
            continue
        multiples = taps / unit
        are_integers = (np.abs(multiples - np.rint(multiples)) <= 1e-12 * largest / unit).all()
        if are_integers and 255 * np.abs(np.rint(multiples)).sum() <= _INT16_MAX:
            return unit
    return 0.0


class DirectDense(Direct):
    """A dense kernel of three rows or more, on four rows of output at once."""

    def __init__(self, weights: Samples, geometry: Geometry) -> None:
        super().__init__(weights, geometry)
        self.exact = bool(weights.all())
        self.least = TILE_SAMPLES
        self.matrix = np.ascontiguousarray(weights, np.float32)
        self.offsets = geometry.column_offsets()

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        if len(out) < TILE_ROWS or count < TILE_SAMPLES:
            return super().run(rows, out, first, count, rounding)
        weights = self.matrix * np.float32(rounding.gain)
        loop = tile(out.dtype.kind == "u")
        outside: int = loop(*rows, weights, self.offsets, out, first, count, *rounding.passed)
        return outside


class Separable:
    """A kernel of low rank: for each of its terms a column of weights down, then a row across."""

    exact, rounds = False, True
    columns: int | None = None
    inner_band: int | None = MIN_ROWS_PER_CALL
    least = 1
    sides: Sides | None = None

    def __init__(self, terms: Sequence[tuple[Samples, Samples]], geometry: Geometry) -> None:
        self.geometry = geometry
        self.band = band_rows(geometry)
        self.memory = Memory()
        self.reach = int(geometry.column_offsets().max())
        # Taps of all terms one after the other, and where those of each begin.
        down, across = ([np.flatnonzero(weights) for weights in side] for side in zip(*terms, strict=True))
        columns, rows = ([weights[np.flatnonzero(weights)] for weights in side] for side in zip(*terms, strict=True))
        self.ends = np.array([(0, 0), *zip(_ends(down), _ends(across), strict=True)])
        self.tap_rows = geometry.row_numbers()[np.concatenate(down)]
        self.tap_columns = geometry.column_offsets()[np.concatenate(across)]
        self.column_weights = np.concatenate(columns).astype(np.float32)
        self.row_weights = np.concatenate(rows).astype(np.float32)
        self.products = len(self.tap_rows) + len(self.tap_columns)
        steps = {geometry.vertical.stride, geometry.vertical.dilation}
        apart = set(np.diff(self.tap_columns).tolist())
        self.apart = min(apart) if apart in _PAIRED_TAP_DISTANCES and has_wide_registers() else 0
        self.is_dense = (
            len(terms) == 1 and steps == {1} and len(self.tap_rows) == geometry.vertical.taps >= TILE_ROWS - 1
        )

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        weights = self.row_weights * np.float32(rounding.gain)
        if self.is_dense and len(out) >= TILE_ROWS and count >= BLOCK_SAMPLES:
            lines = self.memory.array("four lines", (4, count + self.reach + OVERREAD_SAMPLES), np.float32)
            cross = self.column_weights, self.tap_columns, weights
            four_rows = separable_tile(out.dtype.kind == "u", self.apart)
            counted: int = four_rows(*rows, *cross, lines, out, first, count, *rounding.passed)
            return counted
        lines = self.memory.array("lines", (3, count + self.reach + OVERREAD_SAMPLES), np.float32)
        taps = self.tap_rows, self.column_weights, self.tap_columns, weights, self.ends
        loop = separable(out.dtype.kind == "u")
        outside: int = loop(*rows, *taps, lines, out, first, count, self.geometry.step, *rounding.passed)
        return outside


def _ends(taps: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.cumsum([len(some) for some in taps])


class Box(Separable):
    """A kernel whose weights are all the same: of bytes, sums that cost the same for any size of the window."""

    def __init__(self, weights: Samples, geometry: Geometry) -> None:
        super().__init__(factor(weights, max_terms=1), geometry)
        self.weight = float(weights[0, 0])
        self.height, self.width = weights.shape
        # The first row of a band costs as much as the window is high; what lies beside the picture's own rows costs
        # more than to copy them, if much of a row does.
        self.band = 4 * max(self.band, self.height)
        self.inner_band = (
            None if self.width > geometry.outputs[1] * _BOX_COPY_SHARE else max(MIN_ROWS_PER_CALL, 8 * self.height)
        )
        self.least = BLOCK_SAMPLES

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        if out.dtype != np.uint8 or self.geometry.channels > BOX_CHANNELS_MAX or count < BLOCK_SAMPLES:
            return super().run(rows, out, first, count, rounding)
        # Equal weights have one sign, which `choose_algorithm` made sure is positive: `absolute` changes nothing.
        window = self.height, self.width
        channels, many = self.geometry.channels, self.height * self.width
        gain = self.weight * rounding.gain
        quotient = division(many)
        # Means of an odd number of bytes are never half way, so that 1/9 as a float32 gives what 1/9 gives.
        is_mean = abs(gain * many - 1) * 255 < (0.5 / many if many % 2 else _MEAN_ERROR_MAX) and rounding.shift == 0
        if (
            quotient
            and is_mean
            and many <= _SMALL_BOX_SAMPLES_MAX
            and self.height >= TILE_ROWS - 1
            and len(out) >= TILE_ROWS
        ):
            small_means(channels == 1)(*rows, out, first, count, *window, channels, *quotient)
            return 0
        size = 2, columns_of(count, self.width, channels)
        if quotient and is_mean:
            lines = self.memory.array("columns", size, np.uint16)
            box_means(channels)(*rows, lines, out, first, count, *window, *quotient)
            return 0
        high = self.height > BOX_ROWS_MAX_U16
        lines = self.memory.array("columns", size, np.dtype(np.int32 if high else np.uint16))
        scale = gain, rounding.shift, rounding.top, rounding.count_every
        outside: int = box_sums(channels, high)(*rows, lines, out, first, count, *window, *scale)
        return outside


class Fourier:
    """A large dense kernel: multiplied with square tiles of the picture in the frequency domain, in float32."""

    exact = rounds = False
    inner_band: int | None = None
    least = 1
    sides: Sides | None = None

    def __init__(self, weights: Samples, geometry: Geometry, size: int) -> None:
        self.geometry = replace(geometry, phased=False)
        vertical, horizontal = geometry.vertical, geometry.horizontal
        self.size = size
        self.products = 8 * size.bit_length()  # about: rows and columns are transformed and back
        self.band = (self.size - vertical.reach) // vertical.stride + 1
        self.columns: int | None = 2 * ((self.size - horizontal.reach) // horizontal.stride + 1)
        angles = 2 * np.pi / self.size * np.arange(self.size)
        self.tables = np.stack([np.cos(angles), -np.sin(angles)]).astype(np.float32)
        self.spectrum = np.zeros((2, self.size, self.size + ROW_PADDING), np.float32)
        self.spectrum[0, : vertical.reach : vertical.dilation, : horizontal.reach : horizontal.dilation] = weights
        transform(self.spectrum[0], self.spectrum[1], *self.tables)
        self.spectrum /= np.float32(self.size**2)
        self.spectrum[1] *= -1  # the conjugate correlates
        self.memory = Memory()

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        vertical, horizontal = self.geometry.vertical, self.geometry.horizontal
        channels = self.geometry.channels
        columns = count // channels
        wide = (self.size - horizontal.reach) // horizontal.stride + 1
        tiles = []
        for left in range(0, columns, wide):
            some = min(wide, columns - left)
            seen = (some - 1) * horizontal.stride + horizontal.reach
            for channel in range(channels):
                start = left * horizontal.stride * channels + channel
                tiles.append((start, seen, first + left * channels + channel, some))
        planes = self.memory.array("planes", self.spectrum.shape, np.float32)
        height = (len(out) - 1) * vertical.stride + vertical.reach
        for index in range(0, len(tiles), 2):
            convolve_pair(
                planes,
                self.spectrum,
                self.tables,
                *rows,
                np.array(tiles[index : index + 2]),
                channels,
                height,
                out,
                vertical.stride,
                horizontal.stride,
            )
        if rounding.shift:
            out[:, first : first + count] += np.float32(rounding.shift)
        return 0
