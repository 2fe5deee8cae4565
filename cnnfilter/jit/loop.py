"""Loops: functions that Numba compiles once, and that later runs call without importing Numba.

A loop is a Python function of arrays and numbers that Numba can compile. On its first call, its machine code is loaded
from the user's cache, or compiled and stored there; then it is called through `ctypes`, which releases the GIL. Where
code cannot be stored or loaded, the code in the compiler's memory is called; with an unknown version of Numba, its
ordinary dispatch calls the function. The results are the same.

Stored code has no Python runtime, so a loop must not allocate, raise, or hold a reference.

``NUMBA_DISABLE_JIT=1`` calls the Python function; ``NUMBA_BOUNDSCHECK=1`` uses Numba's dispatch, so that an index out
of bounds is an exception.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, TypeVar

from cnnfilter.errors import CnnfilterError, CompileMemoryError
from cnnfilter.jit import cache
from cnnfilter.jit.cache import cache_folder as cache_folder
from cnnfilter.jit.cache import has_entry as has_entry
from cnnfilter.jit.cache import open_to_readers as open_to_readers
from cnnfilter.jit.cache import remove_entries as remove_entries
from cnnfilter.jit.cache_key import environment, fingerprint
from cnnfilter.jit.instructions import Inline, Instruction
from cnnfilter.jit.machine_code import (
    FOREIGN_NAMES,
    CodeImage,
    ForeignSymbols,
    MappedCode,
    UnsupportedObjectError,
    foreign_names,
    lay_out,
    stop_address,
)
from cnnfilter.jit.native_call import call_through_ctypes, with_single_numbers
from cnnfilter.jit.processor import chosen_name, processor
from cnnfilter.jit.signatures import NUMBA_TYPES, Signature, parse_signature
from cnnfilter.runtime import limits
from cnnfilter.runtime.parallel import off_the_main_thread

announce: Callable[[str], None] = lambda name: None  # noqa: E731 - replaced by the command line
"""Called with the name of a loop before it is compiled."""

warn_of_cache: Callable[[str], None] = lambda reason: None  # noqa: E731 - replaced by the command line
"""Called with the reason when a compiled loop cannot be stored, so that the next run compiles it again."""

_COMPILER_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",  # a division by zero gives infinity instead of an exception
    "fastmath": {"contract"},  # a product and its sum may be one instruction; nothing else may change
}
_CODE_VERSION = "3"
"""Part of each key of the cache; raised when this package makes different code from the same loop."""
_loops: list[Loop] = []
_families: list[Callable[[], Any]] = []
Made = TypeVar("Made")


class Loop:
    """A function of contiguous arrays and numbers, with one compiled form for each signature."""

    def __init__(self, function: Callable[..., Any], signatures: tuple[str, ...], constants: tuple[int, ...]):
        self.function = function
        self.constants = constants
        self.signatures = {signature.dtypes: signature for signature in map(parse_signature, signatures)}
        first, *others = self.signatures.values()
        self._array_indexes = first.array_indexes
        if any(signature.array_indexes != self._array_indexes for signature in others):
            raise TypeError(f"the forms of {function.__name__} take arrays in different positions")
        self._ready: dict[tuple[str, ...], Callable[..., Any]] = {}
        self._by_dtype: dict[tuple[Any, ...], Callable[..., Any]] = {}  # the same; a lookup by dtype objects is faster
        self._lock = Lock()
        functools.update_wrapper(self, function)
        _loops.append(self)

    @property
    def name(self) -> str:
        """The module below ``cnnfilter``, the function and the constants: ``networks.layer.depthwise(3, 3, 1)``."""
        module = self.function.__module__.removeprefix("cnnfilter.").removesuffix("_loops")
        constants = f"({', '.join(map(str, self.constants))})" if self.constants else ""
        return f"{module}.{self.function.__name__}{constants}"

    @property
    def generated_source(self) -> str | None:
        """The Python source that a template made, if one did."""
        return getattr(self.function, "generated_source", None)

    def __call__(self, *arguments: Any) -> Any:
        try:
            dtypes = tuple([arguments[index].dtype for index in self._array_indexes])
        except (AttributeError, IndexError):
            raise TypeError(f"{self.name} takes arrays as arguments {self._array_indexes}, counted from 0") from None
        call = self._by_dtype.get(dtypes)
        if call is None:
            call = self._by_dtype[dtypes] = self.prepare(tuple([dtype.str[1:] for dtype in dtypes]))
        return call(*arguments)

    def prepare(self, dtypes: tuple[str, ...]) -> Callable[..., Any]:
        """Return the function to call for arrays of `dtypes`; load or compile it at the first time."""
        with self._lock:
            if dtypes not in self._ready:
                if dtypes not in self.signatures:
                    known = ", ".join(signature.text for signature in self.signatures.values())
                    raise TypeError(f"{self.name} takes {known}, not arrays of {', '.join(dtypes)}")
                self._ready[dtypes] = _make_callable(self, self.signatures[dtypes])
            return self._ready[dtypes]


def inline(function: Callable[..., Any]) -> Inline:
    """Mark a small function that loops may call."""
    return Inline(function)


def loop(*signatures: str, constants: tuple[int, ...] = ()) -> Callable[[Callable[..., Any]], Loop]:
    """Make a loop of a function.

    Parameters
    ----------
    signatures
        One or more in Numba's notation: u1 u2 i4 i8 f4 f8, C-contiguous arrays as ``f4[:, ::1]``; the result is void,
        i8 or f8. A call chooses the signature by the dtypes of its arrays.
    constants
        The integers that the function closes over. They are constants to the compiler, which unrolls loops over them.
    """
    return lambda function: Loop(function, signatures, constants)


def family(*usual: tuple[Any, ...]) -> Callable[[Callable[..., Made]], Callable[..., Made]]:
    """Mark a function that returns a loop for some constants; for the same constants it returns the same loop.

    `usual` are the constants of the loops that `every_loop` yields, so that they can be compiled in advance.
    """

    def mark(make: Callable[..., Made]) -> Callable[..., Made]:
        cached = functools.cache(make)
        _families.extend(functools.partial(cached, *constants) for constants in usual)
        return cached

    return mark


def import_loops() -> None:
    """Import every module of compiled loops; their names end in ``_loops``."""
    import importlib
    import pkgutil

    import cnnfilter

    for module in pkgutil.walk_packages(cnnfilter.__path__, "cnnfilter."):
        if module.name.endswith("_loops"):
            importlib.import_module(module.name)


def every_loop() -> Iterator[tuple[Loop, tuple[str, ...]]]:
    """Yield each loop of the modules imported so far, and the usual loops of families, with the dtypes of each form."""
    for make in _families:
        make()
    for known in list(_loops):
        for dtypes in known.signatures:
            yield known, dtypes


def entry_keys() -> dict[tuple[Loop, tuple[str, ...]], str]:
    """Return the keys in the cache of all that `every_loop` yields, in that order; none if nothing is compiled."""
    if _is_set("NUMBA_DISABLE_JIT") or _is_set("NUMBA_BOUNDSCHECK"):
        return {}
    return {(loop, dtypes): entry_key(loop, loop.signatures[dtypes]) for loop, dtypes in every_loop()}


# --- from a form of a loop to a function to call -------------------------------------------------------


def _is_set(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


def _make_callable(loop: Loop, signature: Signature) -> Callable[..., Any]:
    if _is_set("NUMBA_DISABLE_JIT"):
        return loop.function
    if _is_set("NUMBA_BOUNDSCHECK"):
        return with_single_numbers(signature, _jitted(loop.function, nogil=True))
    key = entry_key(loop, signature)
    stored = cache.read_entry(key)
    if stored is not None:
        with suppress(Exception):  # whatever the reason is that this system cannot load it: compile
            code = _load_code(stored)
            return call_through_ctypes(signature, code.entry, code)
    refuse_little_memory()
    announce(loop.name)
    with _no_search_for_garbage():
        return off_the_main_thread(functools.partial(_compile, loop, signature, key))


@contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    """Let Python collect no garbage: the compiler makes many objects that live on (an eighth of the time, measured)."""
    is_enabled = gc.isenabled() and not limits.is_memory_limited()
    if is_enabled:
        gc.disable()
    try:
        yield
    finally:
        if is_enabled:
            gc.enable()


def entry_key(loop: Loop, signature: Signature) -> str:
    """Return the key under which the cache holds a form of a loop."""
    return cache.cache_key(_key_parts(loop, signature))


def _key_parts(loop: Loop, signature: Signature) -> Iterator[str]:
    yield from (_CODE_VERSION, loop.name, signature.text, repr(loop.constants))
    yield from fingerprint(loop.function)
    yield from environment()


def _import_compiler() -> None:
    try:
        import numba
    except Exception as error:  # an incomplete installation can raise anything
        raise CnnfilterError(f"Numba, which compiles the loops, cannot be imported: {error}") from error
    if chosen_name() is not None and "NUMBA_CPU_FEATURES" not in os.environ:
        numba.config.CPU_FEATURES = ""  # those of the name; Numba would add all that this processor has


def _compile(loop: Loop, signature: Signature, key: str) -> Callable[..., Any]:
    """Compile one form of `loop`, store its code if possible, and return the function to call."""
    _import_compiler()
    from numba import carray, cfunc
    from numba import types as numba_types

    jitted = _jitted(loop.function, **_WITHOUT_WRAPPERS)
    names, parameters, values = [], [], []
    for index, (kind, axes) in enumerate(signature.arguments):
        number = getattr(numba_types, NUMBA_TYPES[kind])
        sizes = [f"n{index}_{axis}" for axis in range(axes)]
        names += [f"a{index}", *sizes]
        parameters += [numba_types.CPointer(number) if axes else number] + [numba_types.int64] * axes
        values.append(f"carray(a{index}, ({', '.join(sizes)},))" if axes else f"a{index}")
    result = numba_types.void if signature.result == "void" else getattr(numba_types, NUMBA_TYPES[signature.result])
    namespace: dict[str, Any] = {"carray": carray, "jitted": jitted}
    exec(f"def entry({', '.join(names)}):\n    return jitted({', '.join(values)})\n", namespace)
    try:
        compiled = cfunc(result(*parameters), **_COMPILER_OPTIONS)(namespace["entry"])
    except (AttributeError, KeyError):  # an unknown version of Numba
        return _jitted(loop.function)  # type: ignore[no-any-return]
    with suppress(AttributeError, RuntimeError):  # without stored code, the next run compiles again
        if _is_for_processor(compiled._library.codegen):
            about = f"{loop.name} {signature.text}"
            _store_code(key, compiled._library._get_compiled_object(), compiled.native_name, about)
    return call_through_ctypes(signature, compiled.address, compiled)


def _is_for_processor(codegen: Any) -> bool:
    """Return whether Numba has compiled for `processor`; a file of settings or an earlier use can have set another."""
    _, name, features = codegen.magic_tuple()
    _, wanted, wanted_features = processor()
    return name == wanted and (chosen_name() is None or features == wanted_features)


_IMAGE_HEADER, _OBJECT_HEADER = b"image\n", b"object\n"
"""The first bytes of an entry of the cache: a code image, or an object file that must be linked."""


def _store_code(key: str, obj: bytes, entry: str, about: str) -> None:
    try:
        image = lay_out(obj, entry)
    except UnsupportedObjectError:
        from cnnfilter.jit.linked_code import CodeObject

        body = _OBJECT_HEADER + CodeObject(obj, entry).to_bytes()
    else:
        if foreign_names(image) - FOREIGN_NAMES:
            return
        body = _IMAGE_HEADER + image.to_bytes()
    failure = cache.why_not_written(key, body, about=about)
    if failure:
        warn_of_cache(failure)


def _load_code(stored: bytes) -> Any:
    """Return the code of an entry of the cache; its attribute ``entry`` is the address to call."""
    if stored.startswith(_IMAGE_HEADER):
        return MappedCode(CodeImage.from_bytes(stored[len(_IMAGE_HEADER) :]), ForeignSymbols())
    from cnnfilter.jit.linked_code import CodeObject, LinkedCode

    return LinkedCode(CodeObject.from_bytes(stored.removeprefix(_OBJECT_HEADER)), stop_address())


_WITHOUT_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options of Numba for functions that only compiled code calls."""


