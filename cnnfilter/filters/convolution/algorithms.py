"""The algorithms of convolution: direct, separable, box and Fourier.

An algorithm turns rows with their border (`cnnfilter.filters.convolution.geometry`) into sums, float32 or rounded.
`cnnfilter.filters.convolution.choice` chooses among them.
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
    mean_division,
    small_means,
)
from cnnfilter.filters.convolution.direct_loops import (
    BLOCK_SAMPLES,
    OVERREAD_SAMPLES,
    PAIRED_TAP_DISTANCES,
    TILE_ROWS,
    TILE_SAMPLES,
    integers,
    separable,
    separable_tile,
    taps,
    tile,
)
from cnnfilter.filters.convolution.fourier_loops import ROW_PADDING, convolve_pair, transform
from cnnfilter.filters.convolution.geometry import Geometry, Region, RowOffsets, rows_per_copy
from cnnfilter.filters.windows import border_constant
from cnnfilter.kernels.structure import factor
from cnnfilter.runtime.buffers import Memory

Samples = NDArray[Any]

_INT16_MAX = 32767
"""The largest int16."""

_MEAN_ERROR_MAX = 1e-12
"""Largest error, in levels, of the mean of an even number of bytes, which can lie half way between two levels."""

SIDE_PRODUCTS_MAX = 20
"""Columns of a narrow region times taps, up to which it is faster to sum without a padded copy (measured)."""

MIN_ROWS_PER_CALL = 64
"""Rows of a band from which on the time of a call of a loop, some microseconds, does not matter."""

_BOX_COPY_SHARE = 1 / 32
"""A box wider than this share of the image runs on a padded copy: the regions beside the inner one would be large."""

_SMALL_BOX_SAMPLES_MAX = 25
"""Samples of a box, here 5x5, up to which it is faster to add all of them than to keep running sums (measured)."""


class Rounding(NamedTuple):
    """The rule that stores a sum `v`: as ``v·gain + shift``, for integers rounded half up and clipped to 0…top.

    Attributes
    ----------
    absolute : whether the absolute value is stored; of integers only
    count_every : clipped integers are counted in the rows whose number it divides. A dense kernel, on four rows at
        once, counts one row of four unless it is 1.
    """

    gain: float = 1.0
    shift: float = 0.0
    absolute: bool = False
    top: float = 255.0
    count_every: int = 1

    @property
    def loop_arguments(self) -> tuple[float, int, float, int]:
        """Return the arguments of the loops; the gain is multiplied into the weights."""
        return self.shift, int(self.absolute), self.top, self.count_every


class Algorithm(Protocol):
    """A way to compute the sums of a kernel over a band of rows.

    Attributes
    ----------
    band : rows of output of a region that is computed from a padded copy
    columns : columns of output of such a region; None for all
    inner_band : rows of output at the least of a band that is computed from the picture itself; None if all of the
        result is computed from padded copies
    products : multiply-adds of a sample of output
    min_samples : narrowest strip at the side of the picture that is computed by a call of its own
    sides : computes narrow strips without a padded copy, where that is faster
    exact : whether a NaN or an infinity reaches only the outputs whose taps see it
    rounds : whether it reads samples of any type and stores that type; otherwise it reads and stores float32
    """

    geometry: Geometry
    band: int
    columns: int | None
    inner_band: int | None
    products: int
    min_samples: int
    sides: Sides | None
    exact: bool
    rounds: bool

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        """Store the sums in the `count` samples from `first` on of each row of `out` (H, W'·C).

        Returns how many integers were clipped, in the rows that are counted.
        """


class Sides:
    """The sums of narrow strips at the left and right side of a picture, which are read without a padded copy."""

    def __init__(self, weights: Samples, geometry: Geometry) -> None:
        self.geometry = geometry
        rows, columns = np.nonzero(weights)
        self.tap_rows = geometry.row_numbers()[rows]
        self.tap_columns = columns * geometry.horizontal.dilation
        self.weights = weights[rows, columns].astype(np.float32)

    def suit(self, region: Region) -> bool:
        """Return whether this is faster for a region than a padded copy."""
        is_narrow = (region.right - region.left) * len(self.weights) <= SIDE_PRODUCTS_MAX
        return is_narrow and self.geometry.horizontal.stride == 1

    def run(self, source: Samples, region: Region, out: Samples, first: int, rounding: Rounding) -> int:
        """Store the sums of a region of `source` (H, W·C), as an algorithm does."""
        rows, columns = self.geometry.source_offsets(source, region)
        weights = self.weights * np.float32(rounding.gain)
        taps = self.tap_rows, self.tap_columns, weights
        constant = border_constant(self.geometry.border) or 0.0
        window = region.right - region.left, self.geometry.channels, self.geometry.row_step
        loop = side_sums(out.dtype.kind == "u")
        outside: int = loop(*rows, columns, *taps, out, first, *window, constant, *rounding.loop_arguments)
        return outside


class Direct:
    """Tap by tap, for any kernel, stride and dilation. Weights of 0 are left out."""

    exact = rounds = True
    columns: int | None = None
    inner_band: int | None = MIN_ROWS_PER_CALL
    min_samples = 1
    sides: Sides | None = None

    def __init__(self, weights: Samples, geometry: Geometry) -> None:
        self.geometry = geometry
        self.band = rows_per_copy(geometry)
        rows, columns = np.nonzero(weights)
        self.tap_rows = geometry.row_numbers()[rows]
        self.tap_columns = geometry.column_offsets()[columns]
        self.weights = weights[rows, columns].astype(np.float32)
        self.products = len(self.weights)

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        weights = self.weights * np.float32(rounding.gain)
        where = *rows, self.tap_rows, self.tap_columns
        loop = taps(out.dtype.kind == "u")
        outside: int = loop(*where, weights, out, first, count, self.geometry.row_step, *rounding.loop_arguments)
        return outside


class DirectIntegers(Direct):
    """Tap by tap on bytes, for few weights that are integers, or integer multiples of a unit: 16-bit sums."""

    def __init__(self, weights: Samples, geometry: Geometry, unit: float) -> None:
        super().__init__(weights, geometry)
        self.unit = unit
        # In float64, because float32 has no unit as small as 1e-310.
        self.integers = np.rint(weights[weights != 0] / unit).astype(np.int64)
        self.largest = 255 * int(np.abs(self.integers).sum())

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        if out.dtype != np.uint8:
            return super().run(rows, out, first, count, rounding)
        gain, shift = rounding.gain * self.unit, rounding.shift
        loop = integers(gain != 1 or shift != int(shift) or abs(shift) + self.largest > _INT16_MAX)
        where = *rows, self.tap_rows, self.tap_columns
        target = out, first, count, self.geometry.row_step
        outside: int = loop(*where, self.integers, *target, gain, shift, int(rounding.absolute), rounding.count_every)
        return outside


def integer_unit(weights: Samples) -> float:
    """Return the unit that all weights are integer multiples of, if the sums of bytes fit into 16 bits, else 0."""
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
    """All weights of a kernel of three rows or more, on four rows of output at once."""

    def __init__(self, weights: Samples, geometry: Geometry) -> None:
        super().__init__(weights, geometry)
        self.exact = bool(weights.all())
        self.min_samples = TILE_SAMPLES
        self.matrix = np.ascontiguousarray(weights, np.float32)
        self.offsets = geometry.column_offsets()

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        if len(out) < TILE_ROWS or count < TILE_SAMPLES:
            return super().run(rows, out, first, count, rounding)
        weights = self.matrix * np.float32(rounding.gain)
        loop = tile(out.dtype.kind == "u")
        outside: int = loop(*rows, weights, self.offsets, out, first, count, *rounding.loop_arguments)
        return outside


class Separable:
    """A kernel of low rank: for each of its terms, a column of weights is summed down, then a row across."""

    exact, rounds = False, True
    columns: int | None = None
    inner_band: int | None = MIN_ROWS_PER_CALL
    min_samples = 1
    sides: Sides | None = None

    def __init__(self, terms: Sequence[tuple[Samples, Samples]], geometry: Geometry) -> None:
        self.geometry = geometry
        self.band = rows_per_copy(geometry)
        self.memory = Memory()
        self.reach = int(geometry.column_offsets().max())
        # The taps of all terms are joined; `ends` holds where those of each term end.
        down, across = ([np.flatnonzero(weights) for weights in side] for side in zip(*terms, strict=True))
        columns, rows = ([weights[np.flatnonzero(weights)] for weights in side] for side in zip(*terms, strict=True))
        self.ends = np.array([(0, 0), *zip(_ends(down), _ends(across), strict=True)])
        self.tap_rows = geometry.row_numbers()[np.concatenate(down)]
        self.tap_columns = geometry.column_offsets()[np.concatenate(across)]
        self.column_weights = np.concatenate(columns).astype(np.float32)
        self.row_weights = np.concatenate(rows).astype(np.float32)
        self.products = len(self.tap_rows) + len(self.tap_columns)
        steps = {geometry.vertical.stride, geometry.vertical.dilation}
        distances = set(np.diff(self.tap_columns).tolist())
        self.tap_distance = min(distances) if distances in PAIRED_TAP_DISTANCES else 0
        self.is_dense = (
            len(terms) == 1 and steps == {1} and len(self.tap_rows) == geometry.vertical.taps >= TILE_ROWS - 1
        )

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        weights = self.row_weights * np.float32(rounding.gain)
        if self.is_dense and len(out) >= TILE_ROWS and count >= BLOCK_SAMPLES:
            lines = self.memory.array("four lines", (4, count + self.reach + OVERREAD_SAMPLES), np.float32)
            cross = self.column_weights, self.tap_columns, weights
            four_rows = separable_tile(out.dtype.kind == "u", self.tap_distance)
            counted: int = four_rows(*rows, *cross, lines, out, first, count, *rounding.loop_arguments)
            return counted
        lines = self.memory.array("lines", (3, count + self.reach + OVERREAD_SAMPLES), np.float32)
        taps = self.tap_rows, self.column_weights, self.tap_columns, weights, self.ends
        loop = separable(out.dtype.kind == "u")
        outside: int = loop(*rows, *taps, lines, out, first, count, self.geometry.row_step, *rounding.loop_arguments)
        return outside


def _ends(taps: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the end of each term's taps in the joined taps of all terms."""
    return np.cumsum([len(of_term) for of_term in taps])


class Box(Separable):
    """A kernel whose weights are all the same. Sums of bytes take the same time for any size of the window."""

    def __init__(self, weights: Samples, geometry: Geometry) -> None:
        super().__init__(factor(weights, max_terms=1), geometry)
        self.weight = float(weights[0, 0])
        self.height, self.width = weights.shape
        # The first row of a band sums all rows of the window, so that bands are several times as high. Strips at the
        # sides are computed from a padded copy: if they are wide, a copy of all columns is faster.
        self.band = 4 * max(self.band, self.height)
        self.inner_band = (
            None if self.width > geometry.outputs[1] * _BOX_COPY_SHARE else max(MIN_ROWS_PER_CALL, 8 * self.height)
        )
        self.min_samples = BLOCK_SAMPLES

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        if out.dtype != np.uint8 or self.geometry.channels > BOX_CHANNELS_MAX or count < BLOCK_SAMPLES:
            return super().run(rows, out, first, count, rounding)
        # `choose_algorithm` takes a box for positive weights only, so that `absolute` would change nothing.
        window = self.height, self.width
        channels, taps = self.geometry.channels, self.height * self.width
        gain = self.weight * rounding.gain
        quotient = mean_division(taps)
        # The mean of an odd number of bytes never lies half way between levels: a weight of 1/9 may be rounded.
        is_mean = abs(gain * taps - 1) * 255 < (0.5 / taps if taps % 2 else _MEAN_ERROR_MAX) and rounding.shift == 0
        if (
            quotient
            and is_mean
            and taps <= _SMALL_BOX_SAMPLES_MAX
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
        is_tall = self.height > BOX_ROWS_MAX_U16
        lines = self.memory.array("columns", size, np.dtype(np.int32 if is_tall else np.uint16))
        rounded = gain, rounding.shift, rounding.top, rounding.count_every
        outside: int = box_sums(channels, is_tall)(*rows, lines, out, first, count, *window, *rounded)
        return outside


class Fourier:
    """A large dense kernel, multiplied with square tiles of the picture in the frequency domain, in float32."""

    exact = rounds = False
    inner_band: int | None = None
    min_samples = 1
    sides: Sides | None = None

    def __init__(self, weights: Samples, geometry: Geometry, size: int) -> None:
        self.geometry = replace(geometry, phased=False)
        vertical, horizontal = geometry.vertical, geometry.horizontal
        self.size = size
        self.products = 8 * size.bit_length()  # an estimate: rows and columns are transformed there and back
        self.band = (self.size - vertical.reach) // vertical.stride + 1
        self.columns: int | None = 2 * ((self.size - horizontal.reach) // horizontal.stride + 1)
        angles = 2 * np.pi / self.size * np.arange(self.size)
        self.tables = np.stack([np.cos(angles), -np.sin(angles)]).astype(np.float32)
        self.spectrum = np.zeros((2, self.size, self.size + ROW_PADDING), np.float32)
        self.spectrum[0, : vertical.reach : vertical.dilation, : horizontal.reach : horizontal.dilation] = weights
        transform(self.spectrum[0], self.spectrum[1], *self.tables)
        self.spectrum /= np.float32(self.size**2)
        self.spectrum[1] *= -1  # a product with the conjugate is a correlation
        self.memory = Memory()

    def run(self, rows: RowOffsets, out: Samples, first: int, count: int, rounding: Rounding) -> int:
        vertical, horizontal = self.geometry.vertical, self.geometry.horizontal
        channels = self.geometry.channels
        columns = count // channels
        tile_columns = (self.size - horizontal.reach) // horizontal.stride + 1
        tiles = []
        for left in range(0, columns, tile_columns):
            outputs = min(tile_columns, columns - left)
            inputs = (outputs - 1) * horizontal.stride + horizontal.reach
            for channel in range(channels):
                start = left * horizontal.stride * channels + channel
                tiles.append((start, inputs, first + left * channels + channel, outputs))
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
