"""Code images: an object file laid out as one block of bytes, which is loaded by mapping it into memory.

Numba's compiler uses the large code model on x86-64: wherever the code needs an address, it holds all 64 bits of it. So
an object file is laid out once as one block of bytes, with a list of the offsets of addresses. To load it is to map the
block and to add its own address at these offsets, in a fraction of a millisecond, without a linker or LLVM.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import re
import struct
from contextlib import suppress
from typing import Any, NamedTuple

# Numbers of ELF files, by their names in the System V ABI (chapter 4): flags and types of sections, special sections of
# symbols, the relocation by a 64-bit address, the machine, and the type of file.
_SHF_ALLOC, _SHT_RELA, _SHT_NOBITS, _SHT_SYMTAB = 2, 4, 8, 2
_SHN_UNDEF, _SHN_COMMON = 0, 0xFFF2
_R_X86_64_64 = 1
_X86_64, _RELOCATABLE = 62, 1


class UnsupportedObjectError(Exception):
    """An object file that cannot be laid out, because it needs more than 64-bit addresses."""


class CodeImage(NamedTuple):
    """One block of machine code.

    `code` holds the bytes, `entry` the offset of the function to call, `inner` the offsets of 64-bit words to which
    the block's own address is added, `outer` pairs (offset, symbol) of 64-bit words that are set to a foreign address.
    """

    code: bytes
    entry: int
    inner: tuple[int, ...]
    outer: tuple[tuple[int, str], ...]

    def to_bytes(self) -> bytes:
        """Return the image as bytes, to be stored."""
        names = "\n".join(name for _, name in self.outer).encode()
        head = struct.pack("<QQQQQ", len(self.code), self.entry, len(self.inner), len(self.outer), len(names))
        offsets = [*self.inner, *(offset for offset, _ in self.outer)]
        return head + struct.pack(f"<{len(offsets)}Q", *offsets) + names + self.code

    @classmethod
    def from_bytes(cls, data: bytes) -> CodeImage:
        """Return the image that `to_bytes` turned into bytes."""
        size, entry, inner, outer, names = struct.unpack_from("<QQQQQ", data)
        offsets = struct.unpack_from(f"<{inner + outer}Q", data, 40)
        start = 40 + 8 * (inner + outer)
        symbols = data[start : start + names].decode().split("\n") if outer else []
        code = data[start + names :]
        if len(code) != size:
            raise ValueError("the image is cut")
        return cls(code, entry, offsets[:inner], tuple(zip(offsets[inner:], symbols, strict=True)))


def lay_out(obj: bytes, entry: str) -> CodeImage:
    """Return the ELF object `obj` as one image; its function `entry` is the one to call.

    Raises
    ------
    UnsupportedObjectError
        It is no x86-64 ELF object, has a relocation other than a 64-bit address, or the system is not POSIX.

    References
    ----------
    System V Application Binary Interface, AMD64 Architecture Processor Supplement, section 4.4.
    """
    if os.name != "posix":
        raise UnsupportedObjectError("memory is mapped and protected as POSIX has it")
    if obj[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", obj, 16) != (_RELOCATABLE, _X86_64):
        raise UnsupportedObjectError("not an x86-64 ELF object")
    table, count = struct.unpack_from("<Q", obj, 40)[0], struct.unpack_from("<H", obj, 60)[0]
    sections = [struct.unpack_from("<IIQQQQIIQQ", obj, table + 64 * index) for index in range(count)]
    names_at = sections[struct.unpack_from("<H", obj, 62)[0]][4]
    names = [_text(obj, names_at + section[0]) for section in sections]

    code = bytearray()
    base: dict[int, int] = {}
    for index, (_, kind, flags, _, start, size, _, _, align, _) in enumerate(sections):
        if flags & _SHF_ALLOC and names[index] != ".eh_frame":  # a loop raises nothing, so nothing unwinds its stack
            code += bytes(-len(code) % max(align, 1))
            base[index] = len(code)
            code += bytes(size) if kind == _SHT_NOBITS else obj[start : start + size]

    symbols = _symbols(obj, sections)
    address: list[int | None] = []
    for _, where, value, size in symbols:
        if where == _SHN_COMMON:  # value is the alignment
            code += bytes(-len(code) % max(value, 8))
            address.append(len(code))
            code += bytes(size)
        else:
            address.append(base[where] + value if where in base else None)

    inner, outer = [], []
    for _, kind, _, _, start, size, _, target, _, _ in sections:
        if kind != _SHT_RELA or target not in base:
            continue
        for at in range(start, start + size, 24):
            offset, info, addend = struct.unpack_from("<QQq", obj, at)
            if info & 0xFFFFFFFF != _R_X86_64_64:
                raise UnsupportedObjectError(f"relocation of type {info & 0xFFFFFFFF}")
            offset += base[target]
            name, where, _, _ = symbols[info >> 32]
            own = address[info >> 32]
            if own is not None:
                struct.pack_into("<Q", code, offset, own + addend)
                inner.append(offset)
            elif where == _SHN_UNDEF and addend == 0:
                outer.append((offset, name))
            else:
                raise UnsupportedObjectError(f"symbol {name!r}")
    start_at = next((own for (name, *_), own in zip(symbols, address, strict=True) if name == entry), None)
    if start_at is None:
        raise UnsupportedObjectError(f"no function {entry!r}")
    return CodeImage(bytes(code), start_at, tuple(inner), tuple(outer))


def _text(obj: bytes, start: int) -> str:
    return obj[start : obj.index(b"\0", start)].decode()


def _symbols(obj: bytes, sections: list[tuple[int, ...]]) -> list[tuple[str, int, int, int]]:
    """Return ``(name, section, value, size)`` of every symbol."""
    for _, kind, _, _, start, size, link, _, _, _ in sections:
        if kind == _SHT_SYMTAB:
            strings = sections[link][4]
            rows = [struct.unpack_from("<IBBHQQ", obj, at) for at in range(start, start + size, 24)]
            return [(_text(obj, strings + name), where, value, length) for name, _, _, where, value, length in rows]
    return []


class MappedCode:
    """An image in executable memory. `entry` is the address to call; it lives as long as this object."""

    def __init__(self, image: CodeImage, foreign: dict[str, int]) -> None:
        """Map `image`; `foreign` gives the address of each symbol that it does not hold itself.

        Raises
        ------
        OSError
            The system refuses memory that may be executed.
        KeyError
            A symbol is not in `foreign`.
        """
        # The memory is writable first and executable afterwards: hardened systems refuse memory that is both.
        self._memory = mmap.mmap(-1, len(image.code), prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self._memory.write(image.code)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for offset in image.inner:
            (target,) = struct.unpack_from("<Q", self._memory, offset)
            struct.pack_into("<Q", self._memory, offset, base + target)
        for offset, name in image.outer:
            struct.pack_into("<Q", self._memory, offset, foreign[name])
        libc = ctypes.CDLL(None, use_errno=True)  # where there is mprotect, None names the process
        size = ctypes.c_size_t(len(image.code))
        if libc.mprotect(ctypes.c_void_p(base), size, mmap.PROT_READ | mmap.PROT_EXEC) != 0:
            raise OSError(ctypes.get_errno(), "no executable memory")
        self.entry = base + image.entry


# Symbols of the compiler's runtime, which the code names on paths that a loop never takes.
_UNREACHED_NAMES = re.compile(r"^(NRT_|numba_|Py|_Py)")
_MATH_NAMES = ("exp", "expf", "exp2f", "log", "logf", "pow", "powf", "tanh", "tanhf", "sqrt", "sqrtf", "fmod", "fmodf")
_MEMORY_NAMES = ("memcpy", "memset", "memmove")
FOREIGN_NAMES = frozenset((*_MATH_NAMES, *_MEMORY_NAMES))
"""The symbols that a stored loop may need: C's mathematics and memory functions."""


