"""Colour weighted by alpha."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from cnnfilter.errors import ShapeError
from cnnfilter.filters.convolution.convolve import filter_picture
from cnnfilter.filters.images import filter_image
from cnnfilter.filters.pooling.images import pool_image
from cnnfilter.filters.pooling.pool import pool
from cnnfilter.images.files import write_image
from cnnfilter.images.image import Image
from cnnfilter.kernels.lookup import find_kernel
from tests import naive
from tests.images.test_mapped_files import PEAK


def picture(rng, shape=(12, 14), dtype=np.uint8, channels=4) -> Image:
    top = np.iinfo(dtype).max
    pixels = rng.integers(0, top, (*shape, channels), dtype, endpoint=True)
    pixels[3:8, 2:7, -1] = 0
    pixels[:, 9:, -1] = top
    return Image.from_array(pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("name", ["sobel-h", "sharpen", "gaussian:1", "box:3"])
def test_hidden_colours_do_not_bleed(rng, dtype, channels, name):
    image = picture(rng, dtype=dtype, channels=channels)
    other = image.pixels.copy()
    other[other[:, :, -1] == 0, :-1] = 77
    changed = image.replace(pixels=other)
    first, second = (filter_image(each, [name])[0].pixels for each in (image, changed))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first[:, :, -1], image.pixels[:, :, -1])


def test_a_blur_is_the_weighted_mean(rng):
    image = picture(rng)
    weights = find_kernel("gaussian:1").weights
    weights = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    alpha = image.alpha.astype(float) / 255
    pads = ((1, 1), (1, 1))
    total = naive.convolve(image.colour * alpha, weights, pads=pads, border="replicate")
    seen = naive.convolve(alpha, weights, pads=pads, border="replicate")
    expected = np.divide(total, seen, out=np.zeros_like(total), where=seen > 1e-6)
    result, _, _ = filter_image(image, [weights])
    assert np.abs(result.colour - np.floor(expected + 0.5)).max() <= 1
    assert result.mode == "RGBA"


@pytest.mark.parametrize("border", ["replicate", "zero", "constant:40"])
def test_an_opaque_picture_is_filtered_as_if_it_had_no_alpha(rng, border):
    image = picture(rng)
    pixels = image.pixels.copy()
    pixels[:, :, -1] = 255
    nearly = pixels.copy()
    nearly[0, 0, -1] = 254  # takes the weighted way
    plain = filter_picture(pixels[:, :, :3], ["sharpen"], border=border).pixels
    for each in (pixels, nearly):
        result = filter_image(image.replace(pixels=each), ["sharpen"], border=border)[0].pixels
        np.testing.assert_array_equal(result[3:, 3:, :3], plain[3:, 3:])
        assert np.abs(result[:, :, :3].astype(int) - plain).max() <= 3


def test_a_constant_colour_has_no_edges_whatever_its_alpha(rng):
    image = picture(rng)
    pixels = image.pixels.copy()
    pixels[:, :, :3] = (200, 100, 50)
    result, _, _ = filter_image(image.replace(pixels=pixels), ["sobel"])
    assert result.colour.max() <= 0


def test_alpha_is_kept_filtered_or_dropped(rng):
    image = picture(rng)
    assert filter_image(image, ["box:3"], alpha="drop")[0].mode == "RGB"
    filtered = filter_image(image, ["box:3"], alpha="filter")[0]
    expected = filter_picture(np.ascontiguousarray(image.alpha), ["box:3"]).pixels
    np.testing.assert_array_equal(filtered.alpha, expected)
    strided = filter_image(image, ["box:3"], stride=2)[0]
    np.testing.assert_array_equal(strided.alpha, image.alpha[1::2, 1::2])  # same pads 0 before at stride 2
    valid = filter_image(image, ["box:3"], padding="valid")[0]
    np.testing.assert_array_equal(valid.alpha, image.alpha[1:-1, 1:-1])
    padded = filter_image(image, ["box:3"], padding=2, border="zero")[0]
    assert (padded.alpha[0] == 255).all()
    stack = filter_image(image, ["sobel-h", "sobel-v"], combine="stack")[0]
    assert stack.mode == "maps"
    assert stack.pixels.shape[2] == 6
    with pytest.raises(ShapeError, match="alpha 'no' is not one of keep"):
        filter_image(image, ["blur"], alpha="no")


def test_pooling_with_alpha(rng):
    image = picture(rng)
    alpha = image.alpha.astype(float) / 255
    visible = pool((image.colour * alpha).astype(np.float32), "avg")
    seen = pool(alpha.astype(np.float32), "avg")
    expected = np.divide(visible, seen, out=np.zeros_like(visible), where=seen > 0)
    mean = pool_image(image, "avg", size=2)
    assert np.abs(mean.colour - np.floor(expected + 0.5)).max() <= 1
    np.testing.assert_array_equal(mean.alpha, pool(np.ascontiguousarray(image.alpha), "avg", dtype=np.uint8))
    highest = pool_image(image, "max", size=2)
    shown = np.where(image.alpha > 0, image.colour, 0)
    np.testing.assert_array_equal(highest.colour, pool(shown, "max"))
    lowest = pool_image(image, "min", size=2)
    np.testing.assert_array_equal(lowest.colour, pool(np.where(image.alpha > 0, image.colour, 255), "min"))
    same = pool_image(image, "max", size=3, stride=1, padding=1)
    np.testing.assert_array_equal(same.alpha, image.alpha)
    filtered = pool_image(image, "max", size=3, stride=1, padding=1, alpha="filter")
    assert (filtered.alpha >= image.alpha).all()
    assert (filtered.alpha > image.alpha).any()
    assert pool_image(image, alpha="drop").mode == "RGB"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("opaque", [False, True])
def test_alpha_of_a_float_result_is_in_the_units_of_the_file(rng, dtype, opaque):
    image = picture(rng, dtype=dtype)
    if opaque:
        image.pixels[:, :, -1] = np.iinfo(dtype).max
    same = filter_image(image, ["identity"], dtype=np.float32)[0]
    np.testing.assert_allclose(same.colour[image.alpha[:, :, 0] > 0], image.colour[image.alpha[:, :, 0] > 0], rtol=1e-5)
    np.testing.assert_array_equal(same.alpha, image.alpha)
    blurred = filter_image(image, ["box:3"], alpha="filter", dtype=np.float32)[0]
    np.testing.assert_array_equal(blurred.alpha, filter_image(image, ["box:3"], alpha="filter")[0].alpha)
    means = pool_image(image, "avg", dtype=np.float32)
    assert means.pixels.dtype == np.float32
    np.testing.assert_allclose(means.alpha, pool(image.alpha, "avg", dtype=np.float32))
    kept = pool_image(image, "avg", size=3, stride=1, padding=1, dtype=np.float32)
    np.testing.assert_array_equal(kept.alpha, image.alpha)


def test_padding_counts_as_in_an_opaque_picture(rng):
    image = picture(rng)
    pixels = image.pixels.copy()
    pixels[:, :, -1] = 255
    nearly = pixels.copy()
    nearly[6, 6, -1] = 254
    for include in (True, False):
        options = {"size": 3, "stride": 2, "padding": 1, "count_include_pad": include}
        plain = pool(pixels[:, :, :3], "avg", dtype=np.uint8, **options)
        result = pool_image(image.replace(pixels=nearly), "avg", **options).colour
        assert np.abs(result.astype(int) - plain).max() <= 1


@pytest.mark.parametrize("kernels", [["sobel-h"], ["sobel"], ["sharpen", "blur"], ["gaussian:4"]])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("band", [1 << 21, 50])
def test_stretch_uses_one_range_for_all_frames(rng, monkeypatch, kernels, channels, opaque, band):
    monkeypatch.setattr("cnnfilter.filters.images._BAND_SAMPLES", band)
    frames = tuple(rng.integers(0, top, (30, 9, channels)).astype(np.uint8) for top in (20, 256, 90))
    if opaque and channels in (2, 4):
        for frame in frames:
            frame[:, :, -1] = 255
    image = Image.from_array(frames[0]).replace(frames=frames)
    each = [image.replace(pixels=frame, frames=()) for frame in frames]
    raw = [filter_image(one, kernels, dtype=np.float32, alpha="drop")[0].pixels for one in each]
    low, high = min(map(np.min, raw)), max(map(np.max, raw))
    result = filter_image(image, kernels, signed="stretch")[0]
    for maps, found in zip(raw, result.frames, strict=True):
        np.testing.assert_allclose(found[:, :, : maps.shape[2]], (maps - low) * 255 / (high - low), atol=0.51)
    floats = filter_image(image, kernels, signed="stretch", dtype=np.float32, alpha="drop")[0]
    assert (min(map(np.min, floats.frames)), max(map(np.max, floats.frames))) == pytest.approx((0, 1), abs=1e-5)


def test_every_frame_is_filtered(rng):
    frames = tuple(rng.integers(0, 255, (9, 9, 3), np.uint8) for _ in range(3))
    image = Image(frames[0], "RGB", "gif", frames=frames, durations=(10, 20, 30))
    result, _, algorithms_used = filter_image(image, ["sharpen"])
    for frame, before in zip(result.frames, frames, strict=True):
        np.testing.assert_array_equal(frame, filter_picture(before, ["sharpen"]).pixels)
    assert result.durations == (10, 20, 30)
    assert len(algorithms_used) == 1


@pytest.mark.parametrize("kernels", [["sharpen"], ["gaussian:2"], ["sobel"], ["9 -30 40; 0 -20 1"]])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("options", [{}, {"border": "reflect", "alpha": "filter"}, {"stride": 3, "alpha": "drop"}])
def test_a_large_picture_is_filtered_in_bands(rng, monkeypatch, kernels, dtype, options):
    """The rows below the middle are opaque: all of a picture decides how each band is filtered."""
    image = picture(rng, (61, 70), dtype)
    image.pixels[30:, :, -1] = np.iinfo(dtype).max
    whole, clipped, _ = filter_image(image, kernels, **options)
    pools = [pool_image(image, op, size=3, stride=2, padding=1) for op in ("max", "avg", "min")]
    monkeypatch.setattr("cnnfilter.filters.images._BAND_SAMPLES", 2000)
    in_bands, share, _ = filter_image(image, kernels, **options)
    assert in_bands.pixels.tobytes() == whole.pixels.tobytes()
    assert share == pytest.approx(clipped)
    for op, expected in zip(("max", "avg", "min"), pools, strict=True):
        assert pool_image(image, op, size=3, stride=2, padding=1).pixels.tobytes() == expected.pixels.tobytes()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_the_memory_of_a_large_picture_with_alpha(tmp_path):
    side = 3500
    pixels = np.full((side, side, 4), 200, np.uint8)
    pixels[::7, ::5, 3] = 90
    write_image(tmp_path / "in.png", pixels)
    line = ["convolve", "-k", "sharpen", "in.png", "-o", "out.png", "-q"]
    done = subprocess.run([sys.executable, "-c", PEAK, *line], cwd=tmp_path, capture_output=True, text=True)
    assert int(done.stdout) < (2 * pixels.nbytes >> 20) + 40 + 100  # in and out, and what may be between
