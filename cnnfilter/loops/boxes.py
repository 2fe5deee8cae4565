"""The loops of box filters, whose weights are all the same: sums that grow and shrink as the window moves."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from cnnfilter.loops import words
from cnnfilter.loops.instructions import BYTES, LANES, WORDS, instructions_of
from cnnfilter.loops.native import Loop, family, loop
from cnnfilter.loops.unroll import define, put, unroll
from cnnfilter.loops.weighted_sums import LONG, ROWS, passes

_BLOCK = 2048  # columns that are finished down a whole band, so that their sums stay in the first-level cache


_BOX_MEANS = """
def box_means(samples, starts, lines, out, first, count, height, width, channels, group, more, factor, shift):
    groups = lines[2]
    whole = width - width % group
    for start in range(0, count, BLOCK):
        left = min(start, count - LONG)
        many = min(count - left, BLOCK)
        reached = many + (width - 1) * channels
        grouped = reached - (group - 1) * channels
        for block in range((reached + LONG - 1) // LONG):
            x = min(block * LONG, reached - LONG)
            t{v} = load_words(samples, starts[0] + left + x + WORDS * {v})
            for i in range(height - 1):
                t{v} = add_words(t{v}, load_words(samples, starts[i] + left + x + WORDS * {v}))
            keep_words(lines[0], x + WORDS * {v}, t{v})
        for y in range(out.shape[0]):
            row = out[y]
            # From line to line, for the last vectors of a line overlap those before.
            former, columns = lines[y % 2], lines[1 - y % 2]
            entering, leaving = starts[y + height - 1] + left, starts[max(y - 1, 0)] + left
            for block in range((reached + LONG - 1) // LONG):
                x = min(block * LONG, reached - LONG)
                t{v} = add_words(kept_words(former, x + WORDS * {v}), load_words(samples, entering + x + WORDS * {v}))
                t{v} = subtract_words(t{v}, load_words(samples, leaving + x + WORDS * {v}))
                keep_words(columns, x + WORDS * {v}, t{v})
            for block in range((grouped + LONG - 1) // LONG if group > 1 else 0):
                x = min(block * LONG, grouped - LONG)
                t{v} = kept_words(columns, x + WORDS * {v})
                for j in range(1, group):
                    t{v} = add_words(t{v}, kept_words(columns, x + j * channels + WORDS * {v}))
                keep_words(groups, x + WORDS * {v}, t{v})
            summed = groups if group > 1 else columns
            for block in range((many + LONG - 1) // LONG):
                x = min(block * LONG, many - LONG)
                t{v} = kept_words(summed, x + WORDS * {v})
                for j in range(group, whole, group):
                    t{v} = add_words(t{v}, kept_words(summed, x + j * channels + WORDS * {v}))
                for j in range(whole, width):
                    t{v} = add_words(t{v}, kept_words(columns, x + j * channels + WORDS * {v}))
                store_divided(row, first + left + x + WORDS * {v}, t{v}, more, factor, shift)
"""


@family(())
def box_means() -> Loop:
    """Return the loop of the mean of the bytes under a window of at most 256.

    ``box_means(samples (S,), starts (R,), lines (3, P), out (H, N), first, count, height, width, channels, group, more,
    factor, shift)`` stores ``(sum + more)·factor >> 16 + shift``, of words, in ``out[:, first : first + count]``; row
    `r` of what the window slides on begins at ``starts[r]``. Each column's sum moves down with the window, `group`
    neighbours are summed once, and those make up the width. `lines` takes as many samples as the window of `count`
    outputs reaches; `count` is `LONG` or more.
    """
    function = _defined(unroll(_BOX_MEANS, v=LONG // WORDS), "box_means")
    return loop("void(u1[::1], i8[::1], u2[:, ::1], u1[:, ::1], i8, i8, i8, i8, i8, i8, i8, i8, i8)")(function)


_SMALL_MEANS = """
def small_means(samples, starts, out, first, count, height, width, channels, more, factor, shift):
    for group in range((out.shape[0] + 3) // 4):
        y = min(4 * group, out.shape[0] - 4)
        for block in range((count + BYTES - 1) // BYTES):
            x = min(block * BYTES, count - BYTES)
            t{r}_0 = splat_words(more)
            t{r}_1 = splat_words(more)
            PASSES
            store_pairs_divided(out[y + {r}], first + x, t{r}_0, t{r}_1, factor, shift)
"""
_PASS = {
    False: """
        place = starts[y + LINE] + x
        even, odd = load_even(samples, place), load_odd(samples, place)
        for j in range(1, width):
            even = add_words(even, load_even(samples, place + j * channels))
            odd = add_words(odd, load_odd(samples, place + j * channels))
        t{r}_0 = add_words(t{r}_0, even)
        t{r}_1 = add_words(t{r}_1, odd)
        """,
    # Here the odd bytes are the even ones of a place further on: what both sums have in common is added once.
    True: """
        place = starts[y + LINE] + x
        even, odd = load_even(samples, place), load_odd(samples, place)
        both = splat_words(0)
        for j in range(2, width, 2):
            both = add_words(both, add_words(odd, load_even(samples, place + j)))
            odd = load_odd(samples, place + j)
        if width % 2 == 0:
            both = add_words(both, odd)
            odd = load_odd(samples, place + width - 1)
        even = add_words(even, both)
        odd = add_words(odd, both)
        t{r}_0 = add_words(t{r}_0, even)
        t{r}_1 = add_words(t{r}_1, odd)
        """,
}


@family((False,), (True,))
def small_means(grey: bool) -> Loop:
    """Return the loop that is `box_means` for a window of few bytes, 3 rows or more: four rows of output at once.

    ``small_means(samples (S,), starts (R,), out (H, N), first, count, height, width, channels, more, factor, shift)``:
    each sum across is added to all rows that see it, even and odd bytes apart. If `grey`, `channels` is 1. `out` has
    four rows or more, `count` is `LONG` or more.
    """
    text = unroll(put(_SMALL_MEANS, "PASSES", passes(textwrap.dedent(_PASS[grey]))), r=ROWS)
    function = _defined(text, "small_means")
    signature = "void(u1[::1], i8[::1], u1[:, ::1], i8, i8, i8, i8, i8, i8, i8, i8)"
    return loop(signature, constants=(int(grey),))(function)


def _defined(text: str, name: str) -> Callable[..., Any]:
    for size, value in (("BLOCK", _BLOCK), ("LONG", LONG), ("WORDS", WORDS), ("BYTES", BYTES)):
        text = text.replace(size, str(value))
    made: Callable[..., Any] = define(text, name, __name__, **instructions_of(words))
    return made


MOST_CHANNELS = LANES
"""Channels of a pixel that `box_sums` takes."""


@family(*((channels,) for channels in range(1, 5)))
def box_sums(channels: int) -> Loop:
    """Return the loop of sums of bytes under a window of any size, for pixels of so many channels.

    ``box_sums(samples (S,), starts (R,), sums (2, …), out (H, N), first, count, height, width, gain, shift, every)``
    stores ``sum·gain + shift`` in ``out[:, first : first + count]`` and returns how many were clipped in the rows whose
    number `every` divides; row `r` of what the window slides on begins at ``starts[r]``. Each column's sum moves down
    with the window, and sums from the left on give those across as differences: the work does not depend on the
    window. They wrap around beyond 32 bits, their differences don't. `sums` takes as many samples as the window of
    `count` outputs reaches, and twice LANES.
    """
    sum_up = words.running_sums(channels)
    load, store = words.load_whole, words.store_whole
    step = LANES // channels * channels

    @loop("i8(u1[::1], i8[::1], i4[:, ::1], u1[:, ::1], i8, i8, i8, i8, f4, f4, i8)", constants=(channels,))
    def box_rows(samples, starts, sums, out, first, count, height, width, gain, shift, every):
        columns, running = sums[0], sums[1]
        reached = count + (width - 1) * channels
        clipped = 0
        for x in range(columns.shape[0]):
            columns[x] = 0
        for y in range(height - 1):
            row = samples[starts[y] :]
            for x in range(reached):
                columns[x] += np.int32(row[x])
        for y in range(out.shape[0]):
            entering = samples[starts[y + height - 1] :]
            if y > 0:
                leaving = samples[starts[y - 1] :]
                for x in range(reached):
                    columns[x] += np.int32(np.int32(entering[x]) - np.int32(leaving[x]))
            else:
                for x in range(reached):
                    columns[x] += np.int32(entering[x])
            for x in range(LANES):
                running[x] = 0
            total = load(running, 0)
            for x in range(0, reached, step):
                total = sum_up(total, load(columns, x))
                store(running, x + channels, total)
            ahead = running[width * channels :]
            target = out[y][first : first + count]
            if y % every == 0:
                outside = np.int32(0)
                for x in range(count):
                    value = np.float32(np.int32(ahead[x] - running[x])) * gain + shift
                    outside = np.int32(outside + np.int32((value < np.float32(-0.5)) | (value >= np.float32(255.5))))
                    value = value if value > np.float32(0) else np.float32(0)
                    target[x] = np.int32(min(value, np.float32(255)) + np.float32(0.5))
                clipped += int(outside)
            else:
                for x in range(count):
                    value = np.float32(np.int32(ahead[x] - running[x])) * gain + shift
                    value = value if value > np.float32(0) else np.float32(0)
                    target[x] = np.int32(min(value, np.float32(255)) + np.float32(0.5))
        return clipped

    return box_rows
