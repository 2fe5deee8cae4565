"""The costs of a stack of layers, layer by layer, beside those of fully connected layers with the same outputs.

Printing them is left to `cnnfilter.cli.reports.layer_table`.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from cnnfilter.layers.fixed import FixedConvolution
from cnnfilter.layers.layer import Layer, ReceptiveField, Shape
from cnnfilter.layers.learned import Convolution, Dense, Depthwise, InvertedBottleneck
from cnnfilter.layers.stack import Layers

BYTES_PER_VALUE = 4
"""Size of a float32, the type of maps and weights."""


class LayerCost(NamedTuple):
    """One layer: its text, its output shape, the formula of its output size, and its costs for one picture.

    `memory` is that of the output maps, in bytes. `receptive_field` is height and width in samples of the input, None
    for the whole input. `fully_connected` counts the parameters of a fully connected layer with the same input and
    output; None for layers without multiplications.
    """

    layer: str
    output: Shape
    formula: str
    parameters: int
    multiply_adds: int
    memory: int
    receptive_field: tuple[int, int] | None
    fully_connected: int | None


class Summary(NamedTuple):
    """The costs of all layers, and their totals.

    `memory` is that of the input and all maps; `peak_memory` is the largest sum of a layer's input and output. Both
    are in bytes.
    """

    input: Shape
    rows: tuple[LayerCost, ...]
    parameters: int
    multiply_adds: int
    memory: int
    peak_memory: int
    fully_connected: int


def summarize(layers: Layers, shape: Shape) -> Summary:
    """Return the output shape and the costs of each layer for an input of `shape` (H, W, C).

    Raises
    ------
    ShapeError
        If a layer cannot take the shape that the layer before gives.

    Examples
    --------
    >>> from cnnfilter.layers.stack import parse_layers
    >>> summary = summarize(parse_layers("conv 32x3x3 | relu | maxpool 2 | flatten | dense 10"), (28, 28, 1))
    >>> [row.parameters for row in summary.rows], summary.rows[2].output, summary.rows[2].receptive_field
    ([320, 0, 0, 0, 62730], (14, 14, 32), (4, 4))
    """
    shapes = list(layers.shapes(shape))
    rows = []
    field: ReceptiveField | None = ReceptiveField()
    for layer, before, after in zip(layers, shapes[:-1], shapes[1:], strict=True):
        field = layer.receptive_field(field, before)
        rows.append(_row(layer, before, after, field))
    sizes = [math.prod(stage) * BYTES_PER_VALUE for stage in shapes]
    return Summary(
        input=shape,
        rows=tuple(rows),
        parameters=sum(row.parameters for row in rows),
        multiply_adds=sum(row.multiply_adds for row in rows),
        memory=sum(sizes),
        peak_memory=max(map(sum, itertools.pairwise(sizes))),
        fully_connected=sum(row.fully_connected or 0 for row in rows),
    )


def _row(layer: Layer, before: Shape, after: Shape, field: ReceptiveField | None) -> LayerCost:
    multiplies = isinstance(layer, (Convolution, Depthwise, InvertedBottleneck, FixedConvolution, Dense))
    return LayerCost(
        layer=str(layer),
        output=after,
        formula=layer.formula(before) + _residual(layer, before),
        parameters=layer.parameters(before),
        multiply_adds=layer.multiply_adds(before),
        memory=math.prod(after) * BYTES_PER_VALUE,
        receptive_field=field and field.size,
        fully_connected=(math.prod(before) + 1) * math.prod(after) if multiplies else None,
    )


def _residual(layer: Layer, before: Shape) -> str:
    return "; plus its input" if isinstance(layer, InvertedBottleneck) and layer.residual(before) else ""
