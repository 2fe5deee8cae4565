"""npy files that need not fit in memory: mapped, filtered piece by piece, with the same result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cnnfilter
from cnnfilter import batch, large
from cnnfilter.cli import main
from cnnfilter.errors import ImageError


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(cnnfilter.__file__).parents[1]))


@pytest.fixture
def all_are_large(monkeypatch):
    monkeypatch.setattr(batch, "LARGE", 0)
    monkeypatch.setattr(large, "LEAST", 0)


def invoke(*args, code=0):
    done = CliRunner().invoke(main, args)
    assert done.exit_code == code, done.output
    return done


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "int16", ">f4"])
@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,), (5,)])
@pytest.mark.parametrize(
    "command",
    [
        ["convolve", "-k", "gaussian:1.5"],
        ["convolve", "-k", "sobel", "--stride", "2", "--border", "reflect"],
        ["convolve", "-k", "laplacian", "-k", "sharpen", "--combine", "stack", "--padding", "3"],
        ["convolve", "-k", "unsharp:2,1", "--signed", "stretch", "--algorithm", "fft", "--dilation", "2"],
        ["pool", "--size", "3", "--stride", "2", "--padding", "1", "--ceil-mode"],
        ["pool", "--op", "avg", "--size", "4,5"],
        ["pool", "--op", "min", "--global"],
    ],
    ids=" ".join,
)
def test_a_mapped_file_gives_the_same_bytes(command, channels, dtype, rng, monkeypatch):
    np.save("in.npy", (rng.random((37, 41, *channels)) * 250).astype(dtype))
    invoke(*command, "in.npy", "-o", "expected.npy")
    monkeypatch.setattr(batch, "LARGE", 0)
    monkeypatch.setattr(large, "LEAST", 0)
    invoke(*command, "in.npy", "-o", "out.npy")
    assert Path("out.npy").read_bytes() == Path("expected.npy").read_bytes()
    assert sorted(os.listdir()) == ["expected.npy", "in.npy", "out.npy"]


def test_the_result_stands_in_the_file_and_nowhere_else(all_are_large, monkeypatch):
    kept = []
    monkeypatch.setattr(large.NewNpy, "keep", lambda new, keep=large.NewNpy.keep: (kept.append(new), keep(new)))
    np.save("in.npy", np.zeros((20, 20), np.uint8))
    invoke("convolve", "-k", "blur", "in.npy", "-o", "new/{stem}.npy")
    invoke("pool", "in.npy", "-o", "pooled.npy")
    assert len(kept) == 2
    assert np.load("new/in.npy").shape == (20, 20)


def test_the_input_itself_can_be_replaced(all_are_large):
    np.save("in.npy", np.arange(100, dtype=np.uint8).reshape(10, 10))
    invoke("pool", "in.npy", "-o", "in.npy", "--force")
    np.testing.assert_array_equal(np.load("in.npy"), np.arange(100).reshape(10, 10)[1::2, 1::2])
    assert os.listdir() == ["in.npy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.npy", "--max-pixels", "300"], "400 pixels; the limit is 300"),
        (["cut.npy"], "the file is cut off"),
        (["in.npy", "--padding", "20", "--max-pixels", "400"], "the limit is 400"),
        (["in.npy", "-k", "box:31", "--padding", "valid"], "does not fit"),
    ],
)
def test_what_fails_leaves_nothing(arguments, message, all_are_large):
    np.save("in.npy", np.zeros((20, 20), np.uint8))
    Path("cut.npy").write_bytes(Path("in.npy").read_bytes()[:-5])
    done = invoke("convolve", "-k", "blur", *arguments, "-o", "out.npy", code=1)
    assert message in done.stderr
    assert sorted(os.listdir()) == ["cut.npy", "in.npy"]


def test_a_run_that_fails_while_it_fills_the_file_leaves_nothing(all_are_large, monkeypatch):
    np.save("in.npy", np.zeros((20, 20), np.uint8))
    monkeypatch.setattr("cnnfilter.convolution.store_band", lambda *args: (_ for _ in ()).throw(MemoryError))
    done = invoke("convolve", "-k", "blur", "in.npy", "-o", "out.npy", code=1)
    assert "not enough memory" in done.stderr
    assert os.listdir() == ["in.npy"]


def test_a_disk_without_room_is_told_before_any_work():
    np.save("in.npy", np.zeros((3000, 8000, 3), np.uint8))
    line = [sys.executable, "-m", "cnnfilter", "convolve", "-k", "blur", "in.npy", "-o", "out.npy"]
    done = subprocess.run(["prlimit", "--fsize=100000000", *line], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "Error: out.npy: file too large\n")
    assert os.listdir() == ["in.npy"]


def test_small_files_are_not_mapped():
    np.save("in.npy", np.zeros((20, 20), np.uint8))
    assert large.map_npy("in.npy", 1000) is None


def test_a_mapped_picture_is_checked(all_are_large):
    np.save("in.npy", np.zeros((20, 20, 3), np.float32))
    image, mapping = large.map_npy("in.npy", 1000)
    with mapping:
        assert (image.pixels.shape, image.mode, image.format) == ((20, 20, 3), "RGB", "npy")
        assert not image.pixels.flags.writeable
    with pytest.raises(ImageError, match="the limit is 399"):
        large.map_npy("in.npy", 399)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize(
    "command", [["convolve", "-k", "gaussian:2"], ["pool"], ["convolve", "-k", "sobel"]], ids=" ".join
)
def test_the_memory_does_not_grow_with_the_array(command):
    """600 MB in and out, in less than 200 MB over what an idle process takes."""
    with open("in.npy", "wb") as file:
        shape = (10_000, 20_000, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 3 * 200_000_000)  # a hole, which reads as zeros
    code = """
import re
from cnnfilter.cli import main
try:
    main(prog_name="cnnfilter")
finally:
    print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) >> 10)
"""
    line = [*command, "in.npy", "-o", "out.npy", "--max-pixels", "400000000", "--signed", "clip"]
    line = line[:-2] if command[0] == "pool" else line
    done = subprocess.run([sys.executable, "-c", code, *line], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[-1]) < 250
