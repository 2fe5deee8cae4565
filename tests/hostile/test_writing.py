"""Full disks, closed streams, locked folders, calls that fail: the old file or the new one, and a line that says it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnnfilter.images.files import encode_image, read_image, write_image
from cnnfilter.runtime import atomic_files

CNNFILTER = [sys.executable, "-m", "cnnfilter"]
COPY = [*CNNFILTER, "convolve", "-k", "identity"]
FORMATS = ("png", "jpg", "webp", "tiff", "gif", "bmp", "ppm", "npy")


@pytest.fixture
def photo(rng):
    """A picture that no format packs into 64 KiB."""
    write_image("photo.png", rng.integers(0, 256, (400, 400, 3), np.uint8))
    return "photo.png"


def run(*line, **more):
    return subprocess.run(line, capture_output=True, text=True, timeout=60, **more)


def everything(folder="."):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def assert_refused(done, message):
    """One line that says it, exit 1, and no old file touched."""
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr.lower()


# --- disks

WRITERS = {
    **{format: [*COPY, "photo.png", "--force", "-q", "-o", f"{{disk}}/old.{format}"] for format in FORMATS},
    "features": [*CNNFILTER, "features", "photo.png", "--force", "--layer", "1", "-q", "-o", "{disk}/old.npy"],
    "kernel": [*CNNFILTER, "kernels", "show", "sobel-h", "--png", "{disk}/old.png", "--force"],
}
_CAN_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
)


def on_a_full_disk(line, target):
    """Run a command where `target`'s folder is a disk of its own that is nearly full; return its files afterwards."""
    script = (
        f"mount -t tmpfs -o size=64k none disk && printf old > disk/{target} && "
        "head -c 40000 /dev/zero > disk/ballast && "
        f'{{ "$@"; code=$?; ls -A disk >&3; cat disk/{target} >&3; exit $code; }}'
    )
    os.mkdir("disk")
    done = run("unshare", "-m", "bash", "-c", f"exec 3>seen; {script}", "bash", *line)
    return done, Path("seen").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not _CAN_MOUNT, reason="mounting is not permitted")
@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk(photo, what):
    line = [part.format(disk="disk") for part in WRITERS[what]]
    target = next(part for part in line if part.startswith("disk/")).removeprefix("disk/")
    done, seen = on_a_full_disk(line, target)
    if what == "kernel":  # small enough
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert_refused(done, "no space left on device")
        assert seen == f"ballast\n{target}\nold".encode()


@pytest.mark.parametrize("what", WRITERS)
def test_a_limit_on_the_size_of_files(photo, what):
    os.mkdir("disk")
    line = [part.format(disk="disk") for part in WRITERS[what]]
    target = next(part for part in line if part.startswith("disk/"))
    Path(target).write_bytes(b"old")
    size = 100 if what == "kernel" else 20_000
    done = run("prlimit", f"--fsize={size}", *line)
    assert_refused(done, "file too large")
    assert Path(target).read_bytes() == b"old"
    assert everything("disk") == [os.path.basename(target)]


# --- streams


@pytest.mark.parametrize("format", FORMATS)
def test_a_device_that_is_full(photo, format):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COPY, photo, "-f", format, "-q"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert_refused(done, "stdout: no space left on device")


@pytest.mark.parametrize(
    "line",
    [[*COPY, "photo.png", "-q"], [*COPY, "photo.png", "photo.png", "-o", "{index}.png"], [*CNNFILTER, "kernels"]],
    ids=["picture", "paths", "list"],
)
def test_a_stdout_that_is_closed(photo, line):
    done = run("bash", "-c", '"$@" >&-', "bash", *line)
    if "{index}.png" in line:  # nothing is said there
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert_refused(done, "stdout")


