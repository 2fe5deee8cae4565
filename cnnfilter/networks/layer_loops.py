# mypy: allow-untyped-defs, allow-incomplete-defs
"""The inner loops of a network's layers, on maps with the channels side by side.

A matrix product does the work that goes across channels; these loops do what stands between the products, while the
numbers are still in the cache.
"""

from __future__ import annotations

import numpy as np

from cnnfilter.jit.loop import Loop, family, inline, loop
from cnnfilter.jit.templates import define, unroll


@loop("void(f4[::1], f4[::1], f4, f4)")
def shift(values, bias, low, high):
    """Add `bias` (T,), repeated, to `values` (N,), and keep each number within low…high."""
    for start in range(0, values.shape[0], bias.shape[0]):
        block = values[start : start + bias.shape[0]]
        for x in range(block.shape[0]):
            value = block[x] + bias[x]
            value = low if value < low else value
            block[x] = high if value > high else value


@loop("void(f4[::1], f4[::1], f4, f4, f4[::1])")
def shift_and_add(values, bias, low, high, more):
    """As `shift`, and then add `more` (N,)."""
    for start in range(0, values.shape[0], bias.shape[0]):
        block = values[start : start + bias.shape[0]]
        other = more[start:]
        for x in range(block.shape[0]):
            value = block[x] + bias[x]
            value = low if value < low else value
            block[x] = (high if value > high else value) + other[x]


@loop("void(f4[::1], f4[::1])")
def add(values, more):
    """Add `more` (N,) to `values` (N,)."""
    for x in range(values.shape[0]):
        values[x] += more[x]


@inline
def finish_rows(values, first, end, bias, low, high):
    """As `shift`, for some rows of `values` (rows, N); return where the next begin."""
    while first < end:
        row = values[first]
        for start in range(0, row.shape[0], bias.shape[0]):
            block = row[start : start + bias.shape[0]]
            for x in range(block.shape[0]):
                value = block[x] + bias[x]
                value = low if value < low else value
                block[x] = high if value > high else value
        first += 1
    return first


UNROLLED_TAPS_MAX = 49
"""Of a kernel whose taps are written out one by one; larger ones would take long to compile."""


_DEPTHWISE_ARGUMENTS = (
    "f4[:, ::1], f4[::1], f4, f4, f4[::1], i8, i8, f4[:, ::1], f4[::1], f4, f4, f4[:, ::1], i8, i8, i8, i8, i8"
)


