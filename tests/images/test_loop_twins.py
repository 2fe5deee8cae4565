"""The loops of images give what their twins give, over small shapes and all signatures."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter.images.dtype_loops import finish
from cnnfilter.images.formats import jpeg_loops, png_loops
from tests.images import loop_twins as twins
from tests.twins import assert_twin


@pytest.mark.parametrize("step", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("pixels", [1, 2, 30])
def test_filters_of_png(step, pixels, rng):
    rows = rng.integers(0, 256, (6, pixels * step), np.uint8)
    rows[2:4] = np.arange(pixels * step) * 3 % 256  # a row that each filter would choose
    filtered = np.zeros((5, 1 + pixels * step), np.uint8)
    assert_twin(png_loops.filter_rows, twins.filter_rows, (rows, filtered, step), [1])
    filtered[...] = rng.integers(0, 256, filtered.shape)
    for kinds in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [4, 1, 5, 1, 1]):
        filtered[:, 0] = kinds
        out = np.zeros((5, pixels * step), np.uint8)
        assert_twin(png_loops.unfilter, twins.unfilter, (filtered, rows[0], out, step), [2])


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 100])
def test_pixels_of_four_bytes(count, rng):
    four = rng.integers(0, 256, 4 * count, np.uint8)
    assert_twin(jpeg_loops.add_fourth, twins.add_fourth, (four[: 3 * count].copy(), four, count), [1])
    memory = four.copy()
    twins.drop_fourth(memory, 0, count // 2)
    arguments = (memory, count // 2, count)
    found = []
    for call in (jpeg_loops.drop_fourth, jpeg_loops.drop_fourth.function, twins.drop_fourth):
        copy = memory.copy()
        call(copy, *arguments[1:])
        found.append(copy[: 3 * count].tolist())  # what lies behind is left over
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("dtypes", finish.signatures, ids=str)
@pytest.mark.parametrize("fold", [0, 1])
def test_finish(dtypes, fold, rng):
    top = 255 if dtypes[1] == "u1" else 65535
    values = rng.integers(-4 * top, 8 * top, (3, 70)).astype(np.float32) / 4
    values[1, :6] = np.nan, np.inf, -np.inf, -0.5, top + 0.5, -0.0
    for gain, shift in ((1.0, 0.0), (0.5, 2.25)):
        out = np.full((3, 80), 7, dtypes[1])
        assert_twin(finish, twins.finish, (values, out, 4, gain, shift, fold, top), [1])
