"""Homes, caches, locales, names and limits that are not what one would wish: the same pixels, and no noise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import cnnfilter
from cnnfilter.images.files import read_image, write_image
from cnnfilter.jit import cache

CNNFILTER = [sys.executable, "-m", "cnnfilter"]
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []

needs_setpriv = pytest.mark.skipif(
    bool(WITHOUT_RIGHTS) and not shutil.which("setpriv"), reason="root may write everywhere"
)


def run(*line, **more):
    return subprocess.run(line, capture_output=True, text=True, timeout=60, **more)


# --- the machine code

PROGRAM = """
import numpy as np
from cnnfilter.jit.loop import loop

@loop("void(i4[::1])")
def double(values):
    for i in range(values.shape[0]):
        values[i] *= 2

values = np.arange(5, dtype=np.int32)
double(values)
print(*values)
"""


@pytest.fixture
def program(monkeypatch):
    """A program with one loop, which is quickly compiled, and the command to run it."""
    monkeypatch.setenv("CNNFILTER_CACHE_DIR", os.path.abspath("cache"))
    Path("program.py").write_text(PROGRAM)
    return [sys.executable, "program.py"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder with the machine code of that program."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "program.py").write_text(PROGRAM)
    places = {"PYTHONPATH": str(Path(cnnfilter.__file__).parents[1]), "CNNFILTER_CACHE_DIR": str(folder / "cache")}
    assert_it_works(run(sys.executable, str(folder / "program.py"), env=os.environ | places))
    return folder / "cache"


@pytest.fixture
def entry(program, compiled):
    """The file of its machine code."""
    shutil.copytree(compiled, "cache")
    (path,) = Path("cache/loops").iterdir()
    return path


def test_machine_code_that_is_whole_is_used(program, entry):
    before = entry.stat().st_mtime_ns
    assert_it_works(run(*program))
    assert [(path, path.stat().st_mtime_ns) for path in entry.parent.iterdir()] == [(entry, before)]


def assert_it_works(done):
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 2 4 6 8\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "head", "another"])
def test_machine_code_that_was_damaged(program, entry, damage):
    before = entry.read_bytes()
    damaged = {
        "empty": b"",
        "cut": before[: len(before) // 2],
        "flipped": before[:-100] + bytes([before[-100] ^ 1]) + before[-99:],
        "head": b"x" + before[1:],
        "another": b"#!/bin/sh\ntouch started\n",
    }
    entry.write_bytes(damaged[damage])
    assert cache.read_entry(entry.name) is None
    if damage == "flipped":  # for the others it is the same from here on
        assert_it_works(run(*program))
        assert cache.read_entry(entry.name) is not None, "it was not written anew"


def test_no_byte_of_machine_code_can_change_unseen(entry):
    before = entry.read_bytes()
    for place in sorted({*range(80), *range(80, len(before), len(before) // 100)}):
        entry.write_bytes(before[:place] + bytes([before[place] ^ 0x10]) + before[place + 1 :])
        assert cache.read_entry(entry.name) is None
        entry.write_bytes(before[:place])
        assert cache.read_entry(entry.name) is None


def test_machine_code_is_trusted_only_in_a_private_place(entry):
    folder = entry.parent
    assert cache.read_entry(entry.name) is not None
    os.chmod(folder, 0o777)
    assert cache.read_entry(entry.name) is None
    assert not cache.write_entry("planted", b"code")
    os.chmod(folder, 0o700)
    if os.geteuid() == 0:
        for path in (entry, folder):  # planted by another user
            os.chown(path, 12345, 12345)
            assert cache.read_entry(entry.name) is None
            os.chown(path, 0, 0)
    os.rename(folder, "elsewhere")
    os.symlink(os.path.abspath("elsewhere"), folder)
    assert cache.read_entry(entry.name) is None


def test_machine_code_under_another_name_is_not_taken(entry):
    shutil.copy(entry, entry.with_name("0" * 40))
    assert cache.read_entry("0" * 40) is None


@pytest.mark.slow
@needs_setpriv
@pytest.mark.parametrize("place", ["read-only", "no home", "a file"])
def test_no_place_for_the_machine_code(program, monkeypatch, place):
    os.mkdir("locked")
    os.chmod("locked", 0o555)
    monkeypatch.setenv("CNNFILTER_CACHE_DIR", os.path.abspath("program.py" if place == "a file" else "locked"))
    if place == "no home":
        monkeypatch.delenv("CNNFILTER_CACHE_DIR")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", os.path.abspath("locked"))
    assert_it_works(run(*WITHOUT_RIGHTS, *program))
    assert os.listdir("locked") == []


@pytest.mark.slow
def test_no_room_for_the_machine_code(program):
    assert_it_works(run("prlimit", "--fsize=1000", *program))
    assert list(Path("cache/loops").iterdir()) == []


@pytest.mark.slow
def test_eight_processes_fill_one_cache(program):
    runs = [subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    for process in runs:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out, err) == (0, "0 2 4 6 8\n", "")
    (entry,) = Path("cache/loops").iterdir()
    assert cache.read_entry(entry.name) is not None


def test_no_environment_at_all(program, entry):
    path = os.environ["PYTHONPATH"]
    assert_it_works(run(*program, env={"PYTHONPATH": path, "CNNFILTER_CACHE_DIR": "cache"}))
    assert len(list(entry.parent.iterdir())) == 1


@needs_setpriv
def test_a_package_that_may_not_be_written(program, entry, monkeypatch):
    package = Path(cnnfilter.__file__).parent
    shutil.copytree(package, "site/cnnfilter", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    folders = [folder for folder, _, _ in os.walk("site")]
    for folder in folders:
        os.chmod(folder, 0o555)
    monkeypatch.setenv("PYTHONPATH", os.path.abspath("site"))
    done = run(*WITHOUT_RIGHTS, *program)
    for folder in folders:
        os.chmod(folder, 0o755)
    assert_it_works(done)


# --- letters

NAMES = [
    "-leading-dash.npy",
    "--output",
    "a space.npy",
    "new\nline.npy",
    "esc\x1b[31mape.npy",
    "tab\t.npy",
    "ümläut.npy",
    "日本.npy",
    "x" * 251 + ".npy",
    "{stem}.npy",
    "%s.npy",
    os.fsdecode(b"no \xff\xfe UTF-8.npy"),
]


@pytest.mark.parametrize(
    "locale", [{}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}]
)
def test_names_of_every_kind(locale):
    os.mkdir("in")
    for name in NAMES:
        write_image(os.path.join("in", name), np.zeros((4, 4), np.uint8), format="npy")
    Path("in/bad\x1b[2J.npy").write_bytes(b"bad")
    line = [*CNNFILTER, "convolve", "-k", "blur", "-r", "in", "-o", "out/{name}", "-f", "npy"]
    done = subprocess.run(line, capture_output=True, env=os.environ | locale, timeout=60)
    assert done.returncode == 1
    first, *rest = done.stderr.decode("ascii").splitlines()
    assert first.startswith("Error: in/bad\\x1b[2J.npy: ")
    assert len(rest) == 1
    assert rest[0].startswith(f"{len(NAMES)} done, 1 failed")
    assert sorted(os.listdir("out")) == sorted(NAMES)


def test_a_name_that_begins_with_a_dash_is_given_after_two():
    write_image("-x.npy", np.zeros((4, 4), np.uint8))
    assert run(*CNNFILTER, "convolve", "-k", "blur", "-o", "-y.npy", "--", "-x.npy").returncode == 0
    assert read_image("-y.npy").pixels.shape == (4, 4, 1)


def test_a_name_that_is_too_long():
    write_image("a.npy", np.zeros((4, 4), np.uint8))
    done = run(*CNNFILTER, "convolve", "-k", "blur", "a.npy", "-o", "x" * 300 + ".npy")
    assert done.returncode == 1
    assert "file name too long" in done.stderr
    assert done.stderr.count("\n") == 1


# --- resources


@pytest.fixture
def photos(rng):
    os.mkdir("in")
    for index in range(12):
        write_image(f"in/{index}.png", rng.integers(0, 256, (600, 800, 3), np.uint8))
    return "in"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited by Linux's ways")
@pytest.mark.parametrize("kind", ["as", "data"])
def test_little_memory(photos, kind):
    """Each picture is filtered or has one line, and no thread that had no memory to start is waited for."""
    work = [*CNNFILTER, "convolve", "-k", "unsharp:2,0.8", "-q"]
    run(*work, f"{photos}/0.png", "-o", "warm.png")  # Numba wants more than that, and is not what is tested here
    for megabytes in (*range(45, 305, 9), 400, 600):
        done = run("prlimit", f"--{kind}={megabytes << 20}", *work, "-r", photos, "-o", "out/", "-j", "4")
        assert all(line.startswith("Error: ") for line in done.stderr.splitlines()), (megabytes, done.stderr)
        assert done.returncode == (1 if done.stderr else 0)
        names = os.listdir("out") if os.path.isdir("out") else []
        told = done.stderr.count("Error: in/")
        # Each picture is there or told of; or one line says that there is too little for any.
        assert len(names) + told == 12 or (len(names), told, done.stderr.count("\n")) == (0, 0, 1), (megabytes, done)
        for name in names:
            assert not name.startswith(".")
            assert read_image(f"out/{name}").pixels.shape == (600, 800, 3)
        if megabytes >= 200:
            assert (done.returncode, done.stderr) == (0, ""), megabytes
        shutil.rmtree("out", ignore_errors=True)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited by Linux's ways")
@pytest.mark.parametrize("kind", ["as", "data"])
def test_little_memory_to_classify(photos, kind):
    """OpenBLAS would end the process when it gets none."""
    work = [*CNNFILTER, "classify", "-q"]
    run(*work, f"{photos}/0.png")
    for megabytes in (*range(100, 260, 15), 400, 600):
        done = run("prlimit", f"--{kind}={megabytes << 20}", *work, "-r", photos, "-j", "4")
        assert all(line.startswith("Error: ") for line in done.stderr.splitlines()), (megabytes, done.stderr)
        assert done.returncode == (1 if done.stderr else 0)
        if megabytes >= 400:
            assert (done.returncode, done.stderr) == (0, ""), megabytes


@pytest.mark.parametrize("jobs", [2, 40])
def test_few_file_descriptors(photos, jobs):
    line = [*CNNFILTER, "convolve", "-r", photos, "-k", "blur", "-o", "out/", "-j", str(jobs)]
    done = run("prlimit", "--nofile=24", *line)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(os.listdir("out")) == 12


def test_few_file_descriptors_on_a_slow_disk(photos):
    """Files that wait for the disk are open."""
    slow = """
