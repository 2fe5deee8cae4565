"""Compile a loop once with Numba, afterwards run it without importing Numba.

A loop is a Python function of arrays and numbers that Numba can compile. On its first call its machine
code is taken from the user's cache, or compiled and put there; then it is called through `ctypes`, which
releases the GIL. Where code cannot be stored or mapped, the same code runs from the compiler's memory, and
at the last Numba's ordinary dispatch runs the function: the results are the same.

The stored code stands alone, so a loop must not allocate, raise, or hold a reference.

``NUMBA_DISABLE_JIT=1`` runs the plain Python function, ``NUMBA_BOUNDSCHECK=1`` goes through dispatch, so
that an index out of bounds is an exception.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock
from typing import Any, NamedTuple, TypeVar

from cnnfilter.errors import CnnfilterError, CompileMemoryError
from cnnfilter.jit import cache
from cnnfilter.jit.instructions import Instruction, processor
from cnnfilter.jit.machine_code import CodeImage, MappedCode, UnsupportedObjectError, lay_out
from cnnfilter.runtime import limits
from cnnfilter.runtime.threads import off_the_main_thread

announce: Callable[[str], None] = lambda message: None  # noqa: E731 - replaced by the command line
"""Told, in one line, before a loop is compiled."""

_CTYPES: dict[str, Any] = {
    "u1": ctypes.c_uint8,
    "u2": ctypes.c_uint16,
    "i4": ctypes.c_int32,
    "i8": ctypes.c_int64,
    "f4": ctypes.c_float,
    "f8": ctypes.c_double,
    "void": None,
}
_NUMBA_TYPES = {"u1": "uint8", "u2": "uint16", "i4": "int32", "i8": "int64", "f4": "float32", "f8": "float64"}
_COMPILER_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",  # a division by zero gives infinity instead of an exception
    "fastmath": {"contract"},  # a product and its sum may be one instruction; nothing else may change
}
_CODE_VERSION = "3"
"""Raised whenever this module makes other code of the same loop."""
# The compiler's runtime, which the code names on paths that a loop never takes.
_UNREACHED_NAMES = re.compile(r"^(NRT_|numba_|Py|_Py)")

_loops: list[Loop] = []
_families: list[Callable[[], Any]] = []
Made = TypeVar("Made")


class Argument(NamedTuple):
    """One argument of a signature: the type of its numbers and how many axes it has (0: a number)."""

    kind: str
    axes: int


class Signature(NamedTuple):
    """What a compiled form of a loop takes and gives."""

    text: str
    result: str
    arguments: tuple[Argument, ...]

    @property
    def array_indexes(self) -> tuple[int, ...]:
        """Which of the arguments are arrays."""
        return tuple(index for index, argument in enumerate(self.arguments) if argument.axes)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes of the array arguments, as numpy writes them after the byte order."""
        return tuple(argument.kind for argument in self.arguments if argument.axes)


def parse_signature(text: str) -> Signature:
    """Read a signature in Numba's notation.

    >>> parse_signature("void(u1[:, ::1], f4[::1], i8)").arguments
    (Argument(kind='u1', axes=2), Argument(kind='f4', axes=1), Argument(kind='i8', axes=0))
    """
    match = re.fullmatch(r"\s*(\w+)\((.*)\)\s*", text, re.DOTALL)
    if not match or match[1] not in _CTYPES:
        raise TypeError(f"not a signature of a loop: {text!r}")
    arguments = []
    for kind, axes in re.findall(r"(\w+)(\[[^]]*\])?", match[2]):
        if kind not in _NUMBA_TYPES or (axes and not axes.endswith("::1]")):
            raise TypeError(f"not an argument of a loop: {kind}{axes}")
        arguments.append(Argument(kind, axes.count(",") + 1 if axes else 0))
    return Signature(text, match[1], tuple(arguments))


