"""Vectors: neighbouring samples of a row that a loop holds in one register.

Numba leaves it to the compiler what of a loop becomes vectors, and which of them stay in registers. Where all of
the time goes, a loop says it itself, with these instructions. Each is written twice: what it does to numpy arrays,
and the LLVM instructions that do the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

LANES = 16
"""Samples of a vector of float32. Where registers are narrower, the compiler takes several for each."""


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
        """Mark the function that emits it with an LLVM builder; arrays come as pointers to their first sample."""
        self.emit = emit
        return emit

    @functools.cached_property
    def compiled(self) -> Any:
        """What Numba calls for it."""
        return _intrinsic(self)


def _nothing_to_emit(*arguments: Any) -> Any:
    raise NotImplementedError


def instruction(result: str, *arguments: str) -> Callable[[Callable[..., Any]], Instruction]:
    """Make an instruction of a function of numpy arrays; its kinds are "array", "vector", "void", i8 and f4."""
    return lambda function: Instruction(function, result, arguments)


def _intrinsic(instruction: Instruction) -> Any:
    from numba import types
    from numba.extending import intrinsic

    kinds = {"i8": types.int64, "f4": types.float32, "void": types.void, "vector": _vector_type()}

    def typed(given: tuple[Any, ...]) -> Any:
        wanted = [
            one if kind == "array" else kinds[kind] for one, kind in zip(given, instruction.arguments, strict=True)
        ]

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            operands = [
                context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
                for kind, value in zip(signature.args, values, strict=True)
            ]
            emitted = instruction.emit(builder, *operands)
            return context.get_dummy_value() if signature.return_type == types.void else emitted

        return kinds[instruction.result](*wanted), generate

    names = ", ".join(f"a{index}" for index in range(len(instruction.arguments)))
    namespace: dict[str, Any] = {"typed": typed}
    exec(f"def {instruction.function.__name__}(context, {names}):\n    return typed(({names},))\n", namespace)
    return intrinsic(namespace[instruction.function.__name__])


@functools.cache
def _vector_type() -> Any:
    from llvmlite import ir
    from numba import types
    from numba.extending import models, register_model

    class Vector(types.Type):  # type: ignore[misc]
        """LANES of float32."""

        def __init__(self) -> None:
            super().__init__(name=f"vector({LANES})")

    @register_model(Vector)
    class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
        """A vector is one value of LLVM's."""

        def __init__(self, manager: Any, kind: Any) -> None:
            super().__init__(manager, kind, ir.VectorType(ir.FloatType(), LANES))

    return Vector()


def _constant(value: float) -> Any:
    from llvmlite import ir

    return ir.Constant(ir.VectorType(ir.FloatType(), LANES), [value] * LANES)


def _place(builder: Any, array: Any, at: Any) -> Any:
    """Return a pointer to the LANES samples of `array` from `at` on, and the bytes of one."""
    from llvmlite import ir

    sample = array.type.pointee
    return builder.bitcast(builder.gep(array, [at]), ir.VectorType(sample, LANES).as_pointer()), _bytes(sample)


def _bytes(sample: Any) -> int:
    return 4 if str(sample) == "float" else int(sample.width) // 8


# --- the instructions ---------------------------------------------------------------------------------


@instruction("vector", "array", "i8")
def floats(samples, at):
    """Return the samples (u1, u2 or f4) from `at` on."""
    return samples[at : at + LANES].astype(np.float32)


@floats.as_llvm
def _floats(builder, samples, at):
    from llvmlite import ir

    place, size = _place(builder, samples, at)
    values = builder.load(place, align=size)
    return values if size == 4 else builder.uitofp(values, ir.VectorType(ir.FloatType(), LANES))


@instruction("vector", "f4")
def splat(value):
    """Return a vector of `value` alone."""
    return np.full(LANES, value, np.float32)