def test_streams_that_are_all_closed(photo):
    done = run("bash", "-c", '"$@" <&- >&- 2>&-', "bash", *COPY, photo, "-o", "out.png")
    assert done.returncode == 0
    assert read_image("out.png").pixels.shape == (400, 400, 3)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away(photo, format, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    line = " ".join(COPY)
    done = run("bash", "-c", f"{line} {photo} -q -f {format} | head -c 10 >/dev/null; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (141, "")


# --- folders


@pytest.mark.skipif(not shutil.which("setpriv"), reason="root may write everywhere")
@pytest.mark.parametrize("existing", [False, True])
def test_a_folder_that_may_not_be_written(photo, existing):
    os.mkdir("locked")
    if existing:
        Path("locked/out.png").write_bytes(b"old")
    os.chmod("locked", 0o555)
    free = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = run(*free, *COPY, photo, "--force", "-o", "locked/out.png")
    assert_refused(done, "locked/out.png: permission denied")
    assert everything("locked") == (["out.png"] if existing else [])
    os.chmod("locked", 0o755)


def test_a_folder_that_went_away_and_one_that_is_a_file(photo):
    Path("file").write_bytes(b"")
    done = run(*COPY, photo, "-o", "file/out.png")
    assert done.returncode == 2
    assert "there is no folder 'file'" in done.stderr


# --- the n-th call


class CallError(OSError):
    """Return the exception that such a call raises."""


class Failing:
    """Calls of the system, of which the n-th fails."""

    CALLS = ("open", "fsync", "replace", "link", "rename", "stat", "chmod", "unlink", "fdopen")

    def __init__(self, monkeypatch, number):
        self.number = number
        self.made = 0
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call):
        def counted(*args, **more):
            self.count()
            return call(*args, **more)

        return counted

    def count(self):
        self.made += 1
        if self.made == self.number:
            raise CallError(errno.EIO, "Input/output error")


class FailingFile:
    """A file whose writes and flushes are counted too."""

    def __init__(self, file, failing):
        self.file, self.failing = file, failing

    def write(self, data):
        self.failing.count()
        return self.file.write(data)


@pytest.mark.parametrize(("existing", "force"), [(False, False), (False, True), (True, True)])
def test_the_n_th_call_fails(monkeypatch, existing, force):
    number, ended_well = 0, False
    while not ended_well:
        number += 1
        assert number < 40
        folder = Path(f"{number}")
        folder.mkdir()
        if existing:
            (folder / "target").write_bytes(b"old")
        with monkeypatch.context() as patches:
            failing = Failing(patches, number)
            with contextlib.suppress(CallError):
                with atomic_files.replace_file(folder / "target", force=force) as file:
                    for part in (b"n", b"e", b"w"):
                        FailingFile(file, failing).write(part)
                ended_well = failing.made < number
        litter = [path for path in folder.iterdir() if path.name != "target"]
        assert [path for path in litter if not path.name.startswith(".")] == []
        there = (folder / "target").read_bytes() if (folder / "target").exists() else None
        assert there in ((b"old", b"new") if existing else (None, b"new"))
        if ended_well:
            assert (there, litter) == (b"new", [])
    assert number > 8, "the calls were not counted"


@pytest.mark.parametrize("format", FORMATS)
def test_an_encoder_that_fails_at_any_write_leaves_the_old_picture(monkeypatch, format):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    old = encode_image(pixels, format)
    path = Path(f"old.{format}")
    path.write_bytes(old)
    for number in range(1, 200):
        with monkeypatch.context() as patches:
            failing = Failing(patches, number)
            with contextlib.suppress(CallError):
                write_image(path, 255 - pixels)
        assert path.read_bytes() in (old, encode_image(255 - pixels, format))
        assert [name for name in os.listdir() if not name.startswith(".")] == [path.name]
        if failing.made < number:
            break
    assert path.read_bytes() == encode_image(255 - pixels, format)


# --- what the target is


def test_input_and_output_are_one(photo):
    before = read_image(photo).pixels
    done = run(*CNNFILTER, "pool", photo, "-o", photo, "--force")
    assert (done.returncode, done.stderr) == (0, "")
    assert read_image(photo).pixels.shape == (200, 200, before.shape[2])
    assert everything() == [photo]


def test_a_link_is_followed_and_stays(photo):
    os.mkdir("real")
    Path("real/out.png").write_bytes(b"old")
    os.symlink("real/out.png", "link.png")
    assert run(*COPY, photo, "-o", "link.png", "--force").returncode == 0
    assert os.readlink("link.png") == "real/out.png"
    assert read_image("real/out.png").pixels.shape == (400, 400, 3)
    assert everything() == ["link.png", photo, "real", "real/out.png"]


def test_links_in_a_circle(photo):
    os.symlink("b.png", "a.png")
    os.symlink("a.png", "b.png")
    done = run(*COPY, photo, "-o", "a.png", "--force")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("force", [True, False])
def test_runs_that_write_the_same_target(photo, force):
    write_image("other.png", np.zeros((300, 300, 3), np.uint8))
    more = ["--force"] if force else []
    runs = [
        subprocess.Popen([*COPY, name, "-o", "out.png", *more], stderr=subprocess.PIPE, text=True)
        for name in (photo, "other.png") * 3
    ]
    ended = [(process.communicate(timeout=60)[1], process.returncode) for process in runs]
    assert read_image("out.png").pixels.shape in ((400, 400, 3), (300, 300, 3))
    assert everything() == ["other.png", "out.png", photo]
    if force:
        assert {code for _, code in ended} == {0}
    else:
        assert sorted(code for _, code in ended) == [0, 1, 1, 1, 1, 1]
        assert all("exists already; --force replaces it" in said for said, code in ended if code)