def foreign_names(image: CodeImage) -> set[str]:
    """Return the symbols that an image needs, but for those that it never reaches."""
    return {name for _, name in image.outer if not _UNREACHED_NAMES.match(name)}


class ForeignSymbols(dict[str, int]):
    """The addresses of foreign symbols, each looked up on its first use."""

    def __missing__(self, name: str) -> int:
        if name in FOREIGN_NAMES:
            address = ctypes.cast(getattr(_library_of(name), name), ctypes.c_void_p).value
        elif _UNREACHED_NAMES.match(name):
            address = stop_address()
        else:
            raise KeyError(name)
        assert address
        self[name] = address
        return address


def _library_of(name: str) -> ctypes.CDLL:
    if name in _MATH_NAMES:
        with suppress(OSError):  # not glibc: the process has them
            return ctypes.CDLL("libm.so.6")
    return ctypes.CDLL(None)


@functools.cache
def _python_abort() -> Any:
    """Return Python's own abort as a function of C. It is kept, because code refers to it as long as it lives."""
    return ctypes.CFUNCTYPE(None)(os.abort)


@functools.cache
def stop_address() -> int:
    """Return the address of C's abort, for calls that a loop never reaches: should it, no wrong picture is written."""
    try:
        function = ctypes.CDLL(None).abort
    except (TypeError, OSError, AttributeError):  # Windows has no library without a name
        function = _python_abort()
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address
    return address
