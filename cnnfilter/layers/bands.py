"""A stack of layers on a band of rows: the rows of the picture that a band sees, and the layers for only those rows.

The bands of a result, joined from top to bottom, equal the result for the whole picture, byte for byte, and only one
band is in memory at a time. Where a border repeats rows of the picture (reflect, symmetric, wrap, replicate), a band
takes those rows from the picture. A constant border is added only where the band ends at the edge of the picture.
Joining is left to `cnnfilter.layers.images`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cnnfilter.filters.pooling.pool import PoolAxis
from cnnfilter.filters.windows import Axis, RowBand, border_constant, source_positions
from cnnfilter.layers.fixed import Activation, AvgPool, Batch, FixedConvolution, GlobalPool, MaxPool
from cnnfilter.layers.layer import Layer, Shape
from cnnfilter.layers.stack import Layers

_BAND_VALUES_MAX = 1 << 21
"""Most values that the maps after a layer have in one band, or one row if that has more: 8 MiB of float32."""


@dataclasses.dataclass(frozen=True, eq=False)
class SelectRows(Layer):
    """Rows of the maps before, in the order of `rows`; it stands only in the layers of a band, never in text."""

    name: ClassVar[str] = "select-rows"
    example: ClassVar[str] = "select-rows"

    rows: NDArray[np.int64]

    def output_shape(self, shape: Shape) -> Shape:
        return len(self.rows), *shape[1:]

    def forward(self, batch: Batch) -> Batch:
        """Select the rows of (N, H, W, C)."""
        return batch[:, self.rows]


def count_banded(layers: Layers, shape: Shape) -> int:
    """Count the layers at the start that can run in bands.

    Each row of their result depends on nearby rows of the picture only, and no value depends on the height of a band.
    """
    shapes = zip(layers, layers.shapes(shape), strict=False)
    return next(
        (number for number, (layer, before) in enumerate(shapes) if not _works_in_bands(layer, before)), len(layers)
    )


def _works_in_bands(layer: Layer, shape: Shape) -> bool:
    if isinstance(layer, GlobalPool):
        return False
    if isinstance(layer, Activation):
        return len(shape) == 3 or layer.function != "softmax"
    if isinstance(layer, FixedConvolution):
        down, _ = layer.axes(*shape[:2])
        padding = max(down.before, down.after)
        # With wrap, a window at one edge sees rows at the other. With a constant border and more padding than this,
        # some windows see no row of the picture, so that their band would be empty.
        padding_max = 0 if layer.border == "wrap" else down.reach - 1 if _has_constant_border(layer) else padding
        return padding <= padding_max and _algorithm_names(layer, shape) is not None
    if isinstance(layer, AvgPool):
        down, _ = layer.axes(*shape[:2])
        assert isinstance(down, PoolAxis)
        return down.are_whole(include_pad=True)  # else the last row of the picture decides how all rows are computed
    return True


def _algorithm_names(layer: FixedConvolution, shape: Shape) -> tuple[str, ...] | None:
    """Return the algorithm of each kernel for the whole picture, with which each band is computed too.

    None if the kernels differ in size, or if the result of an algorithm depends on the row at which a band begins.
    """
    from cnnfilter.filters.convolution.convolve import row_wise_algorithm

    names = []
    if len({kernel.weights.shape for group in layer.kernel_sets for kernel in group}) > 1:
        return None
    axes = layer.axes(*shape[:2])
    for group in layer.kernel_sets:
        found = {row_wise_algorithm(kernel.weights, axes, shape[2], layer.border) for kernel in group}
        name = found.pop()
        if found or name is None:
            return None
        names.append(name)
    return tuple(names)


def _has_constant_border(layer: FixedConvolution) -> bool:
    return border_constant(layer.border) is not None


def split_bands(layers: Layers, shape: Shape) -> Iterator[tuple[slice, Layers]]:
    """Yield for each band of the result, from top to bottom, the rows of the picture that it sees and its layers.

    Parameters
    ----------
    layers : layers that all can run in bands (see `count_banded`)
    shape : (H, W, C) of the picture

    Returns
    -------
    iterator of (rows, layers)
        ``run_layers(picture[rows], layers)`` is the band of the result.
    """
    shapes = list(layers.shapes(shape))
    layers = Layers(_with_fixed_algorithms(layer, before) for layer, before in zip(layers, shapes, strict=False))
    height = output_height(shapes)
    rows = max(1, _BAND_VALUES_MAX * height // max(map(math.prod, shapes)))
    for first in range(0, height, rows):
        yield _one_band(layers, shapes, first, min(first + rows, height))


def output_height(shapes: list[Shape]) -> int:
    """Return the height of the last maps, those before ``flatten`` if the result is flat."""
    return next(shape[0] for shape in reversed(shapes) if len(shape) == 3)


def _with_fixed_algorithms(layer: Layer, shape: Shape) -> Layer:
    if not isinstance(layer, FixedConvolution):
        return layer
    return dataclasses.replace(layer, algorithms=_algorithm_names(layer, shape) or ())


def _one_band(layers: Layers, shapes: list[Shape], first: int, end: int) -> tuple[slice, Layers]:
    """Return the rows of the picture that the output rows `first` to `end` see, and the layers for those rows."""
    start, stop = first, end
    reversed_layers: list[Layer] = []
    for layer, shape in zip(reversed(layers), reversed(shapes[:-1]), strict=True):
        if not isinstance(layer, FixedConvolution | MaxPool):
            reversed_layers.append(layer)
            continue
        down, across = layer.axes(*shape[:2])
        band, select = _seen_rows(layer, down, start, stop)
        pad: Any = (band.before, across.after, band.after, across.before)
        reversed_layers.append(dataclasses.replace(layer, pad=pad))
        if select is not None:
            reversed_layers.append(select)
        start, stop = band.start, band.stop
    return slice(start, stop), Layers(reversed(reversed_layers))


def _seen_rows(
    layer: FixedConvolution | MaxPool, down: Axis, first: int, end: int
) -> tuple[RowBand, SelectRows | None]:
    """Return the rows that the output rows `first` to `end` see, and their order if the border changes it.

    A border that repeats rows of the picture becomes a selection of rows; the band then needs no padding.
    """
    if isinstance(layer, MaxPool) or _has_constant_border(layer):
        return RowBand.of(down, first, end), None
    rows = source_positions(down, layer.border)[first * down.stride : (end - 1) * down.stride + down.reach]
    band = RowBand(start=int(rows.min()), stop=int(rows.max()) + 1, before=0, after=0)
    is_in_order = np.array_equal(rows, np.arange(band.start, band.stop))
    return band, None if is_in_order else SelectRows(rows - band.start)
