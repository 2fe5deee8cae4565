"""Vector instructions for running sums: prefix sums along a row, their differences, and integers of 32 bits.

A window's sum is the difference of two prefix sums. Prefix sums may wrap around modulo 2^16 or 2^32; their
differences are right all the same.
"""

from __future__ import annotations

import functools

import numpy as np

from cnnfilter.jit.instructions import (
    LANES,
    LANES_U16,
    Instruction,
    instruction,
    integer_constant,
    llvm_type,
    pointer_at,
    sample_bytes,
)

VECTOR_U32 = f"u4x{LANES}"
"""The kind of vectors of uint32."""


@instruction(VECTOR_U32, "array", "i8")
def load_bytes_u32(samples, at):
    """Return the samples (u1) from index `at` on, as uint32."""
    return samples[at : at + LANES].astype(np.uint32)


@load_bytes_u32.as_llvm
def _load_bytes_u32(builder, samples, at):
    return builder.zext(builder.load(pointer_at(builder, samples, at)[0], align=1), llvm_type(VECTOR_U32))


@instruction(VECTOR_U32, "array", "i8")
def load_u32(numbers, at):
    """Return the numbers (i4) from index `at` on."""
    return numbers[at : at + LANES].view(np.uint32).copy()


@load_u32.as_llvm
def _load_u32(builder, numbers, at):
    return builder.load(pointer_at(builder, numbers, at)[0], align=4)


@instruction("void", "array", "i8", VECTOR_U32)
def store_u32(numbers, at, values):
    """Store a vector in `numbers` (i4) from index `at` on."""
    numbers[at : at + LANES] = values.view(np.int32)


@store_u32.as_llvm
def _store_u32(builder, numbers, at, values):
    builder.store(values, pointer_at(builder, numbers, at)[0], align=4)


@instruction(VECTOR_U32, VECTOR_U32, VECTOR_U32)
def add_u32(total, values):
    """Return the sums, modulo 2^32."""
    return total + values


@add_u32.as_llvm
def _add_u32(builder, total, values):
    return builder.add(total, values)


@instruction(VECTOR_U32, VECTOR_U32, VECTOR_U32)
def subtract_u32(total, values):
    """Return the differences, modulo 2^32."""
    return total - values


@subtract_u32.as_llvm
def _subtract_u32(builder, total, values):
    return builder.sub(total, values)


@instruction(VECTOR_U32, "array", "i8", "i8")
def load_difference(sums, ahead, behind):
    """Return ``sums[ahead:] - sums[behind:]`` of u2 or i4; the differences of u2 must fit into an int16."""
    signed = f"i{sums.itemsize}"
    return (sums[ahead : ahead + LANES] - sums[behind : behind + LANES]).view(signed).astype(np.int32).view(np.uint32)


@load_difference.as_llvm
def _load_difference(builder, sums, ahead, behind):
    sample = sums.type.pointee
    first, second = (
        builder.load(pointer_at(builder, sums, at)[0], align=sample_bytes(sample)) for at in (ahead, behind)
    )
    difference = builder.sub(first, second)
    return difference if sample_bytes(sample) == 4 else builder.sext(difference, llvm_type(VECTOR_U32))


@instruction("vector", VECTOR_U32)
def floats_of_i32(values):
    """Return int32 as float32."""
    return values.view(np.int32).astype(np.float32)


@floats_of_i32.as_llvm
def _floats_of_i32(builder, values):
    return builder.sitofp(values, llvm_type("vector"))


@functools.cache
def running_sums(kind: str, channels: int) -> Instruction:
    """Return the instruction for the prefix sums of the pixels of a vector, VECTOR_U32 or VECTOR_U16.

    It takes the prefix sums of the vector before, of which it uses the last pixel, and as many pixels as fit into a
    vector. The lanes behind the last whole pixel have no meaning.
    """
    lanes = LANES if kind == VECTOR_U32 else LANES_U16
    pixels = lanes // channels
    last = [(pixels - 1) * channels + lane % channels for lane in range(lanes)]

    @instruction(kind, kind, kind)
    def sum_up(former, values):
        each = values[: pixels * channels].reshape(pixels, channels)
        sums = np.zeros(lanes, values.dtype)
        sums[: pixels * channels] = np.cumsum(each, axis=0, dtype=values.dtype).ravel()
        return sums + former[last]

    @sum_up.as_llvm
    def _sum_up(builder, former, values):
        from llvmlite import ir

        number, zeros = ir.IntType(32), integer_constant(values.type, 0)
        span = 1
        while span < pixels:
            # Add the pixel `span` before it to each pixel; an index of `lanes` takes a 0 from the second vector.
            index = [lane - span * channels if lane >= span * channels else lanes for lane in range(lanes)]
            shifted = builder.shuffle_vector(values, zeros, ir.Constant(ir.VectorType(number, lanes), index))
            values = builder.add(values, shifted)
            span *= 2
        carried = builder.shuffle_vector(former, former, ir.Constant(ir.VectorType(number, lanes), last))
        return builder.add(values, carried)

    return sum_up
