"""Loops compiled once and run without Numba; whatever fails, the results are the same."""

from __future__ import annotations

import math
import os
import stat
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from cnnfilter.jit import cache, cache_key
from cnnfilter.jit import loop as loops
from cnnfilter.jit.instructions import instruction
from cnnfilter.jit.loop import inline, loop
from cnnfilter.jit.machine_code import CodeImage, UnsupportedObjectError, lay_out
from cnnfilter.jit.signatures import parse_signature

PROGRAM = """
import math, sys
import numpy as np
from cnnfilter.jit import loop as loops
loops.announce = lambda name: print("compiling", name)

@loops.inline
def halved(value):
    return value / 2

def make(size):
    @loops.loop("f8(u1[:, ::1], f4[::1], i8)", "f8(f4[:, ::1], f4[::1], i8)", constants=(size,))
    def work(values, out, first):
        total = 0.0
        for y in range(first, values.shape[0]):
            for x in range(values.shape[1]):
                for k in range(size):
                    out[y] += halved(float(values[y, x])) + math.exp(-float(k))
                    total += 1
        return total
    return work

values = np.arange(12, dtype=np.uint8).reshape(3, 4)
out = np.zeros(3, np.float32)
total = make(3)(values, out, 1)
print(total, *(f"{v:.4f}" for v in out), "numba" in sys.modules)
"""
RESULT = "24.0 0.0000 39.0129 63.0129"


def run(folder: Path | str, **environment: str) -> list[str]:
    """Run PROGRAM in a new process with its cache in `folder`; return the lines that it prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**clean, "CNNFILTER_CACHE_DIR": str(folder), **environment},
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> Path:
    """A cache that holds the program's loop."""
    folder = tmp_path_factory.mktemp("cache")
    assert run(folder) == ["compiling __main__.work(3)", f"{RESULT} True"]
    return folder


def entry(folder: Path) -> Path:
    (path,) = (folder / "loops").iterdir()
    return path


def copied(warm: Path, tmp_path: Path) -> Path:
    (tmp_path / "loops").mkdir(mode=0o700)
    path = entry(warm)
    (tmp_path / "loops" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "loops" / path.name


def test_a_warm_cache_runs_without_numba(warm):
    assert run(warm) == [f"{RESULT} False"]
    assert stat.S_IMODE((warm / "loops").stat().st_mode) == 0o700


@pytest.mark.parametrize("setting", ["NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"])
def test_numbas_own_ways_give_the_same(warm, setting):
    imported = setting == "NUMBA_BOUNDSCHECK"
    assert run(warm, **{setting: "1"}) == [f"{RESULT} {imported}"]


@pytest.mark.slow
def test_an_object_that_is_no_image_is_linked_by_llvm(tmp_path):
    refusing = "import cnnfilter.jit.loop as n; n.lay_out = refuse\n\n@loops.inline"
    without = PROGRAM.replace("@loops.inline", refusing)
    refuse = "def refuse(obj, entry):\n    raise __import__('cnnfilter').jit.machine_code.UnsupportedObjectError\n"
    environment = {**os.environ, "CNNFILTER_CACHE_DIR": str(tmp_path)}
    root = Path(__file__).parents[2]
    for imported in (True, False):
        done = subprocess.run(
            [sys.executable, "-c", refuse + without], env=environment, capture_output=True, text=True, cwd=root
        )
        assert done.stderr == ""
        assert done.stdout.splitlines()[-1] == f"{RESULT} {imported}"


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_entry_is_compiled_anew(warm, tmp_path, damage):
    path = copied(warm, tmp_path)
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[-100] ^= 1
    path.write_bytes({"cut": data[:-1], "flipped": data, "empty": b"", "foreign": b"\x7fELF" * 100}[damage])
    assert run(tmp_path) == ["compiling __main__.work(3)", f"{RESULT} True"]
    assert run(tmp_path) == [f"{RESULT} False"]


@pytest.mark.slow
def test_a_folder_that_others_may_write_is_not_trusted(warm, tmp_path):
    copied(warm, tmp_path).parent.chmod(0o777)
    before = entry(tmp_path).stat().st_mtime_ns
    assert run(tmp_path) == ["compiling __main__.work(3)", f"{RESULT} True"]
    assert entry(tmp_path).stat().st_mtime_ns == before


@pytest.mark.slow
def test_without_a_place_for_the_cache_it_compiles_in_memory():
    assert run("/dev/null/nowhere") == ["compiling __main__.work(3)", f"{RESULT} True"]


@pytest.mark.slow
def test_several_processes_at_once(tmp_path):
    environment = {**os.environ, "CNNFILTER_CACHE_DIR": str(tmp_path)}
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True, cwd=root)
        for _ in range(3)
    ]
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert RESULT in output
    assert run(tmp_path) == [f"{RESULT} False"]
    assert not [name for name in os.listdir(tmp_path / "loops") if name.startswith(".")]


