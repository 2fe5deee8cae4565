"""The picture that is begun before it is wanted: taken by whoever reads the same bytes, else as if it never was."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Pillow

from cnnfilter.cli import main
from cnnfilter.errors import ImageError
from cnnfilter.images import begun
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.formats import deflate, png_ahead, png_chunks
from cnnfilter.images.image import Image

SAMPLES = Path(__file__).parents[2] / "samples"
PNG, JPEG = SAMPLES / "coffee.png", SAMPLES / "rocket.jpg"


@pytest.fixture(autouse=True)
def nothing_begun() -> Iterator[None]:
    yield
    begun._begun = None


@pytest.mark.parametrize("path", [PNG, JPEG], ids=["png", "jpg"])
def test_what_was_begun_is_taken_once_by_who_reads_the_file(path: Path) -> None:
    assert begun.bytes_of(str(path)) is None
    begun.begin(str(path), 1 << 24)
    assert begun.bytes_of(str(SAMPLES)) is None
    data = begun.bytes_of(str(path))
    assert data == path.read_bytes()
    assert begun.take(path.read_bytes()) is None
    assert begun.take(data) is not None
    assert begun.take(data) is None
    assert begun.bytes_of(str(path)) is None


def test_another_file_of_the_same_name_is_read_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, path in (("one", PNG), ("two", JPEG)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "photo").write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path / "one")
    begun.begin("photo", 1 << 24)
    monkeypatch.chdir(tmp_path / "two")
    assert begun.bytes_of("photo") is None
    monkeypatch.chdir(tmp_path / "one")
    assert begun.bytes_of("photo") == PNG.read_bytes()
    Path("photo").unlink()
    assert begun.bytes_of("photo") is None
    begun.begin("photo", 1 << 24)
    assert begun._begun is None


def test_nothing_is_begun_of_what_is_not_there_or_has_no_beginning(tmp_path: Path) -> None:
    (tmp_path / "short.png").write_bytes(PNG.read_bytes()[:20])
    (tmp_path / "text.png").write_bytes(b"text")
    for name in ("none.png", "short.png", "text.png", "."):
        begun.begin(str(tmp_path / name), 1 << 24)
    assert begun._begun is None


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_nothing_is_begun_where_memory_is_counted(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    resource = pytest.importorskip("resource")
    limited = getattr(resource, kind)
    monkeypatch.setattr(
        resource, "getrlimit", lambda asked: (1 << 30 if asked == limited else resource.RLIM_INFINITY,) * 2
    )
    begun.begin(str(PNG), 1 << 24)
    assert begun._begun is None
    with stdin_of(PNG.read_bytes(), monkeypatch):
        begun.begin_stdin(1 << 24)
        assert begun.bytes_of_stdin() is None


@pytest.mark.parametrize("most", [1 << 26, 100_000])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_png_begun_is_read_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: int, most: int
) -> None:
    monkeypatch.setattr(png_ahead, "_MOST", most)
    monkeypatch.setattr(deflate, "_PIECE", 30_000)
    pixels = np.random.default_rng(3).integers(0, 1 << depth, (300, 200, 3)).astype(f"u{depth // 8}")
    (tmp_path / "a.png").write_bytes(encode_image(pixels, "png"))
    monkeypatch.setattr(png_chunks, "_BAND_BYTES", 10_000)
    begun.begin(str(tmp_path / "a.png"), 1 << 24)
    assert begun._begun is not None
    assert isinstance(begun._begun.made, deflate.InflaterAhead)
    assert (read_image(str(tmp_path / "a.png")).pixels == pixels).all()
    assert begun._begun is None


def errors_of(path: Path, ahead: bool) -> str:
    if ahead:
        begun.begin(str(path), 1 << 24)
    with pytest.raises(ImageError) as told:
        read_image(str(path))
    return str(told.value)


@pytest.mark.parametrize("damage", ["cut", "data", "checksum", "end"])
def test_a_damaged_png_says_the_same_whether_begun_or_not(tmp_path: Path, damage: str) -> None:
    parts = list(encode_image(np.random.default_rng(4).integers(0, 256, (400, 300, 3), np.uint8), "png"))
    at = {"cut": 0, "data": 5000, "checksum": len(parts) - 20, "end": len(parts) - 40}[damage]
    content = (
        bytes(parts[: len(parts) // 2]) if damage == "cut" else bytes([*parts[:at], parts[at] ^ 0xFF, *parts[at + 1 :]])
    )
    (tmp_path / "a.png").write_bytes(content)
    assert errors_of(tmp_path / "a.png", ahead=True) == errors_of(tmp_path / "a.png", ahead=False)


def broken_stream() -> bytes:
    """Return a PNG file whose chunks are whole, and whose compressed data end in the middle."""
    file = encode_image(Image.from_array(np.random.default_rng(5).integers(0, 256, (90, 80, 3), np.uint8)), "png")
    data = b"".join(png_chunks.split(memoryview(file), 1 << 20).data)
    return file[:33] + png_chunks.chunk(b"IDAT", data[: len(data) // 2]) + png_chunks.chunk(b"IEND")


def test_data_that_end_too_early_are_told_by_who_reads_them(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(broken_stream())
    assert "cut off" in errors_of(tmp_path / "a.png", ahead=True)
    assert errors_of(tmp_path / "a.png", ahead=True) == errors_of(tmp_path / "a.png", ahead=False)


def test_no_png_is_begun_that_is_too_large_for_its_bytes_or_not_in_rows(tmp_path: Path) -> None:
    data = PNG.read_bytes()
    assert png_ahead.begin(data, 1 << 24) is not None
    assert png_ahead.begin(data, 1 << 10) is None
    assert png_ahead.begin(data[:16] + b"\0\1\0\0" * 2 + data[24:], 1 << 40) is None
    interlaced = bytearray(data)
    interlaced[28] = 1
    assert png_ahead.begin(bytes(interlaced), 1 << 24) is None


@pytest.mark.parametrize("path", [PNG, JPEG], ids=["png", "jpg"])
@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=str)
def test_the_one_picture_of_a_command_is_begun_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path, options: list[str]
) -> None:
    taken = []

    def take(data: bytes, real: Any = begun.take) -> Any:
        taken.append(real(data))
        return taken[-1]

    monkeypatch.setattr(begun, "take", take)
    command = ["convolve", str(path), "-k", "identity", "-o", str(tmp_path / "b.png"), *options]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert [made is not None for made in taken] == ([] if options else [True])
    if not options:
        with Pillow.open(path) as before, Pillow.open(io.BytesIO((tmp_path / "b.png").read_bytes())) as after:
            assert (np.asarray(before) == np.asarray(after)).all()


# --- standard input


@contextlib.contextmanager
def stdin_of(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make a pipe the process's standard input, into which somebody writes."""
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError), open(writing, "wb") as pipe:
            pipe.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    with open(reading) as stream:
        for name in ("stdin", "__stdin__"):
            monkeypatch.setattr(sys, name, stream)
        yield
    writer.join()
    monkeypatch.undo()


