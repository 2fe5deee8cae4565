"""Trainable convolutions: by matrix products of windows, by Winograd's transform, and map by map.

The loops are in `gradient_loops`, `winograd_loops` and `cnnfilter.networks.layer_loops`.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from cnnfilter.layers.layer import Layer, Shape, WindowLayer
from cnnfilter.layers.learned import Convolution, Depthwise
from cnnfilter.networks import layer_loops
from cnnfilter.networks.map_convolutions import BIAS_TILE_VALUES, LINEAR, ClipRange
from cnnfilter.training.gradients import gradient_loops as loops
from cnnfilter.training.gradients import winograd_loops
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

_PIECE_VALUES = 1 << 18
"""Values of the windows or tiles of a piece: 1 MiB of float32, half of a usual second-level cache."""


class TrainableConvolution(ClippingLayer):
    """`conv 32x3x3`: copies of all windows as the rows of a matrix, multiplied by the matrix of the kernels."""

    layer: Convolution

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        axes = cast(WindowLayer, layer).axes(*shape[:2])
        down, across = axes
        self.geometry = geometry_of(axes, shape[2])
        row = across.taps * shape[2]
        self.gather = layer_loops.gather(row if row <= layer_loops.UNROLLED_VALUES_MAX and across.dilation == 1 else 0)
        window = (down.before, across.before, across.outputs, down.taps, across.taps)
        self.gather_arguments = (*window, down.stride, across.stride, down.dilation, across.dilation)
        self.pointwise = all(axis.taps == axis.stride == 1 and not axis.before and not axis.after for axis in axes)
        self.positions = self.output[0] * self.output[1]
        self.taps = math.prod(self.layer.kernels[1:]) * shape[2]
        self.pictures_per_piece = max(1, _PIECE_VALUES // (self.positions * self.taps))

    @property
    def clips(self) -> bool:
        """Return whether clipping needs no extra pass: the loop that adds the bias does it."""
        return self.layer.bias

    def initial_values(self, rng: np.random.Generator) -> dict[str, Floats]:
        return draw_initial_values(self.layer.weights(self.shape), self.taps, rng)

    def bind(self, values: Values) -> None:
        super().bind(values)
        self.matrix = values["kernel"].reshape(self.taps, -1)

    def _windows(self, inputs: Floats, first: int, end: int, context: Context, *, again: bool = False) -> Floats:
        """Return the windows of some pictures (P, kH·kW·C); with `again` those that the last call has made."""
        part = inputs[first:end]
        if self.pointwise:
            return part.reshape(-1, self.taps)
        windows = context.scratch.array("windows", end - first, self.positions, self.taps)
        if not again:
            for picture, own in zip(part, windows, strict=True):
                self.gather(picture.reshape(len(picture), -1), own, *self.gather_arguments)
        return windows.reshape(-1, self.taps)

    def forward(self, inputs: Floats, context: Context, clip: ClipRange = LINEAR) -> Floats:
        out = context.scratch.array("out", len(inputs), *self.output)
        context.saved["input"] = inputs
        for first in range(0, len(inputs), self.pictures_per_piece):
            end = min(first + self.pictures_per_piece, len(inputs))
            windows = self._windows(inputs, first, end, context)
            np.matmul(windows, self.matrix, out=out[first:end].reshape(len(windows), -1))
        if "bias" in self.values:
            tile = np.tile(self.values["bias"], max(1, BIAS_TILE_VALUES // self.output[2]))
            layer_loops.shift(out.reshape(-1), tile, *clip)
        elif clip != LINEAR:
            layer_loops.shift(out.reshape(-1), ZERO_BIAS, *clip)
        return out

    def backward(self, gradients: Floats, context: Context) -> Floats:
        inputs: Floats = context.saved["input"]
        back = context.scratch.array("back", *inputs.shape) if not context.needs_no_input_gradient else gradients
        part_gradient = context.scratch.array("part gradient", *self.matrix.shape)
        kernel_gradient = context.gradients["kernel"].reshape(self.matrix.shape)
        for first in range(0, len(inputs), self.pictures_per_piece):
            end = min(first + self.pictures_per_piece, len(inputs))
            # If there is only one piece, its windows are still in memory from the forward pass.
            windows = self._windows(inputs, first, end, context, again=len(inputs) <= self.pictures_per_piece)
            part = gradients[first:end].reshape(len(windows), -1)
            np.matmul(windows.T, part, out=part_gradient)
            kernel_gradient += part_gradient
            add_bias_gradient(part, context)
            if context.needs_no_input_gradient:
                continue
            if self.pointwise:
                np.matmul(part, self.matrix.T, out=back[first:end].reshape(len(windows), -1))
            else:
                np.matmul(part, self.matrix.T, out=windows)
                loops.scatter(rows_of(back[first:end]), windows, self.geometry)
        return back


class TrainableWinogradConvolution(ClippingLayer):
    """`conv 64x3x3` at stride 1 by Winograd's transform, which takes 4 multiplications an output instead of 9.

    See `cnnfilter.training.gradients.winograd_loops`. The loops are vectors over the maps, so the numbers of maps must
    be multiples of the length of a vector.
    """

    layer: Convolution

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        down, across = cast(WindowLayer, layer).axes(*shape[:2])
        channels, maps = shape[2], self.output[2]
        tiles = -(-self.output[0] // 2), -(-self.output[1] // 2)
        self.tile_rows, self.tile_columns = tiles
        self.input_geometry = np.array([*shape, *tiles, down.before, across.before], np.int64)
        self.output_geometry = np.array([*self.output, *tiles, 0, 0], np.int64)
        self.transformed_kernels = np.empty((16, channels, maps), np.float32)
        self.transposed_kernels = np.empty((16, maps, channels), np.float32)
        self.bias = np.zeros(maps, np.float32)
        self.tile_rows_per_piece = max(1, _PIECE_VALUES // (16 * self.tile_columns * (channels + maps)))

    @staticmethod
    def fits(layer: Convolution, shape: Shape) -> bool:
        """Return whether a layer can be computed so, for inputs of a shape."""
        plain = all(axis.taps == 3 and axis.stride == axis.dilation == 1 for axis in layer.axes(*shape[:2]))
        return plain and not any(maps % winograd_loops.MAPS_MULTIPLE for maps in (shape[2], layer.kernels[0]))

    def initial_values(self, rng: np.random.Generator) -> dict[str, Floats]:
        return draw_initial_values(self.layer.weights(self.shape), 9 * self.shape[2], rng)

    def bind(self, values: Values) -> None:
        super().bind(values)
        np.matmul(_KERNEL_TRANSFORM_2D, values["kernel"].reshape(9, -1), out=self.transformed_kernels.reshape(16, -1))
        self.transposed_kernels[...] = self.transformed_kernels.transpose(0, 2, 1)
        self.bias = values.get("bias", self.bias)

    def _pieces(self, pictures: int) -> list[tuple[int, int]]:
        """Return the first row of tiles and the number of rows of each piece."""
        rows = pictures * self.tile_rows
        return [
            (first, min(self.tile_rows_per_piece, rows - first)) for first in range(0, rows, self.tile_rows_per_piece)
        ]

    def _tiles(self, name: str, rows: int, maps: int, context: Context) -> Floats:
        """Return memory for some rows of transformed tiles, (16, tiles, maps)."""
        return context.temporary.array(name, 16, rows * self.tile_columns, maps)

    def forward(self, inputs: Floats, context: Context, clip: ClipRange = LINEAR) -> Floats:
        out = context.scratch.array("out", len(inputs), *self.output)
        context.saved["input"] = inputs
        for first, rows in self._pieces(len(inputs)):
            input_tiles = self._tiles("input tiles", rows, self.shape[2], context)
            output_tiles = self._tiles("output tiles", rows, self.output[2], context)
            winograd_loops.to_tiles(inputs.reshape(-1), input_tiles.reshape(-1), first, self.input_geometry)
            np.matmul(input_tiles, self.transformed_kernels, out=output_tiles)
            winograd_loops.out_of_tiles(
                out.reshape(-1), output_tiles.reshape(-1), first, self.output_geometry, self.bias, *clip
            )
        return out

    def backward(self, gradients: Floats, context: Context) -> Floats:
        inputs: Floats = context.saved["input"]
        back = gradients if context.needs_no_input_gradient else context.scratch.array("back", *inputs.shape)
        total = context.temporary.array("total", *self.transformed_kernels.shape)
        part_gradient = context.temporary.array("part gradient", *self.transformed_kernels.shape)
        total[...] = 0
        if not context.needs_no_input_gradient:
            back[...] = 0
        for first, rows in self._pieces(len(inputs)):
            input_tiles = self._tiles("input tiles", rows, self.shape[2], context)
            output_tiles = self._tiles("output tiles", rows, self.output[2], context)
            winograd_loops.to_tiles(inputs.reshape(-1), input_tiles.reshape(-1), first, self.input_geometry)
            winograd_loops.into_tiles(gradients.reshape(-1), output_tiles.reshape(-1), first, self.output_geometry)
            np.matmul(input_tiles.transpose(0, 2, 1), output_tiles, out=part_gradient)
            total += part_gradient
            if not context.needs_no_input_gradient:
                np.matmul(output_tiles, self.transposed_kernels, out=input_tiles)
                winograd_loops.add_from_tiles(back.reshape(-1), input_tiles.reshape(-1), first, self.input_geometry)
        kernel = context.gradients["kernel"]
        kernel += (_KERNEL_TRANSFORM_2D.T @ total.reshape(16, -1)).reshape(kernel.shape)
        add_bias_gradient(gradients.reshape(-1, self.output[2]), context)
        return back


_KERNEL_TRANSFORM_2D = np.kron(winograd_loops.KERNEL_TRANSFORM, winograd_loops.KERNEL_TRANSFORM)
"""The transform of kernels as one matrix (16, 9)."""


class TrainableDepthwise(TrainableLayer):
    """`depthwise 3x3`: each map is convolved with a kernel of its own."""

    layer: Depthwise

    def __init__(self, layer: Layer, shape: Shape) -> None:
        super().__init__(layer, shape)
        self.geometry = geometry_of(cast(WindowLayer, layer).axes(*shape[:2]), shape[2])

    def initial_values(self, rng: np.random.Generator) -> dict[str, Floats]:
        return draw_initial_values(self.layer.weights(self.shape), math.prod(self.layer.size), rng)

    def bind(self, values: Values) -> None:
        super().bind(values)
        self.matrix = values["kernel"].reshape(-1, self.shape[2])
        self.bias = values.get("bias", np.zeros(self.shape[2], np.float32))

    def forward(self, inputs: Floats, context: Context) -> Floats:
        out = context.scratch.array("out", len(inputs), *self.output)
        context.saved["input"] = inputs
        loops.depthwise(rows_of(inputs), self.matrix, self.bias, out.reshape(-1, self.output[2]), self.geometry)
        return out

    def backward(self, gradients: Floats, context: Context) -> Floats:
        inputs: Floats = context.saved["input"]
        back = context.scratch.array("back", *inputs.shape)
        rows = gradients.reshape(-1, self.output[2])
        kernel_gradient = context.gradients["kernel"].reshape(self.matrix.shape)
        loops.depthwise_kernel_backward(rows_of(inputs), kernel_gradient, rows, self.geometry)
        loops.depthwise_backward(rows_of(back), self.matrix, rows, self.geometry)
        add_bias_gradient(rows, context)
        return back
