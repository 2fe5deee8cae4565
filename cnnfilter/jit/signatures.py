"""Signatures of loops: types of samples, in Numba's notation.

u1 u2 i4 i8 f4 f8     numbers, and C-contiguous arrays of them: f4[:, ::1]
"""

from __future__ import annotations

import ctypes
import re
from typing import Any, NamedTuple

CTYPES: dict[str, Any] = {
    "u1": ctypes.c_uint8,
    "u2": ctypes.c_uint16,
    "i4": ctypes.c_int32,
    "i8": ctypes.c_int64,
    "f4": ctypes.c_float,
    "f8": ctypes.c_double,
    "void": None,
}
NUMBA_TYPES = {"u1": "uint8", "u2": "uint16", "i4": "int32", "i8": "int64", "f4": "float32", "f8": "float64"}


class Argument(NamedTuple):
    """One argument of a signature: the type of its numbers, and its number of axes (0 for a single number)."""

    kind: str
    axes: int


class Signature(NamedTuple):
    """The arguments and the result of a compiled form of a loop."""

    text: str
    result: str
    arguments: tuple[Argument, ...]

    @property
    def array_indexes(self) -> tuple[int, ...]:
        """The positions of the arguments that are arrays."""
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
    if not match or match[1] not in CTYPES:
        raise TypeError(f"not a signature of a loop: {text!r}")
    arguments = []
    for kind, axes in re.findall(r"(\w+)(\[[^]]*\])?", match[2]):
        if kind not in NUMBA_TYPES or (axes and not axes.endswith("::1]")):
            raise TypeError(f"not an argument of a loop: {kind}{axes}")
        arguments.append(Argument(kind, axes.count(",") + 1 if axes else 0))
    return Signature(text, match[1], tuple(arguments))
