"""Vector instructions for compiled loops: their class, and helpers that emit LLVM code for them.

A vector is a group of neighbouring samples of a row in one register. Numba leaves it to the compiler which parts of a
loop become vectors. The loops that take most of the time choose their vectors themselves, by instructions. Each
instruction is written twice: as a function of numpy arrays, and as the LLVM instructions that do the same. Those on
floats are in `cnnfilter.jit.float_vectors`, those on integers in `cnnfilter.jit.integer_vectors` and
`cnnfilter.jit.prefix_sums`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from cnnfilter.jit.processor import has_wide_registers as has_wide_registers

LANES = 16
"""Samples of a vector of float32: a register of 512 bits. Where registers are narrower, LLVM uses several."""
LANES_U16 = 2 * LANES
"""Samples of a vector of uint16, as wide as one of float32."""
LANES_U8 = 4 * LANES
"""Samples of a vector of uint8, as wide as one of float32."""
VECTOR_U16, VECTOR_U8 = f"u2x{LANES_U16}", f"u1x{LANES_U8}"
"""The kinds of these vectors, as `instruction` takes them."""


class Inline:
    """A small function that loops may call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


class Instruction:
    """One operation on vectors that loops may call."""

    def __init__(self, function: Callable[..., Any], result: str, arguments: tuple[str, ...]) -> None:
        self.function = function
        self.result = result
        self.arguments = arguments
        self.emit: Callable[..., Any] = _nothing_to_emit
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def as_llvm(self, emit: Callable[..., Any]) -> Callable[..., Any]:
        """Set the function that emits the instruction with an LLVM builder; it gets arrays as pointers to a sample."""
        self.emit = emit
        return emit

    @functools.cached_property
    def compiled(self) -> Any:
        """The function that Numba compiles a call of the instruction to."""
        return _intrinsic(self)


def _nothing_to_emit(*arguments: Any) -> Any:
    raise NotImplementedError


def instruction(result: str, *arguments: str) -> Callable[[Callable[..., Any]], Instruction]:
    """Make an instruction of a function of numpy arrays, for a result and arguments of these kinds.

    A kind is "array", "void", "i8", "f4", "vector" (of LANES float32), or a vector of another type, such as "u1x64".
    """
    return lambda function: Instruction(function, result, arguments)


def _intrinsic(instruction: Instruction) -> Any:
    from numba import types
    from numba.extending import intrinsic

    numbers = {"i8": types.int64, "f4": types.float32, "void": types.void}

    def as_type(kind: str) -> Any:
        return numbers.get(kind) or _vector_type(kind)

    def typed(given: tuple[Any, ...]) -> Any:
        wanted = [
            one if kind == "array" else as_type(kind) for one, kind in zip(given, instruction.arguments, strict=True)
        ]

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            operands = [
                context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
                for kind, value in zip(signature.args, values, strict=True)
            ]
            emitted = instruction.emit(builder, *operands)
            return context.get_dummy_value() if signature.return_type == types.void else emitted

        return as_type(instruction.result)(*wanted), generate

    names = ", ".join(f"a{index}" for index in range(len(instruction.arguments)))
    namespace: dict[str, Any] = {"typed": typed}
    exec(f"def {instruction.function.__name__}(context, {names}):\n    return typed(({names},))\n", namespace)
    return intrinsic(namespace[instruction.function.__name__])


@functools.cache
def _vector_type(kind: str) -> Any:
    from numba import types
    from numba.extending import models, register_model

    class Vector(types.Type):  # type: ignore[misc]
        """A vector of one kind, as a type of Numba."""

        def __init__(self) -> None:
            super().__init__(name=f"vector({kind})")

    @register_model(Vector)
    class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
        """Numba's representation of a vector: one LLVM value."""

        def __init__(self, manager: Any, numba_type: Any) -> None:
            super().__init__(manager, numba_type, llvm_type(kind))

    return Vector()


def llvm_type(kind: str) -> Any:
    """Return the LLVM type of a kind of vectors."""
    from llvmlite import ir

    sample, lanes = ("f4", LANES) if kind == "vector" else (kind[:2], int(kind[3:]))
    return ir.VectorType(ir.FloatType() if sample == "f4" else ir.IntType(8 * int(sample[1])), lanes)


def float_constant(value: float) -> Any:
    """Return a constant vector of float32 with `value` in each lane."""
    from llvmlite import ir

    return ir.Constant(ir.VectorType(ir.FloatType(), LANES), [value] * LANES)


def pointer_at(builder: Any, array: Any, at: Any, lanes: int = LANES) -> Any:
    """Return a pointer to the vector of samples of `array` from index `at` on, and the bytes of one sample."""
    from llvmlite import ir

    sample = array.type.pointee
    return builder.bitcast(builder.gep(array, [at]), ir.VectorType(sample, lanes).as_pointer()), sample_bytes(sample)


def sample_bytes(sample: Any) -> int:
    """Return the number of bytes that a sample of an LLVM type takes."""
    return 4 if str(sample) == "float" else int(sample.width) // 8


def instructions_of(*modules: Any) -> dict[str, Instruction]:
    """Return the instructions of some modules by name."""
    return {name: value for each in modules for name, value in vars(each).items() if isinstance(value, Instruction)}


def broadcast(builder: Any, value: Any, kind: Any) -> Any:
    """Return a vector of the LLVM type `kind` with `value` in each lane."""
    from llvmlite import ir

    number = ir.IntType(32)
    if isinstance(value.type, ir.IntType) and value.type.width > kind.element.width:
        value = builder.trunc(value, kind.element)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, number(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(number, kind.count), [0] * kind.count))


def integer_constant(kind: Any, value: int) -> Any:
    """Return a constant vector of the LLVM type `kind` with `value` in each lane."""
    from llvmlite import ir

    return ir.Constant(kind, [value] * kind.count)


def store_first_lanes(builder: Any, out: Any, at: Any, values: Any, count: Any) -> None:
    """Store the first `count` lanes of a vector in `out` from index `at` on."""
    from llvmlite import ir
    from numba.core import cgutils

    copy = cgutils.alloca_once(builder, values.type)
    builder.store(values, copy)
    byte = ir.IntType(8).as_pointer()
    size = builder.mul(count, count.type(sample_bytes(out.type.pointee)))
    cgutils.raw_memcpy(builder, builder.bitcast(builder.gep(out, [at]), byte), builder.bitcast(copy, byte), size, 1)
