# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loops: box filters, whose weights are all equal, by running sums that cost the same for any window."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

from cnnfilter.filters.convolution.direct_loops import BLOCK_SAMPLES, TILE_ROWS, passes
from cnnfilter.jit import float_vectors, integer_vectors, prefix_sums
from cnnfilter.jit.instructions import LANES, LANES_U8, LANES_U16, VECTOR_U16, instructions_of
from cnnfilter.jit.loop import Loop, family, loop
from cnnfilter.jit.prefix_sums import VECTOR_U32, running_sums
from cnnfilter.jit.templates import define, put, unroll

BOX_CHANNELS_MAX = LANES
"""Channels of a pixel that the running sums can take: a pixel must fit into a vector."""

_ROWS_TEMPLATE = """
def NAME(samples, starts, lines, out, first, count, height, width, ARGUMENTS):
    clipped = 0
    reach = count + (width - 1) * CHANNELS
    # The prefix sums begin with zeros at the left, one window wide.
    before = ((width - 1) * CHANNELS + STEP - 1) // STEP * STEP
    begin = before + CHANNELS
    for x in range(begin):
        lines[0, x] = 0
        lines[1, x] = 0
    for block in range((reach + BLOCK_SAMPLES - 1) // BLOCK_SAMPLES):
        x = min(block * BLOCK_SAMPLES, reach - BLOCK_SAMPLES)
        t{v} = load_bytes_KIND(samples, starts[0] + x + COLUMN_LANES * {v})
        for i in range(height - 1):
            t{v} = add_KIND(t{v}, load_bytes_KIND(samples, starts[i] + x + COLUMN_LANES * {v}))
        store_KIND(lines[0], begin + x + COLUMN_LANES * {v}, t{v})
    for y in range(out.shape[0]):
        row = out[y]
        # The column sums alternate between two lines: in place, those in overlapping vectors would change twice.
        previous, columns = lines[y % 2], lines[1 - y % 2]
        entering, leaving = starts[y + height - 1], starts[max(y - 1, 0)]
        for block in range((reach + BLOCK_SAMPLES - 1) // BLOCK_SAMPLES):
            x = min(block * BLOCK_SAMPLES, reach - BLOCK_SAMPLES)
            t{v} = load_KIND(previous, begin + x + COLUMN_LANES * {v})
            t{v} = add_KIND(t{v}, load_bytes_KIND(samples, entering + x + COLUMN_LANES * {v}))
            t{v} = subtract_KIND(t{v}, load_bytes_KIND(samples, leaving + x + COLUMN_LANES * {v}))
            store_KIND(columns, begin + x + COLUMN_LANES * {v}, t{v})
        START
        for x in range(0, before, STEP):
            MOVE
        for at in range(0, count, STEP):
            x = before + at
            MOVE
            STORE
    return clipped
"""

# The lines of the template above that differ between the loop for means and the loop for sums.
_PARTS_OF_MEANS = {
    "START": "sums = splat_u16(0)",
    "MOVE": "sums = sum_up(sums, subtract_u16(load_u16(columns, x + width * CHANNELS), load_u16(columns, x)))",
    "STORE": """
        if at + LANES_U16 <= count:
            store_divided(row, first + at, sums, more, factor, shift)
        else:
            store_first_divided(row, first + at, sums, more, factor, shift, min(STEP, count - at))
        """,
}
_PARTS_OF_SUMS = {
    "START": """
        sums = load_difference(columns, 0, 0)
        counted = y % count_every == 0
        """,
    "MOVE": "sums = sum_up(sums, load_difference(columns, x + width * CHANNELS, x))",
    "STORE": """
        value = add_product(splat(shift), splat(gain), floats_of_i32(sums))
        if counted:
            clipped += count_outside(first_lanes(value, min(STEP, count - at)), top, 0)
        if at + LANES <= count:
            store_rounded(row, first + at, value, top)
        else:
            store_first_rounded(row, first + at, value, top, min(STEP, count - at))
        """,
}


@family(*((channels,) for channels in range(1, 5)))
def box_means(channels: int) -> Loop:
    """Return the loop for means of bytes, whose sums fit into 16 bits, on pixels of `channels` samples.

    ``box_means(samples (S,), starts (R,), lines (2, P), out (H, N), first, count, height, width, more, factor, shift)``
    stores ``(sum + more)·factor >> 16 + shift`` of each window in ``out[:, first : first + count]``; see
    `cnnfilter.jit.integer_vectors.division`. Row `r` of the samples begins at ``starts[r]``. The sum of each column
    moves down with the window, and a prefix sum of the columns gives the windows of a row. `lines` is scratch space of
    `columns_of` samples; `count` must be at least `BLOCK_SAMPLES`.
    """
    function = _moving("box_means", _PARTS_OF_MEANS, "more, factor, shift", "u16", channels, LANES_U16)
    signature = "i8(u1[::1], i8[::1], u2[:, ::1], u1[:, ::1], i8, i8, i8, i8, i8, i8, i8)"
    return loop(signature, constants=(channels,))(function)


BOX_ROWS_MAX_U16 = 128
"""Rows of a window for which the difference of two column sums, at most 128 · 255, fits into an int16."""


