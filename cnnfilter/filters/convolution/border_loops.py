# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loops: rows of a picture with their border, and what is near it.

A picture is rows of samples with interleaved channels.
"""

from __future__ import annotations

import textwrap

import numpy as np

from cnnfilter.jit.float_vectors import fetch
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


_AHEAD = 16  # rows that are fetched before they are wanted

# Where all of it is in finding the samples, an index without a sign is half of the work: Numba lets others count from
# the end.

_SIDES = """
def side_rows(
    samples, starts, places, rows, across, weights, out, first, count, channels, step, constant, shift, fold, top, every
):
    clipped = 0
    left = max(places[0], 0) * channels
    below = rows[rows.shape[0] - 1]
    last = out.shape[0] - 1
    for group in range((out.shape[0] + 3) // 4):
        # Each row is far from the next one, and nothing else foresees where it is.
        y{r} = min(4 * group + {r}, last)
        later{r} = min(y{r} + AHEAD, last)
        fetch(out[later{r}], first)
        fetch(samples, max(starts[later{r} * step + below], 0) + left)
        for x in range(count):
            for channel in range(channels):
                sum{r} = shift
                for t in range(weights.shape[0]):
                    weight, row, place = weights[t], rows[t], places[x + across[t]]
                    sample{r} = constant
                    if place >= 0:
                        offset = place * channels + channel
                        start{r} = starts[np.uint64(y{r} * step + row)]
                        held{r} = np.float32(samples[np.uint64(max(start{r}, 0) + offset)])
                        sample{r} = held{r} if start{r} >= 0 else constant
                    sum{r} += weight * sample{r}
                at = first + x * channels + channel
                STORE
    return clipped
"""
_STORE_AT_SIDE = {
    False: "out[y{r}, at] = sum{r}",
    True: """
        if fold:
            sum{r} = abs(sum{r})
        if 4 * group + {r} <= last and (y{r} & (every - 1)) == 0:
            clipped += int((sum{r} < np.float32(-0.5)) | (sum{r} >= top + np.float32(0.5)))
        sum{r} = sum{r} if sum{r} > np.float32(0) else np.float32(0)
        out[y{r}, at] = np.int32(min(sum{r}, top) + np.float32(0.5))
        """,
}


@family((False,), (True,))
def side_sums(rounds: bool) -> Loop:
    """Return the loop that sums few taps at a side of a picture, by the rule of its border, four rows at once.

    ``side_sums(samples (S,), starts (R,), places (P,), rows (K,), across (K,), weights (K,), out (H, N), first, count,
    channels, step, constant, shift, fold, top, every)`` stores `shift` and the weighted samples of `count` columns in
    ``out[y, first : first + count·channels]``: tap `t` of column `x` is in row ``y·step + rows[t]`` of those that begin
    at `starts`, column ``places[x + across[t]]``; where either is −1, it is the constant. The loop that `rounds`
    stores whole numbers as `finish` does, and counts those outside in the rows whose number `every`, a power of 2,
    divides.
    """
    forms = (("u1", "u1"), ("u2", "u2")) if rounds else (("u1", "f4"), ("u2", "f4"), ("f4", "f4"))
    arrays = "i8[::1], i8[::1], i8[::1], i8[::1], f4[::1]"
    numbers = "i8, i8, i8, i8, f4, f4, i8, f4, i8"
    lines = textwrap.dedent(_STORE_AT_SIDE[rounds]).strip("\n")
    store = "\n".join(lines.replace("{r}", str(r)) for r in range(4))
    text = unroll(put(_SIDES, "STORE", store), r=4).replace("AHEAD", str(_AHEAD))
    function = define(text, "side_rows", __name__, np=np, fetch=fetch)
    signatures = (f"i8({source}[::1], {arrays}, {target}[:, ::1], {numbers})" for source, target in forms)
    return loop(*signatures, constants=(int(rounds),))(function)
