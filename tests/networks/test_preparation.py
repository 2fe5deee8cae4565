"""Pictures prepared as the input of a network."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest

from cnnfilter import Image
from cnnfilter.errors import ImageError, ShapeError
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
    holes = np.array([[np.nan, 0.0], [255.0, 99.5]], np.float32)
    np.testing.assert_array_equal(prepare(holes, (2, 2, 1), PLAIN)[:, :, 0], [[0, 0], [255, 100]])
    no_ink = Image(np.zeros((2, 2, 4), np.uint8), "CMYK")
    np.testing.assert_array_equal(as_colours(no_ink, 3), np.full((2, 2, 3), 255))


@pytest.mark.parametrize(
    ("samples", "scale", "wanted"),
    [
        ([0.0, 0.2, 1.0], None, [0, 51, 255]),
        ([0.0, 0.2, 1.0019], None, [0, 51, 255]),  # rounds to white
        ([0.0, 51.5, 255.0], None, [0, 52, 255]),
        ([0.0, 16.0, 3.0], None, [0, 16, 3]),
        ([0.0, 257.0, 65535.0], None, [0, 1, 255]),
        ([-0.5, 0.0, 0.5], (-0.5, 0.5), [0, 128, 255]),
        ([0.0, 8.0, 16.0], (0, 16), [0, 128, 255]),
        ([0.0, 0.2, 0.9], (0, 255), [0, 0, 1]),
        ([0.0, 1.0, 1.2], (0, 1), [0, 255, 255]),
    ],
)
def test_floats_have_one_scale(samples, scale, wanted):
    how = dataclasses.replace(PLAIN, scale=scale)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = prepare(np.array([samples], np.float32), (1, 3, 1), how)
    np.testing.assert_array_equal(found[0, :, 0], wanted)
    clipped = ["1 of 3 samples lie outside the scale 0…1 and are clipped"] * (samples[2] == 1.2)
    assert [str(warning.message) for warning in caught] == clipped


@pytest.mark.parametrize("samples", [[-0.5, 0.5], [0.0, 1.02], [-3.0, 250.0], [0.0, 4095.0], [0.0, 1e6]])
def test_floats_of_no_scale_are_refused(samples):
    text = f"floats from {samples[0]:g} to {samples[1]:g}|floats from 0 to 1e"
    with pytest.raises(ImageError, match=f"({text}).*fit neither 0…1 nor 0…255 nor 0…65535; --scale LO,HI says"):
        prepare(np.array([samples], np.float32), (1, 2, 1), PLAIN)


def test_floats_far_from_the_scale_of_the_network_are_refused():
    how = dataclasses.replace(PLAIN, scale=(0.0, 1.0))
    with pytest.raises(ImageError, match="floats from 0 to 200 are not on the scale 0…1; --scale LO,HI names another"):
        prepare(np.array([[0, 200]], np.float32), (1, 2, 1), how)
    np.testing.assert_array_equal(prepare(np.array([[0, 200]], np.uint8), (1, 2, 1), how), [[[0], [200]]])


@pytest.mark.parametrize("opaque", [1, 255])
def test_floats_with_transparent_parts_are_laid_on_white(opaque):
    colour = np.array([[[0.25, 0.5, 1, 0], [0.25, 0.5, 1, opaque]]], np.float32) * ([opaque] * 3 + [1])
    found = prepare(Image(colour.astype(np.float32), "RGBA"), (1, 2, 3), PLAIN)
    np.testing.assert_array_equal(found, [[[255, 255, 255], [64, 128, 255]]])


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
