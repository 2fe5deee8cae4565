"""Layers while they are trained: forward and, beside it, backward.

A batch is cut into shards of whole pictures. `forward` takes a shard's numbers (n, H, W, C) or (n, F), `backward` the
slopes of the loss by what `forward` gave, adds those by the layer's own numbers to ``place.slopes``, and gives those
by its input. What a layer remembers in between, and the memory for its results, is in its `Place`: there is one for
each shard and layer, so that shards can be computed at once. Batch norm needs sums over the whole batch, which it
gets between two layers: see `BatchNorming`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnfilter.activation import activate, slope
from cnnfilter.errors import ModelError
from cnnfilter.layers import Activation, AvgPool, Flatten, GlobalPool, MaxPool, MinPool
from cnnfilter.learned import BatchNorm, Convolution, Dense, Depthwise, Dropout, InvertedBottleneck
from cnnfilter.loops import layers as layer_loops
from cnnfilter.loops import training as loops
from cnnfilter.map_filters import CLIPPING, LINEAR, Scratch
from cnnfilter.pooling import PoolAxis
from cnnfilter.shapes import Layer, Shape, WindowLayer
from cnnfilter.windows import Axis

Floats = NDArray[np.float32]
Values = Mapping[str, Floats]

_PIECE = 1 << 18
"""Numbers of the windows that are laid out at once: 1 MiB, half of a usual second-level cache."""

EPSILON, MOMENTUM = 1e-5, 0.1
"""Of batch norm, as PyTorch's."""


@dataclass
class Place:
    """What one layer keeps of one shard.

    Attributes
    ----------
    slopes : by name, those of the layer's own numbers; views that are added to.
    kept : what `forward` leaves for `backward`.
    training : whether dropout and batch norm do what they do while training.
    draw : gives the random numbers of this layer and shard, at this step.
    first : nobody needs the slopes of the input.
    """

    slopes: Values = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    scratch: Scratch = field(default_factory=Scratch)
    training: bool = True
    draw: Callable[[], np.random.Generator] = np.random.default_rng
    first: bool = False
    parts: dict[str, Place] = field(default_factory=dict)

    def part(self, name: str) -> Place:
        """Return the place of a part of the layer."""
        if name not in self.parts:
            slopes = {
                key.removeprefix(f"{name}."): view for key, view in self.slopes.items() if key.startswith(f"{name}.")
            }
            self.parts[name] = Place(slopes)
        return self.parts[name]


class Trainable:
    """A layer that has no numbers of its own and needs nothing but its own functions."""

    def __init__(self, layer: Layer, shape: Shape) -> None:
        self.layer = layer
        self.shape = shape
        self.output = layer.output_shape(shape)
        self.values: Values = {}

    def starts(self, rng: np.random.Generator) -> dict[str, Floats]:
        """Return the numbers to start with, by name."""
        return {}

    def bind(self, values: Values) -> None:
        """Take the numbers to compute with: views that change from step to step."""
        self.values = values

    def weights(self) -> dict[str, Floats]:
        """Return what a model file keeps."""
        return {name: values.copy() for name, values in self.values.items()}

    def forward(self, numbers: Floats, place: Place) -> Floats:
        raise NotImplementedError

    def backward(self, slopes: Floats, place: Place) -> Floats:
        raise NotImplementedError


class Fixed(Trainable):
    """A layer before the first learned one: nothing is handed back through it."""

    def forward(self, numbers: Floats, place: Place) -> Floats:
        return np.ascontiguousarray(self.layer.forward(numbers), np.float32)  # type: ignore[attr-defined]

    def backward(self, slopes: Floats, place: Place) -> Floats:
        return slopes


def geometry_of(axes: tuple[Axis, Axis], channels: int) -> NDArray[np.int64]:
    """Return what the loops of training are told of a window."""
    down, across = axes
    sizes = [down.size, across.size, channels, down.outputs, across.outputs, down.taps, across.taps]
    steps = [down.stride, across.stride, down.dilation, across.dilation, down.before, across.before]
    return np.array(sizes + steps, np.int64)


def _rows(numbers: Floats) -> Floats:
    """Maps (n, H, W, C) as the loops take them, (n·H, W·C)."""
    count, height, width, channels = numbers.shape
    return numbers.reshape(count * height, width * channels)


def _add_bias_slopes(slopes: Floats, place: Place) -> None:
    if "bias" in place.slopes:
        place.slopes["bias"][...] += np.ones(len(slopes), np.float32) @ slopes


# --- convolutions ----------------------------------------------------------------------------------------


