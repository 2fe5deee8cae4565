"""The positions of a sliding window: its size, stride, dilation and padding, and the samples of the border.

Each axis is treated by itself. A position on the *padded* axis runs from 0 to ``size + before + after − 1``; output
`o` of a window sees the padded positions ``o·stride + i·dilation`` for each of its taps `i`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnfilter.errors import ShapeError

if TYPE_CHECKING:
    import numpy as np

Pair = int | tuple[int, int]
Padding = str | int | tuple[int, int] | tuple[int, int, int, int]

BORDERS = ("replicate", "reflect", "symmetric", "wrap", "zero", "constant:V")
"""The borders: values of the padding; see `source_positions` and `border_constant`."""

NEAR_BORDERS = ("replicate", "zero", "constant")
"""The borders that repeat no samples of the image but those at its edge."""


@dataclass(frozen=True)
class Axis:
    """A window of `taps` taps, `dilation` apart, that moves in steps of `stride` along `size` samples."""

    size: int
    taps: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def reach(self) -> int:
        """Return the number of samples from the first tap to the last one."""
        return self.dilation * (self.taps - 1) + 1

    @property
    def outputs(self) -> int:
        """Return floor((size + before + after − dilation·(taps − 1) − 1) / stride) + 1."""
        return (self.size + self.before + self.after - self.reach) // self.stride + 1

    @property
    def sampling(self) -> tuple[float, float]:
        """Return the step from output to output, and the edge before the first one, in samples of the input.

        Each output is at the centre of its window, and as wide as the stride.

        >>> Axis(10, taps=2, stride=2).sampling, Axis(10, taps=3).sampling, Axis(10, taps=3, before=1).sampling
        ((2, 0.0), (1, 1.0), (1, 0.0))
        """
        return self.stride, (self.reach - self.stride) / 2 - self.before


class RowBand(NamedTuple):
    """The rows of a picture that a band of outputs sees.

    Attributes
    ----------
    start, stop : the first row, and the row after the last one
    before, after : the padding around these rows
    """

    start: int
    stop: int
    before: int
    after: int

    @classmethod
    def of(cls, axis: Axis, first: int, end: int) -> RowBand:
        """Return the rows that the outputs `first` to `end` see; no more padding after them than the axis has.

        >>> RowBand.of(Axis(10, taps=3, before=1, after=1), 4, 6)
        RowBand(start=3, stop=7, before=0, after=0)
        """
        begin = first * axis.stride - axis.before
        over = (end - 1) * axis.stride + axis.reach - axis.before
        before, after = max(-begin, 0), min(max(over - axis.size, 0), axis.after)
        return cls(max(begin, 0), min(over, axis.size), before, after)


def same_padding(size: int, taps: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """Return the padding before and after an axis that gives ceil(size / stride) outputs.

    The smaller half goes before, as in TensorFlow's SAME and ONNX's SAME_UPPER.

    >>> same_padding(5, 3), same_padding(4, 3, stride=2), same_padding(5, 4)
    ((1, 1), (0, 1), (1, 2))
    """
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + dilation * (taps - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def whole_numbers(value: Any) -> tuple[int, ...]:
    """Return one integer or several as a tuple, which is empty if a value is not an integer.

    >>> whole_numbers(2), whole_numbers([1, 2]), whole_numbers(1.5), whole_numbers("12")
    ((2,), (1, 2), (), ())
    """
    parts = value if isinstance(value, Iterable) else (value,)
    try:
        return tuple(operator.index(part) for part in parts)  # NumPy's integers too
    except TypeError:
        return ()


def pair(value: Pair, name: str, least: int = 1) -> tuple[int, int]:
    """Return ``(height, width)`` of one number or two.

    Raises
    ------
    ShapeError
        A number is smaller than `least`, or there are not one or two.
    """
    numbers = whole_numbers(value)
    if len(numbers) not in (1, 2) or min(numbers) < least:
        raise ShapeError(f"{name} {value} is not one or two whole numbers of at least {least}")
    return numbers[0], numbers[-1]


def window_axes(
    shape: tuple[int, int], taps: tuple[int, int], *, stride: Pair = 1, dilation: Pair = 1, padding: Padding = "same"
) -> tuple[Axis, Axis]:
    """Return the vertical and the horizontal axis of a window of `taps` on an image of `shape`.

    Raises
    ------
    ShapeError
        The padding is not one of those that `convolve` takes, or the window does not fit into the padded image.
    """
    strides, dilations = pair(stride, "stride"), pair(dilation, "dilation")
    pads = _pads(shape, taps, strides, dilations, padding)
    vertical, horizontal = (
        Axis(size, count, step, spread, *pad)
        for size, count, step, spread, pad in zip(shape, taps, strides, dilations, pads, strict=True)
    )
    if min(vertical.outputs, horizontal.outputs) < 1:
        padded = [axis.size + axis.before + axis.after for axis in (vertical, horizontal)]
        raise ShapeError(
            f"a window of {vertical.reach}x{horizontal.reach} does not fit into {padded[0]}x{padded[1]} samples"
            f" (an image of {shape[0]}x{shape[1]} and its padding); use padding same or a smaller window"
        )
    return vertical, horizontal


def _pads(
    shape: tuple[int, int],
    taps: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    padding: Padding,
) -> list[tuple[int, int]]:
    if padding == "same":
        return [same_padding(*axis) for axis in zip(shape, taps, strides, dilations, strict=True)]
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if isinstance(padding, str):
        raise ShapeError(f"padding {padding!r} is not same, valid, N, H,W or T,R,B,L")
    numbers = whole_numbers(padding)
    if len(numbers) not in (1, 2, 4) or min(numbers) < 0:
        raise ShapeError(f"padding {padding} is not one, two or four whole numbers of at least 0")
    if len(numbers) == 4:
        top, right, bottom, left = numbers
        return [(top, bottom), (left, right)]
    return [(numbers[0], numbers[0]), (numbers[-1], numbers[-1])]


def border_constant(border: str) -> float | None:
    """Return the constant of a border, or None if the border is made of samples of the image.

    Raises
    ------
    ShapeError
        `border` is not one of BORDERS.
    """
    if border == "zero":
        return 0.0
    if border.startswith("constant:"):
        try:
            value = float(border.removeprefix("constant:"))
        except ValueError:
            value = float("nan")
        if value - value == 0:  # finite
            return value
    elif border in BORDERS:
        return None
    raise ShapeError(f"border {border!r} is not {', '.join(BORDERS[:-1])} or {BORDERS[-1]}")


def source_positions(axis: Axis, border: str) -> np.ndarray:
    """Return the sample of each padded position of `axis`, −1 for the border's constant.

    ``reflect`` does not repeat the edge, ``symmetric`` does (numpy's meaning).

    >>> source_positions(Axis(3, 5, before=2, after=2), "reflect")
    array([2, 1, 0, 1, 2, 1, 0])
    >>> source_positions(Axis(3, 5, before=2, after=2), "symmetric")
    array([1, 0, 0, 1, 2, 2, 1])
    """
    import numpy as np

    size = axis.size
    at = np.arange(-axis.before, size + axis.after)
    if border_constant(border) is not None:
        return np.where((at >= 0) & (at < size), at, -1)
    if border == "replicate" or size == 1:
        return np.clip(at, 0, size - 1)
    if border == "wrap":
        return at % size
    if border == "reflect":
        at = at % (2 * size - 2)
        return np.minimum(at, 2 * size - 2 - at)
    at = at % (2 * size)
    return np.minimum(at, 2 * size - 1 - at)
