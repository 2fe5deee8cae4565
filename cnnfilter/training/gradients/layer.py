"""The base classes of trainable layers, and helpers that several of them use.

A batch is cut into shards of whole pictures. `forward` takes the maps (n, H, W, C) or vectors (n, F) of a shard.
`backward` takes the gradients of the loss with respect to the outputs of `forward`, adds the gradients of the layer's
parameters to ``context.gradients``, and returns the gradients of the input. A layer stores nothing of a shard in
itself: there is one `Context` for each shard and layer, so that several threads can compute different shards.
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
"""The bias for loops that add a bias and clip, where only clipping is wanted."""

Floats = NDArray[np.float32]
Values = Mapping[str, Floats]


@dataclass
class Context:
    """The state of one layer for one shard.

    Attributes
    ----------
    gradients : the gradients of the layer's parameters, by name; views, to which `backward` adds.
    saved : the values that `backward` needs from `forward`.
    scratch : memory for the results of the layer, which stay valid until the next step.
    temporary : memory that is needed only during one call; it belongs to the thread.
    training : False where dropout and batch norm compute as after training.
    draw : returns the random generator of this layer and shard for the current step.
    needs_no_input_gradient : the gradient of the input is not needed, so that `backward` may return anything.
    parts : the contexts of the layers that this layer consists of, by name.
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
        """Return the context of a part of the layer, whose parameters are named ``name.…``."""
        if name not in self.parts:
            gradients = {
                key.removeprefix(f"{name}."): view for key, view in self.gradients.items() if key.startswith(f"{name}.")
            }
            self.parts[name] = Context(gradients)
        self.parts[name].temporary = self.temporary
        return self.parts[name]


class Pass:
    """One step of the forward and backward passes: a layer, or several layers that are computed together."""

    @property
    def members(self) -> tuple[TrainableLayer, ...]:
        """The layers that the step computes, in their order."""
        raise NotImplementedError

    def forward(self, inputs: Floats, context: Context) -> Floats:
        """Return the outputs of a shard."""
        raise NotImplementedError

    def backward(self, gradients: Floats, context: Context) -> Floats:
        """Return the gradients of the inputs, from those of the outputs, which may be overwritten."""
        raise NotImplementedError


class TrainableLayer(Pass):
    """A layer with its parameters, for inputs of one shape.

    Attributes
    ----------
    shape, output : the shapes of an input and of an output.
    values : the parameters by name: views of the parameters of the whole stack.
    """

    def __init__(self, layer: Layer, shape: Shape) -> None:
        self.layer = layer
        self.shape = shape
        self.output = layer.output_shape(shape)
        self.values: Values = {}

    @property
    def members(self) -> tuple[TrainableLayer, ...]:
        return (self,)

    def initial_values(self, rng: np.random.Generator) -> dict[str, Floats]:
        """Return new initial parameters by name; this class has none."""
        return {}

    def bind(self, values: Values) -> None:
        """Use these parameters; called before every step, because their values have changed."""
        self.values = values

    def weights(self) -> dict[str, Floats]:
        """Return the tensors of the layer in a model file."""
        return {name: values.copy() for name, values in self.values.items()}


class ClippingLayer(TrainableLayer):
    """A layer that can clip its outputs to a range while it writes them, which saves a pass over the maps."""

    @property
    def clips(self) -> bool:
        """Return whether clipping needs no extra pass over the outputs."""
        return True

    def forward(self, inputs: Floats, context: Context, clip: ClipRange = LINEAR) -> Floats:
        """Return the outputs of a shard, clipped to a range."""
        raise NotImplementedError


class FixedLayer(TrainableLayer):
    """A layer before the first layer with parameters: no gradients go back through it."""

    def forward(self, inputs: Floats, context: Context) -> Floats:
        return np.ascontiguousarray(self.layer.forward(inputs), np.float32)  # type: ignore[attr-defined]

    def backward(self, gradients: Floats, context: Context) -> Floats:
        return gradients


def geometry_of(axes: tuple[Axis, Axis], channels: int) -> NDArray[np.int64]:
    """Return the geometry of a window in the order that the loops of training expect."""
    down, across = axes
    sizes = [down.size, across.size, channels, down.outputs, across.outputs, down.taps, across.taps]
    steps = [down.stride, across.stride, down.dilation, across.dilation, down.before, across.before]
    return np.array(sizes + steps, np.int64)


def rows_of(inputs: Floats) -> Floats:
    """Return maps (n, H, W, C) as rows (n·H, W·C), as the loops take them."""
    count, height, width, channels = inputs.shape
    return inputs.reshape(count * height, width * channels)


def add_bias_gradient(gradients: Floats, context: Context) -> None:
    """Add the gradient of the bias, the sum of the gradients (P, C) over the positions."""
    if "bias" in context.gradients:
        context.gradients["bias"][...] += np.ones(len(gradients), np.float32) @ gradients


def draw_initial_values(shapes: Mapping[str, Shape], inputs: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Draw kernels from a normal distribution of variance 2 / inputs; a bias is 0.

    References: He et al. 2015, "Delving Deep into Rectifiers", equation 10.
    """
    deviation = math.sqrt(2 / inputs)
    return {
        name: rng.standard_normal(size, np.float32) * np.float32(deviation)
        if name == "kernel"
        else np.zeros(size, np.float32)
        for name, size in shapes.items()
    }
