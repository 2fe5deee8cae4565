# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loops: RGB to RGBX and back, because Pillow stores RGB pixels in four bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfilter.jit.instructions import instruction, pointer_at
from cnnfilter.jit.loop import loop

VECTOR_PIXELS = 16
"""Pixels that are copied at a time: with four bytes each they fill a vector."""
_LANES = range(4 * VECTOR_PIXELS)


@instruction("void", "array", "i8", "array", "i8")
def store_three(out, to, four, at):
    """Store the first three bytes of each of VECTOR_PIXELS pixels, four (u1) from `at` on, in `out` from `to` on."""
    out[to : to + 3 * VECTOR_PIXELS] = four[at : at + 4 * VECTOR_PIXELS].reshape(VECTOR_PIXELS, 4)[:, :3].ravel()


@store_three.as_llvm
def _store_three(builder, out, to, four, at):
    pixels = builder.load(pointer_at(builder, four, at, 4 * VECTOR_PIXELS)[0], align=1)
    three = _chosen(builder, pixels, pixels, [lane for lane in _LANES if lane % 4 != 3])
    builder.store(three, pointer_at(builder, out, to, 3 * VECTOR_PIXELS)[0], align=1)


@instruction("void", "array", "i8", "array", "i8")
def store_four(out, to, three, at):
    """Store VECTOR_PIXELS pixels, three (u1) from `at` on, with 255 behind each, in `out` from `to` on."""
    pixels = three[at : at + 3 * VECTOR_PIXELS].reshape(VECTOR_PIXELS, 3)
    out[to : to + 4 * VECTOR_PIXELS] = np.pad(pixels, ((0, 0), (0, 1)), constant_values=255).ravel()


@store_four.as_llvm
def _store_four(builder, out, to, three, at):
    from llvmlite import ir

    pixels = builder.load(pointer_at(builder, three, at, 3 * VECTOR_PIXELS)[0], align=1)
    full = ir.Constant(pixels.type, [255] * pixels.type.count)
    four = _chosen(
        builder, pixels, full, [3 * VECTOR_PIXELS if lane % 4 == 3 else lane // 4 * 3 + lane % 4 for lane in _LANES]
    )
    builder.store(four, pointer_at(builder, out, to, 4 * VECTOR_PIXELS)[0], align=1)


def _chosen(builder: Any, first: Any, second: Any, lanes: list[int]) -> Any:
    """Return a vector of lanes of two others; the lanes of the second are numbered on from those of the first."""
    from llvmlite import ir

    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


@loop("void(u1[::1], i8, i8)")
def drop_fourth(memory, first, end):
    """Move the first three bytes of pixels `first` to `end` together, in place; the pixels before are done already."""
    vector_end = end - (end - first) % VECTOR_PIXELS
    for x in range(first, vector_end, VECTOR_PIXELS):  # in this order, no pixel is overwritten before it is read
        store_three(memory, 3 * x, memory, 4 * x)
    for x in range(vector_end, end):
        memory[3 * x] = memory[4 * x]
        memory[3 * x + 1] = memory[4 * x + 1]
        memory[3 * x + 2] = memory[4 * x + 2]


@loop("void(u1[::1], u1[::1], i8)")
def add_fourth(three, four, count):
    """Copy `count` pixels of three bytes to pixels of four, whose last byte is 255."""
    vector_end = count - count % VECTOR_PIXELS
    for x in range(0, vector_end, VECTOR_PIXELS):
        store_four(four, 4 * x, three, 3 * x)
    for x in range(vector_end, count):
        four[4 * x] = three[3 * x]
        four[4 * x + 1] = three[3 * x + 1]
        four[4 * x + 2] = three[3 * x + 2]
        four[4 * x + 3] = 255
