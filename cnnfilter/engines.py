"""The ways to convolve a band of rows, what each of them costs, and the choice among them.

An engine turns rows with their border (`cnnfilter.scratch`) into float32 sums. Costs are nanoseconds for
one output sample on one thread, fitted to measurements (``python -m tests.benchmarks --fit``); only their
ratios matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ShapeError
from cnnfilter.kernels import factor
from cnnfilter.loops.convolution import (
    CHUNK,
    LARGEST_CHUNK,
    LARGEST_PAIR,
    WIDEST_CHUNK,
    add_columns,
    add_taps,
    byte_box,
    byte_taps,
    byte_wholes,
    set_pairs,
)
from cnnfilter.loops.fourier import PADDING, convolve_pair, transform
from cnnfilter.scratch import Geometry, Memory, Rows, band_rows
from cnnfilter.windows import Axis

Samples = NDArray[Any]

ALGORITHMS = ("auto", "direct", "separable", "fft")

_INT16, _UINT16 = 32767, 65535
_ANY = 64  # rows that are enough for what a call costs
_TILE_COSTS = {64: 34e3, 128: 115e3, 256: 445e3, 512: 2.15e6, 1024: 14e6, 2048: 70e6}
"""Sides of the tiles of the FFT, and what two of them cost."""


ByteScale = tuple[float, float, int, int]
"""gain, shift, fold and every of the loop `byte_taps`."""


class Engine(Protocol):
    """One way to convolve.

    Attributes
    ----------
    band : the rows of output that are best made at once from a scratch.
    columns : the same for columns of output; None for all of them.
    inner_band : the rows where they are made from the picture itself.
        None where whole rows of output are wanted.
    exact : whether a NaN or an infinity reaches only the outputs whose taps see it.
    takes_bytes : whether it is a `ByteEngine`.
    """

    geometry: Geometry
    band: int
    columns: int | None
    inner_band: int | None
    exact: bool
    takes_bytes: bool

    def run(self, rows: Rows, out: Samples, first: int, count: int) -> None:
        """Store the sums in the `count` samples from `first` on of each row of `out` (H, W'·C)."""


class ByteEngine(Engine, Protocol):
    """An engine that also stores bytes made of bytes, without floats between."""

    def run_bytes(self, rows: Rows, out: Samples, first: int, count: int, scale: ByteScale) -> int:
        """Store bytes, with `scale` for the loop `byte_taps`; return how many were found clipped."""


class DirectTaps:
    """The taps that are not 0, one after the other: any stride, dilation and shape."""

    exact = True
    columns: int | None = None
    inner_band: int | None = _ANY

    def __init__(self, weights: Samples, geometry: Geometry) -> None:
        self.geometry = geometry
        self.band = band_rows(geometry)
        rows, columns = np.nonzero(weights)
        self.tap_rows = geometry.row_numbers()[rows]
        self.tap_columns = geometry.column_offsets()[columns]
        self.weights = weights[rows, columns].astype(np.float32)
        self.takes_bytes = 0 < len(rows) <= LARGEST_CHUNK
        # Whole numbers, or whole multiples of one, whose sums of bytes fit into 16 bits.
        self.wholes: NDArray[np.int32] | None = None
        self.unit = _common_unit(weights[rows, columns]) if self.takes_bytes else 0.0
        if self.unit:
            self.wholes = np.rint(weights[rows, columns] / self.unit).astype(np.int32)
            self.largest = 255 * int(np.abs(self.wholes).sum())
            if self.largest > _INT16:
                self.wholes = None

    def run(self, rows: Rows, out: Samples, first: int, count: int) -> None:
        offsets = self.tap_rows * rows.line + self.tap_columns
        _add_all(rows.samples, offsets, self.weights, out, first, count, self.geometry.step * rows.line)

    def run_bytes(self, rows: Rows, out: Samples, first: int, count: int, scale: ByteScale) -> int:
        offsets = self.tap_rows * rows.line + self.tap_columns
        step = self.geometry.step * rows.line
        gain, shift, fold, every = scale
        place = out, first, count, step
        clipped: int
        if self.wholes is None:
            loop = byte_taps(len(self.weights))
            clipped = loop(rows.samples, offsets, self.weights, *place, gain, shift, fold, every)
        else:
            gain *= self.unit
            loop = byte_wholes(len(self.wholes), gain != 1 or shift != int(shift) or abs(shift) + self.largest > _INT16)
            clipped = loop(rows.samples, offsets, self.wholes, *place, gain, shift, fold, every)
        return clipped


def _common_unit(weights: Samples) -> float:
    """Return 1 or the smallest weight, if all weights are whole multiples of it, else 0."""
    for unit in (1.0, float(np.abs(weights).min())):
        wholes = weights / unit
        if np.abs(wholes - np.rint(wholes)).max() <= 1e-12 * np.abs(wholes).max():
            return unit
    return 0.0


def _add_all(
    samples: Samples,
    offsets: NDArray[np.int64],
    weights: NDArray[np.float32],
    out: Samples,
    first: int,
    count: int,
    step: int,
) -> None:
    """Store the sum of any number of taps in `out`: a first pass of what is over, then full ones."""
    taps = len(offsets)
    if taps == 0:
        out[:, first : first + count] = 0
        return
    some = taps if taps <= LARGEST_CHUNK else (taps - 1) % CHUNK + 1
    add_taps(some, True)(samples, offsets[:some], weights[:some], out, first, count, step)
    if some < taps:
        add_taps(CHUNK, False)(samples, offsets[some:], weights[some:], out, first, count, step)


class DirectPairs:
    """A small dense kernel, on two rows at once: each sample is loaded once for both."""

    exact, takes_bytes = True, False
    columns: int | None = None
    inner_band: int | None = _ANY

    def __init__(self, weights: Samples, geometry: Geometry) -> None:
        self.geometry = geometry
        self.band = band_rows(geometry)
        self.weights = np.ascontiguousarray(weights, np.float32)
        self.offsets = geometry.column_offsets()
        self.last = DirectTaps(weights, geometry)  # of an odd number of rows

    def run(self, rows: Rows, out: Samples, first: int, count: int) -> None:
        loop = set_pairs(*self.weights.shape)
        loop(rows.samples, rows.line, self.weights, self.offsets, out, first, count)
        if len(out) % 2:
            self.last.run(rows.below(len(out) - 1), out[-1:], first, count)


class DirectColumns:
    """A dense kernel, column by column on two rows at once.

    It reads many rows again and again, which is slow where they lie a power of two apart, as those of a picture may:
    so it works from a scratch.
    """

    exact, takes_bytes = False, False
    columns: int | None = None
    inner_band: int | None = None

    def __init__(self, weights: Samples, geometry: Geometry) -> None:
        self.geometry = geometry
        self.band = band_rows(geometry)
        self.weights = np.ascontiguousarray(weights, np.float32)
        self.offsets = geometry.column_offsets()

    def run(self, rows: Rows, out: Samples, first: int, count: int) -> None:
        width = self.weights.shape[1]
        chunks = -(-width // WIDEST_CHUNK)
        edges = [width * chunk // chunks for chunk in range(chunks + 1)]
        for column, end in pairwise(edges):
            loop = add_columns(end - column, column == 0)
            loop(rows.samples, rows.line, self.weights, column, self.offsets, out, first, count)


class Separable:
    """A kernel of low rank: for each of its terms a column of weights down, then a row across."""

    exact, takes_bytes = False, False
    columns: int | None = None

    def __init__(self, terms: Sequence[tuple[Samples, Samples]], geometry: Geometry) -> None:
        self.geometry = geometry
        self.band = band_rows(geometry)
        self.inner_band: int | None = self.band
        self.memory = Memory()
        self.reach = int(geometry.column_offsets().max())
        self.terms = []
        for column, row in terms:
            down, across = np.flatnonzero(column), np.flatnonzero(row)
            self.terms.append(
                (
                    (geometry.row_numbers()[down], column[down].astype(np.float32)),
                    (geometry.column_offsets()[across], row[across].astype(np.float32)),
                )
            )

    def run(self, rows: Rows, out: Samples, first: int, count: int) -> None:
        reached = count + self.reach
        between = self.memory.array("between", (len(out), reached), np.float32)
        for term, ((down, columns), (across, weights)) in enumerate(self.terms):
            step = self.geometry.step * rows.line
            _add_all(rows.samples, down * rows.line, columns, between, 0, reached, step)
            if term == 0:
                _add_all(between.reshape(-1), across, weights, out, first, count, reached)
            else:
                own = self.memory.array("own", (len(out), count), np.float32)
                _add_all(between.reshape(-1), across, weights, own, 0, count, reached)
                out[:, first : first + count] += own


class Box(Separable):
    """A kernel whose weights are all the same: of bytes, sums that cost the same for any height of the window."""

    takes_bytes = True

    def __init__(self, weights: Samples, geometry: Geometry) -> None:
        super().__init__(factor(weights, most=1), geometry)
        self.weight = float(weights[0, 0])
        self.height, self.width = weights.shape
        # The first row of a band costs as much as the window is high; its scratch takes a quarter of the usual one.
        self.band = 4 * max(self.band, self.height)
        self.inner_band = None
        self.wide = self.height * 255 > _UINT16
        most = max(_UINT16 // (255 * self.height), 1) if not self.wide else self.width
        # A sample of a group costs half of what a group costs, which is widened first.
        self.group = min(
            range(1, min(most, self.width) + 1), key=lambda size: size / 2 + self.width // size + self.width % size
        )

    def run_bytes(self, rows: Rows, out: Samples, first: int, count: int, scale: ByteScale) -> int:
        gain, shift, _, every = scale  # equal weights have one sign, which `choose_engine` made sure is positive
        source = rows.samples.reshape(-1, rows.line)
        sums = self.memory.array("sums", (2, rows.line), np.int32 if self.wide else np.uint16)
        loop = byte_box(self.width, self.group)
        channels = self.geometry.channels
        clipped: int = loop(source, sums, out, self.height, channels, self.weight * gain, shift)
        return clipped // every


class Fourier:
    """A large dense kernel: multiplied with square tiles of the picture in the frequency domain, in float32."""

    exact, takes_bytes = False, False
    inner_band: int | None = None

    def __init__(self, weights: Samples, geometry: Geometry, size: int) -> None:
        self.geometry = replace(geometry, phased=False)
        vertical, horizontal = geometry.vertical, geometry.horizontal
        self.size = size
        self.band = (self.size - vertical.reach) // vertical.stride + 1
        self.columns: int | None = 2 * ((self.size - horizontal.reach) // horizontal.stride + 1)
        angles = 2 * np.pi / self.size * np.arange(self.size)
        self.tables = np.stack([np.cos(angles), -np.sin(angles)]).astype(np.float32)
        self.spectrum = np.zeros((2, self.size, self.size + PADDING), np.float32)
        self.spectrum[0, : vertical.reach : vertical.dilation, : horizontal.reach : horizontal.dilation] = weights
        transform(self.spectrum[0], self.spectrum[1], *self.tables)
        self.spectrum /= np.float32(self.size**2)
        self.spectrum[1] *= -1  # the conjugate correlates
        self.memory = Memory()

    def run(self, rows: Rows, out: Samples, first: int, count: int) -> None:
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
                rows.samples,
                np.array(tiles[index : index + 2]),
                rows.line,
                channels,
                height,
                out,
                vertical.stride,
                horizontal.stride,
            )


def tile_size(vertical: Axis, horizontal: Axis) -> int | None:
    """Return the side of the square tile that costs least for all outputs, None if the window spans too much."""
    reach = max(vertical.reach, horizontal.reach)
    sizes = [size for size in _TILE_COSTS if size >= reach]
    return min(sizes, key=lambda size: _tiles_cost(size, vertical, horizontal), default=None)


def _tiles_cost(size: int, *axes: Axis) -> float:
    """Return the nanoseconds that all tiles of one channel take, two at once."""
    tiles = math.prod(-(-axis.outputs // ((size - axis.reach) // axis.stride + 1)) for axis in axes)
    return _TILE_COSTS[size] * tiles / 2


# --- the choice ---------------------------------------------------------------------------------------

_LARGEST_FACTORED = 256
"""Side of a kernel up to which more than one separable term is looked for: that takes the cube of it."""


class _Candidate(NamedTuple):
    """A way to convolve, what it costs, and the engine for it."""

    cost: float
    way: str
    build: Callable[[], Engine]

    def price(self) -> float:
        """Return the cost, to compare by."""
        return self.cost


def _taps_cost(taps: int) -> float:
    return 0.49 + (0.015 if taps <= LARGEST_CHUNK else 0.033) * taps


def _byte_taps_cost(engine: DirectTaps) -> float:
    return 0.33 + (0.034 if engine.wholes is None else 0.018) * len(engine.weights)


def _pairs_cost(taps: int, bytes_only: bool) -> float:
    return 0.58 + 0.0186 * taps if bytes_only else 0.42 + 0.0148 * taps


def _columns_cost(height: int, width: int) -> float:
    return 0.62 + 0.0236 * (height + 0.5) * (width + 0.5)


def _separable_cost(terms: Sequence[tuple[Samples, Samples]], geometry: Geometry) -> float:
    widening = geometry.line / max(geometry.outputs[1] * geometry.channels, 1)
    passes = [
        (np.count_nonzero(weights), wide) for term in terms for weights, wide in zip(term, (widening, 1), strict=True)
    ]
    taps = sum((0.031 if count <= LARGEST_CHUNK else 0.039) * count * wide for count, wide in passes)
    return float(0.79 + taps + 0.65 * (len(terms) - 1))


def choose_engine(
    weights: Samples, geometry: Geometry, algorithm: str = "auto", *, bytes_only: bool = False
) -> tuple[Engine, str]:
    """Return the engine for a kernel, and one line that says which it is and why.

    Parameters
    ----------
    bytes_only : whether bytes are made of bytes, which some engines do without floats between

    Raises
    ------
    ShapeError
        There is no such algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise ShapeError(f"algorithm {algorithm!r} is not one of {', '.join(ALGORITHMS)}")
    candidates = _candidates(weights, geometry, algorithm, bytes_only)
    asked = [candidate for candidate in candidates if candidate.way == algorithm]
    best = min(asked or candidates, key=_Candidate.price)
    cheapest = {each.way: each.cost for each in sorted(candidates, key=_Candidate.price, reverse=True)}
    reason = ", ".join(f"{way} {cheapest[way]:.2f}" for way in sorted(cheapest, key=lambda way: cheapest[way]))
    taps = np.count_nonzero(weights)
    shape = "{}x{}".format(*weights.shape)
    why = "asked for" if asked else f"ns a sample: {reason}"
    return best.build(), f"{best.way}, {shape} kernel of {taps} taps ({why})"


def _is_box(weights: Samples, geometry: Geometry) -> bool:
    """Return whether all weights are one positive number, and the window moves from sample to sample."""
    steps = {geometry.vertical.stride, geometry.vertical.dilation, geometry.horizontal.stride}
    together = steps == {1} and geometry.horizontal.dilation == 1
    return bool(together and weights.size > 1 and weights[0, 0] > 0 and (weights == weights[0, 0]).all())


def _candidates(weights: Samples, geometry: Geometry, algorithm: str, bytes_only: bool) -> list[_Candidate]:
    """Return the ways that suit a kernel; one that cannot be the cheapest is left out unless it is asked for."""
    height, width = weights.shape
    taps = int(np.count_nonzero(weights))
    vertical, horizontal = geometry.vertical, geometry.horizontal
    taps_engine = DirectTaps(weights, geometry)
    cost = _byte_taps_cost(taps_engine) if bytes_only and taps_engine.takes_bytes else _taps_cost(taps)
    found = [_Candidate(cost, "direct", lambda: taps_engine)]
    row_by_row = vertical.stride == vertical.dilation == 1 and height > 1
    if row_by_row and taps == weights.size <= LARGEST_PAIR:
        found.append(_Candidate(_pairs_cost(taps, bytes_only), "direct", lambda: DirectPairs(weights, geometry)))
    elif row_by_row and taps > LARGEST_CHUNK:
        found.append(_Candidate(_columns_cost(height, width), "direct", lambda: DirectColumns(weights, geometry)))
    if taps > 50 or algorithm == "fft":
        size = tile_size(vertical, horizontal)
        if size is not None:
            cost = _tiles_cost(size, vertical, horizontal) / math.prod(geometry.outputs)
            found.append(_Candidate(cost, "fft", lambda: Fourier(weights, geometry, size)))
    if bytes_only and _is_box(weights, geometry):
        found.append(_Candidate(0.5, "separable", lambda: Box(weights, geometry)))
    one_term = [(np.ones(height), np.ones(width))]
    if algorithm == "separable" or _separable_cost(one_term, geometry) < min(map(_Candidate.price, found)):
        terms = factor(weights, most=None if algorithm == "separable" or max(height, width) <= _LARGEST_FACTORED else 1)
        if terms:
            cost = _separable_cost(terms, geometry)
            found.append(_Candidate(cost, "separable", lambda: Separable(terms, geometry)))
    return found
