"""The computed kernels against SciPy, scikit-image and OpenCV, against literal values, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cnnfilter.kernels.formulas import balanced
from cnnfilter.kernels.lookup import find_kernel


def weights(spec: str) -> np.ndarray:
    return find_kernel(spec).weights


def impulse(side: int) -> np.ndarray:
    picture = np.zeros((side, side))
    picture[side // 2, side // 2] = 1
    return picture


# ---------------------------------------------------------------- Gaussian and what is made of it


def test_gaussian_values():
    middle = [0.0544886845, 0.2442013420, 0.4026199468, 0.2442013420, 0.0544886845]
    np.testing.assert_allclose(weights("gaussian:1,5"), np.outer(middle, middle), atol=1e-10)


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1, 1.4, 2.5, 10])
def test_gaussian_is_scipys(sigma):
    ndimage = pytest.importorskip("scipy.ndimage")
    ours = weights(f"gaussian:{sigma}")
    theirs = ndimage.gaussian_filter(impulse(2 * int(4 * sigma + 0.5) + 1), sigma, mode="constant")
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-15)


def test_gaussian_of_an_even_size_has_its_middle_between_pixels():
    near, far = math.exp(-(0.5**2) / 2), math.exp(-(1.5**2) / 2)
    line = np.array([far, near, near, far]) / (2 * near + 2 * far)
    np.testing.assert_allclose(weights("gaussian:1,4"), np.outer(line, line), atol=1e-15)


@pytest.mark.parametrize(("sigma", "size"), [(1, 3), (1.4, 9), (3, 11)])
def test_gaussian_of_a_size_is_opencvs(sigma, size):
    cv2 = pytest.importorskip("cv2")
    line = cv2.getGaussianKernel(size, sigma, cv2.CV_64F)
    np.testing.assert_allclose(weights(f"gaussian:{sigma},{size}"), line @ line.T, atol=1e-14)


@pytest.mark.parametrize(("sigma", "amount"), [(1, 1), (1.5, 0.8), (2, -0.5)])
def test_unsharp_is_scikit_images(sigma, amount):
    filters = pytest.importorskip("skimage.filters")
    side = 2 * int(4 * sigma + 0.5) + 1
    theirs = filters.unsharp_mask(impulse(3 * side), sigma, amount, preserve_range=True)
    np.testing.assert_allclose(weights(f"unsharp:{sigma},{amount}"), theirs[side:-side, side:-side], atol=1e-15)


def test_unsharp_with_no_amount_is_the_picture():
    expected = np.zeros((9, 9))
    expected[4, 4] = 1
    np.testing.assert_array_equal(weights("unsharp:1,0"), expected)


@pytest.mark.parametrize(("low", "high"), [(1, 1.6), (2, 3.5), (1.6, 1)])
def test_dog_is_scikit_images(low, high):
    filters = pytest.importorskip("skimage.filters")
    ours = weights(f"dog:{low},{high}")
    picture = impulse(ours.shape[0])
    if low < high:
        theirs = filters.difference_of_gaussians(picture, low, high, mode="constant")
    else:
        theirs = -filters.difference_of_gaussians(picture, high, low, mode="constant")
    np.testing.assert_allclose(ours, theirs, atol=1e-11)


def test_log_values():
    """At the middle -2/sigma² times the Gaussian, and 0 on the circle of radius sigma times the root of 2."""
    log = weights("log:3")
    middle = log.shape[0] // 2
    assert log[middle, middle] == pytest.approx(-2 / 9 / (2 * math.pi * 9), rel=0.01)
    assert log[middle, middle + 4] < 0 < log[middle, middle + 5]


@pytest.mark.parametrize("sigma", [1, 1.4, 3])
def test_log_is_scipys_but_for_its_rest(sigma):
    ndimage = pytest.importorskip("scipy.ndimage")
    ours = weights(f"log:{sigma}")
    theirs = ndimage.gaussian_laplace(impulse(ours.shape[0]), sigma, mode="constant")
    # SciPy's sum is not 0 (1e-3 of its largest weight); ours differs by what makes it so.
    np.testing.assert_allclose(ours, theirs, atol=0.005 * np.abs(theirs).max())


@pytest.mark.parametrize("sigma", [0.3, 1, 1.4, 4])
def test_log_of_a_parabola_is_its_second_derivative(sigma):
    log = weights(f"log:{sigma}")
    reach = log.shape[0] // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    # Half of x² + y² has the Laplacian 2; a Gaussian finer than the pixels misses much of it.
    assert (log * (x**2 + y**2) / 2).sum() == pytest.approx(2, rel=0.01 if sigma >= 1 else 1)
    assert (log * x).sum() == pytest.approx(0, abs=1e-9)


# ---------------------------------------------------------------- exact sums


@pytest.mark.parametrize("spec", ["log", "log:0.3", "log:20", "dog", "dog:5,8", "gabor", "gabor:3,17", "gabor:40,30"])
def test_the_sum_is_exactly_zero_in_any_order(spec, rng):
    values = weights(spec).ravel()
    assert values.any()
    for _ in range(5):
        assert np.cumsum(rng.permutation(values))[-1] == 0


def test_balancing_changes_no_weight_by_more_than_double_rounding_of_the_largest():
    before = np.array([[0.1, 0.2, 0.1], [0.2, -1.2, 0.2], [0.1, 0.2, 0.1]])
    np.testing.assert_allclose(balanced(before), before, atol=1e-13)
    assert balanced(before).sum() == 0


# ---------------------------------------------------------------- motion


def test_motion_values():
    """Three pixels along the diagonal: 1 in the middle, 2 - sqrt 2 at the ends, 1 - sqrt 2 / 2 beside it."""
    end, beside = 2 - math.sqrt(2), 1 - math.sqrt(0.5)
    expected = np.array([[0, beside, end], [beside, 1, beside], [end, beside, 0]])
    np.testing.assert_allclose(weights("motion:3,45"), expected / expected.sum(), atol=1e-15)


def test_motion_goes_counter_clockwise_from_the_right():
    kernel = weights("motion:15,30")
    height, width = kernel.shape
    assert height < width
    upper_right = kernel[: height // 2, width // 2 + 1 :].sum()
    upper_left = kernel[: height // 2, : width // 2].sum()
    assert upper_right > 10 * upper_left


@pytest.mark.parametrize("angle", [0, 10, 45, 60, 90, 135])
def test_motion_there_and_back_is_the_same(angle):
    np.testing.assert_allclose(weights(f"motion:9,{angle}"), weights(f"motion:9,{angle - 180}"), atol=1e-15)
    np.testing.assert_allclose(
        weights(f"motion:9,{angle}").T, weights(f"motion:9,{90 - angle}")[::-1, ::-1], atol=1e-14
    )


@pytest.mark.parametrize("angle", range(0, 180, 15))
def test_motion_blurs_along_its_line_by_its_length(angle):
    kernel = weights(f"motion:21,{angle}")
    y, x = (axis - (side - 1) / 2 for axis, side in zip(np.indices(kernel.shape), kernel.shape, strict=True))
    turn = math.radians(angle)
    along, across = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
    # A line of length 21 has the variance 21² / 12; soft sides have 1/6 at most, and none at a right angle.
    assert (kernel * along**2).sum() == pytest.approx(21**2 / 12, rel=0.03)
    assert (kernel * across**2).sum() == pytest.approx(1 / 6 if angle % 90 else 0, abs=0.05)


def test_motion_has_no_weights_from_rounding():
    """The triangle of 3, 4 and 5 puts a pixel at a distance of exactly 1, but for the sine's last bit."""
    kernel = weights(f"motion:11,{math.degrees(math.atan2(4, 3))!r}")
    assert kernel.shape == (9, 7)
    assert kernel[kernel > 0].min() > 1e-6


