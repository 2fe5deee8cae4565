"""Vectors of 16 bits, for sums of bytes that are whole numbers.

The words themselves have no sign; whoever sums signed numbers in them reads what comes out as int16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfilter.loops.vectors import (
    LANES,
    OF_WORDS,
    WORDS,
    _llvm_type,
    _place,
    _splat_whole,
    instruction,
)


@instruction(OF_WORDS, "i8")
def splat_words(value):
    """Return a vector of the whole number `value` alone."""
    return np.full(WORDS, value, np.int64).astype(np.uint16)


@splat_words.as_llvm
def _splat_words(builder, value):
    return _splat_whole(builder, value, _llvm_type(OF_WORDS))


@instruction(OF_WORDS, "array", "i8")
def kept_words(sums, at):
    """Return the words (u2) from `at` on."""
    return sums[at : at + WORDS].copy()


@kept_words.as_llvm
def _kept_words(builder, sums, at):
    return builder.load(_place(builder, sums, at, WORDS)[0], align=2)


@instruction("void", "array", "i8", OF_WORDS)
def keep_words(sums, at, values):
    """Store words in `sums` (u2) from `at` on."""
    sums[at : at + WORDS] = values


@keep_words.as_llvm
def _keep_words(builder, sums, at, values):
    builder.store(values, _place(builder, sums, at, WORDS)[0], align=2)


@instruction(OF_WORDS, OF_WORDS, OF_WORDS)
def subtract_words(total, values):
    """Return the differences."""
    return total - values


@subtract_words.as_llvm
def _subtract_words(builder, total, values):
    return builder.sub(total, values)


@instruction("void", "array", "i8", OF_WORDS, "i8", "i8", "i8")
def store_divided(out, at, values, more, factor, shift):
    """Store the bytes ``(values + more)·factor >> 16 + shift`` in `out` (u1) from `at` on; all in 16 bits."""
    products = (values.astype(np.uint32) + np.uint32(more)) * np.uint32(factor)
    out[at : at + WORDS] = products >> np.uint32(16 + shift)


@store_divided.as_llvm
def _store_divided(builder, out, at, values, more, factor, shift):
    from llvmlite import ir

    word, wide = values.type, ir.VectorType(ir.IntType(32), WORDS)
    dividend = builder.add(values, _splat_whole(builder, more, word))
    product = builder.mul(builder.zext(dividend, wide), builder.zext(_splat_whole(builder, factor, word), wide))
    high = builder.trunc(builder.lshr(product, _whole_constant(wide, 16)), word)
    place = _place(builder, out, at, WORDS)[0]
    quotient = builder.lshr(high, _splat_whole(builder, shift, word))
    builder.store(builder.trunc(quotient, place.type.pointee), place, align=1)


@instruction(OF_WORDS, OF_WORDS, OF_WORDS)
def multiply_words(weight, values):
    """Return the products, of 16 bits."""
    return weight * values


@multiply_words.as_llvm
def _multiply_words(builder, weight, values):
    return builder.mul(weight, values)


@instruction(OF_WORDS, OF_WORDS)
def absolute_words(values):
    """Return signed words without their signs."""
    return np.abs(values.view(np.int16)).view(np.uint16)


@absolute_words.as_llvm
def _absolute_words(builder, values):
    zero = _whole_constant(values.type, 0)
    return builder.select(builder.icmp_signed("<", values, zero), builder.sub(zero, values), values)


@instruction("void", "array", "i8", OF_WORDS)
def store_clipped(out, at, values):
    """Store signed words in `out` (u1) from `at` on, kept in 0…255."""
    out[at : at + WORDS] = values.view(np.int16).clip(0, 255)


@store_clipped.as_llvm
def _store_clipped(builder, out, at, values):
    zero, most = _whole_constant(values.type, 0), _whole_constant(values.type, 255)
    kept = builder.select(builder.icmp_signed(">", values, zero), values, zero)
    kept = builder.select(builder.icmp_signed("<", kept, most), kept, most)
    place = _place(builder, out, at, WORDS)[0]
    builder.store(builder.trunc(kept, place.type.pointee), place, align=1)


@instruction("i8", OF_WORDS, "i8")
def count_clipped(values, seen):
    """Return how many signed words from lane `seen` on lie outside 0…255."""
    return int(np.count_nonzero(values[seen:] > 255))


@count_clipped.as_llvm
def _count_clipped(builder, values, seen):
    from llvmlite import ir

    outside = builder.icmp_unsigned(">", values, _whole_constant(values.type, 255))  # those below 0 too
    bits = builder.zext(builder.bitcast(outside, ir.IntType(WORDS)), seen.type)
    return builder.ctpop(builder.lshr(bits, seen))


@instruction("vector", OF_WORDS, "i8")
def floats_of_words(values, half):
    """Return the first (`half` 0) or the last (1) signed words as floats."""
    return values.view(np.int16)[half * LANES :][:LANES].astype(np.float32)


@floats_of_words.as_llvm
def _floats_of_words(builder, values, half):
    from llvmlite import ir

    number = ir.VectorType(ir.IntType(32), LANES)
    first, last = (
        builder.shuffle_vector(values, values, ir.Constant(number, list(range(start, start + LANES))))
        for start in (0, LANES)
    )
    chosen = builder.select(builder.icmp_signed("==", half, half.type(0)), first, last)
    return builder.sitofp(builder.sext(chosen, number), _llvm_type("vector"))


def _whole_constant(kind: Any, value: int) -> Any:
    from llvmlite import ir

    return ir.Constant(kind, [value] * kind.count)
