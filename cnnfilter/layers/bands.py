"""A stack of layers on a band of rows: which rows of the picture it needs, and the same layers for only those.

What stands above and below a picture, by the rule of a border, is taken from the rows of the picture that it is made
of; padding without such a rule is there only where the band's edge is the picture's. So the bands of a result, put
together, are what the layers give for the whole picture, in the memory that a band takes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.filters.pooling.pool import PoolAxis
from cnnfilter.filters.windows import Axis, RowBand, border_constant, source_positions
from cnnfilter.layers.fixed import Activation, AvgPool, Batch, FixedConvolution, GlobalPool, MaxPool
from cnnfilter.layers.layer import Layer, Shape
from cnnfilter.layers.stack import Layers

_NUMBERS = 1 << 21
"""Numbers that the maps after a layer have in a band, at most where a row is not longer: 8 MiB."""


class Band(NamedTuple):
    """A band of the result is what `layers` make of rows `start` to `stop` of the picture."""

    start: int
    stop: int
    layers: Layers


@dataclasses.dataclass(frozen=True, eq=False)
class Rows(Layer):
    """Take rows of the maps before, in this order."""

    name: ClassVar[str] = "rows"
    example: ClassVar[str] = "rows"

    numbers: NDArray[np.int64]

    def output_shape(self, shape: Shape) -> Shape:
        return len(self.numbers), *shape[1:]

    def forward(self, batch: Batch) -> Batch:
        """Take rows of (N, H, W, C)."""
        return batch[:, self.numbers]


def count_near(layers: Layers, shape: Shape) -> int:
    """Count the first layers that come in bands: each row of what they give is made of a few rows of the picture.

    It also is the same number for number, however high the band.
    """
    shapes = zip(layers, layers.shapes(shape), strict=False)
    return next((number for number, (layer, before) in enumerate(shapes) if not _sees_near(layer, before)), len(layers))


def _sees_near(layer: Layer, shape: Shape) -> bool:
    if isinstance(layer, GlobalPool):
        return False
    if isinstance(layer, Activation):
        return len(shape) == 3 or layer.function != "softmax"
    if isinstance(layer, FixedConvolution):
        down, _ = layer.axes(*shape[:2])
        padding = max(down.before, down.after)
        # At most so much may be added that what is seen of the picture is near, and that something is.
        most = 0 if layer.border == "wrap" else down.reach - 1 if _is_constant(layer) else padding
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
    if len({kernel.weights.shape for group in layer.found for kernel in group}) > 1:
        return None
    axes = layer.axes(*shape[:2])
    for group in layer.found:
        geometry = Geometry(*axes, channels=shape[2], border=layer.border)
        engines = [choose_engine(kernel.weights, geometry)[0] for kernel in group]
        kinds = {"separable" if isinstance(engine, Separable) else "direct" for engine in engines}
        if len(kinds) > 1 or any(isinstance(engine, Fourier) for engine in engines):
            return None
        ways.append(kinds.pop())
    return tuple(ways)


def _is_constant(layer: FixedConvolution) -> bool:
    return border_constant(layer.border) is not None


def bands(layers: Layers, shape: Shape) -> Iterator[Band]:
    """Yield the bands of the result for a picture of `shape`, from above to below; all layers must come in bands."""
    shapes = list(layers.shapes(shape))
    layers = Layers(_the_same_way(layer, before) for layer, before in zip(layers, shapes, strict=False))
    height = rows_of(shapes)
    rows = max(1, _NUMBERS * height // max(map(math.prod, shapes)))
    for first in range(0, height, rows):
        yield _band(layers, shapes, first, min(first + rows, height))


def rows_of(shapes: list[Shape]) -> int:
    """Return the rows of the last maps, which flat numbers are made of."""
    return next(shape[0] for shape in reversed(shapes) if len(shape) == 3)


def _the_same_way(layer: Layer, shape: Shape) -> Layer:
    if not isinstance(layer, FixedConvolution):
        return layer
    return dataclasses.replace(layer, algorithms=_ways(layer, shape) or ())


def _band(layers: Layers, shapes: list[Shape], first: int, end: int) -> Band:
    start, stop = first, end
    changed: list[Layer] = []
    for layer, shape in zip(reversed(layers), reversed(shapes[:-1]), strict=True):
        if isinstance(layer, FixedConvolution | MaxPool):
            down, across = layer.axes(*shape[:2])
            rows, before, after = _seen(layer, down, start, stop)
            start, stop = int(rows.min()), int(rows.max()) + 1
            pad: Any = (before, across.after, after, across.before)
            changed.append(dataclasses.replace(layer, pad=pad))
            if not np.array_equal(rows, np.arange(start, stop)):
                changed.append(Rows(rows - start))
        else:
            changed.append(layer)
    return Band(start, stop, Layers(reversed(changed)))


def _seen(layer: FixedConvolution | MaxPool, down: Axis, first: int, end: int) -> tuple[NDArray[np.int64], int, int]:
    """Return the rows that the outputs `first` to `end` see, and the padding before and after those."""
    if isinstance(layer, MaxPool) or _is_constant(layer):
        band = RowBand.of(down, first, end)
        return np.arange(band.start, band.stop), band.before, band.after
    return source_positions(down, layer.border)[first * down.stride : (end - 1) * down.stride + down.reach], 0, 0
