"""Pictures prepared as the input of a network."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter import Image
from cnnfilter.errors import ShapeError
from cnnfilter.networks.model_file import Preparation
from cnnfilter.networks.preparation import as_colours, crop_box, prepare

PLAIN = Preparation("crop", 1.0, "bicubic", (0.0,), (1.0,))


@pytest.mark.parametrize(
    ("size", "shape", "share", "box"),
    [
        ((400, 600), (224, 224), 0.875, (125, 25, 475, 375)),
        ((600, 400), (224, 224), 0.875, (25, 125, 375, 475)),
        ((300, 451), (224, 224), 0.875, (95, 19, 357, 281)),
        ((100, 100), (50, 100), 1.0, (0, 25, 100, 75)),
        ((1, 500), (224, 224), 0.875, (250, 0, 251, 1)),
    ],
)
def test_the_middle_is_cropped(size, shape, share, box):
    assert crop_box(*size, shape, Preparation("crop", share)) == box


def test_squashing_takes_all():
    assert crop_box(30, 50, (8, 8), Preparation("squash", 0.5)) == (0, 0, 50, 30)


def test_mean_and_std_for_each_channel():
    pixels = np.full((2, 2, 3), (10, 20, 30), np.uint8)
    how = Preparation("crop", 1.0, "bicubic", (10.0, 10.0, 20.0), (1.0, 2.0, 5.0))
    np.testing.assert_array_equal(prepare(pixels, (2, 2, 3), how), np.full((2, 2, 3), (0, 5, 2)))


def test_what_has_the_right_size_is_not_resampled(rng):
    pixels = rng.integers(0, 256, (6, 5, 3), np.uint8)
    np.testing.assert_array_equal(prepare(pixels, (6, 5, 3), PLAIN), pixels)


def test_what_lies_outside_the_crop_does_not_matter(rng):
    pixels = rng.integers(0, 256, (80, 80, 3), np.uint8)
    how = Preparation("crop", 0.5, "bicubic", (0.0,), (1.0,))
    wanted = prepare(pixels, (16, 16, 3), how)
    other = np.zeros_like(pixels)
    other[20:60, 20:60] = pixels[20:60, 20:60]
    np.testing.assert_array_equal(prepare(other, (16, 16, 3), how), wanted)


def test_grey_becomes_three_channels_and_colour_becomes_luma():
    grey = np.full((2, 2), 9, np.uint8)
    np.testing.assert_array_equal(prepare(grey, (2, 2, 3), PLAIN), np.full((2, 2, 3), 9))
    red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    np.testing.assert_array_equal(prepare(red, (2, 2, 1), PLAIN), np.full((2, 2, 1), 76))
    np.testing.assert_array_equal(prepare(red[:, :, 0], (2, 2, 1), PLAIN), np.full((2, 2, 1), 255))


def test_depths_and_modes():
    wanted = np.full((2, 2, 3), 100, np.uint8)
    for pixels in (wanted.astype(np.uint16) * 257, wanted.astype(np.float32), wanted.astype(np.int64)):
        np.testing.assert_array_equal(prepare(pixels, (2, 2, 3), PLAIN), wanted)
    wild = np.array([[np.nan, -5.0], [300.0, 99.5]], np.float32)
    np.testing.assert_array_equal(prepare(wild, (2, 2, 1), PLAIN)[:, :, 0], [[0, 0], [255, 100]])
    no_ink = Image(np.zeros((2, 2, 4), np.uint8), "CMYK")
    np.testing.assert_array_equal(as_colours(no_ink, 3), np.full((2, 2, 3), 255))


@pytest.mark.parametrize("top", [255, 65535])
def test_transparent_parts_are_laid_on_white(top):
    dtype = np.uint8 if top == 255 else np.uint16
    half = (top + 1) // 2
    pixels = np.array([[[0, 0, 0, 0], [0, 0, 0, top], [0, top, 0, half]]], dtype)
    np.testing.assert_array_equal(as_colours(Image(pixels, "RGBA"), 3), [[[255] * 3, [0] * 3, [127, 255, 127]]])
    grey = Image(np.array([[[0, 0]]], dtype), "LA")
    np.testing.assert_array_equal(as_colours(grey, 1), [[[255]]])


def test_what_is_no_picture_is_refused():
    with pytest.raises(ShapeError, match="a picture of 7 maps is neither grey nor RGB"):
        prepare(np.zeros((4, 4, 7), np.float32), (4, 4, 3), PLAIN)
    with pytest.raises(ShapeError, match="takes 5 maps takes no picture"):
        prepare(np.zeros((4, 4, 3), np.uint8), (4, 4, 5), PLAIN)
