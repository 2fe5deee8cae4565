"""The inner loops of convolution.

All of them see an image as rows of numbers, channels interleaved, that were copied into a scratch with
the border already around them: so a tap is one offset from the place of its output, for any number of
channels, dilation or border, and the row is what the vector unit walks along.
"""

from __future__ import annotations

import numpy as np

from cnnfilter.loops.native import Loop, family, loop
from cnnfilter.loops.unroll import define, unroll

LARGEST_PAIR = 25
"""Weights of a dense kernel whose two rows of sums stay in registers at the most."""
LARGEST_CHUNK = 16
"""Taps added in one pass at the most: their weights and the sum stay in registers."""
CHUNK = 12
"""Taps of each further pass."""
WIDEST_CHUNK = 11
"""Columns of a dense kernel added to two rows at once at the most: 22 weights stay in registers."""
_BLOCK = 1024  # columns that are finished down a whole band, so that their rows stay in the first-level cache


@loop(
    "void(u1[:, ::1], u1[:, ::1], i8[::1], i8[::1], i8, i8, i8, f4)",
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


_ADD_TAPS = """
def add_taps(samples, offsets, weights, out, first, count, step):
    for left in range(0, count, BLOCK):
        end = first + min(left + BLOCK, count)
        for y in range(out.shape[0]):
            block = out[y][first + left : end]
            here = samples[y * step + left :]
            for chunk in range(0, offsets.shape[0], TAPS):
                s{t} = here[offsets[chunk + {t}] :]
                w{t} = weights[chunk + {t}]
                for x in range(block.shape[0]):
                    total = FIRST
                    total += w{t} * s{t}[x]
                    block[x] = total
"""


@family(*((taps, True) for taps in range(1, LARGEST_CHUNK + 1)), (CHUNK, False))
def add_taps(taps: int, fresh: bool) -> Loop:
    """Return the loop that adds weighted samples to rows, `taps` of them in a pass.

    ``add_taps(samples (S,), offsets (K·taps,), weights (K·taps,), out (H, N), first, count, step)``: sample
    ``y·step + offsets[t] + x`` times ``weights[t]`` goes to ``out[y, first + x]`` for `x` below `count`, on top
    of what is there unless `fresh` (then there may be one pass only).
    """
    text = unroll(_ADD_TAPS.replace("FIRST", "np.float32(0)" if fresh else "block[x]"), t=taps)
    text = text.replace("BLOCK", str(_BLOCK)).replace("TAPS", str(taps))
    function = define(text, "add_taps", __name__, np=np)
    return loop("void(f4[::1], i8[::1], f4[::1], f4[:, ::1], i8, i8, i8)", constants=(taps, int(fresh)))(function)


_BYTE_TAPS = """
def byte_taps(samples, offsets, weights, out, first, count, step, gain, shift, fold, every):
    w{t} = weights[{t}] * gain
    clipped = 0
    for y in range(out.shape[0]):
        target = out[y][first : first + count]
        here = samples[y * step :]
        s{t} = here[offsets[{t}] :]
        if y % every == 0:
            outside = np.int32(0)
            for x in range(count):
                value = shift
                value += w{t} * np.float32(s{t}[x])
                if fold:
                    value = abs(value)
                outside = np.int32(outside + np.int32((value < np.float32(-0.5)) | (value >= np.float32(255.5))))
                value = value if value > np.float32(0) else np.float32(0)
                target[x] = np.int32(min(value, np.float32(255)) + np.float32(0.5))
            clipped += int(outside)
        else:
            for x in range(count):
                value = shift
                value += w{t} * np.float32(s{t}[x])
                if fold:
                    value = abs(value)
                value = value if value > np.float32(0) else np.float32(0)
                target[x] = np.int32(min(value, np.float32(255)) + np.float32(0.5))
    return clipped
"""


@family(*((taps,) for taps in range(2, 10)))
def byte_taps(taps: int) -> Loop:
    """Return the loop that filters bytes to bytes with a kernel of `taps` taps.

    ``byte_taps(samples, offsets, weights, out, first, count, step, gain, shift, fold, every)`` is `add_taps`
    and `finish` in one: the sums never leave the registers. What is clipped is counted on each row whose
    number `every` divides, for counting takes a third of the time.
    """
    function = define(unroll(_BYTE_TAPS, t=taps), "byte_taps", __name__, np=np)
    signature = "i8(u1[::1], i8[::1], f4[::1], u1[:, ::1], i8, i8, i8, f4, f4, i8, i8)"
    return loop(signature, constants=(taps,))(function)


_BYTE_WHOLES = """
def byte_wholes(samples, offsets, weights, out, first, count, step, gain, shift, fold, every):
    w{t} = np.int16(weights[{t}])
    start = START
    clipped = 0
    for y in range(out.shape[0]):
        here = samples[y * step :]
        for left in range(0, count, BLOCK):
            target = out[y][first + left : first + min(left + BLOCK, count)]
            s{t} = here[left + offsets[{t}] :]
            if y % every == 0:
                outside = COUNTER
                for x in range(target.shape[0]):
                    total = start
                    total = np.int16(total + w{t} * np.int16(s{t}[x]))
                    COUNTED
                clipped += int(outside)
            else:
                for x in range(target.shape[0]):
                    total = start
                    total = np.int16(total + w{t} * np.int16(s{t}[x]))
                    STORED
    return clipped
"""

_STORE_WHOLE = """
if fold:
    total = np.int16(abs(total))
kept = np.int16(min(max(total, np.int16(0)), np.int16(255)))
target[x] = kept
outside = np.int16(outside + np.int16(kept != total))
"""

_STORE_SCALED = """
value = np.float32(total) * gain + shift
if fold:
    value = abs(value)
kept = value if value > np.float32(0) else np.float32(0)
target[x] = np.int32(min(kept, np.float32(255)) + np.float32(0.5))
outside = np.int32(outside + np.int32((value < np.float32(-0.5)) | (value >= np.float32(255.5))))
"""


@family(*((taps, scaled) for taps in (3, 4, 5, 6, 8, 9) for scaled in (False, True)))
def byte_wholes(taps: int, scaled: bool) -> Loop:
    """Return the loop that is `byte_taps` for weights that are whole numbers, in 16-bit arithmetic.

    The arguments are those of `byte_taps`, the weights as int32; all sums must fit into an int16. Without `scaled`,
    `gain` is 1 and `shift` a whole number.
    """
    count, store = (_STORE_SCALED if scaled else _STORE_WHOLE).strip().rpartition("\n")[::2][::-1]
    text = unroll(_BYTE_WHOLES, t=taps).replace("BLOCK", str(_BLOCK))
    text = text.replace("START", "np.int16(0)" if scaled else "np.int16(shift)")
    text = text.replace("COUNTER", "np.int32(0)" if scaled else "np.int16(0)")
    text = _put(_put(text, "COUNTED", f"{store}\n{count}"), "STORED", store)
    function = define(text, "byte_wholes", __name__, np=np)
    signature = "i8(u1[::1], i8[::1], i4[::1], u1[:, ::1], i8, i8, i8, f4, f4, i8, i8)"
    return loop(signature, constants=(taps, int(scaled)))(function)


def _put(text: str, mark: str, part: str) -> str:
    """Put the lines of `part` in the place of the lines that are `mark`, as far to the right."""
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines += [indent + each for each in part.splitlines()] if line.strip() == mark else [line]
    return "\n".join(lines)


_SET_PAIRS = """
def set_pairs(samples, line, weights, offsets, out, first, count):
    w{i}_{j} = weights[{i}, {j}]
    for left in range(0, count, BLOCK):
        end = first + min(left + BLOCK, count)
        for y in range(0, out.shape[0] - 1, 2):
            above = out[y][first + left : end]
            below = out[y + 1][first + left : end]
            here = samples[y * line + left :]
            s{row}_{j} = here[{row} * line + offsets[{j}] :]
            for x in range(above.shape[0]):
                upper = np.float32(0)
                lower = np.float32(0)
                SUMS
                above[x] = upper
                below[x] = lower
"""


@family(*((size, size) for size in range(2, 6)))
def set_pairs(height: int, width: int) -> Loop:
    """Return the loop for a small dense kernel of one size, two rows at once, all in registers.

    ``set_pairs(samples (S,), line, weights (height, width), offsets (width,), out (H, N), first, count)`` stores
    the sums of an even number of rows; row ``y + i`` of the samples starts at ``(y + i)·line``, and column `j` of
    the kernel reads ``offsets[j]`` further.
    """
    text = _pairs_text(_SET_PAIRS.replace("BLOCK", str(_BLOCK)), height, width)
    function = define(text, "set_pairs", __name__, np=np)
    signature = "void(f4[::1], i8, f4[:, ::1], i8[::1], f4[:, ::1], i8, i8)"
    return loop(signature, constants=(height, width))(function)


def _pairs_text(text: str, height: int, width: int) -> str:
    sums = []
    for row in range(height + 1):
        for j in range(width):
            sums.append(f"value = np.float32(s{row}_{j}[x])")
            sums += [f"upper += w{row}_{j} * value"] if row < height else []
            sums += [f"lower += w{row - 1}_{j} * value"] if row > 0 else []
    return _put(unroll(text, i=height, j=width, row=height + 1), "SUMS", "\n".join(sums))


_BYTE_BOX = """
def byte_box(source, sums, out, height, channels, gain, shift):
    column = sums[0]
    group = sums[1]
    clipped = 0
    for x in range(column.shape[0]):
        column[x] = 0
    for y in range(height - 1):
        row = source[y]
        for x in range(column.shape[0]):
            column[x] = int(column[x]) + int(row[x])
    for y in range(out.shape[0]):
        entering = source[y + height - 1]
        leaving = source[y - 1] if y > 0 else source[y]
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
        target = out[y]
        outside = np.int32(0)
        for x in range(target.shape[0]):
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

    ``byte_box(source, sums, out, height, channels, gain, shift)`` stores ``sum·gain + shift`` of the window of `height`
    rows, and returns how many were clipped; `source` (H + height − 1, N + (width − 1)·channels) gives `out` (H, N).
    Each column's sum moves down with the window, groups of neighbours are summed once, and groups make up the
    width: nothing grows faster than its root. `sums` (2, …) is as wide as the source and must hold a group.
    """
    text = unroll(_BYTE_BOX, i=group, j=width // group, k=width % group)
    text = text.replace("GROUPS", str(width // group)).replace("GROUP", str(group))
    function = define(text, "byte_box", __name__, np=np)
    arguments = "u1[:, ::1], i8, i8, f4, f4"
    return loop(
        f"i8(u1[:, ::1], u2[:, ::1], {arguments})", f"i8(u1[:, ::1], i4[:, ::1], {arguments})", constants=(width, group)
    )(function)


_ADD_COLUMNS = """
def add_columns(samples, line, weights, column, offsets, out, first, count):
    height = weights.shape[0]
    pairs = out.shape[0] // 2
    for left in range(0, count, BLOCK):
        end = first + min(left + BLOCK, count)
        for y in range(0, 2 * pairs, 2):
            upper = out[y][first + left : end]
            lower = out[y + 1][first + left : end]
            for i in range(height + 1):
                here = samples[(y + i) * line + left :]
                s{j} = here[offsets[column + {j}] :]
                if 0 < i < height:
                    u{j} = weights[i, column + {j}]
                    l{j} = weights[i - 1, column + {j}]
                    for x in range(upper.shape[0]):
                        above = upper[x]
                        below = lower[x]
                        v{j} = s{j}[x]
                        above += u{j} * v{j}
                        below += l{j} * v{j}
                        upper[x] = above
                        lower[x] = below
                elif i == 0:
                    u{j} = weights[i, column + {j}]
                    for x in range(upper.shape[0]):
                        total = UPPER
                        total += u{j} * s{j}[x]
                        upper[x] = total
                        lower[x] = LOWER
                else:
                    l{j} = weights[i - 1, column + {j}]
                    for x in range(lower.shape[0]):
                        total = lower[x]
                        total += l{j} * s{j}[x]
                        lower[x] = total
    for y in range(2 * pairs, out.shape[0]):
        for i in range(height):
            here = samples[(y + i) * line :]
            s{j} = here[offsets[column + {j}] :]
            u{j} = weights[i, column + {j}]
            block = out[y][first : first + count]
            for x in range(count):
                total = block[x] if i or ADDS else np.float32(0)
                total += u{j} * s{j}[x]
                block[x] = total
"""


@family(*((columns, fresh) for columns in range(5, WIDEST_CHUNK + 1) for fresh in (True, False)))
def add_columns(columns: int, fresh: bool) -> Loop:
    """Return the loop that adds some columns of a dense kernel to rows, two rows at once.

    ``add_columns(samples (S,), line, weights (kH, kW), column, offsets (kW,), out (H, N), first, count)`` adds
    the kernel's columns from `column` on; row ``y + i`` of the samples starts at ``(y + i)·line``, and column `j`
    of the kernel reads ``offsets[j]`` further. Each sample is loaded once for two rows of the output.
    """
    text = unroll(_ADD_COLUMNS, j=columns).replace("BLOCK", str(_BLOCK)).replace("ADDS", str(not fresh))
    text = text.replace("UPPER", "np.float32(0)" if fresh else "upper[x]")
    text = text.replace("LOWER", "np.float32(0)" if fresh else "lower[x]")
    function = define(text, "add_columns", __name__, np=np)
    signature = "void(f4[::1], i8, f4[:, ::1], i8, i8[::1], f4[:, ::1], i8, i8)"
    return loop(signature, constants=(columns, int(fresh)))(function)
