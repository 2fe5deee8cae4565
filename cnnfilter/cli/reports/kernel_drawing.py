"""Drawings of kernels: blocks of characters in a terminal, and a picture."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from cnnfilter.kernels.kernel import Kernel
from cnnfilter.kernels.structure import integers_over_divisor

if TYPE_CHECKING:
    from PIL import ImageDraw

# Numbers among the 256 colours of terminals, from white to the full colour: red is positive, blue negative.
_RED_TERMINAL_COLOURS = (231, 224, 217, 210, 203, 196)
_BLUE_TERMINAL_COLOURS = (231, 189, 147, 105, 63, 21)

# Weights below this share of the largest one are drawn as 0, as they would look the same.
_DRAWN_SHARE_MIN = 0.01

_SHADE_CHARACTERS = (" ░▒▓█", " .:*#")


def wants_colour(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that shows colours, unless NO_COLOR is set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def draw_blocks(weights: NDArray[np.float64], *, columns: int, colour: bool, encoding: str = "utf-8") -> list[str]:
    """Draw weights as lines of text, two characters each.

    With `colour`, red is positive and blue negative; otherwise a sign and a shade stand for them. Of a kernel wider
    than `columns`, every n-th weight is drawn, including the middle one.

    Examples
    --------
    >>> print("\\n".join(draw_blocks(np.array([[-1, 0, 2.0]]), columns=80, colour=False)))
    -▒ · +█
    """
    step = drawing_step(weights.shape, columns)
    middles = [(side - 1) // 2 % step for side in weights.shape]
    picked = weights[middles[0] :: step, middles[1] :: step]
    largest = float(np.abs(weights).max()) or 1.0
    if colour:
        return ["".join(f"\x1b[48;5;{_hue(v / largest)}m  " for v in row) + "\x1b[0m" for row in picked]
    shades, nothing = _SHADE_CHARACTERS[0], "·"
    try:
        (shades + nothing).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        shades, nothing = _SHADE_CHARACTERS[1], "."
    return [" ".join(_shaded(v / largest, shades, nothing) for v in row).rstrip() for row in picked]


def drawing_step(shape: tuple[int, ...], columns: int) -> int:
    """Return n such that every n-th weight fits: three characters each in a line, and 60 lines."""
    return max(1, math.ceil(3 * shape[1] / columns), math.ceil(shape[0] / 60))


def _hue(value: float) -> int:
    if abs(value) < _DRAWN_SHARE_MIN:
        return _RED_TERMINAL_COLOURS[0]
    ramp = _RED_TERMINAL_COLOURS if value > 0 else _BLUE_TERMINAL_COLOURS
    return ramp[math.ceil(abs(value) * (len(ramp) - 1) - 1e-9)]


def _shaded(value: float, shades: str, nothing: str) -> str:
    if abs(value) < _DRAWN_SHARE_MIN:
        return f" {nothing}"
    return ("+" if value > 0 else "-") + shades[max(1, math.ceil(abs(value) * (len(shades) - 1) - 1e-9))]


def draw_picture(kernels: Sequence[Kernel]) -> NDArray[np.uint8]:
    """Draw kernels as a picture ``(H, W, 3)``: red is positive, blue negative, and large cells show numbers.

    There are at most four kernels in a row. The full colour stands for the largest weight of each kernel.
    """
    tiles = [_tile(kernel, titled=len(kernels) > 1) for kernel in kernels]
    across = min(4, len(tiles))
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    padded = [
        np.pad(t, ((0, height - t.shape[0]), (0, width - t.shape[1]), (0, 0)), constant_values=255) for t in tiles
    ]
    padded += [np.full_like(padded[0], 255)] * (-len(padded) % across)
    return np.vstack([np.hstack(padded[i : i + across]) for i in range(0, len(padded), across)])


# Chosen by eye: the white margin around a kernel, and the height of its name in letters of 16 pixels.
_MARGIN_PIXELS = 12
_TITLE_PIXELS = 24


def _tile(kernel: Kernel, *, titled: bool) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw, ImageFont

    height, width = kernel.shape
    cell = max(1, min(96, 480 // max(height, width)))
    top = _MARGIN_PIXELS + _TITLE_PIXELS * titled
    size = (max(width * cell, 120 * titled) + 2 * _MARGIN_PIXELS, height * cell + top + _MARGIN_PIXELS)
    picture = Image.new("RGB", size, "white")
    cells = Image.fromarray(_colours(kernel.weights)).resize((width * cell, height * cell), Image.Resampling.NEAREST)
    picture.paste(cells, (_MARGIN_PIXELS, top))
    pen = ImageDraw.Draw(picture)
    if titled:
        pen.text((_MARGIN_PIXELS, _MARGIN_PIXELS), kernel.name, fill="black", font=ImageFont.load_default(16))
    if cell >= 16:
        _rule(pen, kernel.shape, cell, top)
    if cell >= 32:
        _write_numbers(pen, kernel, cell, top)
    return np.asarray(picture)


def _colours(weights: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return a colour for each weight, from blue (negative) over white (0) to red (positive)."""
    share = weights / (np.abs(weights).max() or 1.0)
    ends = np.where(share[:, :, None] > 0, np.array([178, 24, 43]), np.array([33, 102, 172]))
    colours: NDArray[np.uint8] = np.round(255 + np.abs(share)[:, :, None] * (ends - 255.0)).astype(np.uint8)
    return colours


def _rule(pen: ImageDraw.ImageDraw, shape: tuple[int, int], cell: int, top: int) -> None:
    """Draw lines between the cells, so that white cells can be seen."""
    bottom, right = top + shape[0] * cell, _MARGIN_PIXELS + shape[1] * cell
    for i in range(shape[0] + 1):
        pen.line([(_MARGIN_PIXELS, top + i * cell), (right, top + i * cell)], fill=(200, 200, 200))
    for j in range(shape[1] + 1):
        pen.line([(_MARGIN_PIXELS + j * cell, top), (_MARGIN_PIXELS + j * cell, bottom)], fill=(200, 200, 200))


def _write_numbers(pen: ImageDraw.ImageDraw, kernel: Kernel, cell: int, top: int) -> None:
    from PIL import ImageFont

    texts = number_texts(kernel.weights)
    longest = max(len(text) for row in texts for text in row)
    font: Any = ImageFont.load_default(max(8, min(cell // 3, int(1.6 * cell / longest))))
    largest = float(np.abs(kernel.weights).max()) or 1.0
    for (i, j), value in np.ndenumerate(kernel.weights):
        centre = (_MARGIN_PIXELS + (j + 0.5) * cell, top + (i + 0.5) * cell)
        fill = "white" if abs(value) > 0.6 * largest else "black"
        pen.text(centre, texts[i][j], fill=fill, font=font, anchor="mm")


def number_texts(weights: NDArray[np.float64]) -> list[list[str]]:
    """Return each weight as short text: ``-1``, ``1/9``, or four digits.

    Examples
    --------
    >>> number_texts(np.array([[1 / 3, 2 / 3, 1.0, 0.123456]]))
    [['0.3333', '0.6667', '1', '0.1235']]
    >>> number_texts(np.array([[1 / 3, 2 / 3, 1.0]]))
    [['1/3', '2/3', '1']]
    """
    found = integers_over_divisor(weights)
    if found is None or found[1] > 10**6:
        return [[f"{v:.4g}" for v in row] for row in weights]
    whole, divisor = found
    return [[f"{v}/{divisor}" if v % divisor else f"{v // divisor}" for v in row] for row in whole]
