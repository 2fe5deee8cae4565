"""Commands on other systems, which are stood in for: what macOS and Windows have not is taken away."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import cnnfilter
from cnnfilter.cli import input_files, main, output_files
from cnnfilter.images import mapped_files
from cnnfilter.images.files import write_image
from cnnfilter.jobs import job, sorting
from cnnfilter.jobs.sorting import folder_name

ROOT = Path(cnnfilter.__file__).parents[1]
WITHOUT_LINUX = Path(__file__).parents[1] / "without_linux"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --- macOS


@pytest.mark.parametrize("suffix", ["png", "jpg", "npy", "tiff"])
def test_without_what_only_linux_has_the_results_are_the_same(rng, suffix):
    write_image(f"in.{suffix}", rng.integers(0, 256, (40, 50, 3), np.uint8))
    results = []
    for path in ([], [str(WITHOUT_LINUX)]):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([*path, str(ROOT)]),
            "CNNFILTER_TESTS_WITHOUT_LINUX": "1" if path else "",
        }
        line = ["convolve", f"in.{suffix}", "-k", "gaussian", "-o", f"out.{suffix}", "--force"]
        done = subprocess.run(
            [sys.executable, "-m", "cnnfilter", *line], env=environment, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        results.append(Path(f"out.{suffix}").read_bytes())
    assert results[0] == results[1]


def test_the_stand_in_takes_away_what_it_names():
    program = "import os, mmap; print(hasattr(os, 'memfd_create'), os.path.exists('x'))\nopen('/proc/cpuinfo')"
    environment = os.environ | {"PYTHONPATH": str(WITHOUT_LINUX), "CNNFILTER_TESTS_WITHOUT_LINUX": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "False False\n"
    assert "FileNotFoundError" in done.stderr


# --- Windows


@pytest.fixture
def on_windows(monkeypatch):
    """The paths of Windows, as far as the command line looks at them."""
    monkeypatch.setattr(output_files, "ON_WINDOWS", True)
    monkeypatch.setattr(input_files, "SHELL_EXPANDS_PATTERNS", False)


def invoke(*line):
    return CliRunner().invoke(main, line)


def test_click_does_not_expand_what_is_a_pattern_of_ours(monkeypatch):
    given = {}
    monkeypatch.setattr(click.Group, "main", lambda self, args, **more: given.update(more) or 0)
    for standalone in (True, False):
        with contextlib.suppress(SystemExit):
            main(["kernels"], standalone_mode=standalone)
        assert given.pop("windows_expand_args") is False


def test_patterns_among_the_inputs_are_expanded(on_windows):
    for name in ("b.npy", "a.npy", "c.png", "[x].npy"):
        write_image(name, np.zeros((3, 4), np.uint8))
    selection = input_files.Selection(input=("*.npy", "[x].npy", "c.png", "*.gif"))
    assert selection.paths == ["[x].npy", "a.npy", "b.npy", "[x].npy", "c.png", "*.gif"]


def test_no_pattern_is_expanded_where_the_shell_does_it():
    write_image("a.npy", np.zeros((3, 4), np.uint8))
    assert input_files.Selection(input=("*.npy",)).paths == ["*.npy"]


@pytest.mark.parametrize("pattern", ["photos/2024*", "photos\\2024*", "PHOTOS/2024/*"])
def test_patterns_match_paths_with_backslashes(monkeypatch, pattern):
    monkeypatch.setattr(input_files.os, "sep", "\\")
    patterns = input_files.Patterns(exclude=[pattern])
    assert not patterns.file("photos\\2024\\a.jpg")
    assert patterns.file("other\\photos\\2024\\a.jpg")
    assert not input_files.Patterns(exclude=["a.*"]).file("photos\\2024\\A.jpg")


@pytest.mark.parametrize(
    ("output", "part"),
    [
        ("CON.png", "CON.png"),
        ("out/nul.png", "nul.png"),
        ("com1/{stem}.png", "com1"),
        ("C:\\out\\aux.png", "aux.png"),
        ("a:b.png", "a:b.png"),
        ("out./a.png", "out."),
        ("out /a.png", "out "),
        ("x<y>.png", "x<y>.png"),
    ],
)
def test_names_that_windows_has_not_are_refused(on_windows, output, part):
    write_image("in.npy", np.zeros((3, 4), np.uint8))
    if output == "a:b.png":
        output = "out/a:b.png"  # else it is a drive
    done = invoke("convolve", "in.npy", "-k", "sobel-h", "-o", output)
    assert done.exit_code == 2
    assert f"{part!r} cannot be the name of a file or folder on Windows." in done.stderr.replace("\n", " ")
    assert os.listdir() == ["in.npy"]


@pytest.mark.parametrize("path", ["console.png", "C:\\a\\b.png", "..\\a.png", "./a.png", "nul", "-", "a.b c.png"])
def test_names_that_windows_has(on_windows, path):
    output_files._refuse_bad_name(path)


def test_elsewhere_such_names_are_names():
    output_files._refuse_bad_name("con.png")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("CON", "_CON"),
        ("nul.x", "_nul.x"),
        ("lpt1", "_lpt1"),
        ("a:b", "a_b"),
        ("a. ", "a"),
        ("x" * 99 + " y", "x" * 99),
    ],
)
def test_folders_of_labels_are_valid_everywhere(label, name):
    assert folder_name(label) == name


def test_a_large_result_is_not_mapped_where_mapped_files_cannot_be_renamed(monkeypatch, rng):
    monkeypatch.setattr(mapped_files, "MIN_MAPPED_BYTES", 1)
    monkeypatch.setattr(job, "MIN_MAPPED_BYTES", 1)
    write_image("in.npy", rng.integers(0, 256, (64, 80, 3), np.uint8))
    mapped_while_renamed = []

    def watched(real):
        def move(path, *more, **others):
            mapped_while_renamed.append(os.path.basename(path) in Path("/proc/self/maps").read_text())
            return real(path, *more, **others)

        return move

    for name in ("link", "replace"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    for can_move in (True, False):
        monkeypatch.setattr(mapped_files, "MAPPED_FILES_CAN_MOVE", can_move)
        assert invoke("convolve", "in.npy", "-k", "gaussian", "-o", f"{can_move}.npy").exit_code == 0
    assert Path("True.npy").read_bytes() == Path("False.npy").read_bytes()
    if os.path.exists("/proc/self/maps"):
        assert mapped_while_renamed == [True, False]


# --- folders in which A.png is a.png


@pytest.fixture
def without_case(monkeypatch):
    """A file system that ignores case."""
    real = os.lstat

    def lstat(path, **more):
        folder, name = os.path.split(os.fspath(path))
        with contextlib.suppress(OSError):
            for one in os.listdir(folder or "."):
                if one.lower() == name.lower():
                    path = os.path.join(folder, one)
        return real(path, **more)

    monkeypatch.setattr(os, "lstat", lstat)


def test_the_file_system_is_asked_whether_it_ignores_case(without_case):
    Path("A.txt").touch()
    assert sorting.ignores_case("")
    os.mkdir("empty")
    assert sorting.ignores_case("empty")
    assert sorting.ignores_case("missing/folder")


def test_this_file_system_knows_case():
    Path("A.txt").touch()
    Path("a.txt").touch()
    assert sorting.ignores_case(".") == (len(os.listdir()) == 1)


def test_results_that_would_be_one_file_are_refused(monkeypatch):
    for name in ("one/A.npy", "two/a.npy"):
        os.makedirs(os.path.dirname(name))
        write_image(name, np.zeros((3, 4), np.uint8))
    line = ["convolve", "one/A.npy", "two/a.npy", "-k", "sobel-h", "-o", "out/"]
    monkeypatch.setattr(sorting, "ignores_case", lambda folder: True)
    done = invoke(*line)
    assert done.exit_code == 2
    assert "'one/A.npy' and 'two/a.npy' would both be written to 'out/a.npy'" in done.stderr.replace("\n", " ")
    assert not os.path.exists("out")
    monkeypatch.setattr(sorting, "ignores_case", lambda folder: False)
    assert invoke(*line).exit_code == 0
    assert sorted(os.listdir("out")) == ["A.npy", "a.npy"]


def test_another_input_is_not_replaced_by_a_name_in_the_other_case(monkeypatch):
    for name in ("photo.npy", "PHOTO-SOBEL.npy"):
        write_image(name, np.zeros((3, 4), np.uint8))
    monkeypatch.setattr(sorting, "ignores_case", lambda folder: True)
    done = invoke(*["convolve", "photo.npy", "PHOTO-SOBEL.npy", "-k", "sobel", "-o", "{stem}-sobel.npy", "--force"])
    assert done.exit_code == 2
    assert "would replace 'photo-sobel.npy', another input" in done.stderr.replace("\n", " ")
