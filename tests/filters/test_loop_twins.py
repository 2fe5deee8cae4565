"""The loops of convolution and pooling give what their twins give, over small shapes and all signatures."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from cnnfilter.filters.convolution import border_loops, box_loops, direct_loops, fourier_loops
from cnnfilter.filters.convolution.direct_loops import BLOCK_SAMPLES, OVERREAD_SAMPLES, TILE_SAMPLES
from cnnfilter.filters.pooling import any_window_loops, small_window_loops
from cnnfilter.jit.instructions import LANES
from cnnfilter.jit.integer_vectors import division
from tests.filters import loop_twins as twins
from tests.twins import assert_twin, whole_floats

BLOCK = BLOCK_SAMPLES
SHORT = [1, LANES - 1, LANES, LANES + 3, BLOCK - 1]
LONG = [BLOCK, BLOCK + 1, 2 * BLOCK + 3]
WEIGHTS = [-1, -0.5, 0.25, 0.5, 1, 1.25]
"""Weights whose sums of whole numbers are exact in float32."""
ROUNDINGS = [(0, 0.0, 1), (1, -3.5, 2), (0, 2.25, 4)]
"""The absolute value, what is added, and of how many rows one is counted."""


def top_of(dtype: str) -> int:
    return 65535 if dtype == "u2" else 255


def rows_of(rng, dtype, rows, length):
    """Return samples, and where rows of them begin: not one after the other."""
    samples = whole_floats(rng, rows * length + OVERREAD_SAMPLES, dtype, top_of(dtype))
    return samples, rng.permutation(rows) * length


def result(dtype, height, count):
    return np.full((height, count + 5), 7, dtype)


# --- direct convolution --------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [False, True])
@pytest.mark.parametrize("count", SHORT + LONG)
def test_taps(rounds, count, rng):
    loop = direct_loops.taps(rounds)
    for case, (source, *_, target) in enumerate(loop.signatures):
        for step, height in ((1, 5), (2, 3)):
            absolute, shift, every = ROUNDINGS[(case + step) % 3]
            rows, offsets = np.array([0, 0, 1, 3]), np.array([4, 0, 9, 2])
            rows_given = rows_of(rng, source, (height - 1) * step + 4, count + 9)
            weights = rng.choice(WEIGHTS, 4).astype(np.float32)
            out = result(target, height, count)
            finish = (shift, absolute, top_of(target), every)
            assert_twin(loop, twins.taps, (*rows_given, rows, offsets, weights, out, 2, count, step, *finish), [5])


@pytest.mark.parametrize("rounds", [False, True])
@pytest.mark.parametrize("count", [TILE_SAMPLES, TILE_SAMPLES + 1, 3 * TILE_SAMPLES + 5])
@pytest.mark.parametrize("shape", [(3, 1), (3, 3), (5, 4)])
def test_tile(rounds, count, shape, rng):
    loop = direct_loops.tile(rounds)
    for height, rounding, (source, *_, target) in itertools.product((4, 7), ROUNDINGS, loop.signatures):
        absolute, shift, every = rounding
        weights = rng.choice(WEIGHTS, shape).astype(np.float32)
        offsets = np.arange(shape[1]) * 3
        rows_given = rows_of(rng, source, height + shape[0] - 1, count + 9)
        out = result(target, height, count)
        finish = (shift, absolute, top_of(target), every)
        assert_twin(loop, twins.tile, (*rows_given, weights, offsets, out, 2, count, *finish), [4])


@pytest.mark.parametrize("count", SHORT + LONG)
@pytest.mark.parametrize(("gain", "shift"), [(1.0, 0.0), (1.0, -7.0), (0.5, 2.25)])
def test_integers(count, gain, shift, rng):
    loop = direct_loops.integers(gain != 1)
    for step, absolute in itertools.product((1, 2), (0, 1)):
        weights = np.array([3, -2, 0, -7])
        rows, offsets = np.array([0, 1, 1, 3]), np.array([4, 0, 9, 2])
        rows_given = rows_of(rng, "u1", 4 * step + 4, count + 9)
        out = result("u1", 5, count)
        finish = (gain, shift, absolute, 1 + step)
        assert_twin(loop, twins.integers, (*rows_given, rows, offsets, weights, out, 2, count, step, *finish), [5])


@pytest.mark.parametrize("rounds", [False, True])
@pytest.mark.parametrize("count", SHORT + LONG)
@pytest.mark.parametrize("terms", [1, 2, 3])
def test_separable(rounds, count, terms, rng):
    loop = direct_loops.separable(rounds)
    for case, (source, *_, target) in enumerate(loop.signatures):
        step, height = 1 + case % 2, 3
        absolute, shift, every = ROUNDINGS[(case + terms) % 3]
        down, across = np.tile([0, 2, 3], terms), np.tile([0, 3], terms)
        columns, rows = (rng.choice([-1, 0.5, 1], len(some)).astype(np.float32) for some in (down, across))
        ends = np.arange(terms + 1)[:, None] * [3, 2]
        rows_given = rows_of(rng, source, (height - 1) * step + 4, count + 3)
        lines = np.zeros((3, count + 3 + OVERREAD_SAMPLES), np.float32)
        out = result(target, height, count)
        finish = (shift, absolute, top_of(target), every)
        assert_twin(
            loop,
            twins.separable,
            (*rows_given, down, columns, across, rows, ends, lines, out, 2, count, step, *finish),
            [8],
        )


@pytest.mark.parametrize("rounds", [False, True])
@pytest.mark.parametrize("apart", [0, 1, 3])
@pytest.mark.parametrize("count", LONG)
def test_separable_tile(rounds, apart, count, rng):
    loop = direct_loops.separable_tile(rounds, apart)
    for taps, rounding, (source, *_, target) in itertools.product((3, 4), ROUNDINGS, loop.signatures):
        height = taps + 2
        absolute, shift, every = rounding
        across = np.arange(taps) * (apart or 2)
        columns, rows = rng.choice([-1, 0.5, 1], (2, taps)).astype(np.float32)
        reach = int(across[-1])
        rows_given = rows_of(rng, source, height + taps - 1, count + reach)
        lines = np.zeros((4, count + reach + OVERREAD_SAMPLES), np.float32)
        out = result(target, height, count)
        finish = (shift, absolute, top_of(target), every)
        assert_twin(
            loop, twins.separable_tile, (*rows_given, columns, across, rows, lines, out, 2, count, *finish), [6]
        )


def test_sums_of_floats_agree_to_float32_rounding(rng):
    count, height = BLOCK + 5, 5
    samples = rng.normal(0, 50, 9 * (count + 9) + OVERREAD_SAMPLES).astype(np.float32)
    given = samples, np.arange(9) * (count + 9)
    weights, finish = rng.normal(0, 1, (4, 3)).astype(np.float32), (0.1, 0, 255, 1)
    bound = 1e-6 * float(np.abs(samples).max() * np.abs(weights).sum())
    rows, offsets = np.arange(4), np.arange(3)
    out = result("f4", height, count)
    arguments = (*given, weights, offsets, out, 2, count, *finish)
    assert_twin(direct_loops.tile(False), twins.tile, arguments, [4], atol=bound)
    flat = np.repeat(rows, 3), np.tile(offsets, 4), weights.ravel()
    arguments = (*given, *flat, out, 2, count, 1, *finish)
    assert_twin(direct_loops.taps(False), twins.taps, arguments, [5], atol=bound)
    lines = np.zeros((4, count + 2 + OVERREAD_SAMPLES), np.float32)
    arguments = (*given, weights[:, 0], offsets, weights[0], lines, out, 2, count, *finish)
    assert_twin(direct_loops.separable_tile(False, 0), twins.separable_tile, arguments, [6], atol=10 * bound)


# --- boxes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("count", LONG)
def test_box_means(channels, count, rng):
    for height, width in ((1, 2), (3, 3), (9, 5)):
        rows_given = rows_of(rng, "u1", 5 + height, count + (width - 1) * channels)
        lines = np.full((2, box_loops.columns_of(count, width, channels)), 9, np.uint16)
        out = result("u1", 6, count)
        arguments = (*rows_given, lines, out, 2, count, height, width, *division(height * width))
        assert_twin(box_loops.box_means(channels), functools.partial(twins.box_means, channels), arguments, [3])


@pytest.mark.parametrize(("channels", "high"), [(1, False), (2, False), (3, False), (4, False), (1, True)])
@pytest.mark.parametrize("count", LONG)
def test_box_sums(channels, high, count, rng):
    for height, width in ((1, 3), (box_loops.BOX_ROWS_MAX_U16 + 2 if high else 5, 4)):
        rows_given = rows_of(rng, "u1", 4 + height, count + (width - 1) * channels)
        lines = np.full((2, box_loops.columns_of(count, width, channels)), 9, np.int32 if high else np.uint16)
        out = result("u1", 5, count)
        arguments = (*rows_given, lines, out, 2, count, height, width, 0.25, 1.5, 255, 2)
        twin = functools.partial(twins.box_sums, channels)
        assert_twin(box_loops.box_sums(channels, high), twin, arguments, [3])


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 1), (3, 2), (3, 3), (4, 4), (5, 5)])
def test_small_means(channels, shape, rng):
    height, width = shape
    for rows, count in itertools.product((4, 7), LONG):
        rows_given = rows_of(rng, "u1", rows + height, count + (width - 1) * channels)
        out = result("u1", rows, count)
        arguments = (*rows_given, out, 2, count, height, width, channels, *division(height * width))
        assert_twin(box_loops.small_means(channels == 1), twins.small_means, arguments, [2])


# --- borders --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtypes", border_loops.fill.signatures, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_fill(dtypes, channels, rng):
    source = whole_floats(rng, (4, 6 * channels), dtypes[0])
    rows = np.array([-1, 2, 0, 1, 3, -1])
    columns = np.array([-1, 1, 0, 0, 1, 2, 3, 4, 5, 5, -1])
    for left, right in ((3, 9), (11, 11)):
        scratch = np.zeros((len(rows), len(columns) * channels), dtypes[1])
        assert_twin(border_loops.fill, twins.fill, (source, scratch, rows, columns, channels, left, right, 9), [1])


def test_largest_bits(rng):
    values = rng.normal(0, 9, (3, 20)).astype(np.float32)
    values[1, 4] = -100
    for special in (0, np.inf, -np.nan):
        values[2, 10] = special
        assert_twin(border_loops.largest_bits, twins.largest_bits, (values.view(np.int32), 3, 12), [])


@pytest.mark.parametrize("rounds", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_side_sums(rounds, channels, rng):
    loop = border_loops.side_sums(rounds)
    for case, (source, *_, target) in enumerate(loop.signatures):
        step, height = 1 + case % 2, 6
        absolute, shift, every = ROUNDINGS[case % 3]
        samples, starts = rows_of(rng, source, height * step + 2, 8 * channels)
        starts[3] = -1
        places, rows, across = np.array([-1, 1, 0, 1, 2, 3]), np.array([0, 1, 2, 2]), np.array([2, 0, 1, 3])
        weights = rng.choice(WEIGHTS, 4).astype(np.float32)
        out = result(target, height, 3 * channels)
        finish = (shift, absolute, top_of(target), every)
        taps = (places, rows, across, weights)
        assert_twin(loop, twins.side_rows, (samples, starts, *taps, out, 2, 3, channels, step, 5, *finish), [6])


# --- Fourier --------------------------------------------------------------------------------------------


def tables(size):
    angles = 2 * np.pi / size * np.arange(size)
    return np.stack([np.cos(angles), -np.sin(angles)]).astype(np.float32)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_transform(size, rng):
    planes = rng.normal(0, 1, (2, size, size + fourier_loops.ROW_PADDING)).astype(np.float32)
    planes[:, :, size:] = 0
    assert_twin(fourier_loops.transform, twins.transform, (*planes, *tables(size)), [0, 1], atol=3e-6 * size)


@pytest.mark.parametrize("tiles", [1, 2])
@pytest.mark.parametrize(("down", "across", "step"), [(1, 1, 1), (2, 3, 2)])
def test_convolve_pair(tiles, down, across, step, rng):
    size, line, height = 32, 100, 9
    spectrum = np.zeros((2, size, size + fourier_loops.ROW_PADDING), np.float32)
    # The spectrum of a real kernel: else two tiles, the real and the imaginary part of one, would not stay apart.
    spectrum[0, :3, :5] = rng.normal(0, 1 / size**2, (3, 5))
    twins.transform(*spectrum, *tables(size))
    samples = rng.normal(0, 9, 40 * line).astype(np.float32)
    starts = rng.permutation(40)[: size - 2] * line
    places = np.array([(2, 30, 1, 8), (9, 25, 20, 6)])[:tiles]
    planes = np.zeros_like(spectrum)
    out = np.full((height, 40), 5, np.float32)
    arguments = (planes, spectrum, tables(size), samples, starts, places, step, size - 4, out, down, across)
    assert_twin(fourier_loops.convolve_pair, twins.convolve_pair, arguments, [8], atol=1e-4)


# --- pooling --------------------------------------------------------------------------------------------

WINDOWS = [
    # C, taps down and across, stride down and across, dilation down and across, padding at the top and at the left
    (1, 2, 2, 2, 2, 1, 1, 0, 0),
    (1, 3, 3, 1, 1, 1, 1, 1, 1),
    (3, 3, 2, 2, 1, 1, 1, 1, 0),
    (4, 5, 4, 2, 3, 1, 1, 2, 2),
    (2, 7, 7, 3, 2, 1, 1, 3, 3),
]
DILATED = [(1, 3, 2, 1, 2, 2, 3, 1, 1), (3, 2, 5, 2, 1, 3, 2, 0, 2)]
SPECIAL = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1, 2], np.float32)


def pooling(rng, window, source, target):
    """Return a picture of 13x17, lines to work with, and a result."""
    channels, tall, wide, down, across, apart_down, apart_across, top, left = window
    height = (13 + 2 * top - (tall - 1) * apart_down - 1) // down + 1
    width = (17 + 2 * left - (wide - 1) * apart_across - 1) // across + 1
    pixels = whole_floats(rng, (13, 17 * channels), source, top_of(source))
    reach = (width - 1) * across + (wide - 1) * apart_across + 1
    lines = any_window_loops.WORK_ROWS, reach * channels
    return pixels, lines, np.full((height, width * channels), 7, target)


@pytest.mark.parametrize("op", ["max", "min"])
@pytest.mark.parametrize("window", WINDOWS + DILATED)
def test_extremes(op, window, rng):
    loop = any_window_loops.extremes(op)
    for source, *_ in loop.signatures:
        pixels, lines, target = pooling(rng, window, source, source)
        neutral = 0 if op == "max" else np.iinfo(source).max
        arguments = (pixels, np.zeros(lines, source), target, np.array(window), 1, len(target), neutral)
        assert_twin(loop, functools.partial(twins.extreme_rows, op), arguments, [2])


@pytest.mark.parametrize("op", ["max", "min"])
@pytest.mark.parametrize(
    ("window", "grouped"), [*((window, 0) for window in WINDOWS + DILATED), *((window, 1) for window in WINDOWS)]
)
def test_ring_extremes(op, window, grouped, rng):
    loop = any_window_loops.ring_extremes(op)
    for source, *_ in loop.signatures:
        pixels, lines, target = pooling(rng, window, source, source)
        neutral = {("max", True): -np.inf, ("min", True): np.inf, ("max", False): 0.0}.get((op, source == "f4"))
        neutral = float(np.iinfo(source).max) if neutral is None else neutral
        ring = np.zeros(((window[1] - 1) * window[5] + 2, target.shape[1]), source)
        arguments = (pixels, np.zeros(lines, source), ring, target, np.array(window), 1, len(target), neutral, grouped)
        assert_twin(loop, functools.partial(twins.ring_rows, op), arguments, [3])


@pytest.mark.parametrize("op", ["max", "min"])
@pytest.mark.parametrize("window", WINDOWS[:3] + DILATED)
def test_the_order_of_zeros_and_nan(op, window, rng):
    pixels, lines, target = pooling(rng, window, "f4", "f4")
    pixels = rng.choice(SPECIAL, pixels.shape)
    neutral = -np.inf if op == "max" else np.inf
    ring = np.zeros(((window[1] - 1) * window[5] + 2, target.shape[1]), np.float32)
    arguments = (pixels, np.zeros(lines, np.float32), ring, target, np.array(window), 0, len(target), neutral, 0)
    loop, twin = any_window_loops.ring_extremes(op), functools.partial(twins.ring_rows, op)
    assert_twin(loop, twin, arguments, [3])


@pytest.mark.parametrize("window", WINDOWS + DILATED)
@pytest.mark.parametrize("moves", [0, 1])
def test_means(window, moves, rng):
    loop = any_window_loops.means()
    for source, sums, target, *_ in loop.signatures:
        if moves and (source == "f4" or window in DILATED):
            continue  # exact for whole numbers without gaps only
        pixels, lines, out = pooling(rng, window, source, target)
        if sums == "i4":
            pixels = pixels.astype(float).clip(0, 1000).astype(source)
        high, wide = np.full(len(out), float(window[1])), np.full(out.shape[1], float(window[2]))
        whole = int(target != "f4")
        if whole:
            high, wide = 1 / high, 1 / wide
        arguments = (pixels, np.zeros(lines, sums), out, high, wide, np.array(window), 1, len(out), moves, whole)
        assert_twin(loop, twins.mean_rows, arguments, [2])


@pytest.mark.parametrize("types", small_window_loops.VECTOR_INSTRUCTIONS, ids="-".join)
@pytest.mark.parametrize("shape", sorted(small_window_loops.SMALL_WINDOWS))
@pytest.mark.parametrize("columns", [9, 70, 140])
def test_small_windows(types, shape, columns, rng):
    op, source, target = types
    taps, stride, channels = shape
    loop = small_window_loops.small_windows(*types, *shape)
    for pixel, (top, left) in itertools.product([channels] if channels else [1, 2], [(0, 0), (1, 1)]):
        pixels = whole_floats(rng, (11, columns * pixel), source)
        blank = np.full(columns * pixel, -np.inf if (op, source) == ("max", "f4") else 0, source)
        parts, spares = small_window_loops.scratch_shapes((*types, *shape), pixel)
        width = (columns + 2 * left - taps) // stride + 1
        height = (11 + 2 * top - taps) // stride + 1
        out = np.full((height, width * pixel), 7, target)
        arguments = (
            *(pixels, blank, np.zeros(parts, source), np.zeros(spares, target), out),
            *(pixel, top, left, 0, height),
        )
        twin = functools.partial(twins.small_windows, op, taps, stride)
        assert_twin(loop, twin, arguments, [4], rtol=0 if op == "max" or target == "u1" else 1e-6)
    if (op, source) == ("max", "f4"):
        pixels = rng.choice(SPECIAL, pixels.shape)
        assert_twin(loop, twin, (pixels, *arguments[1:]), [4])
