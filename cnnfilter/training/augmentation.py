"""Training pictures from pictures: each is seen a little differently every time.

All that moves is one affine map, so that a picture is sampled once, whatever is asked for.
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
    """What happens to each of N pictures: where it is sampled (N, 6), how bright (N,), and its hole (N, 4)."""

    matrices: Floats
    gains: Floats
    holes: NDArray[np.int64]

    def take(self, first: int, end: int) -> Changes:
        return Changes(self.matrices[first:end], self.gains[first:end], self.holes[first:end])


@dataclass(frozen=True)
class Augmentation:
    """How much pictures may change; 0 is not at all.

    Attributes
    ----------
    flip : share of the pictures that are mirrored left to right.
    shift : largest move, as a share of the height and width.
    rotate : largest turn, in degrees.
    crop : the smallest share of the height and width that is seen, then enlarged; 0 and 1 see all.
    brightness : largest change, as a share.
    erase : largest hole, as a share of the height and width; half of the pictures get one.
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
        """Draw the changes of `count` pictures of a size.

        As many numbers are drawn whatever is asked for, so that one kind of change does not alter another.
        """
        chance = rng.random((10, count))
        around = 2 * chance - 1
        angle = np.radians(self.rotate) * around[0]
        scale = 1 - (1 - (self.crop or 1)) * chance[1]
        mirror = np.where(chance[2] < self.flip, -1.0, 1.0)
        middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
        # A crop may lie anywhere, and a shift moves it further.
        move_y = around[3] * (self.shift * height + (1 - scale) * middle_y)
        move_x = around[4] * (self.shift * width + (1 - scale) * middle_x)
        if not self.rotate and not self.crop:  # whole samples: nothing is blurred
            move_y, move_x = np.round(move_y), np.round(move_x)
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        rows = [cos, -sin * mirror, middle_y + move_y - cos * middle_y + sin * mirror * middle_x]
        rows += [sin, cos * mirror, middle_x + move_x - sin * middle_y - cos * mirror * middle_x]
        gains = 1 + self.brightness * around[5]
        return Changes(
            np.ascontiguousarray(np.stack(rows, axis=1), np.float32),
            gains.astype(np.float32),
            self._holes(chance[6:], height, width),
        )

    def _holes(self, chance: NDArray[np.float64], height: int, width: int) -> NDArray[np.int64]:
        size = self.erase * (0.3 + 0.7 * chance[0]) * (chance[3] < 0.5)
        high, wide = np.rint(size * height), np.rint(size * width)
        top = np.floor(chance[1] * (height - high + 1))
        left = np.floor(chance[2] * (width - wide + 1))
        return np.ascontiguousarray(np.stack([top, left, top + high, left + wide], axis=1), np.int64)


NO_AUGMENTATION = Augmentation()

_DEFAULT_AMOUNTS = {"flip": 0.5, "shift": 0.1, "rotate": 10.0, "crop": 0.8, "brightness": 0.2, "erase": 0.4}
_AMOUNT_LIMITS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "flip": ("a share up to 1", lambda value: 0 < value <= 1),
    "shift": ("a share of the size up to 1", lambda value: 0 < value <= 1),
    "rotate": ("degrees up to 180", lambda value: 0 < value <= 180),
    "crop": ("a share of the size up to 1", lambda value: 0 < value <= 1),
    "brightness": ("a share below 1", lambda value: 0 < value < 1),
    "erase": ("a share of the size up to 1", lambda value: 0 < value <= 1),
}


def parse_augmentation(text: str) -> Augmentation:
    """Read ``flip,shift:0.1``: kinds of change between commas, each with how much or without.

    ``none`` or nothing at all is none.

    Raises
    ------
    DataError
        For an unknown kind, or an amount that is none.

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
    """Change and scale pictures (N, H, W, C) into `out`, of the same shape."""
    count, height, width, channels = pixels.shape
    mean = np.ascontiguousarray(np.broadcast_to(np.array(how.mean, np.float32), (channels,)))
    factor = np.ascontiguousarray(1 / np.broadcast_to(np.array(how.std, np.float32), (channels,)))
    change(pixels.reshape(count, -1), *changes, mean, factor, out.reshape(count, -1), height, width)
