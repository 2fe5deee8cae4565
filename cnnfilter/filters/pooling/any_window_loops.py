# mypy: allow-untyped-defs, allow-incomplete-defs
"""The inner loops of pooling.

A picture is rows of numbers, channels interleaved: (H, W·C). The samples of a window are met line by line, as PyTorch
meets them: of equal numbers (0 and −0) the first one stays, and of several NaN the last.

The windows of `SMALL` are joined in vectors. For any other, the rows that a row of the result sees are joined down
first, where that gives the same; of floats and of high windows, each row of the picture is pooled across once, into a
ring that holds as many rows as a window is high.
"""

from __future__ import annotations

import functools

import numpy as np

from cnnfilter.jit.loop import Inline, Loop, family, inline, loop

# --- small windows ------------------------------------------------------------------------------------


# --- any window ---------------------------------------------------------------------------------------


@inline
def larger(best, value):
    """Join for max; written so that it becomes two vector instructions."""
    best = value if value > best else best
    return value if value != value else best


@inline
def smaller(best, value):
    """Join for min."""
    best = value if value < best else best
    return value if value != value else best


@inline
def added(total, value):
    """Join for sums of floats."""
    return total + value


_COMBINE: dict[str, Inline] = {"max": larger, "min": smaller, "sum": added}

WORK_ROWS = 4
"""Lines of numbers that the loops below work with, as wide as the windows reach."""


@functools.cache
def combine_rows_for(op: str) -> Inline:
    """Make the pooling of a window's rows down."""
    combine = _COMBINE[op]

    @inline
    def down(source, line, first, end, apart, neutral):
        """Join rows `first`, ``first + apart`` … before `end` of `source` (H, W·C) to `line`, which may be narrower.

        They are met in their order, for a picture that is mapped comes and goes in it.
        """
        for j in range(line.shape[0]):
            line[j] = neutral
        r = first
        while r + 3 * apart < end:
            row0, row1, row2, row3 = source[r], source[r + apart], source[r + 2 * apart], source[r + 3 * apart]
            for j in range(line.shape[0]):
                line[j] = combine(combine(combine(combine(line[j], row0[j]), row1[j]), row2[j]), row3[j])
            r += 4 * apart
        while r < end:
            row0 = source[r]
            for j in range(line.shape[0]):
                line[j] = combine(line[j], row0[j])
            r += apart

    return down


