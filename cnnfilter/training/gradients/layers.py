"""All the other layers while they are trained, and which is which.

Batch norm needs sums over the whole batch, which it gets between two layers: see `BatchNorming`.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ModelError
from cnnfilter.filters.pooling.pool import PoolAxis
from cnnfilter.layers.activations import activate, slope
from cnnfilter.layers.fixed import Activation, AvgPool, Flatten, GlobalPool, MaxPool, MinPool
from cnnfilter.layers.layer import Layer, Shape, WindowLayer
from cnnfilter.layers.learned import BatchNorm, Convolution, Dense, Depthwise, Dropout, InvertedBottleneck
from cnnfilter.networks import layer_loops
from cnnfilter.networks.map_convolutions import CLIPPING, LINEAR, Range
from cnnfilter.training.gradients import gradient_loops as loops
from cnnfilter.training.gradients.convolutions import Convolving, DepthwiseConvolving, TiledConvolving
from cnnfilter.training.gradients.layer import (
    NO_BIAS,
    ClippingTrainable,
    Floats,
    Place,
    Trainable,
    Values,
    add_bias_slopes,
    draw_starts,
    geometry_of,
    rows_of,
)

EPSILON, MOMENTUM = 1e-5, 0.1
"""Of batch norm, as PyTorch's."""


class Bottlenecking(Trainable):
    """`mbconv 24x3x3`: its three convolutions one after the other, relu6 after the first two; the input is added."""

    layer: InvertedBottleneck

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        self.parts: dict[str, Trainable] = {}
        for name, stage in self.layer.stages(shape).items():
            self.parts[name] = make_trainable(stage, shape)
            shape = stage.output_shape(shape)
            if name != "project":
                self.parts[f"after {name}"] = Activating(Activation("relu6"), shape)
        self.residual = self.layer.residual(self.shape)

    def starts(self, rng: np.random.Generator) -> dict[str, Floats]:
        return {f"{name}.{key}": start for name, part in self.parts.items() for key, start in part.starts(rng).items()}

    def bind(self, values: Values) -> None:
        super().bind(values)
        for name, part in self.parts.items():
            own = {key.removeprefix(f"{name}."): view for key, view in values.items() if key.startswith(f"{name}.")}
            if own:
                part.bind(own)

    def forward(self, numbers: Floats, place: Place) -> Floats:
        out = numbers
        for name, part in self.parts.items():
            out = part.forward(out, place.part(name))
        if self.residual:
            out += numbers
        return out

    def backward(self, slopes: Floats, place: Place) -> Floats:
        back = slopes
        for name, part in reversed(self.parts.items()):
            back = part.backward(back, place.part(name))
        if self.residual:
            back += slopes
        return back


class Densing(Trainable):
    """`dense 10`: one matrix product."""

    layer: Dense

    def starts(self, rng: np.random.Generator) -> dict[str, Floats]:
        return draw_starts(self.layer.weights(self.shape), math.prod(self.shape), rng)

    def forward(self, numbers: Floats, place: Place) -> Floats:
        rows = numbers.reshape(len(numbers), -1)
        place.kept["input"] = numbers
        out = np.matmul(rows, self.values["kernel"], out=place.scratch.array("out", len(rows), *self.output))
        if "bias" in self.values:
            out += self.values["bias"]
        return out

    def backward(self, slopes: Floats, place: Place) -> Floats:
        numbers: Floats = place.kept["input"]
        rows = numbers.reshape(len(numbers), -1)
        share = np.matmul(rows.T, slopes, out=place.scratch.array("share", *self.values["kernel"].shape))
        place.slopes["kernel"][...] += share
        add_bias_slopes(slopes, place)
        if place.first:
            return slopes
        back = np.matmul(slopes, self.values["kernel"].T, out=place.scratch.array("back", *rows.shape))
        return back.reshape(numbers.shape)


# --- pools -----------------------------------------------------------------------------------------------


class MostPooling(Trainable):
    """`maxpool 2` and `minpool 2`: the slope goes to the number that was chosen."""

    layer: MaxPool

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        self.geometry = geometry_of(cast(WindowLayer, layer).axes(*shape[:2]), shape[2])
        self.sign = -1.0 if isinstance(layer, MinPool) else 1.0
        if math.prod(self.layer.size) > 256:
            raise ModelError(f"{layer} has more than 256 taps, which training does not go through")

    def forward(self, numbers: Floats, place: Place) -> Floats:
        out = place.scratch.array("out", len(numbers), *self.output)
        rows = out.reshape(-1, self.output[2])
        where = place.kept.get("where")
        if where is None or len(where) != len(rows):
            where = place.kept["where"] = np.empty(rows.shape, np.uint8)
        loops.max_pool(rows_of(numbers), rows, where, self.geometry, self.sign)
        return out

    def backward(self, slopes: Floats, place: Place) -> Floats:
        back = place.scratch.array("back", len(slopes), *self.shape)
        loops.max_pool_backward(rows_of(back), slopes.reshape(-1, self.output[2]), place.kept["where"], self.geometry)
        return back


