"""All trainable layers but convolutions, and `make_trainable`, which makes the trainable layer of any layer.

Batch norm needs sums over the whole batch, not only over a shard: see `TrainableBatchNorm`.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ModelError
from cnnfilter.filters.pooling.pool import PoolAxis
from cnnfilter.layers.activations import activate, derivative
from cnnfilter.layers.fixed import Activation, AvgPool, Flatten, GlobalPool, MaxPool, MinPool
from cnnfilter.layers.layer import Layer, Shape, WindowLayer
from cnnfilter.layers.learned import BatchNorm, Convolution, Dense, Depthwise, Dropout, InvertedBottleneck
from cnnfilter.networks import layer_loops
from cnnfilter.networks.map_convolutions import CLIPPING, LINEAR, ClipRange
from cnnfilter.training.gradients import gradient_loops as loops
from cnnfilter.training.gradients.convolutions import (
    TrainableConvolution,
    TrainableDepthwise,
    TrainableWinogradConvolution,
)
from cnnfilter.training.gradients.layer import (
    ZERO_BIAS,
    ClippingLayer,
    Context,
    Floats,
    TrainableLayer,
    Values,
    add_bias_gradient,
    draw_initial_values,
    geometry_of,
    rows_of,
)

VARIANCE_EPSILON = 1e-5
"""The epsilon that batch norm adds to the variance: the default of ``torch.nn.BatchNorm2d``."""
RUNNING_SHARE = 0.1
"""Weight of a new batch in the running mean and variance: the default `momentum` of ``torch.nn.BatchNorm2d``."""
POOL_TAPS_MAX = 256
"""Taps of a max pool at the most, because the chosen tap is stored as uint8."""
DROPOUT_DRAWS = 1 << 16
"""Possible values of a draw of dropout, which is uint16; so the share is met to within 1/65536."""


class TrainableInvertedBottleneck(TrainableLayer):
    """`mbconv 24x3x3`: three convolutions, relu6 after the first two; the input is added where the shapes are equal."""

    layer: InvertedBottleneck

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        self.parts: dict[str, TrainableLayer] = {}
        for name, stage in self.layer.stages(shape).items():
            self.parts[name] = make_trainable(stage, shape)
            shape = stage.output_shape(shape)
            if name != "project":
                self.parts[f"after {name}"] = TrainableActivation(Activation("relu6"), shape)
        self.residual = self.layer.residual(self.shape)

    def initial_values(self, rng: np.random.Generator) -> dict[str, Floats]:
        return {
            f"{name}.{key}": start
            for name, part in self.parts.items()
            for key, start in part.initial_values(rng).items()
        }

    def bind(self, values: Values) -> None:
        super().bind(values)
        for name, part in self.parts.items():
            own = {key.removeprefix(f"{name}."): view for key, view in values.items() if key.startswith(f"{name}.")}
            if own:
                part.bind(own)

    def forward(self, inputs: Floats, context: Context) -> Floats:
        out = inputs
        for name, part in self.parts.items():
            out = part.forward(out, context.part(name))
        if self.residual:
            out += inputs
        return out

    def backward(self, gradients: Floats, context: Context) -> Floats:
        back = gradients
        for name, part in reversed(self.parts.items()):
            back = part.backward(back, context.part(name))
        if self.residual:
            back += gradients
        return back


class TrainableDense(TrainableLayer):
    """`dense 10`: one matrix product."""

    layer: Dense

    def initial_values(self, rng: np.random.Generator) -> dict[str, Floats]:
        return draw_initial_values(self.layer.weights(self.shape), math.prod(self.shape), rng)

    def forward(self, inputs: Floats, context: Context) -> Floats:
        rows = inputs.reshape(len(inputs), -1)
        context.saved["input"] = inputs
        out = np.matmul(rows, self.values["kernel"], out=context.scratch.array("out", len(rows), *self.output))
        if "bias" in self.values:
            out += self.values["bias"]
        return out

    def backward(self, gradients: Floats, context: Context) -> Floats:
        inputs: Floats = context.saved["input"]
        rows = inputs.reshape(len(inputs), -1)
        kernel_gradient = np.matmul(
            rows.T, gradients, out=context.scratch.array("kernel gradient", *self.values["kernel"].shape)
        )
        context.gradients["kernel"][...] += kernel_gradient
        add_bias_gradient(gradients, context)
        if context.needs_no_input_gradient:
            return gradients
        back = np.matmul(gradients, self.values["kernel"].T, out=context.scratch.array("back", *rows.shape))
        return back.reshape(inputs.shape)


# --- pools -----------------------------------------------------------------------------------------------


class TrainableMaxPool(TrainableLayer):
    """`maxpool 2` and `minpool 2`: each gradient goes to the input that was chosen in its window."""

    layer: MaxPool

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        self.geometry = geometry_of(cast(WindowLayer, layer).axes(*shape[:2]), shape[2])
        self.sign = -1.0 if isinstance(layer, MinPool) else 1.0
        if math.prod(self.layer.size) > POOL_TAPS_MAX:
            raise ModelError(f"{layer} has more than 256 taps, which training does not go through")

    def forward(self, inputs: Floats, context: Context) -> Floats:
        out = context.scratch.array("out", len(inputs), *self.output)
        rows = out.reshape(-1, self.output[2])
        where = context.saved.get("where")
        if where is None or len(where) != len(rows):
            where = context.saved["where"] = np.empty(rows.shape, np.uint8)
        loops.max_pool(rows_of(inputs), rows, where, self.geometry, self.sign)
        return out

    def backward(self, gradients: Floats, context: Context) -> Floats:
        back = context.scratch.array("back", len(gradients), *self.shape)
        loops.max_pool_backward(
            rows_of(back), gradients.reshape(-1, self.output[2]), context.saved["where"], self.geometry
        )
        return back


class TrainableAvgPool(TrainableLayer):
    """`avgpool 2`: a depthwise convolution with ones, divided by the number of values of each window."""

    layer: AvgPool

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        axes = cast(WindowLayer, layer).axes(*shape[:2])
        self.geometry = geometry_of(axes, shape[2])
        counts = [cast(PoolAxis, axis).counts(include_pad=True) for axis in axes]
        self.shares = np.ascontiguousarray(1 / np.outer(*counts).reshape(*self.output[:2], 1), np.float32)
        self.ones = np.ones((math.prod(self.layer.size), shape[2]), np.float32)
        self.zeros = np.zeros(shape[2], np.float32)

    def forward(self, inputs: Floats, context: Context) -> Floats:
        out = context.scratch.array("out", len(inputs), *self.output)
        loops.depthwise(rows_of(inputs), self.ones, self.zeros, out.reshape(-1, self.output[2]), self.geometry)
        out *= self.shares
        return out

    def backward(self, gradients: Floats, context: Context) -> Floats:
        back = context.scratch.array("back", len(gradients), *self.shape)
        shared = (gradients * self.shares).reshape(-1, self.output[2])
        loops.depthwise_backward(rows_of(back), self.ones, shared, self.geometry)
        return back


class TrainableGlobalPool(TrainableLayer):
    """`globalpool avg` and `globalpool max`."""

    layer: GlobalPool

    def forward(self, inputs: Floats, context: Context) -> Floats:
        rows = inputs.reshape(len(inputs), -1, self.shape[2])
        if self.layer.op == "avg":
            return cast(Floats, rows.mean(axis=1, dtype=np.float32).reshape(len(rows), *self.output))
        context.saved["where"] = where = rows.argmax(axis=1)[:, None]
        return np.take_along_axis(rows, where, axis=1).reshape(len(rows), *self.output)

    def backward(self, gradients: Floats, context: Context) -> Floats:
        back = context.scratch.array("back", len(gradients), *self.shape)
        rows, each = back.reshape(len(back), -1, self.shape[2]), gradients.reshape(len(gradients), 1, -1)
        if self.layer.op == "avg":
            rows[...] = each / np.float32(rows.shape[1])
        else:
            rows[...] = 0
            np.put_along_axis(rows, context.saved["where"], each, axis=1)
        return back


# --- number by number ------------------------------------------------------------------------------------


class TrainableActivation(TrainableLayer):
    """`relu`, `sigmoid` and the other activations: each gradient is multiplied by the derivative of the function."""

    layer: Activation

    @property
    def clip(self) -> ClipRange | None:
        """The range that the function clips to; None if it does not only clip."""
        return CLIPPING.get(self.layer.function)

    def forward(self, inputs: Floats, context: Context) -> Floats:
        function = self.layer.function
        if self.clip is not None:
            # In place, because no layer needs its own outputs for its backward pass if an activation follows.
            layer_loops.shift(inputs.reshape(-1), ZERO_BIAS, *self.clip)
            context.saved["output"] = inputs
            return inputs
        context.saved["input"] = inputs
        context.saved["output"] = np.ascontiguousarray(activate(inputs, function))
        return cast(Floats, context.saved["output"])

    def backward(self, gradients: Floats, context: Context) -> Floats:
        function = self.layer.function
        if self.clip is not None:
            loops.clip_backward(gradients.reshape(-1), context.saved["output"].reshape(-1), *self.clip)
            return gradients
        if function == "softmax":
            out = context.saved["output"]
            return np.ascontiguousarray(out * (gradients - (gradients * out).sum(axis=-1, keepdims=True)))
        return np.ascontiguousarray(gradients * derivative(context.saved["input"], function))


class TrainableDropout(TrainableLayer):
    """`dropout 0.3`: sets this share of the inputs to 0, and scales the others so that the expected mean stays."""

    layer: Dropout

    def forward(self, inputs: Floats, context: Context) -> Floats:
        if not context.training or not self.layer.share:
            context.saved["draws"] = None
            return inputs
        context.saved["draws"] = context.draw().integers(0, DROPOUT_DRAWS, inputs.size, np.uint16)
        return self._drop(inputs, "out", context)

    def backward(self, gradients: Floats, context: Context) -> Floats:
        return gradients if context.saved["draws"] is None else self._drop(gradients, "back", context)

    def _drop(self, inputs: Floats, name: str, context: Context) -> Floats:
        out = context.scratch.array(name, *inputs.shape)
        limit = round(self.layer.share * DROPOUT_DRAWS)
        factor = DROPOUT_DRAWS / (DROPOUT_DRAWS - limit)
        loops.drop(inputs.reshape(-1), context.saved["draws"], limit, factor, out.reshape(-1))
        return out


class TrainableFlatten(TrainableLayer):
    """`flatten`: maps become vectors."""

    layer: Flatten

    def forward(self, inputs: Floats, context: Context) -> Floats:
        return inputs.reshape(len(inputs), -1)

    def backward(self, gradients: Floats, context: Context) -> Floats:
        return gradients.reshape(len(gradients), *self.shape)


class TrainableBatchNorm(ClippingLayer):
    """`batchnorm`: normalises by the mean and variance of the batch in training, by the running ones afterwards.

    Both passes have two phases, because they need sums over all shards. Before `forward`, `measure` is called for every
    shard and `take_sums` with the total; before `backward`, `measure_backward` and `take_backward_sums`.

    References: Ioffe & Szegedy 2015, "Batch Normalization", algorithm 1 and section 3.
    """

    layer: BatchNorm

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        self.channels = shape[-1]
        self.running = np.concatenate([np.zeros(self.channels), np.ones(self.channels)]).astype(np.float32)

    def initial_values(self, rng: np.random.Generator) -> dict[str, Floats]:
        return {"scale": np.ones(self.channels, np.float32), "shift": np.zeros(self.channels, np.float32)}

    def weights(self) -> dict[str, Floats]:
        mean, variance = self.running.reshape(2, -1).astype(np.float64)
        scale = self.values["scale"] / np.sqrt(variance + VARIANCE_EPSILON)
        shift = self.values["shift"] - mean * scale
        return {"scale": scale.astype(np.float32), "shift": shift.astype(np.float32)}

    def measure(self, inputs: Floats) -> NDArray[np.float64]:
        """Return the sum of each map of a shard, and the sum of its squares, (2, C)."""
        sums = np.empty((2, self.channels))
        loops.moments(inputs.reshape(-1, self.channels), sums)
        return sums

    def take_sums(self, sums: NDArray[np.float64], count: int) -> None:
        """Compute mean and variance from the sums of the whole batch, over `count` values a map."""
        mean = sums[0] / count
        variance = np.maximum(sums[1] / count - mean * mean, 0)
        self._use(mean, variance)
        seen = np.concatenate([mean, variance * (count / max(count - 1, 1))])
        self.running += np.float32(RUNNING_SHARE) * (seen.astype(np.float32) - self.running)

    def use_running(self) -> None:
        """Use the running mean and variance."""
        self._use(*self.running.reshape(2, -1).astype(np.float64))

    def _use(self, mean: NDArray[np.float64], variance: NDArray[np.float64]) -> None:
        """Compute the factor and offset of each map."""
        inverse = 1 / np.sqrt(variance + VARIANCE_EPSILON)
        self.mean, self.inverse = mean.astype(np.float32), inverse.astype(np.float32)
        scale = self.values["scale"] * inverse
        self.factor = scale.astype(np.float32)
        self.offset = (self.values["shift"] - mean * scale).astype(np.float32)

    def forward(self, inputs: Floats, context: Context, clip: ClipRange = LINEAR) -> Floats:
        out = context.scratch.array("out", *inputs.shape)
        context.saved["input"] = inputs
        shape = (-1, self.channels)
        loops.scale_and_shift(inputs.reshape(shape), self.factor, self.offset, *clip, out.reshape(shape))
        return out

    def measure_backward(self, gradients: Floats, context: Context) -> tuple[Floats, NDArray[np.float64]]:
        """Return the gradients for `backward`, and the gradients of shift and scale in this shard, (2, C)."""
        sums = np.empty((2, self.channels))
        shape = (-1, self.channels)
        rows = context.saved["input"].reshape(shape)
        loops.gradient_moments(rows, gradients.reshape(shape), sums, self.mean, self.inverse)
        context.gradients["shift"][...] += sums[0]
        context.gradients["scale"][...] += sums[1]
        return gradients, sums

    def take_backward_sums(self, sums: NDArray[np.float64], count: int) -> None:
        """Compute the coefficients of `backward` from the gradients of shift and scale of the whole batch."""
        shift, scale = sums / count
        factor = self.factor.astype(np.float64)
        of_row = -factor * self.inverse * scale
        self.of_row = of_row.astype(np.float32)
        self.more = (-factor * shift - of_row * self.mean).astype(np.float32)

    def backward(self, gradients: Floats, context: Context) -> Floats:
        shape = (-1, self.channels)
        loops.combine(
            context.saved["input"].reshape(shape), gradients.reshape(shape), self.factor, self.of_row, self.more
        )
        return gradients


_TRAINABLE: dict[type[Layer], type[TrainableLayer]] = {
    Convolution: TrainableConvolution,
    Depthwise: TrainableDepthwise,
    InvertedBottleneck: TrainableInvertedBottleneck,
    Dense: TrainableDense,
    MaxPool: TrainableMaxPool,
    MinPool: TrainableMaxPool,
    AvgPool: TrainableAvgPool,
    GlobalPool: TrainableGlobalPool,
    Activation: TrainableActivation,
    Dropout: TrainableDropout,
    Flatten: TrainableFlatten,
    BatchNorm: TrainableBatchNorm,
}


def make_trainable(layer: Layer, shape: Shape) -> TrainableLayer:
    """Return the trainable layer for a layer whose inputs have the given shape.

    Raises
    ------
    ModelError
        If no gradients can go back through the layer.
    """
    found = _TRAINABLE.get(type(layer))
    if found is None:
        raise ModelError(
            f"'{layer}' can only stand before the first learned layer: training does not go back through it"
        )
    if isinstance(layer, Convolution) and TrainableWinogradConvolution.fits(layer, shape):
        found = TrainableWinogradConvolution
    return found(layer, shape)
