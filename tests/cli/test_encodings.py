"""Every command under every encoding of stdout and stderr."""

from __future__ import annotations

import csv
import io
import json
import os

import numpy as np
import pytest
from click.testing import CliRunner

from cnnfilter.cli import COMMANDS, main
from cnnfilter.images.files import write_image

NAME = "日é…😀.png"
"""A name of which every encoding below but UTF-8 lacks characters."""

CLASSES = ["größe", "日本😀"]

ENCODINGS = ["ascii", "latin-1", "cp1252", "cp437", "shift_jis", "utf-8", "utf-16"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a picture, pictures of two classes, and a model that knows the classes."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(3)
    write_image(folder / NAME, rng.integers(0, 256, (12, 13, 3), np.uint8))
    write_image(folder / "blurred.png", np.full((12, 13, 3), 9, np.uint8))
    for number, name in enumerate(CLASSES):
        (folder / "data" / name).mkdir(parents=True)
        for index in range(10):
            pixels = rng.integers(0, 100, (8, 8, 3), np.uint8) + np.uint8(100 * number)
            write_image(folder / "data" / name / f"{index}é日.png", pixels)
    (folder / "data" / CLASSES[0] / "page日.png").write_text("no picture")
    done = run(folder, "utf-8", *TRAIN, "m.safetensors")
    assert done.exit_code == 0, done.output
    return folder


TRAIN = ["train", "data", "--layers", "flatten | dense 2", "--epochs", "1", "--force", "-o"]

COMMAND_LINES = [
    ["convolve", NAME, "-k", "sharpen", "--bias", "99", "-v", "-o", "{stem}-日.png", "--force"],
    ["convolve", NAME, "-k", "no-such-日", "-o", "a.png"],
    ["convolve", "gone日.png", "-k", "blur", "-o", "a.png"],
    ["convolve", NAME, "-k", "blur", "--json", "--force", "-o", "b.png"],
    ["convolve", NAME, "-k", "blur", "--dry-run"],
    ["pool", NAME, "-o", "c.png", "--force", "-v"],
    ["apply", "conv sobel-h | relu", NAME, "-o", "d.png", "--force", "-v"],
    ["apply", "conv 日", NAME, "-o", "d.png"],
    ["kernels"],
    ["kernels", "list", "--json"],
    ["kernels", "show", "log:1.4"],
    ["kernels", "show", "sobel-h", "--json"],
    ["kernels", "fit", NAME, NAME],
    ["describe", "conv 8x3x3 | relu", "--input", "9x9x3"],
    ["describe", "m.safetensors"],
    ["describe", "m.safetensors", "--json"],
    ["classify", "-m", "m.safetensors", NAME],
    ["classify", "-m", "m.safetensors", NAME, NAME],
    ["classify", "-m", "m.safetensors", NAME, "--format", "csv"],
    ["classify", "-m", "m.safetensors", NAME, "--only", "größe", "--only", "日本😀"],
    ["classify", "-m", "m.safetensors", NAME, "--is", "no-such-日"],
    ["features", "-m", "m.safetensors", NAME, "-o", "-", "--format", "csv"],
    ["features", "-m", "m.safetensors", NAME, "-o", "f日.npy", "--force"],
    [*TRAIN, "n.safetensors"],
    ["evaluate", "m.safetensors", "data", "--split", "all"],
    ["export", "m.safetensors", "-o", "no/日.onnx"],
    *([name, "--help"] for name in COMMANDS),
]


def run(folder, encoding, *arguments):
    before = os.getcwd()
    os.chdir(folder)
    try:
        return CliRunner(charset=encoding, env={"PYTHONIOENCODING": encoding}).invoke(main, arguments)
    finally:
        os.chdir(before)


@pytest.mark.parametrize("arguments", COMMAND_LINES, ids=lambda arguments: " ".join(arguments[:4]))
def test_every_command_prints_in_every_encoding(place, arguments):
    codes = set()
    for encoding in ENCODINGS:
        done = run(place, encoding, *arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit), (encoding, done.exception)
        assert "Traceback" not in done.output
        codes.add(done.exit_code)
        done.stderr_bytes.decode("utf-8" if encoding == "ascii" else encoding)  # click takes ASCII for a mistake
    assert len(codes) == 1


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_machines_read_the_same_names_in_every_encoding(place, encoding):
    done = run(place, encoding, "classify", "-m", "m.safetensors", NAME, "--json")
    found = json.loads(done.stdout_bytes.decode(encoding))
    assert found["path"] == NAME
    assert {label["label"] for label in found["top"]} == set(CLASSES)
    done = run(place, encoding, "evaluate", "m.safetensors", "data", "--split", "all", "--json", "-q")
    found = json.loads(done.stdout_bytes.decode(encoding))
    assert [os.path.basename(one["path"]) for one in found["skipped"]] == ["page日.png"]
    done = run(place, encoding, "convolve", NAME, "-k", "blur", "--json", "--force", "-o", "e日.png")
    assert json.loads(done.stdout_bytes.decode(encoding).splitlines()[0])["input"] == NAME


@pytest.mark.parametrize("encoding", ENCODINGS[:-1])  # UTF-16 begins with a mark, which is no byte of a path
def test_paths_and_labels_in_tables_are_the_bytes_of_the_disk(place, encoding):
    done = run(place, encoding, "classify", "-m", "m.safetensors", NAME, "--format", "csv")
    rows = list(csv.reader(io.StringIO(done.stdout_bytes.decode())))
    assert rows[1][0] == NAME
    assert {row[2] for row in rows[1:]} == set(CLASSES)