class Inline:
    """A small function that loops may call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


class Loop:
    """A function of contiguous arrays and numbers with one compiled form for each of its signatures."""

    def __init__(self, function: Callable[..., Any], signatures: tuple[str, ...], constants: tuple[int, ...]):
        self.function = function
        self.constants = constants
        self.signatures = {signature.dtypes: signature for signature in map(parse_signature, signatures)}
        first, *others = self.signatures.values()
        self._array_indexes = first.array_indexes
        if any(signature.array_indexes != self._array_indexes for signature in others):
            raise TypeError(f"the forms of {function.__name__} take arrays in different positions")
        self._ready: dict[tuple[str, ...], Callable[..., Any]] = {}
        self._by_dtype: dict[tuple[Any, ...], Callable[..., Any]] = {}  # the same, found without naming them
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
            dtypes = tuple([arguments[place].dtype for place in self._array_indexes])
        except (AttributeError, IndexError):
            raise TypeError(f"{self.name} takes arrays as arguments {self._array_indexes}, counted from 0") from None
        call = self._by_dtype.get(dtypes)
        if call is None:
            call = self._by_dtype[dtypes] = self.prepare(tuple([dtype.str[1:] for dtype in dtypes]))
        return call(*arguments)

    def prepare(self, dtypes: tuple[str, ...]) -> Callable[..., Any]:
        """Return the function to call for arrays of `dtypes`, loaded or compiled if it is not ready yet."""
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
        One or more in Numba's notation: u1 u2 i4 i8 f4 f8, C-contiguous arrays as ``f4[:, ::1]``; the
        result is void, i8 or f8. The dtypes of the arrays choose among them.
    constants
        The whole numbers that the function closes over. They are constants to the compiler, which
        unrolls loops over them.
    """
    return lambda function: Loop(function, signatures, constants)


def family(*usual: tuple[Any, ...]) -> Callable[[Callable[..., Made]], Callable[..., Made]]:
    """Mark a function that makes a loop for each set of constants: it makes each but once.

    `usual` are the arguments for which `every_loop` has loops made, so that they can be compiled in advance.
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
    """Yield each loop of the modules imported so far, the usual ones of families too, with the dtypes of each form."""
    for make in _families:
        make()
    for known in list(_loops):
        for dtypes in known.signatures:
            yield known, dtypes


# --- how a form of a loop becomes something to call ---------------------------------------------------


def _make_callable(loop: Loop, signature: Signature) -> Callable[..., Any]:
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return loop.function
    if os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0"):
        return _with_single_numbers(signature, _jitted(loop.function, nogil=True))
    key = cache.cache_key(_key_parts(loop, signature))
    stored = cache.read_entry(key)
    if stored is not None:
        try:
            code = _load_code(stored)
            return _call_through_ctypes(signature, code.entry, code)
        except (OSError, KeyError, ValueError):
            pass  # not on this system: compile
    refuse_little_memory()
    announce(f"compiling {loop.name} once")
    return off_the_main_thread(functools.partial(_compile, loop, signature, key))


def _import_compiler() -> None:
    try:
        import numba  # noqa: F401
    except Exception as error:  # half imported, it fails in any way
        raise CnnfilterError(f"Numba, which compiles the loops, cannot be imported: {error}") from error


def _with_single_numbers(signature: Signature, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return `call` with its float32 numbers made such, as ctypes does: dispatch would take them for float64."""
    from numpy import float32

    single = [argument == Argument("f4", 0) for argument in signature.arguments]
    return lambda *given: call(*[float32(one) if is_f4 else one for one, is_f4 in zip(given, single, strict=True)])


def _compile(loop: Loop, signature: Signature, key: str) -> Callable[..., Any]:
    """Compile one form of `loop`, keep its code where that is possible, and return what calls it."""
    _import_compiler()
    from numba import carray, cfunc
    from numba import types as numba_types

    jitted = _jitted(loop.function)
    names, parameters, values = [], [], []
    for index, (kind, axes) in enumerate(signature.arguments):
        number = getattr(numba_types, _NUMBA_TYPES[kind])
        sizes = [f"n{index}_{axis}" for axis in range(axes)]
        names += [f"a{index}", *sizes]
        parameters += [numba_types.CPointer(number) if axes else number] + [numba_types.int64] * axes
        values.append(f"carray(a{index}, ({', '.join(sizes)},))" if axes else f"a{index}")
    result = numba_types.void if signature.result == "void" else getattr(numba_types, _NUMBA_TYPES[signature.result])
    namespace: dict[str, Any] = {"carray": carray, "jitted": jitted}
    exec(f"def entry({', '.join(names)}):\n    return jitted({', '.join(values)})\n", namespace)
    try:
        compiled = cfunc(result(*parameters), **_COMPILER_OPTIONS)(namespace["entry"])
    except AttributeError:  # another Numba: its ordinary dispatch does the same
        return jitted  # type: ignore[no-any-return]
    with suppress(AttributeError, RuntimeError):  # it runs all the same, only not the next time without Numba
        _store_code(key, compiled._library._get_compiled_object(), compiled.native_name)
    return _call_through_ctypes(signature, compiled.address, compiled)