def test_the_shortest_motion_is_none():
    np.testing.assert_array_equal(weights("motion:1,30"), [[1]])


# ---------------------------------------------------------------- disk


def test_disk_values():
    """MATLAB's fspecial('disk', 1): a middle of 1 / pi, and a corner of what the circle leaves there."""
    corner = (math.pi - 3 * math.sqrt(3) + 3) / 12 / math.pi  # (cut at x = 1/2 and y = 1/2)
    side = (1 - 1 / math.pi - 4 * corner) / 4
    expected = [[corner, side, corner], [side, 1 / math.pi, side], [corner, side, corner]]
    np.testing.assert_allclose(weights("disk:1"), expected, atol=1e-15)
    np.testing.assert_allclose(weights("disk:1")[0], [0.0251, 0.1453, 0.0251], atol=5e-5)


@pytest.mark.parametrize("radius", [0.4, 0.5, 1.7, 3, 4.5])
def test_disk_equals_counted_areas(radius):
    kernel = weights(f"disk:{radius}")
    side, fine = kernel.shape[0], 200
    points = (np.arange(side * fine) + 0.5) / fine - side / 2
    inside = points[:, None] ** 2 + points[None, :] ** 2 <= radius**2
    counted = inside.reshape(side, fine, side, fine).sum(axis=(1, 3)) / fine**2 / (math.pi * radius**2)
    np.testing.assert_allclose(kernel, counted, atol=5e-4)
    assert (kernel[side // 2] > 0).all()


def test_a_disk_within_a_pixel_is_that_pixel():
    np.testing.assert_allclose(weights("disk:0.4"), [[1]])


# ---------------------------------------------------------------- gabor


@pytest.mark.parametrize(("wavelength", "angle"), [(8, 0), (6, 30), (5, 90), (10, 135)])
def test_gabor_is_scikit_images_without_its_mean(wavelength, angle):
    filters = pytest.importorskip("skimage.filters")
    theirs = filters.gabor_kernel(1 / wavelength, theta=-math.radians(angle), n_stds=3)
    envelope = np.abs(theirs)
    expected = theirs.real - envelope * theirs.real.sum() / envelope.sum()
    ours = weights(f"gabor:{wavelength},{angle}")
    # They crop the square to what the turned envelope covers, which changes the mean a little.
    crop = tuple(slice((o - t) // 2, (o - t) // 2 + t) for o, t in zip(ours.shape, expected.shape, strict=True))
    ours, expected = ours[crop], expected[: ours.shape[0], : ours.shape[1]]
    np.testing.assert_allclose(ours / ours.max(), expected / expected.max(), atol=5e-3)


@pytest.mark.parametrize("angle", [0, 20, 45, 90, 160])
def test_gabor_gives_back_its_own_wave_and_no_other(angle):
    kernel = weights(f"gabor:8,{angle}")
    reach = kernel.shape[0] // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    turn = math.radians(angle)
    assert (kernel * np.cos(2 * math.pi * (x * math.cos(turn) - y * math.sin(turn)) / 8)).sum() == pytest.approx(1)
    crossed = np.cos(2 * math.pi * (x * math.sin(turn) + y * math.cos(turn)) / 8)
    assert abs((kernel * crossed).sum()) < 0.05


def test_gabor_at_zero_finds_upright_stripes():
    kernel = weights("gabor:8,0")
    middle = kernel.shape[0] // 2
    assert kernel[middle, middle + 4] < 0 < kernel[middle + 4, middle]
