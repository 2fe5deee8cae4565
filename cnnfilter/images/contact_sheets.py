"""Contact sheets: many maps on one picture, each stretched to its own range and labelled.

The values of maps are written to npy files by `cnnfilter.images.files`; a sheet shows them.
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
"""Maps on a sheet; with tiles of `_MIN_TILE_PIXELS`, so many give a sheet of about 5000 x 6000 pixels."""

_MIN_TILE_PIXELS = 128  # a narrower tile would cut its label off
_MAX_SIDE_PIXELS = 4096  # tiles shrink so that no side of the sheet is longer
# Chosen by eye: the gap between tiles, the height of a line of the label, and that of its letters.
_GAP_PIXELS = 8
_LINE_PIXELS = 14
_FONT_PIXELS = 12
_BACKGROUND_RGB, _NAME_RGB, _RANGE_RGB = (24, 24, 24), (240, 240, 240), (160, 160, 160)
_NOT_FINITE_RGB = (200, 0, 120)
_BAND_SAMPLES_MAX = 1 << 20  # samples of a mapped map that are in memory at a time


class _Tile(NamedTuple):
    """A drawn map and the two lines of its label."""

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
        Maps in a row; without it the sheet is nearly square.

    Returns
    -------
    (H', W', 3) uint8 array

    Raises
    ------
    ImageError
        There is no map, or there are more than 2048.
    ShapeError
        A map is neither (H, W) nor (H, W, 3), or `columns` is below 1.

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
    """Check that the maps fit on a sheet.

    Raises
    ------
    ImageError
        There is no map, or there are more than 2048.
    """
    if not 1 <= maps <= MAX_MAPS:
        raise ImageError(f"{maps} maps do not fit on a contact sheet of 1 to {MAX_MAPS}; npy holds any number")


def picture_sheet(pictures: Sequence[tuple[str, str, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Draw pictures side by side, at most 128 pixels wide and high, each with two lines of text below.

    Parameters
    ----------
    pictures : sequence of (first line, second line, uint8 (H, W, 3) array)

    Returns
    -------
    (H', W', 3) uint8 array

    Raises
    ------
    ImageError
        There is no picture, or there are more than 2048.
    """
    if not 1 <= len(pictures) <= MAX_MAPS:
        raise ImageError(f"{len(pictures)} pictures do not fit on a sheet of 1 to {MAX_MAPS}")
    tiles = []
    for name, more, pixels in pictures:
        height, width = pixels.shape[:2]
        factor = _MIN_TILE_PIXELS // max(height, width)  # whole, so that small pictures stay sharp
        scale = factor if factor >= 1 else _MIN_TILE_PIXELS / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        resample = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
        tiles.append(_Tile(Image.fromarray(pixels).resize(size, resample), name, more))
    return _arrange(tiles, _columns_of_square_sheet(len(tiles), _MIN_TILE_PIXELS, _MIN_TILE_PIXELS))


def _columns_of_square_sheet(count: int, height: int, width: int) -> int:
    """Return the number of columns that makes a sheet about as wide as high."""
    scale = _enlargement(height, width)
    tile_width, tile_height = (
        max(width * scale, _MIN_TILE_PIXELS) + _GAP_PIXELS,
        height * scale + 2 * _LINE_PIXELS + _GAP_PIXELS,
    )
    return max(1, round(math.sqrt(count * tile_height / tile_width)))


