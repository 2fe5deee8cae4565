"""The key of stored machine code: everything it depends on, as the loop's code, the versions and the processor."""

from __future__ import annotations

import functools
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from cnnfilter.jit.instructions import Inline, Instruction, processor


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


@functools.cache
def environment() -> tuple[str, ...]:
    """Return the versions, the processor and the settings that the compiler's output depends on."""
    settings = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("NUMBA_"))
    return (sys.version, _version_file("numba"), _version_file("llvmlite"), processor(), *settings)


def _version_file(package: str) -> str:
    # importlib.metadata would do too, but it imports the email parser.
    for folder in sys.path:
        try:
            with open(os.path.join(folder, package, "_version.py"), encoding="utf-8") as file:
                return file.read()
        except OSError:
            continue
    return ""
