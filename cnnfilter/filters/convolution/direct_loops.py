# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loops: direct and separable convolution, as sums of weighted samples in vectors.

A picture is rows of samples with interleaved channels. The samples of a tap lie at one fixed offset from the first
output, whatever the number of channels and the dilation. The sums of several vectors of outputs stay in registers until
they are stored. The last vectors of a row overlap those before them, so that nothing beyond the row is read; an output
has the same value in each vector that computes it. Only a row of fewer than `BLOCK_SAMPLES` outputs reads up to
`OVERREAD_SAMPLES` samples beyond its end.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnfilter.jit import float_vectors, integer_vectors
from cnnfilter.jit.instructions import LANES, LANES_U16, has_wide_registers, instructions_of
from cnnfilter.jit.loop import Loop, family, loop
from cnnfilter.jit.templates import define, put, unroll

TILE_ROWS = 4
"""Rows of output that a tile computes at once: each sample is loaded once for all of them."""
TILE_VECTORS = 2 if has_wide_registers() else 1
"""Vectors of each row of a tile: its sums fill 8 of the 32 registers of AVX-512, or 8 of the 16 of AVX2."""
PAIRED_TAP_DISTANCES: tuple[set[int], ...] = ({1}, {3}) if has_wide_registers() else ()
"""Distances of neighbouring taps, in samples, that have a loop for two taps at once: a dense row of grey and of RGB."""
TILE_SAMPLES = TILE_VECTORS * LANES
"""Samples of a row of a tile: the shortest row that the loops over tiles compute."""
BLOCK_SAMPLES = 4 * LANES
"""Samples of a block: four vectors, whose independent sums hide the latency of an addition."""
OVERREAD_SAMPLES = LANES_U16
"""Samples that may be read beyond the end of a row that is shorter than a block."""

_TEMPLATE_CONSTANTS = {
    "LANES": LANES,
    "LANES_U16": LANES_U16,
    "TILE_SAMPLES": TILE_SAMPLES,
    "BLOCK_SAMPLES": BLOCK_SAMPLES,
    "OVERREAD_SAMPLES": OVERREAD_SAMPLES,
}
"""The constants that the templates use."""

_FORMS = {
    False: (("u1", "f4"), ("u2", "f4"), ("f4", "f4")),
    True: (("u1", "u1"), ("u2", "u2")),
}
"""Types of samples and outputs: of loops that store the sums as float32, and of those that round them."""

_STORE_LINES = {
    False: "store(row{r}, first + x + LANES * {v}, t{r}_{v})",
    True: """
        if absolute:
            t{r}_{v} = absolute_floats(t{r}_{v})
        if COUNTED:
            clipped += count_outside(t{r}_{v}, top, min(max(block_start - x - LANES * {v}, 0), LANES))
        store_rounded(row{r}, first + x + LANES * {v}, t{r}_{v}, top)
        """,
}
_STORE_FIRST_LINES = {
    False: "store_first(row0, first + x, total, min(count - x, LANES))",
    True: """
        if absolute:
            total = absolute_floats(total)
        if y % count_every == 0:
            clipped += count_outside(first_lanes(total, count - x), top, 0)
        store_first_rounded(row0, first + x, total, top, min(count - x, LANES))
        """,
}


def _stored(text: str, rounds: bool, rows: int, counted: str) -> str:
    """Replace STORE and STORE_FIRST by the lines that store sums; `counted` says which rows are counted."""
    text = put(text, "STORE_FIRST", textwrap.dedent(_STORE_FIRST_LINES[rounds]).strip("\n"))
    lines = textwrap.dedent(_STORE_LINES[rounds]).replace("COUNTED", counted).strip("\n")
    vectors_in_row = TILE_VECTORS if rows == TILE_ROWS else BLOCK_SAMPLES // LANES
    parts = [lines.replace("{r}", str(r)).replace("{v}", str(v)) for r in range(rows) for v in range(vectors_in_row)]
    return put(text, "STORE", "\n".join(parts))


def _defined(text: str, name: str, **more: Any) -> Callable[..., Any]:
    made: Callable[..., Any] = define(
        text, name, __name__, np=np, **_TEMPLATE_CONSTANTS, **instructions_of(float_vectors, integer_vectors), **more
    )
    return made


