"""Matrices as text: what is read, what is refused with its line, and what is written."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter.errors import ImageError
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.image import Image

MATRIX = np.array([[1, 2.5, -3], [4e-3, 5, 6]], np.float32)


@pytest.mark.parametrize(
    "text",
    [
        b"1 2.5 -3\n4e-3 5 6\n",
        b"1,2.5,-3\n0.004,5,6",
        b"  1   2.5\t-3  \r\n.004 5. +6\r\n\r\n",
        b"\n# a matrix\n1, 2.5, -3  # the first row\n# between\n4E-3, 5, 6\n\n",
        b"\xef\xbb\xbf1 2.5 -3\n4e-3 5 6\n",
        "1 2.5 \N{MINUS SIGN}3\n1/250 5 6\n".encode(),
        "1 2.5 -3\n4e-3 5 6\n".encode("utf-16"),
        "# d\xe9j\xe0 vu\n1 2.5 -3\n4e-3 5 6\n".encode("latin-1"),
    ],
)
def test_rows_of_numbers_are_a_picture_of_one_channel(text, tmp_path):
    image = read_image(text)
    assert (image.mode, image.pixels.dtype, image.format) == ("L", np.float32, "csv" if b"," in text else "txt")
    np.testing.assert_array_equal(image.pixels[:, :, 0], MATRIX)
    (tmp_path / "matrix.txt").write_bytes(text)
    np.testing.assert_array_equal(read_image(tmp_path / "matrix.txt").pixels[:, :, 0], MATRIX)


def test_a_column_and_a_single_number_are_matrices():
    assert read_image(b"1\n2\n3\n").pixels.shape == (3, 1, 1)
    assert read_image(b"7").pixels.shape == (1, 1, 1)
    assert read_image(b"1 2 3 4 5 6 7 8 9").pixels.shape == (1, 9, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1 2\n3\n", "line 2 has 1 number, and line 1 has 2: every row needs as many"),
        (b"# a\n1\n\n", None),
        (b"# a\n\n1 2\n# b\n3 4 5\n", "line 5 has 3 numbers, and line 3 has 2: every row needs as many"),
        (b"1 2\n\n3 4\n", "line 2 is blank, and further rows follow: a file holds one matrix"),
        (b"1 2\n3 x\n", "line 2, column 2: 'x' is not a number"),
        (b"1 nan\n3 4\n", "line 1, column 2: nan is not a finite number"),
        (b"NaN\n", "line 1, column 1: NaN is not a finite number"),
        (b"1 2\n-inf 4\n", "line 2, column 1: -inf is not a finite number"),
        (b"1,2\n3,\n", "line 2, column 2: nothing is not a number"),
        (b"1,,2\n", "line 1, column 2: nothing is not a number"),
        (b"1 2, 3 4\n", "line 1 has commas and spaces between numbers ('1 2')"),
        (b"1,5 2,5\n", "line 1 has commas and spaces between numbers ('5 2')"),
        (b"1;2\n", "line 1 has a semicolon: spaces or commas separate numbers, and each row has its line"),
        (b"1 1/0\n", "line 1, column 2: '1/0' is not a number"),
        (b"1 1_000\n", "line 1, column 2: '1_000' is not a number"),
        (b"1 3.4028236e38\n", "line 1, column 2: 3.4028236e38 is beyond the numbers of float32 (up to 3.4e38)"),
        (b"1 1e39\n", "line 1, column 2: 1e39 is beyond the numbers of float32 (up to 3.4e38)"),
        (b"1 1e999\n", "line 1, column 2: 1e999 is not a finite number"),
    ],
)
def test_what_is_no_matrix_is_refused_with_its_line(text, message):
    if message is None:
        read_image(text)
        return
    with pytest.raises(ImageError) as caught:
        read_image(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "data", [b"hello", b"# only a comment\n", b"\n\n", b"7z\xbc\xaf\x27\x1c\0\4", b"2024-01-01 notes"]
)
def test_other_texts_are_no_picture(data):
    with pytest.raises(ImageError, match="not a picture that can be read"):
        read_image(data)


def test_the_limit_of_pixels_holds():
    with pytest.raises(ImageError, match="3x2 is 6 pixels; the limit is 5"):
        read_image(b"1 2 3\n4 5 6\n", max_pixels=5)


def text_of(values, format="txt", dtype=np.float32):
    return encode_image(np.array(values, dtype), format).decode()


def test_integers_have_no_point_and_columns_are_aligned():
    assert text_of([[6, 8], [3, 4]]) == "6 8\n3 4\n"
    assert text_of([[1, -0.5], [10, 100]]) == " 1 -0.5\n10  100\n"
    assert text_of([[1, -0.5], [10, 100]], "csv") == "1,-0.5\n10,100\n"
    assert text_of([[0, 255]], dtype=np.uint8) == "0 255\n"
    assert text_of([[0, 65535]], "csv", np.uint16) == "0,65535\n"


@pytest.mark.parametrize("format", ["txt", "csv"])
def test_what_is_written_is_read_back_as_the_same_numbers(format, rng):
    bits = rng.integers(0, 1 << 32, (60, 50), np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    values = np.where(np.isfinite(values), values, np.float32(0.1))
    values[0, :6] = [0.1, 1 / 3, 1e-45, 3.4028235e38, -0.0, 16777216]
    back = read_image(encode_image(values, format)).pixels[:, :, 0]
    np.testing.assert_array_equal(back.view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize("values", [[[1, np.nan]], [[np.inf, 1]]])
def test_numbers_that_are_not_finite_are_not_written(values):
    with pytest.raises(ImageError, match="NaN and infinity are not written as text; npy holds them"):
        text_of(values)


def test_several_channels_are_refused_and_a_single_map_is_not():
    with pytest.raises(ImageError, match="txt holds one channel, and there are 3; npy holds them all"):
        text_of(np.zeros((2, 2, 3)))
    with pytest.raises(ImageError, match=r"csv holds one channel, and there are 2; npy holds them all$"):
        encode_image(Image(np.zeros((2, 2, 2), np.float32), "maps"), "csv")
    one_map = Image(np.ones((1, 2, 1), np.float32), "maps")
    assert encode_image(one_map, "txt") == b"1 1\n"
