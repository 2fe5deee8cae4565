"""The base classes of layers: text, output shape, parameters, multiply-adds and receptive field.

A shape is ``(H, W, C)``, the maps of one picture, or ``(F,)``, the flat numbers after ``flatten`` and ``dense``.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from cnnfilter.errors import ShapeError, count_text
from cnnfilter.filters.windows import Axis
from cnnfilter.layers.grammar import LayerText

Shape = tuple[int, ...]


class ReceptiveField(NamedTuple):
    """Height and width of the part of the input that one value of a layer sees, and the step from value to value.

    Both are in samples of the input, (down, across).
    """

    size: tuple[int, int] = (1, 1)
    step: tuple[int, int] = (1, 1)


class Layer(LayerText):
    """One layer: its text (see `LayerText`), its output shape and its costs.

    `learned` is true for a layer with weights that its text does not give.
    """

    learned: ClassVar[bool] = False

    def output_shape(self, shape: Shape) -> Shape:
        """Return the output shape for an input of `shape`; ShapeError if the layer cannot take that."""
        return shape

    def formula(self, shape: Shape) -> str:
        """Return the formula of the output size with its numbers filled in; empty if the size does not change."""
        return ""

    def keeps_channels(self, shape: Shape) -> bool:
        """Return whether each channel of an input of `shape` has one map of its own in the output."""
        return True

    def weights(self, shape: Shape) -> dict[str, Shape]:
        """Return the name and shape of each learned tensor."""
        return {}

    def parameters(self, shape: Shape) -> int:
        """Count the learned parameters."""
        return sum(math.prod(tensor) for tensor in self.weights(shape).values())

    def multiply_adds(self, shape: Shape) -> int:
        """Count the multiply-adds for one picture."""
        return 0

    def receptive_field(self, field: ReceptiveField | None, shape: Shape) -> ReceptiveField | None:
        """Return the receptive field after this layer, from that of the layers before; None is the whole picture."""
        return field


class WindowLayer(Layer):
    """A layer that slides a window over the maps."""

    def axes(self, height: int, width: int) -> tuple[Axis, Axis]:
        """Return the vertical and the horizontal axis of the window; ShapeError if it does not fit."""
        raise NotImplementedError

    def maps(self, channels: int) -> int:
        """Count the output maps for `channels` input maps."""
        return channels

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = three_axes(shape)
        down, across = self.axes(height, width)
        return down.outputs, across.outputs, self.maps(channels)

    def formula(self, shape: Shape) -> str:
        height, width = map(self.axis_formula, self.axes(*three_axes(shape)[:2]))
        return height if height == width else f"H: {height}\nW: {width}"

    def axis_formula(self, axis: Axis) -> str:
        """Return floor((n + pad - dilation * (k - 1) - 1) / stride) + 1 with the numbers of one axis filled in."""
        last_start = f"{axis.size} + {axis.before + axis.after} - {axis.dilation}*({axis.taps}-1) - 1"
        return f"floor(({last_start}) / {axis.stride}) + 1 = {axis.outputs}"

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
    """Return (H, W, C), or raise ShapeError for a flat shape."""
    if len(shape) != 3:
        raise ShapeError(
            f"needs maps (HxWxC) and gets {count_text(math.prod(shape), 'flat number')}; "
            "it must stand before 'flatten' and 'dense'"
        )
    height, width, channels = shape
    return height, width, channels


def show_shape(shape: Shape) -> str:
    """Return a shape as ``28x28x1``, or as ``5408`` if it is flat."""
    return "x".join(map(str, shape))
