"""Convolutions of the maps of one picture with learned kernels: across all maps, depthwise, and inverted bottlenecks.

Maps are ``(H, W, C)`` float32, kernels ``(kH, kW, I, O)``. Sums across maps are matrix products by numpy; the loops
between the products are in `cnnfilter.networks.layer_loops`. The work is cut into pieces by its shape alone, so that
the result is the same for any number of threads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from cnnfilter.filters.windows import Axis
from cnnfilter.networks import layer_loops as loops
from cnnfilter.runtime.buffers import Maps, Scratch, aligned
from cnnfilter.runtime.parallel import Piece, Workers, split_rows

_PIECE_VALUES = 1 << 18
"""Values that a piece of work holds between two matrix products: 1 MiB of float32, half of a usual second-level cache.

A quarter and four times as many take the same time (EfficientNet-Lite0, one picture, two threads, to within 3 %)."""
BIAS_TILE_VALUES = 1024
"""Values of a bias that is repeated, so that one pass of the inner loop serves many short rows.

An eighth and eight times as many take the same time (measured as above)."""
_BLOCKED_POSITIONS_MAX = 256
"""Positions of a map up to which the pieces of work are blocks of maps instead of bands of rows.

EfficientNet-Lite0, one picture, two threads: 10.7 ms with 256, 12.0 ms without blocks; 64 and 1024 as 256."""
_BLOCK_COUNT = 2
"""Blocks that small maps are cut into; it is fixed, so that the sums do not depend on the number of threads."""
_NO_FILTER_BEFORE = np.zeros(0, np.float32)
"""An empty bias, which tells the depthwise loop that there is no filter before it."""


class ClipRange(NamedTuple):
    """The range that an activation clips its inputs to; without limits it changes nothing."""

    low: float = -math.inf
    high: float = math.inf


LINEAR, RELU, RELU6 = ClipRange(), ClipRange(0.0), ClipRange(0.0, 6.0)
CLIPPING = {"relu": RELU, "relu6": RELU6}
"""The activations that only clip, by name."""


@dataclass(frozen=True)
class Filter:
    """The kernel (kH, kW, I, O) and bias (O,) of a layer, and the range that the activation after it clips to."""

    kernel: Maps
    bias: Maps
    clip: ClipRange = LINEAR

    @functools.cached_property
    def matrix(self) -> Maps:
        """The kernel as a matrix (kH·kW·I, O)."""
        return self.kernel.reshape(-1, self.kernel.shape[-1])

    @functools.cached_property
    def taps(self) -> Maps:
        """The depthwise kernel as (kH·kW, C)."""
        taps = aligned(self.kernel.size).reshape(-1, self.bias.size)
        taps[...] = self.kernel.reshape(taps.shape)
        return taps

    @functools.cached_property
    def tile(self) -> Maps:
        """The bias, repeated to about `BIAS_TILE_VALUES` values."""
        return np.tile(self.bias, max(1, BIAS_TILE_VALUES // self.bias.size))

    def finish(self, values: Maps, more: Maps | None = None) -> None:
        """Add the bias to `values` (P, O) and clip them; then add `more` (P, O) if it is given."""
        if more is None:
            loops.shift(values.reshape(-1), self.tile, *self.clip)
        else:
            loops.shift_and_add(values.reshape(-1), self.tile, *self.clip, more.reshape(-1))


@dataclass(frozen=True)
class Bottleneck:
    """The three filters of an inverted bottleneck: to more maps, depthwise, and to fewer maps again.

    `axes` are the axes of the depthwise filter. With `residual` the input is added to the output.
    """

    expand: Filter | None
    depthwise: Filter
    project: Filter
    axes: tuple[Axis, Axis]
    residual: bool = False

    @functools.cached_property
    def depthwise_call(self) -> _DepthwiseCall:
        """The depthwise convolution, which also adds the bias of `expand` to its input and clips it."""
        return _DepthwiseCall(self.depthwise, self.axes, self.expand)

    @functools.cached_property
    def bands(self) -> list[_OutputBand]:
        """The bands of rows of the output, each of which is a piece of work."""
        down, across = self.axes
        values_per_row = down.stride * across.size * self.depthwise.bias.size
        return [_OutputBand.of(down, first, end) for first, end in _split(down.outputs, values_per_row)]

    @functools.cached_property
    def blocks(self) -> list[Bottleneck]:
        """Bottlenecks whose outputs add up to those of this one, each with some of the depthwise maps.

        The list is empty if the maps are so large that bands of rows are faster.
        """
        down, across = self.axes
        if self.expand is None or down.outputs * across.outputs > _BLOCKED_POSITIONS_MAX:
            return []
        return [self._block(first, end) for first, end in split_rows(self.depthwise.bias.size, _BLOCK_COUNT)]

    def _block(self, first: int, end: int) -> Bottleneck:
        def part(filter: Filter, kernel: Maps) -> Filter:
            return replace(filter, kernel=np.ascontiguousarray(kernel), bias=filter.bias[first:end])

        assert self.expand is not None
        return Bottleneck(
            part(self.expand, self.expand.kernel[..., first:end]),
            part(self.depthwise, self.depthwise.kernel[:, :, first:end]),
            replace(self.project, kernel=self.project.kernel[:, :, first:end]),
            self.axes,
        )


def convolve_across(source: Maps, filter: Filter, axes: tuple[Axis, Axis], out: Maps, workers: Workers) -> None:
    """Convolve maps (H, W, I) with kernels across all maps; write the result to `out` (H', W', O)."""
    if _is_pointwise(axes):
        _multiply(source.reshape(-1, source.shape[-1]), filter, out.reshape(-1, out.shape[-1]), workers)
        return
    kernel, width = filter.matrix, out.shape[1]
    down, across = axes
    numbers = across.taps * source.shape[2]
    gather = loops.gather(numbers if numbers <= loops.UNROLLED_VALUES_MAX and across.dilation == 1 else 0)

    def band(scratch: Scratch, first: int, end: int) -> None:
        rows = _OutputBand.of(down, first, end)
        values = source[rows.start : rows.stop].reshape(-1, across.size * source.shape[2])
        windows = scratch.array("windows", (end - first) * width, len(kernel))
        gather(values, windows, rows.top, across.before, width, down.taps, across.taps, *_steps(axes))
        results = out[first:end].reshape(len(windows), -1)
        np.matmul(windows, kernel, out=results)
        filter.finish(results)

    workers.run(_pieces(band, out.shape[0], width * len(kernel)))


def _is_pointwise(axes: tuple[Axis, Axis]) -> bool:
    return all(axis.taps == axis.stride == 1 and not axis.before and not axis.after for axis in axes)


def _multiply(source: Maps, filter: Filter, out: Maps, workers: Workers) -> None:
    """Write the product of (P, I) and the matrix (I, O), with bias and activation, to `out` (P, O)."""

    def band(scratch: Scratch, first: int, end: int) -> None:
        np.matmul(source[first:end], filter.matrix, out=out[first:end])
        filter.finish(out[first:end])

    def block(scratch: Scratch, first: int, end: int) -> None:
        np.matmul(source, filter.matrix[:, first:end], out=out[:, first:end])

    if len(source) > _BLOCKED_POSITIONS_MAX:
        workers.run(_pieces(band, len(source), out.shape[1]))
    else:
        workers.run([partial(block, first=first, end=end) for first, end in split_rows(out.shape[1], _BLOCK_COUNT)])
        filter.finish(out)


def _split(rows: int, values_per_row: int) -> list[tuple[int, int]]:
    """Cut rows into bands of about `_PIECE_VALUES` values, and into at least two, so that two threads have work."""
    return split_rows(rows, max(2, -(-rows * values_per_row // _PIECE_VALUES)))


def _pieces(band: Callable[..., None], rows: int, values_per_row: int) -> list[Piece]:
    return [partial(band, first=first, end=end) for first, end in _split(rows, values_per_row)]


def convolve_depthwise(source: Maps, filter: Filter, axes: tuple[Axis, Axis], out: Maps, workers: Workers) -> None:
    """Convolve each of the maps (H, W, C) with a kernel of its own; write the result to `out` (H', W', C)."""
    depthwise = _DepthwiseCall(filter, axes)

    def band(scratch: Scratch, first: int, end: int) -> None:
        rows = _OutputBand.of(axes[0], first, end)
        depthwise.run(source[rows.start : rows.stop], rows.top, out[first:end].reshape(-1, out.shape[2]), scratch)

    workers.run(_pieces(band, out.shape[0], axes[0].stride * source.shape[1] * source.shape[2]))


class _OutputBand(NamedTuple):
    """The rows `first`…`end` of the output, the rows `start`…`stop` of the source that they need, and `top` zero rows
    before those."""

    first: int
    end: int
    start: int
    stop: int
    top: int

    @classmethod
    def of(cls, axis: Axis, first: int, end: int) -> _OutputBand:
        begin = first * axis.stride - axis.before
        height = (end - 1 - first) * axis.stride + axis.reach
        start = min(max(begin, 0), axis.size)
        return cls(first, end, start, max(start, min(begin + height, axis.size)), start - begin)


class _DepthwiseCall:
    """A depthwise convolution: its loop with the arguments that are the same in every call.

    With a filter `before`, the loop also adds the bias of that filter to the input and clips it.
    """

    def __init__(self, filter: Filter, axes: tuple[Axis, Axis], before: Filter | None = None) -> None:
        across = axes[1]
        self._loop = _depthwise_loop(*axes)
        self._row = across.size * filter.bias.size
        self._before = (_NO_FILTER_BEFORE, *LINEAR) if before is None else (before.tile, *before.clip)
        self._left = across.before
        self._filter = (filter.taps, filter.bias, *filter.clip)
        self._width_and_steps = (across.outputs, *_steps(axes))

    def run(self, values: Maps, top: int, out: Maps, scratch: Scratch) -> None:
        """Convolve each map of `values`, before which stand `top` rows of zeros; write the result to `out` (P', C).

        With a filter before, `values` get its bias and are clipped in place.
        """
        zeros = scratch.zeros(self._row)
        rows = values.reshape(-1, self._row)
        self._loop(rows, *self._before, zeros, top, self._left, *self._filter, out, *self._width_and_steps)


def _depthwise_loop(down: Axis, across: Axis) -> Callable[..., None]:
    if down.taps * across.taps > loops.UNROLLED_TAPS_MAX:
        return partial(loops.large_depthwise, across.taps)
    shared = across.dilation == 1 and across.stride < across.taps and across.outputs > 1
    return loops.depthwise(down.taps, across.taps, across.stride if shared else 0)


def _steps(axes: tuple[Axis, Axis]) -> tuple[int, int, int, int]:
    down, across = axes
    return down.stride, across.stride, down.dilation, across.dilation


def inverted_bottleneck(source: Maps, bottleneck: Bottleneck, out: Maps, workers: Workers) -> None:
    """Send maps (H, W, I) through an inverted bottleneck; write the result to `out` (H', W', O).

    A piece goes through all three filters while it is in the cache. It is a band of rows; or, if the maps are small, a
    block of the depthwise maps, and the results of the blocks are added up at the end.
    """
    positions = out.reshape(-1, out.shape[2])
    if bottleneck.blocks:
        _run_blocks(source, bottleneck, positions, workers)
        return
    width, depthwise = out.shape[1], bottleneck.depthwise_call

    def band(scratch: Scratch, rows: _OutputBand) -> None:
        results = positions[rows.first * width : rows.end * width]
        _run_piece(source[rows.start : rows.stop], bottleneck, depthwise, rows.top, results, scratch)
        bottleneck.project.finish(results, source[rows.first : rows.end] if bottleneck.residual else None)

    workers.run([partial(band, rows=rows) for rows in bottleneck.bands])


def _run_blocks(source: Maps, bottleneck: Bottleneck, positions: Maps, workers: Workers) -> None:
    top = bottleneck.axes[0].before

    def block(scratch: Scratch, part: Bottleneck, depthwise: _DepthwiseCall, share: Maps) -> None:
        _run_piece(source, part, depthwise, top, share, scratch)

    blocks = bottleneck.blocks
    shares = [positions, *(workers.scratch.array(f"share {n}", *positions.shape) for n in range(1, len(blocks)))]
    pairs = zip(blocks, shares, strict=True)
    workers.run([partial(block, part=part, depthwise=part.depthwise_call, share=share) for part, share in pairs])
    for share in shares[1:]:
        loops.add(positions.reshape(-1), share.reshape(-1))
    bottleneck.project.finish(positions, source if bottleneck.residual else None)


def _run_piece(
    source: Maps, bottleneck: Bottleneck, depthwise: _DepthwiseCall, top: int, out: Maps, scratch: Scratch
) -> None:
    values = source.reshape(-1, source.shape[2])
    channels = bottleneck.depthwise.bias.size
    if bottleneck.expand is not None:
        wide = scratch.array("wide", len(values), channels)
        values = np.matmul(values, bottleneck.expand.matrix, out=wide)
    narrow = scratch.array("narrow", len(out), channels)
    depthwise.run(values, top, narrow, scratch)
    np.matmul(narrow, bottleneck.project.matrix, out=out)
