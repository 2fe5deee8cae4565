"""Kernels in files: every kind read and written, and nonsense refused."""

from __future__ import annotations

import io
import os
import subprocess

import numpy as np
import pytest

from cnnfilter.errors import KernelError
from cnnfilter.kernels.files import READERS, encode_kernel, kernel_text, parse_numbers, read_kernel_file
from cnnfilter.kernels.lookup import find_kernel

WEIGHTS = np.array([[1, 2.5, -3], [0, 1 / 3, 1e-7]])
ROW_OF_NINE = np.array([[1, 2.5, -3, 0, 1 / 3, 1e-7, 7, -0.0, 9]])


def write(folder, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def npy(array: np.ndarray, **how) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **how)
    return stream.getvalue()


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("k.txt", "1 2 3\n4 5 6\n"),
        ("k.txt", "# a comment\n\n1 2 3\r\n4, 5, 6"),
        ("k.txt", "1 2 3; 4 5 6"),
        ("K.TXT", "\ufeff1 2 3\n4 5 6\n"),
        ("kernel", "1 2 3\n4 5 6\n"),
        ("k.txt", "1 2 3 # a comment\n4 5 6\n"),
        ("k.txt", "// a comment of C\n1 2 3\n% and of Octave\n4 5 6\n"),
        ("k.txt", "[1 2 3; 4 5 6]\n"),
        ("k.txt", "# from C\n{{1, 2, 3},\n {4, 5, 6}};\n"),
        ("k.txt", "1 2 3, 4 5 6\n"),
        ("k.csv", "1,2,3\n4,5,6\n"),
        ("k.csv", "# a comment\n1,2,3 # and another\n4,5,6\n"),
        ("k.csv", "1;2;3 # a comment\n4;5;6\n"),
        ("k.json", "// a comment\n[[1, 2, 3],  # and another\n [4, 5, 6]]\n"),
        ("k.json", "{{1,2,3},{4,5,6}}"),
        ("k.mat", "# a comment\n3 2 # width and height\n1 2 3\n4 5 6\n"),
        ("k.csv", '"1","2","3"\r\n"4","5","6"\r\n'),
        ("k.csv", "1;2,0;3\n4;5;6,0\n"),
        ("k.csv", "1\t2\t3\n4\t5\t6\n"),
        ("k.json", "[[1, 2, 3], [4, 5, 6]]"),
        ("k.json", '{"weights": [[0.5, 1, 1.5], [2, 2.5, 3]], "divisor": "1/2"}'),
        ("k.mat", "3 2\n1 2 3\n4 5 6\n"),
        ("k.mat", "3 2 10 0\n10 20 30\n40 50 60\n"),
        ("k.npy", npy(np.array([[1, 2, 3], [4, 5, 6]], dtype=np.int16))),
        ("k.npy", npy(np.array([[1, 2, 3], [4, 5, 6]], dtype=">f8"), version=(2, 0))),
        ("k.npy", npy(np.asfortranarray(np.array([[1, 2, 3], [4, 5, 6]], dtype=np.float16)), version=(3, 0))),
    ],
)
def test_every_kind_holds_the_same_numbers(tmp_path, name, content):
    np.testing.assert_array_equal(find_kernel(write(tmp_path, name, content)).weights, [[1, 2, 3], [4, 5, 6]])


def test_a_matrix_of_libvips_has_scale_and_offset(tmp_path):
    kernel = find_kernel(write(tmp_path, "emboss.mat", "3 1 4 128\n-1 0 1\n"))
    np.testing.assert_array_equal(kernel.weights, [[-0.25, 0, 0.25]])
    assert (kernel.divisor, kernel.offset, kernel.name) == (4, 128, "emboss")


def test_an_offset_follows_the_kernel_through_its_changes(tmp_path):
    kernel = find_kernel(write(tmp_path, "k.mat", "3 1 1 5\n1 2 1\n"))
    assert kernel.flip().offset == kernel.transpose().offset == kernel.normalized().offset == 5


