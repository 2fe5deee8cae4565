"""The inner loops of a network's layers, on maps with the channels side by side.

A matrix product does the work that goes across channels; these loops do what stands between the products, while the
numbers are still in the cache.
"""

from __future__ import annotations

import numpy as np

from cnnfilter.loops.native import Loop, family, inline, loop
from cnnfilter.loops.unroll import define, unroll


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
def lay_row(values, r, bias, low, high, out, left):
    """As `shift`, from row `r` of `values` (rows, N) into the middle of `out` (M,), zeros around; zeros if no row."""
    if r < 0 or r >= values.shape[0]:
        for x in range(out.shape[0]):
            out[x] = np.float32(0)
    else:
        for x in range(left):
            out[x] = np.float32(0)
        for x in range(left + values.shape[1], out.shape[0]):
            out[x] = np.float32(0)
        row = values[r]
        middle = out[left : left + values.shape[1]]
        for start in range(0, row.shape[0], bias.shape[0]):
            block = row[start : start + bias.shape[0]]
            target = middle[start:]
            for x in range(block.shape[0]):
                value = block[x] + bias[x]
                value = low if value < low else value
                target[x] = high if value > high else value


@loop("void(f4[:, ::1], f4[:, ::1], i8, i8)")
def lay(values, padded, top, left):
    """Copy `values` (rows, N) into the middle of `padded` (R, M), row 0 to row `top`, zeros around."""
    for r in range(padded.shape[0]):
        out = padded[r]
        for x in range(out.shape[0]):
            out[x] = np.float32(0)
        if top <= r < top + values.shape[0]:
            row = values[r - top]
            middle = out[left : left + row.shape[0]]
            for x in range(row.shape[0]):
                middle[x] = row[x]


MOST_TAPS = 49
"""Of a kernel whose taps are written out one by one; larger ones would take long to compile."""


_DEPTHWISE_ARGUMENTS = (
    "f4[:, ::1], f4[::1], f4, f4, f4[:, ::1], i8, i8, f4[:, ::1], f4[::1], f4, f4, f4[:, ::1], i8, i8, i8, i8, i8"
)


@loop(f"void(i8, {_DEPTHWISE_ARGUMENTS})")
def large_depthwise(
    wide,
    values,
    before,
    least,
    most,
    ring,
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
    reach = ring.shape[0]
    ready = 0
    for y in range(out.shape[0] // width):
        while ready < y * down + reach:
            lay_row(values, ready - top, before, least, most, ring[ready % reach], left)
            ready += 1
        for x in range(width):
            total = out[y * width + x]
            for c in range(channels):
                total[c] = bias[c]
            for t in range(kernel.shape[0]):
                weights = kernel[t]
                seen = ring[(y * down + t // wide * down_apart) % reach][
                    (x * across + t % wide * across_apart) * channels :
                ]
                for c in range(channels):
                    total[c] += weights[c] * seen[c]
            for c in range(channels):
                value = low if total[c] < low else total[c]
                total[c] = high if value > high else value


_DEPTHWISE = """
def depthwise(values, before, least, most, ring, top, left, kernel, bias, low, high, out, width,
              down, across, down_apart, across_apart):
    channels = bias.shape[0]
    reach = ring.shape[0]
    ready = 0
    k{i}_{j} = kernel[{i} * WIDE + {j}]
    for y in range(out.shape[0] // width):
        while ready < y * down + reach:
            lay_row(values, ready - top, before, least, most, ring[ready % reach], left)
            ready += 1
        r{i} = ring[(y * down + {i} * down_apart) % reach]
        for start in range(0, width, COUNT):
            x = min(start, width - COUNT)  # the last ones may be computed twice
            s{i}_{n} = r{i}[(x * across + {n} * across_apart) * channels :]
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

    ``depthwise(values (rows, W·C), before (T,), least, most, ring (reach, X·C), top, left, kernel (height·wide, C),
    bias (C,), low, high, out (rows'·width, C), width, down, across, down_apart, across_apart)``: each row of `values`
    gets `before` (repeated) added, is kept within least…most, and laid into the ring with zeros around, just before
    the first window needs it; `top` rows of zeros stand before the first. Then strides and dilations.

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
    text = unroll(text, i=height, j=wide, n=wide + (count - 1) * step, o=count)
    function = define(text, "depthwise", __name__, np=np, lay_row=lay_row)
    return loop(f"void({_DEPTHWISE_ARGUMENTS})", constants=(height, wide, step))(function)


@loop("void(f4[:, ::1], f4[:, ::1], i8, i8, i8, i8, i8, i8, i8)")
def gather(padded, windows, width, taps, wide, down, across, down_apart, across_apart):
    """Lay the windows of `padded` (R, X·C) side by side: each row of `windows` (rows·width, taps·wide·C) is one."""
    channels = windows.shape[1] // (taps * wide)
    run = wide * channels if across_apart == 1 else channels
    pieces = wide * channels // run
    for p in range(windows.shape[0]):
        y = p // width * down
        x = p % width * across
        window = windows[p]
        for i in range(taps):
            row = padded[y + i * down_apart]
            for j in range(pieces):
                samples = row[(x + j * across_apart) * channels :]
                target = window[(i * pieces + j) * run :]
                for c in range(run):
                    target[c] = samples[c]


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
