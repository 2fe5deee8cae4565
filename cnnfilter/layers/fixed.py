"""The layers without learned weights: fixed kernels, pools, activations, grey and flatten.

Each is a dataclass that reads its text, gives its shapes, and computes in `forward`. Filtering itself is left to
`cnnfilter.filters`, whose modules are imported on first use, as most networks have none of these filters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ModelError, ShapeError
from cnnfilter.filters.windows import BORDERS, Axis, border_constant, window_axes
from cnnfilter.layers import grammar
from cnnfilter.layers.activations import activate, find_activation
from cnnfilter.layers.grammar import Stage, flag, option, word, words
from cnnfilter.layers.layer import Layer, ReceptiveField, Shape, WindowLayer, show_shape, three_axes

if TYPE_CHECKING:
    from cnnfilter.kernels.kernel import KernelSet


Batch = NDArray[np.float32]


Allocate = Callable[..., NDArray[Any]]
"""Makes an array of a shape and dtype without setting its values."""


def _read_border(text: str) -> str | None:
    try:
        border_constant(text)
    except ShapeError:
        return None
    return text


def _stack_batch(pictures: list[Batch]) -> Batch:
    """Return pictures as a batch, without a copy if there is only one."""
    return pictures[0][None] if len(pictures) == 1 else np.stack(pictures)


_KERNEL = grammar.WordType("a kernel (a name, or rows of numbers in quotes), or maps to learn as in 32x3x3", str)


_BORDER = grammar.WordType(f"{', '.join(BORDERS[:-1])} or {BORDERS[-1]}", _read_border)


@dataclass(frozen=True)
class FixedConvolution(WindowLayer):
    """`conv sobel-h blur`: every kernel on every map.

    C maps and K kernels give C * K maps: the first map with each kernel in order, then the second map, and so on. A
    name that stands for several kernels gives one map: `sobel` the magnitude of its pair, `kirsch` the largest of
    its eight. The edges of the maps are repeated around them, as in `convolve`; learned layers have zeros there.
    """

    name = "conv"
    example = "conv sobel-h"

    kernels: tuple[str, ...] = words(_KERNEL)
    stride: tuple[int, int] = option(grammar.PAIR, (1, 1))
    pad: str | tuple[int, int, int, int] = option(grammar.PADDING, "same")
    dilation: tuple[int, int] = option(grammar.PAIR, (1, 1))
    border: str = option(_BORDER, "replicate")
    bias: float = option(grammar.NUMBER, 0.0)
    algorithms: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """The algorithm of each kernel, as `convolve` takes it; empty means auto for all."""
    kernel_sets: tuple[KernelSet, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from cnnfilter.kernels.lookup import find_kernels

        object.__setattr__(self, "kernel_sets", tuple(find_kernels(kernel) for kernel in self.kernels))

    def axes(self, height: int, width: int) -> tuple[Axis, Axis]:
        return window_axes(
            (height, width), self._kernel_size(), stride=self.stride, dilation=self.dilation, padding=self.pad
        )

    def _kernel_size(self) -> tuple[int, int]:
        """Return the height and width that hold every kernel; sizes may differ only with ``pad=same``."""
        sizes = [kernel.weights.shape for group in self.kernel_sets for kernel in group]
        if self.pad != "same" and len(set(sizes)) > 1:
            given = ", ".join(show_shape(size) for size in dict.fromkeys(sizes))
            raise ShapeError(f"kernels of different sizes ({given}) give maps of different sizes; pad=same would do")
        return max(size[0] for size in sizes), max(size[1] for size in sizes)

    def maps(self, channels: int) -> int:
        return channels * len(self.kernels)

    def keeps_channels(self, shape: Shape) -> bool:
        return len(self.kernels) == 1

    def multiply_adds(self, shape: Shape) -> int:
        height, width, _ = self.output_shape(shape)
        taps = sum(kernel.weights.size for group in self.kernel_sets for kernel in group)
        return height * width * three_axes(shape)[2] * taps

    def forward(self, batch: Batch) -> Batch:
        """Convolve every picture (N, H, W, C) to (N, H', W', C * K)."""
        return _stack_batch([self.maps_of(picture) for picture in batch])

    def maps_of(self, picture: Batch, allocate: Allocate = np.empty) -> Batch:
        """Convolve one picture (H, W, C) to (H', W', C * K), into arrays that `allocate` makes."""
        from cnnfilter.filters.convolution.convolve import filter_picture

        out: Batch | None = None
        algorithms = self.algorithms or ("auto",) * len(self.kernel_sets)
        for number, (kernels, algorithm) in enumerate(zip(self.kernel_sets, algorithms, strict=True)):
            maps = filter_picture(
                picture,
                [kernels],
                stride=self.stride,
                padding=self.pad,
                border=self.border,
                dilation=self.dilation,
                bias=self.bias,
                algorithm=algorithm,
                dtype=np.float32,
                allocate=allocate,
            ).pixels
            if len(self.kernel_sets) == 1:
                return maps
            if out is None:
                out = allocate((*maps.shape[:2], self.maps(maps.shape[2])), maps.dtype)
            out[:, :, number :: len(self.kernel_sets)] = maps
        assert out is not None  # there is at least one kernel
        return out


class _Pool(WindowLayer):
    """The shapes and the computation of the three poolings."""

    op: ClassVar[str]
    size: tuple[int, int]
    stride: tuple[int, int] | None
    pad: tuple[int, int, int, int]
    dilation: tuple[int, int]
    ceil: bool

    def axes(self, height: int, width: int) -> tuple[Axis, Axis]:
        from cnnfilter.filters.pooling.pool import pool_axes

        return pool_axes(height, width, self.size, **self._options())

    def _options(self) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": self.pad,
            "dilation": self.dilation,
            "ceil_mode": self.ceil,
        }

    def axis_formula(self, axis: Axis) -> str:
        text = super().axis_formula(axis)
        if not self.ceil:
            return text
        last_start = axis.size + axis.before + axis.after - axis.reach
        # In ceil mode a window that would start in the padding after the picture is dropped.
        dropped = -(-last_start // axis.stride) + 1 - axis.outputs
        return text.replace("floor", "ceil").replace("+ 1 =", "+ 1 - 1 =" if dropped else "+ 1 =")

    def forward(self, batch: Batch) -> Batch:
        """Pool every picture (N, H, W, C) to (N, H', W', C)."""
        return _stack_batch([self.maps_of(picture) for picture in batch])

    def maps_of(self, picture: Batch, allocate: Allocate = np.empty) -> Batch:
        """Pool one picture (H, W, C) to (H', W', C), into an array that `allocate` makes."""
        from cnnfilter.filters.pooling.pool import pool_picture

        return pool_picture(picture, self.op, size=self.size, **self._options(), allocate=allocate)


@dataclass(frozen=True)
class MaxPool(_Pool):
    """`maxpool 2`: the largest value of each window."""

    name = "maxpool"
    example = "maxpool 3 stride=2"
    op = "max"

    size: tuple[int, int] = word(grammar.PAIR)
    stride: tuple[int, int] | None = option(grammar.PAIR, None)
    pad: tuple[int, int, int, int] = option(grammar.SIDES, (0, 0, 0, 0))
    dilation: tuple[int, int] = option(grammar.PAIR, (1, 1))
    ceil: bool = flag()


@dataclass(frozen=True)
class MinPool(MaxPool):
    """`minpool 2`: the smallest value of each window."""

    name = "minpool"
    example = "minpool 3 stride=2"
    op = "min"


@dataclass(frozen=True)
class AvgPool(MaxPool):
    """`avgpool 2`: the mean of each window, in which padding counts as zeros."""

    name = "avgpool"
    example = "avgpool 3 stride=2"
    op = "avg"


@dataclass(frozen=True)
class GlobalPool(Layer):
    """`globalpool avg`: the mean or the largest value of each map."""

    name = "globalpool"
    example = "globalpool avg"

    op: str = word(grammar.MAX_OR_AVG, "avg")

    def output_shape(self, shape: Shape) -> Shape:
        return 1, 1, three_axes(shape)[2]

    def formula(self, shape: Shape) -> str:
        height, width, _ = three_axes(shape)
        return f"{height}x{width} -> 1x1"

    def receptive_field(self, field: ReceptiveField | None, shape: Shape) -> ReceptiveField | None:
        return None

    def forward(self, batch: Batch) -> Batch:
        """Pool every picture (N, H, W, C) to (N, 1, 1, C)."""
        from cnnfilter.filters.pooling.pool import global_pool

        return _stack_batch([global_pool(picture, self.op) for picture in batch])


@dataclass(frozen=True)
class Activation(Layer):
    """`relu`, `leaky:0.1`, `softmax` …: a function of each value (softmax: of all maps at each pixel)."""

    name = "relu"
    example = "leaky:0.1"

    function: str = word(grammar.WordType("an activation", str))

    @classmethod
    def read(cls, stage: Stage) -> Self:
        find_activation(stage.words[0])
        if surplus := [*stage.words[1:], *(f"{key}={value}" for key, value in stage.options.items())]:
            raise ModelError(f"{stage.words[0]} takes nothing more, not {surplus[0]!r}")
        return cls(stage.words[0])

    def __str__(self) -> str:
        return self.function

    def forward(self, batch: Batch) -> Batch:
        """Apply the function to (N, H, W, C) or (N, F)."""
        return activate(batch, self.function)


# Rec. 601 luma in the 16-bit fractions that Pillow uses for its mode L, so that the rounded result equals Pillow's.
# `cnnfilter.networks.preparation` uses the decimal fractions. The two give different bytes for 8,824 of the
# 2**24 colours, so that one definition for both would change results.
_LUMA_WEIGHTS = np.array([19595, 38470, 7471], np.float32) / np.float32(65536)


@dataclass(frozen=True)
class Gray(Layer):
    """`gray`: one map of luma (Rec. 601, as Pillow's L) from red, green and blue; one map stays as it is."""

    name = "gray"
    example = "gray"

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = three_axes(shape)
        if channels not in (1, 3):
            raise ShapeError(f"needs 3 maps (red, green, blue) or 1, and gets {channels}; it must come first")
        return height, width, 1

    def multiply_adds(self, shape: Shape) -> int:
        return math.prod(shape) if shape[-1] == 3 else 0

    def forward(self, batch: Batch) -> Batch:
        """Return the luma (N, H, W, 1) of (N, H, W, 3)."""
        return batch if batch.shape[-1] == 1 else batch @ _LUMA_WEIGHTS[:, None]


@dataclass(frozen=True)
class Flatten(Layer):
    """`flatten`: all values of a picture in one row: row by row, pixel by pixel, map by map."""

    name = "flatten"
    example = "flatten"

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def keeps_channels(self, shape: Shape) -> bool:
        return math.prod(shape) == shape[-1]

    def formula(self, shape: Shape) -> str:
        return f"{' * '.join(map(str, shape))} = {math.prod(shape)}"

    def forward(self, batch: Batch) -> Batch:
        """Return (N, H, W, C) as (N, H * W * C)."""
        return batch.reshape(len(batch), -1)
