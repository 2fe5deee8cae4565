"""A stack of layers on a band of rows: which rows of the picture it needs, and the same layers for only those.

What a layer pads above and below a picture, it pads at the band's edges only where these are the picture's. So the
bands of a result, put together, are what the layers give for the whole picture, in the memory that a band takes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from cnnfilter.layers import FixedConvolution, Flatten, GlobalPool, Layers, MaxPool
from cnnfilter.shapes import Layer, Shape
from cnnfilter.windows import NEAR_BORDERS, RowBand

_NUMBERS = 1 << 21
"""Numbers that the maps after a layer have in a band, at most where a row is not longer: 8 MiB."""


class Band(NamedTuple):
    """A band of the result is what `layers` make of rows `start` to `stop` of the picture."""

    start: int
    stop: int
    layers: Layers


def come_in_bands(layers: Layers, shape: Shape) -> bool:
    """Whether each row of what the layers give depends only on some rows of the picture near to it."""
    return all(_sees_near(layer, before) for layer, before in zip(layers, layers.shapes(shape), strict=False))


def _sees_near(layer: Layer, shape: Shape) -> bool:
    if isinstance(layer, (GlobalPool, Flatten)):
        return False
    if not isinstance(layer, (FixedConvolution, MaxPool)):
        return True
    down, _ = layer.axes(*shape[:2])
    if max(down.before, down.after) >= down.reach:  # some windows see no row at all
        return False
    if isinstance(layer, MaxPool):
        return True
    sizes = {kernel.weights.shape for group in layer.found for kernel in group}
    return layer.border.partition(":")[0] in NEAR_BORDERS and len(sizes) == 1


def bands(layers: Layers, shape: Shape) -> Iterator[Band]:
    """Yield the bands of the result for a picture of `shape`, from above to below."""
    shapes = list(layers.shapes(shape))
    height = shapes[-1][0]
    rows = max(1, _NUMBERS * height // max(map(math.prod, shapes)))
    for first in range(0, height, rows):
        yield _band(layers, shapes, first, min(first + rows, height))


def _band(layers: Layers, shapes: list[Shape], first: int, end: int) -> Band:
    start, stop, changed = first, end, []
    for layer, shape in zip(reversed(layers), reversed(shapes[:-1]), strict=True):
        if isinstance(layer, (FixedConvolution, MaxPool)):
            down, across = layer.axes(*shape[:2])
            seen = RowBand.of(down, start, stop)
            start, stop = seen.start, seen.stop
            pad: Any = (seen.before, across.after, seen.after, across.before)
            layer = dataclasses.replace(layer, pad=pad)
        changed.append(layer)
    return Band(start, stop, Layers(reversed(changed)))
