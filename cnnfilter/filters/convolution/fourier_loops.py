# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loops: convolution of square tiles in the frequency domain, in float32.

The transform runs down the columns, on all columns at once, so that vectors lie along the rows; the other direction is
the same transform of the transposed tile. The forward transform decimates in frequency and leaves the frequencies in
the order of their reversed digits; the backward transform undoes it stage by stage, so that nothing has to be sorted.
Two real tiles are the real and the imaginary part of one complex tile; the kernel is real, so that the results do not
mix.

References
----------
Cooley & Tukey, "An algorithm for the machine calculation of complex Fourier series", 1965; Gentleman &
Sande, "Fast Fourier transforms: for fun and profit", 1966 (decimation in frequency).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfilter.jit.instructions import LANES, instruction, pointer_at
from cnnfilter.jit.loop import inline, loop

ROW_PADDING = 16
"""Samples between two rows of a tile: rows whose distance is a power of two would share a few sets of the cache."""


@inline
def _forward(re, im, cosines, sines):
    """Transform the columns of a tile (N, M) in place; the tables (N,) hold cos and −sin of 2πk/N."""
    size = re.shape[0]
    span = size // 4
    while span >= 1:
        step = size // (4 * span)
        for k in range(span):
            c1, s1 = cosines[k * step], sines[k * step]
            c2, s2 = cosines[2 * k * step], sines[2 * k * step]
            c3, s3 = cosines[3 * k * step], sines[3 * k * step]
            for base in range(k, size, 4 * span):
                r0, r1, r2, r3 = re[base], re[base + span], re[base + 2 * span], re[base + 3 * span]
                i0, i1, i2, i3 = im[base], im[base + span], im[base + 2 * span], im[base + 3 * span]
                for x in range(size):
                    ar, ai = r0[x] + r2[x], i0[x] + i2[x]
                    br, bi = r0[x] - r2[x], i0[x] - i2[x]
                    cr, ci = r1[x] + r3[x], i1[x] + i3[x]
                    dr, di = i1[x] - i3[x], r3[x] - r1[x]  # (r1 − r3)·(−i)
                    r0[x], i0[x] = ar + cr, ai + ci
                    er, ei = br + dr, bi + di
                    r1[x], i1[x] = er * c1 - ei * s1, er * s1 + ei * c1
                    er, ei = ar - cr, ai - ci
                    r2[x], i2[x] = er * c2 - ei * s2, er * s2 + ei * c2
                    er, ei = br - dr, bi - di
                    r3[x], i3[x] = er * c3 - ei * s3, er * s3 + ei * c3
        if span == 2:
            for base in range(0, size, 2):
                r0, r1, i0, i1 = re[base], re[base + 1], im[base], im[base + 1]
                for x in range(size):
                    ar, ai, br, bi = r0[x], i0[x], r1[x], i1[x]
                    r0[x], i0[x] = ar + br, ai + bi
                    r1[x], i1[x] = ar - br, ai - bi
        span //= 4


@inline
def _backward(re, im, cosines, sines):
    """Undo `_forward`, up to a factor of N."""
    size = re.shape[0]
    span = size
    while span >= 4:
        span //= 4
    if span == 2:
        for base in range(0, size, 2):
            r0, r1, i0, i1 = re[base], re[base + 1], im[base], im[base + 1]
            for x in range(size):
                ar, ai, br, bi = r0[x], i0[x], r1[x], i1[x]
                r0[x], i0[x] = ar + br, ai + bi
                r1[x], i1[x] = ar - br, ai - bi
    while 4 * span <= size:
        step = size // (4 * span)
        for k in range(span):
            c1, s1 = cosines[k * step], sines[k * step]
            c2, s2 = cosines[2 * k * step], sines[2 * k * step]
            c3, s3 = cosines[3 * k * step], sines[3 * k * step]
            for base in range(k, size, 4 * span):
                r0, r1, r2, r3 = re[base], re[base + span], re[base + 2 * span], re[base + 3 * span]
                i0, i1, i2, i3 = im[base], im[base + span], im[base + 2 * span], im[base + 3 * span]
                for x in range(size):
                    tr, ti = r1[x] * c1 + i1[x] * s1, i1[x] * c1 - r1[x] * s1
                    ur, ui = r2[x] * c2 + i2[x] * s2, i2[x] * c2 - r2[x] * s2
                    vr, vi = r3[x] * c3 + i3[x] * s3, i3[x] * c3 - r3[x] * s3
                    ar, ai = r0[x] + ur, i0[x] + ui
                    br, bi = r0[x] - ur, i0[x] - ui
                    cr, ci = tr + vr, ti + vi
                    dr, di = vi - ti, tr - vr  # (t − v)·i
                    r0[x], i0[x] = ar + cr, ai + ci
                    r1[x], i1[x] = br + dr, bi + di
                    r2[x], i2[x] = ar - cr, ai - ci
                    r3[x], i3[x] = br - dr, bi - di
        span *= 4


