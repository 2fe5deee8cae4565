"""The loops of networks give what their twins give, over small shapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cnnfilter.networks import layer_loops
from tests.networks import loop_twins as twins
from tests.twins import assert_twin, whole_floats

CLIPS = [(-np.inf, np.inf), (0.0, np.inf), (0.0, 6.0)]
STEPS = [(1, 1, 1, 1), (2, 2, 1, 1), (1, 3, 2, 1), (2, 1, 1, 2)]
"""Strides down and across, dilations down and across."""


@pytest.mark.parametrize("clip", CLIPS)
def test_additions(clip, rng):
    values, more = rng.normal(0, 4, (2, 60)).astype(np.float32)
    for length in (1, 4, 20, 60):
        bias = rng.normal(0, 4, length).astype(np.float32)
        assert_twin(layer_loops.shift, twins.shift, (values, bias, *clip), [0])
        assert_twin(layer_loops.shift_and_add, twins.shift_and_add, (values, bias, *clip, more), [0])
    assert_twin(layer_loops.add, twins.add, (values, more), [0])


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (64, 20)])
def test_mean(shape, rng):
    values = rng.normal(0, 4, shape).astype(np.float32)
    assert_twin(layer_loops.mean, twins.mean, (values, np.zeros(shape[1], np.float32)), [1], atol=1e-6 * 8)


def maps_of(rng, channels, tall, wide, steps):
    """Return maps of 9x11, the padding before them, and the height and width of the result."""
    down, across, down_apart, across_apart = steps
    top, left = tall // 2 * down_apart, wide // 2 * across_apart
    height = (9 + 2 * top - (tall - 1) * down_apart - 1) // down + 1
    width = (11 + 2 * left - (wide - 1) * across_apart - 1) // across + 1
    return whole_floats(rng, (9, 11 * channels), "f4", 9), (top, left), (height, width)


@pytest.mark.parametrize("form", [(3, 3, 1), (3, 3, 2), (5, 5, 1), (5, 5, 2), (3, 3, 0), "large"], ids=str)
@pytest.mark.parametrize("channels", [1, 4, 17])
@pytest.mark.parametrize("steps", STEPS)
def test_depthwise(form, channels, steps, rng):
    if form != "large" and form[2]:
        steps = (steps[0], form[2], steps[2], 1)
    tall, wide = (9, 8) if form == "large" else form[:2]
    values, padding, (height, width) = maps_of(rng, channels, tall, wide, steps)
    kernel = whole_floats(rng, (tall * wide, channels), "f4", 3)
    bias = whole_floats(rng, channels, "f4", 9)
    for clip, length in itertools.product(CLIPS, (0, channels)):
        before = whole_floats(rng, length, "f4", 4)
        arguments = (
            *(values, before, -5.0, 6.0, np.zeros(11 * channels, np.float32), *padding, kernel, bias, *clip),
            *(np.zeros((height * width, channels), np.float32), width, *steps),
        )
        if form == "large":
            assert_twin(layer_loops.large_depthwise, twins.large_depthwise, (wide, *arguments), [1, 12])
        else:
            assert_twin(layer_loops.depthwise(*form), twins.depthwise, arguments, [0, 11])


@pytest.mark.parametrize("shape", [(3, 3), (1, 3), (2, 5)])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("steps", STEPS)
def test_gather(shape, channels, steps, rng):
    tall, wide = shape
    values, padding, (height, width) = maps_of(rng, channels, tall, wide, steps)
    windows = np.full((height * width, tall * wide * channels), 7, np.float32)
    for numbers in {0, wide * channels} & {0, 3, 9}:
        if numbers and steps[3] > 1:
            continue  # runs of one number of values have no gaps
        arguments = (values, windows, *padding, width, tall, wide, *steps)
        assert_twin(layer_loops.gather(numbers), twins.gather, arguments, [1])
