"""Numbers as other tools write them: separators, comments, continued lines, sizes, decimal commas, files of editors."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cnnfilter.errors import KernelError
from cnnfilter.kernels.lookup import find_kernel
from cnnfilter.kernels.text import check

TWO_ROWS = [[1, 2, 3], [4, 5, 6]]
SHARPEN = [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        "1\t2\t3;4\t5\t6",
        "1\t2 3\n4 5\t6",
        "1 2 3\r\n4 5 6\r\n",
        "1 2 3\r4 5 6\r",  # of old Macintosh programs
        "1,2,3,\r\n4,5,6,\r\n",
        "1,2,3,;4,5,6,;",
        "1, 2, 3,; 4, 5, 6",
        "\ufeff1 2 3; 4 5 6",
        "\ufeff[[1, 2, 3], [4, 5, 6]]",
        "1\u00a02\u00a03; 4\u00a05\u00a06",  # spaces of a word processor
        "1 2 3 /* of C */; 4 5 6",
        "/* of C,\n   on two lines */\n1 2 3\n4 5 6",
        "1 2 3 ...\n; 4 5 6",
        "[1 2 3; ...\n 4 5 6]",
        "[1 2 ... the first row ends in the next line\n 3; 4 5 6];",
        "[1 2 3; ...\r\n 4 5 6]",
        "1 2 3; \\\n4 5 6",
        "[1 2 3;\n 4 5 6;\n];",
        "[[1,2,3];[4,5,6]]",
        "[[1, 2, 3,], [4, 5, 6,],]",
        "[\n  [1, 2, 3],\n  [4, 5, 6]\n]\n",
        "k = [1 2 3; 4 5 6];",
        "float k[2][3] = {{1.0f, 2.f, 3.0F}, {4.f, 5.f, 6e0}};",
        "static const int kernel [2][3] = {\n  { 1, 2, 3 },  // the first row\n  { 4, 5, 6 },\n};",
        "kernel = [[1, 2, 3], [4, 5, 6]]",
        "((1, 2, 3), (4, 5, 6))",
        "[(1, 2, 3), (4, 5, 6)]",
        "((1, 2, 3,), (4, 5, 6,),)",
        "1 2 3 , 4 5 6",
    ],
)
def test_each_notation_in_text_and_in_a_file(tmp_path, text):
    np.testing.assert_array_equal(find_kernel(write(tmp_path, "k.txt", text)).weights, TWO_ROWS)
    if not text.startswith(("kernel =", "float", "static", "/*")):  # these are no kernels as words of a command
        check(text)
        np.testing.assert_array_equal(find_kernel(text).weights, TWO_ROWS)


@pytest.mark.parametrize(
    "text",
    [
        "3x3+1+1: 0,-1,0,-1,5,-1,0,-1,0",
        "3x3+1+1:\r\n0,-1,0\r\n-1,5,-1\r\n0,-1,0\r\n",
        "3:\t0 -1 0 -1 5 -1 0 -1 0",
        "3x3: 0,-1,0,-1,5,-1,0,-1,0,",
        "3x3: 0,-1,0 -1,5,-1 0,-1,0;",
        "3x3: 0 -1 0; -1 5 -1; 0 -1 0;",
        "3x3: [0 -1 0; -1 5 -1; 0 -1 0]",
        "3x3: [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]",
        "3x3: {0,-1,0,-1,5,-1,0,-1,0}",
        "3x3: 0,-1,0,  -1,5,-1,  0,-1,0  # of the manual",
        "0 -1 0,-1 5 -1,0 -1 0",
    ],
)
def test_each_notation_of_a_square(tmp_path, text):
    np.testing.assert_array_equal(find_kernel(text).weights, SHARPEN)
    np.testing.assert_array_equal(find_kernel(write(tmp_path, "k.txt", text)).weights, SHARPEN)


def test_a_continued_line_is_one_row():
    np.testing.assert_array_equal(find_kernel("[1 2 ...\n 3 4]").weights, [[1, 2, 3, 4]])
    np.testing.assert_array_equal(find_kernel("1 2 \\\n3 4").weights, [[1, 2, 3, 4]])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3x3+1+1:", "'3x3:' needs 9 numbers, and there are 0"),
        ("3x3+0+0: 0,-1,0,-1,5,-1,0,-1,0", "the middle of a kernel cannot be moved"),
        ("3x3: [0 -1 0; -1 5 -1]", "'3x3:' needs 3 rows of 3 numbers, and there are 2 rows"),
        ("3x3: [[0, -1], [-1, 5]]", "'3x3:' needs 9 numbers, and there are 4"),
        ("1x9: 1,2,3,4,5,6,7,8,9", "every size here is height x width"),
        ("1,2,3,", "row 1, column 4: nothing is not a number"),
        ("1,2,3,; 4,5,6; 7,8,9", "row 2 has 3 numbers (4 5 6), row 1 has 4"),
        ("[[1;2];[3;4]]", "brackets hold one row each"),
        ("[1 2; 3 4]'", "stands after the last bracket"),
        ("[1 2 3 ...", "a bracket is not closed"),
        ("1 2; 3 0x10", "row 2, column 2: '0x10' is not a number"),
        ("[1.0g 2]", "row 1, column 1: '1.0g' is not a number"),
        ("[1 2; 3 4f]", "row 2, column 2: '4f' is not a number"),
    ],
)
def test_nothing_is_guessed(text, says):
    with pytest.raises(KernelError, match=re.escape(says)):
        find_kernel(text)


DECIMAL_COMMAS = [
    ("0,5 1,5", "0.5 1.5", "0 5; 1 5"),
    ("0,5 1,5; 2,5 3,5", "0.5 1.5; 2.5 3.5", "0 5 1 5; 2 5 3 5"),
    ("0 0,5 0; 0 0,5 0", "0 0.5 0; 0 0.5 0", "0 0 5 0; 0 0 5 0"),
    ("0 0,5 0", "0 0.5 0", "0 0; 5 0"),
    ("0 0,25 0,5 0,25 0", "0 0.25 0.5 0.25 0", "0 0; 25 0; 5 0; 25 0"),
    ("1 2 3,4 5 6", "1 2 3.4 5 6", "1 2 3; 4 5 6"),
    ("0,1\t0,2\n0,3\t0,4\n", "0.1 0.2; 0.3 0.4", "0 1 0 2; 0 3 0 4"),
    ("[0,5 1,5; 2,5 3,5]", "0.5 1.5; 2.5 3.5", "0 5 1 5; 2 5 3 5"),
    ("{{0,5 1,5}, {2,5 3,5}}", "0.5 1.5; 2.5 3.5", "0 5 1 5; 2 5 3 5"),
    ("1,000 2,000", "1.000 2.000", "1 000; 2 000"),
    ("-0,5 1,5", "-0.5 1.5", "-0 5; 1 5"),
]


@pytest.mark.parametrize(("text", "decimal", "whole"), DECIMAL_COMMAS)
def test_decimal_commas_are_refused_with_both_readings(tmp_path, text, decimal, whole):
    names = ["k.txt"] if re.search(r"[;\[{]", text) else ["k.txt", "k.csv"]
    for spec in (text, *(write(tmp_path, name, text) for name in names)):
        with pytest.raises(KernelError) as caught:
            find_kernel(spec)
        assert "can be a decimal number or two numbers" in str(caught.value)
        assert re.findall(r"'([^']*)'", str(caught.value))[-2:] == [decimal, whole]
    for reading in (decimal, whole):
        assert np.isfinite(find_kernel(reading).weights).all()


@pytest.mark.parametrize("text", ["1,5 2", "0 -0,5 0; -0,5 3 -0,5; 0 -0,5 0"])
def test_decimal_commas_that_can_be_nothing_else_are_refused_with_that_reading(text):
    with pytest.raises(KernelError) as caught:
        find_kernel(text)
    decimal = text.replace(",", ".")
    assert str(caught.value).endswith(f": write '{decimal}'")
    find_kernel(decimal)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("0,5", [[0, 5]]),
        ("1,2; 3,4", [[1, 2], [3, 4]]),
        ("1,2\n3,4", [[1, 2], [3, 4]]),
        ("[1,2; 3,4]", [[1, 2], [3, 4]]),
        ("[[1,2],[3,4]]", [[1, 2], [3, 4]]),
        ("1, 2  3, 4", [[1, 2], [3, 4]]),
        ("1, 0  0, -1", [[1, 0], [0, -1]]),
        ("1,0 0,-1", [[1, 0], [0, -1]]),
        ("1,2,1 2,4,2 1,2,1", [[1, 2, 1], [2, 4, 2], [1, 2, 1]]),
        ("1 2 1,2 4 2,1 2 1", [[1, 2, 1], [2, 4, 2], [1, 2, 1]]),
    ],
)
def test_commas_that_only_separate_are_understood(text, weights):
    np.testing.assert_array_equal(find_kernel(text).weights, weights)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("k.txt", "1 2 3\n4 5 6\n".encode("utf-16")),  # as PowerShell's > writes it
        ("k.txt", "1 2 3\r\n4 5 6\r\n".encode("utf-8-sig")),
        ("k.txt", "# Created by Octave 8.4\n# name: k\n# type: matrix\n# rows: 2\n# columns: 3\n 1 2 3\n 4 5 6\n\n\n"),
        ("k.txt", "1.000000000000000000e+00 2.000000000000000000e+00 3.0e+00\n4e0 5e0 6e0\n"),  # of numpy.savetxt
        ("k.csv", "\ufeff1,2,3\r\n4,5,6\r\n"),
        ("k.csv", "1,2,3,\r\n4,5,6,\r\n"),
        ("k.csv", "1;2;3;\r\n4;5;6;\r\n"),
        ("k.csv", "1,0;2,0;3,0\r\n4,0;5,0;6,0\r\n"),  # of a German spreadsheet
        ("k.csv", '"1,0";"2,0";"3,0"\r\n"4,0";"5,0";"6,0"\r\n'),
        ("k.csv", "1;2;3\n4;5;6\n".encode("utf-16")),
        ("k.json", "\ufeff[[1, 2, 3], [4, 5, 6]]\r\n"),
        ("k.json", "[[1, 2, 3,], [4, 5, 6,],]"),
        ("k.json", '/* a comment */ {"weights": [[1, 2, 3], [4, 5, 6]]}'),
        ("k.mat", "\ufeff3 2\r\n1 2 3\r\n4 5 6\r\n"),
        ("k.mat", "3\t2\t1\t0\n1\t2\t3\n4\t5\t6\n"),
    ],
)
def test_files_of_other_tools(tmp_path, name, content):
    np.testing.assert_array_equal(find_kernel(write(tmp_path, name, content)).weights, TWO_ROWS)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("k.csv", "1,2,3,\n4,5,6\n", "row 2 has 3 numbers (4 5 6), row 1 has 4"),
        ("k.csv", "1;2;3;\n4;5;6\n", "row 2 has 3 numbers (4 5 6), row 1 has 4"),
        ("k.csv", "1;2;3;\n4;;6;\n", "row 2, column 2: nothing is not a number"),
        ("k.csv", "a,b,c\n1,2,3\n", "row 1, column 1: 'a' is not a number"),
        ("k.mat", "3 2 1 0 5\n1 2 3\n4 5 6\n", "begins with 'width height'"),
        ("k.mat", "3 2\n1 2 3\n4 5\n", "row 2 has 2 numbers"),
    ],
)
def test_files_that_are_no_rectangle_are_refused(tmp_path, name, content, says):
    with pytest.raises(KernelError, match=re.escape(says)):
        find_kernel(write(tmp_path, name, content))