@splat.as_llvm
def _splat(builder, value):
    from llvmlite import ir

    number = ir.IntType(32)
    first = builder.insert_element(ir.Constant(ir.VectorType(ir.FloatType(), LANES), ir.Undefined), value, number(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(number, LANES), [0] * LANES))


@instruction("vector", "vector", "vector", "vector")
def add_product(total, weight, values):
    """Return ``total + weight·values``, rounded once where the processor can."""
    return total + weight * values


@add_product.as_llvm
def _add_product(builder, total, weight, values):
    return builder.fadd(total, builder.fmul(weight, values, flags=("contract",)), flags=("contract",))


@instruction("void", "array", "i8", "vector")
def store(out, at, values):
    """Store a vector in `out` (f4) from `at` on."""
    out[at : at + LANES] = values


@store.as_llvm
def _store(builder, out, at, values):
    place, size = _place(builder, out, at)
    builder.store(values, place, align=size)


@instruction("void", "array", "i8", "vector", "f4")
def store_rounded(out, at, values, top):
    """Store a vector in `out` (u1 or u2) from `at` on, rounded half up into 0…top; NaN becomes 0."""
    kept = np.where(values > 0, values, np.float32(0))
    out[at : at + LANES] = (np.minimum(kept, np.float32(top)) + np.float32(0.5)).astype(np.int32)


@store_rounded.as_llvm
def _store_rounded(builder, out, at, values, top):
    from llvmlite import ir

    place, size = _place(builder, out, at)
    zero, most = _constant(0.0), _splat(builder, top)
    kept = builder.select(builder.fcmp_ordered(">", values, zero), values, zero)
    kept = builder.select(builder.fcmp_ordered("<", kept, most), kept, most)
    whole = builder.fptosi(builder.fadd(kept, _constant(0.5)), ir.VectorType(ir.IntType(32), LANES))
    builder.store(builder.trunc(whole, place.type.pointee), place, align=size)


@instruction("vector", "vector")
def absolute(values):
    """Return a vector without its signs."""
    return np.abs(values)


@absolute.as_llvm
def _absolute(builder, values):
    from llvmlite import ir

    whole = ir.VectorType(ir.IntType(32), LANES)
    bits = builder.and_(builder.bitcast(values, whole), ir.Constant(whole, [0x7FFFFFFF] * LANES))
    return builder.bitcast(bits, values.type)


@instruction("i8", "vector", "f4")
def count_outside(values, top):
    """Return how many values would not round into 0…top."""
    return int(np.count_nonzero((values < np.float32(-0.5)) | (values >= np.float32(top) + np.float32(0.5))))


@count_outside.as_llvm
def _count_outside(builder, values, top):
    from llvmlite import ir

    limit = builder.fadd(_splat(builder, top), _constant(0.5))
    below = builder.fcmp_ordered("<", values, _constant(-0.5))
    outside = builder.or_(below, builder.fcmp_ordered(">=", values, limit))
    bits = builder.bitcast(outside, ir.IntType(LANES))
    return builder.zext(builder.ctpop(bits), ir.IntType(64))


@instruction("vector", "vector", "vector")
def plus(values, more):
    """Return the sum of two vectors."""
    return values + more


@plus.as_llvm
def _plus(builder, values, more):
    return builder.fadd(values, more)


@instruction("vector", "vector", "vector")
def minus(values, less):
    """Return the difference of two vectors."""
    return values - less


@minus.as_llvm
def _minus(builder, values, less):
    return builder.fsub(values, less)


@instruction("vector", "vector", "f4", "f4")
def within(values, low, high):
    """Return a vector kept in low…high; NaN stays."""
    kept = np.where(values < np.float32(low), np.float32(low), values)
    return np.where(kept > np.float32(high), np.float32(high), kept)


@within.as_llvm
def _within(builder, values, low, high):
    least, most = _splat(builder, low), _splat(builder, high)
    kept = builder.select(builder.fcmp_ordered("<", values, least), least, values)
    return builder.select(builder.fcmp_ordered(">", kept, most), most, kept)
