"""Each instruction gives compiled what its function gives for numpy arrays."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter.loops.native import loop
from cnnfilter.loops.vectors import (
    LANES,
    absolute,
    add_product,
    count_outside,
    floats,
    minus,
    plus,
    splat,
    store,
    store_rounded,
    within,
)

SPECIAL = [
    0.0,
    -0.0,
    np.nan,
    np.inf,
    -np.inf,
    -0.5,
    -0.51,
    0.49999997,
    0.5,
    254.49998,
    254.5,
    255.5,
    255.49998,
    1e9,
    -3,
    7,
]


@loop("i8(u1[::1], f4[::1])", "i8(u2[::1], f4[::1])", "i8(f4[::1], f4[::1])")
def widen(samples, out):
    store(out, 0, floats(samples, 1))
    return 0


@loop("i8(f4[::1], f4[::1], f4)")
def weigh(samples, out, weight):
    values = splat(weight)
    store(out, 1, add_product(absolute(floats(samples, 0)), values, floats(samples, LANES)))
    return 0


@loop("i8(f4[::1], u1[::1], f4)", "i8(f4[::1], u2[::1], f4)")
def rounded(samples, out, top):
    values = floats(samples, 0)
    store_rounded(out, 3, values, top)
    return count_outside(values, top, 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_samples_become_floats(dtype: type) -> None:
    samples = np.random.default_rng(0).integers(0, 250, LANES + 1).astype(dtype)
    out = np.zeros(LANES, np.float32)
    widen(samples, out)
    np.testing.assert_array_equal(out, samples[1:].astype(np.float32))
    np.testing.assert_array_equal(out, floats.function(samples, 1))


def test_a_product_is_added_to_a_total() -> None:
    samples = np.random.default_rng(1).normal(0, 4, 2 * LANES).astype(np.float32)
    out = np.zeros(LANES + 2, np.float32)
    weigh(samples, out, 0.3)
    expected = add_product.function(np.abs(samples[:LANES]), np.float32(0.3), samples[LANES:])
    np.testing.assert_allclose(out[1:-1], expected, rtol=1e-6)
    assert out[0] == out[-1] == 0


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_values_are_rounded_half_up_and_saturated(dtype: type, top: int) -> None:
    samples = np.array(SPECIAL, np.float32)
    samples[samples == 255.5] = top + 0.5
    out = np.full(LANES + 4, 9, dtype)
    outside = rounded(samples, out, top)
    with np.errstate(invalid="ignore"):
        expected = np.floor(np.clip(np.nan_to_num(samples, nan=0, posinf=1e9, neginf=-1), 0, top) + 0.5)
        assert outside == count_outside.function(samples, top, 0)
    assert list(out[3:-1]) == list(expected.astype(dtype))
    assert list(out[:3]) + list(out[-1:]) == [9] * 4
    assert outside == 6


def test_python_does_the_same() -> None:
    samples = np.array(SPECIAL, np.float32)
    ours, theirs = np.zeros(LANES + 4, np.uint8), np.zeros(LANES + 4, np.uint8)
    with np.errstate(invalid="ignore"):
        assert rounded.function(samples, ours, np.float32(255)) == rounded(samples, theirs, 255)
    np.testing.assert_array_equal(ours, theirs)


@loop("void(f4[::1], f4[::1], f4, f4)")
def combined(samples, out, low, high):
    values, more = floats(samples, 0), floats(samples, LANES)
    store(out, 0, plus(values, more))
    store(out, LANES, minus(values, more))
    store(out, 2 * LANES, within(values, low, high))


def test_sums_differences_and_ranges() -> None:
    values, more = np.array(SPECIAL, np.float32), np.random.default_rng(2).normal(0, 4, LANES).astype(np.float32)
    out = np.zeros(3 * LANES, np.float32)
    combined(np.concatenate([values, more]), out, -1, 200)
    np.testing.assert_array_equal(out, np.concatenate([values + more, values - more, np.clip(values, -1, 200)]))
    np.testing.assert_array_equal(within.function(values, -1, 200), out[2 * LANES :])
