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


INSTRUCTIONS: list[Instruction] = []
"""All of them."""


class Instruction:
    """One operation on vectors that loops may call."""

    def __init__(self, function: Callable[..., Any], result: str, arguments: tuple[str, ...]) -> None:
        self.function = function
        self.result = result
        self.arguments = arguments
        self.emit: Callable[..., Any] = _nothing_to_emit
        functools.update_wrapper(self, function)
        INSTRUCTIONS.append(self)

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
    """Make an instruction of a function of numpy arrays.

    Its kinds are "array", "void", i8, f4, "vector" (of LANES float32) and vectors of others, such as "u1x64".
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
        """Some numbers of one kind."""

        def __init__(self) -> None:
            super().__init__(name=f"vector({kind})")

    @register_model(Vector)
    class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
        """A vector is one value of LLVM's."""

        def __init__(self, manager: Any, numba_type: Any) -> None:
            super().__init__(manager, numba_type, _llvm_type(kind))

    return Vector()


def _llvm_type(kind: str) -> Any:
    from llvmlite import ir

    sample, lanes = ("f4", LANES) if kind == "vector" else (kind[:2], int(kind[3:]))
    return ir.VectorType(ir.FloatType() if sample == "f4" else ir.IntType(8 * int(sample[1])), lanes)


def _constant(value: float) -> Any:
    from llvmlite import ir

    return ir.Constant(ir.VectorType(ir.FloatType(), LANES), [value] * LANES)


def _place(builder: Any, array: Any, at: Any, lanes: int = LANES) -> Any:
    """Return a pointer to the samples of `array` from `at` on, and the bytes of one."""
    from llvmlite import ir

    sample = array.type.pointee
    return builder.bitcast(builder.gep(array, [at]), ir.VectorType(sample, lanes).as_pointer()), _bytes(sample)


def _bytes(sample: Any) -> int:
    return 4 if str(sample) == "float" else int(sample.width) // 8


