"""Separable terms, whole numbers and symmetries of weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnfilter.kernels.kernel import Kernel
from cnnfilter.kernels.lookup import find_kernel, find_kernels, kernel_names
from cnnfilter.kernels.structure import factor, integers_over_divisor, symmetries

SINGLE = [kernel.name for name in kernel_names() for kernel in find_kernels(name)]

# ---------------------------------------------------------------- separable terms


def composed(terms: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return sum(np.outer(column, row) for column, row in terms)


@pytest.mark.parametrize("name", SINGLE)
def test_the_terms_add_up_to_the_kernel(name):
    weights = find_kernel(name).weights
    terms = factor(weights)
    assert all(column.shape == (weights.shape[0],) and row.shape == (weights.shape[1],) for column, row in terms)
    assert np.abs(composed(terms) - weights).max() <= np.finfo(np.float32).eps / 2 * np.abs(weights).max()


@pytest.mark.parametrize(
    ("spec", "rank"),
    [
        ("gaussian:2", 1),
        ("box:7,3", 1),
        ("sobel-h", 1),
        ("robinson:w", 1),
        ("gabor:8,0", 1),
        ("laplacian", 2),
        ("sharpen", 2),
        ("log:2", 2),
        ("dog", 2),
        ("unsharp:2,0.5", 2),
        ("kirsch:n", 2),
        ("kirsch:ne", 3),
        ("1 2 3; 4 5 6; 7 8 10", 3),
        ("5", 1),
        ("0 0; 0 0", 1),
    ],
)
def test_rank(spec, rank):
    assert find_kernel(spec).rank == rank


@pytest.mark.parametrize(
    "name", ["identity", "blur", "binomial:9", "box:5", "sobel-h", "scharr-v", "line-h", "motion:9"]
)
def test_integers_of_one_term_are_exact(name):
    weights = find_kernel(name).weights
    terms = factor(weights)
    assert len(terms) == 1
    np.testing.assert_array_equal(composed(terms), weights)


@pytest.mark.parametrize(
    ("spec", "column", "row"),
    [
        ("sobel-v", [1, 2, 1], [-1, 0, 1]),
        ("scharr-h", [-1, 0, 1], [3, 10, 3]),
        ("2 3; 4 6", [1, 2], [2, 3]),
        ("-1 0 1", [1], [-1, 0, 1]),
        ("-2 -4", [-2], [1, 2]),
    ],
)
def test_the_terms_are_those_one_would_write(spec, column, row):
    [(found_column, found_row)] = factor(find_kernel(spec).weights)
    np.testing.assert_array_equal(found_column, column)
    np.testing.assert_array_equal(found_row, row)


def test_a_gaussian_has_equal_parts_that_sum_to_one():
    [(column, row)] = factor(find_kernel("gaussian:1.4").weights)
    np.testing.assert_allclose(column, row, rtol=1e-13)
    assert row.sum() == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_huge_and_tiny_weights_are_factored_too(scale):
    weights = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]) * scale
    assert np.abs(composed(factor(weights)) - weights).max() <= 1e-7 * 4 * scale


def test_a_term_counts_from_float32_rounding_up():
    base = np.outer([1.0, 2, 1], [1, 2, 1])
    spot = np.zeros((3, 3))
    spot[0, 0] = 1
    assert len(factor(base + 1e-9 * spot)) == 1
    assert len(factor(base + 1e-5 * spot)) == 2


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_any_outer_product_of_integers_is_exact(height, width, seed):
    numbers = np.random.default_rng(seed)
    weights = np.outer(numbers.integers(-9, 10, height), numbers.integers(-9, 10, width)).astype(float)
    terms = factor(weights)
    assert len(terms) == 1
    np.testing.assert_array_equal(composed(terms), weights)


# ---------------------------------------------------------------- whole numbers, symmetry


@pytest.mark.parametrize(
    ("spec", "divisor"),
    [("sharpen", 1), ("blur", 16), ("box:31", 961), ("binomial:9", 2**16), ("1/3 1/2", 6), ("0 0", 1)],
)
def test_integers_over_the_smallest_divisor(spec, divisor):
    whole, found = integers_over_divisor(find_kernel(spec).weights)
    assert found == divisor
    np.testing.assert_allclose(whole / divisor, find_kernel(spec).weights, rtol=1e-13)


@pytest.mark.parametrize("spec", ["gaussian:1", "frei-chen-h", "0.1234567 1"])
def test_weights_that_are_no_fractions_give_none(spec):
    assert integers_over_divisor(find_kernel(spec).weights) is None


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (
            "1 2 1; 2 4 2; 1 2 1",
            dict.fromkeys(["left-right", "top-bottom", "half turn", "diagonal", "other diagonal"], "even"),
        ),
        ("sobel-h", {"left-right": "even", "top-bottom": "odd", "half turn": "odd"}),
        ("-1 0; 0 1", {"half turn": "odd", "diagonal": "even", "other diagonal": "odd"}),
        ("1 2 3", {"top-bottom": "even"}),
        ("1 2; 3 5", {}),
    ],
)
def test_symmetries(spec, found):
    assert symmetries(find_kernel(spec).weights) == found


def test_symmetry_in_words():
    assert find_kernel("blur").symmetry == "the same under every mirror and quarter turn"
    assert find_kernel("sobel-h").symmetry == "the same under left-right; negated under top-bottom, half turn"
    assert find_kernel("1 2; 3 5").symmetry == "none"


@pytest.mark.parametrize("size", [1e308, 1e-310, 5e-324])
def test_numbers_near_the_ends_of_the_floats_are_weights(size):
    even, odd = Kernel(np.full((2, 2), size)), Kernel(np.array([[size, -size], [-size, size]]))
    assert odd.is_zero_sum
    assert not even.is_zero_sum
    assert even.rank == odd.rank == 1
    np.testing.assert_allclose(even.normalized().weights, 0.25)
    assert (even.symmetry, odd.flip()) == ("the same under every mirror and quarter turn", odd)
