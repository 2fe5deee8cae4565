"""Contact sheets: what is drawn where, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter import ImageError, ShapeError, contact_sheet

BACKGROUND = (24, 24, 24)
MAGENTA = (200, 0, 120)


def tile(sheet, shape, column=0):
    """The picture of the map at a column of the first row, cut out by what is not background."""
    height, width = shape
    x = 8 + column * (max(width, 128) + 8)
    return sheet[8 : 8 + height, x : x + width]


def test_each_map_is_stretched_to_its_own_range():
    ramp = np.arange(128 * 128, dtype=np.float32).reshape(128, 128)
    sheet = contact_sheet([("small", ramp / 1e6 - 5), ("large", ramp * 1e6)], columns=2)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (8 + 128 + 28 + 8, 8 + 2 * 136, 3)
    grey = (np.linspace(0, 1, 128 * 128).reshape(128, 128) * 255 + 0.5).astype(np.uint8)
    for column in (0, 1):
        drawn = tile(sheet, (128, 128), column)
        assert np.abs(drawn.astype(int) - grey[:, :, None]).max() <= (3 if column == 0 else 0)
        assert drawn.min() == 0
        assert drawn.max() == 255


def test_tiny_maps_are_enlarged_without_smoothing():
    sheet = contact_sheet([("checker", np.array([[0, 1], [1, 0]]))])
    drawn = tile(sheet, (128, 128))
    assert (drawn[:64, :64] == 0).all()
    assert (drawn[:64, 64:] == 255).all()
    assert (drawn[64:, :64] == 255).all()


def test_constant_maps_are_mid_grey():
    for value in (0, 7.5, -1e30):
        assert (tile(contact_sheet([("flat", np.full((4, 4), value))]), (128, 128)) == 128).all()


def test_what_is_not_finite_is_magenta_and_does_not_spoil_the_range():
    values = np.array([[0, np.nan], [np.inf, 1]], np.float32)
    drawn = tile(contact_sheet([("odd", values)]), (128, 128))
    assert (drawn[64:, 64:] == 255).all()
    assert (drawn[:64, 64:] == MAGENTA).all()
    assert (drawn[64:, :64] == MAGENTA).all()
    assert (tile(contact_sheet([("none", np.full((2, 2), np.nan))]), (128, 128)) == MAGENTA).all()


def test_the_largest_range_of_floats_does_not_overflow():
    for dtype in (np.float32, np.float64):
        largest = np.finfo(dtype).max
        drawn = tile(contact_sheet([("wide", np.array([[-largest, 0, largest]], dtype))]), (43, 129))
        assert [int(v) for v in drawn[0, [0, 64, 128], 0]] == [0, 128, 255]


def test_labels_tell_name_and_range():
    def below(name, values):
        return contact_sheet([(name, values)])[8 + 128 :].astype(int)

    flat = np.zeros((8, 8))
    assert (below("relu 1", flat) != below("relu 2", flat)).any()
    ramp = np.arange(64.0).reshape(8, 8)
    assert (below("relu 1", ramp) != below("relu 1", ramp * 2)).any()
    assert below("relu 1", flat).max() > 200  # it can be read


def test_a_label_never_leaves_its_tile():
    name = "conv a-very-long-name-that-no-tile-could-hold " * 5
    sheet = contact_sheet([(name, np.zeros((8, 8)))] * 2, columns=2)
    assert (sheet[:, 8 + 128 : 8 + 136] == BACKGROUND).all()
    assert (sheet[:, -8:] == BACKGROUND).all()


def test_long_labels_keep_their_number():
    name = "conv a-very-long-name-that-no-tile-could-hold {}"
    sheets = [contact_sheet([(name.format(number), np.zeros((8, 8)))]) for number in (1, 2)]
    assert (sheets[0] != sheets[1]).any()


@pytest.mark.parametrize(
    ("count", "shape"), [(9, (128, 128)), (64, (7, 7)), (1280, (7, 7)), (30, (60, 400)), (5, (1, 1))]
)
def test_sheets_are_nearly_square(count, shape):
    height, width, _ = contact_sheet([("m", np.zeros(shape))] * count).shape
    assert 0.4 < height / width < 2.5


def test_large_maps_shrink_to_what_a_sheet_may_measure():
    checker = np.indices((3000, 3000)).sum(axis=0) % 2
    sheet = contact_sheet([("c", checker)] * 4, columns=4)
    assert max(sheet.shape) <= 4096 + 16
    assert abs(sheet[100:900, 100:900].astype(int) - 128).max() < 40  # means, not every n-th sample


def test_maps_of_different_sizes():
    sheet = contact_sheet([("large", np.ones((300, 200))), ("small", np.eye(100))], columns=2)
    assert sheet.shape == (8 + 300 + 28 + 8, 8 + 2 * 208, 3)


def test_refusals():
    with pytest.raises(ImageError, match="0 maps"):
        contact_sheet([])
    with pytest.raises(ImageError, match="2049 maps do not fit on a contact sheet of 1 to 2048; npy"):
        contact_sheet([("m", np.zeros((1, 1)))] * 2049)
    with pytest.raises(ShapeError, match="columns 0"):
        contact_sheet([("m", np.zeros((1, 1)))], columns=0)
    for shape in ((4,), (2, 2, 2), (0, 2)):
        with pytest.raises(ShapeError, match="map 'm' of shape"):
            contact_sheet([("m", np.zeros(shape))])


def test_a_map_of_three_channels_is_drawn_in_colour_in_one_range():
    pixels = np.zeros((1, 2, 3))
    pixels[0, 0] = (1, 0, 0)
    pixels[0, 1] = (0, -1, 1)
    sheet = contact_sheet([("rgb", pixels)])
    tile = sheet[8 : 8 + 64, 8 : 8 + 128]
    np.testing.assert_array_equal(tile[0, 0], (255, 128, 128))
    np.testing.assert_array_equal(tile[0, -1], (128, 0, 255))