@functools.cache
def pool_across_for(op: str) -> Inline:
    """Make the pooling of one line across, for any window."""
    combine = _COMBINE[op]

    @inline
    def across(work, out, window):
        """Pool the first line of `work` (WORK_ROWS, P·C) across into `out` (W'·C); the others are used up.

        Windows of 1, 2, 4 … taps are joined from two halves, and those that make up `taps` from left to
        right, so the work grows with the logarithm of the window.
        """
        joined = work[3]
        channels, taps, stride = window[0], window[2], window[4]
        step = window[6] * channels
        reach = joined.shape[0]
        length = reach - (taps - 1) * step
        width, covered, rest, at = 1, 0, taps, 0
        while rest > 0:
            # Named by their number: arrays that change places would keep the compiler from vectorising.
            windows = work[at]
            if rest & 1:
                shifted = windows[covered * step :][:length]
                if covered == 0:
                    for j in range(shifted.shape[0]):
                        joined[j] = shifted[j]
                else:
                    for j in range(shifted.shape[0]):
                        joined[j] = combine(joined[j], shifted[j])
                covered += width
            rest >>= 1
            if rest > 0:
                at = 2 if at == 1 else 1
                wider = work[at]
                shifted = windows[width * step :][: reach - (2 * width - 1) * step]
                for j in range(shifted.shape[0]):
                    wider[j] = combine(windows[j], shifted[j])
                width *= 2
        if stride == 1:
            for j in range(out.shape[0]):
                out[j] = joined[j]
        elif channels == 1:
            for x in range(out.shape[0]):
                out[x] = joined[x * stride]
        elif channels == 3:  # as 4 below, a number that the compiler knows
            for x in range(out.shape[0] // 3):
                for c in range(3):
                    out[x * 3 + c] = joined[x * stride * 3 + c]
        elif channels == 4:
            for x in range(out.shape[0] // 4):
                for c in range(4):
                    out[x * 4 + c] = joined[x * stride * 4 + c]
        else:
            for x in range(out.shape[0] // channels):
                for c in range(channels):
                    out[x * channels + c] = joined[x * stride * channels + c]

    return across


@inline
def first_row(window, y):
    """Return the first row that the windows of row `y` of the result see in the picture, if there is one."""
    apart = window[5]
    first = y * window[3] - window[7]
    return first if first >= 0 else first + (apart - 1 - first) // apart * apart


@inline
def end_row(window, y, height):
    """Return the row after the last one that they see."""
    return min(y * window[3] - window[7] + (window[1] - 1) * window[5] + 1, height)


@inline
def seen_columns(work, window, columns, neutral):
    """Return the part of the first line of `work` where a row of a picture goes, and fill what is beside it."""
    line = work[0]
    start = window[8] * window[0]
    end = min(start + columns, line.shape[0])
    for j in range(start):
        line[j] = neutral
    for j in range(end, line.shape[0]):
        line[j] = neutral
    return line[start:end]


@family(("max",), ("min",))
def extremes(op: str) -> Loop:
    """Make the loop of max or min of whole numbers. What is joined first does not matter to them."""
    down, across = combine_rows_for(op), pool_across_for(op)

    @loop(
        *(f"void({t}[:, ::1], {t}[:, ::1], {t}[:, ::1], i8[::1], i8, i8, i8)" for t in ("u1", "u2")),
        constants=(int(op == "max"),),
    )
    def extreme_rows(source, work, target, window, y0, y1, neutral):
        """Pool rows `y0` to `y1` of `target` (H', W'·C) from `source` (H, W·C).

        `window` is C, taps down and across, stride down and across, dilation down and across, padding at the top and
        at the left; `work` (WORK_ROWS, P·C) takes lines as wide as the windows reach.
        """
        seen = seen_columns(work, window, source.shape[1], neutral)
        for y in range(y0, y1):
            down(source, seen, first_row(window, y), end_row(window, y, source.shape[0]), window[5], neutral)
            across(work, target[y], window)

    return extreme_rows


@family(("max",), ("min",))
def ring_extremes(op: str) -> Loop:
    """Make the loop of max or min of floats, of which it matters what comes first, and of high windows.

    Of these it costs what it does of low ones: each group of as many rows as a window is high is joined from its last
    row up, and the next one from its first row down, and a window is a part of each (van Herk 1992; Gil and Werman
    1993).
    """
    combine, across = _COMBINE[op], pool_across_for(op)

    @loop(
        *(
            f"void({t}[:, ::1], {t}[:, ::1], {t}[:, ::1], {t}[:, ::1], i8[::1], i8, i8, f8, i8)"
            for t in ("u1", "u2", "f4")
        ),
        constants=(int(op == "max"),),
    )
    def ring_rows(source, work, ring, target, window, y0, y1, neutral, joins):
        """Do what `extreme_rows` does, with a `ring` (rows that a window reaches + 1, W'·C).

        It takes rows that are pooled across, and at its end the join of those of the last group. Groups are made if it
        `joins`, which wants rows without gaps.
        """
        apart, height, held = window[5], source.shape[0], ring.shape[0] - 1
        upper = ring[held]
        seen = seen_columns(work, window, source.shape[1], neutral)
        begun = done = max(y0 * window[3] - window[7], 0)
        for y in range(y0, y1):
            first, end = first_row(window, y), end_row(window, y, height)
            for r in range(max(y * window[3] - window[7], done), end):
                row, pooled = source[r], ring[r % held]
                for j in range(seen.shape[0]):
                    seen[j] = row[j]
                across(work, pooled, window)
                if not joins:
                    continue
                if r % held == 0 or r == begun:
                    for j in range(upper.shape[0]):
                        upper[j] = pooled[j]
                else:
                    for j in range(upper.shape[0]):
                        upper[j] = combine(upper[j], pooled[j])
                if r % held == held - 1 or r == height - 1:
                    for above in range(r - 1, max(r - r % held, begun) - 1, -1):
                        over, under = ring[above % held], ring[(above + 1) % held]
                        for j in range(over.shape[0]):
                            over[j] = combine(over[j], under[j])
            done = max(done, end)
            out, lower = target[y], ring[first % held]
            if not joins:
                for j in range(out.shape[0]):
                    out[j] = neutral
                for r in range(first, end, apart):
                    row = ring[r % held]
                    for j in range(out.shape[0]):
                        out[j] = combine(out[j], row[j])
            elif first // held != (end - 1) // held:
                for j in range(out.shape[0]):
                    out[j] = combine(lower[j], upper[j])
            elif end == height:
                for j in range(out.shape[0]):
                    out[j] = lower[j]
            else:
                for j in range(out.shape[0]):
                    out[j] = upper[j]

    return ring_rows


@family(())
def means() -> Loop:
    """Make the loop of the mean. Sums of whole numbers are int32, where that is enough, or float64."""
    down, across = combine_rows_for("sum"), pool_across_for("sum")

    @loop(
        *(
            f"void({source}[:, ::1], {sums}[:, ::1], {target}[:, ::1], f8[::1], f8[::1], i8[::1], i8, i8, i8, i8)"
            for source, sums, target in (
                ("u1", "i4", "u1"),
                ("u1", "i4", "f4"),
                ("u1", "f8", "u1"),
                ("u1", "f8", "f4"),
                ("u2", "i4", "u2"),
                ("u2", "i4", "f4"),
                ("u2", "f8", "u2"),
                ("u2", "f8", "f4"),
                ("f4", "f8", "f4"),
            )
        )
    )
    def mean_rows(source, work, target, high, wide, window, y0, y1, moves, whole):
        """Average into rows `y0` to `y1` of `target` (H', W'·C) from `source` (H, W·C); see `extreme_rows`.

        If the window `moves`, the sums down it change by the rows that come and go, which is exact for whole numbers
        only, and wants rows without gaps. A window counts ``high[y] * wide[j]`` samples. With `whole` these are one
        over the counts, and the mean is rounded half up: a quarter more in the whole sum outweighs the rounding of the
        reciprocals, so that halves go up, and is too little to lift anything else.
        """
        seen = seen_columns(work, window, source.shape[1], 0)
        before = after = 0  # the rows whose sums are there
        for y in range(y0, y1):
            first, end = first_row(window, y), end_row(window, y, source.shape[0])
            if moves and first < after:
                for r in range(after, end):
                    row = source[r]
                    for j in range(seen.shape[0]):
                        seen[j] += row[j]
                for r in range(before, first):
                    row = source[r]
                    for j in range(seen.shape[0]):
                        seen[j] -= row[j]
            else:
                down(source, seen, first, end, window[5], 0)
            before, after = first, end
            out, samples = target[y], high[y]
            total = work[1, : out.shape[0]]
            across(work, total, window)
            if whole:
                for j in range(out.shape[0]):
                    out[j] = np.int32((total[j] + 0.25) * (samples * wide[j]) + 0.5)
            else:
                for j in range(out.shape[0]):
                    out[j] = total[j] / (samples * wide[j])

    return mean_rows