def _made(text: str, name: str, rounds: bool, arguments: str, *constants: int, **more: Any) -> Loop:
    signatures = (f"i8({source}[::1], {arguments.replace('TARGET', target)})" for source, target in _FORMS[rounds])
    return loop(*signatures, constants=(int(rounds), TILE_VECTORS, *constants))(_defined(text, name, **more))


_TAPS_TEMPLATE = """
def taps(samples, starts, rows, offsets, weights, out, first, count, step, shift, absolute, top, count_every):
    clipped = 0
    tap_count = offsets.shape[0]
    for y in range(out.shape[0]):
        row0 = out[y]
        for x in range(0, count if count < BLOCK_SAMPLES else 0, LANES):
            total = splat(shift)
            for t in range(tap_count):
                at = starts[y * step + rows[t]] + offsets[t] + x
                total = add_product(total, splat(weights[t]), load_floats(samples, at))
            STORE_FIRST
        for block in range((count + BLOCK_SAMPLES - 1) // BLOCK_SAMPLES if count >= BLOCK_SAMPLES else 0):
            block_start = block * BLOCK_SAMPLES
            x = min(block_start, count - BLOCK_SAMPLES)
            t0_{v} = splat(shift)
            for t in range(tap_count):
                at = starts[y * step + rows[t]] + offsets[t] + x
                weight = splat(weights[t])
                t0_{v} = add_product(t0_{v}, weight, load_floats(samples, at + LANES * {v}))
            STORE
    return clipped
"""