class MeanPooling(Trainable):
    """`avgpool 2`: a depthwise convolution with ones, each place times its share."""

    layer: AvgPool

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        axes = cast(WindowLayer, layer).axes(*shape[:2])
        self.geometry = geometry_of(axes, shape[2])
        counts = [cast(PoolAxis, axis).counts(include_pad=True) for axis in axes]
        self.shares = np.ascontiguousarray(1 / np.outer(*counts).reshape(*self.output[:2], 1), np.float32)
        self.ones = np.ones((math.prod(self.layer.size), shape[2]), np.float32)
        self.zeros = np.zeros(shape[2], np.float32)

    def forward(self, numbers: Floats, place: Place) -> Floats:
        out = place.scratch.array("out", len(numbers), *self.output)
        loops.depthwise(rows_of(numbers), self.ones, self.zeros, out.reshape(-1, self.output[2]), self.geometry)
        out *= self.shares
        return out

    def backward(self, slopes: Floats, place: Place) -> Floats:
        back = place.scratch.array("back", len(slopes), *self.shape)
        shared = (slopes * self.shares).reshape(-1, self.output[2])
        loops.depthwise_backward(rows_of(back), self.ones, shared, self.geometry)
        return back


class GlobalPooling(Trainable):
    """`globalpool avg` and `max`."""

    layer: GlobalPool

    def forward(self, numbers: Floats, place: Place) -> Floats:
        rows = numbers.reshape(len(numbers), -1, self.shape[2])
        if self.layer.op == "avg":
            return cast(Floats, rows.mean(axis=1, dtype=np.float32).reshape(len(rows), *self.output))
        place.kept["where"] = where = rows.argmax(axis=1)[:, None]
        return np.take_along_axis(rows, where, axis=1).reshape(len(rows), *self.output)

    def backward(self, slopes: Floats, place: Place) -> Floats:
        back = place.scratch.array("back", len(slopes), *self.shape)
        rows, each = back.reshape(len(back), -1, self.shape[2]), slopes.reshape(len(slopes), 1, -1)
        if self.layer.op == "avg":
            rows[...] = each / np.float32(rows.shape[1])
        else:
            rows[...] = 0
            np.put_along_axis(rows, place.kept["where"], each, axis=1)
        return back


# --- number by number ------------------------------------------------------------------------------------


class Activating(Trainable):
    """`relu` and its kin: the slope times the function's slope there."""

    layer: Activation

    @property
    def clip(self) -> Range | None:
        """The range that the function clips to; None where it does something else."""
        return CLIPPING.get(self.layer.function)

    def forward(self, numbers: Floats, place: Place) -> Floats:
        function = self.layer.function
        if self.clip is not None:
            # In place: no layer that stands before an activation needs what it gave.
            layer_loops.shift(numbers.reshape(-1), NO_BIAS, *self.clip)
            place.kept["output"] = numbers
            return numbers
        place.kept["input"] = numbers
        place.kept["output"] = np.ascontiguousarray(activate(numbers, function))
        return cast(Floats, place.kept["output"])

    def backward(self, slopes: Floats, place: Place) -> Floats:
        function = self.layer.function
        if self.clip is not None:
            loops.clip_backward(slopes.reshape(-1), place.kept["output"].reshape(-1), *self.clip)
            return slopes
        if function == "softmax":
            out = place.kept["output"]
            return np.ascontiguousarray(out * (slopes - (slopes * out).sum(axis=-1, keepdims=True)))
        return np.ascontiguousarray(slopes * slope(place.kept["input"], function))


class Dropping(Trainable):
    """`dropout 0.3`: that share of the numbers becomes 0, and the others are raised so that their mean stays."""

    layer: Dropout

    def forward(self, numbers: Floats, place: Place) -> Floats:
        if not place.training or not self.layer.share:
            place.kept["chances"] = None
            return numbers
        place.kept["chances"] = place.draw().integers(0, _CHANCES, numbers.size, np.uint16)
        return self._drop(numbers, "out", place)

    def backward(self, slopes: Floats, place: Place) -> Floats:
        return slopes if place.kept["chances"] is None else self._drop(slopes, "back", place)

    def _drop(self, numbers: Floats, name: str, place: Place) -> Floats:
        out = place.scratch.array(name, *numbers.shape)
        limit = round(self.layer.share * _CHANCES)
        factor = _CHANCES / (_CHANCES - limit)
        loops.drop(numbers.reshape(-1), place.kept["chances"], limit, factor, out.reshape(-1))
        return out


_CHANCES = 1 << 16


class Flattening(Trainable):
    """`flatten`."""

    layer: Flatten

    def forward(self, numbers: Floats, place: Place) -> Floats:
        return numbers.reshape(len(numbers), -1)

    def backward(self, slopes: Floats, place: Place) -> Floats:
        return slopes.reshape(len(slopes), *self.shape)