class Convolving(Trainable):
    """`conv 32x3x3`: the windows side by side, times the kernels: one matrix product."""

    layer: Convolution

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        axes = cast(WindowLayer, layer).axes(*shape[:2])
        self.geometry = geometry_of(axes, shape[2])
        self.pointwise = all(axis.taps == axis.stride == 1 and not axis.before and not axis.after for axis in axes)
        self.places = self.output[0] * self.output[1]
        self.taps = math.prod(self.layer.kernels[1:]) * shape[2]
        self.at_once = max(1, _PIECE // (self.places * self.taps))
        self.range = LINEAR

    def starts(self, rng: np.random.Generator) -> dict[str, Floats]:
        return _starts(self.layer.weights(self.shape), self.taps, rng)

    def bind(self, values: Values) -> None:
        super().bind(values)
        self.matrix = values["kernel"].reshape(self.taps, -1)

    def _windows(self, numbers: Floats, first: int, end: int, place: Place, *, again: bool = False) -> Floats:
        part = numbers[first:end]
        if self.pointwise:
            return part.reshape(-1, self.taps)
        windows = place.scratch.array("windows", (end - first) * self.places, self.taps)
        if not again:
            loops.gather(_rows(part), windows, self.geometry)
        return windows

    def forward(self, numbers: Floats, place: Place) -> Floats:
        out = place.scratch.array("out", len(numbers), *self.output)
        place.kept["input"] = numbers
        for first in range(0, len(numbers), self.at_once):
            end = min(first + self.at_once, len(numbers))
            windows = self._windows(numbers, first, end, place)
            np.matmul(windows, self.matrix, out=out[first:end].reshape(len(windows), -1))
        if "bias" in self.values:
            tile = np.tile(self.values["bias"], max(1, 1024 // self.output[2]))
            layer_loops.shift(out.reshape(-1), tile, *self.range)
        return out

    def backward(self, slopes: Floats, place: Place) -> Floats:
        numbers: Floats = place.kept["input"]
        back = place.scratch.array("back", *numbers.shape) if not place.first else slopes
        share = place.scratch.array("share", *self.matrix.shape)
        kernel_slopes = place.slopes["kernel"].reshape(self.matrix.shape)
        for first in range(0, len(numbers), self.at_once):
            end = min(first + self.at_once, len(numbers))
            # Those of a single piece are still there.
            windows = self._windows(numbers, first, end, place, again=len(numbers) <= self.at_once)
            part = slopes[first:end].reshape(len(windows), -1)
            np.matmul(windows.T, part, out=share)
            kernel_slopes += share
            _add_bias_slopes(part, place)
            if place.first:
                continue
            if self.pointwise:
                np.matmul(part, self.matrix.T, out=back[first:end].reshape(len(windows), -1))
            else:
                np.matmul(part, self.matrix.T, out=windows)
                loops.scatter(_rows(back[first:end]), windows, self.geometry)
        return back


class DepthwiseConvolving(Trainable):
    """`depthwise 3x3`: each map with its own kernel."""

    layer: Depthwise

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        self.geometry = geometry_of(cast(WindowLayer, layer).axes(*shape[:2]), shape[2])

    def starts(self, rng: np.random.Generator) -> dict[str, Floats]:
        return _starts(self.layer.weights(self.shape), math.prod(self.layer.size), rng)

    def bind(self, values: Values) -> None:
        super().bind(values)
        self.matrix = values["kernel"].reshape(-1, self.shape[2])
        self.bias = values.get("bias", np.zeros(self.shape[2], np.float32))

    def forward(self, numbers: Floats, place: Place) -> Floats:
        out = place.scratch.array("out", len(numbers), *self.output)
        place.kept["input"] = numbers
        loops.depthwise(_rows(numbers), self.matrix, self.bias, out.reshape(-1, self.output[2]), self.geometry)
        return out

    def backward(self, slopes: Floats, place: Place) -> Floats:
        numbers: Floats = place.kept["input"]
        back = place.scratch.array("back", *numbers.shape)
        rows = slopes.reshape(-1, self.output[2])
        gained = place.slopes["kernel"].reshape(self.matrix.shape)
        loops.depthwise_back(_rows(numbers), self.matrix, rows, _rows(back), gained, self.geometry)
        _add_bias_slopes(rows, place)
        return back


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
        return _starts(self.layer.weights(self.shape), math.prod(self.shape), rng)

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
        _add_bias_slopes(slopes, place)
        if place.first:
            return slopes
        back = np.matmul(slopes, self.values["kernel"].T, out=place.scratch.array("back", *rows.shape))
        return back.reshape(numbers.shape)


def _starts(shapes: Mapping[str, Shape], inputs: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Draw kernels of variance 2 / inputs (He et al. 2015, "Delving Deep into Rectifiers", equation 10); bias is 0."""
    deviation = math.sqrt(2 / inputs)
    return {
        name: rng.standard_normal(size, np.float32) * np.float32(deviation)
        if name == "kernel"
        else np.zeros(size, np.float32)
        for name, size in shapes.items()
    }


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
        loops.pool_most(_rows(numbers), rows, where, self.geometry, self.sign)
        return out

    def backward(self, slopes: Floats, place: Place) -> Floats:
        back = place.scratch.array("back", len(slopes), *self.shape)
        loops.pool_most_back(_rows(back), slopes.reshape(-1, self.output[2]), place.kept["where"], self.geometry)
        return back


class MeanPooling(Trainable):
    """`avgpool 2`: the slope is shared by all numbers of the window."""

    layer: AvgPool

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        axes = cast(WindowLayer, layer).axes(*shape[:2])
        self.geometry = geometry_of(axes, shape[2])
        counts = [cast(PoolAxis, axis).counts(include_pad=True) for axis in axes]
        self.shares = np.ascontiguousarray(1 / np.outer(*counts).ravel(), np.float32)

    def forward(self, numbers: Floats, place: Place) -> Floats:
        out = place.scratch.array("out", len(numbers), *self.output)
        loops.pool_mean(_rows(numbers), out.reshape(-1, self.output[2]), self.shares, self.geometry)
        return out

    def backward(self, slopes: Floats, place: Place) -> Floats:
        back = place.scratch.array("back", len(slopes), *self.shape)
        loops.pool_mean_back(_rows(back), slopes.reshape(-1, self.output[2]), self.shares, self.geometry)
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
    done_before = False

    def forward(self, numbers: Floats, place: Place) -> Floats:
        function = self.layer.function
        if function in CLIPPING:
            if not self.done_before:
                # In place: no layer that stands before an activation needs what it gave.
                layer_loops.shift(numbers.reshape(-1), _NOTHING, *CLIPPING[function])
            place.kept["output"] = numbers
            return numbers
        place.kept["input"] = numbers
        place.kept["output"] = np.ascontiguousarray(activate(numbers, function))
        return cast(Floats, place.kept["output"])

    def backward(self, slopes: Floats, place: Place) -> Floats:
        function = self.layer.function
        if function in CLIPPING:
            loops.keep_between(slopes.reshape(-1), place.kept["output"].reshape(-1), *CLIPPING[function])
            return slopes
        if function == "softmax":
            out = place.kept["output"]
            return np.ascontiguousarray(out * (slopes - (slopes * out).sum(axis=-1, keepdims=True)))
        return np.ascontiguousarray(slopes * slope(place.kept["input"], function))


_NOTHING = np.zeros(1024, np.float32)


class Dropping(Trainable):
    """`dropout 0.3`: that share of the numbers becomes 0, and the others are raised so that their mean stays."""

    layer: Dropout

    def forward(self, numbers: Floats, place: Place) -> Floats:
        if not place.training or not self.layer.share:
            place.kept["factors"] = None
            return numbers
        kept = place.draw().random(numbers.shape, np.float32) >= self.layer.share
        place.kept["factors"] = kept.astype(np.float32) / np.float32(1 - self.layer.share)
        return cast(Floats, numbers * place.kept["factors"])

    def backward(self, slopes: Floats, place: Place) -> Floats:
        factors = place.kept["factors"]
        return slopes if factors is None else cast(Floats, slopes * factors)


class Flattening(Trainable):
    """`flatten`."""

    layer: Flatten

    def forward(self, numbers: Floats, place: Place) -> Floats:
        return numbers.reshape(len(numbers), -1)

    def backward(self, slopes: Floats, place: Place) -> Floats:
        return slopes.reshape(len(slopes), *self.shape)


class BatchNorming(Trainable):
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

    def forward(self, numbers: Floats, place: Place) -> Floats:
        out = place.scratch.array("out", *numbers.shape)
        place.kept["input"] = numbers
        shape = (-1, self.channels)
        loops.scale_and_shift(numbers.reshape(shape), self.factor, self.offset, out.reshape(shape))
        return out

    def measure_back(self, slopes: Floats, place: Place) -> NDArray[np.float64]:
        """Return the sums of the slopes by shift and scale (2, C)."""
        sums = np.empty((2, self.channels))
        shape = (-1, self.channels)
        rows = place.kept["input"].reshape(shape)
        loops.slope_moments(rows, slopes.reshape(shape), sums, self.mean, self.inverse)
        place.slopes["shift"][...] += sums[0]
        place.slopes["scale"][...] += sums[1]
        return sums

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


def do_together(layers: Sequence[Trainable]) -> None:
    """Let a convolution with bias do what a clipping activation after it does, on the same way through its numbers."""
    for layer, after in pairwise(layers):
        if not (isinstance(layer, Convolving) and layer.layer.bias and isinstance(after, Activating)):
            continue
        if after.layer.function in CLIPPING:
            layer.range = CLIPPING[after.layer.function]
            after.done_before = True


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
    return found(layer, shape)
