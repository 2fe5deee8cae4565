"""The loops around the sums of convolution, and those that sum whole numbers.

All of them see an image as rows of numbers, channels interleaved.
"""

from __future__ import annotations

import numpy as np

from cnnfilter.loops.native import loop


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
