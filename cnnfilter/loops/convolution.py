"""The loops around the sums of convolution, and those that sum whole numbers.

All of them see an image as rows of numbers, channels interleaved.
"""

from __future__ import annotations

import numpy as np

from cnnfilter.loops.native import Loop, family, loop
from cnnfilter.loops.vectors import fetch


@loop(
    "void(u1[:, ::1], u1[:, ::1], i8[::1], i8[::1], i8, i8, i8, f4)",
    "void(u2[:, ::1], u2[:, ::1], i8[::1], i8[::1], i8, i8, i8, f4)",
    "void(u1[:, ::1], f4[:, ::1], i8[::1], i8[::1], i8, i8, i8, f4)",
    "void(u2[:, ::1], f4[:, ::1], i8[::1], i8[::1], i8, i8, i8, f4)",
    "void(f4[:, ::1], f4[:, ::1], i8[::1], i8[::1], i8, i8, i8, f4)",
)
def fill(source, scratch, rows, columns, channels, left, right, constant):
    """Copy rows of `source` (H, W·C) into `scratch` (R, P·C), each pixel from where the border rule says.

    `rows` and `columns` give the place in the source for each place in the scratch, −1 for the constant.
    The columns from `left` to `right` are one unbroken run of the source.
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


@loop(
    "i8(f4[:, ::1], u1[:, ::1], i8, f4, f4, i8, f4)",
    "i8(f4[:, ::1], u2[:, ::1], i8, f4, f4, i8, f4)",
)
def finish(values, out, first, gain, shift, fold, top):
    """Round ``values·gain + shift`` (H, N) half up into 0…top; return how many samples lay outside.

    They go to ``out[:, first : first + N]``. With `fold` the absolute value is taken first. NaN becomes 0.
    """
    clipped = 0
    limit = top + np.float32(0.5)
    for y in range(values.shape[0]):
        row = values[y]
        target = out[y][first:]
        outside = np.int32(0)  # as wide as the samples, so that as many fit into a vector
        for x in range(row.shape[0]):
            value = row[x] * gain + shift
            if fold:
                value = abs(value)
            outside = np.int32(outside + np.int32((value < np.float32(-0.5)) | (value >= limit)))
            value = value if value > np.float32(0) else np.float32(0)
            target[x] = np.int32(min(value, top) + np.float32(0.5))
        clipped += int(outside)
    return clipped


@loop("i8(i4[:, ::1], i8, i8)")
def largest_bits(values, first, count):
    """Return the largest of the bits, without the sign, of float32 ``values[:, first : first + count]``.

    NaN and infinity are the ones from 0x7F800000 on; whole numbers have no order of summing to keep to.
    """
    largest = np.int32(0)
    for y in range(values.shape[0]):
        row = values[y][first : first + count]
        for x in range(count):
            largest = max(largest, np.int32(row[x] & np.int32(0x7FFFFFFF)))
    return largest


_AHEAD = 16  # rows that are fetched before they are wanted


@family((False,), (True,))
def side_sums(rounds: bool) -> Loop:
    """Return the loop that sums few taps at a side of a picture, by the rule of its border.

    ``side_sums(samples (S,), starts (R,), places (P,), rows (K,), across (K,), weights (K,), out (H, N), first, count,
    channels, step, constant, shift, fold, top, every)`` stores `shift` and the weighted samples of `count` columns in
    ``out[y, first : first + count·channels]``: tap `t` of column `x` is in row ``y·step + rows[t]`` of those that begin
    at `starts`, column ``places[x + across[t]]``; where either is −1, it is the constant. The loop that `rounds`
    stores whole numbers as `finish` does, and counts those outside in the rows whose number `every` divides.
    """
    forms = (("u1", "u1"), ("u2", "u2")) if rounds else (("u1", "f4"), ("u2", "f4"), ("f4", "f4"))
    arrays = "i8[::1], i8[::1], i8[::1], i8[::1], f4[::1]"
    numbers = "i8, i8, i8, i8, f4, f4, i8, f4, i8"

    @loop(
        *(f"i8({source}[::1], {arrays}, {target}[:, ::1], {numbers})" for source, target in forms),
        constants=(int(rounds),),
    )
    def side_rows(
        samples,
        starts,
        places,
        rows,
        across,
        weights,
        out,
        first,
        count,
        channels,
        step,
        constant,
        shift,
        fold,
        top,
        every,
    ):
        clipped = 0
        left = max(places[0], 0) * channels
        for y in range(out.shape[0]):
            row = out[y]
            # Each row is far from the next one, and nothing else foresees where it is.
            later = min(y + _AHEAD, out.shape[0] - 1)
            fetch(out[later], first)
            fetch(samples, max(starts[later * step + rows[-1]], 0) + left)
            for x in range(count):
                for channel in range(channels):
                    total = shift
                    for t in range(weights.shape[0]):
                        start, place = starts[y * step + rows[t]], places[x + across[t]]
                        is_held = start >= 0 and place >= 0
                        sample = np.float32(samples[start + place * channels + channel]) if is_held else constant
                        total += weights[t] * sample
                    if rounds:
                        if fold:
                            total = abs(total)
                        if y % every == 0:
                            clipped += int((total < np.float32(-0.5)) | (total >= top + np.float32(0.5)))
                        total = total if total > np.float32(0) else np.float32(0)
                        row[first + x * channels + channel] = np.int32(min(total, top) + np.float32(0.5))
                    else:
                        row[first + x * channels + channel] = total
        return clipped

    return side_rows
