"""Stored code is executed only on the machine that it was made for, and where no other user can have changed it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cnnfilter.jit import cache, machine_code
from cnnfilter.jit import loop as loops
from cnnfilter.jit.loop import loop

PROGRAM = """
import sys
import numpy as np
from cnnfilter.jit import loop as loops
loops.announce = lambda name: print("compiling", name)
loops.warn_of_cache = lambda reason: print("cannot be kept:", reason)

@loops.loop("void(i4[::1])")
def double(values):
    for i in range(values.shape[0]):
        values[i] *= 2

values = np.arange(5, dtype=np.int32)
double(values)
print(*values, "numba" in sys.modules)
"""
COMPILED, LOADED = ["compiling __main__.double", "0 2 4 6 8 True"], ["0 2 4 6 8 False"]


def run(folder: Path, program: str = PROGRAM, **environment: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**clean, "CNNFILTER_CACHE_DIR": str(folder), **environment},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> Path:
    """A cache that holds the program's loop."""
    folder = tmp_path_factory.mktemp("cache")
    assert run(folder) == COMPILED
    return folder


@pytest.fixture
def kept(warm, tmp_path, monkeypatch) -> Path:
    """The file of the program's loop in a cache of its own, which this process uses too."""
    shutil.copytree(warm, tmp_path / "cache")
    monkeypatch.setenv("CNNFILTER_CACHE_DIR", str(tmp_path / "cache"))
    (path,) = (tmp_path / "cache" / "loops").iterdir()
    return path


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """The folder of the loops in an empty cache, which this process uses."""
    monkeypatch.setenv("CNNFILTER_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_cleaned", set())
    return tmp_path / "loops"


# --- entries that were changed or exchanged


def test_an_entry_says_what_it_is_for(kept):
    head = kept.read_bytes()[49:].split(b"\n")
    assert head[0].decode() == f"{kept.name} {cache.machine()}"
    assert head[1] == b"__main__.double void(i4[::1])"
    assert os.uname().machine in cache.machine()


def test_no_changed_byte_is_ever_used(kept):
    before = kept.read_bytes()
    assert cache.read_entry(kept.name) is not None
    for place in range(len(before)):
        changed = bytearray(before)
        changed[place] ^= 1 << place % 8
        kept.write_bytes(changed)
        assert cache.read_entry(kept.name) is None, place


