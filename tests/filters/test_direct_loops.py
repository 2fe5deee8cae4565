"""Direct, separable and box convolution of rows of every length and bands of every height."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter.filters.convolution import algorithms
from cnnfilter.filters.convolution.algorithms import integer_unit
from cnnfilter.filters.convolution.box_loops import small_means
from cnnfilter.filters.convolution.convolve import convolve, filter_picture
from cnnfilter.filters.convolution.direct_loops import BLOCK_SAMPLES, TILE_SAMPLES
from cnnfilter.filters.convolution.geometry import Geometry
from cnnfilter.filters.windows import window_axes
from cnnfilter.jit.integer_vectors import division
from cnnfilter.kernels.lookup import find_kernel

WIDTHS = sorted(
    {
        1,
        2,
        15,
        16,
        17,
        TILE_SAMPLES - 1,
        TILE_SAMPLES,
        TILE_SAMPLES + 1,
        BLOCK_SAMPLES - 1,
        BLOCK_SAMPLES,
        BLOCK_SAMPLES + 1,
        2 * BLOCK_SAMPLES + 3,
        150,
    }
)
DENSE = np.random.default_rng(3).normal(0, 1, (5, 5))
SPARSE = np.where(np.arange(35).reshape(5, 7) % 3 == 0, DENSE.repeat(2, axis=1)[:, :7], 0)
KERNELS = {
    "dense": DENSE,
    "tall": np.random.default_rng(4).normal(0, 1, (9, 2)),
    "sparse": SPARSE,
    "one term": find_kernel("gaussian:1.2").weights,
    "two terms": np.outer(DENSE[0], DENSE[1]) + np.outer(DENSE[2], DENSE[3]),
    "three terms": np.outer(DENSE[0], DENSE[1]) + np.outer(DENSE[2], DENSE[3]) + np.outer(DENSE[4], DENSE[0]),
    "whole": find_kernel("sobel-h").weights,
    "whole multiples": find_kernel("binomial:3").weights,
    "equal": find_kernel("box:5").weights,
}
TYPES = [np.uint8, np.uint16, np.float32]


def picture(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    rng = np.random.default_rng(shape[1])
    if dtype == np.float32:
        return rng.normal(0, 50, shape).astype(np.float32)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def exactly(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correlate in float64, the edge repeated."""
    height, width = weights.shape
    pads = [((size - 1) // 2, size // 2) for size in (height, width)]
    padded = np.pad(pixels.astype(np.float64), [*pads, (0, 0)], mode="edge")
    rows, columns = pixels.shape[:2]
    return sum(weights[i, j] * padded[i : i + rows, j : j + columns] for i in range(height) for j in range(width))  # type: ignore[return-value]


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("algorithm", ["direct", "separable"])
def test_every_length_of_a_row(name: str, dtype: type, algorithm: str) -> None:
    weights = KERNELS[name]
    top = 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max)
    for case, width in enumerate(WIDTHS):
        pixels = picture((1 + case % 9, width, 1 + case % 4), dtype)
        exact = exactly(pixels, weights)
        bound = 1e-6 * float(np.abs(pixels).max() * np.abs(weights).sum())
        sums = convolve(pixels, weights, algorithm=algorithm)
        np.testing.assert_allclose(sums, exact, rtol=0, atol=bound)
        if dtype != np.float32:
            result = filter_picture(pixels, [weights], algorithm=algorithm, signed="abs", bias=3)
            expected = np.abs(exact + 3)
            assert np.abs(result.pixels - expected.clip(0, top)).max() <= 0.5 + bound
            assert result.clipped == pytest.approx((expected >= top + 0.5).mean(), abs=1e-2)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("algorithm", ["direct", "separable"])
def test_an_output_is_the_same_from_any_vector(name: str, dtype: type, algorithm: str) -> None:
    pixels = picture((40, 300, 1), dtype)
    whole = convolve(pixels, KERNELS[name], dtype=dtype, algorithm=algorithm)
    for left, right in ((0, 300), (1, 299), (50, 300 - 17), (100, 100 + BLOCK_SAMPLES + 40)):
        crop = np.ascontiguousarray(pixels[3:, left:right])
        part = convolve(crop, KERNELS[name], dtype=dtype, algorithm=algorithm)
        np.testing.assert_array_equal(part[5:-5, 5:-5], whole[8:-5, left + 5 : right - 5])


def test_nothing_is_read_beyond_the_picture() -> None:
    """The memory behind a picture may not exist: short regions at its end are computed from a copy."""
    for columns, padding in ((90, (2, 40, 2, 2)), (70, (2, 40, 2, 2)), (100, (2, 30, 2, 30)), (64, (0, 1, 0, 1))):
        geometry = Geometry(
            *window_axes((6, columns), (5, 5), padding=(padding[0], padding[3], padding[2], padding[1])), 1, "replicate"
        )
        inner = geometry.inner.with_side_strips(TILE_SAMPLES, geometry.outputs[1])
        for region in (inner, inner._replace(left=max(inner.right - BLOCK_SAMPLES + 1, 0))):
            if region.right - region.left < BLOCK_SAMPLES:
                assert not geometry.is_inner(region)


def test_the_unit_of_weights_of_different_sizes() -> None:
    assert integer_unit(np.array([1e-300, 1e300])) == 0
    assert integer_unit(np.array([0.25, -0.5])) == 0.25
    assert integer_unit(np.array([3.0, -2.0])) == 1
    assert integer_unit(np.array([100.0, 29.0])) == 0


@pytest.mark.parametrize("size", [2, 3, 4, 5, 9, 12, 15, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_mean_of_bytes_is_rounded_half_up_to_the_bit(size: int, channels: int) -> None:
    pixels = picture((21, 200, channels), np.uint8)
    count = size * size
    sums = np.rint(exactly(pixels, np.ones((size, size)))).astype(int)
    means = convolve(pixels, f"box:{size}", dtype=np.uint8)
    np.testing.assert_array_equal(means, (2 * sums + count) // (2 * count))


@pytest.mark.parametrize("taps", [(3, 1), (3, 2), (3, 3), (3, 4), (4, 6), (5, 5), (3, 7), (3, 8)])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("python", [False, True])
def test_small_means_of_each_width(taps: tuple[int, int], channels: int, python: bool) -> None:
    """The last window ends at the last sample of the picture: nothing behind it is read."""
    height, width = taps
    pixels = np.random.default_rng(1).integers(0, 256, (height + 4, 80 * channels), np.uint8)
    count = (80 - width + 1) * channels
    out = np.zeros((5, count + 2), np.uint8)
    quotient = division(height * width)
    assert quotient is not None
    means = small_means(channels == 1)
    starts = np.arange(height + 4) * pixels.shape[1]
    call = means.function if python else means
    call(pixels.reshape(-1), starts, out, 1, count, height, width, channels, *quotient)
    windows = np.lib.stride_tricks.sliding_window_view(pixels.reshape(height + 4, 80, channels), taps, axis=(0, 1))
    sums = windows.sum(axis=(3, 4)).reshape(5, count)
    np.testing.assert_array_equal(out[:, 1:-1], (2 * sums + height * width) // (2 * height * width))
    assert not out[:, [0, -1]].any()


@pytest.mark.parametrize("size", [3, 9, 15])
def test_weights_of_single_precision_are_those_of_a_mean(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = picture((40, 200, 3), np.uint8)
    monkeypatch.setattr(algorithms, "box_sums", None)
    means = convolve(pixels, np.full((size, size), np.float32(1 / size**2)), dtype=np.uint8)
    np.testing.assert_array_equal(means, convolve(pixels, f"box:{size}", dtype=np.uint8))


@pytest.mark.parametrize("taps", [(150, 1), (127, 2), (129, 3), (200, 40)])
@pytest.mark.parametrize("channels", [1, 3])
def test_boxes_of_many_rows(taps: tuple[int, int], channels: int) -> None:
    """Boxes with more rows than 16-bit differences allow; the means of the first two are divided in 16 bits."""
    pixels = picture((230, 120, channels), np.uint8)
    pixels[40:, 30:60] = 255
    means = convolve(pixels, np.full(taps, 1 / (taps[0] * taps[1])), dtype=np.uint8, padding="valid")
    windows = np.lib.stride_tricks.sliding_window_view(pixels.astype(np.int64), taps, axis=(0, 1))
    exact = windows.mean(axis=(3, 4))
    # A sum that is a half to the last bit may fall on either side.
    assert np.abs(means - exact).max() <= 0.5 + 1e-3


def test_every_sum_of_bytes_is_divided_in_16_bits() -> None:
    divided = 0
    for count in range(2, 258):
        quotient = division(count)
        if quotient:
            more, factor, shift = quotient
            sums = np.arange(255 * count + 1)
            assert (sums + more).max() <= 65535
            assert factor <= 65535
            np.testing.assert_array_equal((sums + more) * factor >> (16 + shift), (2 * sums + count) // (2 * count))
            divided += 1
    assert divided > 220
    assert division(258) is None
