"""Many inputs on one command line: which are read, which are skipped, and the reports."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cnnfilter
from cnnfilter.cli import main
from cnnfilter.errors import ImageError
from cnnfilter.images.files import read_image, write_image

COPY = ["convolve", "-k", "identity"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(cnnfilter.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)


def picture(*paths):
    for path in paths:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        write_image(path, np.full((3, 4), 7, np.uint8), format="png")


def invoke(*args, input=None, code=0):
    done = CliRunner().invoke(main, args, input=input)
    assert done.exit_code == code, done.output
    return done


def files(folder="."):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


# --- which files


@pytest.mark.parametrize(("arguments", "end"), [([], "\n"), (["-0"], "\0")])
def test_a_list_of_files(arguments, end):
    picture("a.png", "b c.png", "d.png")
    Path("list").write_text(end.join(["b c.png", "", "d.png"]) + end)
    invoke(*COPY, "a.png", "--files-from", "list", *arguments, "-o", "out/")
    assert files("out") == ["a.png", "b c.png", "d.png"]


def test_a_list_through_a_pipe():
    picture("a.png", "line\nend.png", "-")
    invoke(*COPY, "--files-from", "-", "-0", "-o", "out/", input="a.png\0line\nend.png\0-\0")
    assert files("out") == ["-.png", "a.png", "line\nend.png"]


def test_an_empty_list_is_no_error():
    done = invoke(*COPY, "--files-from", "-", "-o", "out/", input="")
    assert (done.stdout, done.stderr, os.listdir()) == ("", "", [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--files-from", "nothere"], "'--files-from': 'nothere': No such file"),
        (["--files-from", "nuls"], "say -0 too"),
        (["--files-from", "-", "-"], "only once"),
        (["a.png", "--include", "*.jpg"], "leave none of the inputs"),
        (["-r", "d", "--include", "*.jpg"], "no picture in the folder 'd' that --include and --exclude leave"),
        (["a.png", "--force", "--skip-existing"], "--force and --skip-existing say different things"),
        (["a.png", "--skip-existing"], "the result goes to stdout"),
        (["a.png", "--max-memory", "1M"], "less than the program itself needs"),
        (["a.png", "--max-memory", "much"], "'much' is not a size"),
    ],
)
def test_options_that_are_refused(arguments, message):
    picture("a.png", "d/a.png")
    Path("nuls").write_bytes(b"a.png\0a.png\0")
    assert message in invoke(*COPY, *arguments, code=2).stderr
    assert files() == ["a.png", "d/a.png", "nuls"]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], ["a.JPG", "a.png", "raw/a.png", "raw/deep/b.png"]),
        (["--include", "*.jpg"], ["a.JPG"]),
        (["--include", "*.jpg", "--include", "b.*"], ["a.JPG", "raw/deep/b.png"]),
        (["--exclude", "*.png"], ["a.JPG"]),
        (["--exclude", "raw"], ["a.JPG", "a.png"]),
        (["--exclude", "p/raw/deep"], ["a.JPG", "a.png", "raw/a.png"]),
        (["--include", "p/raw/*", "--exclude", "b.png"], ["raw/a.png"]),
    ],
)
def test_patterns(patterns, expected):
    picture("p/a.JPG", "p/a.png", "p/raw/a.png", "p/raw/deep/b.png")
    invoke(*COPY, "-r", "p", *patterns, "-o", "out/{dir}/{name}", "-f", "png")
    assert files("out/p") == expected


def test_patterns_hold_for_named_and_listed_files_too():
    picture("a.png", "b.png", "c.png")
    Path("list").write_text("b.png\nc.png\n")
    invoke(*COPY, "a.png", "--files-from", "list", "--exclude", "[ab].png", "-o", "out/")
    assert files("out") == ["c.png"]


def test_a_list_or_folder_of_one_does_not_turn_the_output_into_a_stream():
    picture("d/a.png")
    assert invoke(*COPY, "-r", "d").stdout == "a-identity.png\n"
    assert invoke(*COPY, "--files-from", "-", "--force", input="d/a.png\n").stdout == "a-identity.png\n"


@pytest.mark.parametrize("start", ["d", "../w/d", "{cwd}/d"])
def test_the_folders_of_the_inputs_are_kept_below_the_output(start):
    os.makedirs("w")
    os.chdir("w")
    picture("d/a.png", "d/e/a.png")
    start = start.format(cwd=os.getcwd())
    invoke(*COPY, "-r", start, "-o", "out/{dir}/{name}")
    assert [path.removesuffix("d/a.png") + "d/e/a.png" for path in files("out")[:1]] == files("out")[1:]
    assert files("d") == ["a.png", "e/a.png"]


def test_a_template_that_begins_with_the_folder_writes_beside_the_input():
    os.makedirs("w")
    picture("d/a.png")
    os.chdir("w")
    invoke(*COPY, "../d/a.png", "-o", "{dir}/{stem}-x.png")
    assert files("../d") == ["a-x.png", "a.png"]


# --- what exists


def test_skip_existing_does_only_what_is_missing():
    picture("a.png", "b.png", "out/a.png")
    Path("out/a.png").write_bytes(b"kept")
    invoke(*COPY, "a.png", "b.png", "-o", "out/", "--skip-existing")
    assert Path("out/a.png").read_bytes() == b"kept"
    assert read_image("out/b.png").pixels.shape == (3, 4, 1)


def test_if_newer_replaces_what_is_older_than_its_input():
    picture("old.png", "new.png", "missing.png")
    os.mkdir("out")
    for name, seconds in (("old.png", 100), ("new.png", 300)):
        Path("out", name).write_bytes(b"before")
        os.utime(name, (seconds, seconds))
        os.utime(f"out/{name}", (200, 200))
    invoke(*COPY, "old.png", "new.png", "missing.png", "-o", "out/", "--if-newer")
    assert Path("out/old.png").read_bytes() == b"before"
    assert read_image("out/new.png").pixels.shape == (3, 4, 1)
    assert os.path.exists("out/missing.png")
    done = invoke(*COPY, "old.png", "new.png", "missing.png", "-o", "out/", "--if-newer", "-v")
    assert done.stderr.count("left out") == 3


def test_skipped_inputs_are_not_even_read():
    Path("a.png").write_bytes(b"no picture")
    picture("out/a.png")
    assert invoke(*COPY, "a.png", "-o", "out/", "--skip-existing").stderr == ""


# --- what is told


def test_a_dry_run_writes_nothing_and_says_what_would_be():
    picture("a.png", "b.png", "out/a.png")
    before = files()
    done = invoke(*COPY, "a.png", "b.png", "-o", "out/", "--dry-run", "--skip-existing")
    assert (done.stdout, done.stderr) == ("b.png -> out/b.png\n", "")
    assert files() == before
    done = invoke(*COPY, "a.png", "b.png", "-o", "new/", "--dry-run", "-0")
    assert done.stdout == "a.png -> new/a.png\0b.png -> new/b.png\0"
    assert files() == before


def test_fail_fast_stops_at_the_first_failure():
    picture(*(f"{index:02}.png" for index in range(1, 12)))
    Path("00.png").write_bytes(b"bad")
    done = invoke(*COPY, "-r", ".", "-o", "out/", "--fail-fast", "-j", "1", code=1)
    first, last = done.stderr.splitlines()
    assert first.startswith("Error: 00.png: ")
    assert last.startswith("0 done, 1 failed, 11 left in ")
    assert not os.path.exists("out")


def test_some_of_many_that_were_not_done_are_counted():
    picture(*(f"{index:02}.png" for index in range(1, 12)), "out/01.png")
    Path("00.png").write_bytes(b"bad")
    done = invoke(*COPY, *(f"{index:02}.png" for index in range(12)), "-o", "out/", "--skip-existing", code=1)
    assert done.stderr.splitlines()[-1].startswith("10 done, 1 skipped, 1 failed in ")
    names = [f"{index:02}.png" for index in range(1, 12)]
    assert invoke(*COPY, *names, "-o", "new/").stderr == ""  # nothing to tell
    assert "skipped" not in invoke(*COPY, *names, "-o", "new/", "--skip-existing", "-q").stderr


def test_a_warning_that_many_inputs_share_is_one_line_at_the_end(rng):
    for index in range(8):
        write_image(f"p{index}.png", rng.integers(0, 256, (30, 40), np.uint8))
    Path("bad.png").write_text("no picture")
    Path("p8.gif").write_bytes(Path("p0.png").read_bytes())
    done = invoke("convolve", "-r", ".", "-k", "sharpen", "-o", "out/", code=1)
    error, warning, summary = done.stderr.splitlines()
    assert error.startswith("Error: bad.png: ")
    assert re.match(r"Warning: 9 inputs \(p0\.png, p1\.png, p2\.png, …\): \d\d% to \d\d% of the samples", warning)
    assert summary.startswith("9 done, 1 failed in ")
    assert "arning" not in invoke("convolve", "-r", ".", "-k", "sharpen", "-o", "out/", "--force", "-q", code=1).stderr


def test_pictures_in_folders_that_cannot_be_read_are_counted_by_their_formats():
    picture("in/a.png")
    for name in ("b.HEIC", "sub/c.heic", "d.jxl", ".e.heic", "notes.txt", "f.cr3"):
        Path("in", name).parent.mkdir(exist_ok=True)
        Path("in", name).write_bytes(b"\0\0\0\x18ftypheic")
    shutil.copy("in/a.png", "in/a-renamed.heic")
    said = "4 files are left out, because their formats cannot be read: HEIC (2), JPEG XL (1), camera raw (1)"
    done = invoke(*COPY, "-r", "in", "-o", "out/")
    assert sorted(os.listdir("out")) == ["a-renamed.png", "a.png"]
    assert done.stderr == f"Warning: {said}\n"
    assert invoke("classify", "-r", "in", "--dry-run").stderr == f"Warning: {said}\n"
    assert json.loads(invoke(*COPY, "-r", "in", "-o", "b/", "--json").stdout.splitlines()[-1])["left_out"] == 4
    assert invoke(*COPY, "-r", "in", "-o", "c/", "-q").stderr == ""
    assert invoke(*COPY, "-r", "in", "-o", "d/", "--exclude", "*.heic", "--exclude", "*.jxl").stderr == (
        "Warning: 1 file is left out, because its format cannot be read: camera raw\n"
    )
    assert "(2 files are left out" not in invoke(*COPY, "in/b.HEIC", "-o", "e/", code=1).stderr


def test_a_folder_of_formats_that_cannot_be_read_says_so():
    for name in ("a.heic", "b.heic"):
        Path("in").mkdir(exist_ok=True)
        Path("in", name).write_bytes(b"\0\0\0\x18ftypheic")
    said = invoke(*COPY, "-r", "in", "-o", "out/", code=2).stderr
    assert "there is no picture in the folder 'in' (2 files are left out, because their formats cannot be" in said
    assert "read: HEIC (2))." in said


def test_a_warning_of_one_among_many_inputs_names_it():
    picture("a.png", "b.png")
    write_image("c.png", np.full((3, 4), 250, np.uint8))
    done = invoke(*COPY, "a.png", "b.png", "c.png", "-o", "out/", "--bias", "100")
    assert re.fullmatch(r"Warning: c\.png: 100% of the samples .*\n", done.stderr)


@pytest.mark.filterwarnings("always")
def test_warnings_before_an_error_are_not_printed(monkeypatch):
    def read(*args, **more):
        warnings.warn("Truncated File Read", UserWarning, stacklevel=1)
        warnings.warn("invalid value encountered", RuntimeWarning, stacklevel=1)
        raise ImageError("cannot be decoded")

    picture("a.png")
    monkeypatch.setattr("cnnfilter.images.files.read_image", read)
    assert invoke(*COPY, "a.png", code=1).stderr == "Error: a.png: cannot be decoded\n"
    for args in (["kernels", "fit", "a.png", "a.png"], ["classify", "a.png"]):
        said = invoke(*args, code=1).stderr
        assert said.startswith("Error: a.png: ")
        assert said.count("\n") == 1


@pytest.mark.filterwarnings("always")
def test_a_warning_that_belongs_to_no_input_is_a_line_too(monkeypatch):
    from cnnfilter.networks import network

    load = network.load_model

    def load_with_a_warning(name):
        warnings.warn("the disk is slow", UserWarning, stacklevel=1)
        return load(name)

    monkeypatch.setattr("cnnfilter.networks.network.load_model", load_with_a_warning)
    assert invoke("describe", "digits").stderr == "Warning: the disk is slow\n"
    picture("a.png")
    assert invoke("classify", "a.png", "--dry-run", "-q").stderr == ""
    assert "Warning: the disk is slow\n" in invoke("classify", "a.png").stderr
    assert invoke("classify", "a.png", "-q").stderr == ""


@pytest.mark.filterwarnings("always")
def test_warnings_of_pillow_name_their_picture_or_are_left_out(rng):
    import PIL.Image

    for index in range(20):
        Path("data", "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        write_image(f"data/{'ab'[index % 2]}/{index}.png", rng.integers(0, 256, (8, 8, 3), np.uint8))
    cut = b"Exif\0\0II*\0\x08\0\0\0\xff\x00garbage"
    PIL.Image.new("RGB", (8, 8)).save("data/a/exif.jpg", exif=cut)
    done = invoke("convolve", "data/a/exif.jpg", "-k", "blur", "-o", "b.png")
    assert re.fullmatch(r"Warning: data/a/exif\.jpg: Corrupt EXIF data\. .*\S\n", done.stderr)
    done = invoke("train", "data", "-o", "m.safetensors", "--layers", "flatten | dense 2", "--epochs", "1")
    assert "Warning" not in done.stderr


def test_json_has_an_object_for_each_input_and_one_for_the_run():
    picture("a.png", "c.png", "out/c.png")
    Path("b.png").write_bytes(b"bad")
    done = invoke(*COPY, "a.png", "b.png", "c.png", "-o", "out/", "--bias", "250", "--json", "--skip-existing", code=1)
    first, second, third, run = map(json.loads, done.stdout.splitlines())
    assert first.pop("seconds") > 0
    assert first.pop("warnings")[0].startswith("100% of the samples are clipped")
    assert first == {"input": "a.png", "status": "done", "output": "out/a.png", "format": "png"}
    assert second["status"] == "failed"
    assert second["error"].startswith("not a picture")
    assert third == {
        "input": "c.png",
        "status": "skipped",
        "output": "out/c.png",
        "format": "png",
        "reason": "exists already",
    }
    assert run.pop("seconds") > 0
    assert run == {"done": 1, "skipped": 1, "failed": 1, "left": 0}
    assert "Error: b.png" in done.stderr


def test_json_goes_to_stderr_where_the_picture_goes_to_stdout():
    picture("a.png")
    done = subprocess.run(
        [sys.executable, "-m", "cnnfilter", *COPY, "a.png", "--bias", "250", "--json"], capture_output=True
    )
    assert read_image(done.stdout).pixels.shape == (3, 4, 1)
    picture_of, run = map(json.loads, done.stderr.splitlines())
    assert (picture_of["output"], run["done"]) == ("-", 1)


def test_paths_can_end_with_nul():
    picture("a.png", "b.png")
    assert invoke(*COPY, "a.png", "b.png", "-0").stdout == "a-identity.png\0b-identity.png\0"


@pytest.mark.parametrize(
    "data",
    [
        b"a.png\r\nb \xc3\xa9.png\r\n",
        b"a.png\r\n\r\nb \xc3\xa9.png",
        b"\xef\xbb\xbfa.png\r\nb \xc3\xa9.png\r\n",
        "\ufeffa.png\r\nb \u00e9.png\r\n".encode("utf-16-le"),
        "\ufeffa.png\r\nb \u00e9.png\r\n".encode("utf-16-be"),
    ],
)
def test_a_list_from_windows_names_the_same_files(data):
    picture("a.png", "b \u00e9.png")
    Path("list").write_bytes(data)
    invoke(*COPY, "--files-from", "list", "-o", "out/")
    assert files("out") == ["a.png", "b \u00e9.png"]


def test_a_file_whose_name_ends_in_a_carriage_return_can_be_listed():
    picture("a.png\r", "a.png")
    Path("list").write_bytes(b"a.png\r\n")
    invoke(*COPY, "--files-from", "list", "-o", "out/{index}.png", "-f", "png")
    assert invoke(*COPY, "--files-from", "list", "--dry-run", "-o", "-").stdout == "a.png\r -> stdout\n"


@pytest.mark.parametrize("command", [["pool"], ["apply", "relu"]])
def test_the_other_commands_take_the_same(command):
    picture("a.png", "b.png", "out/a.png")
    Path("list").write_text("a.png\nb.png\n")
    done = invoke(*command, "--files-from", "list", "-o", "out/", "--skip-existing", "--json")
    assert [json.loads(line).get("status") for line in done.stdout.splitlines()] == ["skipped", "done", None]


@pytest.mark.parametrize("command", [["classify"], ["features", "-o", "x.npy"]])
def test_commands_that_only_read_take_lists_and_patterns_too(command):
    picture("a.png", "b.png", "c.jpg")
    Path("list").write_text("b.png\nc.jpg\n")
    done = invoke(*command, "a.png", "--files-from", "list", "--exclude", "*.jpg", "--dry-run")
    assert done.stdout == "a.png\nb.png\n"
    assert not os.path.exists("x.npy")


# --- limits


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo.png", "-k", "blur", "--max-pixels", "11"], "12 pixels; the limit is 11 (--max-pixels 12 allows it)"),
        (["moving.gif", "-k", "blur", "--max-frames", "2"], "3 frames; the limit is 2 (--max-frames 3 allows them)"),
        (["moving.png", "-k", "blur", "--max-frames", "2"], "3 frames; the limit is 2"),
        (["pages.tiff", "-k", "blur", "--max-frames", "2"], "3 frames; the limit is 2"),
        (["more.tiff", "-k", "blur", "--max-frames", "2"], "5 frames; the limit is 2 (--max-frames 5 allows them)"),
        (["photo.png", "-k", "1 2 3 4 5", "--max-kernel", "4"], "a kernel of 1x5 is too large: 4 a side is the most"),
        (["photo.png", "-k", "box:9", "--max-kernel", "8"], "from 1 to 8 (--max-kernel 9 allows it)"),
        (["photo.png", "-k", "gaussian:2", "--max-kernel", "8"], "take a sigma up to 0.875, or --max-kernel 17"),
        (["photo.png", "-k", "gabor:4", "--max-kernel", "8"], "or --max-kernel 1"),
    ],
)
def test_a_limit_is_enforced_and_can_be_raised(arguments, message):
    from cnnfilter.images.image import Image

    picture("photo.png")
    frames = tuple(np.full((3, 4, 3), value, np.uint8) for value in (0, 100, 200))
    moving = Image(frames[0], "RGB", "gif", frames=frames, durations=(50, 50, 50), loop=0)
    write_image("moving.gif", moving)
    write_image("moving.png", moving)
    write_image("pages.tiff", moving.replace(durations=()))
    write_image("more.tiff", moving.replace(durations=(), frames=(frames[0], *frames, frames[0])))
    name, raised = arguments[-2], str(int(arguments[-1]) * 5)
    out = "out.tiff" if arguments[0].endswith(".tiff") else "out.png"  # of pages, png would take the first only
    done = invoke("convolve", *arguments, "-o", out, code=2 if name == "--max-kernel" else 1)
    assert message in done.stderr
    assert not os.path.exists(out)
    invoke("convolve", *arguments[:-1], raised, "-o", out, "-q")


def test_the_limit_of_models_is_enforced():
    picture("photo.png")
    done = invoke("classify", "photo.png", "--max-model", "1M", code=2)
    assert "the limit is 1,048,576 (--max-model" in done.stderr


def test_the_side_of_a_kernel_can_be_raised_above_the_default():
    picture("photo.png")
    invoke("convolve", "photo.png", "-k", "box:1025,1", "--max-kernel", "2000", "-o", "out.png")
    invoke("convolve", "photo.png", "-k", "box:1025,1", "-o", "again.png", code=2)


def test_the_limit_of_memory_is_enforced():
    """In a process of its own: what this one already has does not count for less."""
    large = np.zeros((6000, 6000, 3), np.float32)
    write_image("large.npy", large)
    line = [sys.executable, "-m", "cnnfilter", "pool", "large.npy", "--op", "avg", "-o", "x.png"]
    done = subprocess.run([*line, "--max-memory", "300M"], capture_output=True, text=True)
    said = "Error: large.npy: there is not enough memory for it; 300 MB are allowed (--max-memory)\n"
    assert (done.returncode, done.stderr) == (1, said)
    assert files() == ["large.npy"]


def test_pictures_that_fit_into_memory_one_at_a_time_are_done_one_at_a_time():
    for index in range(6):
        write_image(f"{index}.npy", np.zeros((3000, 4000, 3), np.uint8))
    convolve = [sys.executable, "-m", "cnnfilter", "convolve", "-k", "blur"]
    subprocess.run([*convolve, "0.npy", "-o", "warm/"], check=True)  # so much is not enough to compile a loop too
    shutil.rmtree("warm")
    line = [*convolve, "-r", ".", "-j", "6", "-o", "out/"]
    done = subprocess.run([*line, "--max-memory", "350M"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(files("out")) == 6


def test_every_limit_is_in_the_table_with_its_default():
    from cnnfilter.cli.commands.convolve import command
    from cnnfilter.runtime import limits

    defaults = {
        "--max-pixels": f"{limits.PIXELS:,}",
        "--max-frames": f"{limits.frames:,}",
        "--max-kernel": f"{limits.kernel_side:,}",
        "--max-model": f"{limits.model_bytes >> 30}G",
        "--max-memory": "none",
    }
    rows = {line.split("``")[1].split()[0]: line for line in limits.__doc__.splitlines() if "``--" in line}
    options = {name for option in command.params for name in option.opts if name.startswith("--max-")}
    assert set(rows) == set(defaults) == options
    for name, default in defaults.items():
        assert f" {default} " in rows[name], name
        assert re.search(rf"  {default} +{name} ", main.epilog), name