_IMAGE_HEADER, _OBJECT_HEADER = b"image\n", b"object\n"
"""How an entry of the cache begins: one image, or an object that is yet to be linked."""


def _store_code(key: str, obj: bytes, entry: str) -> None:
    try:
        image = lay_out(obj, entry)
    except UnsupportedObjectError:
        from cnnfilter.jit.linked_code import CodeObject

        cache.write_entry(key, _OBJECT_HEADER + CodeObject(obj, entry).to_bytes())
    else:
        if not _foreign_names(image) - _FOREIGN_NAMES:
            cache.write_entry(key, _IMAGE_HEADER + image.to_bytes())


def _load_code(stored: bytes) -> Any:
    """Return the code of an entry of the cache, ready to be called at its ``entry``."""
    if stored.startswith(_IMAGE_HEADER):
        return MappedCode(CodeImage.from_bytes(stored[len(_IMAGE_HEADER) :]), _ForeignSymbols())
    from cnnfilter.jit.linked_code import CodeObject, LinkedCode

    return LinkedCode(CodeObject.from_bytes(stored.removeprefix(_OBJECT_HEADER)), _stop_address())


def _jitted(function: Callable[..., Any], **options: Any) -> Any:
    """Return Numba's dispatcher for `function`, with the inline functions it names compiled too."""
    from numba import njit

    def replaced(value: Any) -> Any:
        if isinstance(value, Instruction):
            return value.compiled
        return _jitted(value.function) if isinstance(value, Inline) else value

    known = function.__globals__
    named = {name: replaced(known[name]) for name in function.__code__.co_names if name in known}
    closure = tuple(types.CellType(replaced(cell.cell_contents)) for cell in function.__closure__ or ())
    clone = types.FunctionType(function.__code__, {**known, **named}, function.__name__, function.__defaults__, closure)
    return njit(clone, **_COMPILER_OPTIONS, **options)


def _call_through_ctypes(signature: Signature, address: int, owner: object) -> Callable[..., Any]:
    """Return a function of arrays and numbers that calls the code at `address`, which `owner` keeps alive."""
    parameters: list[Any] = []
    for kind, axes in signature.arguments:
        parameters += [ctypes.c_void_p] + [ctypes.c_int64] * axes if axes else [_CTYPES[kind]]
    native = ctypes.CFUNCTYPE(_CTYPES[signature.result], *parameters)(address)
    namespace: dict[str, Any] = {"native": native, "address": _address, "text": signature.text}
    exec(_text_of_call(signature), namespace)  # a loop over the arguments would take longer than some loops do
    call: Any = namespace["call"]
    call.owner = owner
    return call  # type: ignore[no-any-return]


def _text_of_call(signature: Signature) -> str:
    """Return the text of ``call``, which passes each array as its address and its sizes."""
    unpacked, passed = [], []
    for index, argument in enumerate(signature.arguments):
        sizes = [f"n{index}_{axis}" for axis in range(argument.axes)]
        if argument.axes:
            unpacked.append(f"        {', '.join(sizes)}, = a{index}.shape")
        passed += [f"address(a{index})" if argument.axes else f"a{index}", *sizes]
    names = ", ".join(f"a{index}" for index in range(len(signature.arguments)))
    return "\n".join(
        [
            f"def call({names}):",
            "    try:",
            *(unpacked or ["        pass"]),
            f"        return native({', '.join(passed)})",
            "    except ValueError:",
            "        raise TypeError(f'{text} takes contiguous arrays with as many axes') from None",
        ]
    )


