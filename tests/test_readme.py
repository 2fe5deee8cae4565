"""README.md tells the truth: its commands run and print what it says, its pictures are what they make."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


LEFT_OUT = {
    r"pip install": "it installs the package, which is done before its tests",
    r"pytest": "this test is one of those that it runs",
    r"ruff (check|format)|mypy": "the extra lint is not needed for the tests",
    r"python -m tests\.benchmarks": "it takes minutes, and needs other programs",
}
"""Commands that are not run here, and why."""


class Step(NamedTuple):
    """A command or a piece of Python of README, in the order of the file, and what is printed after it there."""

    language: str
    text: str
    printed: str | None


def blocks() -> Iterator[tuple[str, str]]:
    """Yield the language and the text of each block of code; that of an indented one is ``indented``."""
    language, lines = "", []
    for line in [*README.splitlines(), ""]:
        is_fence = line.startswith("```")
        if is_fence and not language:
            language = line[3:]
        elif is_fence or (language == "indented" and not line.startswith("    ")):
            yield language, "\n".join(lines)
            language, lines = "", []
        elif language:
            lines.append(line.removeprefix("    ") if language == "indented" else line)
        elif line.startswith("    "):
            language, lines = "indented", [line[4:]]


def steps() -> list[Step]:
    """Return the commands and Python blocks of README, in the order in which they stand."""
    found = []
    for language, block in blocks():
        text = block.replace("\\\n", " ")
        if language == "python":
            found.append(Step("python", block, None))
        elif language == "console":
            pairs = (part.partition("\n") for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:])
            found += [Step("console", command, output) for command, _, output in pairs]
        elif language == "indented":
            found += [Step("console", line, None) for line in text.splitlines()]
    return found


def left_out(command: str) -> str | None:
    """Return the pattern of `LEFT_OUT` that a command begins with; None if it is run."""
    return next((pattern for pattern in LEFT_OUT if re.match(rf"({pattern})\b", command)), None)


def kept(command: str) -> str:
    """Return a line of commands without those that are left out."""
    return " && ".join(part for part in command.split(" && ") if left_out(part.strip()) is None)


def crops(folder: Path, name: str, count: int, start: int = 0) -> None:
    """Write pieces of a sample as photos of a class."""
    folder.mkdir(parents=True)
    with PIL.Image.open(ROOT / f"samples/{name}.png") as sample:
        for number in range(start, start + count):
            left, top = number * 13 % 150, number * 29 % 150
            sample.convert("RGB").crop((left, top, left + 150, top + 150)).save(folder / f"{number:02}.jpg")


def digits(folder: Path) -> None:
    """Write a few pictures of noise and bars in the format of MNIST."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for split, count in (("train", 60), ("t10k", 20)):
        labels = np.arange(count, dtype=np.uint8) % 10
        pictures = rng.integers(0, 60, (count, 28, 28), np.uint8)
        for picture, label in zip(pictures, labels, strict=True):
            picture[2 * label : 2 * label + 4] = 255
        (folder / f"{split}-images-idx3-ubyte").write_bytes(
            struct.pack(">4I", 2051, count, 28, 28) + pictures.tobytes()
        )
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, count) + labels.tobytes())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's samples, and what README takes for granted: photos and digits of the reader.

    ``cnnfilter`` and ``python`` are this environment's there.
    """
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "samples", folder / "samples")
    crops(folder / "photos/cat", "chelsea", 6)
    crops(folder / "photos/coffee", "coffee", 6)
    crops(folder / "new-photos/cat", "chelsea", 3, 20)
    crops(folder / "new-photos/coffee", "coffee", 3, 20)
    crops(folder / "inbox", "coffee", 2, 40)
    digits(folder / "mnist")
    with PIL.Image.open(ROOT / "samples/chelsea.png") as sample:
        sample.save(folder / "photo.jpg")
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for name, call in (("cnnfilter", f"{sys.executable} -m cnnfilter"), ("python", sys.executable)):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        script.chmod(0o755)
    return folder


def environment(place: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
    }


def run_command(step: Step, place: Path) -> None:
    """Run a line of commands; compare what it prints, if README shows that."""
    command = kept(step.text)
    done = subprocess.run(
        command,
        shell=True,
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    if step.printed is not None:
        printed, wanted = (_comparable(text) for text in (done.stdout + done.stderr, step.printed))
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.OutputChecker().check_output(wanted, printed, flags), f"$ {command}\n{printed}"


@pytest.mark.parametrize("step", steps(), ids=lambda step: step.text[:40].split("\n")[0])
def test_readme_can_be_followed_from_its_beginning_to_its_end(step, place):
    """All steps run in one folder, in their order: none takes a name that an earlier one has taken.

    A step may need what those before it have written, so that they run as a whole.
    """
    if step.language == "python":
        done = subprocess.run(
            [sys.executable, "-c", step.text], cwd=place, env=environment(place), stderr=subprocess.PIPE
        )
        assert done.returncode == 0, done.stderr.decode()
    elif not kept(step.text):
        pytest.skip(LEFT_OUT[left_out(step.text) or ""])
    else:
        run_command(step, place)


def test_only_what_readme_says_is_left_out():
    said = [part.strip() for step in steps() if step.language == "console" for part in step.text.split(" && ")]
    assert {left_out(part) for part in said} - {None} == set(LEFT_OUT)
    assert sum(left_out(part) is None for part in said) > 30


def _comparable(text: str) -> str:
    """Leave out what another processor may round otherwise: the digits of a probability."""
    return re.sub(r"\d+\.\d%", "N%", text).strip() + "\n"


@pytest.mark.parametrize("name", [path.name for path in sorted((ROOT / "samples/readme").glob("*.png"))])
def test_the_pictures_that_are_shown_are_what_the_commands_made(name, place):
    from cnnfilter import read_image

    made, shown = read_image(place / name).pixels, read_image(ROOT / "samples/readme" / name).pixels
    assert made.shape == shown.shape
    assert np.abs(made.astype(int) - shown).mean() < 1  # another Pillow may draw its letters a little differently


def test_pictures_that_are_shown_exist():
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path


def additions() -> list[str]:
    """Return the worked examples of "Change it", in their order."""
    return re.findall(r"```py\n(.*?)```", README, re.DOTALL)


def add_row(file: Path, table: str, row: str) -> None:
    """Put a row behind the line that begins a table."""
    text = file.read_text(encoding="utf-8")
    found = re.search(rf"^{table}\b.*[\[({{]\n", text, re.MULTILINE)
    assert found is not None, f"{file.name} has no table {table}"
    file.write_text(text[: found.end()] + row.strip() + ",\n" + text[found.end() :], encoding="utf-8")


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A copy of the package with all additions that README shows."""
    kernel, layer_row, layer, format, command = additions()
    package = tmp_path / "cnnfilter"
    shutil.copytree(ROOT / "cnnfilter", package, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    add_row(package / "kernels/catalogue.py", "_ENTRY_LIST", kernel)
    add_row(package / "layers/names.py", "LAYER_NAMES", layer_row)
    with (package / "layers/fixed.py").open("a", encoding="utf-8") as file:
        file.write("\n\n" + layer)
    (package / "images/formats/farbfeld.py").write_text(format, encoding="utf-8")
    add_row(package / "images/formats/detect.py", "SUFFIXES", '".ff": "farbfeld"')
    add_row(package / "images/formats/detect.py", "_SIGNATURES", '(b"farbfeld", "farbfeld")')
    add_row(package / "images/files.py", "_MODES_OF_FORMAT", '"farbfeld": ("RGBA",)')
    add_row(package / "images/files.py", "_FORMAT_MODULES", '"farbfeld": "cnnfilter.images.formats.farbfeld"')
    (package / "cli/commands/size.py").write_text(command, encoding="utf-8")
    add_row(package / "cli/__init__.py", "COMMANDS", '"size": "cnnfilter.cli.commands.size"')
    shutil.copy(ROOT / "samples/chelsea-alpha.png", tmp_path / "chelsea-alpha.png")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["convolve", "chelsea-alpha.png", "-k", "cross", "-o", "a.png"], ""),
        (["apply", "negate | relu", "chelsea-alpha.png", "-o", "a.png"], ""),
        (["convolve", "chelsea-alpha.png", "-k", "identity", "-o", "a.ff"], ""),
        (["size", "chelsea-alpha.png"], "chelsea-alpha.png: 240x240\n"),
    ],
    ids=["kernel", "layer", "format", "command"],
)
def test_the_worked_examples_of_changes_work(changed, arguments, printed):
    environment = {**os.environ, "PYTHONPATH": str(changed), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "cnnfilter", *arguments], cwd=changed, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
    if arguments[-1] == "a.ff":
        assert (changed / "a.ff").read_bytes()[:8] == b"farbfeld"
        again = [sys.executable, "-m", "cnnfilter", "convolve", "a.ff", "-k", "identity", "-o", "b.png"]
        subprocess.run(again, cwd=changed, env=environment, check=True, capture_output=True)
        before, after = (np.asarray(PIL.Image.open(changed / name)) for name in ("chelsea-alpha.png", "b.png"))
        np.testing.assert_array_equal(after[:, :, 3], before[:, :, 3])
