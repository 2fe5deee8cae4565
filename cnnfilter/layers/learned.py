"""The layers with learned weights, and dropout: their text, shapes, weights and costs.

Weights are named as in a model file: `kernel` is (kH, kW, I, O), `bias` is (O,). Running these layers is left to
`cnnfilter.networks`, training them to `cnnfilter.training`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from cnnfilter.errors import ShapeError, count_text
from cnnfilter.filters.windows import Axis, window_axes
from cnnfilter.layers import grammar
from cnnfilter.layers.grammar import option, word
from cnnfilter.layers.layer import Layer, ReceptiveField, Shape, WindowLayer, show_shape, three_axes


@dataclass(frozen=True)
class Convolution(WindowLayer):
    """`conv 32x3x3`: learned kernels, each across all maps, with a border of zeros."""

    name = "conv"
    example = "conv 32x3x3"
    learned = True

    kernels: tuple[int, int, int] = word(grammar.KERNELS)
    stride: tuple[int, int] = option(grammar.PAIR, (1, 1))
    pad: str | tuple[int, int, int, int] = option(grammar.PADDING, "same")
    dilation: tuple[int, int] = option(grammar.PAIR, (1, 1))
    bias: bool = option(grammar.YES_NO, True)

    def axes(self, height: int, width: int) -> tuple[Axis, Axis]:
        return window_axes(
            (height, width), self.kernels[1:], stride=self.stride, dilation=self.dilation, padding=self.pad
        )

    def maps(self, channels: int) -> int:
        return self.kernels[0]

    def keeps_channels(self, shape: Shape) -> bool:
        return self.kernels[0] == shape[-1] == 1

    def weights(self, shape: Shape) -> dict[str, Shape]:
        return _with_bias((*self.kernels[1:], three_axes(shape)[2], self.kernels[0]), self.bias)

    def multiply_adds(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * math.prod(self.kernels[1:]) * three_axes(shape)[2]


@dataclass(frozen=True)
class Depthwise(WindowLayer):
    """`depthwise 3x3`: one learned kernel for each map, with a border of zeros."""

    name = "depthwise"
    example = "depthwise 3x3"
    learned = True

    size: tuple[int, int] = word(grammar.SIZE)
    stride: tuple[int, int] = option(grammar.PAIR, (1, 1))
    pad: str | tuple[int, int, int, int] = option(grammar.PADDING, "same")
    dilation: tuple[int, int] = option(grammar.PAIR, (1, 1))
    bias: bool = option(grammar.YES_NO, True)

    def axes(self, height: int, width: int) -> tuple[Axis, Axis]:
        return window_axes((height, width), self.size, stride=self.stride, dilation=self.dilation, padding=self.pad)

    def weights(self, shape: Shape) -> dict[str, Shape]:
        channels = three_axes(shape)[2]
        return {"kernel": (*self.size, channels, 1)} | ({"bias": (channels,)} if self.bias else {})

    def multiply_adds(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * math.prod(self.size)


@dataclass(frozen=True)
class InvertedBottleneck(WindowLayer):
    """`mbconv 24x3x3 expand=6`, the inverted bottleneck of MobileNetV2 (Sandler et al. 2018, section 3).

    A 1x1 convolution to `expand` times the maps, a depthwise convolution, and a 1x1 convolution to the output maps.
    relu6 follows the first two; the third stays linear. The input is added if it has the shape of the output. Batch
    norm is folded into the three convolutions: each has a bias.
    """

    name = "mbconv"
    example = "mbconv 24x3x3 expand=6 stride=2"
    learned = True

    kernels: tuple[int, int, int] = word(grammar.KERNELS)
    expand: int = option(grammar.INTEGER, 6, always=True)
    stride: tuple[int, int] = option(grammar.PAIR, (1, 1))
    pad: str | tuple[int, int, int, int] = option(grammar.PADDING, "same")

    def axes(self, height: int, width: int) -> tuple[Axis, Axis]:
        return window_axes((height, width), self.kernels[1:], stride=self.stride, padding=self.pad)

    def maps(self, channels: int) -> int:
        return self.kernels[0]

    def keeps_channels(self, shape: Shape) -> bool:
        return self.kernels[0] == shape[-1] == 1

    def residual(self, shape: Shape) -> bool:
        """Return whether the input is added to the output."""
        return self.stride == (1, 1) and self.output_shape(shape) == shape

    def stages(self, shape: Shape) -> dict[str, Convolution | Depthwise]:
        """Return its convolutions in order, by their names in a model file; ``expand=1`` has no `expand`."""
        wide = three_axes(shape)[2] * self.expand
        expand = {"expand": Convolution((wide, 1, 1))} if self.expand > 1 else {}
        return {
            **expand,
            "depthwise": Depthwise(self.kernels[1:], self.stride, self.pad),
            "project": Convolution((self.kernels[0], 1, 1)),
        }

    def weights(self, shape: Shape) -> dict[str, Shape]:
        named: dict[str, Shape] = {}
        for part, layer in self.stages(shape).items():
            named |= {f"{part}.{tensor}": size for tensor, size in layer.weights(shape).items()}
            shape = layer.output_shape(shape)
        return named

    def multiply_adds(self, shape: Shape) -> int:
        total = 0
        for layer in self.stages(shape).values():
            total += layer.multiply_adds(shape)
            shape = layer.output_shape(shape)
        return total


@dataclass(frozen=True)
class BatchNorm(Layer):
    """`batchnorm`: each map with mean 0 and variance 1, then scaled and shifted by learned parameters."""

    name = "batchnorm"
    example = "batchnorm"
    learned = True

    def weights(self, shape: Shape) -> dict[str, Shape]:
        return {"scale": shape[-1:], "shift": shape[-1:]}

    def multiply_adds(self, shape: Shape) -> int:
        return math.prod(shape)


@dataclass(frozen=True)
class Dropout(Layer):
    """`dropout 0.3`: in training, sets that share of the values to 0; otherwise it changes nothing."""

    name = "dropout"
    example = "dropout 0.3"

    share: float = word(grammar.SHARE, 0.5)

    def forward(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the batch unchanged, as outside training."""
        return batch


@dataclass(frozen=True)
class Dense(Layer):
    """`dense 10`: outputs that each are a learned weighted sum of all inputs."""

    name = "dense"
    example = "dense 10"
    learned = True

    outputs: int = word(grammar.INTEGER)
    bias: bool = option(grammar.YES_NO, True)

    def output_shape(self, shape: Shape) -> Shape:
        if math.prod(shape) != shape[-1]:
            raise ShapeError(
                f"needs flat numbers and gets maps of {show_shape(shape)}; put 'flatten' (which gives "
                f"{count_text(math.prod(shape), 'number')}) or 'globalpool avg' ({shape[-1]}) before it"
            )
        return (self.outputs,)

    def keeps_channels(self, shape: Shape) -> bool:
        return self.outputs == shape[-1] == 1

    def formula(self, shape: Shape) -> str:
        return f"{math.prod(shape)} -> {self.outputs}"

    def weights(self, shape: Shape) -> dict[str, Shape]:
        return _with_bias((math.prod(shape), self.outputs), self.bias)

    def multiply_adds(self, shape: Shape) -> int:
        return math.prod(shape) * self.outputs

    def receptive_field(self, field: ReceptiveField | None, shape: Shape) -> ReceptiveField | None:
        return None


def _with_bias(kernel: Shape, bias: bool) -> dict[str, Shape]:
    return {"kernel": kernel, "bias": kernel[-1:]} if bias else {"kernel": kernel}
