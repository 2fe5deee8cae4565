"""A stack of layers on a band of rows: which rows of the picture it needs, and the same layers for only those.

What stands above and below a picture, by the rule of a border, is taken from the rows of the picture that it is made
of; padding without such a rule is there only where the band's edge is the picture's. So the bands of a result, put
together, are what the layers give for the whole picture, in the memory that a band takes.
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
"""Numbers that the maps after a layer have in a band, at most where a row is not longer: 8 MiB."""


@dataclasses.dataclass(frozen=True, eq=False)
class SelectRows(Layer):
    """Select rows of the maps before, in this order."""

    name: ClassVar[str] = "select-rows"
    example: ClassVar[str] = "select-rows"

    rows: NDArray[np.int64]

    def output_shape(self, shape: Shape) -> Shape:
        return len(self.rows), *shape[1:]

    def forward(self, batch: Batch) -> Batch:
        """Select rows of (N, H, W, C)."""
        return batch[:, self.rows]


def count_banded(layers: Layers, shape: Shape) -> int:
    """Count the first layers that come in bands: each row of what they give is made of a few rows of the picture.

    It also is the same number for number, however high the band.
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
        # At most so much may be added that what is seen of the picture is near, and that something is.
        most = 0 if layer.border == "wrap" else down.reach - 1 if _has_constant_border(layer) else padding
        return padding <= most and _ways(layer, shape) is not None
    if isinstance(layer, AvgPool):
        down, _ = layer.axes(*shape[:2])
        assert isinstance(down, PoolAxis)
        return down.are_whole(include_pad=True)  # else it is the last row that says which way all of them go
    return True


def _ways(layer: FixedConvolution, shape: Shape) -> tuple[str, ...] | None:
    """Return the algorithm of each kernel, which the height of a band must not change.

    None if they differ in size, or where there is one whose results depend on where a band begins.
    """
    from cnnfilter.filters.convolution.algorithms import Fourier, Separable
    from cnnfilter.filters.convolution.choice import choose_engine
    from cnnfilter.filters.convolution.geometry import Geometry

    ways = []
    if len({kernel.weights.shape for group in layer.kernel_sets for kernel in group}) > 1:
        return None
    axes = layer.axes(*shape[:2])
    for group in layer.kernel_sets:
        geometry = Geometry(*axes, channels=shape[2], border=layer.border)
        engines = [choose_engine(kernel.weights, geometry)[0] for kernel in group]
        kinds = {"separable" if isinstance(engine, Separable) else "direct" for engine in engines}
        if len(kinds) > 1 or any(isinstance(engine, Fourier) for engine in engines):
            return None
        ways.append(kinds.pop())
    return tuple(ways)


def _has_constant_border(layer: FixedConvolution) -> bool:
    return border_constant(layer.border) is not None


def split_bands(layers: Layers, shape: Shape) -> Iterator[tuple[slice, Layers]]:
    """Yield the bands of the result for a picture of `shape`, from above to below; all layers must come in bands.

    A band of the result is what the layers that come with it make of a slice of the picture's rows.
    """
    shapes = list(layers.shapes(shape))
    layers = Layers(_with_fixed_algorithms(layer, before) for layer, before in zip(layers, shapes, strict=False))
    height = output_height(shapes)
    rows = max(1, _BAND_VALUES_MAX * height // max(map(math.prod, shapes)))
    for first in range(0, height, rows):
        yield _one_band(layers, shapes, first, min(first + rows, height))


def output_height(shapes: list[Shape]) -> int:
    """Return the rows of the last maps, which flat numbers are made of."""
    return next(shape[0] for shape in reversed(shapes) if len(shape) == 3)


def _with_fixed_algorithms(layer: Layer, shape: Shape) -> Layer:
    if not isinstance(layer, FixedConvolution):
        return layer
    return dataclasses.replace(layer, algorithms=_ways(layer, shape) or ())


def _one_band(layers: Layers, shapes: list[Shape], first: int, end: int) -> tuple[slice, Layers]:
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
    """Return the band of rows that the outputs `first` to `end` see, and what puts those rows in the border's order.

    Rows beyond a border that is made of rows of the picture are among the band's, so that the band has no padding.
    """
    if isinstance(layer, MaxPool) or _has_constant_border(layer):
        return RowBand.of(down, first, end), None
    rows = source_positions(down, layer.border)[first * down.stride : (end - 1) * down.stride + down.reach]
    band = RowBand(first, end, start=int(rows.min()), stop=int(rows.max()) + 1, before=0, after=0)
    is_in_order = np.array_equal(rows, np.arange(band.start, band.stop))
    return band, None if is_in_order else SelectRows(rows - band.start)