@functools.cache
def _inlined(function: Callable[..., Any]) -> Any:
    """Return Numba's dispatcher for an inline function, which is compiled once for all loops that call it."""
    return _jitted(function, **_WITHOUT_WRAPPERS)


def _jitted(function: Callable[..., Any], **options: Any) -> Any:
    """Return Numba's dispatcher for `function`, with the inline functions and instructions that it names."""
    from numba import njit

    def replaced(value: Any) -> Any:
        if isinstance(value, Instruction):
            return value.compiled
        return _inlined(value.function) if isinstance(value, Inline) else value

    known = function.__globals__
    named = {name: replaced(known[name]) for name in function.__code__.co_names if name in known}
    closure = tuple(types.CellType(replaced(cell.cell_contents)) for cell in function.__closure__ or ())
    clone = types.FunctionType(function.__code__, {**known, **named}, function.__name__, function.__defaults__, closure)
    return njit(clone, **_COMPILER_OPTIONS, **options)


_IMPORT_BYTES = (256 << 20, 96 << 20)
"""Bytes of address space, and of data, for importing Numba.

Together with `_COMPILE_BYTES` that is 384 and 192 MB; importing numba 0.68 and compiling three loops took 363 and 168.
"""
_COMPILE_BYTES = (128 << 20, 96 << 20)
"""Bytes of address space, and of data, for compiling one loop."""


def refuse_little_memory() -> None:
    """Check that the limits of this process (``ulimit -v``, ``ulimit -d``) leave enough memory to compile a loop.

    Raises
    ------
    CompileMemoryError
        They do not. The message says how to compile all loops in advance.
    """
    imported = "numba.core.compiler" in sys.modules
    for allowed, taken, to_import, to_compile in zip(
        limits.allowed_memory(), limits.taken_memory(), _IMPORT_BYTES, _COMPILE_BYTES, strict=True
    ):
        needed = taken + to_compile + (0 if imported else to_import)
        if allowed is not None and needed > allowed:
            raise CompileMemoryError(
                f"compiling a loop takes up to {needed >> 20} MB of memory, and {allowed >> 20} are allowed; "
                "'cnnfilter warmup' without that limit compiles all of them once and for all"
            )
