"""Vector instructions on float32: load, store, multiply and add, round, compare, rearrange."""

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
    """Return the samples (u1, u2 or f4) from index `at` on, as float32."""
    return samples[at : at + LANES].astype(np.float32)


@load_floats.as_llvm
def _load_floats(builder, samples, at):
    from llvmlite import ir

    place, size = pointer_at(builder, samples, at)
    values = builder.load(place, align=size)
    return values if size == 4 else builder.uitofp(values, ir.VectorType(ir.FloatType(), LANES))


@instruction("vector", "f4")
def splat(value):
    """Return a vector with `value` in each lane."""
    return np.full(LANES, value, np.float32)


@splat.as_llvm
def _splat(builder, value):
    return broadcast(builder, value, llvm_type("vector"))


@instruction("vector", "vector", "vector", "vector")
def add_product(total, weight, values):
    """Return ``total + weight·values``, with a single rounding where the processor has fused multiply-add."""
    return total + weight * values


@add_product.as_llvm
def _add_product(builder, total, weight, values):
    return builder.fadd(total, builder.fmul(weight, values, flags=("contract",)), flags=("contract",))


@instruction("void", "array", "i8", "vector")
def store(out, at, values):
    """Store a vector in `out` (f4) from index `at` on."""
    out[at : at + LANES] = values


@store.as_llvm
def _store(builder, out, at, values):
    place, size = pointer_at(builder, out, at)
    builder.store(values, place, align=size)


@instruction("void", "array", "i8", "vector", "f4")
def store_rounded(out, at, values, top):
    """Store a vector in `out` (u1 or u2) from index `at` on, rounded half up and clipped to 0…top; NaN becomes 0."""
    positive = np.where(values > 0, values, np.float32(0))
    out[at : at + LANES] = (np.minimum(positive, np.float32(top)) + np.float32(0.5)).astype(np.int32)


@store_rounded.as_llvm
def _store_rounded(builder, out, at, values, top):
    place, size = pointer_at(builder, out, at)
    builder.store(_rounded(builder, values, top, place.type.pointee), place, align=size)


def _rounded(builder: Any, values: Any, top: Any, kind: Any) -> Any:
    """Return a vector rounded half up and clipped to 0…top, as integers of the LLVM type `kind`."""
    from llvmlite import ir

    zero, highest = float_constant(0.0), _splat(builder, top)
    clipped = builder.select(builder.fcmp_ordered(">", values, zero), values, zero)
    clipped = builder.select(builder.fcmp_ordered("<", clipped, highest), clipped, highest)
    rounded = builder.fptosi(builder.fadd(clipped, float_constant(0.5)), ir.VectorType(ir.IntType(32), LANES))
    return builder.trunc(rounded, kind)


@instruction("void", "array", "i8", "vector", "i8")
def store_first(out, at, values, count):
    """Store the first `count` lanes of a vector in `out` (f4) from index `at` on."""
    out[at : at + count] = values[:count]


@store_first.as_llvm
def _store_first(builder, out, at, values, count):
    store_first_lanes(builder, out, at, values, count)


@instruction("void", "array", "i8", "vector", "f4", "i8")
def store_first_rounded(out, at, values, top, count):
    """Store the first `count` lanes of a vector as `store_rounded` does."""
    rounded = np.zeros(LANES, out.dtype)
    store_rounded(rounded, 0, values, top)
    out[at : at + count] = rounded[:count]


@store_first_rounded.as_llvm
def _store_first_rounded(builder, out, at, values, top, count):
    from llvmlite import ir

    store_first_lanes(builder, out, at, _rounded(builder, values, top, ir.VectorType(out.type.pointee, LANES)), count)


@instruction("vector", "vector")
def absolute_floats(values):
    """Return the absolute values."""
    return np.abs(values)


@absolute_floats.as_llvm
def _absolute_floats(builder, values):
    from llvmlite import ir

    integers = ir.VectorType(ir.IntType(32), LANES)
    bits = builder.and_(builder.bitcast(values, integers), ir.Constant(integers, [0x7FFFFFFF] * LANES))
    return builder.bitcast(bits, values.type)


@instruction("vector", "vector", "i8")
def first_lanes(values, count):
    """Return a vector with 0 in all but its first `count` lanes."""
    return np.where(np.arange(LANES) < count, values, np.float32(0))