def test_another_processor_version_or_constant_is_another_key(monkeypatch):
    def work(values):
        values[0] = 1

    keys = set()

    def add(function=work, constants=()):
        made = loop("void(f4[::1])", constants=constants)(function)
        loops._loops.remove(made)
        (signature,) = made.signatures.values()
        cache_key.environment.cache_clear()
        keys.add(cache.cache_key(loops._key_parts(made, signature)))

    add()
    add()
    assert len(keys) == 1
    add(constants=(3,))
    monkeypatch.setattr(cache_key, "processor", lambda: "another")
    add()
    monkeypatch.setattr(cache_key, "_version_file", lambda package: "another")
    add()
    monkeypatch.setenv("NUMBA_OPT", "1")
    add()

    def work(values):
        values[0] = 2

    add(work)
    assert len(keys) == 6
    cache_key.environment.cache_clear()


def test_every_loop_has_the_same_key_in_another_process():
    program = """
from cnnfilter.jit import cache
from cnnfilter.jit import loop as loops
loops.import_loops()
for made, dtypes in loops.every_loop():
    print(made.name, dtypes, cache.cache_key(loops._key_parts(made, made.signatures[dtypes])))
"""
    one, other = (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert one == other
    assert len(set(one.splitlines())) == len(one.splitlines()) > 50


def test_what_emits_an_instruction_belongs_to_the_key():
    def parts(helper, number):
        made = instruction("vector", "vector")(lambda values: values)
        text = "def emit(builder, values):\n    return helper(builder, values, NUMBER)\n"
        known = {"helper": helper, "NUMBER": number}
        exec(text, known)
        made.as_llvm(known["emit"])
        program = types.FunctionType(compile("made(1)", "", "eval"), {"made": made})
        return tuple(cache_key.fingerprint(program))

    one = types.FunctionType((lambda builder, values, number: builder.neg(values)).__code__, {})
    other = types.FunctionType((lambda builder, values, number: builder.not_(values)).__code__, {})
    assert parts(one, 1) == parts(one, 1)
    assert len({parts(one, 1), parts(one, 2), parts(other, 1)}) == 3


def test_an_inline_function_belongs_to_the_key():
    def loop_over(step):
        small = inline(lambda value: value + step)

        def work(values):
            values[0] = small(values[0])

        return list(cache_key.fingerprint(work))

    assert loop_over(1) == loop_over(1) != loop_over(2)


def test_a_name_says_the_wing_the_module_and_the_function():
    from cnnfilter.filters.convolution.direct_loops import taps
    from cnnfilter.networks.layer_loops import depthwise, shift

    assert taps(True).name.startswith("filters.convolution.direct.taps(1, ")
    assert depthwise(3, 3, 1).name == "networks.layer.depthwise(3, 3, 1)"
    assert shift.name == "networks.layer.shift"


def test_only_what_a_signature_says_is_taken():
    @loop("void(f4[:, ::1])")
    def work(values):
        values[0, 0] = 1

    loops._loops.remove(work)
    with pytest.raises(TypeError, match=r"takes void\(f4\[:, ::1\]\), not arrays of u1"):
        work(np.zeros((2, 2), np.uint8))
    if "NUMBA_DISABLE_JIT" not in os.environ and "NUMBA_BOUNDSCHECK" not in os.environ:
        with pytest.raises(TypeError, match="contiguous"):
            work(np.zeros((2, 4), np.float32)[:, ::2])
        with pytest.raises(TypeError, match="contiguous"):
            work(np.zeros(4, np.float32))
    for text in ("void(f2[::1])", "f4(f4[::1])x", "void(f4[:])", "u9(f4[::1])"):
        with pytest.raises(TypeError, match="not a"):
            parse_signature(text)


def test_an_image_survives_its_bytes():
    image = CodeImage(b"\x90" * 40, 8, (0, 16), ((24, "exp"), (32, "memset")))
    assert CodeImage.from_bytes(image.to_bytes()) == image
    with pytest.raises(ValueError, match="cut"):
        CodeImage.from_bytes(image.to_bytes()[:-1])


@pytest.mark.parametrize("data", [b"", b"MZ" * 50, b"\x7fELF\x01\x01" + bytes(60), b"\x7fELF\x02\x01" + bytes(60)])
def test_other_objects_are_refused(data):
    with pytest.raises(UnsupportedObjectError):
        lay_out(data, "work")


def test_mathematics_comes_from_the_system():
    @loop("f8(f8[::1])")
    def work(values):
        return math.exp(values[0]) + math.tanh(values[1]) + math.log(values[2]) + math.pow(values[3], 0.3)

    loops._loops.remove(work)
    values = np.array([0.5, 0.25, 3.0, 2.0])
    expected = math.exp(0.5) + math.tanh(0.25) + math.log(3) + 2**0.3
    assert work(values) == pytest.approx(expected, rel=1e-15)