@pytest.mark.parametrize("path", [PNG, JPEG], ids=["png", "jpg"])
def test_standard_input_is_read_and_begun(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stdin_of(path.read_bytes(), monkeypatch):
        begun.begin_stdin(1 << 24)
        data = begun.bytes_of_stdin()
        assert data == path.read_bytes()
        assert begun._begun is not None
        assert begun._begun.data is data
        assert (read_image(data).pixels == read_image(path).pixels).all()
        assert begun._begun is None
        assert begun.bytes_of_stdin() is None


@pytest.mark.parametrize("content", [b"", b"P", b"text"], ids=repr)
def test_what_is_no_picture_comes_as_it_is(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with stdin_of(content, monkeypatch):
        begun.begin_stdin(1 << 24)
        assert begun.bytes_of_stdin() == content
        assert begun._begun is None


def test_what_is_wrong_with_standard_input_is_told_to_who_wants_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with open(tmp_path / "only to be written", "w") as stream:
        for name in ("stdin", "__stdin__"):
            monkeypatch.setattr(sys, name, stream)
        begun.begin_stdin(1 << 24)
        with pytest.raises(OSError, match="Bad file descriptor"):
            begun.bytes_of_stdin()


def test_nobody_else_s_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"for somebody else")))
    begun.begin_stdin(1 << 24)
    assert begun.bytes_of_stdin() is None
    assert sys.stdin.read() == "for somebody else"


def test_a_picture_through_a_pipe_is_that_of_the_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cnnfilter", "convolve", "-k", "sharpen"]
    for path, format in ((PNG, "png"), (JPEG, "jpg")):
        named = subprocess.run([*command, path, "-f", format], stdout=subprocess.PIPE, check=True).stdout
        with open(path, "rb") as file:
            piped = subprocess.run([*command, "-f", format], stdin=file, stdout=subprocess.PIPE, check=True).stdout
        assert piped == named
