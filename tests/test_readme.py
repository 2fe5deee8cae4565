"""README.md tells the truth: its commands run and print what it says, its pictures are what they make."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def console_blocks() -> list[str]:
    return re.findall(r"```console\n(.*?)```", README, re.DOTALL)


def commands(block: str) -> list[tuple[str, str]]:
    """Return each command of a block with what it should print."""
    found = []
    for part in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        found.append((command, output))
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the samples, where ``cnnfilter`` and ``python`` are this environment's."""
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    (tmp_path / "out").mkdir()
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, call in (("cnnfilter", f"{sys.executable} -m cnnfilter"), ("python", sys.executable)):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        script.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("block", console_blocks(), ids=lambda block: block[2:40].split("\n")[0])
def test_commands_print_what_the_readme_says(place, block):
    environment = {
        **os.environ,
        "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
    }
    for command, expected in commands(block):
        done = subprocess.run(
            command, shell=True, cwd=place, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr
        printed, wanted = (_comparable(text) for text in (done.stdout + done.stderr, expected))
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert doctest.OutputChecker().check_output(wanted, printed, flags), f"$ {command}\n{printed}"


def _comparable(text: str) -> str:
    """Leave out what another processor may round otherwise: the digits of a probability."""
    return re.sub(r"\d+\.\d%", "N%", text).strip() + "\n"


def test_the_picture_is_what_the_command_makes(place):
    from cnnfilter import read_image

    (command,) = [line for block in console_blocks() for line, _ in commands(block) if "-o filters.png" in line]
    environment = {**os.environ, "PATH": f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, shell=True, cwd=place, env=environment, check=True, stdin=subprocess.DEVNULL)
    made, shown = read_image(place / "filters.png").pixels, read_image(ROOT / "samples/readme/filters.png").pixels
    assert made.shape == shown.shape
    assert np.abs(made.astype(int) - shown).mean() < 1  # another Pillow may draw its letters a little differently


def test_python_examples_run(place, monkeypatch):
    monkeypatch.chdir(place)
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(code, "README.md", "exec"), {})
    assert (place / "small.png").exists()


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
