"""The scale of floats: which samples of float pictures are black and which are white.

Bytes and 16-bit samples have the range of their type. Floats have none: 1 is white in some files and 255 in others. A
network keeps the scale of the float pictures that it was trained on; without one, the range of the samples decides, if
it fits one of the usual scales.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import DataError, ImageError
from cnnfilter.images.image import Image

Scale = tuple[float, float]

_SAMPLES_PER_PIECE = 1 << 22
"""Samples that are looked at together (16 MiB of float32), so that large arrays need no second array of their size."""

_SHADES_MIN = 16
"""Highest fractional sample from which floats are taken as 0…255.

Fewer shades than 16 would be left of lower ones, because samples become bytes; a usual example is a picture of 0…1 in
which a few samples overshoot.
"""

_OUTSIDE_MAX = 0.5
"""Share of the width of a scale by which samples may lie below and above it, and are clipped.

Resizing with bicubic weights overshoots by 14 % at an edge at most; samples farther out are on another scale.
"""


class FloatRange(NamedTuple):
    """The lowest and highest finite sample, and whether all samples are whole numbers."""

    low: float = math.inf
    high: float = -math.inf
    whole: bool = True

    @classmethod
    def of(cls, samples: NDArray[Any]) -> FloatRange:
        """Return the range of an array of any shape and type."""
        flat = samples.reshape(-1)
        pieces = (flat[start : start + _SAMPLES_PER_PIECE] for start in range(0, flat.size, _SAMPLES_PER_PIECE))
        return cls.union(map(cls._of_piece, pieces))

    @classmethod
    def _of_piece(cls, samples: NDArray[Any]) -> FloatRange:
        whole = samples.dtype.kind in "iub"
        if not whole:
            samples = samples[np.isfinite(samples)]
        if not samples.size:
            return cls()
        return cls(float(samples.min()), float(samples.max()), whole or bool((samples == np.rint(samples)).all()))

    @classmethod
    def union(cls, ranges: Iterable[FloatRange]) -> FloatRange:
        """Return the range of all samples that have these ranges.

        >>> FloatRange.union([FloatRange(0, 1, True), FloatRange(), FloatRange(-0.5, 0.5, False)])
        FloatRange(low=-0.5, high=1, whole=False)
        """
        lows, highs, wholes = zip(cls(), *ranges, strict=True)
        return cls(min(lows), max(highs), all(wholes))

    def __str__(self) -> str:
        return f"{self.low:.6g} to {self.high:.6g}"


def show_scale(scale: Scale) -> str:
    """Return a scale as text.

    >>> show_scale((0.0, 1.0)), show_scale((-0.5, 0.5))
    ('0…1', '-0.5…0.5')
    """
    return f"{scale[0]:.6g}…{scale[1]:.6g}"


def check_scale(scale: Scale) -> Scale:
    """Return a scale as two floats; DataError unless both are finite, and black is below white."""
    low, high = map(float, scale)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DataError(f"{low:g},{high:g} is not a scale LO,HI, two numbers of which the first is smaller")
    return low, high


def find_scale(found: FloatRange) -> Scale | None:
    """Return the scale that samples of a range are on; None if the range fits none.

    It is 0…1, 0…255 or 0…65535. Samples that round to the ends of a scale may lie beyond them.

    >>> find_scale(FloatRange(0, 0.9, False)), find_scale(FloatRange(0, 16, True))
    ((0.0, 1.0), (0.0, 255.0))
    >>> find_scale(FloatRange(0, 1.02, False)), find_scale(FloatRange(-0.5, 0.5, False))
    (None, None)
    """
    half_step = 0.5 / 255
    if found.low >= -half_step and found.high <= 1 + half_step:
        return 0.0, 1.0
    if found.low >= -0.5 and found.high <= 255.5 and (found.whole or found.high >= _SHADES_MIN):
        return 0.0, 255.0
    # Data of 10, 12 or 14 bits end far below 65535, and would come out nearly black.
    return (0.0, 65535.0) if found.low >= -0.5 and 16383 < found.high <= 65535.5 else None


def refusal(found: FloatRange, what: str = "floats") -> str:
    """Return the message for a range that fits no scale."""
    return (
        f"{what} from {found} fit neither 0…1 nor 0…255 nor 0…65535; --scale LO,HI says which are black and white, "
        f"such as --scale {found.low:.6g},{found.high:.6g}"
    )


def lies_far_outside(found: FloatRange, scale: Scale) -> bool:
    """Return whether samples lie so far outside a scale that they cannot be on it."""
    slack = _OUTSIDE_MAX * (scale[1] - scale[0])
    return found.low < scale[0] - slack or found.high > scale[1] + slack


def count_outside(samples: NDArray[Any], scale: Scale) -> int:
    """Count the samples that a scale clips: those that do not round to its ends."""
    half_step = (scale[1] - scale[0]) / 255 / 2
    return int(np.count_nonzero((samples < scale[0] - half_step) | (samples > scale[1] + half_step)))


def to_bytes(image: Image, scale: Scale | None = None) -> Image:
    """Return an image with its float samples as bytes; images of other types stay as they are.

    Parameters
    ----------
    scale : (float, float), optional
        The samples that become 0 and 255; those outside are clipped. If not given, the range of the picture decides.

    Raises
    ------
    ImageError
        If the range of the picture fits no scale, or lies far outside the one that is given.
    """
    if image.pixels.dtype != np.float32:
        return image
    found = FloatRange.of(image.colour)
    if scale is None:
        scale = (0.0, 255.0) if found.low > found.high else find_scale(found)
        if scale is None:
            raise ImageError(refusal(found))
    elif lies_far_outside(found, scale):
        raise ImageError(f"floats from {found} are not on the scale {show_scale(scale)}; --scale LO,HI names another")
    low, high = scale
    # NaN becomes 0, black, as where a float picture is written as bytes.
    pixels = np.nan_to_num((image.pixels - np.float32(low)) * np.float32(255 / (high - low)), nan=0.0)
    if image.has_alpha:  # opaque is 1 or 255, whatever the scale of the colours
        alpha = image.pixels[:, :, -1]
        pixels[:, :, -1] = np.nan_to_num(alpha) * (255 if np.nanmax(alpha) <= 1 else 1)
    out = (pixels + np.float32(0.5)).clip(0, 255).astype(np.uint8)
    return image.replace(pixels=out, frames=(), durations=(), loop=None, pages=())
