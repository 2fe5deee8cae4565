"""Instructions on vectors of floats."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from cnnfilter.jit.instructions import (
    LANES,
    VECTOR_U16,
    Instruction,
    broadcast,
    float_constant,
    instruction,
    llvm_type,
    pointer_at,
    store_first_lanes,
)


@instruction("vector", "array", "i8")
def load_floats(samples, at):
    """Return the samples (u1, u2 or f4) from `at` on."""
    return samples[at : at + LANES].astype(np.float32)


@load_floats.as_llvm
def _load_floats(builder, samples, at):
    from llvmlite import ir

    place, size = pointer_at(builder, samples, at)
    values = builder.load(place, align=size)
    return values if size == 4 else builder.uitofp(values, ir.VectorType(ir.FloatType(), LANES))


@instruction("vector", "f4")
def splat(value):
    """Return a vector of `value` alone."""
    return np.full(LANES, value, np.float32)


@splat.as_llvm
def _splat(builder, value):
    return broadcast(builder, value, llvm_type("vector"))


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
    place, size = pointer_at(builder, out, at)
    builder.store(values, place, align=size)


@instruction("void", "array", "i8", "vector", "f4")
def store_rounded(out, at, values, top):
    """Store a vector in `out` (u1 or u2) from `at` on, rounded half up into 0…top; NaN becomes 0."""
    kept = np.where(values > 0, values, np.float32(0))
    out[at : at + LANES] = (np.minimum(kept, np.float32(top)) + np.float32(0.5)).astype(np.int32)


@store_rounded.as_llvm
def _store_rounded(builder, out, at, values, top):

    place, size = pointer_at(builder, out, at)
    builder.store(_rounded(builder, values, top, place.type.pointee), place, align=size)


def _rounded(builder: Any, values: Any, top: Any, kind: Any) -> Any:
    from llvmlite import ir

    zero, most = float_constant(0.0), _splat(builder, top)
    kept = builder.select(builder.fcmp_ordered(">", values, zero), values, zero)
    kept = builder.select(builder.fcmp_ordered("<", kept, most), kept, most)
    whole = builder.fptosi(builder.fadd(kept, float_constant(0.5)), ir.VectorType(ir.IntType(32), LANES))
    return builder.trunc(whole, kind)


@instruction("void", "array", "i8", "vector", "i8")
def store_first(out, at, values, many):
    """Store the first `many` lanes of a vector in `out` (f4) from `at` on."""
    out[at : at + many] = values[:many]


@store_first.as_llvm
def _store_first(builder, out, at, values, many):
    store_first_lanes(builder, out, at, values, many)


@instruction("void", "array", "i8", "vector", "f4", "i8")
def store_first_rounded(out, at, values, top, many):
    """Store the first `many` lanes of a vector as `store_rounded` does."""
    whole = np.zeros(LANES, out.dtype)
    store_rounded(whole, 0, values, top)
    out[at : at + many] = whole[:many]


@store_first_rounded.as_llvm
def _store_first_rounded(builder, out, at, values, top, many):
    from llvmlite import ir

    store_first_lanes(builder, out, at, _rounded(builder, values, top, ir.VectorType(out.type.pointee, LANES)), many)


@instruction("vector", "vector")
def absolute_floats(values):
    """Return a vector without its signs."""
    return np.abs(values)


@absolute_floats.as_llvm
def _absolute_floats(builder, values):
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
    wanted = builder.icmp_signed("<", lanes, broadcast(builder, many, lanes.type))
    return builder.select(wanted, values, float_constant(0.0))


@instruction("i8", "vector", "f4", "i8")
def count_outside(values, top, seen):
    """Return how many values from lane `seen` on would not round into 0…top."""
    outside = (values < np.float32(-0.5)) | (values >= np.float32(top) + np.float32(0.5))
    return int(np.count_nonzero(outside[seen:]))


@count_outside.as_llvm
def _count_outside(builder, values, top, seen):
    from llvmlite import ir

    limit = builder.fadd(_splat(builder, top), float_constant(0.5))
    below = builder.fcmp_ordered("<", values, float_constant(-0.5))
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


@instruction("vector", "vector", "vector")
def larger_floats(best, value):
    """Return the larger ones: `best` of equal numbers (0 and −0), but `value` where that is NaN."""
    return np.where((value > best) | np.isnan(value), value, best)


@larger_floats.as_llvm
def _larger_floats(builder, best, value):
    # Two vector instructions, as a maximum that gives the second for NaN is one of the processor's.
    larger = builder.select(builder.fcmp_ordered(">", value, best), value, best)
    return builder.select(builder.fcmp_unordered("uno", value, value), value, larger)


@instruction("vector", "vector", "f4")
def divide(values, count):
    """Return the quotients."""
    return values / np.float32(count)


@divide.as_llvm
def _divide(builder, values, count):
    return builder.fdiv(values, _splat(builder, count))


def every_second(kind: str, channels: int, tap: int) -> Instruction:
    """Return the instruction that takes every second pixel of two vectors, from pixel `tap` on.

    The vectors are neighbours, but those of words hold the even and the odd samples. The last lanes of the result,
    where pixels do not fit, are the last one again.
    """
    lanes = LANES if kind == "vector" else int(kind[3:])
    places = (lane // channels * 2 * channels + lane % channels + tap * channels for lane in range(lanes))
    index = [min(place, 2 * lanes - 1) for place in places]
    if kind == VECTOR_U16:
        index = [place % 2 * lanes + place // 2 for place in index]

    @instruction(kind, kind, kind)
    def take(low, high):
        return np.concatenate((low, high))[index]

    @take.as_llvm
    def _take(builder, low, high):
        from llvmlite import ir

        return builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(ir.IntType(32), lanes), index))

    return take


@functools.cache
def later_lanes(many: int) -> Instruction:
    """Return the instruction that takes of two neighbouring vectors the lanes of one that begins `many` further on."""

    @instruction("vector", "vector", "vector")
    def take(low, high):
        return np.concatenate((low, high))[many : many + LANES]

    @take.as_llvm
    def _take(builder, low, high):
        from llvmlite import ir

        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(many, many + LANES)))
        return builder.shuffle_vector(low, high, lanes)

    return take


@instruction("void", "array", "i8")
def fetch(samples, at):
    """Have the processor fetch what lies at `at`, which will be wanted soon."""


@fetch.as_llvm
def _fetch(builder, samples, at):
    from llvmlite import ir

    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    to_read, everywhere, data = (number(value) for value in (0, 3, 1))
    builder.call(prefetch, [builder.bitcast(builder.gep(samples, [at]), byte), to_read, everywhere, data])
