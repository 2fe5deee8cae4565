"""The loops around the sums of convolution, and those that sum whole numbers.

All of them see an image as rows of numbers, channels interleaved.
"""

from __future__ import annotations

import numpy as np

from cnnfilter.loops.native import Loop, family, loop
from cnnfilter.loops.unroll import define, unroll


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


_BYTE_BOX = """
def byte_box(samples, starts, sums, out, first, count, height, channels, gain, shift):
    column = sums[0]
    group = sums[1]
    clipped = 0
    for x in range(column.shape[0]):
        column[x] = 0
    for y in range(height - 1):
        row = samples[starts[y] :]
        for x in range(column.shape[0]):
            column[x] = int(column[x]) + int(row[x])
    for y in range(out.shape[0]):
        entering = samples[starts[y + height - 1] :]
        leaving = samples[starts[max(y - 1, 0)] :]
        if y > 0:
            for x in range(column.shape[0]):
                column[x] = int(column[x]) + int(entering[x]) - int(leaving[x])
        else:
            for x in range(column.shape[0]):
                column[x] = int(column[x]) + int(entering[x])
        c{i} = column[{i} * channels :]
        for x in range(column.shape[0] - (GROUP - 1) * channels):
            some = 0
            some += int(c{i}[x])
            group[x] = some
        g{j} = group[{j} * GROUP * channels :]
        r{k} = column[({k} + GROUP * GROUPS) * channels :]
        target = out[y][first : first + count]
        outside = np.int32(0)
        for x in range(count):
            total = np.int32(0)
            total = np.int32(total + np.int32(g{j}[x]))
            total = np.int32(total + np.int32(r{k}[x]))
            value = np.float32(total) * gain + shift
            outside = np.int32(outside + np.int32((value < np.float32(-0.5)) | (value >= np.float32(255.5))))
            value = value if value > np.float32(0) else np.float32(0)
            target[x] = np.int32(min(value, np.float32(255)) + np.float32(0.5))
        clipped += int(outside)
    return clipped
"""


@family((3, 3), (5, 5), (7, 7), (9, 3), (15, 5))
def byte_box(width: int, group: int) -> Loop:
    """Return the loop that sums bytes under a window `width` wide, in groups of `group` columns.

    ``byte_box(samples (S,), starts (R,), sums, out (H, N), first, count, height, channels, gain, shift)`` stores
    ``sum·gain + shift`` of the window of `height` rows in ``out[:, first : first + count]``, and returns how many were
    clipped; row `r` of what the window slides on begins at ``starts[r]``. Each column's sum moves down with the
    window, groups of neighbours are summed once, and groups make up the width: nothing grows faster than its root.
    `sums` (2, count + (width − 1)·channels) must hold a group.
    """
    text = unroll(_BYTE_BOX, i=group, j=width // group, k=width % group)
    text = text.replace("GROUPS", str(width // group)).replace("GROUP", str(group))
    function = define(text, "byte_box", __name__, np=np)
    arguments = "u1[:, ::1], i8, i8, i8, i8, f4, f4"
    forms = (f"i8(u1[::1], i8[::1], {sums}[:, ::1], {arguments})" for sums in ("u2", "i4"))
    return loop(*forms, constants=(width, group))(function)
