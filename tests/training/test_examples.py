"""Examples from arrays: how they are numbered, named, selected and taken as one array."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter.images.files import encode_image
from cnnfilter.images.image import Image
from cnnfilter.training.data.examples import ArrayExamples, Examples, FileExamples


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


def test_only_the_first_page_of_a_file_is_an_example(rng, tmp_path):
    first, second = rng.integers(0, 256, (2, 4, 5, 1)).astype(np.uint8)
    file = encode_image(Image(first, "L", frames=(first, second)), "tiff")
    path = tmp_path / "a.tif"
    path.write_bytes(file[: file.rindex(b"\x00\x01\x03\x00\x01\x00\x00\x00\x05\x00")])  # in the second directory
    with pytest.warns(UserWarning, match="page 2: its directory begins at byte"):
        image = FileExamples([str(path)]).read(0)
    assert (image.pixels == first).all()
