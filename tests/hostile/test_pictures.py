"""Damaged, cut, mislabelled and bomb-like pictures: read, or refused in one line, soon and with little memory."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from cnnfilter.errors import ImageError
from cnnfilter.images.files import encode_image, read_image
from tests.hostile import files

SMALL = files.small_files()
READING = str(Path(__file__).with_name("reading.py"))
MEMORY_BYTES = 512 << 20
SECONDS = 10


def read_or_refuse(data):
    """Read a file's bytes as a picture; whatever is wrong with it is an ImageError of one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = read_image(data)
        except ImageError as error:
            message = str(error)
            assert message, "nothing was said"
            assert len(message) < 500
        else:
            encode_image(image, "npy")  # what was read is a picture


def test_the_small_files_are_whole():
    for data in SMALL.values():
        assert read_image(data).pixels.size


@pytest.mark.parametrize("format", files.FORMATS)
@pytest.mark.parametrize("damage", [files.cut, files.flipped])
def test_a_damaged_file_is_read_or_refused(format, damage):
    for data in damage(SMALL[format]):
        read_or_refuse(data)


@pytest.mark.parametrize("format", files.FORMATS)
def test_a_head_on_another_body_is_read_or_refused(format):
    for data in files.spliced(SMALL[format], list(SMALL.values())):
        read_or_refuse(data)


@pytest.mark.parametrize("kind", list(files.impostors()))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".eps"])
def test_what_is_no_picture_is_refused_whatever_its_name(tmp_path, kind, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(files.impostors()[kind])
    with pytest.raises(ImageError):
        read_image(path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits the memory of a process")
@pytest.mark.slow
def test_bombs_take_little_time_and_memory_and_nothing_is_started(tmp_path):
    cases = files.bombs() | files.impostors()
    for index, data in enumerate(cases.values()):
        (tmp_path / f"{index}.png").write_bytes(data)
    (tmp_path / "good.tiff").write_bytes(SMALL["tiff16"])
    paths = [str(tmp_path / f"{index}.png") for index in range(len(cases))]
    expected = "ignore:damaged parts of the file are left out"  # texts and profiles that unpack to too much
    done = subprocess.run(
        [sys.executable, "-W", expected, READING, str(MEMORY_BYTES), str(tmp_path / "good.tiff")],
        input="\n".join(paths),
        capture_output=True,
        text=True,
        timeout=SECONDS * len(paths),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for name, line in zip(cases, done.stdout.splitlines(), strict=True):
        _, said, seconds, started = json.loads(line)
        assert started == [], name
        assert seconds < SECONDS, name
        assert "memory" not in said or name in files.WANTS_MEMORY, f"{name}: {said}"
        assert said.startswith(("ImageError: ", "ok ")), f"{name}: {said}"
        if name in files.impostors():
            assert said.startswith("ImageError"), name
