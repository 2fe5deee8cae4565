"""The processor that code is kept for: named by LLVM, asked anew where the signs of it have changed."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from cnnfilter.jit import cache, cache_key, processor

LINUX = "vendor_id\t: GenuineIntel\nmodel\t: 85\nflags\t: fpu sse4_2 avx2 avx512f"


@pytest.fixture(autouse=True)
def asked(tmp_path, monkeypatch):
    """The questions to LLVM, which says what it is told here; the cache is empty."""
    questions = []

    def answer():
        questions.append(processor._text_of_linux())
        return "skylake-avx512", "avx2,avx512f"

    monkeypatch.setenv("CNNFILTER_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("NUMBA_CPU_NAME", raising=False)
    monkeypatch.delenv("NUMBA_CPU_FEATURES", raising=False)
    monkeypatch.setattr(processor, "_ask_llvm", answer)
    monkeypatch.setattr(processor, "_text_of_linux", lambda: LINUX)
    monkeypatch.setattr(processor, "_instructions_found_by_numpy", lambda: frozenset({"AVX2", "AVX512F"}))
    yield questions
    forget()


def forget():
    processor.processor.cache_clear()
    cache_key.environment.cache_clear()


def key():
    forget()
    return cache_key.environment()


def test_llvm_is_asked_once(asked):
    before = key()
    assert "skylake-avx512" in before
    assert (key(), len(asked)) == (before, 1)


def test_a_kernel_that_shows_one_more_flag_has_the_same_key(asked, monkeypatch):
    before = key()
    monkeypatch.setattr(processor, "_text_of_linux", lambda: f"{LINUX} ibpb")
    assert (key(), len(asked)) == (before, 2)


def test_an_emulator_that_shows_the_text_of_its_machine_is_seen(asked, monkeypatch):
    before = key()
    monkeypatch.setattr(processor, "_instructions_found_by_numpy", lambda: frozenset({"SSE42"}))
    monkeypatch.setattr(processor, "_ask_llvm", lambda: ("nehalem", "sse4.2"))
    assert not processor.has_wide_registers()
    assert key() != before
    assert "nehalem" in key()


def test_another_architecture_is_another_key(monkeypatch):
    before = key()
    monkeypatch.setattr(cache, "machine", lambda: "linux aarch64 64")
    assert key() != before


def test_where_the_system_tells_nothing_llvm_names_the_processor(asked, monkeypatch):
    monkeypatch.setattr(processor, "_text_of_linux", lambda: "")
    monkeypatch.setattr(processor, "_ask_llvm", lambda: ("apple-m1", "neon,sha3"))
    assert {"apple-m1", "neon,sha3"} <= set(key())
    monkeypatch.setattr(processor, "_ask_llvm", lambda: ("apple-m4", "neon,sha3,sme"))
    assert {"apple-m4", "neon,sha3,sme"} <= set(key())


def test_an_answer_that_was_changed_is_asked_for_anew(asked, tmp_path):
    before = key()
    (path,) = (tmp_path / "processors").iterdir()
    path.write_bytes(path.read_bytes().replace(b"avx2", b"avx9"))
    assert (key(), len(asked)) == (before, 2)


def test_without_llvm_no_kept_code_is_found_but_nothing_fails(monkeypatch, tmp_path):
    before = key()
    for path in (tmp_path / "processors").iterdir():
        path.unlink()
    monkeypatch.setattr(processor, "_ask_llvm", lambda: None)
    assert key() != before
    assert not list((tmp_path / "processors").iterdir())


@pytest.mark.parametrize(("name", "is_wide"), [("x86-64-v3", False), ("x86-64-v4", True), ("znver5", True)])
def test_with_a_chosen_name_the_key_depends_on_that_name_only(asked, monkeypatch, name, is_wide):
    monkeypatch.setenv("NUMBA_CPU_NAME", name)
    before = key()
    assert name in before
    monkeypatch.setattr(processor, "_text_of_linux", lambda: "flags : none")
    monkeypatch.setattr(processor, "_instructions_found_by_numpy", lambda: frozenset({"SSE42"}))
    assert (before, asked) == (key(), [])
    assert processor.has_wide_registers() is is_wide


def test_settings_that_leave_the_code_as_it_is_do_not_matter(monkeypatch):
    before = key()
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "elsewhere")
    assert key() == before
    monkeypatch.setenv("NUMBA_OPT", "1")
    assert key() != before


def test_numpy_tells_what_it_has_found(monkeypatch):
    monkeypatch.undo()
    found = processor._instructions_found_by_numpy()
    assert found & {"SSE2", "NEON", "ASIMD", "VSX", "VX", "RVV"}, "this numpy names its instructions otherwise"


PROGRAM = """
import numpy as np
from cnnfilter.jit import loop as loops

@loops.loop("void(f4[::1])")
def double(values):
    for i in range(values.shape[0]):
        values[i] *= 2

values = np.arange(5, dtype=np.float32)
double(values)
from numba.core.registry import cpu_target
print(*values, cpu_target.target_context.codegen().magic_tuple()[1:])
"""


@pytest.mark.slow
@pytest.mark.skipif(not re.search("x86_64|AMD64", cache.machine()), reason="a name of x86")
def test_code_for_a_chosen_name_has_no_other_instructions(tmp_path):
    environment = {**os.environ, "CNNFILTER_CACHE_DIR": str(tmp_path), "NUMBA_CPU_NAME": "x86-64-v2"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "0.0 2.0 4.0 6.0 8.0 ('x86-64-v2', '')\n"
    assert len(os.listdir(tmp_path / "loops")) == 1
