"""The memory of large results, which is used again."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from cnnfilter import convolve, pool
from cnnfilter.runtime import buffers, limits

LEAST = 4 << 20
SHAPE = (1024, 1024, 4)


def place(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(buffers, "_kept", [])
    monkeypatch.setattr(buffers, "LEAST", LEAST)


def kept() -> list[int]:
    return [len(memory) for memory in buffers._kept]


def test_memory_is_used_again_when_nobody_sees_it():
    first = buffers.empty(SHAPE, np.uint8)
    was = place(first)
    del first
    assert kept() == [LEAST]
    assert place(buffers.empty(SHAPE, np.uint8)) == was


@pytest.mark.parametrize(
    "view",
    [
        lambda array: array[5:6, ::2],
        lambda array: array.view(np.int32)[0],
        lambda array: memoryview(array)[1:2],
        lambda array: np.frombuffer(array, np.uint8)[3:],
        lambda array: np.lib.stride_tricks.sliding_window_view(array, (2, 2, 1)),
        lambda array: np.asarray(memoryview(array)),
    ],
)
def test_memory_is_not_used_again_while_somebody_sees_a_part_of_it(view):
    whole = buffers.empty(SHAPE, np.uint8)
    whole[...] = 7
    part = view(whole)
    del whole
    gc.collect()
    assert kept() == []
    buffers.empty(SHAPE, np.uint8)[...] = 9
    assert (np.asarray(part).view(np.uint8) == 7).all()
    del part
    assert len(kept()) == 2


def test_an_array_is_as_it_was_asked_for():
    for dtype in (np.uint8, np.uint16, np.float32):
        array = buffers.empty(SHAPE, dtype)
        assert (array.shape, array.dtype, array.flags.c_contiguous, array.flags.writeable) == (SHAPE, dtype, True, True)
        array[...] = 1
    assert buffers.empty((0, 5, 3), np.uint8).shape == (0, 5, 3)


def test_what_is_kept_has_an_end(monkeypatch):
    monkeypatch.setattr(buffers, "MOST", 3 * LEAST)
    arrays = [buffers.empty((LEAST + index,), np.uint8) for index in range(5)]
    while arrays:
        arrays.pop(0)
    assert kept() == [LEAST + 3, LEAST + 4]  # what came back last
    del buffers._kept[:]
    large = buffers.empty((3 * LEAST + 1,), np.uint8)
    del large
    assert kept() == []


def test_small_arrays_and_much_larger_memory_are_left_alone():
    small = buffers.empty((LEAST - 1,), np.uint8)
    assert small.base is None
    large = buffers.empty((2 * LEAST,), np.uint8)
    was = place(large)
    del large
    half = buffers.empty((LEAST,), np.uint8)
    assert place(half) != was
    assert kept() == [2 * LEAST]


def test_nothing_is_kept_where_memory_is_counted(monkeypatch):
    monkeypatch.setattr(limits, "is_memory_limited", lambda: True)
    array = buffers.empty(SHAPE, np.uint8)
    del array
    assert kept() == []


@pytest.mark.parametrize(
    "work",
    [
        lambda picture: convolve(picture, "blur", dtype=np.uint8),
        lambda picture: convolve(picture, "unsharp:2,0.8"),
        lambda picture: pool(picture, "max", size=3, stride=1),
        lambda picture: pool(picture, "avg", size=(1, 1)),
    ],
)
def test_filters_and_pooling_use_it(work, rng):
    picture = rng.integers(0, 256, (2100, 2100, 1), np.uint8)
    made = work(picture)
    was, right = place(made), made.copy()
    del made
    assert len(kept()) == 1
    again = work(picture)
    assert place(again) == was
    assert (again == right).all()