@instruction("void", "array", "i8", "i8", "i8")
def exchange_blocks(plane, y, x, line):
    """Exchange the block of LANES rows and columns from (y, x) on with the one from (x, y) on, both transposed."""
    upper = plane[y : y + LANES, x : x + LANES].copy()
    plane[y : y + LANES, x : x + LANES] = plane[x : x + LANES, y : y + LANES].T
    plane[x : x + LANES, y : y + LANES] = upper.T


@exchange_blocks.as_llvm
def _exchange_blocks(builder, plane, y, x, line):
    upper, lower = (builder.add(builder.mul(row, line), column) for row, column in ((y, x), (x, y)))
    blocks = [
        [builder.load(pointer_at(builder, plane, _below(builder, at, row, line))[0], align=4) for row in range(LANES)]
        for at in (upper, lower)
    ]
    for at, block in zip((lower, upper), blocks, strict=True):
        for row, values in enumerate(_transposed(builder, block)):
            builder.store(values, pointer_at(builder, plane, _below(builder, at, row, line))[0], align=4)


def _below(builder: Any, at: Any, rows: int, line: Any) -> Any:
    return builder.add(at, builder.mul(line, line.type(rows)))


def _transposed(builder: Any, block: list[Any]) -> list[Any]:
    """Transpose a block of LANES vectors by exchanging halves of pairs of vectors, then quarters, and so on."""
    from llvmlite import ir

    number, lanes = ir.IntType(32), range(LANES)
    span = LANES // 2
    while span:
        # The lanes of the second vector are numbered from LANES on.
        first = [lane if not lane & span else LANES + lane - span for lane in lanes]
        second = [lane + span if not lane & span else LANES + lane for lane in lanes]
        masks = [ir.Constant(ir.VectorType(number, LANES), mask) for mask in (first, second)]
        for row in lanes:
            if not row & span:
                pair = block[row], block[row + span]
                block[row], block[row + span] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        span //= 2
    return block


@inline
def _transpose(plane):
    """Exchange rows and columns of the square part of a plane (N, N + ROW_PADDING), block by block."""
    size, line = plane.shape
    for y in range(0, size, LANES):
        for x in range(0, y + 1, LANES):
            exchange_blocks(plane, y, x, line)


@inline
def _load(plane, samples, starts, first, step, rows, columns):
    """Copy `rows` rows of `columns` samples, which are `step` apart, into a plane; fill the rest with 0."""
    size = plane.shape[0]
    for y in range(size):
        row = plane[y]
        count = columns if y < rows else 0
        source = samples[starts[y] + first if count else 0 :]
        if step == 1:
            for x in range(count):
                row[x] = source[x]
        else:
            for x in range(count):
                row[x] = source[x * step]
        for x in range(count, size):
            row[x] = np.float32(0)


@inline
def _store(plane, out, first, step, down, across, columns):
    """Copy every `down`-th row and `across`-th column of a plane into `out`, `step` apart from `first` on."""
    for y in range(out.shape[0]):
        row = plane[y * down]
        target = out[y]
        for x in range(columns):
            target[first + x * step] = row[x * across]


@loop("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[::1])")
def transform(re, im, cosines, sines):
    """Transform a complex tile (N, N + ROW_PADDING) in place, down and across; the result is transposed."""
    _forward(re, im, cosines, sines)
    _transpose(re)
    _transpose(im)
    _forward(re, im, cosines, sines)


@loop("void(f4[:, :, ::1], f4[:, :, ::1], f4[:, ::1], f4[::1], i8[::1], i8[:, ::1], i8, i8, f4[:, ::1], i8, i8)")
def convolve_pair(planes, spectrum, tables, samples, starts, tiles, step, rows, out, down, across):
    """Correlate one or two tiles of `samples` with the kernel of a spectrum.

    `planes` (2, N, N + ROW_PADDING) is scratch space, `spectrum` of the same shape the transformed kernel, `tables`
    (2, N) cos and −sin. Row `r` of the samples begins at ``starts[r]``; a tile has `rows` rows, and its columns are
    `step` samples apart. A row of `tiles` is (left, columns, first, count): the index of the tile's first sample in a
    row and its number of columns, the index of its first result in the rows of `out` (H, N') and the number of results.
    """
    re, im, cosines, sines = planes[0], planes[1], tables[0], tables[1]
    _load(re, samples, starts, tiles[0, 0], step, rows, tiles[0, 1])
    last = tiles.shape[0] - 1  # a single tile is the imaginary part too
    _load(im, samples, starts, tiles[last, 0], step, rows, tiles[last, 1])
    _forward(re, im, cosines, sines)
    _transpose(re)
    _transpose(im)
    _forward(re, im, cosines, sines)
    for y in range(re.shape[0]):
        r, i, kr, ki = re[y], im[y], spectrum[0, y], spectrum[1, y]
        for x in range(re.shape[0]):
            vr, vi = r[x], i[x]
            r[x] = vr * kr[x] - vi * ki[x]
            i[x] = vr * ki[x] + vi * kr[x]
    _backward(re, im, cosines, sines)
    _transpose(re)
    _transpose(im)
    _backward(re, im, cosines, sines)
    _store(re, out, tiles[0, 2], step, down, across, tiles[0, 3])
    if last > 0:
        _store(im, out, tiles[1, 2], step, down, across, tiles[1, 3])