@family(*((channels, False) for channels in range(1, 5)))
def box_sums(channels: int, high: bool) -> Loop:
    """Return the loop for sums of bytes under a window of any size, on pixels of `channels` samples.

    ``box_sums(samples (S,), starts (R,), lines (2, P), out (H, N), first, count, height, width, gain, shift, top,
    count_every)`` is `box_means` for ``sum·gain + shift``, rounded half up and clipped to 0…top. It returns how many
    were clipped in the rows whose number is a multiple of `count_every`. `lines` is uint16, or int32 for a `high`
    window: one of more than `BOX_ROWS_MAX_U16` rows.
    """
    kind, lines = ("u32", "i4") if high else ("u16", "u2")
    function = _moving("box_sums", _PARTS_OF_SUMS, "gain, shift, top, count_every", kind, channels, LANES)
    signature = f"i8(u1[::1], i8[::1], {lines}[:, ::1], u1[:, ::1], i8, i8, i8, i8, f4, f4, f4, i8)"
    return loop(signature, constants=(channels, int(high)))(function)


def mean_division(count: int) -> tuple[int, int, int] | None:
    """Return the last three arguments of the loops over means of `count` bytes; None if they cannot divide by it."""
    return integer_vectors.division(count)


def columns_of(count: int, width: int, channels: int) -> int:
    """Return the number of samples of each of the `lines` of `box_means` and `box_sums`."""
    return count + 2 * width * channels + 2 * LANES_U16


_SMALL_MEANS_TEMPLATE = """
def small_means(samples, starts, out, first, count, height, width, channels, more, factor, shift):
    for group in range((out.shape[0] + 3) // 4):
        y = min(4 * group, out.shape[0] - 4)
        for block in range((count + LANES_U8 - 1) // LANES_U8):
            x = min(block * LANES_U8, count - LANES_U8)
            t{r}_0 = splat_u16(more)
            t{r}_1 = splat_u16(more)
            PASSES
            store_pairs_divided(out[y + {r}], first + x, t{r}_0, t{r}_1, factor, shift)
"""
_PASS_TEMPLATES = {
    False: """
        start = starts[y + LINE] + x
        even, odd = load_even(samples, start), load_odd(samples, start)
        for j in range(1, width):
            even = add_u16(even, load_even(samples, start + j * channels))
            odd = add_u16(odd, load_odd(samples, start + j * channels))
        t{r}_0 = add_u16(t{r}_0, even)
        t{r}_1 = add_u16(t{r}_1, odd)
        """,
    # Of one channel, the odd bytes are the even ones of the next index: what both sums share is added once.
    True: """
        start = starts[y + LINE] + x
        even, odd = load_even(samples, start), load_odd(samples, start)
        shared = splat_u16(0)
        for j in range(2, width, 2):
            shared = add_u16(shared, add_u16(odd, load_even(samples, start + j)))
            odd = load_odd(samples, start + j)
        if width % 2 == 0:
            shared = add_u16(shared, odd)
            odd = load_odd(samples, start + width - 1)
        even = add_u16(even, shared)
        odd = add_u16(odd, shared)
        t{r}_0 = add_u16(t{r}_0, even)
        t{r}_1 = add_u16(t{r}_1, odd)
        """,
}


@family((False,), (True,))
def small_means(grey: bool) -> Loop:
    """Return the loop that is `box_means` for small windows of 3 rows or more: it computes four rows of output at once.

    ``small_means(samples (S,), starts (R,), out (H, N), first, count, height, width, channels, more, factor, shift)``
    sums each row of samples across, even and odd bytes apart, and adds these sums to all rows of output whose windows
    contain it. With `grey`, `channels` must be 1. `out` needs 4 rows, and `count` must be at least `BLOCK_SAMPLES`.
    """
    text = unroll(put(_SMALL_MEANS_TEMPLATE, "PASSES", passes(textwrap.dedent(_PASS_TEMPLATES[grey]))), r=TILE_ROWS)
    function = _defined(text, "small_means")
    signature = "void(u1[::1], i8[::1], u1[:, ::1], i8, i8, i8, i8, i8, i8, i8, i8)"
    return loop(signature, constants=(int(grey),))(function)


def _moving(name: str, across: dict[str, str], arguments: str, kind: str, channels: int, lanes: int) -> Any:
    """Return the function of a loop whose column sums are vectors of `kind`, and its sums across vectors of `lanes`."""
    column_lanes = LANES_U16 if kind == "u16" else LANES
    text = unroll(_ROWS_TEMPLATE, v=BLOCK_SAMPLES // column_lanes)
    for mark, lines in across.items():
        text = put(text, mark, textwrap.dedent(lines).strip("\n"))
    sizes = {"COLUMN_LANES": column_lanes, "STEP": lanes // channels * channels, "CHANNELS": channels}
    for mark, value in ({"NAME": name, "ARGUMENTS": arguments, "KIND": kind} | sizes).items():
        text = text.replace(mark, str(value))
    return _defined(text, name, sum_up=running_sums(VECTOR_U16 if across is _PARTS_OF_MEANS else VECTOR_U32, channels))


def _defined(text: str, name: str, **more: Any) -> Callable[..., Any]:
    sizes = {"BLOCK_SAMPLES": BLOCK_SAMPLES, "LANES": LANES, "LANES_U16": LANES_U16, "LANES_U8": LANES_U8}
    made: Callable[..., Any] = define(
        text, name, __name__, **sizes, **instructions_of(float_vectors, integer_vectors, prefix_sums), **more
    )
    return made
