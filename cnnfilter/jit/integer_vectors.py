"""Vector instructions on integers: bytes, and uint16 for sums of bytes.

Signed sums are kept in uint16 too, in two's complement: an instruction with ``i16`` in its name reads the lanes as
int16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfilter.jit.instructions import (
    LANES,
    LANES_U8,
    LANES_U16,
    VECTOR_U8,
    VECTOR_U16,
    broadcast,
    instruction,
    integer_constant,
    llvm_type,
    pointer_at,
    store_first_lanes,
)


@instruction(VECTOR_U8, "array", "i8")
def load_bytes(samples, at):
    """Return the samples (u1) from index `at` on."""
    return samples[at : at + LANES_U8]


@load_bytes.as_llvm
def _load_bytes(builder, samples, at):
    return builder.load(pointer_at(builder, samples, at, LANES_U8)[0], align=1)


@instruction(VECTOR_U16, "array", "i8")
def load_bytes_u16(samples, at):
    """Return the samples (u1) from index `at` on, as uint16."""
    return samples[at : at + LANES_U16].astype(np.uint16)


@load_bytes_u16.as_llvm
def _load_bytes_u16(builder, samples, at):
    return builder.zext(builder.load(pointer_at(builder, samples, at, LANES_U16)[0], align=1), llvm_type(VECTOR_U16))


@instruction(VECTOR_U16, "array", "i8")
def load_even(samples, at):
    """Return every second sample (u1) from index `at` on, as uint16."""
    return samples[at : at + LANES_U8 : 2].astype(np.uint16)


@load_even.as_llvm
def _load_even(builder, samples, at):
    return builder.and_(_load_pairs(builder, samples, at), integer_constant(llvm_type(VECTOR_U16), 255))


@instruction(VECTOR_U16, "array", "i8")
def load_odd(samples, at):
    """Return every second sample (u1) from index ``at + 1`` on, as uint16."""
    return samples[at + 1 : at + LANES_U8 : 2].astype(np.uint16)


@load_odd.as_llvm
def _load_odd(builder, samples, at):
    return builder.lshr(_load_pairs(builder, samples, at), integer_constant(llvm_type(VECTOR_U16), 8))


def _load_pairs(builder: Any, samples: Any, at: Any) -> Any:
    """Return pairs of neighbouring bytes as uint16; the first byte is the low one on all processors of Numba."""
    place = pointer_at(builder, samples, at, LANES_U8)[0]
    return builder.load(builder.bitcast(place, llvm_type(VECTOR_U16).as_pointer()), align=1)


@instruction("void", "array", "i8", VECTOR_U8)
def store_bytes(out, at, values):
    """Store a vector in `out` (u1) from index `at` on."""
    out[at : at + LANES_U8] = values


@store_bytes.as_llvm
def _store_bytes(builder, out, at, values):
    builder.store(values, pointer_at(builder, out, at, LANES_U8)[0], align=1)


@instruction(VECTOR_U8, VECTOR_U8, VECTOR_U8)
def larger_bytes(best, value):
    """Return the larger of each two bytes."""
    return np.maximum(best, value)


@larger_bytes.as_llvm
def _larger_bytes(builder, best, value):
    return builder.select(builder.icmp_unsigned(">", value, best), value, best)


@instruction(VECTOR_U16, VECTOR_U16, VECTOR_U16)
def add_u16(total, value):
    """Return the sums, modulo 2^16."""
    return total + value


@add_u16.as_llvm
def _add_u16(builder, total, value):
    return builder.add(total, value)


@instruction("void", "array", "i8", VECTOR_U16, "f4")
def store_quotients(out, at, sums, count):
    """Store ``sums / count`` in `out` (f4) from index `at` on."""
    out[at : at + LANES_U16] = sums.astype(np.float32) / np.float32(count)


@store_quotients.as_llvm
def _store_quotients(builder, out, at, sums, count):
    from llvmlite import ir

    floats_type = ir.VectorType(ir.FloatType(), LANES)
    for first in (0, LANES):  # LANES at a time, because a vector of float32 has no more
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(first, first + LANES)))
        half = builder.uitofp(builder.shuffle_vector(sums, sums, lanes), floats_type)
        place, size = pointer_at(builder, out, builder.add(at, at.type(first)))
        builder.store(builder.fdiv(half, broadcast(builder, count, floats_type)), place, align=size)


@instruction(VECTOR_U16, "i8")
def splat_u16(value):
    """Return a vector with the integer `value` in each lane."""
    return np.full(LANES_U16, value, np.int64).astype(np.uint16)


@splat_u16.as_llvm
def _splat_u16(builder, value):
    return broadcast(builder, value, llvm_type(VECTOR_U16))


@instruction(VECTOR_U16, "array", "i8")
def load_u16(sums, at):
    """Return the numbers (u2) from index `at` on."""
    return sums[at : at + LANES_U16].copy()


@load_u16.as_llvm
def _load_u16(builder, sums, at):
    return builder.load(pointer_at(builder, sums, at, LANES_U16)[0], align=2)


@instruction("void", "array", "i8", VECTOR_U16)
def store_u16(sums, at, values):
    """Store a vector in `sums` (u2) from index `at` on."""
    sums[at : at + LANES_U16] = values


@store_u16.as_llvm
def _store_u16(builder, sums, at, values):
    builder.store(values, pointer_at(builder, sums, at, LANES_U16)[0], align=2)


@instruction(VECTOR_U16, VECTOR_U16, VECTOR_U16)
def subtract_u16(total, values):
    """Return the differences, modulo 2^16."""
    return total - values


@subtract_u16.as_llvm
def _subtract_u16(builder, total, values):
    return builder.sub(total, values)


@instruction("void", "array", "i8", VECTOR_U16, "i8", "i8", "i8")
def store_divided(out, at, values, more, factor, shift):
    """Store the bytes ``(values + more)·factor >> 16 + shift`` in `out` (u1) from index `at` on.

    ``values + more``, `factor` and the result must fit into 16 bits; see `division`.
    """
    products = (values.astype(np.uint32) + np.uint32(more)) * np.uint32(factor)
    out[at : at + LANES_U16] = products >> np.uint32(16 + shift)


@store_divided.as_llvm
def _store_divided(builder, out, at, values, more, factor, shift):
    dividends = builder.add(values, broadcast(builder, more, values.type))
    place = pointer_at(builder, out, at, LANES_U16)[0]
    builder.store(builder.trunc(_quotients(builder, dividends, factor, shift), place.type.pointee), place, align=1)


@instruction("void", "array", "i8", VECTOR_U16, VECTOR_U16, "i8", "i8")
def store_pairs_divided(out, at, even, odd, factor, shift):
    """Store the bytes ``values·factor >> 16 + shift``, those of `even` and of `odd` in turn, from index `at` on."""
    for first, values in enumerate((even, odd)):
        out[at + first : at + LANES_U8 : 2] = values.astype(np.uint32) * np.uint32(factor) >> np.uint32(16 + shift)


@store_pairs_divided.as_llvm
def _store_pairs_divided(builder, out, at, even, odd, factor, shift):
    low, high = (_quotients(builder, values, factor, shift) for values in (even, odd))
    pairs = builder.or_(low, builder.shl(high, integer_constant(low.type, 8)))
    place = pointer_at(builder, out, at, LANES_U8)[0]
    builder.store(builder.bitcast(pairs, place.type.pointee), place, align=1)


def _quotients(builder: Any, dividends: Any, factor: Any, shift: Any) -> Any:
    """Return ``dividends·factor >> 16 + shift`` of vectors of uint16."""
    from llvmlite import ir

    narrow, wide = dividends.type, ir.VectorType(ir.IntType(32), LANES_U16)
    product = builder.mul(builder.zext(dividends, wide), builder.zext(broadcast(builder, factor, narrow), wide))
    high = builder.trunc(builder.lshr(product, integer_constant(wide, 16)), narrow)
    return builder.lshr(high, broadcast(builder, shift, narrow))


@instruction("void", "array", "i8", VECTOR_U16, "i8", "i8", "i8", "i8")
def store_first_divided(out, at, values, more, factor, shift, count):
    """Store the first `count` lanes as `store_divided` does."""
    quotients = np.zeros(LANES_U16, np.uint8)
    store_divided(quotients, 0, values, more, factor, shift)
    out[at : at + count] = quotients[:count]


@store_first_divided.as_llvm
def _store_first_divided(builder, out, at, values, more, factor, shift, count):
    dividends = builder.add(values, broadcast(builder, more, values.type))
    quotients = builder.trunc(_quotients(builder, dividends, factor, shift), llvm_type(f"u1x{LANES_U16}"))
    store_first_lanes(builder, out, at, quotients, count)


@instruction(VECTOR_U16, VECTOR_U16, VECTOR_U16)
def multiply_u16(weight, values):
    """Return the products, modulo 2^16."""
    return weight * values


@multiply_u16.as_llvm
def _multiply_u16(builder, weight, values):
    return builder.mul(weight, values)


@instruction(VECTOR_U16, VECTOR_U16)
def absolute_i16(values):
    """Return the absolute values of int16."""
    return np.abs(values.view(np.int16)).view(np.uint16)


@absolute_i16.as_llvm
def _absolute_i16(builder, values):
    zero = integer_constant(values.type, 0)
    return builder.select(builder.icmp_signed("<", values, zero), builder.sub(zero, values), values)


@instruction("void", "array", "i8", VECTOR_U16)
def store_clipped(out, at, values):
    """Store int16 in `out` (u1) from index `at` on, clipped to 0…255."""
    out[at : at + LANES_U16] = values.view(np.int16).clip(0, 255)


@store_clipped.as_llvm
def _store_clipped(builder, out, at, values):
    zero, highest = integer_constant(values.type, 0), integer_constant(values.type, 255)
    clipped = builder.select(builder.icmp_signed(">", values, zero), values, zero)
    clipped = builder.select(builder.icmp_signed("<", clipped, highest), clipped, highest)
    place = pointer_at(builder, out, at, LANES_U16)[0]
    builder.store(builder.trunc(clipped, place.type.pointee), place, align=1)


@instruction("i8", VECTOR_U16, "i8")
def count_clipped(values, start):
    """Count the int16 from lane `start` on that lie outside of 0…255."""
    return int(np.count_nonzero(values[start:] > 255))


@count_clipped.as_llvm
def _count_clipped(builder, values, start):
    from llvmlite import ir

    outside = builder.icmp_unsigned(
        ">", values, integer_constant(values.type, 255)
    )  # as unsigned numbers, those below 0 are large
    bits = builder.zext(builder.bitcast(outside, ir.IntType(LANES_U16)), start.type)
    return builder.ctpop(builder.lshr(bits, start))


@instruction("vector", VECTOR_U16, "i8")
def floats_of_i16(values, half):
    """Return the first half (`half` is 0) or the second half (1) of int16 lanes as float32."""
    return values.view(np.int16)[half * LANES :][:LANES].astype(np.float32)


@floats_of_i16.as_llvm
def _floats_of_i16(builder, values, half):
    from llvmlite import ir

    number = ir.VectorType(ir.IntType(32), LANES)
    first, last = (
        builder.shuffle_vector(values, values, ir.Constant(number, list(range(start, start + LANES))))
        for start in (0, LANES)
    )
    chosen = builder.select(builder.icmp_signed("==", half, half.type(0)), first, last)
    return builder.sitofp(builder.sext(chosen, number), llvm_type("vector"))


_UINT16_MAX = 65535


def division(count: int) -> tuple[int, int, int] | None:
    """Return (more, factor, shift) with which `store_divided` gives every mean of `count` bytes, rounded half up.

    The quotient is ``(sum + more)·factor >> 16 + shift``. Returns None if no such numbers fit into 16 bits.

    References
    ----------
    Granlund & Montgomery, "Division by invariant integers using multiplication", 1994, section 4.
    """
    shift = max((count - 1).bit_length() - 1, 0)
    factor = -(-(1 << 16 + shift) // count)
    largest = 255 * count + count // 2
    # The factor is rounded up, which adds error / (2^(16 + shift)·count) to a quotient: it must be below 1 / count.
    error = largest * (factor * count - (1 << 16 + shift))
    fits = largest <= _UINT16_MAX and factor <= _UINT16_MAX and error < 1 << 16 + shift
    return (count // 2, factor, shift) if fits else None