import os, time
real = os.fsync
def slow(descriptor):
    time.sleep(0.05)
    real(descriptor)
os.fsync = slow
from cnnfilter.__main__ import run
run()
"""
    for index in range(12, 30):
        os.link("in/0.png", f"in/{index}.png")
    line = [sys.executable, "-c", slow, "pool", "-r", photos, "-o", "out/", "-j", "4"]
    done = run("prlimit", "--nofile=18", *line)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(os.listdir("out")) == 30


@needs_setpriv
def test_few_threads(photos):
    """If the system gives no more threads, those that run do the work."""
    code = """
import _thread
start, given = _thread.start_new_thread, []
def limited(*arguments):
    if len(given) >= 2:
        raise RuntimeError("can't start new thread")
    given.append(arguments)
    return start(*arguments)
_thread.start_new_thread = limited
from cnnfilter.cli import main
main(prog_name="cnnfilter")
"""
    done = run(sys.executable, "-c", code, "convolve", "-r", photos, "-k", "blur", "-o", "out/", "-j", "8")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(os.listdir("out")) == 12
    os.remove("in/0.png")
    done = run(sys.executable, "-c", code, "convolve", "in/1.png", "-k", "blur", "-o", "x.png", "--threads", "8")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("x.png").read_bytes() == Path("out/1.png").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited by Linux's ways")
@pytest.mark.parametrize("limit", ["as", "data"])
def test_too_little_memory_to_compile(photos, monkeypatch, limit):
    """LLVM would end the process, or never end; and what is compiled already needs none of it."""
    monkeypatch.setenv("CNNFILTER_CACHE_DIR", os.path.abspath("cache"))
    megabytes = {"as": (300, 450), "data": (140, 220)}[limit]
    line = [*CNNFILTER, "convolve", "-k", "blur", f"{photos}/0.png", "-f", "npy", "-q", "-o"]
    for size in megabytes:
        done = run("prlimit", f"--{limit}={size << 20}", *line, "out.npy")
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert "compiling a loop takes up to" in done.stderr
        assert "'cnnfilter warmup' without that limit" in done.stderr
    assert run(*line, "warm.npy").returncode == 0
    assert run("prlimit", f"--{limit}={megabytes[0] << 20}", *line, "out.npy").stderr == ""
    assert read_image("out.npy").pixels.tobytes() == read_image("warm.npy").pixels.tobytes()


def test_a_compiler_that_cannot_be_imported(program, monkeypatch):
    """Not there, or there by half."""
    for text in ("raise ImportError('no llvmlite')", "raise AttributeError('half a module')", "raise SystemError"):
        os.makedirs("broken/numba", exist_ok=True)
        Path("broken/numba/__init__.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", os.path.abspath("broken") + os.pathsep + os.environ["PYTHONPATH"])
        write_image("in.npy", np.zeros((4, 4), np.uint8))
        done = run(*CNNFILTER, "convolve", "-k", "blur", "in.npy", "-o", "out.npy")
        assert done.returncode == 1
        assert done.stderr.startswith("Error: in.npy: Numba, which compiles the loops, cannot be imported")
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited by Linux's ways")
@pytest.mark.parametrize("kind", ["canvas", "animation", "float64"])
def test_pictures_just_below_the_limit_of_pixels(kind):
    """A few kilobytes that come to a lot: with a limit of memory they are refused, in one line."""
    if kind == "float64":
        import tifffile

        tiles = (np.zeros((160, 7008, 3)) for _ in range(38))
        options = {"tile": (160, 7008), "compression": "zlib", "compressionargs": {"level": 1}, "photometric": "rgb"}
        tifffile.imwrite("in.pic", tiles, shape=(6000, 7000, 3), dtype=np.float64, **options)
    else:
        size, count = ((9400, 9400), 1) if kind == "canvas" else ((3000, 2900), 10)
        frames = [Pillow.new("P", size, index % 2) for index in range(count)]
        more = {"save_all": True, "append_images": frames[1:]} if count > 1 else {}
        frames[0].save("in.pic", "gif", **more)
    assert os.path.getsize("in.pic") < 5_000_000
    line = [*CNNFILTER, "convolve", "-k", "identity", "in.pic", "-o", "out.png"]
    done = run(*line, "--max-memory", "400M")
    said = "Error: in.pic: there is not enough memory for it; 400 MB are allowed (--max-memory)\n"
    assert (done.returncode, done.stderr) == (1, said)
    assert os.listdir() == ["in.pic"]
