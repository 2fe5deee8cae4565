"""Random changes of training pictures: their kinds, random draws of them, and their text.

Flip, shift, rotation and crop are combined into one affine map, so that each picture is interpolated only once. The
loop that applies the changes is in `cnnfilter.training.augmentation_loops`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import DataError
from cnnfilter.networks.model_file import Preparation
from cnnfilter.training.augmentation_loops import change

Floats = NDArray[np.float32]


class Changes(NamedTuple):
    """The changes of N pictures: affine maps (N, 6), factors of brightness (N,) and erased rectangles (N, 4)."""

    matrices: Floats
    gains: Floats
    holes: NDArray[np.int64]

    def take(self, first: int, end: int) -> Changes:
        """Return the changes of the pictures `first` to `end` (exclusive)."""
        return Changes(self.matrices[first:end], self.gains[first:end], self.holes[first:end])


@dataclass(frozen=True)
class Augmentation:
    """The largest changes of a picture; 0 turns a kind of change off.

    Attributes
    ----------
    flip : probability that a picture is mirrored left to right.
    shift : largest shift, as a share of the height and width.
    rotate : largest rotation either way, in degrees.
    crop : smallest share of the height and width that is cut out and enlarged to the full size; 0 and 1 crop nothing.
    brightness : largest change of the brightness either way, as a share.
    erase : largest side of the rectangle that is erased in half of the pictures, as a share of the height and width.
    """

    flip: float = 0.0
    shift: float = 0.0
    rotate: float = 0.0
    crop: float = 0.0
    brightness: float = 0.0
    erase: float = 0.0

    def __str__(self) -> str:
        parts = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return ",".join(f"{name}:{value:g}" for name, value in parts if value)

    def draw(self, rng: np.random.Generator, count: int, height: int, width: int) -> Changes:
        """Draw the changes of `count` pictures of size height x width.

        Ten random numbers are drawn for each picture, also for kinds of change that are off, so that turning one kind
        on or off does not alter the others.
        """
        uniform = rng.random((10, count))
        signed = 2 * uniform - 1
        angle = np.radians(self.rotate) * signed[0]
        scale = 1 - (1 - (self.crop or 1)) * uniform[1]
        mirror = np.where(uniform[2] < self.flip, -1.0, 1.0)
        middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
        # A crop may lie anywhere in the picture; a shift is added to its position.
        move_y = signed[3] * (self.shift * height + (1 - scale) * middle_y)
        move_x = signed[4] * (self.shift * width + (1 - scale) * middle_x)
        if not self.rotate and not self.crop:  # whole pixels, so that nothing is interpolated
            move_y, move_x = np.round(move_y), np.round(move_x)
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        rows = [cos, -sin * mirror, middle_y + move_y - cos * middle_y + sin * mirror * middle_x]
        rows += [sin, cos * mirror, middle_x + move_x - sin * middle_y - cos * mirror * middle_x]
        gains = 1 + self.brightness * signed[5]
        return Changes(
            np.ascontiguousarray(np.stack(rows, axis=1), np.float32),
            gains.astype(np.float32),
            self._holes(uniform[6:], height, width),
        )

    def _holes(self, uniform: NDArray[np.float64], height: int, width: int) -> NDArray[np.int64]:
        size = self.erase * (0.3 + 0.7 * uniform[0]) * (uniform[3] < 0.5)
        heights, widths = np.rint(size * height), np.rint(size * width)
        top = np.floor(uniform[1] * (height - heights + 1))
        left = np.floor(uniform[2] * (width - widths + 1))
        return np.ascontiguousarray(np.stack([top, left, top + heights, left + widths], axis=1), np.int64)


NO_AUGMENTATION = Augmentation()

_DEFAULT_AMOUNTS = {"flip": 0.5, "shift": 0.1, "rotate": 10.0, "crop": 0.8, "brightness": 0.2, "erase": 0.4}
"""Amounts of the kinds of change that are written without one, in the units of `Augmentation`; chosen by hand."""

_AMOUNT_LIMITS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "flip": ("a share up to 1", lambda value: 0 < value <= 1),
    "shift": ("a share of the size up to 1", lambda value: 0 < value <= 1),
    "rotate": ("degrees up to 180", lambda value: 0 < value <= 180),
    "crop": ("a share of the size up to 1", lambda value: 0 < value <= 1),
    "brightness": ("a share below 1", lambda value: 0 < value < 1),
    "erase": ("a share of the size up to 1", lambda value: 0 < value <= 1),
}


def parse_augmentation(text: str) -> Augmentation:
    """Read an augmentation from text such as ``flip,shift:0.1``.

    Kinds of change stand between commas, each with an amount or without; the default amount is then used. ``none`` and
    an empty text change nothing.

    Raises
    ------
    DataError
        For an unknown kind, or an amount that is not a number or out of range.

    Examples
    --------
    >>> str(parse_augmentation("flip, shift:0.15"))
    'flip:0.5,shift:0.15'
    """
    amounts: dict[str, float] = {}
    for part in text.split(",") if text.strip() not in ("", "none") else ():
        name, colon, number = (piece.strip() for piece in part.partition(":"))
        if name not in _DEFAULT_AMOUNTS:
            known = ", ".join(f"{kind}:{amount:g}" for kind, amount in _DEFAULT_AMOUNTS.items())
            raise DataError(f"no augmentation {name!r}; there are {known}")
        what, fits = _AMOUNT_LIMITS[name]
        try:
            amount = float(number) if colon else _DEFAULT_AMOUNTS[name]
        except ValueError:
            amount = math.nan
        if not fits(amount):
            raise DataError(
                f"augmentation {part.strip()!r}: {name} takes {what}, as in {name}:{_DEFAULT_AMOUNTS[name]:g}"
            )
        amounts[name] = amount
    return Augmentation(**amounts)


def apply_changes(pixels: NDArray[np.uint8], changes: Changes, how: Preparation, out: Floats) -> None:
    """Write changed pictures to `out` (N, H, W, C), less the mean and divided by the deviation of `how`."""
    count, height, width, channels = pixels.shape
    mean = np.ascontiguousarray(np.broadcast_to(np.array(how.mean, np.float32), (channels,)))
    factor = np.ascontiguousarray(1 / np.broadcast_to(np.array(how.std, np.float32), (channels,)))
    change(pixels.reshape(count, -1), *changes, mean, factor, out.reshape(count, -1), height, width)
