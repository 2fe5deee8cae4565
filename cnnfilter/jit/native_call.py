"""Call machine code with arrays and numbers, through `ctypes`, which releases the GIL."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from cnnfilter.jit.signatures import CTYPES, Argument, Signature


def call_through_ctypes(signature: Signature, address: int, owner: object) -> Callable[..., Any]:
    """Return a function of arrays and numbers that calls the code at `address`; `owner` keeps that code alive."""
    parameters: list[Any] = []
    for kind, axes in signature.arguments:
        parameters += [ctypes.c_void_p] + [ctypes.c_int64] * axes if axes else [CTYPES[kind]]
    native = ctypes.CFUNCTYPE(CTYPES[signature.result], *parameters)(address)
    namespace: dict[str, Any] = {"native": native, "address": _address, "text": signature.text}
    exec(_text_of_call(signature), namespace)  # a loop over the arguments would take longer than some compiled loops
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
    """Return the address of a contiguous array, in a fifth of the time of ``array.ctypes.data``."""
    try:
        return _address_of(_first_byte(array))
    except (TypeError, ValueError):  # read-only, empty, or not contiguous
        if not array.flags.c_contiguous:
            raise ValueError("not contiguous") from None
        address: int = array.ctypes.data
        return address


def with_single_numbers(signature: Signature, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return `call` with its float32 numbers converted, as ctypes does; Numba's dispatch would take them as float64."""
    from numpy import float32

    single = [argument == Argument("f4", 0) for argument in signature.arguments]
    return lambda *given: call(*[float32(one) if is_f4 else one for one, is_f4 in zip(given, single, strict=True)])
