"""The kernel between two pictures: recovered exactly where it can be, refused where it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter.errors import KernelError, ShapeError
from cnnfilter.kernels import fitting
from cnnfilter.kernels.fitting import fit_kernel, known_name, rounded, simplify
from cnnfilter.kernels.kernel import Kernel
from cnnfilter.kernels.lookup import find_kernel

SPECS = [
    "sharpen",
    "gaussian:0.5",
    "box:5",
    "emboss",
    "motion:5,30",
    "roberts-1",
    "log:1",
    "1 2 3; 4 5 7",
    "0.3",
]


def valid(picture: np.ndarray, weights: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(picture, weights.shape, axis=(0, 1))
    return np.einsum("...ij,ij->...", windows.astype(float), weights)


def same(picture: np.ndarray, weights: np.ndarray) -> np.ndarray:
    height, width = weights.shape
    pad = ((height - 1) // 2, height // 2), ((width - 1) // 2, width // 2), (0, 0)
    return valid(np.pad(picture, pad[: picture.ndim], mode="edge"), weights)


@pytest.fixture
def photo(rng):
    """A picture like a photo: areas, edges, and little noise (H, W, 3)."""
    y, x = np.mgrid[:60, :70]
    shade = 100 + 60 * np.sin(x / 9) * np.cos(y / 7) + 50 * ((x + y) % 30 > 15)
    picture = shade[:, :, None] * [1, 0.9, 0.7] + rng.normal(0, 4, (60, 70, 3))
    return picture.clip(0, 255).round().astype(np.uint8)


# ---------------------------------------------------------------- recovery


@pytest.mark.parametrize("spec", SPECS)
def test_a_filter_in_floats_is_recovered(photo, spec):
    weights = find_kernel(spec).weights
    kernel, residual = fit_kernel(photo, same(photo, weights), weights.shape)
    np.testing.assert_allclose(kernel.weights, weights, atol=1e-9)
    assert residual.rms < 1e-7
    assert residual.explained == pytest.approx(1)
    assert residual.clipped == 0


@pytest.mark.parametrize("spec", ["sharpen", "emboss", "sobel-h", "sharpen-more"])
def test_a_clipped_8_bit_picture_is_enough(photo, spec):
    weights = find_kernel(spec).weights
    after = same(photo, weights).clip(0, 255).astype(np.uint8)
    kernel, residual = fit_kernel(photo, after, 3)
    np.testing.assert_allclose(kernel.weights, weights, atol=1e-9)
    assert residual.clipped > 0
    assert residual.clipped + residual.samples == 58 * 68 * 3


def test_rounding_to_8_bits_leaves_the_residual_of_rounding(photo):
    weights = find_kernel("box:5").weights
    kernel, residual = fit_kernel(photo, np.floor(same(photo, weights) + 0.5).astype(np.uint8), (5, 5))
    np.testing.assert_allclose(kernel.weights, weights, atol=5e-3)
    assert residual.rms == pytest.approx(12**-0.5, rel=0.05)
    assert residual.max == pytest.approx(0.5, abs=0.05)
    assert (np.abs(kernel.weights - weights) < 6 * residual.error).all()


def test_a_bias_is_found_beside_the_weights(photo):
    weights = find_kernel("sobel-h").weights
    kernel, residual = fit_kernel(photo, same(photo, weights) / 8 + 128, 3, bias=True)
    np.testing.assert_allclose(kernel.weights, weights / 8, atol=1e-9)
    assert kernel.offset == pytest.approx(128)
    assert residual.rms < 1e-7
    without, worse = fit_kernel(photo, same(photo, weights) / 8 + 128, 3)
    assert without.offset == 0
    assert worse.rms > 0.1


def test_grey_pictures_and_pictures_without_padding(photo):
    grey = photo[:, :, 0]
    weights = find_kernel("1 2; 3 5; 0 -1").weights
    for after in (valid(grey, weights), same(grey, weights)):
        np.testing.assert_allclose(fit_kernel(grey, after, (3, 2))[0].weights, weights, atol=1e-9)


def test_a_larger_size_finds_the_same_kernel_with_zeros_around(photo):
    kernel, _ = fit_kernel(photo, same(photo, find_kernel("sharpen").weights), 5)
    np.testing.assert_allclose(kernel.weights, np.pad(find_kernel("sharpen").weights, 1), atol=1e-9)


def test_no_kernel_does_better(photo, rng):
    after = np.sqrt(same(photo, find_kernel("blur").weights))
    kernel, residual = fit_kernel(photo, after, 3)
    for _ in range(20):
        other = kernel.weights + rng.normal(0, 1e-3, (3, 3))
        left = after[1:-1, 1:-1] - valid(photo, other)
        assert np.sqrt((left**2).mean()) >= residual.rms
    assert 0 < residual.explained < 1


def test_the_inputs_are_left_alone(photo):
    after = same(photo, find_kernel("blur").weights)
    copies = photo.copy(), after.copy()
    fit_kernel(photo, after, 3)
    np.testing.assert_array_equal(photo, copies[0])
    np.testing.assert_array_equal(after, copies[1])


def test_of_a_large_picture_evenly_spread_rows_do(photo, monkeypatch):
    monkeypatch.setattr(fitting, "_SAMPLES_MAX", 2000)
    weights = find_kernel("emboss").weights
    kernel, residual = fit_kernel(photo, same(photo, weights), 3)
    np.testing.assert_allclose(kernel.weights, weights, atol=1e-9)
    assert 2000 <= residual.samples < 2500


def test_chunks_change_nothing(photo, monkeypatch):
    after = np.sqrt(same(photo, find_kernel("blur").weights))
    whole, _ = fit_kernel(photo, after, 3)
    monkeypatch.setattr(fitting, "_CHUNK_BYTES", 1)
    np.testing.assert_allclose(fit_kernel(photo, after, 3)[0].weights, whole.weights, rtol=1e-9)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("before", "after", "size", "error", "says"),
    [
        (np.zeros((9, 9)), np.zeros((9, 9)), 0, KernelError, "a kernel of 0x0 has no weights"),
        (
            np.zeros((9, 9)),
            np.zeros((9, 9)),
            (33, 32),
            KernelError,
            "a kernel of 33x32 has 1056 weights; 1024",
        ),
        (np.zeros((9, 9)), np.zeros((9, 9, 3)), 3, ShapeError, "9x9x1 and 9x9x3 (height x width x channels)"),
        (
            np.zeros((9, 9)),
            np.zeros((8, 9)),
            3,
            ShapeError,
            "8x9 (height x width); beside one of 9x9 it must have the",
        ),
        (
            np.zeros((2, 9)),
            np.zeros((2, 9)),
            3,
            ShapeError,
            "a kernel of 3x3 does not fit into a picture of 2x9",
        ),
        (np.zeros(9), np.zeros(9), 3, ShapeError, "pictures of 9 and 9"),
        (np.full((9, 9), 7), np.full((9, 9), 7), 3, KernelError, "determines only 1 of 9 unknowns"),
        (np.zeros((9, 9)), np.zeros((9, 9)), 3, KernelError, "determines only 0 of 9 unknowns"),
        (np.mgrid[:20, :20][0], np.zeros((20, 20)), 3, KernelError, "determines only 2 of 9 unknowns"),
        (np.eye(4) + 1.0, np.eye(4), 3, KernelError, "of 9 unknowns"),
        (np.full((9, 9), np.nan), np.zeros((9, 9)), 3, KernelError, "the pictures hold NaN or infinity"),
        (np.eye(9), np.full((9, 9), np.inf), 3, KernelError, "the pictures hold NaN or infinity"),
    ],
)
def test_refuses(before, after, size, error, says):
    with pytest.raises(error) as caught:
        fit_kernel(before, after, size)
    assert says in str(caught.value)


def test_a_picture_clipped_everywhere_is_refused(photo):
    black = np.zeros_like(photo)
    with pytest.raises(KernelError, match="clipped nearly everywhere"):
        fit_kernel(photo, black, 3)


# ---------------------------------------------------------------- simple numbers and names


@pytest.mark.parametrize("spec", ["sharpen", "emboss", "box:5", "blur", "1/3 0 2/3; 1 0 0"])
def test_noise_is_taken_off_simple_numbers(spec, rng):
    weights = find_kernel(spec).weights
    noisy = Kernel(weights + rng.normal(0, 1e-5, weights.shape))
    np.testing.assert_allclose(simplify(noisy, np.full(weights.shape, 1e-5)).weights, weights, rtol=1e-15)


@pytest.mark.parametrize("spec", ["gaussian:1", "frei-chen-h", "log"])
def test_no_simple_numbers_are_made_up(spec):
    weights = find_kernel(spec).weights
    assert simplify(Kernel(weights), np.full(weights.shape, 1e-5)) is None


def test_where_the_fit_leaves_everything_open_nothing_is_simple():
    assert simplify(Kernel(np.array([[0.2, 0.9]])), np.full((1, 2), 0.5)) is None


def test_rounded_has_the_digits_that_are_determined():
    kernel = Kernel(np.array([[1.23456789, -0.00001]]))
    np.testing.assert_array_equal(rounded(kernel, np.array([[3e-3, 2e-3]])).weights, [[1.235, 0]])
    assert rounded(kernel, np.zeros((1, 2))) is kernel


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("0 -1 0; -1 5 -1; 0 -1 0", "sharpen"),
        ("-1 -2 -1; 0 0 0; 1 2 1", "sobel-h"),
        ("5 5 5; -3 0 -3; -3 -3 -3", "kirsch:n"),
        ("box:7", "box:7"),
        ("box:3,5", "box:3,5"),
        ("binomial:7", "binomial:7"),
        ("gaussian:0.8,7", "gaussian:0.8,7"),
        ("gaussian:1.4", "gaussian:1.4,13"),
        ("1 2 4", None),
        ("0.5", None),
    ],
)
def test_a_kernel_is_called_by_its_name(spec, name):
    weights = find_kernel(spec).weights
    assert known_name(Kernel(weights + 1e-7), np.full(weights.shape, 1e-6)) == name
