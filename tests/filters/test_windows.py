"""Sizes, padding and borders of a sliding window."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter.errors import ShapeError
from cnnfilter.filters.windows import Axis, border_constant, pair, same_padding, source_positions, window_axes


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("taps", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_gives_ceil_of_size_over_stride(size, taps, stride, dilation):
    before, after = same_padding(size, taps, stride, dilation)
    assert after - before in (0, 1)
    assert Axis(size, taps, stride, dilation, before, after).outputs == -(-size // stride)


def test_sizes_counted_by_hand():
    assert Axis(28, 5).outputs == 24
    assert Axis(227, 11, stride=4).outputs == 55  # AlexNet's first layer
    assert Axis(7, 3, stride=2, before=1, after=1).outputs == 4
    assert Axis(9, 3, dilation=4).reach == 9


@pytest.mark.parametrize(
    ("border", "mode"), [("replicate", "edge"), ("reflect", "reflect"), ("symmetric", "symmetric"), ("wrap", "wrap")]
)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("pad", [0, 1, 4, 13])
def test_borders_mean_what_numpy_means(border, mode, size, pad):
    expected = np.pad(np.arange(size), (pad, pad + 1), mode=mode)
    np.testing.assert_array_equal(source_positions(Axis(size, 1, before=pad, after=pad + 1), border), expected)


def test_a_constant_border_stands_outside():
    assert source_positions(Axis(2, 3, before=1, after=2), "constant:3").tolist() == [-1, 0, 1, -1, -1]
    assert (border_constant("zero"), border_constant("constant:-2.5"), border_constant("wrap")) == (0, -2.5, None)
    for border in ("constant:", "constant:nan", "constant:inf", "mirror", "constant:V"):
        with pytest.raises(ShapeError, match="is not replicate, reflect"):
            border_constant(border)


def test_pads_are_top_right_bottom_left():
    vertical, horizontal = window_axes((10, 20), (3, 3), padding=(1, 2, 3, 4))
    assert (vertical.before, vertical.after, horizontal.before, horizontal.after) == (1, 3, 4, 2)
    vertical, horizontal = window_axes((10, 20), (3, 3), padding=(5, 6))
    assert (vertical.before, vertical.after, horizontal.before, horizontal.after) == (5, 5, 6, 6)


def test_a_window_that_does_not_fit_is_refused_with_its_numbers():
    with pytest.raises(ShapeError, match=r"a window of 7x9 does not fit into 4x6 samples .an image of 2x4"):
        window_axes((2, 4), (4, 5), dilation=2, padding=1)
    with pytest.raises(ShapeError, match=r"padding .1, 2, 3."):
        window_axes((9, 9), (3, 3), padding=(1, 2, 3))
    with pytest.raises(ShapeError, match="stride"):
        pair((1, 2, 3), "stride")
    assert pair(3, "stride") == (3, 3)


@pytest.mark.parametrize("value", [1.5, (1, 0.5), "2", None, [[1, 2]]])
def test_values_that_are_not_integers_are_refused(value):
    with pytest.raises(ShapeError, match="dilation"):
        pair(value, "dilation")
    with pytest.raises(ShapeError, match="padding"):
        window_axes((9, 9), (3, 3), padding=value)


def test_integers_of_numpy_are_accepted():
    assert pair(np.int64(2), "stride") == (2, 2)
    assert pair(np.array([2, 3]), "stride") == (2, 3)
