"""Layers: from text and back, and what a stack of them makes of a picture.

Here are the layers that need no weights, each with what it computes; those with weights are in
`cnnfilter.layers.learned`. A batch is ``(N, H, W, C)`` float32, or ``(N, F)`` after ``flatten``, in the units of the
file.

What computes them is imported by the layer that needs it: most networks that are loaded have none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import CnnfilterError, ModelError, ShapeError
from cnnfilter.filters.windows import BORDERS, Axis, border_constant, window_axes
from cnnfilter.layers import grammar
from cnnfilter.layers.activations import NAMES as ACTIVATIONS
from cnnfilter.layers.activations import activate, find_activation
from cnnfilter.layers.grammar import Stage, flag, option, split_stages, word, words
from cnnfilter.layers.layer import Field, Layer, Shape, WindowLayer, show_shape, three_axes
from cnnfilter.layers.learned import BatchNorm, Convolution, Dense, Depthwise, Dropout, InvertedBottleneck
from cnnfilter.layers.names import in_layer, is_learned, name_of
from cnnfilter.runtime import buffers

if TYPE_CHECKING:
    from cnnfilter.kernels.lookup import KernelSet

Batch = NDArray[np.float32]

Empty = Callable[..., NDArray[Any]]
"""Makes an array with anything in it from its shape and dtype."""


# --- the layers without weights ------------------------------------------------------------------------


def _read_border(text: str) -> str | None:
    try:
        border_constant(text)
    except ShapeError:
        return None
    return text


def _batch(pictures: list[Batch]) -> Batch:
    """Return pictures as a batch; one of them is not copied for that."""
    return pictures[0][None] if len(pictures) == 1 else np.stack(pictures)


_KERNEL = grammar.Kind("a kernel (a name, or rows of numbers in quotes), or maps to learn as in 32x3x3", str)
_BORDER = grammar.Kind(f"{', '.join(BORDERS[:-1])} or {BORDERS[-1]}", _read_border)


@dataclass(frozen=True)
class FixedConvolution(WindowLayer):
    """`conv sobel-h blur`: every kernel on every map.

    C maps and K kernels give C * K maps: for the first map all kernels in their order, then for the second. A
    name for several, such as `sobel`, gives one map: the magnitude of the pair (`kirsch`: the largest of its
    eight).
    """

    name = "conv"
    example = "conv sobel-h"

    kernels: tuple[str, ...] = words(_KERNEL)
    stride: tuple[int, int] = option(grammar.PAIR, (1, 1))
    pad: str | tuple[int, int, int, int] = option(grammar.PADDING, "same")
    dilation: tuple[int, int] = option(grammar.PAIR, (1, 1))
    border: str = option(_BORDER, "zero")
    bias: float = option(grammar.NUMBER, 0.0)
    algorithms: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """That of each kernel, as `convolve` takes it; none means auto for all of them."""
    found: tuple[KernelSet, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from cnnfilter.kernels.lookup import find_kernels

        object.__setattr__(self, "found", tuple(find_kernels(kernel) for kernel in self.kernels))

    def axes(self, height: int, width: int) -> tuple[Axis, Axis]:
        return window_axes((height, width), self._taps(), stride=self.stride, dilation=self.dilation, padding=self.pad)

    def _taps(self) -> tuple[int, int]:
        """The window of the largest kernel; with `same` they need not be of one size."""
        sizes = [kernel.weights.shape for group in self.found for kernel in group]
        if self.pad != "same" and len(set(sizes)) > 1:
            given = ", ".join(show_shape(size) for size in dict.fromkeys(sizes))
            raise ShapeError(f"kernels of different sizes ({given}) give maps of different sizes; pad=same would do")
        return max(size[0] for size in sizes), max(size[1] for size in sizes)

    def maps(self, channels: int) -> int:
        return channels * len(self.kernels)

    def multiply_adds(self, shape: Shape) -> int:
        height, width, _ = self.output_shape(shape)
        taps = sum(kernel.weights.size for group in self.found for kernel in group)
        return height * width * three_axes(shape)[2] * taps

    def forward(self, batch: Batch) -> Batch:
        """Convolve every picture (N, H, W, C) to (N, H', W', C * K)."""
        return _batch([self.maps_of(picture) for picture in batch])

    def maps_of(self, picture: Batch, empty: Empty = buffers.empty) -> Batch:
        """Convolve one picture (H, W, C) to (H', W', C * K), in arrays that `empty` makes."""
        from cnnfilter.filters.convolution.convolve import filter_picture

        out: Batch | None = None
        algorithms = self.algorithms or ("auto",) * len(self.found)
        for number, (kernels, algorithm) in enumerate(zip(self.found, algorithms, strict=True)):
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
                empty=empty,
            ).pixels
            if len(self.found) == 1:
                return maps
            if out is None:
                out = empty((*maps.shape[:2], self.maps(maps.shape[2])), maps.dtype)
            out[:, :, number :: len(self.found)] = maps
        assert out is not None  # one kernel at least
        return out


class _Pool(WindowLayer):
    """What the three poolings share."""

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
        room = axis.size + axis.before + axis.after - axis.reach
        dropped = -(-room // axis.stride) + 1 - axis.outputs
        # In ceil mode a window that would start in the padding after the picture is dropped.
        return text.replace("floor", "ceil").replace("+ 1 =", "+ 1 - 1 =" if dropped else "+ 1 =")

    def forward(self, batch: Batch) -> Batch:
        """Pool every picture (N, H, W, C) to (N, H', W', C)."""
        return _batch([self.maps_of(picture) for picture in batch])

    def maps_of(self, picture: Batch, empty: Empty = buffers.empty) -> Batch:
        """Pool one picture (H, W, C) to (H', W', C), in an array that `empty` makes."""
        from cnnfilter.filters.pooling.pool import pool

        return pool(picture, self.op, size=self.size, **self._options(), empty=empty)


@dataclass(frozen=True)
class MaxPool(_Pool):
    """`maxpool 2`: the largest number of each window."""

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
    """`minpool 2`: the smallest number of each window."""

    name = "minpool"
    example = "minpool 3 stride=2"
    op = "min"


@dataclass(frozen=True)
class AvgPool(MaxPool):
    """`avgpool 2`: the mean of each window; zeros of the padding count."""

    name = "avgpool"
    example = "avgpool 3 stride=2"
    op = "avg"


@dataclass(frozen=True)
class GlobalPool(Layer):
    """`globalpool avg`: one number for each map."""

    name = "globalpool"
    example = "globalpool avg"

    op: str = word(grammar.MAX_OR_AVG, "avg")

    def output_shape(self, shape: Shape) -> Shape:
        return 1, 1, three_axes(shape)[2]

    def formula(self, shape: Shape) -> str:
        height, width, _ = three_axes(shape)
        return f"{height}x{width} -> 1x1"

    def receptive_field(self, field: Field | None, shape: Shape) -> Field | None:
        return None

    def forward(self, batch: Batch) -> Batch:
        """Pool every picture (N, H, W, C) to (N, 1, 1, C)."""
        from cnnfilter.filters.pooling.pool import global_pool

        return _batch([global_pool(picture, self.op) for picture in batch])


@dataclass(frozen=True)
class Activation(Layer):
    """`relu`, `leaky:0.1`, `softmax` …: a function of each number (softmax: of each place's maps)."""

    name = "relu"
    example = "leaky:0.1"

    function: str = word(grammar.Kind("an activation", str))

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


# Rec. 601 luma in the 16-bit fractions that Pillow uses for its mode L.
_LUMA = np.array([19595, 38470, 7471], np.float32) / np.float32(65536)


@dataclass(frozen=True)
class Gray(Layer):
    """`gray`: red, green and blue to one map of luma (Rec. 601, as Pillow's L); one map stays as it is."""

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
        """Give the luma (N, H, W, 1) of (N, H, W, 3)."""
        return batch if batch.shape[-1] == 1 else batch @ _LUMA[:, None]


@dataclass(frozen=True)
class Flatten(Layer):
    """`flatten`: all numbers of a picture in one row: line by line, and at each place map by map."""

    name = "flatten"
    example = "flatten"

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def formula(self, shape: Shape) -> str:
        return f"{' * '.join(map(str, shape))} = {math.prod(shape)}"

    def forward(self, batch: Batch) -> Batch:
        """Give (N, H * W * C) of (N, H, W, C)."""
        return batch.reshape(len(batch), -1)


# --- text to layers and back ---------------------------------------------------------------------------


def _read_convolution(stage: Stage) -> Layer:
    return Convolution.read(stage) if is_learned(stage) else FixedConvolution.read(stage)


_WEIGHTLESS: tuple[type[Layer], ...] = (MaxPool, AvgPool, MinPool, GlobalPool, Gray, Flatten, Dropout)
_LEARNED: tuple[type[Layer], ...] = (Depthwise, InvertedBottleneck, BatchNorm, Dense)

_READERS: dict[str, Callable[[Stage], Layer]] = {
    "conv": _read_convolution,
    **{layer.name: layer.read for layer in (*_WEIGHTLESS, *_LEARNED)},
    **{name.partition(":")[0]: Activation.read for name in ACTIVATIONS},
}


class Layers(tuple[Layer, ...]):
    """A stack of layers; ``str()`` gives its text, which reads back as the same stack."""

    def __str__(self) -> str:
        return " | ".join(map(str, self))

    @overload
    def __getitem__(self, index: SupportsIndex) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> Layers: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Layer | Layers:
        found = super().__getitem__(index)
        return Layers(found) if isinstance(index, slice) else found  # type: ignore[arg-type, return-value]

    def shapes(self, shape: Shape) -> Iterator[Shape]:
        """Give the shape that goes into each layer, and at last the one that comes out.

        Raises
        ------
        ShapeError
            Where a layer cannot take what the one before gives; it names the layer and the numbers.
        """
        yield shape
        for number, layer in enumerate(self, 1):
            try:
                shape = layer.output_shape(shape)
            except ShapeError as error:
                raise ShapeError(f"layer {number} '{layer}': {error}") from error
            yield shape

    def output_shape(self, shape: Shape) -> Shape:
        """Give the shape that comes out at the end; ShapeError as in `shapes`."""
        *_, last = self.shapes(shape)
        return last


def parse_layers(text: str) -> Layers:
    """Read a stack of layers from its text.

    Parameters
    ----------
    text : str
        Layers between ``|``; words between spaces; options as ``key=value``; a kernel of numbers in quotes.

    Raises
    ------
    ModelError
        For a text that is not of this grammar; it names the layer and what would do.
    KernelError
        For a kernel that is not one.

    Examples
    --------
    >>> layers = parse_layers("conv 32x3x3 | relu | maxpool 2,2 | flatten | dense 10")
    >>> str(layers)
    'conv 32x3x3 | relu | maxpool 2 | flatten | dense 10'
    >>> layers.output_shape((28, 28, 1))
    (10,)
    """
    return Layers(_read(number, stage) for number, stage in enumerate(split_stages(text), 1))


def _read(number: int, stage: Stage) -> Layer:
    try:
        return _READERS[name_of(stage)](stage)
    except CnnfilterError as error:
        raise in_layer(number, stage, error) from error


# --- a picture through the layers ----------------------------------------------------------------------


def run_layers(pixels: NDArray[Any], layers: Layers | str) -> Batch:
    """Send one picture through layers that need no learned weights.

    Parameters
    ----------
    pixels : (H, W) or (H, W, C) array
    layers : Layers or str

    Returns
    -------
    (H', W', C') float32 array
        The maps; flat numbers come as (1, 1, F).

    Raises
    ------
    ShapeError
        Where a layer does not fit what the one before gives.
    ModelError
        For a layer that has learned weights.

    Examples
    --------
    >>> import numpy as np
    >>> corner = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]], np.uint8)
    >>> run_layers(corner, "conv '-1 1' pad=valid | maxpool 2,1")[:, :, 0]
    array([[1., 0., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    layers = parse_layers(layers) if isinstance(layers, str) else layers
    refuse_learned(layers)
    batch = np.asarray(pixels, np.float32)[None]
    batch = batch[..., None] if batch.ndim == 3 else batch
    layers.output_shape(batch.shape[1:])  # refuses what does not fit before any work
    for layer in layers:
        batch = layer.forward(batch)  # type: ignore[attr-defined]  # every layer without weights has it
    return batch[None] if batch.ndim == 2 else np.ascontiguousarray(batch[0])


def refuse_learned(layers: Layers) -> None:
    """Raise ModelError for the first layer whose weights its text does not give."""
    for number, layer in enumerate(layers, 1):
        if layer.learned:
            raise ModelError(
                f"layer {number} '{layer}' has learned weights, which its text does not give; "
                "a fixed kernel such as 'conv sobel-h' would do"
            )
