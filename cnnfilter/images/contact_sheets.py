"""Contact sheets: many maps on one picture, each stretched to its own range and labelled.

A sheet is for looking; the numbers themselves go to npy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cnnfilter.errors import ImageError, ShapeError

MAX_MAPS = 2048
"""On one sheet; at the smallest tile that a label fits on, that is a sheet of about 5000 x 6000."""

_MIN_TILE_PIXELS = 128  # a tile is at least so wide, or its label cannot be read
_MAX_SIDE_PIXELS = 4096  # tiles shrink where a side of the sheet would be longer
_GAP_PIXELS = 8
_LINE_PIXELS = 14
_FONT_PIXELS = 12
_BACKGROUND_RGB, _NAME_RGB, _RANGE_RGB = (24, 24, 24), (240, 240, 240), (160, 160, 160)
_NOT_FINITE_RGB = (200, 0, 120)
_PIECE_SAMPLES = 1 << 20  # numbers of a map that are looked at together


class _Tile(NamedTuple):
    """A map as it is drawn, and the two lines below it."""

    picture: Image.Image
    name: str
    range: str


def contact_sheet(maps: Sequence[tuple[str, NDArray[Any]]], *, columns: int | None = None) -> NDArray[np.uint8]:
    """Draw maps side by side, each stretched to its own range and labelled with its name and that range.

    Small maps are enlarged by whole factors, without smoothing; large ones shrink where the sheet would pass
    4096 samples a side. A map of one value is mid-grey; NaN and infinity are drawn in magenta.

    Parameters
    ----------
    maps : sequence of (name, array)
        A map is (H, W); one of (H, W, 3) is drawn in red, green and blue.
    columns : int, optional
        Maps in a row; without it the sheet comes out nearly square.

    Returns
    -------
    (H', W', 3) uint8 array

    Raises
    ------
    ImageError
        For no map at all, or more than 2048.
    ShapeError
        For a map that is neither (H, W) nor (H, W, 3), or columns below 1.

    Examples
    --------
    >>> import numpy as np
    >>> ramp = np.linspace(-1, 1, 64).reshape(8, 8)
    >>> contact_sheet([("ramp", ramp), ("its square", ramp**2)]).dtype
    dtype('uint8')
    """
    refuse_many(len(maps))
    if columns is not None and columns < 1:
        raise ShapeError(f"columns {columns}: must be at least 1")
    for name, values in maps:
        shape = np.shape(values)
        if len(shape) not in (2, 3) or shape[2:] not in ((), (3,)) or 0 in shape:
            raise ShapeError(f"map {name!r} of shape {shape}: must be (H, W) or (H, W, 3), none of them 0")
    height = max(np.shape(values)[0] for _, values in maps)
    width = max(np.shape(values)[1] for _, values in maps)
    across = min(columns or _columns_of_square_sheet(len(maps), height, width), len(maps))
    down = -(-len(maps) // across)
    scale = _tile_scale(height, width, down, across)
    tiles = [_tile(name, np.asarray(values), scale) for name, values in maps]
    return _arrange(tiles, across)


def refuse_many(maps: int) -> None:
    """Raise ImageError for no map at all, or more than fit on a sheet."""
    if not 1 <= maps <= MAX_MAPS:
        raise ImageError(f"{maps} maps do not fit on a contact sheet of 1 to {MAX_MAPS}; npy holds any number")


def picture_sheet(pictures: Sequence[tuple[str, str, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Draw pictures (H, W, 3) of bytes side by side, at most 128 wide and high, with two lines below each.

    Returns
    -------
    (H', W', 3) uint8 array

    Raises
    ------
    ImageError
        For no picture at all, or more than 2048.
    """
    if not 1 <= len(pictures) <= MAX_MAPS:
        raise ImageError(f"{len(pictures)} pictures do not fit on a sheet of 1 to {MAX_MAPS}")
    tiles = []
    for name, more, pixels in pictures:
        height, width = pixels.shape[:2]
        factor = _MIN_TILE_PIXELS // max(height, width)  # a whole one, so that small pictures stay sharp
        scale = factor if factor >= 1 else _MIN_TILE_PIXELS / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        resample = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
        tiles.append(_Tile(Image.fromarray(pixels).resize(size, resample), name, more))
    return _arrange(tiles, _columns_of_square_sheet(len(tiles), _MIN_TILE_PIXELS, _MIN_TILE_PIXELS))


def _columns_of_square_sheet(count: int, height: int, width: int) -> int:
    """How many columns make the sheet about as wide as high."""
    scale = _enlargement(height, width)
    wide, high = max(width * scale, _MIN_TILE_PIXELS) + _GAP_PIXELS, height * scale + 2 * _LINE_PIXELS + _GAP_PIXELS
    return max(1, round(math.sqrt(count * high / wide)))