def _enlargement(height: int, width: int) -> int:
    """Return the whole factor by which a small map is enlarged to about the width of its label."""
    return max(1, -(-_MIN_TILE_PIXELS // max(height, width)))


def _tile_scale(height: int, width: int, down: int, across: int) -> float:
    """Return the factor of all tiles: a whole one, or one below 1 if the sheet would be too large."""
    largest = min(
        (_MAX_SIDE_PIXELS / across - _GAP_PIXELS) / width,
        (_MAX_SIDE_PIXELS / down - _GAP_PIXELS - 2 * _LINE_PIXELS) / height,
    )
    if largest >= 1:
        return min(_enlargement(height, width), int(largest))
    return max(largest, min(1.0, _MIN_TILE_PIXELS / max(height, width)))


def _tile(name: str, values: NDArray[Any], scale: float) -> _Tile:
    count, low, high = 0, math.inf, -math.inf
    for band in _bands(values):
        finite = band[np.isfinite(band)]
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


def _bands(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield a map in bands of rows, because it may be larger than memory."""
    rows = max(1, _BAND_SAMPLES_MAX // values[0].size)
    return (values[top : top + rows] for top in range(0, len(values), rows))


def _draw(values: NDArray[Any], span: tuple[float, float], scale: float, *, is_finite: bool) -> Image.Image:
    """Draw values, stretched from `span` to 0…255 and resized; the order does not matter, as shrinking is a mean."""
    size = max(1, round(values.shape[1] * scale)), max(1, round(values.shape[0] * scale))
    resized = _resize((_normalise(band, span) for band in _bands(values)), len(values), size, scale)
    colour = (resized.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    colour = np.repeat(colour, 3 // colour.shape[2], axis=2)
    if not is_finite:
        whole = (np.isfinite(band).reshape(*band.shape[:2], -1).all(axis=2) for band in _bands(values))
        shown = _resize((band.astype(np.float32) for band in whole), len(values), size, scale)
        colour[shown[:, :, 0] < 1] = _NOT_FINITE_RGB
    return Image.fromarray(colour)


def _normalise(values: NDArray[Any], span: tuple[float, float]) -> NDArray[np.float32]:
    """Return values as shares of `span`, 0 to 1; 0.5 for NaN and infinity, and where `span` is one value."""
    low, high = span
    share: NDArray[np.float32] = np.full(values.shape, 0.5, np.float32)
    if high > low:
        # Halves, because the difference of two large numbers may be more than a float holds.
        where = np.isfinite(values)
        np.divide(values / 2.0 - low / 2, high / 2 - low / 2, out=share, where=where, casting="same_kind")
    return share


def _resize(
    bands: Iterable[NDArray[np.float32]], height: int, size: tuple[int, int], scale: float
) -> NDArray[np.float32]:
    """Resize a map that comes in bands (h, W) or (h, W, C), `height` rows in all, to (H', W', C).

    Pillow resizes the width first and the height afterwards, so the two steps give what it gives for the whole map.
    """
    resample = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX

    def to(size: tuple[int, int], values: NDArray[np.float32]) -> NDArray[np.float32]:
        channels = np.moveaxis(values.reshape(*values.shape[:2], -1), 2, 0)
        return np.stack([np.asarray(Image.fromarray(one).resize(size, resample)) for one in channels], axis=2)

    top, narrow = 0, np.empty((height, size[0], 1), np.float32)
    for band in bands:
        resized = to((size[0], len(band)), band)
        if not top:
            narrow = np.empty((height, *resized.shape[1:]), np.float32)
        narrow[top : top + len(band)] = resized
        top += len(band)
    columns = max(1, _BAND_SAMPLES_MAX // narrow[:, 0].size)
    parts = (narrow[:, left : left + columns] for left in range(0, size[0], columns))
    return np.concatenate([to((part.shape[1], size[1]), part) for part in parts], axis=1)


def _arrange(tiles: Sequence[_Tile], across: int) -> NDArray[np.uint8]:
    tile_width = max(_MIN_TILE_PIXELS, *(tile.picture.width for tile in tiles)) + _GAP_PIXELS
    tile_height = max(tile.picture.height for tile in tiles) + 2 * _LINE_PIXELS + _GAP_PIXELS
    sheet = Image.new(
        "RGB",
        (across * tile_width + _GAP_PIXELS, -(-len(tiles) // across) * tile_height + _GAP_PIXELS),
        _BACKGROUND_RGB,
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_PIXELS)
    for index, tile in enumerate(tiles):
        x, y = _GAP_PIXELS + index % across * tile_width, _GAP_PIXELS + index // across * tile_height
        sheet.paste(tile.picture, (x, y))
        below = y + tile.picture.height
        draw.text((x, below), _shorten(tile.name, font, tile_width - _GAP_PIXELS), _NAME_RGB, font)
        draw.text((x, below + _LINE_PIXELS), _shorten(tile.range, font, tile_width - _GAP_PIXELS), _RANGE_RGB, font)
    return np.asarray(sheet).copy()


def _shorten(text: str, font: Any, width: int) -> str:
    """Shorten a label in its middle to `width` pixels: its start names the layer, its end the number of the map."""
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