class BatchNorming(ClippingTrainable):
    """`batchnorm`: by the mean and variance of the batch while training, of all batches afterwards.

    Before `forward`, every shard is measured and the sums of all are settled; before `backward` likewise
    (Ioffe & Szegedy 2015, "Batch Normalization", algorithm 1 and section 3).
    """

    layer: BatchNorm

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        self.channels = shape[-1]
        self.running = np.concatenate([np.zeros(self.channels), np.ones(self.channels)]).astype(np.float32)

    def starts(self, rng: np.random.Generator) -> dict[str, Floats]:
        return {"scale": np.ones(self.channels, np.float32), "shift": np.zeros(self.channels, np.float32)}

    def weights(self) -> dict[str, Floats]:
        mean, variance = self.running.reshape(2, -1).astype(np.float64)
        scale = self.values["scale"] / np.sqrt(variance + EPSILON)
        shift = self.values["shift"] - mean * scale
        return {"scale": scale.astype(np.float32), "shift": shift.astype(np.float32)}

    def measure(self, numbers: Floats) -> NDArray[np.float64]:
        """Return the sums and the sums of squares of each map (2, C)."""
        sums = np.empty((2, self.channels))
        loops.moments(numbers.reshape(-1, self.channels), sums)
        return sums

    def settle(self, sums: NDArray[np.float64], count: int) -> None:
        """Take the sums of the whole batch, of `count` numbers a map."""
        mean = sums[0] / count
        variance = np.maximum(sums[1] / count - mean * mean, 0)
        self._use(mean, variance)
        seen = np.concatenate([mean, variance * (count / max(count - 1, 1))])
        self.running += np.float32(MOMENTUM) * (seen.astype(np.float32) - self.running)

    def use_running(self) -> None:
        """Take the mean and variance of all batches so far."""
        self._use(*self.running.reshape(2, -1).astype(np.float64))

    def _use(self, mean: NDArray[np.float64], variance: NDArray[np.float64]) -> None:
        inverse = 1 / np.sqrt(variance + EPSILON)
        self.mean, self.inverse = mean.astype(np.float32), inverse.astype(np.float32)
        scale = self.values["scale"] * inverse
        self.factor = scale.astype(np.float32)
        self.offset = (self.values["shift"] - mean * scale).astype(np.float32)

    def forward(self, numbers: Floats, place: Place, clip: Range = LINEAR) -> Floats:
        out = place.scratch.array("out", *numbers.shape)
        place.kept["input"] = numbers
        shape = (-1, self.channels)
        loops.scale_and_shift(numbers.reshape(shape), self.factor, self.offset, *clip, out.reshape(shape))
        return out

    def measure_back(self, slopes: Floats, place: Place) -> tuple[Floats, NDArray[np.float64]]:
        """Return the slopes that `backward` takes, and their sums by shift and scale (2, C)."""
        sums = np.empty((2, self.channels))
        shape = (-1, self.channels)
        rows = place.kept["input"].reshape(shape)
        loops.gradient_moments(rows, slopes.reshape(shape), sums, self.mean, self.inverse)
        place.slopes["shift"][...] += sums[0]
        place.slopes["scale"][...] += sums[1]
        return slopes, sums

    def settle_back(self, sums: NDArray[np.float64], count: int) -> None:
        """Take the sums of the whole batch."""
        shift, scale = sums / count
        factor = self.factor.astype(np.float64)
        of_row = -factor * self.inverse * scale
        self.of_row = of_row.astype(np.float32)
        self.more = (-factor * shift - of_row * self.mean).astype(np.float32)

    def backward(self, slopes: Floats, place: Place) -> Floats:
        shape = (-1, self.channels)
        loops.combine(place.kept["input"].reshape(shape), slopes.reshape(shape), self.factor, self.of_row, self.more)
        return slopes


_TRAINABLE: dict[type[Layer], type[Trainable]] = {
    Convolution: Convolving,
    Depthwise: DepthwiseConvolving,
    InvertedBottleneck: Bottlenecking,
    Dense: Densing,
    MaxPool: MostPooling,
    MinPool: MostPooling,
    AvgPool: MeanPooling,
    GlobalPool: GlobalPooling,
    Activation: Activating,
    Dropout: Dropping,
    Flatten: Flattening,
    BatchNorm: BatchNorming,
}


def make_trainable(layer: Layer, shape: Shape) -> Trainable:
    """Make the layer that is trained of a layer that takes `shape`.

    Raises
    ------
    ModelError
        If nothing can be handed back through it.
    """
    found = _TRAINABLE.get(type(layer))
    if found is None:
        raise ModelError(
            f"'{layer}' can only stand before the first learned layer: training does not go back through it"
        )
    if isinstance(layer, Convolution) and TiledConvolving.fits(layer, shape):
        found = TiledConvolving
    return found(layer, shape)