@first_lanes.as_llvm
def _first_lanes(builder, values, count):
    from llvmlite import ir

    number = ir.IntType(32)
    lanes = ir.Constant(ir.VectorType(number, LANES), list(range(LANES)))
    wanted = builder.icmp_signed("<", lanes, broadcast(builder, count, lanes.type))
    return builder.select(wanted, values, float_constant(0.0))


@instruction("i8", "vector", "f4", "i8")
def count_outside(values, top, start):
    """Count the values from lane `start` on that round to a number outside of 0…top."""
    outside = (values < np.float32(-0.5)) | (values >= np.float32(top) + np.float32(0.5))
    return int(np.count_nonzero(outside[start:]))


@count_outside.as_llvm
def _count_outside(builder, values, top, start):
    from llvmlite import ir

    limit = builder.fadd(_splat(builder, top), float_constant(0.5))
    below = builder.fcmp_ordered("<", values, float_constant(-0.5))
    outside = builder.or_(below, builder.fcmp_ordered(">=", values, limit))
    bits = builder.zext(builder.bitcast(outside, ir.IntType(LANES)), start.type)
    return builder.ctpop(builder.lshr(bits, start))


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
    """Return a vector clipped to low…high; NaN stays."""
    clipped = np.where(values < np.float32(low), np.float32(low), values)
    return np.where(clipped > np.float32(high), np.float32(high), clipped)


@within.as_llvm
def _within(builder, values, low, high):
    lowest, highest = _splat(builder, low), _splat(builder, high)
    clipped = builder.select(builder.fcmp_ordered("<", values, lowest), lowest, values)
    return builder.select(builder.fcmp_ordered(">", clipped, highest), highest, clipped)


@instruction("vector", "vector", "vector")
def larger_floats(best, value):
    """Return the larger of each two values: `best` of equal ones (0 and −0), and `value` where that is NaN."""
    return np.where((value > best) | np.isnan(value), value, best)


@larger_floats.as_llvm
def _larger_floats(builder, best, value):
    # This becomes two instructions: x86 has a maximum that returns its second operand if one is NaN.
    larger = builder.select(builder.fcmp_ordered(">", value, best), value, best)
    return builder.select(builder.fcmp_unordered("uno", value, value), value, larger)


@instruction("vector", "vector", "f4")
def divide(values, count):
    """Return the values divided by `count`."""
    return values / np.float32(count)


@divide.as_llvm
def _divide(builder, values, count):
    return builder.fdiv(values, _splat(builder, count))


def every_second(kind: str, channels: int, tap: int) -> Instruction:
    """Return the instruction that takes every second pixel of two vectors, from pixel `tap` on.

    The second vector follows the first in the row; but two vectors of uint16 hold the even and the odd samples. Where
    the pixels do not fill the result, its last lanes repeat the last sample.
    """
    lanes = LANES if kind == "vector" else int(kind[3:])
    sources = (lane // channels * 2 * channels + lane % channels + tap * channels for lane in range(lanes))
    index = [min(source, 2 * lanes - 1) for source in sources]
    if kind == VECTOR_U16:
        index = [source % 2 * lanes + source // 2 for source in index]

    @instruction(kind, kind, kind)
    def take(low, high):
        return np.concatenate((low, high))[index]

    @take.as_llvm
    def _take(builder, low, high):
        from llvmlite import ir

        return builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(ir.IntType(32), lanes), index))

    return take


@functools.cache
def later_lanes(offset: int) -> Instruction:
    """Return the instruction that takes the vector that begins `offset` lanes after the first of two neighbours."""

    @instruction("vector", "vector", "vector")
    def take(low, high):
        return np.concatenate((low, high))[offset : offset + LANES]

    @take.as_llvm
    def _take(builder, low, high):
        from llvmlite import ir

        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(offset, offset + LANES)))
        return builder.shuffle_vector(low, high, lanes)

    return take


@instruction("void", "array", "i8")
def prefetch(samples, at):
    """Prefetch the sample at index `at` into the cache."""


@prefetch.as_llvm
def _prefetch(builder, samples, at):
    from llvmlite import ir

    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    to_read, everywhere, data = (number(value) for value in (0, 3, 1))
    builder.call(prefetch, [builder.bitcast(builder.gep(samples, [at]), byte), to_read, everywhere, data])
