"""Float results as uint8, uint16 or float32: the rule for signs, rounding and saturation.

Results are rounded half up, once, at the end. In a float32 picture they stay as they are unless a rule is named; its
range is then 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cnnfilter.images.dtype_loops import finish

Samples = NDArray[Any]


def top_of(dtype: DTypeLike) -> float:
    """Return the largest value of a picture's type: 255, 65535, or 1 for float32."""
    dtype = np.dtype(dtype)
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


class Span(NamedTuple):
    """The smallest and the largest finite result, which stretch takes to 0 and to the largest value of the type.

    Without a finite result, `low` is infinity and `high` is minus infinity.
    """

    low: float = math.inf
    high: float = -math.inf

    @classmethod
    def of(cls, values: Samples) -> Span:
        """Return the span of an array."""
        with np.errstate(all="ignore"):  # the sum of finite values may be infinite
            finite = values if np.isfinite(values.sum()) else values[np.isfinite(values)]
        return cls(float(finite.min()), float(finite.max())) if finite.size else cls()

    @classmethod
    def union(cls, spans: Iterable[Span]) -> Span:
        """Return the span of all values that have these spans.

        >>> Span.union([Span(0, 3), Span(), Span(-1, 2)])
        Span(low=-1, high=3)
        """
        lows, highs = zip(cls(), *spans, strict=True)
        return cls(min(lows), max(highs))

    def scaled(self, factor: float) -> Span:
        """Return the span of the values times a factor above 0."""
        return Span(self.low * factor, self.high * factor)


class Range(NamedTuple):
    """The rule that brings float results into the range of a picture's type.

    Attributes
    ----------
    gain, shift : a result `v` becomes ``v·gain + shift``
    absolute : the absolute value of that is taken
    stretch : gain and shift take the smallest result to 0 and the largest to `top`; see `stretched`
    keep : a float32 picture takes the results as they are
    top : the largest value of the type
    """

    gain: float = 1.0
    shift: float = 0.0
    absolute: bool = False
    stretch: bool = False
    keep: bool = False
    top: float = 255.0

    @classmethod
    def of(cls, signed: str | Span, dtype: DTypeLike) -> Range:
        """Return the range of a rule: keep, clip, abs, offset, a span to be stretched, or stretch without its span."""
        top = top_of(dtype)
        if isinstance(signed, Span):
            return cls(stretch=True, top=top).stretched(signed)
        if signed == "offset":
            return cls(gain=0.5, shift=top / 2, top=top)
        return cls(absolute=signed == "abs", stretch=signed == "stretch", keep=signed == "keep", top=top)

    def stretched(self, span: Span) -> Range:
        """Return the range that takes the ends of a span to 0 and `top`.

        If they are the same, or so near that float32 does not hold the gain, all values become 0.
        """
        low, high = span
        gain = self.top / (high - low) if high > low else 0.0
        gain = gain if gain <= float(np.finfo(np.float32).max) else 0.0
        return self._replace(gain=gain, shift=-low * gain if gain else 0.0)


def store_band(values: Samples, out: Samples, output_range: Range, first: int = 0, count: int | None = None) -> int:
    """Store float32 results in some columns of a band of rows, and return how many samples were clipped.

    Parameters
    ----------
    values : (H, count) float32, or `out` itself
    out : (H, N), of the picture's type
    first, count : the columns of `out` that are filled; without `count`, all of them
    """
    count = out.shape[1] if count is None else count
    if out.dtype != np.float32:
        clipped: int = finish(
            values, out, first, output_range.gain, output_range.shift, int(output_range.absolute), output_range.top
        )
        return clipped
    place = out[:, first : first + count]
    values = place if values is out else values
    if output_range.keep:
        if values is not place:
            place[...] = values
        return 0
    if output_range.stretch and not output_range.gain:
        place[...] = np.where(np.isnan(values), values, 0)  # infinity times a gain of 0 would be NaN
        return 0
    np.multiply(values, np.float32(output_range.gain), out=place)
    place += np.float32(output_range.shift)
    if output_range.absolute:
        np.abs(place, out=place)
    elif not output_range.stretch:
        np.maximum(place, 0, out=place)
    return 0


def to_picture(values: Samples, dtype: DTypeLike, signed: str | Span = "clip") -> tuple[Samples, float]:
    """Return float32 `values` (H, W, C) as pixels of `dtype`, and the share of the samples that was clipped.

    Parameters
    ----------
    signed : clip, abs, offset (half of the range plus v/2), stretch (the smallest value to 0, the largest to the top
        of the range), a span that is stretched instead, or keep (float32 values as they are)

    Examples
    --------
    >>> values = np.array([[[-300.0], [-1.5], [0.5], [254.5]]], np.float32)
    >>> to_picture(values, np.uint8)[0].ravel()
    array([  0,   0,   1, 255], dtype=uint8)
    >>> to_picture(values, np.uint8, "abs")[0].ravel()
    array([255,   2,   1, 255], dtype=uint8)
    """
    flat = np.ascontiguousarray(values, np.float32).reshape(values.shape[0], -1)
    output_range = Range.of(Span.of(flat) if signed == "stretch" else signed, dtype)
    out = np.empty(values.shape, dtype)
    clipped = store_band(flat, out.reshape(flat.shape), output_range)
    return out, clipped / max(out.size, 1)
