"""What a layer says of itself before it has weights: shapes, counts and receptive field.

A shape is ``(H, W, C)``, maps of one picture, or ``(F,)``, the flat numbers after ``flatten`` and ``dense``.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from cnnfilter.errors import ShapeError
from cnnfilter.filters.windows import Axis
from cnnfilter.layers.grammar import LayerText

Shape = tuple[int, ...]


class ReceptiveField(NamedTuple):
    """The part of the input that a number of a layer sees, and the step to its neighbour's, in samples."""

    size: tuple[int, int] = (1, 1)
    step: tuple[int, int] = (1, 1)


class Layer(LayerText):
    """One layer: its text (see `LayerText`), and what it makes of a shape.

    `learned` says whether it has weights that the text alone does not give.
    """

    learned: ClassVar[bool] = False

    def output_shape(self, shape: Shape) -> Shape:
        """Give the shape that this layer makes of `shape`; ShapeError if it cannot."""
        return shape

    def formula(self, shape: Shape) -> str:
        """Say how the size comes about, with its numbers filled in; empty where it stays as it is."""
        return ""

    def weights(self, shape: Shape) -> dict[str, Shape]:
        """Name each learned tensor and its shape."""
        return {}

    def parameters(self, shape: Shape) -> int:
        """Count the learned numbers."""
        return sum(math.prod(tensor) for tensor in self.weights(shape).values())

    def multiply_adds(self, shape: Shape) -> int:
        """Count the multiplications that are added up for one picture."""
        return 0

    def receptive_field(self, field: ReceptiveField | None, shape: Shape) -> ReceptiveField | None:
        """Grow the receptive field of the layers before; None is the whole picture."""
        return field


class WindowLayer(Layer):
    """A layer that looks at each place through a window."""

    def axes(self, height: int, width: int) -> tuple[Axis, Axis]:
        """Give the window's way down and across; ShapeError if it does not fit."""
        raise NotImplementedError

    def maps(self, channels: int) -> int:
        """Count the maps that come out where `channels` go in."""
        return channels

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = three_axes(shape)
        down, across = self.axes(height, width)
        return down.outputs, across.outputs, self.maps(channels)

    def formula(self, shape: Shape) -> str:
        height, width = map(self.axis_formula, self.axes(*three_axes(shape)[:2]))
        return height if height == width else f"H: {height}\nW: {width}"

    def axis_formula(self, axis: Axis) -> str:
        """Fill the numbers of one axis in: floor((n + pad - dilation * (k - 1) - 1) / stride) + 1."""
        room = f"{axis.size} + {axis.before + axis.after} - {axis.dilation}*({axis.taps}-1) - 1"
        return f"floor(({room}) / {axis.stride}) + 1 = {axis.outputs}"

    def receptive_field(self, field: ReceptiveField | None, shape: Shape) -> ReceptiveField | None:
        if field is None:
            return None
        down, across = self.axes(*three_axes(shape)[:2])
        (height, width), (step_down, step_across) = field
        return ReceptiveField(
            (height + (down.reach - 1) * step_down, width + (across.reach - 1) * step_across),
            (step_down * down.stride, step_across * across.stride),
        )


def three_axes(shape: Shape) -> tuple[int, int, int]:
    """(H, W, C), or ShapeError for a flat shape."""
    if len(shape) != 3:
        raise ShapeError(
            f"needs maps (HxWxC) and gets {show_shape(shape)} flat numbers; it must stand before 'flatten' and 'dense'"
        )
    height, width, channels = shape
    return height, width, channels


def show_shape(shape: Shape) -> str:
    """Write a shape as ``28x28x1``, or as ``5408`` if it is flat."""
    return "x".join(map(str, shape))
