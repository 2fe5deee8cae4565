"""Convolutions while they are trained."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from cnnfilter.jit.instructions import LANES
from cnnfilter.layers.layer import Layer, Shape, WindowLayer
from cnnfilter.layers.learned import Convolution, Depthwise
from cnnfilter.networks import layer_loops
from cnnfilter.networks.map_convolutions import LINEAR, Range
from cnnfilter.training.gradients import gradient_loops as loops
from cnnfilter.training.gradients import winograd_loops
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

_PIECE = 1 << 18
"""Numbers of the windows or tiles that are laid out at once: 1 MiB, half of a usual second-level cache."""


class Convolving(ClippingTrainable):
    """`conv 32x3x3`: the windows side by side, times the kernels: one matrix product."""

    layer: Convolution

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        axes = cast(WindowLayer, layer).axes(*shape[:2])
        down, across = axes
        self.geometry = geometry_of(axes, shape[2])
        numbers = across.taps * shape[2]
        self.gather = layer_loops.gather(
            numbers if numbers <= layer_loops.UNROLLED_VALUES_MAX and across.dilation == 1 else 0
        )
        where = (down.before, across.before, across.outputs, down.taps, across.taps)
        self.steps = (*where, down.stride, across.stride, down.dilation, across.dilation)
        self.pointwise = all(axis.taps == axis.stride == 1 and not axis.before and not axis.after for axis in axes)
        self.places = self.output[0] * self.output[1]
        self.taps = math.prod(self.layer.kernels[1:]) * shape[2]
        self.at_once = max(1, _PIECE // (self.places * self.taps))

    @property
    def clips(self) -> bool:
        """Whether clipping costs no pass of its own: it is part of the loop that adds the bias."""
        return self.layer.bias

    def starts(self, rng: np.random.Generator) -> dict[str, Floats]:
        return draw_starts(self.layer.weights(self.shape), self.taps, rng)

    def bind(self, values: Values) -> None:
        super().bind(values)
        self.matrix = values["kernel"].reshape(self.taps, -1)

    def _windows(self, numbers: Floats, first: int, end: int, place: Place, *, again: bool = False) -> Floats:
        part = numbers[first:end]
        if self.pointwise:
            return part.reshape(-1, self.taps)
        windows = place.scratch.array("windows", end - first, self.places, self.taps)
        if not again:
            for picture, own in zip(part, windows, strict=True):
                self.gather(picture.reshape(len(picture), -1), own, *self.steps)
        return windows.reshape(-1, self.taps)

    def forward(self, numbers: Floats, place: Place, clip: Range = LINEAR) -> Floats:
        out = place.scratch.array("out", len(numbers), *self.output)
        place.kept["input"] = numbers
        for first in range(0, len(numbers), self.at_once):
            end = min(first + self.at_once, len(numbers))
            windows = self._windows(numbers, first, end, place)
            np.matmul(windows, self.matrix, out=out[first:end].reshape(len(windows), -1))
        if "bias" in self.values:
            tile = np.tile(self.values["bias"], max(1, 1024 // self.output[2]))
            layer_loops.shift(out.reshape(-1), tile, *clip)
        elif clip != LINEAR:
            layer_loops.shift(out.reshape(-1), NO_BIAS, *clip)
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
            add_bias_slopes(part, place)
            if place.first:
                continue
            if self.pointwise:
                np.matmul(part, self.matrix.T, out=back[first:end].reshape(len(windows), -1))
            else:
                np.matmul(part, self.matrix.T, out=windows)
                loops.scatter(rows_of(back[first:end]), windows, self.geometry)
        return back


class TiledConvolving(ClippingTrainable):
    """`conv 64x3x3` at stride 1: Winograd's way, see `cnnfilter.training.gradients.winograd_loops`; it takes 4
    products instead of 9."""

    layer: Convolution

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        down, across = cast(WindowLayer, layer).axes(*shape[:2])
        channels, maps = shape[2], self.output[2]
        tiles = -(-self.output[0] // 2), -(-self.output[1] // 2)
        self.down, self.across = tiles
        self.seen = np.array([*shape, *tiles, down.before, across.before], np.int64)
        self.given = np.array([*self.output, *tiles, 0, 0], np.int64)
        self.kernels = np.empty((16, channels, maps), np.float32)
        self.turned = np.empty((16, maps, channels), np.float32)
        self.bias = np.zeros(maps, np.float32)
        self.at_once = max(1, _PIECE // (16 * self.across * (channels + maps)))

    @staticmethod
    def fits(layer: Convolution, shape: Shape) -> bool:
        """Return whether a layer is of the kind."""
        plain = all(axis.taps == 3 and axis.stride == axis.dilation == 1 for axis in layer.axes(*shape[:2]))
        return plain and shape[2] % LANES == layer.kernels[0] % LANES == 0

    def starts(self, rng: np.random.Generator) -> dict[str, Floats]:
        return draw_starts(self.layer.weights(self.shape), 9 * self.shape[2], rng)

    def bind(self, values: Values) -> None:
        super().bind(values)
        np.matmul(_CARRY, values["kernel"].reshape(9, -1), out=self.kernels.reshape(16, -1))
        self.turned[...] = self.kernels.transpose(0, 2, 1)
        self.bias = values.get("bias", self.bias)

    def _pieces(self, pictures: int) -> list[tuple[int, int]]:
        """Return the rows of tiles of each piece: the first, and how many."""
        rows = pictures * self.down
        return [(first, min(self.at_once, rows - first)) for first in range(0, rows, self.at_once)]

    def _tiles(self, name: str, rows: int, maps: int, place: Place) -> Floats:
        return place.bench.array(name, 16, rows * self.across, maps)

    def forward(self, numbers: Floats, place: Place, clip: Range = LINEAR) -> Floats:
        out = place.scratch.array("out", len(numbers), *self.output)
        place.kept["input"] = numbers
        for first, rows in self._pieces(len(numbers)):
            seen = self._tiles("seen", rows, self.shape[2], place)
            given = self._tiles("given", rows, self.output[2], place)
            winograd_loops.to_tiles(numbers.reshape(-1), seen.reshape(-1), first, self.seen)
            np.matmul(seen, self.kernels, out=given)
            winograd_loops.out_of_tiles(out.reshape(-1), given.reshape(-1), first, self.given, self.bias, *clip)
        return out

    def backward(self, slopes: Floats, place: Place) -> Floats:
        numbers: Floats = place.kept["input"]
        back = slopes if place.first else place.scratch.array("back", *numbers.shape)
        total = place.bench.array("total", *self.kernels.shape)
        share = place.bench.array("share", *self.kernels.shape)
        total[...] = 0
        if not place.first:
            back[...] = 0
        for first, rows in self._pieces(len(numbers)):
            seen = self._tiles("seen", rows, self.shape[2], place)
            given = self._tiles("given", rows, self.output[2], place)
            winograd_loops.to_tiles(numbers.reshape(-1), seen.reshape(-1), first, self.seen)
            winograd_loops.into_tiles(slopes.reshape(-1), given.reshape(-1), first, self.given)
            np.matmul(seen.transpose(0, 2, 1), given, out=share)
            total += share
            if not place.first:
                np.matmul(given, self.turned, out=seen)
                winograd_loops.add_from_tiles(back.reshape(-1), seen.reshape(-1), first, self.seen)
        kernel = place.slopes["kernel"]
        kernel += (_CARRY.T @ total.reshape(16, -1)).reshape(kernel.shape)
        add_bias_slopes(slopes.reshape(-1, self.output[2]), place)
        return back


_CARRY = np.kron(winograd_loops.KERNEL_TRANSFORM, winograd_loops.KERNEL_TRANSFORM)


class DepthwiseConvolving(Trainable):
    """`depthwise 3x3`: each map with its own kernel."""

    layer: Depthwise

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        self.geometry = geometry_of(cast(WindowLayer, layer).axes(*shape[:2]), shape[2])

    def starts(self, rng: np.random.Generator) -> dict[str, Floats]:
        return draw_starts(self.layer.weights(self.shape), math.prod(self.layer.size), rng)

    def bind(self, values: Values) -> None:
        super().bind(values)
        self.matrix = values["kernel"].reshape(-1, self.shape[2])
        self.bias = values.get("bias", np.zeros(self.shape[2], np.float32))

    def forward(self, numbers: Floats, place: Place) -> Floats:
        out = place.scratch.array("out", len(numbers), *self.output)
        place.kept["input"] = numbers
        loops.depthwise(rows_of(numbers), self.matrix, self.bias, out.reshape(-1, self.output[2]), self.geometry)
        return out

    def backward(self, slopes: Floats, place: Place) -> Floats:
        numbers: Floats = place.kept["input"]
        back = place.scratch.array("back", *numbers.shape)
        rows = slopes.reshape(-1, self.output[2])
        gained = place.slopes["kernel"].reshape(self.matrix.shape)
        loops.depthwise_kernel_backward(rows_of(numbers), gained, rows, self.geometry)
        loops.depthwise_backward(rows_of(back), self.matrix, rows, self.geometry)
        add_bias_slopes(rows, place)
        return back
