"""Learned filters on maps, beside the slow convolution and each other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cnnfilter.filters.windows import Axis, window_axes
from cnnfilter.networks import map_convolutions
from cnnfilter.networks.map_convolutions import (
    LINEAR,
    RELU,
    RELU6,
    Bottleneck,
    ClipRange,
    Filter,
    convolve_across,
    convolve_depthwise,
    inverted_bottleneck,
)
from cnnfilter.runtime.parallel import Workers
from tests import naive


def _across(source, kernel, axes):
    """Every kernel across all maps, one sum after the other, in float64."""
    down, across = axes
    pads = ((down.before, down.after), (across.before, across.after))
    steps = ((down.stride, across.stride), pads, (down.dilation, across.dilation))
    parts = [
        [naive.convolve(source[:, :, [i]], kernel[:, :, i, o], *steps)[:, :, 0] for i in range(kernel.shape[2])]
        for o in range(kernel.shape[3])
    ]
    return np.stack([np.sum(part, axis=0) for part in parts], axis=-1)


def _each(source, kernel, axes):
    maps = [_across(source[:, :, [c]], kernel[:, :, [c]], axes) for c in range(source.shape[2])]
    return np.concatenate(maps, axis=2)


def _clipped(values, clip: ClipRange):
    return np.clip(values, clip.low, clip.high)


def _made(convolve, source, filter, axes, maps, threads=1):
    out = np.full((axes[0].outputs, axes[1].outputs, maps), np.nan, np.float32)
    before = source.copy()
    convolve(source, filter, axes, out, Workers(threads))
    np.testing.assert_array_equal(source, before)
    return out


WINDOWS = [
    {"taps": taps, "stride": stride, "dilation": dilation, "padding": padding}
    for taps, stride, dilation, padding in itertools.product(
        [(1, 1), (3, 3), (5, 5), (2, 3), (1, 4), (3, 17)], [1, 2, (1, 3)], [1, (2, 1)], ["same", (0, 1, 2, 3)]
    )
]


@pytest.mark.parametrize("shape", [(6, 7), (1, 9), (5, 1)])
@pytest.mark.parametrize("clip", [LINEAR, RELU, RELU6])
def test_across_all_maps_beside_the_slow_sum(rng, shape, clip):
    for window in WINDOWS:
        if _does_not_fit(shape, window):
            continue
        axes = window_axes(shape, **window)
        source = rng.standard_normal((*shape, 3)).astype(np.float32)
        kernel = rng.standard_normal((*window["taps"], 3, 5)).astype(np.float32)
        bias = rng.standard_normal(5).astype(np.float32)
        made = _made(convolve_across, source, Filter(kernel, bias, clip), axes, 5)
        np.testing.assert_allclose(
            made, _clipped(_across(source, kernel, axes) + bias, clip), atol=2e-5, err_msg=str(window)
        )


@pytest.mark.parametrize("shape", [(6, 7), (1, 9), (5, 1), (4, 8)])
@pytest.mark.parametrize("clip", [LINEAR, RELU6])
def test_each_map_by_itself_beside_the_slow_sum(rng, shape, clip):
    for window in WINDOWS:
        if _does_not_fit(shape, window):
            continue
        axes = window_axes(shape, **window)
        source = rng.standard_normal((*shape, 3)).astype(np.float32)
        kernel = rng.standard_normal((*window["taps"], 3, 1)).astype(np.float32)
        bias = rng.standard_normal(3).astype(np.float32)
        made = _made(convolve_depthwise, source, Filter(kernel, bias, clip), axes, 3)
        np.testing.assert_allclose(
            made, _clipped(_each(source, kernel, axes) + bias, clip), atol=2e-5, err_msg=str(window)
        )


def _does_not_fit(shape, window):
    try:
        window_axes(shape, **window)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("blocked_positions", [0, 10_000])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("expand", [1, 3])
def test_a_bottleneck_is_its_three_filters_one_after_the_other(rng, monkeypatch, blocked_positions, stride, expand):
    """The result is the same in bands of rows and in blocks of maps."""
    monkeypatch.setattr(map_convolutions, "_BLOCKED_POSITIONS_MAX", blocked_positions)
    monkeypatch.setattr(map_convolutions, "_PIECE_VALUES", 40)
    wide = 4 * expand
    source = rng.standard_normal((9, 8, 4)).astype(np.float32)
    expander = Filter(_random(rng, 1, 1, 4, wide), _random(rng, wide), RELU6) if expand > 1 else None
    depthwise = Filter(_random(rng, 3, 3, wide, 1), _random(rng, wide), RELU6)
    project = Filter(_random(rng, 1, 1, wide, 4), _random(rng, 4))
    axes = window_axes((9, 8), (3, 3), stride=stride)
    flat = (Axis(9, 1), Axis(8, 1))
    residual = stride == 1

    maps = source
    if expander is not None:
        maps = _clipped(_across(maps, expander.kernel, flat) + expander.bias, RELU6)
    maps = _clipped(_each(maps, depthwise.kernel, axes) + depthwise.bias, RELU6)
    maps = _across(maps, project.kernel, flat) + project.bias
    wanted = maps + source if residual else maps

    for threads in (1, 3):
        out = np.full(wanted.shape, np.nan, np.float32)
        inverted_bottleneck(source, Bottleneck(expander, depthwise, project, axes, residual), out, Workers(threads))
        np.testing.assert_allclose(out, wanted, atol=1e-4)


def _random(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("positions", [(40, 30), (7, 7)])
def test_the_same_bits_for_any_number_of_threads(rng, positions):
    source = _random(rng, *positions, 16)
    filter = Filter(_random(rng, 1, 1, 16, 24), _random(rng, 24), RELU)
    axes = (Axis(positions[0], 1), Axis(positions[1], 1))
    made = [_made(convolve_across, source, filter, axes, 24, threads) for threads in (1, 2, 5)]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


def test_nan_stays_nan_through_an_activation():
    source = np.full((1, 1, 1), np.nan, np.float32)
    one = np.ones((1, 1, 1, 1), np.float32)
    made = _made(convolve_across, source, Filter(one, np.zeros(1, np.float32), RELU6), (Axis(1, 1), Axis(1, 1)), 1)
    assert np.isnan(made).all()
