# mypy: allow-untyped-defs, allow-incomplete-defs
"""The loops that sum weighted samples, in vectors: any kernel, dense ones, separable ones, and whole numbers.

They see rows of numbers, channels interleaved, so a tap is one offset from the place of its output, for any number of
channels and any dilation. The sums of some neighbouring outputs stay in registers until they are stored. The last
vectors of a row overlap those before: nothing beyond the row is read, and an output's value is the same from
whichever vector it comes. Only for outputs of fewer than `BLOCK_SAMPLES` samples, up to `OVERREAD_SAMPLES` more are
read than are wanted.
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
"""Rows of output that a dense kernel gives at once: each sample is loaded once for all of them."""
TILE_VECTORS = 2 if has_wide_registers() else 1
"""Neighbouring vectors of each of these rows: so half of the registers, or less, hold sums."""
TILE_SAMPLES = TILE_VECTORS * LANES
"""Samples of a row that a dense kernel takes at the least."""
BLOCK_SAMPLES = 4 * LANES
"""Samples of a row from which on taps are added in vectors: four sums at once hide how long an addition takes."""
OVERREAD_SAMPLES = LANES_U16
"""Samples that may be read beyond a shorter row."""

_SIZES = {
    "LANES": LANES,
    "LANES_U16": LANES_U16,
    "TILE_SAMPLES": TILE_SAMPLES,
    "BLOCK_SAMPLES": BLOCK_SAMPLES,
    "OVERREAD_SAMPLES": OVERREAD_SAMPLES,
}
"""The constants that the texts below name."""

_FORMS = {
    False: (("u1", "f4"), ("u2", "f4"), ("f4", "f4")),
    True: (("u1", "u1"), ("u2", "u2")),
}
"""The samples and the outputs of the loops that store sums, and of those that round them."""

_STORE = {
    False: "store(row{r}, first + x + LANES * {v}, t{r}_{v})",
    True: """
        if fold:
            t{r}_{v} = absolute_floats(t{r}_{v})
        if COUNTED:
            clipped += count_outside(t{r}_{v}, top, min(max(before - x - LANES * {v}, 0), LANES))
        store_rounded(row{r}, first + x + LANES * {v}, t{r}_{v}, top)
        """,
}
_STORE_SOME = {
    False: "store_first(row0, first + x, some, min(count - x, LANES))",
    True: """
        if fold:
            some = absolute_floats(some)
        if y % every == 0:
            clipped += count_outside(first_lanes(some, count - x), top, 0)
        store_first_rounded(row0, first + x, some, top, min(count - x, LANES))
        """,
}


def _stored(text: str, rounds: bool, rows: int, counted: str) -> str:
    """Put what becomes of the sums in the places of STORE and STORE_SOME."""
    text = put(text, "STORE_SOME", textwrap.dedent(_STORE_SOME[rounds]).strip("\n"))
    lines = textwrap.dedent(_STORE[rounds]).replace("COUNTED", counted).strip("\n")
    vectors_in_row = TILE_VECTORS if rows == TILE_ROWS else BLOCK_SAMPLES // LANES
    every = [lines.replace("{r}", str(r)).replace("{v}", str(v)) for r in range(rows) for v in range(vectors_in_row)]
    return put(text, "STORE", "\n".join(every))


def _defined(text: str, name: str, **more: Any) -> Callable[..., Any]:
    made: Callable[..., Any] = define(
        text, name, __name__, np=np, **_SIZES, **instructions_of(float_vectors, integer_vectors), **more
    )
    return made


def _made(text: str, name: str, rounds: bool, arguments: str, *constants: int, **more: Any) -> Loop:
    signatures = (f"i8({source}[::1], {arguments.replace('TARGET', target)})" for source, target in _FORMS[rounds])
    return loop(*signatures, constants=(int(rounds), TILE_VECTORS, *constants))(_defined(text, name, **more))


_TAPS = """
def taps(samples, starts, rows, offsets, weights, out, first, count, step, shift, fold, top, every):
    clipped = 0
    many = offsets.shape[0]
    for y in range(out.shape[0]):
        row0 = out[y]
        for x in range(0, count if count < BLOCK_SAMPLES else 0, LANES):
            some = splat(shift)
            for t in range(many):
                place = starts[y * step + rows[t]] + offsets[t] + x
                some = add_product(some, splat(weights[t]), load_floats(samples, place))
            STORE_SOME
        for block in range((count + BLOCK_SAMPLES - 1) // BLOCK_SAMPLES if count >= BLOCK_SAMPLES else 0):
            before = block * BLOCK_SAMPLES
            x = min(before, count - BLOCK_SAMPLES)
            t0_{v} = splat(shift)
            for t in range(many):
                place = starts[y * step + rows[t]] + offsets[t] + x
                weight = splat(weights[t])
                t0_{v} = add_product(t0_{v}, weight, load_floats(samples, place + LANES * {v}))
            STORE
    return clipped
"""


@family((False,), (True,))
def taps(rounds: bool) -> Loop:
    """Return the loop that sums any taps.

    ``taps(samples (S,), starts (R,), rows (K,), offsets (K,), weights (K,), out (H, N), first, count, step, shift,
    fold, top, every)`` stores `shift` and `weights` times the samples at ``starts[y·step + rows] + offsets + x`` in
    ``out[y, first + x]`` for `x` below `count`: row `r` of what the window slides on begins at ``starts[r]``.
    The loop that `rounds` stores whole numbers, half up, from 0 to `top`, with `fold` of the absolute value; it
    returns how many sums lay outside, in the rows whose number `every` divides.
    """
    text = unroll(_stored(_TAPS, rounds, 1, "y % every == 0"), v=BLOCK_SAMPLES // LANES)
    return _made(text, "taps", rounds, "i8[::1], i8[::1], i8[::1], f4[::1], TARGET[:, ::1], i8, i8, i8, f4, i8, f4, i8")


# Of four rows the first is counted; where all are, those that the group before has counted are not.
_COUNTED = "y + {r} >= 4 * group if every == 1 else {r} == 0"

_TILE = """
def tile(samples, starts, weights, offsets, out, first, count, shift, fold, top, every):
    height, width = weights.shape
    clipped = 0
    for group in range((out.shape[0] + 3) // 4):
        y = min(4 * group, out.shape[0] - 4)
        row{r} = out[y + {r}]
        for block in range((count + TILE_SAMPLES - 1) // TILE_SAMPLES):
            before = block * TILE_SAMPLES
            x = min(before, count - TILE_SAMPLES)
            t{r}_{v} = splat(shift)
            PASSES
            STORE
    return clipped
"""
_PASS = """
at = starts[y + LINE] + x
for j in range(width):
    place = at + offsets[j]
    s{v} = load_floats(samples, place + LANES * {v})
    w{r} = splat(weights[LINE - {r}, j])
    t{r}_{v} = add_product(t{r}_{v}, w{r}, s{v})
"""


@family((False,), (True,))
def tile(rounds: bool) -> Loop:
    """Return the loop for dense kernels of 3 rows or more, four rows of the output at once.

    ``tile(samples (S,), starts (R,), weights (kH, kW), offsets (kW,), out (H, N), first, count, shift, fold, top,
    every)`` is `taps` for row `i` of the kernel on row ``y + i``, and its column `j` ``offsets[j]`` further. `out` has
    four rows or more, `count` is `TILE_SAMPLES` or more. Of four rows one is counted, unless `every` is 1.
    """
    text = put(_TILE, "PASSES", passes(_PASS))
    text = _stored(text, rounds, TILE_ROWS, _COUNTED)
    return _made(
        unroll(text, r=TILE_ROWS, v=TILE_VECTORS),
        "tile",
        rounds,
        "i8[::1], f4[:, ::1], i8[::1], TARGET[:, ::1], i8, i8, f4, i8, f4, i8",
    )


def passes(text: str) -> str:
    """Return a loop over the rows of samples that four rows of output see: each is added to those that see it.

    `text` is how the row that is LINE rows below the first one is added to the sums ``t{r}_{v}`` of rows `r`.
    """

    def add(line: str, rows: range) -> str:
        return unroll(text.replace("LINE", line), r=rows, v=TILE_VECTORS)

    first = [add(str(line), range(line + 1)) for line in range(TILE_ROWS - 1)]
    middle = f"for i in range({TILE_ROWS - 1}, height):\n" + textwrap.indent(add("i", range(TILE_ROWS)), "    ")
    last = [add(f"(height + {line})", range(line + 1, TILE_ROWS)) for line in range(TILE_ROWS - 1)]
    return "\n".join([*first, middle, *last])


_INTEGERS = """
def integers(samples, starts, rows, offsets, weights, out, first, count, step, gain, shift, fold, every):
    clipped = 0
    many = offsets.shape[0]
    start = START
    rest = shift - np.float32(start)
    top = np.float32(255)
    for y in range(out.shape[0]):
        row = out[y]
        counts = y % every == 0
        for x in range(0, count if count < BLOCK_SAMPLES else 0, LANES_U16):
            total = splat_u16(start)
            for t in range(many):
                place = starts[y * step + rows[t]] + offsets[t] + x
                total = add_u16(total, multiply_u16(splat_u16(weights[t]), load_bytes_u16(samples, place)))
            for half in range(2 if count - x > LANES else 1):
                some = add_product(splat(rest), splat(gain), floats_of_i16(total, half))
                left = max(min(count - x - LANES * half, LANES), 0)
                if fold:
                    some = absolute_floats(some)
                if counts:
                    clipped += count_outside(first_lanes(some, left), top, 0)
                store_first_rounded(row, first + x + LANES * half, some, top, left)
        for block in range((count + BLOCK_SAMPLES - 1) // BLOCK_SAMPLES if count >= BLOCK_SAMPLES else 0):
            before = block * BLOCK_SAMPLES
            x = min(before, count - BLOCK_SAMPLES)
            t{v} = splat_u16(start)
            for t in range(many):
                place = starts[y * step + rows[t]] + offsets[t] + x
                weight = splat_u16(weights[t])
                t{v} = add_u16(t{v}, multiply_u16(weight, load_bytes_u16(samples, place + LANES_U16 * {v})))
            STORE
    return clipped
"""
_STORE_INTEGERS = {
    False: """
        if fold:
            t{v} = absolute_i16(t{v})
        if counts:
            clipped += count_clipped(t{v}, min(max(before - x - LANES_U16 * {v}, 0), LANES_U16))
        store_clipped(row, first + x + LANES_U16 * {v}, t{v})
        """,
    True: """
        value = add_product(splat(shift), splat(gain), floats_of_i16(t{v}, {h}))
        if fold:
            value = absolute_floats(value)
        if counts:
            clipped += count_outside(value, top, min(max(before - x - LANES_U16 * {v} - LANES * {h}, 0), LANES))
        store_rounded(row, first + x + LANES_U16 * {v} + LANES * {h}, value, top)
        """,
}


@family((False,), (True,))
def integers(scaled: bool) -> Loop:
    """Return the loop that is `taps` for bytes and weights that are whole numbers, in 16 bits.

    ``integers(samples, starts, rows, offsets, weights, out, first, count, step, gain, shift, fold, every)`` stores
    ``sum·gain + shift``; all sums must fit into an int16. Without `scaled`, `gain` is 1 and `shift` a whole number, and
    the sums with it must fit too.
    """
    lines = textwrap.dedent(_STORE_INTEGERS[scaled]).strip("\n")
    places = [(v, h) for v in range(BLOCK_SAMPLES // LANES_U16) for h in range(2 if scaled else 1)]
    store = "\n".join(lines.replace("{v}", str(v)).replace("{h}", str(h)) for v, h in places)
    text = put(_INTEGERS, "STORE", store).replace("START", "0" if scaled else "int(shift)")
    signature = "i8(u1[::1], i8[::1], i8[::1], i8[::1], i8[::1], u1[:, ::1], i8, i8, i8, f4, f4, i8, i8)"
    return loop(signature, constants=(int(scaled),))(_defined(unroll(text, v=BLOCK_SAMPLES // LANES_U16), "integers"))


_SEPARABLE = """
def separable(
    samples, starts, down, columns, across, rows, ends, lines, out, first, count, step, shift, fold, top, every
):
    clipped = 0
    between = lines[0]
    reached = between.shape[0] - OVERREAD_SAMPLES
    last = ends.shape[0] - 2
    for y in range(out.shape[0]):
        row0 = out[y]
        for term in range(last + 1):
            low, high, left, right = ends[term, 0], ends[term + 1, 0], ends[term, 1], ends[term + 1, 1]
            for x in range(0, reached if reached < BLOCK_SAMPLES else 0, LANES):
                some = splat(np.float32(0))
                for t in range(low, high):
                    some = add_product(some, splat(columns[t]), load_floats(samples, starts[y * step + down[t]] + x))
                store(between, x, some)
            for block in range((reached + BLOCK_SAMPLES - 1) // BLOCK_SAMPLES if reached >= BLOCK_SAMPLES else 0):
                x = min(block * BLOCK_SAMPLES, reached - BLOCK_SAMPLES)
                t0_{v} = splat(np.float32(0))
                for t in range(low, high):
                    place = starts[y * step + down[t]] + x
                    weight = splat(columns[t])
                    t0_{v} = add_product(t0_{v}, weight, load_floats(samples, place + LANES * {v}))
                store(between, x + LANES * {v}, t0_{v})
            former, sums = lines[1 + term % 2], lines[2 - term % 2]
            for x in range(0, count if count < BLOCK_SAMPLES else 0, LANES):
                some = load_floats(former, x) if term > 0 else splat(shift)
                for t in range(left, right):
                    some = add_product(some, splat(rows[t]), load_floats(between, x + across[t]))
                if term < last:
                    store(sums, x, some)
                else:
                    STORE_SOME
            for block in range((count + BLOCK_SAMPLES - 1) // BLOCK_SAMPLES if count >= BLOCK_SAMPLES else 0):
                before = block * BLOCK_SAMPLES
                x = min(before, count - BLOCK_SAMPLES)
                t0_{v} = load_floats(former, x + LANES * {v}) if term > 0 else splat(shift)
                for t in range(left, right):
                    place = x + across[t]
                    weight = splat(rows[t])
                    t0_{v} = add_product(t0_{v}, weight, load_floats(between, place + LANES * {v}))
                if term < last:
                    store(sums, x + LANES * {v}, t0_{v})
                else:
                    STORE
    return clipped
"""


@family((False,), (True,))
def separable(rounds: bool) -> Loop:
    """Return the loop for kernels of low rank: for each term a column of weights down, then a row across.

    ``separable(samples (S,), starts (R,), down (K,), columns (K,), across (L,), rows (L,), ends (T + 1, 2), lines,
    out, first, count, step, shift, fold, top, every)`` is `taps` for the sum of `T` products: term `t` takes the taps
    from ``ends[t]`` to ``ends[t + 1]`` of `columns`, `down` so many rows, and of `rows`, `across` so far.
    `lines` (3, P) takes a row of sums as wide as the taps of N outputs reach, and twice one of outputs; it is
    `OVERREAD_SAMPLES` wider.
    """
    text = unroll(_stored(_SEPARABLE, rounds, 1, "y % every == 0"), v=BLOCK_SAMPLES // LANES)
    arguments = "i8[::1], i8[::1], f4[::1], i8[::1], f4[::1], i8[:, ::1], f4[:, ::1], TARGET[:, ::1]"
    return _made(text, "separable", rounds, f"{arguments}, i8, i8, i8, f4, i8, f4, i8")


_SEPARABLE_TILE = """
def separable_tile(samples, starts, columns, across, rows, lines, out, first, count, shift, fold, top, every):
    clipped = 0
    height = columns.shape[0]
    many = across.shape[0]
    reached = lines.shape[1] - OVERREAD_SAMPLES
    for group in range((out.shape[0] + 3) // 4):
        y = min(4 * group, out.shape[0] - 4)
        for block in range((reached + TILE_SAMPLES - 1) // TILE_SAMPLES):
            x = min(block * TILE_SAMPLES, reached - TILE_SAMPLES)
            t{r}_{v} = splat(np.float32(0))
            PASSES
            store(lines[{r}], x + LANES * {v}, t{r}_{v})
        for r in range(4):
            between = lines[r]
            row0 = out[y + r]
            counts = y + r >= 4 * group if every == 1 else r == 0
            for block in range((count + BLOCK_SAMPLES - 1) // BLOCK_SAMPLES):
                before = block * BLOCK_SAMPLES
                x = min(before, count - BLOCK_SAMPLES)
                t0_{w} = splat(shift)
                for t in range(0, PAIRED, 2):
                    place = x + across[t]
                    s{u} = load_floats(between, place + LANES * {u})
                    weight, other = splat(rows[t]), splat(rows[t + 1])
                    ADD_TWO
                for t in range(PAIRED, many):
                    place = x + across[t]
                    weight = splat(rows[t])
                    t0_{w} = add_product(t0_{w}, weight, load_floats(between, place + LANES * {w}))
                STORE
    return clipped
"""
_PASS_DOWN = """
place = starts[y + LINE] + x
s{v} = load_floats(samples, place + LANES * {v})
w{r} = splat(columns[LINE - {r}])
t{r}_{v} = add_product(t{r}_{v}, w{r}, s{v})
"""


# Loads are what sums across wait for: of each two taps, the second one's samples are made of the first one's.
_ADD_TWO = """
t0_{w} = add_product(t0_{w}, weight, s{w})
t0_{w} = add_product(t0_{w}, other, later_lanes(s{w}, s{w_1}))
"""


@family(*itertools.product((False, True), (0, 1, 3)))
def separable_tile(rounds: bool, apart: int) -> Loop:
    """Return the loop for separable kernels of 3 rows or more, four rows of the output at once.

    ``separable_tile(samples (S,), starts (R,), columns (kH,), across (L,), rows (L,), lines (4, P), out, first, count,
    shift, fold, top, every)`` is `separable` for one term, whose row `i` is on row ``y + i``. `out` has four rows or
    more, `count` is `BLOCK_SAMPLES` or more; of four rows one is counted, unless `every` is 1. If `apart` is not 0,
    each of `across` is so far from the one before. `lines` is `OVERREAD_SAMPLES` wider than the taps reach.
    """
    many = BLOCK_SAMPLES // LANES
    lines = _ADD_TWO.strip("\n").splitlines()
    both = "\n".join(line.replace("{w_1}", str(w + 1)).replace("{w}", str(w)) for line in lines for w in range(many))
    text = put(_stored(_SEPARABLE_TILE, rounds, 1, "counts"), "PASSES", passes(_PASS_DOWN))
    text = put(text, "ADD_TWO", both if apart else "pass").replace("PAIRED", "(many & ~1)" if apart else "0")
    text = unroll(text, r=TILE_ROWS, v=TILE_VECTORS, w=many, u=many + 1)
    arguments = "i8[::1], f4[::1], i8[::1], f4[::1], f4[:, ::1], TARGET[:, ::1], i8, i8, f4, i8, f4, i8"
    return _made(text, "separable_tile", rounds, arguments, apart, later_lanes=float_vectors.later_lanes(apart))