def _enlargement(height: int, width: int) -> int:
    """The whole factor that brings a tiny map to about the width of its label."""
    return max(1, -(-_MIN_TILE_PIXELS // max(height, width)))


def _tile_scale(height: int, width: int, down: int, across: int) -> float:
    """Enlarge by a whole factor, or shrink to what the sheet may measure."""
    room = min(
        (_MAX_SIDE_PIXELS / across - _GAP_PIXELS) / width,
        (_MAX_SIDE_PIXELS / down - _GAP_PIXELS - 2 * _LINE_PIXELS) / height,
    )
    if room >= 1:
        return min(_enlargement(height, width), int(room))
    return max(room, min(1.0, _MIN_TILE_PIXELS / max(height, width)))


def _tile(name: str, values: NDArray[Any], scale: float) -> _Tile:
    count, low, high = 0, math.inf, -math.inf
    for some in _pieces(values):
        finite = some[np.isfinite(some)]
        if finite.size:
            count, low, high = count + finite.size, min(low, float(np.min(finite))), max(high, float(np.max(finite)))
    bad = values.size - count
    if count == 0:
        low = high = 0.0
        label = "no finite value"
    else:
        label = f"{low:.4g} … {high:.4g}" if low < high else f"constant {low:.4g}"
        label += f", {bad:,} NaN/inf" if bad else ""
    return _Tile(_draw(values, (low, high), scale, is_finite=bad == 0), name, label)


def _pieces(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield rows that belong together: the map may be larger than memory."""
    rows = max(1, _PIECE_SAMPLES // values[0].size)
    return (values[top : top + rows] for top in range(0, len(values), rows))


def _draw(values: NDArray[Any], span: tuple[float, float], scale: float, *, is_finite: bool) -> Image.Image:
    """Stretch `span` to 0…255 and resize: shrinking is a mean, and for that the order is of no matter."""
    size = max(1, round(values.shape[1] * scale)), max(1, round(values.shape[0] * scale))
    resized = _resize((_normalise(some, span) for some in _pieces(values)), len(values), size, scale)
    colour = (resized.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    colour = np.repeat(colour, 3 // colour.shape[2], axis=2)
    if not is_finite:
        whole = (np.isfinite(some).reshape(*some.shape[:2], -1).all(axis=2) for some in _pieces(values))
        shown = _resize((some.astype(np.float32) for some in whole), len(values), size, scale)
        colour[shown[:, :, 0] < 1] = _NOT_FINITE_RGB
    return Image.fromarray(colour)


def _normalise(values: NDArray[Any], span: tuple[float, float]) -> NDArray[np.float32]:
    """Return how far between the ends of `span` finite values are, in its middle if these are the same."""
    low, high = span
    share: NDArray[np.float32] = np.full(values.shape, 0.5, np.float32)
    if high > low:
        # Halves, because the difference of two large numbers may be more than a float holds.
        where = np.isfinite(values)
        np.divide(values / 2.0 - low / 2, high / 2 - low / 2, out=share, where=where, casting="same_kind")
    return share


def _resize(
    pieces: Iterable[NDArray[np.float32]], height: int, size: tuple[int, int], scale: float
) -> NDArray[np.float32]:
    """Return `height` rows (H, W) or (H, W, C) as (H', W', C): first as wide, then as high as they are to be.

    That is the way in which Pillow does it at once.
    """
    resample = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX

    def to(size: tuple[int, int], values: NDArray[np.float32]) -> NDArray[np.float32]:
        channels = np.moveaxis(values.reshape(*values.shape[:2], -1), 2, 0)
        return np.stack([np.asarray(Image.fromarray(one).resize(size, resample)) for one in channels], axis=2)

    top, narrow = 0, np.empty((height, size[0], 1), np.float32)
    for some in pieces:
        resized = to((size[0], len(some)), some)
        if not top:
            narrow = np.empty((height, *resized.shape[1:]), np.float32)
        narrow[top : top + len(some)] = resized
        top += len(some)
    columns = max(1, _PIECE_SAMPLES // narrow[:, 0].size)
    parts = (narrow[:, left : left + columns] for left in range(0, size[0], columns))
    return np.concatenate([to((part.shape[1], size[1]), part) for part in parts], axis=1)


def _arrange(tiles: Sequence[_Tile], across: int) -> NDArray[np.uint8]:
    wide = max(_MIN_TILE_PIXELS, *(tile.picture.width for tile in tiles)) + _GAP_PIXELS
    high = max(tile.picture.height for tile in tiles) + 2 * _LINE_PIXELS + _GAP_PIXELS
    sheet = Image.new(
        "RGB", (across * wide + _GAP_PIXELS, -(-len(tiles) // across) * high + _GAP_PIXELS), _BACKGROUND_RGB
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_PIXELS)
    for index, tile in enumerate(tiles):
        x, y = _GAP_PIXELS + index % across * wide, _GAP_PIXELS + index // across * high
        sheet.paste(tile.picture, (x, y))
        below = y + tile.picture.height
        draw.text((x, below), _shorten(tile.name, font, wide - _GAP_PIXELS), _NAME_RGB, font)
        draw.text((x, below + _LINE_PIXELS), _shorten(tile.range, font, wide - _GAP_PIXELS), _RANGE_RGB, font)
    return np.asarray(sheet).copy()


def _shorten(text: str, font: Any, width: int) -> str:
    """Leave out of the middle what is too long: the start names the layer, the end the number."""
    text = "".join(char if char.isprintable() else "?" for char in text)
    if font.getlength(text) <= width:
        return text
    keep = len(text)
    while keep > 1 and font.getlength(_without_middle(text, keep)) > width:
        keep -= 1
    return _without_middle(text, keep)


def _without_middle(text: str, keep: int) -> str:
    tail = keep // 2
    return text[: keep - tail] + "…" + (text[-tail:] if tail else "")
