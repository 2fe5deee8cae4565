"""The key of stored machine code: the loop's code, the versions, the processor and the settings it depends on."""

from __future__ import annotations

import functools
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from cnnfilter.jit.instructions import Inline, Instruction
from cnnfilter.jit.processor import processor
from cnnfilter.jit.processor import version_file as _version_file


def fingerprint(function: Callable[..., Any]) -> Iterator[str]:
    """Yield the code and constants of a function, and of the inline functions and instructions that it names."""
    code = function.__code__
    yield from _code_parts(code)
    known = [(name, function.__globals__.get(name)) for name in code.co_names]
    closed = zip(code.co_freevars, (cell.cell_contents for cell in function.__closure__ or ()), strict=True)
    for name, value in (*known, *closed):
        if isinstance(value, Inline):
            yield from fingerprint(value.function)
        elif isinstance(value, Instruction):
            yield from _emitted_by(value.emit, set())
        elif isinstance(value, (int, float, str, tuple)):  # a constant
            yield f"{name}={value!r}"


def _emitted_by(emit: Callable[..., Any], seen: set[str]) -> Iterator[str]:
    """Yield the code and the constants of a function that emits instructions, and of the functions that it calls."""
    code = emit.__code__
    yield from _code_parts(code)
    yield from (repr(cell.cell_contents) for cell in emit.__closure__ or ())
    for name in code.co_names:
        value = emit.__globals__.get(name)
        if isinstance(value, types.FunctionType) and name not in seen:
            seen.add(name)
            yield from _emitted_by(value, seen)
        elif isinstance(value, (int, float, str, tuple)):
            yield f"{name}={value!r}"


def _code_parts(code: types.CodeType) -> Iterator[str]:
    yield from (code.co_code.hex(), repr(code.co_names), repr(code.co_varnames), repr(code.co_freevars))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code_parts(constant)
        else:
            yield repr(constant)


_IGNORED_SETTINGS = ("CACHE_DIR", "DEBUG_CACHE", "NUM_THREADS", "THREADING_LAYER", "CPU_NAME", "CPU_FEATURES")
"""Settings of Numba, without ``NUMBA_``, that leave the code of a loop as it is, or that `processor` holds."""


@functools.cache
def environment() -> tuple[str, ...]:
    """Return the versions, the processor and the settings that the compiler's output depends on."""
    names = sorted(name for name in os.environ if name.startswith("NUMBA_"))
    settings = [f"{name}={os.environ[name]}" for name in names if name.removeprefix("NUMBA_") not in _IGNORED_SETTINGS]
    return (sys.version, _version_file("numba"), _version_file("llvmlite"), *processor(), *settings)
