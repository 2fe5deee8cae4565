"""A stack of layers on whole pictures."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter.errors import ImageError, ModelError, ShapeError
from cnnfilter.filters.images import filter_image
from cnnfilter.filters.maps import spread_maps
from cnnfilter.filters.pooling.images import pool_image
from cnnfilter.images.colour import to_rgb
from cnnfilter.images.image import Image
from cnnfilter.layers.images import apply_layers, signed_rule
from cnnfilter.layers.stack import parse_layers, refuse_learned, run_layers

MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}


def picture(rng, mode, dtype=np.uint8, size=(9, 12)):
    return Image(rng.integers(0, np.iinfo(dtype).max, (*size, MODES[mode]), dtype), mode)


def apply(image, text, **options):
    return apply_layers(image, parse_layers(text), **{"dtype": image.pixels.dtype, **options})


# --- one layer is what the library's function of it is


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("signed", ["auto", "clip", "abs", "offset", "stretch"])
def test_a_convolution_is_that_of_filter_image(rng, mode, dtype, signed):
    image = picture(rng, mode, dtype)
    result, clipped = apply(image, "conv sobel-h stride=2", signed=signed)
    expected, share, _ = filter_image(image, ["sobel-h"], stride=2, signed=signed)
    assert result.mode == mode
    assert abs(clipped - share) < 0.02
    np.testing.assert_allclose(result.pixels.astype(int), expected.pixels.astype(int), atol=1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("op", ["max", "avg"])
def test_a_pooling_is_that_of_pool_image(rng, mode, op):
    image = picture(rng, mode)
    result, _ = apply(image, f"{op}pool 3 stride=2 pad=1 ceil")
    expected = pool_image(image, op, size=3, stride=2, padding=1, ceil_mode=True)
    np.testing.assert_allclose(result.pixels.astype(int), expected.pixels.astype(int), atol=1)


def test_between_the_layers_everything_stays_float(rng):
    image = picture(rng, "L")
    result, _ = apply(image, "conv '0 100 0' | conv '0 0.01 0'")
    np.testing.assert_array_equal(result.pixels, image.pixels)


# --- signs


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("conv sobel-h", "abs"),
        ("conv sobel-h laplacian | maxpool 2", "abs"),
        ("conv sobel-h blur", "clip"),
        ("conv sobel-h | relu", "clip"),
        ("conv sobel-h | leaky:0.1", "abs"),
        ("conv sobel-h | conv blur", "clip"),
        ("conv blur | conv sobel-h", "abs"),
        ("maxpool 2", "clip"),
        ("conv sobel-h bias=128", "clip"),
        ("conv blur bias=128 | conv sobel-h", "abs"),
    ],
)
def test_signed_rule_of_auto(text, rule):
    assert signed_rule(parse_layers(text)) == rule


def test_a_float_picture_keeps_its_signs(rng):
    image = Image(rng.standard_normal((5, 6, 1), np.float32), "L")
    result, clipped = apply(image, "conv sobel-h")
    np.testing.assert_array_equal(result.pixels, run_layers(image.pixels, "conv sobel-h"))
    assert result.pixels.min() < 0
    assert clipped == 0


# --- how many maps


@pytest.mark.parametrize(
    ("mode", "text", "expected"),
    [
        ("RGB", "conv sobel | relu | maxpool 2 | globalpool avg | flatten", "RGB"),
        ("RGBA", "conv kirsch | softmax", "RGBA"),
        ("RGB", "gray", "L"),
        ("RGBA", "gray", "LA"),
        ("CMYK", "relu", "CMYK"),
        ("CMYK", "gray", "L"),
    ],
)
def test_one_map_of_each_channel_is_a_picture(rng, mode, text, expected):
    assert apply(picture(rng, mode), text)[0].mode == expected


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("L", "conv blur blur"),
        ("RGB", "conv blur blur"),
        ("L", "flatten"),
        ("L", "conv blur sobel-h sobel-v"),
        ("L", "conv blur blur blur identity"),
        ("LA", "conv blur blur blur"),
        ("RGBA", "gray | conv sobel-h sobel-v | relu | conv line-45 line-135"),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_other_maps_are_a_contact_sheet(rng, mode, text, dtype):
    sheet, clipped = apply(picture(rng, mode, dtype), text)
    assert sheet.mode == "RGB"
    assert sheet.pixels.shape[:2] > (100, 100)
    assert sheet.pixels.dtype == np.uint8
    assert clipped == 0


def test_a_sheet_and_the_maps_themselves_can_be_asked_for(rng):
    sheet, _ = apply(picture(rng, "L"), "conv blur", sheet=True)
    assert (sheet.mode, sheet.pixels.shape[2]) == ("RGB", 3)
    image = picture(rng, "LA")
    maps, _ = apply(image, "conv blur identity sobel-h sobel-v", sheet=False, signed="clip")
    assert (maps.mode, maps.pixels.shape) == ("maps", (9, 12, 4))
    one, _ = apply(image, "conv identity", signed="clip")
    np.testing.assert_array_equal(maps.pixels[:, :, 1], one.pixels[:, :, 0])


@pytest.mark.parametrize("mode", ["L", "RGB", "LA", "RGBA", "CMYK"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_stretch_uses_one_range_for_all_frames(rng, mode, dtype):
    frames = tuple(rng.integers(0, top, (8, 9, MODES[mode])).astype(dtype) for top in (20, 200, 90))
    image = Image(frames[0], mode, frames=frames)
    raw = [apply(image.replace(pixels=frame, frames=()), "conv sobel-h", dtype=None)[0].pixels for frame in frames]
    raw = [maps[:, :, : image.colour.shape[2]] for maps in raw]
    low, high, top = min(map(np.min, raw)), max(map(np.max, raw)), np.iinfo(dtype).max
    results = apply(image, "conv sobel-h", signed="stretch")[0].frames
    for maps, result in zip(raw, results, strict=True):
        found = result[:, :, : maps.shape[2]].astype(float)
        np.testing.assert_allclose(found, (maps - low) * top / (high - low), atol=0.51)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_maps_of_the_channels_keep_alpha_in_the_units_of_the_file(rng, dtype):
    image = picture(rng, "RGBA", dtype)
    image.pixels[:, :, 3] = np.iinfo(dtype).max // 2
    maps, _ = apply(image, "conv identity", dtype=None)
    np.testing.assert_allclose(maps.pixels, image.pixels, rtol=1e-5)
    assert apply(image, "conv identity", dtype=None, alpha="drop")[0].pixels.shape[2] == 3
    assert apply(image, "conv identity blur", dtype=None)[0].pixels.shape[2] == 6


def test_the_labels_say_layer_and_number(rng, monkeypatch):
    labels = []

    def note(maps, **more):
        labels.extend(label for label, _ in maps)
        return np.zeros((3, 3, 3), np.uint8)

    monkeypatch.setattr("cnnfilter.layers.images.contact_sheet", note)
    apply(picture(rng, "L"), "conv sobel-h blur | maxpool 2")
    apply(picture(rng, "L"), "conv sobel-h blur")
    apply(picture(rng, "L"), "conv sobel-h blur | flatten")
    assert labels[:4] == ["1: sobel-h | maxpool 2", "2: blur | maxpool 2", "1: conv sobel-h", "2: conv blur"]
    assert labels[4] == "1: flatten"


def test_without_a_type_the_maps_come_as_they_are(rng):
    image = picture(rng, "RGBA")
    image.pixels[:, :, 3] = 255
    maps, _ = apply(image, "conv sobel-h blur", dtype=None)
    assert maps.mode == "maps"
    np.testing.assert_array_equal(maps.pixels, run_layers(image.colour, "conv sobel-h blur"))


def test_ink_becomes_light_before_it_becomes_grey(rng):
    image = picture(rng, "CMYK")
    np.testing.assert_array_equal(apply(image, "gray")[0].pixels, apply(to_rgb(image), "gray")[0].pixels)


def test_every_frame_is_sent_through(rng):
    frames = tuple(rng.integers(0, 256, (4, 6, 3), np.uint8) for _ in range(3))
    moving = Image(frames[0], "RGB", frames=frames, durations=(10, 20, 30))
    result, _ = apply(moving, "maxpool 2")
    assert result.durations == (10, 20, 30)
    for before, after in zip(frames, result.frames, strict=True):
        np.testing.assert_array_equal(after, run_layers(before, "maxpool 2").astype(np.uint8))


# --- alpha


STACK = "conv gaussian:1 | relu | maxpool 2 | conv sobel-h"


def test_an_opaque_picture_is_filtered_as_if_it_had_no_alpha(rng):
    image = picture(rng, "RGBA")
    image.pixels[:, :, 3] = 255
    without = Image(np.ascontiguousarray(image.colour), "RGB")
    with_alpha, _ = apply(image, STACK)
    np.testing.assert_array_equal(with_alpha.colour, apply(without, STACK)[0].pixels)
    assert (with_alpha.alpha == 255).all()


def test_transparent_colours_do_not_bleed(rng):
    image = picture(rng, "RGBA")
    image.pixels[:, :, 3] = np.where(rng.random((9, 12)) < 0.4, 0, 255)
    other = image.replace(pixels=image.pixels.copy())
    other.pixels[other.pixels[:, :, 3] == 0] = (255, 0, 99, 0)
    np.testing.assert_array_equal(apply(image, STACK)[0].pixels, apply(other, STACK)[0].pixels)


def test_alpha_can_be_dropped_or_filtered(rng):
    image = picture(rng, "RGBA")
    assert apply(image, STACK, alpha="drop")[0].mode == "RGB"
    filtered = apply(image, "conv blur", alpha="filter")[0]
    expected, _, _ = filter_image(image, ["blur"], alpha="filter")
    np.testing.assert_allclose(filtered.pixels.astype(int), expected.pixels.astype(int), atol=1)


def test_one_number_for_all_and_its_alpha(rng):
    image = picture(rng, "LA")
    result, _ = apply(image, "globalpool avg")
    assert (result.mode, result.pixels.shape) == ("LA", (1, 1, 2))


# --- in bands

IN_BANDS = [
    "conv sobel-h gaussian:1.5",  # of different sizes
    "conv disk:9 border=reflect | relu | avgpool 3 stride=2 pad=1",  # through the FFT
    "conv '1 2; 3 4' stride=2 border=symmetric pad=40,3 | avgpool 2",  # more rows beyond the border than in the picture
    "conv blur border=constant:7 pad=20 | conv motion:9,30 stride=3 dilation=2",  # windows that see no row at all
    "avgpool 2 | conv gaussian:2 border=wrap | avgpool 3,2 stride=2 ceil",
    "maxpool 5 stride=2 pad=2 ceil | conv kirsch border=reflect | minpool 2 stride=1",
    "globalpool avg | leaky:0.1",
    "conv blur border=wrap | globalpool max | flatten | tanh",
    "flatten | sigmoid",
    "conv sharpen | flatten | softmax",
    "softmax | gray | avgpool 2,3 stride=1 | abs",
]


@pytest.mark.parametrize("text", IN_BANDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, None])
@pytest.mark.parametrize("signed", ["auto", "stretch"])
@pytest.mark.parametrize("numbers", [1, 2000])
def test_bands_equal_the_whole_result(rng, monkeypatch, text, dtype, signed, numbers):
    if "flatten" in text and "globalpool" not in text and dtype is not None:
        dtype = None  # more numbers than a sheet holds maps
    image = picture(rng, "RGB", size=(67, 41))
    expected, share = apply(image, text, dtype=dtype, signed=signed)
    if dtype is None:
        assert expected.pixels.tobytes() == run_layers(image.pixels, text).tobytes()
    monkeypatch.setattr("cnnfilter.layers.bands._BAND_VALUES_MAX", numbers)
    made = []

    def allocate(shape, dtype):
        made.append(np.empty(shape, dtype))
        return made[-1]

    result, clipped = apply(image, text, dtype=dtype, signed=signed, allocate=allocate)
    assert (result.mode, result.pixels.shape) == (expected.mode, expected.pixels.shape)
    assert result.pixels.tobytes() == expected.pixels.tobytes()
    assert clipped == pytest.approx(share, abs=1e-9)
    is_sheet = dtype is not None and not parse_layers(text).keeps_channels((67, 41, 3))
    assert is_sheet or np.may_share_memory(result.pixels, made[-1])


def test_maps_between_layers_are_never_whole(rng, monkeypatch):
    """Unless a layer sees all of it."""
    heights = []

    def spy(pixels, layers):
        heights.append(len(pixels))
        return run_layers(pixels, layers)

    monkeypatch.setattr("cnnfilter.layers.images.run_layers", spy)
    monkeypatch.setattr("cnnfilter.layers.bands._BAND_VALUES_MAX", 10 * 12 * 6)
    image = picture(rng, "RGB", size=(95, 12))
    apply(image, "conv sobel-h sobel-v | relu | maxpool 2", dtype=None)
    assert len(heights) >= 10
    assert max(heights) <= 10 + 2


# --- refusals


def test_learned_layers_are_refused_before_anything_is_read():
    with pytest.raises(ModelError, match="layer 2 'conv 8x3x3' has learned weights"):
        refuse_learned(parse_layers("relu | conv 8x3x3"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_window_that_does_not_fit(rng, mode):
    with pytest.raises(ShapeError, match="maxpool 30"):
        apply(picture(rng, mode), "maxpool 30")


def test_more_maps_than_a_sheet_holds_are_refused_before_any_work(rng, monkeypatch):
    monkeypatch.setattr("cnnfilter.layers.images.run_layers", None)
    with pytest.raises(ImageError, match="6480000 maps do not fit"):
        apply(picture(rng, "RGB", size=(1200, 1800)), "flatten")


# --- several kernels side by side


def test_stacked_maps_by_format(rng):
    image = picture(rng, "RGB")
    stacked, _, _ = filter_image(image, ["blur", "identity"], combine="stack")
    assert stacked.pixels.shape[2] == 6

    as_npy = spread_maps(stacked, ["blur", "identity"], "npy")
    assert (as_npy.mode, as_npy.pixels.shape) == ("maps", stacked.pixels.shape)

    pages = spread_maps(stacked, ["blur", "identity"], "tiff")
    assert (pages.mode, len(pages.frames)) == ("RGB", 2)
    np.testing.assert_array_equal(pages.frames[1], image.pixels)

    assert spread_maps(stacked, ["blur", "identity"], "png").mode == "RGB"
