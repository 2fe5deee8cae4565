"""Examples from arrays: how they are numbered, named, selected and taken as one array."""

from __future__ import annotations

import numpy as np

from cnnfilter.training.data.examples import ArrayExamples, Examples


def test_pictures_of_several_arrays_are_numbered_through(rng):
    first, second = (rng.integers(0, 256, (count, 4, 5)).astype(np.uint8) for count in (3, 2))
    source = ArrayExamples([("first", first), ("second", second)])
    examples = Examples(source, np.arange(5), np.array([0, 1, 0, 1, 1]))
    assert [examples.name(index) for index in (0, 2, 3, 4)] == ["first#0", "first#2", "second#0", "second#1"]
    assert (examples.read(3) == second[0]).all()
    assert examples.counts(3).tolist() == [2, 3, 0]
    chosen = examples.take(examples.labels == 1)
    assert [chosen.name(index) for index in range(len(chosen))] == ["first#1", "second#0", "second#1"]
    assert chosen.digest(0) == examples.digest(1) != examples.digest(0)


def test_bytes_of_the_wanted_shape_are_taken_as_one_array(rng):
    first, second = (rng.integers(0, 256, (count, 4, 5)).astype(np.uint8) for count in (3, 2))
    source = ArrayExamples([("first", first), ("second", second)])
    rows = source.rows(np.array([4, 0, 3]), (4, 5, 1))
    assert rows is not None
    assert (rows[..., 0] == np.stack([second[1], first[0], second[0]])).all()
    assert source.rows(np.arange(2), (4, 5, 3)) is None
    assert source.rows(np.arange(2), (5, 4, 1)) is None
    assert ArrayExamples([("floats", first.astype(np.float32))]).rows(np.arange(2), (4, 5, 1)) is None
