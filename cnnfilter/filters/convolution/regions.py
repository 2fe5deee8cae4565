"""Which regions of a result are computed, and on which threads."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnfilter.filters.convolution.algorithms import Algorithm, Direct, Rounding
from cnnfilter.filters.convolution.border_loops import largest_bits
from cnnfilter.filters.convolution.direct_loops import TILE_ROWS
from cnnfilter.filters.convolution.geometry import Region, RowOffsets
from cnnfilter.filters.windows import border_constant
from cnnfilter.images.dtypes import Range, store_band
from cnnfilter.runtime.buffers import Memory
from cnnfilter.runtime.parallel import run_tasks

REGION_SAMPLES_MAX = 1 << 22
"""Samples of a region at the most: 16 MiB of float32, so that regions of an array larger than memory fit into it."""

REGION_SAMPLES_MIN = 1 << 21
"""Samples of a region from which on the time of its call does not matter."""

REGION_MULTIPLY_ADDS_MAX = 1 << 32
"""Multiply-adds of a region at the most: some tenths of a second. A run can be interrupted between regions."""

FULLY_COUNTED_SAMPLES_MAX = 1 << 18
"""Samples of a result up to which clipping is counted in every row. Of larger ones, each fourth row is enough."""

_INFINITY_BITS = 0x7F800000
"""The bits of float32 infinity (IEEE 754). The bits of NaN, without the sign, are larger."""

Samples = NDArray[Any]


class Work:
    """One run of some algorithms over a picture."""

    def __init__(
        self,
        samples: Samples,
        weights: list[Samples],
        algorithms: list[Algorithm],
        combine: str,
        threads: int,
    ) -> None:
        self.source = samples.reshape(samples.shape[0], -1)
        self.weights = weights
        self.algorithms = algorithms
        self.combine = combine
        self.threads = threads
        self.biases = [0.0] * len(algorithms)
        self.fold = False
        self.rows, self.columns = algorithms[0].geometry.outputs
        self.channels = algorithms[0].geometry.channels
        maps = len(algorithms) if combine == "stack" else 1
        self.shape = (self.rows, self.columns, self.channels * maps)
        self.memory = Memory()

    def store(self, out: Samples, scale: Range) -> float:
        """Fill `out` with the result; return the share of its samples that were clipped."""
        rows = out.reshape(len(out), -1)
        dtype = out.dtype
        is_rounded = self.source.dtype == dtype != np.float32 and not self.combine
        part = self._rounded if is_rounded and self._reads(self.algorithms[0]) == dtype else self._summed
        count_every = 4 if math.prod(self.shape) > FULLY_COUNTED_SAMPLES_MAX else 1

        def stored(region: Region) -> tuple[int, int]:
            return part(region, rows[region.top : region.bottom], scale, count_every)

        counts: list[tuple[int, int]] = self._in_regions(stored)
        return sum(clipped for clipped, _ in counts) / max(sum(counted for _, counted in counts), 1)

    def extremes(self) -> tuple[float, float]:
        """Return the smallest and the largest finite result."""

        def part(region: Region) -> tuple[float, float]:
            sums = self._sums(region)
            finite = sums if np.isfinite(sums.sum()) else sums[np.isfinite(sums)]
            return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)

        found = self._in_regions(part)
        return min(low for low, _ in found), max(high for _, high in found)

    def _rounded(self, region: Region, here: Samples, scale: Range, count_every: int) -> tuple[int, int]:
        """Store a region, rounded by its algorithm; return how many samples were clipped, and of how many."""
        rounding = Rounding(
            scale.gain, self.biases[0] * scale.gain + scale.shift, scale.absolute, scale.top, count_every
        )
        count = (region.right - region.left) * self.channels
        clipped = self._run(self.algorithms[0], region, here, region.left * self.channels, rounding)
        return clipped, -(-len(here) // count_every) * count

    def _summed(self, region: Region, here: Samples, scale: Range, count_every: int) -> tuple[int, int]:
        """Do the same with sums that are combined, or rounded afterwards."""
        in_place = here.dtype == np.float32 and not self.combine  # the sums are made where they stay
        sums = self._sums(region, here if in_place else None)
        left, right = region.left * self.shape[2], region.right * self.shape[2]
        return store_band(sums, here, scale, left, right - left), len(here) * (right - left)

    def _sums(self, region: Region, out: Samples | None = None) -> Samples:
        """Return the float32 sums of all algorithms in a region, with their biases, combined.

        They are an array of their own, or stand in their place in `out`, the region's rows.
        """
        height, count = region.bottom - region.top, (region.right - region.left) * self.channels
        first = 0 if out is None else region.left * self.channels
        maps = (
            [out]
            if out is not None
            else [
                self.memory.array(f"map {index}", (height, count), np.float32) for index in range(len(self.algorithms))
            ]
        )
        rounding = Rounding(shift=0.0 if out is None else self.biases[0])
        for algorithm, own, weights in zip(self.algorithms, maps, self.weights, strict=True):
            self._run(algorithm, region, own, first, rounding)
            is_float = self.source.dtype == np.float32
            if is_float and not algorithm.exact and largest_bits(own.view(np.int32), first, count) >= _INFINITY_BITS:
                # Only tap by tap does a NaN or an infinity reach no further than the taps that see it.
                exact = Direct(weights, replace(algorithm.geometry, phased=True))
                exact.run(self._seen(exact, region), own, first, count, rounding)
        return combine_maps(maps, self.combine, self.biases, self.fold) if out is None else out

    def _reads(self, algorithm: Algorithm) -> np.dtype[Any]:
        """Return the type of the samples that an algorithm gets: the picture's own, if it can hold the border's too."""
        border = border_constant(algorithm.geometry.border)
        own = self.source.dtype
        is_held = border is None or own.kind == "f" or border in range(np.iinfo(own).max + 1)
        return own if algorithm.rounds and is_held else np.dtype(np.float32)

    def _run(self, algorithm: Algorithm, region: Region, out: Samples, first: int, rounding: Rounding) -> int:
        """Make an algorithm store its sums of a region in the columns from `first` on of `out`, as its `run` does."""
        sides = algorithm.sides
        if sides and self._reads(algorithm) == self.source.dtype and sides.suit(region):
            return sides.run(self.source, region, out, first, rounding)
        count = (region.right - region.left) * self.channels
        return algorithm.run(self._seen(algorithm, region), out, first, count, rounding)

    def _seen(self, algorithm: Algorithm, region: Region) -> RowOffsets:
        """Return what `region` sees: in the picture itself where that is possible, else in a scratch."""
        geometry, dtype = algorithm.geometry, self._reads(algorithm)
        if self.source.dtype == dtype and geometry.is_inner(region):
            return geometry.window(self.source, region)
        return geometry.fill(self.source, region, dtype, self.memory)

    def _in_regions(self, part: Callable[[Region], Any]) -> list[Any]:
        """Call `part` for regions that make up the result.

        Where the algorithms read the picture's own type, what reaches beyond it is cut off: the columns left and right,
        and the rows above and below if a constant stands there. All else is filtered where it stands, in bands, whose
        height changes no result. Other regions depend on the picture alone.
        """
        columns = self.columns
        inner, size = self._inner
        outer = [Region(0, inner.top, 0, columns), Region(inner.bottom, self.rows, 0, columns)]
        sides = [
            Region(inner.top, inner.bottom, 0, inner.left),
            inner,
            Region(inner.top, inner.bottom, inner.right, columns),
        ]
        regions = [piece for region in outer for piece in _cut(region, *size)]
        regions += [piece for region in sides for piece in _cut(region, self._high(), columns)]
        # What is near in a file that is mapped comes at about the same time, the widest first: the system clears
        # new memory as it is written, which is better done as it is filled.
        regions.sort(key=lambda region: (region.top, region.left - region.right))

        def quietly(region: Region) -> Any:
            with np.errstate(all="ignore"):  # NaN and infinity are data; each thread has its own setting
                return part(region)

        wanted = [region for region in regions if not region.is_empty]
        return run_tasks([functools.partial(quietly, region) for region in wanted], self.threads)

    @functools.cached_property
    def _inner(self) -> tuple[Region, tuple[int, int]]:
        """Return what is filtered where it stands, and the size of the pieces of all else."""
        algorithms = self.algorithms
        size = (
            min(algorithm.band for algorithm in algorithms),
            min((algorithm.columns for algorithm in algorithms if algorithm.columns is not None), default=self.columns),
        )
        if any(algorithm.geometry.phased and algorithm.geometry.horizontal.stride > 1 for algorithm in algorithms):
            size = size[0], self.columns
        inner = Region(self.rows, self.rows, 0, 0)
        if all(each.inner_band is not None and self._reads(each) == self.source.dtype for each in algorithms):
            inner = functools.reduce(Region.overlap, (algorithm.geometry.inner for algorithm in algorithms))
            inner = inner.beside(-(-max(algorithm.least for algorithm in algorithms) // self.channels), self.columns)
        return Region(self.rows, self.rows, 0, 0) if inner.is_empty else inner, size

    def _high(self) -> int:
        """Return how many rows a band of what is filtered where it stands has."""
        line = self.columns * self.channels
        pieces = 1 if self.threads == 1 else min(max(self.rows * line // REGION_SAMPLES_MIN, 1), 16)
        least = min(algorithm.inner_band or 1 for algorithm in self.algorithms)
        high = max(least, min(-(-self.rows // pieces), REGION_SAMPLES_MAX // line), 1)
        high = min(
            high,
            max(
                REGION_MULTIPLY_ADDS_MAX // (line * max(algorithm.products for algorithm in self.algorithms)), TILE_ROWS
            ),
        )
        return -(-self.rows // -(-self.rows // high)) + 3 & ~3  # about as many each, in fours


def _cut(region: Region, height: int, width: int) -> list[Region]:
    """Return `region` in parts of at most `height` rows and `width` columns."""
    return [
        Region(top, min(top + height, region.bottom), left, min(left + width, region.right))
        for top in range(region.top, region.bottom, height)
        for left in range(region.left, region.right, width)
    ]


def combine_maps(maps: list[Samples], combine: str, biases: Sequence[float], fold: bool) -> Samples:
    """Return float32 `maps`, all (…, C) of one shape, as one; their memory is used up.

    `combine` is one of COMBINATIONS, or "" for a single map. The biases of a stack are added to its maps, else
    the first one is added to the result. With `fold`, ``max`` takes the largest absolute value.
    """
    if combine == "stack":
        for values, bias in zip(maps, biases, strict=True):
            values += np.float32(bias)
        return np.stack(maps, axis=-1).reshape(*maps[0].shape[:-1], -1)
    total, *others = maps
    if combine == "magnitude":
        for values in maps:
            np.multiply(values, values, out=values)
    elif combine == "max" and fold:
        for values in maps:
            np.abs(values, out=values)
    add = np.maximum if combine == "max" else np.add
    for values in others:
        add(total, values, out=total)
    if combine == "magnitude":
        np.sqrt(total, out=total)
    elif combine == "mean":
        total /= np.float32(len(maps))
    if biases[0]:
        total += np.float32(biases[0])
    return total