_first_byte = ctypes.c_char.from_buffer
_address_of = ctypes.addressof


def _address(array: Any) -> int:
    """Return where a contiguous array's numbers are, in a fifth of the time that ``array.ctypes.data`` takes."""
    try:
        return _address_of(_first_byte(array))
    except (TypeError, ValueError):  # read-only, without numbers, or not contiguous
        if not array.flags.c_contiguous:
            raise ValueError("not contiguous") from None
        address: int = array.ctypes.data
        return address


# --- what stored code depends on ------------------------------------------------------------------------


def _key_parts(loop: Loop, signature: Signature) -> Iterator[str]:
    yield from (_CODE_VERSION, loop.name, signature.text, repr(loop.constants))
    yield from _fingerprint(loop.function)
    yield from _environment()


def _fingerprint(function: Callable[..., Any]) -> Iterator[str]:
    """Yield the code of a function and of all inline functions that it names, and what it closes over."""
    code = function.__code__
    yield from _code_parts(code)
    known = [(name, function.__globals__.get(name)) for name in code.co_names]
    closed = zip(code.co_freevars, (cell.cell_contents for cell in function.__closure__ or ()), strict=True)
    for name, value in (*known, *closed):
        if isinstance(value, Inline):
            yield from _fingerprint(value.function)
        elif isinstance(value, Instruction):
            yield from _emitted_by(value.emit, set())
        elif isinstance(value, (int, float, str, tuple)):  # a constant
            yield f"{name}={value!r}"


def _emitted_by(emit: Callable[..., Any], seen: set[str]) -> Iterator[str]:
    """Yield the code of a function that emits instructions, of those that it calls, and what they close over."""
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
def _environment() -> tuple[str, ...]:
    """Return the versions, the processor and the settings that the compiler's output depends on."""
    settings = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith("NUMBA_"))
    return (sys.version, _version_file("numba"), _version_file("llvmlite"), processor(), *settings)


def _version_file(package: str) -> str:
    # importlib.metadata would say it too, at the price of the email parser.
    for folder in sys.path:
        try:
            with open(os.path.join(folder, package, "_version.py"), encoding="utf-8") as file:
                return file.read()
        except OSError:
            continue
    return ""


# --- foreign symbols ----------------------------------------------------------------------------------

_MATH_NAMES = ("exp", "expf", "exp2f", "log", "logf", "pow", "powf", "tanh", "tanhf", "sqrt", "sqrtf", "fmod", "fmodf")
_MEMORY_NAMES = ("memcpy", "memset", "memmove")
_FOREIGN_NAMES = frozenset((*_MATH_NAMES, *_MEMORY_NAMES))
"""What a stored loop may call: C's mathematics and memory functions."""


def _foreign_names(image: CodeImage) -> set[str]:
    return {name for _, name in image.outer if not _UNREACHED_NAMES.match(name)}


class _ForeignSymbols(dict[str, int]):
    """The addresses of what a loop does not hold itself."""

    def __missing__(self, name: str) -> int:
        if name in _FOREIGN_NAMES:
            library = ctypes.CDLL("libm.so.6") if name in _MATH_NAMES else ctypes.CDLL(None)
            address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        elif _UNREACHED_NAMES.match(name):
            address = _stop_address()
        else:
            raise KeyError(name)
        assert address
        self[name] = address
        return address


@functools.cache
def _stop_address() -> int:
    """Return the address of C's abort: better an end than a wrong picture, should a loop ever get there."""
    address = ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value
    assert address
    return address


_IMPORT_BYTES = (256 << 20, 96 << 20)
"""Bytes of addresses, and of data, that Numba takes before it compiles anything."""


_COMPILE_BYTES = (128 << 20, 96 << 20)
"""The same for one loop."""


def refuse_little_memory() -> None:
    """Raise where the limits of this process (``ulimit -v``, ``ulimit -d``) leave too little room to compile a loop.

    Raises
    ------
    CompileMemoryError
        It says what would do.
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