@pytest.mark.slow
@pytest.mark.parametrize("share", [0, 0.004, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_no_changed_byte_ends_the_process(kept, share):
    data = bytearray(kept.read_bytes())
    data[int(share * len(data))] ^= 0xFF
    kept.write_bytes(data)
    assert run(kept.parents[1]) == COMPILED


def test_code_of_another_machine_is_not_used(kept, monkeypatch):
    assert cache.read_entry(kept.name) is not None
    monkeypatch.setattr(cache, "machine", lambda: "linux aarch64 64")
    assert cache.read_entry(kept.name) is None
    cache.write_entry(kept.name, b"code of that machine")
    assert cache.read_entry(kept.name) == b"code of that machine"
    monkeypatch.undo()
    monkeypatch.setenv("CNNFILTER_CACHE_DIR", str(kept.parents[1]))
    assert cache.read_entry(kept.name) is None


def test_entries_that_were_exchanged_are_not_used(empty):
    assert cache.write_entry("one", b"1")
    assert cache.write_entry("other", b"2")
    os.rename(empty / "one", empty / "third")
    os.rename(empty / "other", empty / "one")
    os.rename(empty / "third", empty / "other")
    assert cache.read_entry("one") is None
    assert cache.read_entry("other") is None


@pytest.mark.parametrize("failure", [TypeError, OSError, ValueError, AttributeError, OverflowError, MemoryError])
def test_whatever_fails_when_code_is_loaded_it_is_compiled(empty, monkeypatch, failure):
    def work(values):
        values[0] += 1

    def fail(stored):
        raise failure

    said = []
    monkeypatch.setattr(loops, "announce", said.append)
    for load in (loops._load_code, fail):
        monkeypatch.setattr(loops, "_load_code", load)
        made = loop("void(i4[::1])")(work)
        loops._loops.remove(made)
        values = np.zeros(1, np.int32)
        made(values)
        assert values[0] == 1
    assert len(said) == (0 if "NUMBA_DISABLE_JIT" in os.environ else 2)


WITHOUT_A_NAMELESS_LIBRARY = """
import ctypes
CDLL = ctypes.CDLL
def named(name, *more, **others):
    if name is None:
        raise TypeError("expected str, bytes or os.PathLike object, not NoneType")
    return CDLL(name, *more, **others)
ctypes.CDLL = named
import cnnfilter.jit.loop as loop
def refuse(obj, entry):
    raise loop.UnsupportedObjectError
loop.lay_out = refuse
"""


@pytest.mark.slow
def test_windows_has_no_library_without_a_name(tmp_path):
    program = WITHOUT_A_NAMELESS_LIBRARY + PROGRAM
    assert run(tmp_path, program) == COMPILED
    assert run(tmp_path, program) == LOADED


@pytest.mark.slow
def test_code_that_needs_such_a_library_is_compiled(warm, tmp_path):
    shutil.copytree(warm, tmp_path / "cache")
    program = WITHOUT_A_NAMELESS_LIBRARY + PROGRAM
    assert run(tmp_path / "cache", program) == COMPILED


def test_abort_is_found_where_no_library_has_it(monkeypatch):
    def refuse(name, *more, **others):
        raise TypeError

    machine_code.stop_address.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    address = machine_code.stop_address()
    machine_code.stop_address.cache_clear()
    assert address
    program = f"{WITHOUT_A_NAMELESS_LIBRARY}\nctypes.CFUNCTYPE(None)(loop.stop_address())()"
    assert subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL).returncode == -6


# --- whose cache is read


@pytest.mark.parametrize(
    ("owner", "user", "mode", "is_read"),
    [
        (1000, 1000, 0o700, True),
        (0, 1000, 0o755, True),
        (1001, 1000, 0o755, False),
        (1000, 0, 0o700, False),
        (1000, 1000, 0o770, False),
        (0, 1000, 0o757, False),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_whose_cache_is_read(empty, monkeypatch, owner, user, mode, is_read, kind):
    assert cache.write_entry("entry", b"code")
    mine = os.geteuid()

    def stat(of_kind, real):
        def answer(*given, **more):
            status = real(*given, **more)
            if (kind == "folder") == of_kind:
                return os.stat_result((status.st_mode & ~0o777 | mode, *status[1:4], owner, *status[5:]))
            return os.stat_result((*status[:4], user if status.st_uid == mine else status.st_uid, *status[5:]))

        return answer

    monkeypatch.setattr(os, "lstat", stat(True, os.lstat))
    monkeypatch.setattr(os, "fstat", stat(False, os.fstat))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert (cache.read_entry("entry") is not None) == is_read


def test_others_may_not_write_an_entry_whatever_the_umask(empty):
    before = os.umask(0)
    try:
        assert cache.write_entry("entry", b"code")
    finally:
        os.umask(before)
    assert (empty / "entry").stat().st_mode & 0o777 == 0o644
    assert cache.read_entry("entry") == b"code"


def test_why_an_entry_cannot_be_kept(empty, monkeypatch):
    assert cache.why_not_written("entry", b"code") is None
    empty.chmod(0o777)
    assert cache.why_not_written("entry", b"code") == "others may write it"
    monkeypatch.setenv("CNNFILTER_CACHE_DIR", os.devnull)
    assert cache.why_not_written("entry", b"code") in ("not a directory", "file exists")


@pytest.mark.slow
def test_a_cache_that_cannot_be_used_is_said(tmp_path):
    (tmp_path / "loops").mkdir(mode=0o777)
    (tmp_path / "loops").chmod(0o777)
    assert run(tmp_path) == [COMPILED[0], "cannot be kept: others may write it", COMPILED[1]]


# --- entries that are no longer used


def test_entries_that_no_run_has_read_are_removed(empty, monkeypatch):
    for name in ("old", "read", "new", ".half"):
        cache.write_entry(name, b"code")
    long_ago = time.time() - cache.MAX_UNUSED_SECONDS - 10
    for name in ("old", "read"):
        os.utime(empty / name, (long_ago, long_ago))
    os.utime(empty / ".half", (long_ago, time.time() - cache.MAX_UNFINISHED_SECONDS - 10))
    assert cache.read_entry("read") == b"code"
    monkeypatch.setattr(cache, "_cleaned", set())
    cache.write_entry("one more", b"code")
    assert sorted(os.listdir(empty)) == ["new", "one more", "read"]


def test_all_but_some_entries_are_removed(empty):
    for name in ("one", "two", "three"):
        cache.write_entry(name, b"code")
    assert cache.remove_entries(["two", "four"]) == 2
    assert os.listdir(empty) == ["two"]
    empty.chmod(0o777)
    assert cache.remove_entries([]) == 0


def test_a_server_may_read_the_loops_as_another_user(empty):
    cache.write_entry("one", b"code")
    assert empty.stat().st_mode & 0o777 == 0o700
    before = os.umask(0o027)
    try:
        cache.open_to_readers()
    finally:
        os.umask(before)
    assert empty.stat().st_mode & 0o777 == 0o750
