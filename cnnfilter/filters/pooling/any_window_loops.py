# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loops: pooling of windows of any size.

A picture is rows of samples with interleaved channels: (H, W·C). The samples of a window are combined in reading order,
as in PyTorch: of equal numbers (0 and −0) the first one stays, and of several NaN the last.

`extremes` and `means` combine the rows of a window first, and then the result across. For floats, whose order matters,
and for windows of many rows, `ring_extremes` pools each row of the picture across only once, and keeps as many pooled
rows in a ring as a window has.
"""

from __future__ import annotations

import functools

import numpy as np

from cnnfilter.jit.instructions import Inline
from cnnfilter.jit.loop import Loop, family, inline, loop


@inline
def larger(best, value):
    """Return the larger value; written so that it becomes two vector instructions."""
    best = value if value > best else best
    return value if value != value else best


@inline
def smaller(best, value):
    """Return the smaller value."""
    best = value if value < best else best
    return value if value != value else best


@inline
def added(total, value):
    """Return the sum."""
    return total + value


_COMBINE: dict[str, Inline] = {"max": larger, "min": smaller, "sum": added}

WORK_ROWS = 4
"""Rows of scratch space of the loops: as wide as all windows of a row reach."""


@functools.cache
def combine_rows_for(op: str) -> Inline:
    """Return the function that combines the rows of windows."""
    combine = _COMBINE[op]

    @inline
    def down(source, line, first, end, dilation, neutral):
        """Combine rows ``first, first + dilation, …`` up to `end` of `source` (H, W·C) in `line`, maybe a narrower one.

        The rows are read in order, as suits a picture that is mapped from a file.
        """
        for j in range(line.shape[0]):
            line[j] = neutral
        r = first
        while r + 3 * dilation < end:
            row0, row1, row2, row3 = source[r], source[r + dilation], source[r + 2 * dilation], source[r + 3 * dilation]
            for j in range(line.shape[0]):
                line[j] = combine(combine(combine(combine(line[j], row0[j]), row1[j]), row2[j]), row3[j])
            r += 4 * dilation
        while r < end:
            row0 = source[r]
            for j in range(line.shape[0]):
                line[j] = combine(line[j], row0[j])
            r += dilation

    return down


@functools.cache
def pool_across_for(op: str) -> Inline:
    """Return the function that combines one line of samples across."""
    combine = _COMBINE[op]

    @inline
    def across(work, out, window):
        """Pool the first row of `work` (WORK_ROWS, P·C) across into `out` (W'·C,); the other rows are scratch space.

        Windows of 1, 2, 4 … taps are combined from two halves; those of them that make up `taps` are combined from left
        to right. So the work grows with the logarithm of the window.
        """
        combined = work[3]
        channels, taps, stride = window[0], window[2], window[4]
        step = window[6] * channels
        reach = combined.shape[0]
        length = reach - (taps - 1) * step
        width, covered, rest, at = 1, 0, taps, 0
        while rest > 0:
            # Rows of `work` by index: variables that swap their arrays would keep the compiler from vectorising.
            windows = work[at]
            if rest & 1:
                shifted = windows[covered * step :][:length]
                if covered == 0:
                    for j in range(shifted.shape[0]):
                        combined[j] = shifted[j]
                else:
                    for j in range(shifted.shape[0]):
                        combined[j] = combine(combined[j], shifted[j])
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
                out[j] = combined[j]
        elif channels == 1:
            for x in range(out.shape[0]):
                out[x] = combined[x * stride]
        elif channels == 3:  # 3 and 4 are constants to the compiler here
            for x in range(out.shape[0] // 3):
                for c in range(3):
                    out[x * 3 + c] = combined[x * stride * 3 + c]
        elif channels == 4:
            for x in range(out.shape[0] // 4):
                for c in range(4):
                    out[x * 4 + c] = combined[x * stride * 4 + c]
        else:
            for x in range(out.shape[0] // channels):
                for c in range(channels):
                    out[x * channels + c] = combined[x * stride * channels + c]

    return across


@inline
def first_row(window, y):
    """Return the first row of the picture in the windows of row `y` of the result."""
    dilation = window[5]
    first = y * window[3] - window[7]
    return first if first >= 0 else first + (dilation - 1 - first) // dilation * dilation


@inline
def end_row(window, y, height):
    """Return the row after the last one of the picture in the windows of row `y` of the result."""
    return min(y * window[3] - window[7] + (window[1] - 1) * window[5] + 1, height)


@inline
def inner_columns(work, window, columns, neutral):
    """Return the part of the first row of `work` where a row of the picture goes; fill its sides with `neutral`."""
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
    """Return the loop for the maximum or minimum of integers, whose order does not matter."""
    down, across = combine_rows_for(op), pool_across_for(op)

    @loop(
        *(f"void({t}[:, ::1], {t}[:, ::1], {t}[:, ::1], i8[::1], i8, i8, i8)" for t in ("u1", "u2")),
        constants=(int(op == "max"),),
    )
    def extreme_rows(source, work, target, window, y0, y1, neutral):
        """Pool rows `y0` to `y1` of `target` (H', W'·C) from `source` (H, W·C).

        `window` is C, taps down and across, stride down and across, dilation down and across, padding at the top and
        at the left. `work` (WORK_ROWS, P·C) is scratch space, as wide as all windows of a row reach. `neutral` changes
        no maximum or minimum.
        """
        inner = inner_columns(work, window, source.shape[1], neutral)
        for y in range(y0, y1):
            down(source, inner, first_row(window, y), end_row(window, y, source.shape[0]), window[5], neutral)
            across(work, target[y], window)

    return extreme_rows


@family(("max",), ("min",))
def ring_extremes(op: str) -> Loop:
    """Return the loop for the maximum or minimum of floats, whose order matters, and of windows of many rows.

    The rows of the picture are divided into groups, each as high as a window. A window is the end of one group and the
    beginning of the next: so each group is combined from its last row up, and the next from its first row down, and a
    row of the result costs the same for any height of the window.

    References
    ----------
    van Herk, "A fast algorithm for local minimum and maximum filters on rectangular and octagonal kernels", 1992;
    Gil & Werman, "Computing 2-D min, median, and max filters", 1993.
    """
    combine, across = _COMBINE[op], pool_across_for(op)

    @loop(
        *(
            f"void({t}[:, ::1], {t}[:, ::1], {t}[:, ::1], {t}[:, ::1], i8[::1], i8, i8, f8, i8)"
            for t in ("u1", "u2", "f4")
        ),
        constants=(int(op == "max"),),
    )
    def ring_rows(source, work, ring, target, window, y0, y1, neutral, grouped):
        """Pool as `extreme_rows` does, with a `ring` (rows that a window reaches + 1, W'·C).

        The ring holds rows of the picture that are pooled across; its last row holds the combination of those of the
        last group. Groups are made only with `grouped`, which needs windows without dilation.
        """
        dilation, height, capacity = window[5], source.shape[0], ring.shape[0] - 1
        upper = ring[capacity]
        inner = inner_columns(work, window, source.shape[1], neutral)
        ring_begin = ring_end = max(y0 * window[3] - window[7], 0)
        for y in range(y0, y1):
            first, end = first_row(window, y), end_row(window, y, height)
            for r in range(max(y * window[3] - window[7], ring_end), end):
                row, pooled = source[r], ring[r % capacity]
                for j in range(inner.shape[0]):
                    inner[j] = row[j]
                across(work, pooled, window)
                if not grouped:
                    continue
                if r % capacity == 0 or r == ring_begin:
                    for j in range(upper.shape[0]):
                        upper[j] = pooled[j]
                else:
                    for j in range(upper.shape[0]):
                        upper[j] = combine(upper[j], pooled[j])
                if r % capacity == capacity - 1 or r == height - 1:
                    for above in range(r - 1, max(r - r % capacity, ring_begin) - 1, -1):
                        over, under = ring[above % capacity], ring[(above + 1) % capacity]
                        for j in range(over.shape[0]):
                            over[j] = combine(over[j], under[j])
            ring_end = max(ring_end, end)
            out, lower = target[y], ring[first % capacity]
            if not grouped:
                for j in range(out.shape[0]):
                    out[j] = neutral
                for r in range(first, end, dilation):
                    row = ring[r % capacity]
                    for j in range(out.shape[0]):
                        out[j] = combine(out[j], row[j])
            elif first // capacity != (end - 1) // capacity:
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
    """Return the loop for means. Sums of integers are int32 where all of them fit, else float64."""
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
    def mean_rows(source, work, target, high, wide, window, y0, y1, moving, rounds):
        """Average into rows `y0` to `y1` of `target` (H', W'·C) from `source` (H, W·C); see `extreme_rows`.

        With `moving`, the sums of a window's rows are those of the window above, plus the rows that enter and minus
        those that leave: this is exact for integers only, and needs windows without dilation. A window has
        ``high[y] * wide[j]`` samples. With `rounds`, `high` and `wide` hold reciprocals, and the mean is rounded half
        up: the sum is raised by a quarter, which is more than the rounding errors of the reciprocals, so that halves go
        up, and too little to move any other mean across a half.
        """
        inner = inner_columns(work, window, source.shape[1], 0)
        before = after = 0  # the rows that are summed already
        for y in range(y0, y1):
            first, end = first_row(window, y), end_row(window, y, source.shape[0])
            if moving and first < after:
                for r in range(after, end):
                    row = source[r]
                    for j in range(inner.shape[0]):
                        inner[j] += row[j]
                for r in range(before, first):
                    row = source[r]
                    for j in range(inner.shape[0]):
                        inner[j] -= row[j]
            else:
                down(source, inner, first, end, window[5], 0)
            before, after = first, end
            out, samples = target[y], high[y]
            total = work[1, : out.shape[0]]
            across(work, total, window)
            if rounds:
                for j in range(out.shape[0]):
                    out[j] = np.int32((total[j] + 0.25) * (samples * wide[j]) + 0.5)
            else:
                for j in range(out.shape[0]):
                    out[j] = total[j] / (samples * wide[j])

    return mean_rows
