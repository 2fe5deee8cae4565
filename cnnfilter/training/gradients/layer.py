"""Layers while they are trained: forward and, beside it, backward.

A batch is cut into shards of whole pictures. `forward` takes a shard's maps (n, H, W, C) or (n, F), `backward` the
gradients of the loss by what `forward` gave, adds those by the layer's own parameters to ``context.gradients``, and
gives those by its input. What a layer saves in between, and the memory for its results, is in its `Context`: there is
one for each shard and layer, so that shards can be computed at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnfilter.filters.windows import Axis
from cnnfilter.layers.layer import Layer, Shape
from cnnfilter.networks.map_convolutions import BIAS_TILE_VALUES, LINEAR, ClipRange
from cnnfilter.runtime.buffers import Scratch

ZERO_BIAS = np.zeros(BIAS_TILE_VALUES, np.float32)
"""For the loops that add a bias and clip, where only clipping is wanted."""

Floats = NDArray[np.float32]
Values = Mapping[str, Floats]


@dataclass
class Context:
    """What one layer saves of one shard.

    Attributes
    ----------
    gradients : by name, those of the layer's own parameters; views that are added to.
    saved : what `forward` leaves for `backward`.
    scratch : memory for what the layer keeps.
    temporary : memory for what is needed only while it computes: of the thread, not of the context.
    training : whether dropout and batch norm do what they do while training.
    draw : gives the random numbers of this layer and shard, at this step.
    needs_no_input_gradient : nobody needs the gradients of the input.
    """

    gradients: Values = field(default_factory=dict)
    saved: dict[str, Any] = field(default_factory=dict)
    scratch: Scratch = field(default_factory=Scratch)
    temporary: Scratch = field(default_factory=Scratch)
    training: bool = True
    draw: Callable[[], np.random.Generator] = np.random.default_rng
    needs_no_input_gradient: bool = False
    parts: dict[str, Context] = field(default_factory=dict)

    def part(self, name: str) -> Context:
        """Return the context of a part of the layer."""
        if name not in self.parts:
            gradients = {
                key.removeprefix(f"{name}."): view for key, view in self.gradients.items() if key.startswith(f"{name}.")
            }
            self.parts[name] = Context(gradients)
        self.parts[name].temporary = self.temporary
        return self.parts[name]


class Pass:
    """A step of the forward and backward passes: one layer, or several that are computed together."""

    @property
    def members(self) -> tuple[TrainableLayer, ...]:
        """The layers that the step computes, in their order."""
        raise NotImplementedError

    def forward(self, inputs: Floats, context: Context) -> Floats:
        raise NotImplementedError

    def backward(self, gradients: Floats, context: Context) -> Floats:
        raise NotImplementedError


class TrainableLayer(Pass):
    """A layer that has no parameters of its own and needs nothing but its own functions."""

    def __init__(self, layer: Layer, shape: Shape) -> None:
        self.layer = layer
        self.shape = shape
        self.output = layer.output_shape(shape)
        self.values: Values = {}

    @property
    def members(self) -> tuple[TrainableLayer, ...]:
        return (self,)

    def initial_values(self, rng: np.random.Generator) -> dict[str, Floats]:
        """Return the parameters to start with, by name."""
        return {}

    def bind(self, values: Values) -> None:
        """Take the parameters to compute with, anew for every step: they are views."""
        self.values = values

    def weights(self) -> dict[str, Floats]:
        """Return what a model file keeps."""
        return {name: values.copy() for name, values in self.values.items()}


class ClippingLayer(TrainableLayer):
    """A layer that can clip its outputs to a range while it writes them, which saves a pass over the maps."""

    @property
    def clips(self) -> bool:
        """Whether clipping costs no pass of its own."""
        return True

    def forward(self, inputs: Floats, context: Context, clip: ClipRange = LINEAR) -> Floats:
        raise NotImplementedError


class FixedLayer(TrainableLayer):
    """A layer before the first learned one: nothing is handed back through it."""

    def forward(self, inputs: Floats, context: Context) -> Floats:
        return np.ascontiguousarray(self.layer.forward(inputs), np.float32)  # type: ignore[attr-defined]

    def backward(self, gradients: Floats, context: Context) -> Floats:
        return gradients


def geometry_of(axes: tuple[Axis, Axis], channels: int) -> NDArray[np.int64]:
    """Return what the loops of training are told of a window."""
    down, across = axes
    sizes = [down.size, across.size, channels, down.outputs, across.outputs, down.taps, across.taps]
    steps = [down.stride, across.stride, down.dilation, across.dilation, down.before, across.before]
    return np.array(sizes + steps, np.int64)


def rows_of(inputs: Floats) -> Floats:
    """Maps (n, H, W, C) as the loops take them, (n·H, W·C)."""
    count, height, width, channels = inputs.shape
    return inputs.reshape(count * height, width * channels)


def add_bias_gradient(gradients: Floats, context: Context) -> None:
    if "bias" in context.gradients:
        context.gradients["bias"][...] += np.ones(len(gradients), np.float32) @ gradients


def draw_initial_values(shapes: Mapping[str, Shape], inputs: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Draw kernels of variance 2 / inputs (He et al. 2015, "Delving Deep into Rectifiers", equation 10); bias is 0."""
    deviation = math.sqrt(2 / inputs)
    return {
        name: rng.standard_normal(size, np.float32) * np.float32(deviation)
        if name == "kernel"
        else np.zeros(size, np.float32)
        for name, size in shapes.items()
    }
