"""Each compiled instruction gives what its function of numpy arrays gives."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter.jit.float_vectors import (
    absolute_floats,
    add_product,
    count_outside,
    divide,
    every_second,
    first_lanes,
    larger_floats,
    later_lanes,
    load_floats,
    minus,
    plus,
    prefetch,
    splat,
    store,
    store_first,
    store_first_rounded,
    store_rounded,
    within,
)
from cnnfilter.jit.instructions import LANES, LANES_U8, LANES_U16, VECTOR_U8, VECTOR_U16
from cnnfilter.jit.integer_vectors import (
    absolute_i16,
    add_u16,
    count_clipped,
    division,
    floats_of_i16,
    larger_bytes,
    load_bytes,
    load_bytes_u16,
    load_even,
    load_odd,
    load_u16,
    multiply_u16,
    splat_u16,
    store_bytes,
    store_clipped,
    store_divided,
    store_pairs_divided,
    store_quotients,
    store_u16,
    subtract_u16,
)
from cnnfilter.jit.loop import loop
from cnnfilter.jit.prefix_sums import (
    VECTOR_U32,
    add_u32,
    floats_of_i32,
    load_bytes_u32,
    load_difference,
    load_u32,
    running_sums,
    store_u32,
    subtract_u32,
)
from cnnfilter.jit.templates import define

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
    store(out, 0, load_floats(samples, 1))
    return 0


@loop("i8(f4[::1], f4[::1], f4)")
def weigh(samples, out, weight):
    values = splat(weight)
    store(out, 1, add_product(absolute_floats(load_floats(samples, 0)), values, load_floats(samples, LANES)))
    return 0


@loop("i8(f4[::1], u1[::1], f4)", "i8(f4[::1], u2[::1], f4)")
def rounded(samples, out, top):
    values = load_floats(samples, 0)
    store_rounded(out, 3, values, top)
    return count_outside(values, top, 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_samples_become_floats(dtype: type) -> None:
    samples = np.random.default_rng(0).integers(0, 250, LANES + 1).astype(dtype)
    out = np.zeros(LANES, np.float32)
    widen(samples, out)
    np.testing.assert_array_equal(out, samples[1:].astype(np.float32))
    np.testing.assert_array_equal(out, load_floats.function(samples, 1))


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
    values, more = load_floats(samples, 0), load_floats(samples, LANES)
    store(out, 0, plus(values, more))
    store(out, LANES, minus(values, more))
    store(out, 2 * LANES, within(values, low, high))


def test_sums_differences_and_ranges() -> None:
    values, more = np.array(SPECIAL, np.float32), np.random.default_rng(2).normal(0, 4, LANES).astype(np.float32)
    out = np.zeros(3 * LANES, np.float32)
    combined(np.concatenate([values, more]), out, -1, 200)
    np.testing.assert_array_equal(out, np.concatenate([values + more, values - more, np.clip(values, -1, 200)]))
    np.testing.assert_array_equal(within.function(values, -1, 200), out[2 * LANES :])


# --- for pooling ------------------------------------------------------------------------------------------


@loop("i8(u1[::1], u1[::1], u1[::1])")
def largest_bytes(samples, others, out):
    store_bytes(out, 1, larger_bytes(load_bytes(samples, 0), load_bytes(others, 2)))
    return 0


@loop("i8(f4[::1], f4[::1], f4[::1])")
def largest_floats(samples, others, out):
    store(out, 0, larger_floats(load_floats(samples, 0), load_floats(others, 0)))
    return 0


@loop("i8(f4[::1], f4[::1], f4)")
def quotients(samples, out, count):
    store(out, 0, divide(load_floats(samples, 0), count))
    return 0


@loop("i8(u1[::1], u1[::1], u1[::1], f4[::1], i8, i8, i8, i8)")
def means(samples, others, out, exact, count, more, factor, shift):
    sums = add_u16(load_bytes_u16(samples, 0), load_bytes_u16(others, 0))
    store_divided(out, 2, sums, more, factor, shift)
    store_quotients(exact, 2, sums, np.float32(count))
    return 0


def quotient_of(count: int) -> tuple[int, int, int]:
    found = division(count)
    assert found is not None
    return found


@loop("i8(u1[::1], u2[::1], u1[::1], f4[::1], i8)")
def signed_sums(samples, stored, out, floats_out, weight):
    """Weigh bytes by a signed weight, 16 bits each: keep, clip and widen them."""
    values = multiply_u16(splat_u16(weight), load_bytes_u16(samples, 1))
    store_u16(stored, 1, subtract_u16(values, splat_u16(3)))
    values = load_u16(stored, 1)
    store_clipped(out, 1, values)
    store(floats_out, 0, floats_of_i16(values, 0))
    store(floats_out, LANES, floats_of_i16(absolute_i16(values), 1))
    return count_clipped(values, 5)


@pytest.mark.parametrize("weight", [1, -1, 100, -127])
def test_signed_sums_in_uint16(weight: int) -> None:
    samples = np.random.default_rng(5).integers(0, 256, LANES_U16 + 1).astype(np.uint8)
    exact = samples[1:].astype(int) * weight - 3
    for call in (signed_sums, signed_sums.function):
        stored, out = np.zeros(LANES_U16 + 2, np.uint16), np.zeros(LANES_U16 + 2, np.uint8)
        widened = np.zeros(LANES_U16, np.float32)
        assert call(samples, stored, out, widened, weight) == ((exact < 0) | (exact > 255))[5:].sum()
        assert list(stored.view(np.int16)) == [0, *exact, 0]
        assert list(out) == [0, *exact.clip(0, 255), 0]
        assert list(widened) == [*exact[:LANES], *np.abs(exact[LANES:])]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, LANES])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_running_sums(channels: int, dtype: type) -> None:
    is_u16 = dtype == np.uint16
    lanes, kind = (LANES_U16, VECTOR_U16) if is_u16 else (LANES, VECTOR_U32)
    sum_up = running_sums(kind, channels)
    take, keep = (load_u16, store_u16) if is_u16 else (load_u32, store_u32)
    name = "u2" if is_u16 else "i4"
    pixels = lanes // channels

    @loop(f"i8({name}[::1], {name}[::1])", constants=(channels,))
    def run(numbers, out):
        first = sum_up(take(numbers, 0), take(numbers, lanes))
        keep(out, 0, first)
        keep(out, lanes, sum_up(first, take(numbers, 2 * lanes)))
        return 0

    top = np.iinfo(dtype).max  # larger sums wrap around
    numbers = np.random.default_rng(6).integers(top // 3, top, 3 * lanes).astype(dtype)
    count = pixels * channels
    before, *blocks = (block[:count].reshape(pixels, channels).astype(np.int64) for block in numbers.reshape(3, lanes))
    exact = (before[-1] + np.cumsum(np.concatenate(blocks), axis=0)).astype(dtype).reshape(2, count)
    for call in (run, run.function):
        out = np.zeros(2 * lanes, dtype)
        call(numbers, out)
        np.testing.assert_array_equal(out.reshape(2, lanes)[:, :count], exact)


@loop("void(u1[::1], i4[::1], f4[::1])")
def sums_of_u32(samples, numbers, floats_out):
    grown = add_u32(load_u32(numbers, 0), load_bytes_u32(samples, 1))
    store_u32(numbers, LANES, subtract_u32(grown, load_u32(numbers, 1)))
    store(floats_out, 1, floats_of_i32(load_u32(numbers, LANES)))


@pytest.mark.parametrize("python", [False, True])
def test_integers_of_32_bits(python: bool) -> None:
    rng = np.random.default_rng(7)
    samples = rng.integers(0, 256, LANES + 1, np.uint8)
    numbers = rng.integers(-(1 << 30), 1 << 30, 2 * LANES, np.int32)
    exact = numbers[:LANES] + samples[1:] - numbers[1 : LANES + 1]
    widened = np.zeros(LANES + 2, np.float32)
    (sums_of_u32.function if python else sums_of_u32)(samples, numbers, widened)
    np.testing.assert_array_equal(numbers[LANES:], exact)
    np.testing.assert_array_equal(widened, [0, *exact.astype(np.float32), 0])


@loop("void(u2[::1], i4[::1], i8, i8)", "void(i4[::1], i4[::1], i8, i8)")
def differences(sums, out, ahead, behind):
    store_u32(out, 0, load_difference(sums, ahead, behind))


@pytest.mark.parametrize("python", [False, True])
def test_differences_of_sums_have_a_sign(python: bool) -> None:
    call = differences.function if python else differences
    first = np.random.default_rng(8).integers(0, 1 << 16, 2 * LANES).astype(np.int64)
    later = first[3 : 3 + LANES] + np.arange(-8, 8) * 4095
    for dtype in (np.uint16, np.int32):
        sums = np.concatenate([first, later]).astype(dtype)  # uint16 wraps around
        out = np.zeros(LANES, np.int32)
        call(sums, out, 2 * LANES, 3)
        np.testing.assert_array_equal(out, np.arange(-8, 8) * 4095)


@loop("i8(f4[::1], f4[::1], u1[::1], i8)")
def first_of(samples, out, rounded_out, count):
    prefetch(samples, LANES)  # what comes after: it is not read
    values = load_floats(samples, 0)
    store_first(out, 1, values, count)
    store_first_rounded(rounded_out, 1, values, 255, count)
    store(out, 2 + LANES, first_lanes(values, count))
    return 0


@pytest.mark.parametrize("count", [0, 1, LANES - 1, LANES])
def test_the_first_lanes(count: int) -> None:
    samples = np.random.default_rng(6).uniform(0, 255, LANES).astype(np.float32)
    for call in (first_of, first_of.function):
        out, rounded_out = np.zeros(2 * LANES + 2, np.float32), np.zeros(LANES + 2, np.uint8)
        call(samples, out, rounded_out, count)
        first = [*samples[:count], *([0] * (LANES - count))]
        assert list(out) == [0, *first, 0, *first]
        assert list(rounded_out) == [0, *np.floor(np.array(first) + 0.5).astype(np.uint8), 0]


def test_the_larger_bytes() -> None:
    samples, others = np.random.default_rng(2).integers(0, 256, (2, LANES_U8 + 2), np.uint8)
    out = np.zeros(LANES_U8 + 2, np.uint8)
    largest_bytes(samples, others, out)
    assert list(out) == [0, *np.maximum(samples[:-2], others[2:]), 0]
    assert list(larger_bytes.function(samples, others)) == list(np.maximum(samples, others))


def test_the_larger_floats_keep_the_first_zero_and_the_last_nan() -> None:
    nan, other_nan = np.array([0x7FC00000, 0xFFC00001], np.uint32).view(np.float32)
    one = np.array([0.0, -0.0, nan, 1, nan, 3, 2, -np.inf] * (LANES // 8), np.float32)
    two = np.array([-0.0, 0.0, 1, other_nan, other_nan, 2, 3, np.inf] * (LANES // 8), np.float32)
    want = np.array([0.0, -0.0, nan, other_nan, other_nan, 3, 3, np.inf] * (LANES // 8), np.float32)
    out = np.zeros(LANES, np.float32)
    largest_floats(one, two, out)
    assert out.tobytes() == larger_floats.function(one, two).tobytes() == want.tobytes()


def test_quotients() -> None:
    samples = np.random.default_rng(3).normal(size=LANES).astype(np.float32)
    out = np.zeros(LANES, np.float32)
    quotients(samples, out, 9)
    assert out.tobytes() == divide.function(samples, 9).tobytes() == (samples / np.float32(9)).tobytes()


@pytest.mark.parametrize("count", range(2, 10))
def test_means_of_bytes_are_rounded_half_up(count: int) -> None:
    """All sums of two bytes by the loop; all sums of `count` bytes by the function."""
    for first in range(0, 511, LANES_U16):
        sums = np.minimum(np.arange(first, first + LANES_U16), 510)
        one = np.minimum(sums, 255).astype(np.uint8)
        out, exact = np.zeros(LANES_U16 + 4, np.uint8), np.zeros(LANES_U16 + 4, np.float32)
        means(one, (sums - one).astype(np.uint8), out, exact, count, *quotient_of(count))
        assert list(out) == [0, 0, *((2 * sums + count) // (2 * count)), 0, 0]
        assert list(exact[2:-2]) == list(sums.astype(np.float32) / np.float32(count))
        quotient = np.zeros(LANES_U16, np.float32)
        store_quotients.function(quotient, 0, sums.astype(np.uint16), count)
        assert list(quotient) == list(exact[2:-2])
    for first in range(0, 255 * count + 1, LANES_U16):
        sums = np.minimum(np.arange(first, first + LANES_U16), 255 * count)
        out = np.zeros(LANES_U16, np.uint8)
        store_divided.function(out, 0, sums.astype(np.uint16), *quotient_of(count))
        assert list(out) == list((2 * sums + count) // (2 * count))


@pytest.mark.parametrize("count", [1, 3, LANES - 1])
def test_lanes_of_neighbours(count: int) -> None:
    take = later_lanes(count)

    @loop("void(f4[::1], f4[::1])", constants=(count,))
    def run(samples, out):
        store(out, 0, take(load_floats(samples, 0), load_floats(samples, LANES)))

    samples = np.arange(2 * LANES, dtype=np.float32)
    for call in (run, run.function):
        out = np.zeros(LANES, np.float32)
        call(samples, out)
        np.testing.assert_array_equal(out, samples[count : count + LANES])


@loop("void(u1[::1], u1[::1], i8, i8, i8)")
def paired_means(samples, out, more, factor, shift):
    even = add_u16(load_even(samples, 0), splat_u16(more))
    odd = add_u16(load_odd(samples, 0), splat_u16(more))
    store_pairs_divided(out, 3, even, odd, factor, shift)


@pytest.mark.parametrize("python", [False, True])
def test_means_of_even_and_odd_bytes_stand_in_turn(python: bool) -> None:
    samples = np.random.default_rng(4).integers(0, 256, LANES_U8, np.uint8)
    out = np.zeros(LANES_U8 + 5, np.uint8)
    (paired_means.function if python else paired_means)(samples, out, *quotient_of(9))
    expected = (2 * samples.astype(int) + 9) // 18
    assert list(out) == [0, 0, 0, *expected, 0, 0]


@pytest.mark.parametrize(
    ("kind", "source", "target"), [("vector", "f4", "f4"), (VECTOR_U8, "u1", "u1"), (VECTOR_U16, "u1", "u1")]
)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("tap", [0, 1, 2])
def test_every_second_pixel(kind: str, source: str, target: str, channels: int, tap: int) -> None:
    take = every_second(kind, channels, tap)
    low, high, keep, lanes = {
        "vector": (load_floats, load_floats, store, LANES),
        VECTOR_U8: (load_bytes, load_bytes, store_bytes, LANES_U8),
        VECTOR_U16: (load_even, load_odd, store_divided, LANES_U16),
    }[kind]
    next_to, count = (1, ", 1, 32768, 0") if kind == VECTOR_U16 else (1 + lanes, "")
    line = f"keep(out, 0, take(low(samples, 1), high(samples, {next_to})){count})"
    function = define(
        f"def taken(samples, out):\n    {line}\n    return 0",
        "taken",
        __name__,
        keep=keep,
        low=low,
        high=high,
        take=take,
    )
    taken = loop(f"i8({source}[::1], {target}[::1])", constants=(channels, tap))(function)
    samples = np.random.default_rng(4).integers(0, 256, 2 * lanes + 1).astype(source)
    out = np.zeros(lanes, target)
    taken(samples, out)
    given = take.function(low.function(samples, 1), high.function(samples, next_to))
    assert list(out) == list((given + np.uint16(1)) // 2 if kind == VECTOR_U16 else given)
    pixels = (2 * lanes // channels - tap + 1) // 2
    wanted = samples[1:][: 2 * lanes // channels * channels].reshape(-1, channels)[tap::2].ravel()[:lanes]
    assert pixels * channels >= len(wanted) > lanes - 2 * channels
    assert list(given[: len(wanted)]) == list(wanted)