@functools.cache
def processor() -> str:
    """Return the processor's name and features as the system tells them."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read(16384).split("\n\n", 1)[0]
    except OSError:
        import platform

        return f"{platform.machine()} {platform.processor()}"
    wanted = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU ", "Features")
    return "\n".join(line for line in first.splitlines() if line.startswith(wanted))


def has_wide_registers() -> bool:
    """Return whether there are 32 registers that hold a whole vector each."""
    return "avx512f" in processor().split()


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
    first = builder.insert_element(ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined), value, number(0))
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

    place, size = _place(builder, out, at)
    builder.store(_rounded(builder, values, top, place.type.pointee), place, align=size)


def _rounded(builder: Any, values: Any, top: Any, kind: Any) -> Any:
    from llvmlite import ir

    zero, most = _constant(0.0), _splat(builder, top)
    kept = builder.select(builder.fcmp_ordered(">", values, zero), values, zero)
    kept = builder.select(builder.fcmp_ordered("<", kept, most), kept, most)
    whole = builder.fptosi(builder.fadd(kept, _constant(0.5)), ir.VectorType(ir.IntType(32), LANES))
    return builder.trunc(whole, kind)


@instruction("void", "array", "i8", "vector", "i8")
def store_some(out, at, values, many):
    """Store the first `many` lanes of a vector in `out` (f4) from `at` on."""
    out[at : at + many] = values[:many]


@store_some.as_llvm
def _store_some(builder, out, at, values, many):
    _copy_some(builder, out, at, values, many)


@instruction("void", "array", "i8", "vector", "f4", "i8")
def store_some_rounded(out, at, values, top, many):
    """Store the first `many` lanes of a vector as `store_rounded` does."""
    whole = np.zeros(LANES, out.dtype)
    store_rounded(whole, 0, values, top)
    out[at : at + many] = whole[:many]


@store_some_rounded.as_llvm
def _store_some_rounded(builder, out, at, values, top, many):
    from llvmlite import ir

    _copy_some(builder, out, at, _rounded(builder, values, top, ir.VectorType(out.type.pointee, LANES)), many)


def _copy_some(builder: Any, out: Any, at: Any, values: Any, many: Any) -> None:
    from llvmlite import ir
    from numba.core import cgutils

    kept = cgutils.alloca_once(builder, values.type)
    builder.store(values, kept)
    byte = ir.IntType(8).as_pointer()
    size = builder.mul(many, many.type(_bytes(out.type.pointee)))
    cgutils.raw_memcpy(builder, builder.bitcast(builder.gep(out, [at]), byte), builder.bitcast(kept, byte), size, 1)


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


@instruction("vector", "vector", "i8")
def first_lanes(values, many):
    """Return a vector with 0 in the lanes from `many` on."""
    return np.where(np.arange(LANES) < many, values, np.float32(0))


@first_lanes.as_llvm
def _first_lanes(builder, values, many):
    from llvmlite import ir

    number = ir.IntType(32)
    lanes = ir.Constant(ir.VectorType(number, LANES), list(range(LANES)))
    wanted = builder.icmp_signed("<", lanes, _splat(builder, builder.trunc(many, number)))
    return builder.select(wanted, values, _constant(0.0))


@instruction("i8", "vector", "f4", "i8")
def count_outside(values, top, seen):
    """Return how many values from lane `seen` on would not round into 0…top."""
    outside = (values < np.float32(-0.5)) | (values >= np.float32(top) + np.float32(0.5))
    return int(np.count_nonzero(outside[seen:]))


@count_outside.as_llvm
def _count_outside(builder, values, top, seen):
    from llvmlite import ir

    limit = builder.fadd(_splat(builder, top), _constant(0.5))
    below = builder.fcmp_ordered("<", values, _constant(-0.5))
    outside = builder.or_(below, builder.fcmp_ordered(">=", values, limit))
    bits = builder.zext(builder.bitcast(outside, ir.IntType(LANES)), seen.type)
    return builder.ctpop(builder.lshr(bits, seen))


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


# --- the instructions for pooling ---------------------------------------------------------------------

WORDS = 2 * LANES
"""Samples of a vector of uint16, as wide as LANES of float32."""
BYTES = 4 * LANES
"""Samples of a vector of uint8, as wide."""
OF_WORDS, OF_BYTES = f"u2x{WORDS}", f"u1x{BYTES}"


@instruction(OF_BYTES, "array", "i8")
def load_bytes(samples, at):
    """Return the samples (u1) from `at` on."""
    return samples[at : at + BYTES]


@load_bytes.as_llvm
def _load_bytes(builder, samples, at):
    return builder.load(_place(builder, samples, at, BYTES)[0], align=1)


@instruction(OF_WORDS, "array", "i8")
def load_words(samples, at):
    """Return the samples (u1) from `at` on as uint16."""
    return samples[at : at + WORDS].astype(np.uint16)


@load_words.as_llvm
def _load_words(builder, samples, at):
    return builder.zext(builder.load(_place(builder, samples, at, WORDS)[0], align=1), _llvm_type(OF_WORDS))


@instruction(OF_WORDS, "array", "i8")
def load_even(samples, at):
    """Return every second of the samples (u1) from `at` on as uint16."""
    return samples[at : at + BYTES : 2].astype(np.uint16)


@load_even.as_llvm
def _load_even(builder, samples, at):
    return builder.and_(_load_pairs(builder, samples, at), _word(255))


@instruction(OF_WORDS, "array", "i8")
def load_odd(samples, at):
    """Return the others of these samples."""
    return samples[at + 1 : at + BYTES : 2].astype(np.uint16)


@load_odd.as_llvm
def _load_odd(builder, samples, at):
    return builder.lshr(_load_pairs(builder, samples, at), _word(8))


def _load_pairs(builder: Any, samples: Any, at: Any) -> Any:
    """Return words of two neighbouring bytes, the first of them the low one, as processors with Numba have it."""
    place = _place(builder, samples, at, BYTES)[0]
    return builder.load(builder.bitcast(place, _llvm_type(OF_WORDS).as_pointer()), align=1)


def _word(value: int) -> Any:
    from llvmlite import ir

    return ir.Constant(_llvm_type(OF_WORDS), [value] * WORDS)


@instruction("void", "array", "i8", OF_BYTES)
def store_bytes(out, at, values):
    """Store a vector in `out` (u1) from `at` on."""
    out[at : at + BYTES] = values


@store_bytes.as_llvm
def _store_bytes(builder, out, at, values):
    builder.store(values, _place(builder, out, at, BYTES)[0], align=1)


@instruction(OF_BYTES, OF_BYTES, OF_BYTES)
def larger_bytes(best, value):
    """Return the larger ones."""
    return np.maximum(best, value)


@larger_bytes.as_llvm
def _larger_bytes(builder, best, value):
    return builder.select(builder.icmp_unsigned(">", value, best), value, best)


@instruction("vector", "vector", "vector")
def larger_floats(best, value):
    """Return the larger ones: `best` of equal numbers (0 and −0), but `value` where that is NaN."""
    return np.where((value > best) | np.isnan(value), value, best)


@larger_floats.as_llvm
def _larger_floats(builder, best, value):
    # Two vector instructions, as a maximum that gives the second for NaN is one of the processor's.
    larger = builder.select(builder.fcmp_ordered(">", value, best), value, best)
    return builder.select(builder.fcmp_unordered("uno", value, value), value, larger)


@instruction(OF_WORDS, OF_WORDS, OF_WORDS)
def add_words(total, value):
    """Return the sums, which must fit."""
    return total + value


@add_words.as_llvm
def _add_words(builder, total, value):
    return builder.add(total, value)


@instruction("vector", "vector", "f4")
def divide(values, count):
    """Return the quotients."""
    return values / np.float32(count)


@divide.as_llvm
def _divide(builder, values, count):
    return builder.fdiv(values, _splat(builder, count))


def mean_factor(count):
    """Return what `store_means` multiplies with: 65536/count, rounded up.

    That is too much by less than count/65536 for each 1 of the sum: too little to reach the next whole number where
    sum·count is below 65536, or where `count` is a power of 2.
    """
    return -(-65536 // count)


@instruction("void", "array", "i8", OF_WORDS, "i8")
def store_means(out, at, sums, count):
    """Store ``sums / count`` in `out` (u1), rounded half up; `count` is from 2 to 9, and each sum of as many bytes."""
    out[at : at + WORDS] = ((sums.astype(np.uint32) + np.uint32(count // 2)) * np.uint32(mean_factor(count))) >> 16


@store_means.as_llvm
def _store_means(builder, out, at, sums, count):
    from llvmlite import ir

    word, wide = sums.type, ir.VectorType(ir.IntType(32), WORDS)
    one, full = count.type(1), count.type(65535)
    half = _splat_whole(builder, builder.lshr(count, one), word)
    factor = _splat_whole(builder, builder.udiv(builder.add(full, count), count), word)
    product = builder.mul(builder.zext(builder.add(sums, half), wide), builder.zext(factor, wide))
    means = builder.trunc(builder.lshr(product, ir.Constant(wide, [16] * WORDS)), word)
    place = _place(builder, out, at, WORDS)[0]
    builder.store(builder.trunc(means, place.type.pointee), place, align=1)


def _splat_whole(builder: Any, value: Any, wanted: Any) -> Any:
    from llvmlite import ir

    number, sample = ir.IntType(32), wanted.element
    first = builder.insert_element(ir.Constant(wanted, ir.Undefined), builder.trunc(value, sample), number(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(number, wanted.count), [0] * wanted.count))


@instruction("void", "array", "i8", OF_WORDS, "f4")
def store_quotients(out, at, sums, count):
    """Store ``sums / count`` in `out` (f4)."""
    out[at : at + WORDS] = sums.astype(np.float32) / np.float32(count)


@store_quotients.as_llvm
def _store_quotients(builder, out, at, sums, count):
    from llvmlite import ir

    floats_type = ir.VectorType(ir.FloatType(), LANES)
    for first in (0, LANES):  # in halves, for which there is a splat
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(first, first + LANES)))
        half = builder.uitofp(builder.shuffle_vector(sums, sums, lanes), floats_type)
        place, size = _place(builder, out, builder.add(at, at.type(first)))
        builder.store(builder.fdiv(half, _splat(builder, count)), place, align=size)


def every_second(kind: str, channels: int, tap: int) -> Instruction:
    """Return the instruction that takes every second pixel of two vectors, from pixel `tap` on.

    The vectors are neighbours, but those of words hold the even and the odd samples. The last lanes of the result,
    where pixels do not fit, are the last one again.
    """
    lanes = LANES if kind == "vector" else int(kind[3:])
    places = (lane // channels * 2 * channels + lane % channels + tap * channels for lane in range(lanes))
    index = [min(place, 2 * lanes - 1) for place in places]
    if kind == OF_WORDS:
        index = [place % 2 * lanes + place // 2 for place in index]

    @instruction(kind, kind, kind)
    def take(low, high):
        return np.concatenate((low, high))[index]

    @take.as_llvm
    def _take(builder, low, high):
        from llvmlite import ir

        return builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(ir.IntType(32), lanes), index))

    return take
