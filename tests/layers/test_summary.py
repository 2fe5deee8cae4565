"""Costs of a stack, hand-counted; receptive fields against gradients of where a number comes from."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter import ShapeError, parse_layers
from cnnfilter.layers.stack import run_layers
from cnnfilter.layers.summary import summarize


def rows(text, shape):
    return summarize(parse_layers(text), shape).rows


def test_a_small_network_counted_by_hand():
    summary = summarize(parse_layers("conv 32x3x3 | relu | maxpool 2 | flatten | dense 10"), (28, 28, 1))
    assert [row.output for row in summary.rows] == [(28, 28, 32), (28, 28, 32), (14, 14, 32), (6272,), (10,)]
    assert [row.parameters for row in summary.rows] == [320, 0, 0, 0, 62730]
    assert [row.multiply_adds for row in summary.rows] == [225792, 0, 0, 0, 62720]
    assert [row.memory for row in summary.rows] == [100352, 100352, 25088, 25088, 40]
    assert [row.receptive_field for row in summary.rows] == [(3, 3), (3, 3), (4, 4), (4, 4), None]
    assert [row.fully_connected for row in summary.rows] == [785 * 25088, None, None, None, 62730]
    assert summary.parameters == 63050
    assert summary.multiply_adds == 288512
    assert summary.memory == 3136 + 100352 * 2 + 25088 * 2 + 40
    assert summary.peak_memory == 200704
    assert summary.fully_connected == 785 * 25088 + 62730
    assert summary.input == (28, 28, 1)


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("conv 8x3x3", "floor((28 + 2 - 1*(3-1) - 1) / 1) + 1 = 28"),
        ("conv 8x3x3 pad=valid dilation=2 stride=3", "floor((28 + 0 - 2*(3-1) - 1) / 3) + 1 = 8"),
        (
            "conv 8x3x5 pad=1",
            "H: floor((28 + 2 - 1*(3-1) - 1) / 1) + 1 = 28\nW: floor((28 + 2 - 1*(5-1) - 1) / 1) + 1 = 26",
        ),
        ("maxpool 3 ceil", "ceil((28 + 0 - 1*(3-1) - 1) / 3) + 1 = 10"),
        ("maxpool 2 stride=27 pad=1 ceil", "ceil((28 + 2 - 1*(2-1) - 1) / 27) + 1 - 1 = 2"),
        ("globalpool avg", "28x28 -> 1x1"),
        ("flatten", "28 * 28 * 3 = 2352"),
        ("relu", ""),
        ("mbconv 3x3x3 expand=2", "floor((28 + 2 - 1*(3-1) - 1) / 1) + 1 = 28; plus its input"),
    ],
)
def test_formulas_with_their_numbers(text, formula):
    (row,) = rows(text, (28, 28, 3))
    assert row.formula == formula


def test_formulas_are_true(rng):
    import math

    for _ in range(60):
        size, stride, dilation = (int(rng.integers(1, 5)) for _ in range(3))
        pad = int(rng.integers(0, size // 2 + 1))
        ceil = " ceil" if rng.random() < 0.5 else ""
        text = f"maxpool {size} stride={stride} dilation={dilation} pad={pad}{ceil}"
        length = int(rng.integers(14, 25))
        (row,) = rows(text, (length, length, 1))
        left, right = row.formula.split(" = ")
        assert eval(left, {"floor": math.floor, "ceil": math.ceil}) == int(right) == row.output[0]


@pytest.mark.parametrize(
    "text",
    [
        "conv box:3",
        "conv box:3 | maxpool 2 | conv box:5 dilation=2",
        "avgpool 3 stride=2 | avgpool 2,3 stride=1 dilation=1,2 | conv '1 1' stride=2",
        "conv '1 1 1' stride=2,1 | relu | avgpool 2",
    ],
)
def test_receptive_field_is_the_input_that_a_value_depends_on(text):
    shape = (33, 33, 1)
    wanted = rows(text, shape)[-1].receptive_field
    middle = tuple(n // 2 for n in run_layers(np.zeros(shape), text).shape[:2])
    seen = np.zeros((33, 33), bool)
    for y, x in np.ndindex(33, 33):
        picture = np.zeros(shape, np.float32)
        picture[y, x] = 1
        seen[y, x] = run_layers(picture, text)[middle][0] != 0
    extent = [int(np.ptp(np.flatnonzero(seen.any(axis=axis)))) + 1 for axis in (1, 0)]
    assert tuple(extent) == wanted


def test_global_layers_see_everything():
    assert rows("globalpool avg", (9, 9, 2))[0].receptive_field is None
    assert rows("globalpool avg | conv 2x1x1", (9, 9, 2))[1].receptive_field is None


def test_fixed_layers_have_no_parameters_but_costs():
    conv, pool = rows("conv sobel blur | avgpool 2", (10, 8, 3))
    assert (conv.parameters, pool.parameters) == (0, 0)
    assert conv.multiply_adds == 10 * 8 * 3 * (9 + 9 + 9)  # a pair costs two
    assert pool.multiply_adds == 0
    assert rows("gray", (10, 8, 3))[0].multiply_adds == 240
    assert rows("gray", (10, 8, 1))[0].multiply_adds == 0


def test_shape_errors_pass_through():
    with pytest.raises(ShapeError, match="layer 2 'dense 3'"):
        summarize(parse_layers("relu | dense 3"), (4, 4, 1))
