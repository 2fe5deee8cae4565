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