@loop(f"void(i8, {_DEPTHWISE_ARGUMENTS})")
def large_depthwise(
    wide,
    values,
    before,
    least,
    most,
    zeros,
    top,
    left,
    kernel,
    bias,
    low,
    high,
    out,
    width,
    down,
    across,
    down_apart,
    across_apart,
):
    """As `depthwise`, for a kernel of any size, `wide` columns across."""
    channels = bias.shape[0]
    rows = values.shape[0]
    reach = (kernel.shape[0] // wide - 1) * down_apart + 1
    ready = 0 if before.shape[0] else rows
    for y in range(out.shape[0] // width):
        ready = finish_rows(values, ready, min(rows, y * down - top + reach), before, least, most)
        for x in range(width):
            total = out[y * width + x]
            for c in range(channels):
                total[c] = bias[c]
            for t in range(kernel.shape[0]):
                weights = kernel[t]
                r = y * down - top + t // wide * down_apart
                column = (x * across - left + t % wide * across_apart) * channels
                if 0 <= r < rows and 0 <= column < values.shape[1]:
                    seen = values[r][column:]
                    for c in range(channels):
                        total[c] += weights[c] * seen[c]
            for c in range(channels):
                value = low if total[c] < low else total[c]
                total[c] = high if value > high else value


_DEPTHWISE = """
def depthwise(values, before, least, most, zeros, top, left, kernel, bias, low, high, out, width,
              down, across, down_apart, across_apart):
    channels = bias.shape[0]
    rows = values.shape[0]
    ready = 0 if before.shape[0] else rows
    k{i}_{j} = kernel[{i} * WIDE + {j}]
    for y in range(out.shape[0] // width):
        ready = finish_rows(values, ready, min(rows, y * down - top + LAST * down_apart + 1), before, least, most)
        y{i} = y * down - top + {i} * down_apart
        r{i} = values[y{i}] if 0 <= y{i} < rows else zeros
        for start in range(0, width, COUNT):
            x = min(start, width - COUNT)  # the last ones may be computed twice
            x{n} = (x * across - left + {n} * across_apart) * channels
            inside{n} = 0 <= x{n} < values.shape[1]
            s{i}_{n} = r{i}[x{n}:] if inside{n} else zeros
            out{o} = out[y * width + x + {o}]
            for c in range(channels):
                sum{o} = bias[c]
TAPS
                sum{o} = low if sum{o} < low else sum{o}
                out{o}[c] = high if sum{o} > high else sum{o}
"""


# The kernels, square, and steps of the networks that ship.
@family((3, 3, 1), (3, 3, 2), (5, 5, 1), (5, 5, 2))
def depthwise(height: int, wide: int, step: int) -> Loop:
    """Return the loop of one `height` x `wide` kernel a map.

    ``depthwise(values (rows, W·C), before (T,), least, most, zeros (W·C,), top, left, kernel (height·wide, C),
    bias (C,), low, high, out (rows'·width, C), width, down, across, down_apart, across_apart)``: just before the first
    window needs it, each row of `values` gets `before` (repeated) added and is kept within least…most, in place; an
    empty `before` leaves `values` as they are. The first window begins `top` rows and `left` columns before them.
    What a window sees of what is not there are `zeros`, so that all windows are computed alike. Then strides and
    dilations.

    With a `step` the windows of neighbours are so many columns apart, and two (of a width of at least two) are computed
    at once, so that what they share is loaded once. (Three would not fit the registers, and the compiler's checks that
    no array overlaps another would cost more than they save.)
    """
    count = 2 if step else 1
    taps = []
    for i in range(height):
        for j in range(wide):
            taps.append(f"weight = k{i}_{j}[c]")
            taps += [f"sum{o} += weight * s{i}_{j + o * step}[c]" for o in range(count)]
    text = _DEPTHWISE.replace("TAPS", "\n".join(" " * 16 + line for line in taps))
    text = text.replace("WIDE", str(wide)).replace("COUNT", str(count))
    text = text.replace("LAST", str(height - 1))
    text = unroll(text, i=height, j=wide, n=wide + (count - 1) * step, o=count)
    function = define(text, "depthwise", __name__, np=np, finish_rows=finish_rows)
    return loop(f"void({_DEPTHWISE_ARGUMENTS})", constants=(height, wide, step))(function)


UNROLLED_VALUES_MAX = 32
"""Of a window's row whose copy is written out number by number."""


@inline
def gather_apart(row, first, apart, wide, out):
    """Lay `wide` runs of numbers of `row`, `apart` from each other, side by side; zeros where `row` has none."""
    run = out.shape[0] // wide
    for j in range(wide):
        start = first + j * apart
        target = out[j * run : (j + 1) * run]
        if 0 <= start < row.shape[0]:
            samples = row[start:]
            for c in range(run):
                target[c] = samples[c]
        else:
            for c in range(run):
                target[c] = np.float32(0)


_GATHER = """
def gather(values, windows, top, left, width, taps, wide, down, across, down_apart, across_apart):
    run = windows.shape[1] // taps
    channels = run // wide
    for p in range(windows.shape[0]):
        y = p // width * down - top
        x = (p % width * across - left) * channels
        for i in range(taps):
            target = windows[p][i * run : (i + 1) * run]
            r = y + i * down_apart
            if r < 0 or r >= values.shape[0]:
                for c in range(run):
                    target[c] = np.float32(0)
            elif across_apart > 1 or x < 0 or x + run > values.shape[1]:
                gather_apart(values[r], x, across_apart * channels, wide, target)
            else:
                samples = values[r][x:]
COPY
"""


# Of three taps of one map, and of three colours; and of any number.
@family((3,), (9,), (0,))
def gather(numbers: int) -> Loop:
    """Return the loop that lays windows side by side, for rows of windows of so many `numbers`; 0 for any number.

    ``gather(values (rows, W·C), windows (rows'·width, taps·wide·C), top, left, width, taps, wide, down, across,
    down_apart, across_apart)``: the first window begins `top` rows and `left` columns before the values, and sees
    zeros there.
    """
    copy = ["for c in range(run):", "    target[c] = samples[c]"]
    if numbers:
        # First all are loaded, then all are stored: one could not be a vector with the other in between.
        copy = [f"n{t} = samples[{t}]" for t in range(numbers)] + [f"target[{t}] = n{t}" for t in range(numbers)]
    text = _GATHER.replace("COPY", "\n".join(" " * 16 + line for line in copy))
    function = define(text, "gather", __name__, np=np, gather_apart=gather_apart)
    return loop("void(f4[:, ::1], f4[:, ::1], i8, i8, i8, i8, i8, i8, i8, i8, i8)", constants=(numbers,))(function)


@loop("void(f4[:, ::1], f4[::1])")
def mean(values, out):
    """Give the mean of each column of `values` (P, C)."""
    for c in range(out.shape[0]):
        out[c] = 0
    for p in range(values.shape[0]):
        row = values[p]
        for c in range(out.shape[0]):
            out[c] += row[c]
    share = np.float32(1) / np.float32(values.shape[0])
    for c in range(out.shape[0]):
        out[c] *= share