def test_a_flat_npy_is_one_row(tmp_path):
    assert find_kernel(write(tmp_path, "k.npy", npy(np.array([1, 2, 1])))).shape == (1, 3)


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="needs /dev/fd")
def test_a_file_of_the_shell_without_a_suffix_is_text():
    reading, writing = os.pipe()
    os.write(writing, b"1 2 1\n")
    os.close(writing)
    try:
        assert find_kernel(f"@/dev/fd/{reading}").shape == (1, 3)
    finally:
        os.close(reading)


def test_a_kernel_of_the_largest_size_is_read(tmp_path):
    path = write(tmp_path, "k.csv", "\n".join(",".join(["0.5"] * 1023) for _ in range(1023)))
    assert find_kernel(path).shape == (1023, 1023)


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("weights", [WEIGHTS, ROW_OF_NINE, ROW_OF_NINE.T])
@pytest.mark.parametrize("suffix", READERS)
def test_written_kernels_are_read_back_to_the_last_bit(tmp_path, suffix, weights):
    table = read_kernel_file(write(tmp_path, "k" + suffix, encode_kernel(weights, suffix)))
    np.testing.assert_array_equal(table.weights, weights)
    assert table.offset == 0


@pytest.mark.parametrize("suffix", [".mat", ".json"])
def test_an_offset_is_written_if_the_format_has_one(tmp_path, suffix):
    table = read_kernel_file(write(tmp_path, "k" + suffix, encode_kernel(WEIGHTS, suffix, offset=128.5)))
    np.testing.assert_array_equal(table.weights, WEIGHTS)
    assert table.offset == 128.5


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".npy"])
def test_an_offset_is_refused_where_it_would_be_lost(suffix):
    with pytest.raises(KernelError, match=rf"{suffix} files cannot hold the offset 3: write .mat or .json"):
        encode_kernel(WEIGHTS, suffix, offset=3)


@pytest.mark.parametrize("weights", [WEIGHTS, ROW_OF_NINE, ROW_OF_NINE.T])
def test_text_is_read_back_to_the_last_bit(weights):
    np.testing.assert_array_equal(parse_numbers(kernel_text(weights)).weights, weights)