@family((False,), (True,))
def taps(rounds: bool) -> Loop:
    """Return the loop for any taps.

    ``taps(samples (S,), starts (R,), rows (K,), offsets (K,), weights (K,), out (H, N), first, count, step, shift,
    absolute, top, count_every)`` stores in ``out[y, first + x]``, for `x` below `count`, the sum of `shift` and of
    ``weights[t] · samples[starts[y·step + rows[t]] + offsets[t] + x]`` over all taps `t`. Row `r` of the samples begins
    at ``starts[r]``.

    With `rounds`, the loop stores integers: the sum, or with `absolute` its absolute value, rounded half up and clipped
    to 0…top. It returns how many sums were clipped in the rows whose number is a multiple of `count_every`.
    """
    text = unroll(_stored(_TAPS_TEMPLATE, rounds, 1, "y % count_every == 0"), v=BLOCK_SAMPLES // LANES)
    return _made(text, "taps", rounds, "i8[::1], i8[::1], i8[::1], f4[::1], TARGET[:, ::1], i8, i8, i8, f4, i8, f4, i8")


# Clipped sums are counted in the first row of a tile, or in all rows but those that the tile before has counted.
_COUNTED_CONDITION = "y + {r} >= 4 * group if count_every == 1 else {r} == 0"

_TILE_TEMPLATE = """
def tile(samples, starts, weights, offsets, out, first, count, shift, absolute, top, count_every):
    height, width = weights.shape
    clipped = 0
    for group in range((out.shape[0] + 3) // 4):
        y = min(4 * group, out.shape[0] - 4)
        row{r} = out[y + {r}]
        for block in range((count + TILE_SAMPLES - 1) // TILE_SAMPLES):
            block_start = block * TILE_SAMPLES
            x = min(block_start, count - TILE_SAMPLES)
            t{r}_{v} = splat(shift)
            PASSES
            STORE
    return clipped
"""
_PASS_TEMPLATE = """
start = starts[y + LINE] + x
for j in range(width):
    at = start + offsets[j]
    s{v} = load_floats(samples, at + LANES * {v})
    w{r} = splat(weights[LINE - {r}, j])
    t{r}_{v} = add_product(t{r}_{v}, w{r}, s{v})
"""


@family((False,), (True,))
def tile(rounds: bool) -> Loop:
    """Return the loop for dense kernels of 3 rows or more, which computes four rows of the output at once.

    ``tile(samples (S,), starts (R,), weights (kH, kW), offsets (kW,), out (H, N), first, count, shift, absolute, top,
    count_every)`` is `taps` where tap (i, j) of output (y, x) is ``samples[starts[y + i] + offsets[j] + x]``. `out`
    needs 4 rows, and `count` must be at least `TILE_SAMPLES`. Clipped sums are counted in one row of four, or in all
    rows if `count_every` is 1.
    """
    text = put(_TILE_TEMPLATE, "PASSES", passes(_PASS_TEMPLATE))
    text = _stored(text, rounds, TILE_ROWS, _COUNTED_CONDITION)
    return _made(
        unroll(text, r=TILE_ROWS, v=TILE_VECTORS),
        "tile",
        rounds,
        "i8[::1], f4[:, ::1], i8[::1], TARGET[:, ::1], i8, i8, f4, i8, f4, i8",
    )


def passes(text: str) -> str:
    """Return the text of a loop over all rows of samples below the windows of four rows of output.

    `text` adds one row of samples, LINE rows below the first one, to the sums ``t{r}_{v}`` of output rows `r`. It is
    repeated for each row of samples, with those of the four rows `r` whose windows contain it.
    """

    def add(line: str, rows: range) -> str:
        return unroll(text.replace("LINE", line), r=rows, v=TILE_VECTORS)

    first = [add(str(line), range(line + 1)) for line in range(TILE_ROWS - 1)]
    middle = f"for i in range({TILE_ROWS - 1}, height):\n" + textwrap.indent(add("i", range(TILE_ROWS)), "    ")
    last = [add(f"(height + {line})", range(line + 1, TILE_ROWS)) for line in range(TILE_ROWS - 1)]
    return "\n".join([*first, middle, *last])


_INTEGERS_TEMPLATE = """
def integers(samples, starts, rows, offsets, weights, out, first, count, step, gain, shift, absolute, count_every):
    clipped = 0
    tap_count = offsets.shape[0]
    start = START
    rest = shift - np.float32(start)
    top = np.float32(255)
    for y in range(out.shape[0]):
        row = out[y]
        counted = y % count_every == 0
        for x in range(0, count if count < BLOCK_SAMPLES else 0, LANES_U16):
            sums = splat_u16(start)
            for t in range(tap_count):
                at = starts[y * step + rows[t]] + offsets[t] + x
                sums = add_u16(sums, multiply_u16(splat_u16(weights[t]), load_bytes_u16(samples, at)))
            for half in range(2 if count - x > LANES else 1):
                total = add_product(splat(rest), splat(gain), floats_of_i16(sums, half))
                left = max(min(count - x - LANES * half, LANES), 0)
                if absolute:
                    total = absolute_floats(total)
                if counted:
                    clipped += count_outside(first_lanes(total, left), top, 0)
                store_first_rounded(row, first + x + LANES * half, total, top, left)
        for block in range((count + BLOCK_SAMPLES - 1) // BLOCK_SAMPLES if count >= BLOCK_SAMPLES else 0):
            block_start = block * BLOCK_SAMPLES
            x = min(block_start, count - BLOCK_SAMPLES)
            t{v} = splat_u16(start)
            for t in range(tap_count):
                at = starts[y * step + rows[t]] + offsets[t] + x
                weight = splat_u16(weights[t])
                t{v} = add_u16(t{v}, multiply_u16(weight, load_bytes_u16(samples, at + LANES_U16 * {v})))
            STORE
    return clipped
"""
_STORE_INTEGERS_LINES = {
    False: """
        if absolute:
            t{v} = absolute_i16(t{v})
        if counted:
            clipped += count_clipped(t{v}, min(max(block_start - x - LANES_U16 * {v}, 0), LANES_U16))
        store_clipped(row, first + x + LANES_U16 * {v}, t{v})
        """,
    True: """
        value = add_product(splat(shift), splat(gain), floats_of_i16(t{v}, {h}))
        if absolute:
            value = absolute_floats(value)
        if counted:
            clipped += count_outside(value, top, min(max(block_start - x - LANES_U16 * {v} - LANES * {h}, 0), LANES))
        store_rounded(row, first + x + LANES_U16 * {v} + LANES * {h}, value, top)
        """,
}


@family((False,), (True,))
def integers(scaled: bool) -> Loop:
    """Return the loop that is `taps` for bytes and integer weights, with sums in 16 bits.

    ``integers(samples, starts, rows, offsets, weights, out, first, count, step, gain, shift, absolute, count_every)``
    stores ``sum·gain + shift``; all sums must fit into an int16. Without `scaled`, `gain` is 1 and `shift` an integer,
    and the sums plus `shift` must fit too.
    """
    lines = textwrap.dedent(_STORE_INTEGERS_LINES[scaled]).strip("\n")
    halves = [(v, h) for v in range(BLOCK_SAMPLES // LANES_U16) for h in range(2 if scaled else 1)]
    store = "\n".join(lines.replace("{v}", str(v)).replace("{h}", str(h)) for v, h in halves)
    text = put(_INTEGERS_TEMPLATE, "STORE", store).replace("START", "0" if scaled else "int(shift)")
    signature = "i8(u1[::1], i8[::1], i8[::1], i8[::1], i8[::1], u1[:, ::1], i8, i8, i8, f4, f4, i8, i8)"
    return loop(signature, constants=(int(scaled),))(_defined(unroll(text, v=BLOCK_SAMPLES // LANES_U16), "integers"))


_SEPARABLE_TEMPLATE = """
def separable(
    samples, starts, down, columns, across, rows, ends, lines,
    out, first, count, step, shift, absolute, top, count_every,
):
    clipped = 0
    line = lines[0]
    reach = line.shape[0] - OVERREAD_SAMPLES
    last = ends.shape[0] - 2
    for y in range(out.shape[0]):
        row0 = out[y]
        for term in range(last + 1):
            low, high, left, right = ends[term, 0], ends[term + 1, 0], ends[term, 1], ends[term + 1, 1]
            for x in range(0, reach if reach < BLOCK_SAMPLES else 0, LANES):
                total = splat(np.float32(0))
                for t in range(low, high):
                    total = add_product(total, splat(columns[t]), load_floats(samples, starts[y * step + down[t]] + x))
                store(line, x, total)
            for block in range((reach + BLOCK_SAMPLES - 1) // BLOCK_SAMPLES if reach >= BLOCK_SAMPLES else 0):
                x = min(block * BLOCK_SAMPLES, reach - BLOCK_SAMPLES)
                t0_{v} = splat(np.float32(0))
                for t in range(low, high):
                    at = starts[y * step + down[t]] + x
                    weight = splat(columns[t])
                    t0_{v} = add_product(t0_{v}, weight, load_floats(samples, at + LANES * {v}))
                store(line, x + LANES * {v}, t0_{v})
            previous, sums = lines[1 + term % 2], lines[2 - term % 2]
            for x in range(0, count if count < BLOCK_SAMPLES else 0, LANES):
                total = load_floats(previous, x) if term > 0 else splat(shift)
                for t in range(left, right):
                    total = add_product(total, splat(rows[t]), load_floats(line, x + across[t]))
                if term < last:
                    store(sums, x, total)
                else:
                    STORE_FIRST
            for block in range((count + BLOCK_SAMPLES - 1) // BLOCK_SAMPLES if count >= BLOCK_SAMPLES else 0):
                block_start = block * BLOCK_SAMPLES
                x = min(block_start, count - BLOCK_SAMPLES)
                t0_{v} = load_floats(previous, x + LANES * {v}) if term > 0 else splat(shift)
                for t in range(left, right):
                    at = x + across[t]
                    weight = splat(rows[t])
                    t0_{v} = add_product(t0_{v}, weight, load_floats(line, at + LANES * {v}))
                if term < last:
                    store(sums, x + LANES * {v}, t0_{v})
                else:
                    STORE
    return clipped
"""


@family((False,), (True,))
def separable(rounds: bool) -> Loop:
    """Return the loop for kernels of low rank: sums of separable terms, each a column times a row of weights.

    ``separable(samples (S,), starts (R,), down (K,), columns (K,), across (L,), rows (L,), ends (T + 1, 2), lines,
    out, first, count, step, shift, absolute, top, count_every)`` is `taps` for `T` terms. Term `t` has the taps from
    ``ends[t, 0]`` to ``ends[t + 1, 0]`` of the column: weights `columns`, each `down` rows below the first; and those
    from ``ends[t, 1]`` to ``ends[t + 1, 1]`` of the row: weights `rows`, at offsets `across`.

    `lines` (3, P) is scratch space for a line of column sums and two lines of outputs. P is the number of samples below
    the windows of `count` outputs, plus `OVERREAD_SAMPLES`.
    """
    text = unroll(_stored(_SEPARABLE_TEMPLATE, rounds, 1, "y % count_every == 0"), v=BLOCK_SAMPLES // LANES)
    arguments = "i8[::1], i8[::1], f4[::1], i8[::1], f4[::1], i8[:, ::1], f4[:, ::1], TARGET[:, ::1]"
    return _made(text, "separable", rounds, f"{arguments}, i8, i8, i8, f4, i8, f4, i8")


_SEPARABLE_TILE_TEMPLATE = """
def separable_tile(samples, starts, columns, across, rows, lines, out, first, count, shift, absolute, top, count_every):
    clipped = 0
    height = columns.shape[0]
    tap_count = across.shape[0]
    reach = lines.shape[1] - OVERREAD_SAMPLES
    for group in range((out.shape[0] + 3) // 4):
        y = min(4 * group, out.shape[0] - 4)
        for block in range((reach + TILE_SAMPLES - 1) // TILE_SAMPLES):
            x = min(block * TILE_SAMPLES, reach - TILE_SAMPLES)
            t{r}_{v} = splat(np.float32(0))
            PASSES
            store(lines[{r}], x + LANES * {v}, t{r}_{v})
        for r in range(4):
            line = lines[r]
            row0 = out[y + r]
            counted = y + r >= 4 * group if count_every == 1 else r == 0
            for block in range((count + BLOCK_SAMPLES - 1) // BLOCK_SAMPLES):
                block_start = block * BLOCK_SAMPLES
                x = min(block_start, count - BLOCK_SAMPLES)
                t0_{w} = splat(shift)
                for t in range(0, PAIRED, 2):
                    at = x + across[t]
                    s{u} = load_floats(line, at + LANES * {u})
                    weight, other = splat(rows[t]), splat(rows[t + 1])
                    ADD_TWO
                for t in range(PAIRED, tap_count):
                    at = x + across[t]
                    weight = splat(rows[t])
                    t0_{w} = add_product(t0_{w}, weight, load_floats(line, at + LANES * {w}))
                STORE
    return clipped
"""
_PASS_DOWN_TEMPLATE = """
at = starts[y + LINE] + x
s{v} = load_floats(samples, at + LANES * {v})
w{r} = splat(columns[LINE - {r}])
t{r}_{v} = add_product(t{r}_{v}, w{r}, s{v})
"""


# The sums across are limited by loads. Of each two taps, the samples of the second are made of those of the first.
_ADD_TWO_TEMPLATE = """
t0_{w} = add_product(t0_{w}, weight, s{w})
t0_{w} = add_product(t0_{w}, other, later_lanes(s{w}, s{w_1}))
"""


@family(*itertools.product((False, True), (0, 1, 3)))
def separable_tile(rounds: bool, spacing: int) -> Loop:
    """Return the loop for separable kernels of 3 rows or more, which computes four rows of the output at once.

    ``separable_tile(samples (S,), starts (R,), columns (kH,), across (L,), rows (L,), lines (4, P), out, first, count,
    shift, absolute, top, count_every)`` is `separable` for one term whose column has a tap in each row ``y + i``. `out`
    needs 4 rows, and `count` must be at least `BLOCK_SAMPLES`. Clipped sums are counted in one row of four, or in all
    rows if `count_every` is 1. If `spacing` is not 0, it is the distance of neighbouring offsets `across`. `lines` is
    scratch space, as wide as for `separable`.
    """
    vectors = BLOCK_SAMPLES // LANES
    lines = _ADD_TWO_TEMPLATE.strip("\n").splitlines()
    both = "\n".join(line.replace("{w_1}", str(w + 1)).replace("{w}", str(w)) for line in lines for w in range(vectors))
    text = put(_stored(_SEPARABLE_TILE_TEMPLATE, rounds, 1, "counted"), "PASSES", passes(_PASS_DOWN_TEMPLATE))
    text = put(text, "ADD_TWO", both if spacing else "pass").replace("PAIRED", "(tap_count & ~1)" if spacing else "0")
    text = unroll(text, r=TILE_ROWS, v=TILE_VECTORS, w=vectors, u=vectors + 1)
    arguments = "i8[::1], f4[::1], i8[::1], f4[::1], f4[:, ::1], TARGET[:, ::1], i8, i8, f4, i8, f4, i8"
    return _made(text, "separable_tile", rounds, arguments, spacing, later_lanes=float_vectors.later_lanes(spacing))
