"""The plan of a convolution: the regions of its result, and how each is computed on the threads.

The kernels, their algorithms and the rule of rounding are chosen in `cnnfilter.filters.convolution.convolve`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.filters.convolution.algorithms import Algorithm, Direct, Rounding
from cnnfilter.filters.convolution.border_loops import largest_bits
from cnnfilter.filters.convolution.direct_loops import TILE_ROWS
from cnnfilter.filters.convolution.geometry import Region, RowOffsets
from cnnfilter.filters.windows import border_constant
from cnnfilter.images.dtypes import Range, Span, store_band
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


class PlannedKernel(NamedTuple):
    """A kernel and the algorithm for it.

    Attributes
    ----------
    weights : (kH, kW)
    bias : added to the sums of this kernel, before they are combined with those of others
    reason : one line on the algorithm and why it was chosen
    """

    weights: Samples
    algorithm: Algorithm
    bias: float
    reason: str


@dataclass(frozen=True, eq=False)
class Plan:
    """A convolution that can be run: the picture, the kernels with their algorithms, and the regions of the result.

    Attributes
    ----------
    source : the picture, (H, W·C)
    kernels : all have a result of one size
    combine : one of COMBINATIONS, or "" for a single kernel
    bias : added to the combined sums of several kernels
    threads : number of regions that are computed at a time
    """

    source: Samples
    kernels: tuple[PlannedKernel, ...]
    combine: str
    bias: float
    threads: int
    memory: Memory = field(default_factory=Memory)

    @functools.cached_property
    def algorithms(self) -> list[Algorithm]:
        """Return the algorithms of the kernels."""
        return [kernel.algorithm for kernel in self.kernels]

    @functools.cached_property
    def channels(self) -> int:
        """Return the channels of the picture."""
        return self.algorithms[0].geometry.channels

    @functools.cached_property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape (H', W', C') of the result."""
        rows, columns = self.algorithms[0].geometry.outputs
        maps = len(self.kernels) if self.combine == "stack" else 1
        return rows, columns, self.channels * maps

    def sample_type(self, algorithm: Algorithm) -> np.dtype[Any]:
        """Return the type of the samples that an algorithm reads: the picture's own, if the border fits into it."""
        border = border_constant(algorithm.geometry.border)
        own = self.source.dtype
        is_held = border is None or own.kind == "f" or border in range(np.iinfo(own).max + 1)
        return own if algorithm.rounds and is_held else np.dtype(np.float32)

    @functools.cached_property
    def regions(self) -> list[Region]:
        """Return the regions that make up the result.

        Where all algorithms read the picture itself, the inner region, whose windows lie within the picture, is cut
        into bands. Their height changes no result, so that it may depend on the number of threads. What lies around
        the inner region is computed from padded copies. Without an inner region the size of the regions can matter to
        the FFT, and depends on the picture and the kernels alone.
        """
        rows, columns, _ = self.shape
        inner = self._inner
        around = [Region(0, inner.top, 0, columns), Region(inner.bottom, rows, 0, columns)]
        beside = [
            Region(inner.top, inner.bottom, 0, inner.left),
            inner,
            Region(inner.top, inner.bottom, inner.right, columns),
        ]
        regions = [piece for region in around for piece in _cut(region, *self._copied_size)]
        regions += [piece for region in beside for piece in _cut(region, self._band_rows, columns)]
        # Regions that are near in a mapped file are computed at about the same time. The widest come first: the system
        # clears new memory when it is written first, and that is faster where much of it is written.
        regions.sort(key=lambda region: (region.top, region.left - region.right))
        return [region for region in regions if not region.is_empty]

    @functools.cached_property
    def _inner(self) -> Region:
        """Return the region that is computed from the picture itself; empty, and below all rows, if there is none."""
        rows, columns, _ = self.shape
        nothing = Region(rows, rows, 0, 0)
        algorithms = self.algorithms
        if any(each.inner_band is None or self.sample_type(each) != self.source.dtype for each in algorithms):
            return nothing
        inner = functools.reduce(Region.overlap, (each.geometry.inner for each in algorithms))
        inner = inner.with_side_strips(-(-max(each.min_samples for each in algorithms) // self.channels), columns)
        return nothing if inner.is_empty else inner

    @functools.cached_property
    def _copied_size(self) -> tuple[int, int]:
        """Return the height and width of regions that are computed from padded copies."""
        algorithms = self.algorithms
        _, columns, _ = self.shape
        height = min(each.band for each in algorithms)
        if any(each.geometry.phased and each.geometry.horizontal.stride > 1 for each in algorithms):
            return height, columns  # the columns of a padded row are sorted into phases
        return height, min((each.columns for each in algorithms if each.columns is not None), default=columns)

    @functools.cached_property
    def _band_rows(self) -> int:
        """Return the rows of a band of the inner region."""
        rows, columns, _ = self.shape
        line = columns * self.channels
        bands = 1 if self.threads == 1 else min(max(rows * line // REGION_SAMPLES_MIN, 1), 16)
        least = min(each.inner_band or 1 for each in self.algorithms)
        height = max(least, min(-(-rows // bands), REGION_SAMPLES_MAX // line), 1)
        products = line * max(each.products for each in self.algorithms)
        height = min(height, max(REGION_MULTIPLY_ADDS_MAX // max(products, 1), TILE_ROWS))
        return -(-rows // -(-rows // height)) + 3 & ~3  # bands of about the same height, a multiple of four


def span_of(plan: Plan) -> Span:
    """Return the smallest and the largest finite sum of the result."""
    return Span.union(_run_regions(plan, lambda region: Span.of(_sum(plan, region))))


def run_plan(plan: Plan, out: Samples, output_range: Range) -> float:
    """Fill `out` with the result; return the share of its samples that were clipped."""
    rows = out.reshape(len(out), -1)
    first = plan.algorithms[0]
    is_rounded = plan.source.dtype == out.dtype != np.float32 and not plan.combine
    store = _store_rounded if is_rounded and plan.sample_type(first) == out.dtype else _store_sums

    def compute(region: Region) -> tuple[int, int]:
        return store(plan, region, rows[region.top : region.bottom], output_range)

    counts: list[tuple[int, int]] = _run_regions(plan, compute)
    return sum(clipped for clipped, _ in counts) / max(sum(counted for _, counted in counts), 1)


def _run_regions(plan: Plan, compute: Callable[[Region], Any]) -> list[Any]:
    """Return the results of `compute` for all regions of a plan."""

    def quietly(region: Region) -> Any:
        with np.errstate(all="ignore"):  # NaN and infinity are data; each thread has its own setting
            return compute(region)

    return run_tasks([functools.partial(quietly, region) for region in plan.regions], plan.threads)


def _store_rounded(plan: Plan, region: Region, rows: Samples, output_range: Range) -> tuple[int, int]:
    """Store a region, rounded by its algorithm, in the rows of the result that it lies in.

    Returns how many samples were clipped, and of how many.
    """
    algorithm, bias = plan.kernels[0].algorithm, plan.kernels[0].bias
    count_every = 4 if math.prod(plan.shape) > FULLY_COUNTED_SAMPLES_MAX else 1
    rounding = Rounding(
        output_range.gain,
        bias * output_range.gain + output_range.shift,
        output_range.absolute,
        output_range.top,
        count_every,
    )
    count = (region.right - region.left) * plan.channels
    clipped = _run_algorithm(plan, algorithm, region, rows, region.left * plan.channels, rounding)
    return clipped, -(-len(rows) // count_every) * count


def _store_sums(plan: Plan, region: Region, rows: Samples, output_range: Range) -> tuple[int, int]:
    """Store a region as `_store_rounded` does, of float32 sums that are combined and rounded afterwards."""
    channels = plan.shape[2]
    left, right = region.left * channels, region.right * channels
    if rows.dtype == np.float32 and not plan.combine:
        kernel = plan.kernels[0]
        _sum_kernel(plan, kernel, region, rows, region.left * plan.channels, kernel.bias)
        sums = rows
    else:
        sums = _sum(plan, region)
    return store_band(sums, rows, output_range, left, right - left), len(rows) * (right - left)


def _sum(plan: Plan, region: Region) -> Samples:
    """Return the float32 sums of all kernels in a region, combined, with their biases."""
    size = region.bottom - region.top, (region.right - region.left) * plan.channels
    maps = [plan.memory.array(f"map {index}", size, np.float32) for index in range(len(plan.kernels))]
    for kernel, sums in zip(plan.kernels, maps, strict=True):
        _sum_kernel(plan, kernel, region, sums, 0, 0.0)
    return combine_maps(maps, plan.combine, [kernel.bias for kernel in plan.kernels], plan.bias)


def _sum_kernel(plan: Plan, kernel: PlannedKernel, region: Region, sums: Samples, first: int, bias: float) -> None:
    """Store the float32 sums of a kernel in a region in the columns of `sums` from `first` on."""
    algorithm = kernel.algorithm
    rounding = Rounding(shift=bias)
    _run_algorithm(plan, algorithm, region, sums, first, rounding)
    count = (region.right - region.left) * plan.channels
    is_float = plan.source.dtype == np.float32
    if is_float and not algorithm.exact and largest_bits(sums.view(np.int32), first, count) >= _INFINITY_BITS:
        # Only tap by tap does a NaN or an infinity reach no further than the taps that see it.
        exact = Direct(kernel.weights, replace(algorithm.geometry, phased=True))
        exact.run(_read_rows(plan, exact, region), sums, first, count, rounding)


def _run_algorithm(
    plan: Plan, algorithm: Algorithm, region: Region, out: Samples, first: int, rounding: Rounding
) -> int:
    """Store the sums of a region in the columns of `out` from `first` on, as `Algorithm.run` does."""
    sides = algorithm.sides
    if sides and plan.sample_type(algorithm) == plan.source.dtype and sides.suit(region):
        return sides.run(plan.source, region, out, first, rounding)
    count = (region.right - region.left) * plan.channels
    return algorithm.run(_read_rows(plan, algorithm, region), out, first, count, rounding)


def _read_rows(plan: Plan, algorithm: Algorithm, region: Region) -> RowOffsets:
    """Return the rows that a region needs: those of the picture itself where that is possible, else a padded copy."""
    geometry, dtype = algorithm.geometry, plan.sample_type(algorithm)
    if plan.source.dtype == dtype and geometry.is_inner(region):
        return geometry.window(plan.source, region)
    return geometry.fill(plan.source, region, dtype, plan.memory)


def _cut(region: Region, height: int, width: int) -> list[Region]:
    """Return `region` in parts of at most `height` rows and `width` columns."""
    return [
        Region(top, min(top + height, region.bottom), left, min(left + width, region.right))
        for top in range(region.top, region.bottom, height)
        for left in range(region.left, region.right, width)
    ]


def combine_maps(maps: list[Samples], combine: str, biases: Sequence[float], bias: float) -> Samples:
    """Return float32 `maps`, all (…, C) of one shape, combined into one. Their values are overwritten.

    `combine` is one of COMBINATIONS, or "" for a single map; ``max`` is the largest signed value. The `biases` are
    added to the maps, and `bias` to their combination.
    """
    for values, own in zip(maps, biases, strict=True):
        if own:
            values += np.float32(own)
    if combine == "stack":
        return np.stack(maps, axis=-1).reshape(*maps[0].shape[:-1], -1)
    total, *others = maps
    if combine == "magnitude":
        for values in maps:
            np.multiply(values, values, out=values)
    add = np.maximum if combine == "max" else np.add
    for values in others:
        add(total, values, out=total)
    if combine == "magnitude":
        np.sqrt(total, out=total)
    elif combine == "mean":
        total /= np.float32(len(maps))
    if bias:
        total += np.float32(bias)
    return total