@pytest.mark.parametrize("suffix", [".png", ""])
def test_an_unknown_kind_is_not_written(suffix):
    with pytest.raises(KernelError, match=r"kernels are written as \.txt, \.csv, \.json, \.npy and \.mat files"):
        encode_kernel(WEIGHTS, suffix)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("k.txt", "", "a kernel needs at least one number"),
        ("k.txt", "# nothing\n", "a kernel needs at least one number"),
        ("k.txt", "1 2\n3\n", "row 2 has 1 number (3), row 1 has 2"),
        ("k.txt", "1 2\n3 \xff\n".encode("latin-1"), "row 2, column 2"),
        ("k.csv", "1,2\n3,\n", "row 2, column 2: nothing is not a number"),
        ("k.csv", "1;2\n3;x\n", "row 2, column 2: 'x' is not a number"),
        ("k.txt", "1 1 1 1 1 1 1 1 1\n", "write '3x3: 1,1,1,1,1,1,1,1,1' or '1 1 1 1 1 1 1 1 1;'"),
        ("k.csv", "1,1,1,1,1,1,1,1,1\n", "write '3x3: 1,1,1,1,1,1,1,1,1' or '1 1 1 1 1 1 1 1 1;'"),
        ("k.json", "[1, 1, 1, 1, 1, 1, 1, 1, 1]", "write '3x3: 1,1,1,1,1,1,1,1,1' or '1 1 1 1 1 1 1 1 1;'"),
        ("k.npy", npy(np.ones(9)), "9 numbers without rows can be a kernel of 3x3 or one row"),
        ("k.json", "", "not JSON"),
        ("k.json", '{"weights": [[1]], "offset": 1e999}', "the offset inf is not a finite number"),
        ("k.mat", "", "begins with 'width height'"),
        ("k.mat", "1 2 3\n", "the first line says 2 rows of 1 number, but there are none"),
        ("k.mat", "3\n1 2 3\n", "begins with 'width height'"),
        ("k.mat", "3 -1\n1 2 3\n", "begins with 'width height'"),
        ("k.mat", "3 2\n1 2 3\n", "the first line says 2 rows of 3 numbers, but there are 1 of 3"),
        ("k.mat", "3 1 0\n1 2 3\n", "the divisor is 0"),
        ("k.mat", "3 1 x\n1 2 3\n", "the divisor x is not a finite number"),
        ("k.mat", "3 1 1 nan\n1 2 3\n", "the offset nan is not a finite number"),
        ("k.mat", "3000 3000\n1\n", "a kernel of 3000x3000 is too large: 1023 a side is the most"),
        ("k.mat", "MATLAB 5.0 MAT-file, Platform: GLNXA64", "this .mat file is MATLAB's"),
        ("k.mat", "1 1 1e-300\n1e300\n", "is not a finite number"),
        ("k.npy", b"", "not a .npy file"),
        ("k.npy", b"\x93NUMPY\x01\x00\xff\xff", "not a .npy file"),
        ("k.npy", b"\x93NUMPY\x09\x00" + b"\x00" * 90, "not a .npy file"),
        ("k.npy", b"\x93NUMPY\x01\x00\x10\x00" + b"[[[[[[[[[[[[[[[[", "not a .npy file"),
        ("k.npy", npy(np.zeros((3, 3)))[:-1], "a .npy of (3, 3) float64 needs 72 bytes, and there are 71"),
        (
            "k.npy",
            npy(np.zeros((2, 2, 2))),
            "a .npy kernel has the shape (height, width), this one has (2, 2, 2)",
        ),
        (
            "k.npy",
            npy(np.zeros((2, 2), complex)),
            "a .npy kernel holds real numbers, this one holds complex128",
        ),
        ("k.npy", npy(np.array([["a"]])), "this one holds <U1"),
        ("k.npy", npy(np.array([[None]]), allow_pickle=True), "this one holds object"),
        ("k.npy", npy(np.array([[1, np.inf]])), "row 1, column 2: inf is not a finite number"),
        ("k.npy", npy(np.zeros((1, 1024))), "a kernel of 1x1024 is too large"),
        ("k.npy", npy(np.zeros((0, 3))), "a kernel of 0x3 has no numbers"),
        ("k.png", b"\x89PNG", "kernels are read from .txt, .csv, .json, .npy and .mat files, not from .png"),
        ("k.txt", b"1 " * (2**25 + 1), "more than 67108864 bytes are no kernel"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_refuses_and_names_the_file(tmp_path, name, content, says):
    path = write(tmp_path, name, content)
    with pytest.raises(KernelError) as caught:
        find_kernel("@" + path)
    message = str(caught.value)
    assert message.startswith(path + ": ")
    assert says in message
    assert len(message) - len(path) < 200


def test_a_header_that_asks_for_more_than_is_there_takes_no_memory(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1023, 1023), }"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(KernelError, match="needs 8372232 bytes, and there are 0"):
        find_kernel(write(tmp_path, "bomb.npy", data))


def test_nothing_is_ever_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return subprocess.call, (["touch", str(tmp_path / "touched")],)

    path = write(tmp_path, "k.npy", npy(np.array([Bomb()], dtype=object), allow_pickle=True))
    with pytest.raises(KernelError, match="holds object"):
        find_kernel(path)
    assert not (tmp_path / "touched").exists()


def test_a_folder_is_no_kernel(tmp_path):
    with pytest.raises(KernelError, match=r"[Ii]s a directory"):
        find_kernel(str(tmp_path))


@pytest.mark.parametrize("cut", range(0, 90, 7))
def test_a_cut_npy_is_refused(tmp_path, cut):
    data = npy(np.arange(9.0).reshape(3, 3))
    with pytest.raises(KernelError):
        find_kernel(write(tmp_path, "k.npy", data[:cut]))


def test_a_damaged_npy_is_a_kernel_or_refused(tmp_path, rng):
    data = npy(np.arange(9.0).reshape(3, 3))
    for n in range(300):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] = rng.integers(0, 256)
        path = write(tmp_path, f"{n}.npy", bytes(damaged))
        try:
            kernel = find_kernel(path)
        except KernelError as error:
            assert path in str(error)  # noqa: PT017 - either outcome is right
        else:
            assert np.isfinite(kernel.weights).all()
