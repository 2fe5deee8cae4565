# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loops: rows with their border, sums at the sides of a picture, and the search for infinity and NaN.

A picture is rows of samples with interleaved channels.
"""

from __future__ import annotations

import textwrap

import numpy as np

from cnnfilter.jit.float_vectors import prefetch
from cnnfilter.jit.loop import Loop, family, loop
from cnnfilter.jit.templates import define, put, unroll


@loop(
    "void(u1[:, ::1], u1[:, ::1], i8[::1], i8[::1], i8, i8, i8, f4)",
    "void(u2[:, ::1], u2[:, ::1], i8[::1], i8[::1], i8, i8, i8, f4)",
    "void(u1[:, ::1], f4[:, ::1], i8[::1], i8[::1], i8, i8, i8, f4)",
    "void(u2[:, ::1], f4[:, ::1], i8[::1], i8[::1], i8, i8, i8, f4)",
    "void(f4[:, ::1], f4[:, ::1], i8[::1], i8[::1], i8, i8, i8, f4)",
)
def fill(source, scratch, rows, columns, channels, left, right, constant):
    """Copy rows of `source` (H, W·C) into `scratch` (R, P·C), with the pixels of the border.

    `rows` (R,) and `columns` (P,) are the row and column of the source for each pixel of the scratch; −1 stands for the
    constant. The columns from `left` to `right` are neighbours in the source too.
    """
    for r in range(rows.shape[0]):
        out = scratch[r]
        if rows[r] < 0:
            for x in range(columns.shape[0] * channels):
                out[x] = constant
        else:
            row = source[rows[r]]
            for c in range(left):
                for k in range(channels):
                    out[c * channels + k] = row[columns[c] * channels + k] if columns[c] >= 0 else constant
            if right > left:
                run = row[columns[left] * channels :]
                target = out[left * channels : right * channels]
                for x in range(target.shape[0]):
                    target[x] = run[x]
            for c in range(right, columns.shape[0]):
                for k in range(channels):
                    out[c * channels + k] = row[columns[c] * channels + k] if columns[c] >= 0 else constant


@loop("i8(i4[:, ::1], i8, i8)")
def largest_bits(values, first, count):
    """Return the largest bit pattern, without the sign, of float32 ``values[:, first : first + count]``.

    From 0x7F800000 on, the value is infinite or NaN. The maximum of
    integers runs on vectors; that of floats would not, because NaN makes its order matter.
    """
    largest = np.int32(0)
    for y in range(values.shape[0]):
        row = values[y][first : first + count]
        for x in range(count):
            largest = max(largest, np.int32(row[x] & np.int32(0x7FFFFFFF)))
    return largest


_PREFETCH_ROWS = 16
"""Rows between the row that is computed and the one that is prefetched."""

# Finding the samples takes most of the time, and half of that with signed indexes, for which Numba checks whether they
# count from the end. So the indexes are unsigned.
_SIDE_ROWS_TEMPLATE = """
def side_rows(
    samples, starts, places, rows, across, weights, out, first, count, channels, step, constant,
    shift, absolute, top, count_every,
):
    clipped = 0
    left = max(places[0], 0) * channels
    last_row = rows[rows.shape[0] - 1]
    last = out.shape[0] - 1
    for group in range((out.shape[0] + 3) // 4):
        # The rows lie far apart in memory, which the prefetcher of the processor does not foresee.
        y{r} = min(4 * group + {r}, last)
        ahead{r} = min(y{r} + PREFETCH_ROWS, last)
        prefetch(out[ahead{r}], first)
        prefetch(samples, max(starts[ahead{r} * step + last_row], 0) + left)
        for x in range(count):
            for channel in range(channels):
                sum{r} = shift
                for t in range(weights.shape[0]):
                    weight, row, place = weights[t], rows[t], places[x + across[t]]
                    sample{r} = constant
                    if place >= 0:
                        offset = place * channels + channel
                        start{r} = starts[np.uint64(y{r} * step + row)]
                        value{r} = np.float32(samples[np.uint64(max(start{r}, 0) + offset)])
                        sample{r} = value{r} if start{r} >= 0 else constant
                    sum{r} += weight * sample{r}
                at = first + x * channels + channel
                STORE
    return clipped
"""
_STORE_LINES = {
    False: "out[y{r}, at] = sum{r}",
    True: """
        if absolute:
            sum{r} = abs(sum{r})
        if 4 * group + {r} <= last and (y{r} & (count_every - 1)) == 0:
            clipped += int((sum{r} < np.float32(-0.5)) | (sum{r} >= top + np.float32(0.5)))
        sum{r} = sum{r} if sum{r} > np.float32(0) else np.float32(0)
        out[y{r}, at] = np.int32(min(sum{r}, top) + np.float32(0.5))
        """,
}


@family((False,), (True,))
def side_sums(rounds: bool) -> Loop:
    """Return the loop that sums taps at the left or right side of a picture, with its border, four rows at once.

    ``side_sums(samples (S,), starts (R,), places (P,), rows (K,), across (K,), weights (K,), out (H, N), first, count,
    channels, step, constant, shift, absolute, top, count_every)`` stores in ``out[y, first : first + count·channels]``
    the sums of `shift` and of weighted samples, for `count` columns. Tap `t` of column `x` is in the row that begins at
    ``starts[y·step + rows[t]]``, in its column ``places[x + across[t]]``; where either is −1, it is the constant. With
    `rounds`, the loop stores integers as `cnnfilter.images.dtype_loops.finish` does. It returns how many sums were
    clipped in the rows whose number is a multiple of `count_every`, a power of 2.
    """
    forms = (("u1", "u1"), ("u2", "u2")) if rounds else (("u1", "f4"), ("u2", "f4"), ("f4", "f4"))
    arrays = "i8[::1], i8[::1], i8[::1], i8[::1], f4[::1]"
    numbers = "i8, i8, i8, i8, f4, f4, i8, f4, i8"
    lines = textwrap.dedent(_STORE_LINES[rounds]).strip("\n")
    store = "\n".join(lines.replace("{r}", str(r)) for r in range(4))
    text = unroll(put(_SIDE_ROWS_TEMPLATE, "STORE", store), r=4).replace("PREFETCH_ROWS", str(_PREFETCH_ROWS))
    function = define(text, "side_rows", __name__, np=np, prefetch=prefetch)
    signatures = (f"i8({source}[::1], {arrays}, {target}[:, ::1], {numbers})" for source, target in forms)
    return loop(*signatures, constants=(int(rounds),))(function)
