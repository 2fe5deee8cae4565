"""TGA against the array that a file was made of: packets that cross rows, every depth and order of rows."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image as Pillow

from cnnfilter.errors import ImageError
from cnnfilter.images.files import read_image


def run_length_coded(pixels: np.ndarray, kind: int, *, from_the_top: bool = True, tail: bytes = b"") -> bytes:
    """A file of uint8 samples (H, W, C) in the file's order, with packets of all lengths that cross rows."""
    height, width, channels = pixels.shape
    flat = [bytes(pixel) for pixel in (pixels if from_the_top else pixels[::-1]).reshape(-1, channels)]
    body, at = b"", 0
    while at < len(flat):
        run = 1
        while at + run < len(flat) and flat[at + run] == flat[at] and run < 128:
            run += 1
        if run > 1:
            body += bytes([127 + run]) + flat[at]
        else:
            while at + run < len(flat) and flat[at + run] != flat[at + run - 1] and run < 128:
                run += 1
            body += bytes([run - 1]) + b"".join(flat[at : at + run])
        at += run
    flags = (32 if from_the_top else 0) | (8 if channels == 4 else 0)
    return struct.pack("<BBBHHBHHHHBB", 0, 0, kind, 0, 0, 0, 0, 0, width, height, 8 * channels, flags) + body + tail


@pytest.mark.parametrize(("channels", "kind"), [(1, 11), (3, 10), (4, 10)])
@pytest.mark.parametrize("from_the_top", [True, False])
def test_packets_over_rows(rng: np.random.Generator, channels: int, kind: int, from_the_top: bool) -> None:
    pixels = rng.integers(0, 2, (23, 37, 1), dtype=np.uint8).repeat(channels, axis=2) * np.uint8(200)
    pixels[3:9] = 7
    pixels[:, 11:14, 0] += 50
    image = read_image(run_length_coded(pixels, kind, from_the_top=from_the_top))
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    np.testing.assert_array_equal(image.pixels, pixels[:, :, order])


def test_the_extension_that_makes_a_picture_opaque_is_found() -> None:
    pixels = np.full((3, 5, 4), 9, np.uint8)
    start = len(run_length_coded(pixels, 10))
    extension = bytes(494) + b"\0"
    footer = struct.pack("<II", start, 0) + b"TRUEVISION-XFILE.\0"
    image = read_image(run_length_coded(pixels, 10, tail=extension + footer))
    assert (image.pixels == [9, 9, 9, 255]).all()


def test_every_cut_of_packets_over_rows_is_an_error(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 2, (6, 10, 3), dtype=np.uint8)
    pixels[1:3] = 1
    file = run_length_coded(pixels, 10)
    for length in range(18, len(file)):
        with pytest.raises(ImageError):
            read_image(file[:length])


def test_what_pillow_codes_is_read(rng: np.random.Generator) -> None:
    picture = Pillow.fromarray(rng.integers(0, 3, (20, 30, 3), dtype=np.uint8) // 2)
    stream = io.BytesIO()
    picture.save(stream, "TGA", compression="tga_rle")
    np.testing.assert_array_equal(read_image(stream.getvalue()).pixels, np.asarray(picture))
