"""The pictures that are filtered: mosaics of the sample photos, as textured as photos are, of any size."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
_PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg")
_CELL = 500


@functools.cache
def mosaic(height: int, width: int) -> NDArray[Any]:
    """Return uint8 (height, width, 3): crops of the photos, enlarged up to twice and turned, side by side.

    No two cells are the same, so that it compresses as photos do, and pixels are not simply repeated.
    """
    from PIL import Image

    photos = [Image.open(SAMPLES / name).convert("RGB") for name in _PHOTOS if (SAMPLES / name).exists()]
    random = np.random.default_rng(7)
    sheet = Image.new("RGB", (width, height))
    for top in range(0, height, _CELL):
        for left in range(0, width, _CELL):
            photo = photos[random.integers(len(photos))]
            side = min(int(_CELL / random.uniform(1, 2)), *photo.size)
            x, y = (int(random.integers(length - side + 1)) for length in photo.size)
            cell = photo.crop((x, y, x + side, y + side)).resize((_CELL, _CELL), Image.Resampling.LANCZOS)
            sheet.paste(cell.transpose(Image.Transpose(int(random.integers(7)))), (left, top))
    return np.array(sheet)


@functools.lru_cache(maxsize=4)
def pixels(height: int, width: int, channels: int, dtype: Any) -> NDArray[Any]:
    """Return the mosaic as (height, width) for one channel, else (height, width, 3), in 0…255.

    Every caller gets the same array, and must not write to it.
    """
    picture = mosaic(height, width)
    if channels == 1:
        picture = np.ascontiguousarray(picture[:, :, 1])
    return picture.astype(dtype)


def save(path: Path, height: int, width: int) -> Path:
    """Write the mosaic to `path`, if it is not there yet: JPEG of quality 95 with whole chroma, or PNG."""
    if not path.exists():
        from PIL import Image

        settings: dict[str, Any] = {"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {}
        Image.fromarray(mosaic(height, width)).save(path, **settings)
    return path
