"""The sample pictures: each listed with its licence, and each what the list says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cnnfilter.images.files import read_image

SAMPLES = Path("samples")
# Height, width, mode, bits and frames as they are read.
EXPECTED = {
    "brick.png": (512, 512, "L", 8, 1),
    "camera.png": (512, 512, "L", 8, 1),
    "chelsea-alpha.png": (240, 240, "RGBA", 8, 1),
    "chelsea.png": (300, 451, "RGB", 8, 1),
    "coffee-16bit.png": (200, 300, "RGB", 16, 1),
    "coffee-cmyk.jpg": (200, 300, "CMYK", 8, 1),
    "coffee.png": (400, 600, "RGB", 8, 1),
    "coins-16bit.png": (151, 192, "L", 16, 1),
    "coins.gif": (120, 120, "RGB", 8, 16),
    "coins.png": (303, 384, "L", 8, 1),
    "grass.png": (512, 512, "L", 8, 1),
    "rocket-palette.png": (214, 320, "RGB", 8, 1),
    "rocket-rotated.jpg": (427, 285, "RGB", 8, 1),
    "rocket.jpg": (427, 640, "RGB", 8, 1),
}


def pictures() -> list[str]:
    files = (path for path in SAMPLES.iterdir() if path.is_file())
    return sorted(path.name for path in files if path.suffix not in (".md", ".py"))


def test_every_sample_is_known() -> None:
    assert pictures() == sorted(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_sample_is_what_it_is_for(name: str) -> None:
    image = read_image(SAMPLES / name)
    height, width, mode, bits, frames = EXPECTED[name]
    assert image.pixels.shape[:2] == (height, width)
    assert image.mode == mode
    assert image.pixels.dtype == (np.uint16 if bits == 16 else np.uint8)
    assert max(1, len(image.frames)) == frames
    assert image.pixels.std() > 10  # a picture, not a plane


def test_the_16_bit_samples_use_their_low_bytes() -> None:
    for name in ("coffee-16bit.png", "coins-16bit.png"):
        assert len(np.unique(read_image(SAMPLES / name).pixels & 255)) > 100


def test_the_rotated_sample_stands_like_its_source() -> None:
    turned = read_image(SAMPLES / "rocket-rotated.jpg").pixels.astype(int)
    source = read_image(SAMPLES / "rocket.jpg").pixels[:, 220:505].astype(int)
    assert np.abs(turned - source).mean() < 3


def test_what_the_alpha_sample_hides_is_magenta() -> None:
    pixels = read_image(SAMPLES / "chelsea-alpha.png").pixels
    hidden = pixels[pixels[:, :, 3] == 0]
    assert len(hidden) > 1000
    assert (hidden[:, :3] == [255, 0, 255]).all()
    assert ((pixels[:, :, 3] > 0) & (pixels[:, :, 3] < 255)).sum() > 1000


def test_the_table_has_a_row_with_a_licence_for_each() -> None:
    rows = re.findall(r"^\| (\S+) \|(.*)\|$", (SAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    table = {name: cells for name, cells in rows if "." in name}
    assert sorted(table) == pictures()
    for cells in table.values():
        assert re.search(r"CC0|public domain|no known copyright restrictions", cells)


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) < 3_000_000
