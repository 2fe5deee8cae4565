"""Object files linked by LLVM's linker: for systems whose objects cannot be laid out as one image.

This works wherever Numba does, but needs the import of llvmlite at every start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_RUNTIME_SYMBOLS = (
    "NRT_Free",
    "NRT_MemInfo_call_dtor",
    "numba_unpickle",
    "numba_do_raise",
    "numba_gil_ensure",
    "numba_gil_release",
    "numba_runtime_build_excinfo_struct",
)
"""Symbols of Numba's runtime that an object names on paths that a loop never takes."""


@dataclass(frozen=True)
class CodeObject:
    """An object file, as the compiler wrote it, and the name of its function to call."""

    code: bytes
    entry: str

    def to_bytes(self) -> bytes:
        """Return the object as bytes, to be stored."""
        return self.entry.encode() + b"\0" + self.code

    @classmethod
    def from_bytes(cls, data: bytes) -> CodeObject:
        """Return the object that `to_bytes` turned into bytes."""
        entry, separator, code = data.partition(b"\0")
        if not separator:
            raise ValueError("the object is cut")
        return cls(code, entry.decode())


class LinkedCode:
    """An object linked into this process. `entry` is the address to call; it lives as long as this object."""

    def __init__(self, obj: CodeObject, stop: int) -> None:
        """Link `obj`; calls of Numba's runtime go to the address `stop`.

        Raises
        ------
        OSError
            The object cannot be linked on this system.
        """
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self._jit: Any = llvm.create_lljit_compiler()
        builder = llvm.JITLibraryBuilder().add_object_img(obj.code).export_symbol(obj.entry).add_current_process()
        for name in _RUNTIME_SYMBOLS:
            builder.import_symbol(name, stop)
        try:
            self._library = builder.link(self._jit, "loop")
        except RuntimeError as failure:
            raise OSError(str(failure)) from None
        self.entry: int = self._library[obj.entry]
