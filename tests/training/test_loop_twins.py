"""The loops of training give what their twins give, over small shapes."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter.jit.instructions import LANES
from cnnfilter.training import augmentation_loops
from cnnfilter.training.gradients import gradient_loops, winograd_loops
from tests.training import loop_twins as twins
from tests.twins import assert_twin, whole_floats


def floats(rng, *shape):
    return rng.normal(0, 2, shape).astype(np.float32)


def geometries():
    """Yield windows of several sizes on maps of 5x6."""
    for channels, (tall, wide), stride, dilation, padding in [
        (1, (3, 3), (1, 1), (1, 1), (1, 1)),
        (3, (2, 2), (2, 2), (1, 1), (0, 0)),
        (2, (3, 2), (1, 2), (1, 2), (1, 1)),
        (4, (2, 3), (2, 1), (2, 1), (0, 2)),
    ]:
        rows = (5 + 2 * padding[0] - (tall - 1) * dilation[0] - 1) // stride[0] + 1
        columns = (6 + 2 * padding[1] - (wide - 1) * dilation[1] - 1) // stride[1] + 1
        yield np.array([5, 6, channels, rows, columns, tall, wide, *stride, *dilation, *padding])


@pytest.mark.parametrize("geometry", list(geometries()), ids=str)
class TestWindows:
    """Two pictures, and windows on them."""

    @pytest.fixture
    def given(self, geometry, rng):
        """Maps, outputs and a kernel, of whole numbers: the order of sums makes no difference."""
        channels, places, taps = geometry[2], 2 * geometry[3] * geometry[4], geometry[5] * geometry[6]
        shapes = (2 * 5, 6 * channels), (places, channels), (taps, channels)
        return [whole_floats(rng, tuple(map(int, shape)), "f4", 9) for shape in shapes]

    def test_scatter(self, geometry, given, rng):
        maps, gradients, kernel = given
        windows = whole_floats(rng, (len(gradients), kernel.size), "f4", 9)
        assert_twin(gradient_loops.scatter, twins.scatter, (maps, windows, geometry), [0])

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_max_pool(self, geometry, given, sign):
        maps, gradients, _ = given
        out, where = np.zeros_like(gradients), np.zeros(gradients.shape, np.uint8)
        assert_twin(gradient_loops.max_pool, twins.max_pool, (maps, out, where, geometry, sign), [1, 2])
        twins.max_pool(maps, out, where, geometry, sign)
        arguments = (np.ones_like(maps), gradients, where, geometry)
        assert_twin(gradient_loops.max_pool_backward, twins.max_pool_backward, arguments, [0])

    def test_depthwise(self, geometry, given):
        maps, gradients, kernel = given
        arguments = (maps, kernel, kernel[0].copy(), np.zeros_like(gradients), geometry)
        assert_twin(gradient_loops.depthwise, twins.depthwise, arguments, [3])

    def test_depthwise_backward(self, geometry, given):
        maps, gradients, kernel = given
        arguments = (maps, kernel, gradients, geometry)
        assert_twin(gradient_loops.depthwise_backward, twins.depthwise_backward, arguments, [0])
        assert_twin(gradient_loops.depthwise_kernel_backward, twins.depthwise_kernel_backward, arguments, [1])


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (40, 20)])
def test_normalization(shape, rng):
    rows, gradients = floats(rng, 2, *shape)
    mean, scale, shift = floats(rng, 3, shape[1])
    out, sums = np.zeros_like(rows), np.zeros((2, shape[1]))
    close = {"rtol": 1e-5, "atol": 1e-4}
    assert_twin(gradient_loops.moments, twins.moments, (rows, sums), [1], rtol=1e-12)
    arguments = (rows, gradients, sums, mean, scale)
    assert_twin(gradient_loops.gradient_moments, twins.gradient_moments, arguments, [2], **close)
    arguments = (rows, scale, shift, -1.0, 2.0, out)
    assert_twin(gradient_loops.scale_and_shift, twins.scale_and_shift, arguments, [5], **close)
    assert_twin(gradient_loops.combine, twins.combine, (rows, gradients, mean, scale, shift), [1], **close)


@pytest.mark.parametrize("size", [1, 15, 100])
def test_single_numbers(size, rng):
    values, gradients, velocity, square, decays = floats(rng, 5, size)
    square **= 2
    assert_twin(gradient_loops.clip_backward, twins.clip_backward, (gradients, values, -1.0, 1.5), [0])
    chances = rng.integers(0, 65536, size).astype(np.uint16)
    out = np.zeros_like(values)
    assert_twin(gradient_loops.drop, twins.drop, (values, chances, 20000, 1.5, out), [4])
    close = {"rtol": 1e-5, "atol": 1e-5}
    arguments = (values, gradients, velocity, decays, 0.9, 0.1)
    assert_twin(gradient_loops.step_sgd, twins.step_sgd, arguments, [0, 2], **close)
    arguments = (values, gradients, velocity, square, decays, 0.9, 0.999, 1.5, 2.0, 1e-7, 0.01)
    assert_twin(gradient_loops.step_adamw, twins.step_adamw, arguments, [0, 2, 3], **close)


@pytest.mark.parametrize("channels", [LANES, 2 * LANES])
@pytest.mark.parametrize("size", [(4, 6), (5, 5), (3, 8)])
@pytest.mark.parametrize("lines", [(0, None), (1, 3)])
def test_winograd(channels, size, lines, rng):
    """Whole numbers, of which all sums are exact."""
    (height, width), padding = size, (1, 1)
    down, across = (height + 1) // 2, (width + 1) // 2
    first, end = lines[0], lines[1] or 2 * down
    maps = whole_floats(rng, 2 * height * width * channels, "f4", 9)
    tiles = whole_floats(rng, 16 * (end - first) * across * channels, "f4", 9)
    seen = np.array([height, width, channels, down, across, *padding])
    given = np.array([height, width, channels, down, across, 0, 0])
    bias = whole_floats(rng, channels, "f4", 9)
    for loop, geometry in ((winograd_loops.to_tiles, seen), (winograd_loops.into_tiles, given)):
        twin = getattr(twins, loop.function.__name__)
        assert_twin(loop, twin, (maps, tiles, first, geometry), [1])
    assert_twin(winograd_loops.add_from_tiles, twins.add_from_tiles, (maps, tiles, first, seen), [0])
    arguments = (maps, tiles, first, given, bias, 0.0, 30.0)
    assert_twin(winograd_loops.out_of_tiles, twins.out_of_tiles, arguments, [0])


@pytest.mark.parametrize("channels", [1, 3])
def test_change(channels, rng):
    height, width = 7, 9
    pixels = rng.integers(0, 256, (4, height * width * channels), np.uint8)
    still, mirrored = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 8)
    turned, moved = (0.9, 0.3, -1, -0.3, 0.9, 1.5), (1.2, 0, -3, 0, 1.2, 4)
    matrices = np.array([still, mirrored, turned, moved], np.float32)
    gains = np.array([1, 1.3, 0.7, 1], np.float32)
    holes = np.array([(0, 0, 0, 0), (1, 2, 4, 5), (0, 0, 7, 9), (5, 5, 7, 9)])
    mean, factor = floats(rng, 2, channels)
    out = np.zeros(pixels.shape, np.float32)
    arguments = (pixels, matrices, gains, holes, mean, factor, out, height, width)
    assert_twin(augmentation_loops.change, twins.change, arguments, [6], atol=1e-3)
