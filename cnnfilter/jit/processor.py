"""The processor that loops are compiled for: its name and features, as LLVM reports them.

The question takes 30 ms, because it imports llvmlite. So the answer is kept beside the loops, under a key of all that
tells one processor from another without LLVM: the text of the system, and the instructions that numpy has found by
asking the processor itself. The text alone would not do: an emulator can show that of the machine that it runs on.

With ``NUMBA_CPU_NAME``, code is compiled for that name only, whatever the processor has: ``x86-64-v3`` makes a cache
that every machine of that level can use.
"""

from __future__ import annotations

import functools
import os
import sys

from cnnfilter.jit import cache
from cnnfilter.runtime import limits

Processor = tuple[str, str, str]
"""The target of LLVM: the system and its architecture, the name of the processor, and its features."""


def chosen_name() -> str | None:
    """Return the name of the processor to compile for, if the user has chosen one."""
    return os.environ.get("NUMBA_CPU_NAME")


@functools.cache
def version_file(package: str) -> str:
    """Return the file that holds the version of a package; importlib.metadata would import the email parser."""
    for folder in sys.path:
        try:
            with open(os.path.join(folder, package, "_version.py"), encoding="utf-8") as file:
                return file.read()
        except OSError:
            continue
    return ""


@functools.cache
def processor() -> Processor:
    """Return the processor that loops are compiled for."""
    name = chosen_name()
    if name is not None:
        return cache.machine(), name, os.environ.get("NUMBA_CPU_FEATURES", "")
    signs = _signs()
    if signs is None:
        return cache.machine(), *(_ask_llvm() or ("unknown", ""))
    key = cache.cache_key(signs)
    known = cache.read_entry(key, cache.PROCESSORS)
    if known is not None:
        kept_name, _, features = known.decode().partition("\n")
        return cache.machine(), kept_name, features
    answer = _ask_llvm()
    if answer is None:
        return cache.machine(), "unknown", "\n".join(signs)
    cache.write_entry(key, "\n".join(answer).encode(), cache.PROCESSORS)
    return cache.machine(), *answer


_TOLD_BY_LINUX = ("vendor_id", "cpu family", "model", "stepping", "flags")
"""The lines of /proc/cpuinfo that name a processor of x86 and its features."""


def _signs() -> tuple[str, ...] | None:
    """Return all that tells this processor from others without LLVM; None where that is not enough.

    It is enough for x86-64 under Linux. On other systems code is linked by LLVM, which is imported there anyway.
    """
    instructions = _instructions_found_by_numpy()
    lines = [line for line in _text_of_linux().splitlines() if line.startswith(_TOLD_BY_LINUX)]
    if not instructions or not any(line.startswith("flags") for line in lines):
        return None
    return (version_file("llvmlite"), *sorted(instructions), *lines)


def _text_of_linux() -> str:
    """Return what Linux tells about the first processor; an empty text on other systems."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return file.read(16384).split("\n\n", 1)[0]
    except OSError:
        return ""


@functools.cache
def _instructions_found_by_numpy() -> frozenset[str]:
    """Return numpy's names of the sets of instructions that the processor has; empty if this numpy does not tell."""
    import numpy  # noqa: F401

    names = ("numpy._core._multiarray_umath", "numpy.core._multiarray_umath")  # since numpy 2, and before
    modules = [sys.modules[name] for name in names if name in sys.modules]
    found: dict[str, bool] = getattr(modules[0], "__cpu_features__", {}) if modules else {}
    return frozenset(name for name, is_there in found.items() if is_there)


_LLVM_BYTES = (224 << 20, 24 << 20)
"""Bytes of address space, and of data, that importing llvmlite takes (measured: 171 and 9 MB with llvmlite 0.50)."""


def _ask_llvm() -> tuple[str, str] | None:
    """Return LLVM's name of this processor, and its features; None without llvmlite, or memory for it."""
    if "llvmlite.binding" not in sys.modules and not limits.has_memory_for(*_LLVM_BYTES):
        return None
    try:
        import llvmlite.binding as llvm

        features = llvm.get_host_cpu_features()
        return llvm.get_host_cpu_name(), ",".join(sorted(name for name, is_there in features.items() if is_there))
    except Exception:  # an incomplete installation can raise anything; compiling reports it
        return None


_NAMES_WITH_AVX512 = (
    *("x86-64-v4", "skylake-avx512", "skx", "knl", "knm", "cannonlake", "cascadelake", "cooperlake", "icelake"),
    *("tigerlake", "rocketlake", "sapphirerapids", "emeraldrapids", "graniterapids", "diamondrapids"),
    *("znver4", "znver5", "znver6"),
)
"""The beginnings of LLVM's names of the processors with AVX-512."""


def has_wide_registers() -> bool:
    """Return whether the processor has AVX-512: 32 registers that hold a whole vector each."""
    name = chosen_name()
    if name is not None:
        return name.startswith(_NAMES_WITH_AVX512)
    instructions = _instructions_found_by_numpy()
    return "AVX512F" in instructions if instructions else "avx512f" in processor()[2].split(",")
