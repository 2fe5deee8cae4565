# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loops: the work of a network's layers between matrix products, on maps with interleaved channels.

Sums across channels are matrix products, by BLAS. These loops add biases, clip, convolve each map by itself and lay
windows side by side, while the values are still in the cache.
"""

from __future__ import annotations

import numpy as np

from cnnfilter.jit.loop import Loop, family, inline, loop
from cnnfilter.jit.templates import define, unroll


@loop("void(f4[::1], f4[::1], f4, f4)")
def shift(values, bias, low, high):
    """Add `bias` (T,), repeated, to `values` (N,), and clip to low…high."""
    for start in range(0, values.shape[0], bias.shape[0]):
        block = values[start : start + bias.shape[0]]
        for x in range(block.shape[0]):
            value = block[x] + bias[x]
            value = low if value < low else value
            block[x] = high if value > high else value


@loop("void(f4[::1], f4[::1], f4, f4, f4[::1])")
def shift_and_add(values, bias, low, high, more):
    """Add `bias` (T,), repeated, to `values` (N,), clip to low…high, and add `more` (N,)."""
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
    """Apply `shift` to rows `first` to `end` of `values` (rows, N); return the next row."""
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
"""Taps of the largest kernel (7x7) that has a loop of its own; a loop for a larger one would take long to compile."""


_DEPTHWISE_ARGUMENTS = (
    "f4[:, ::1], f4[::1], f4, f4, f4[::1], i8, i8, f4[:, ::1], f4[::1], f4, f4, f4[:, ::1], i8, i8, i8, i8, i8"
)


@loop(f"void(i8, {_DEPTHWISE_ARGUMENTS})")
def large_depthwise(
    kernel_width,
    values,
    before,
    before_low,
    before_high,
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
    down_dilation,
    across_dilation,
):
    """Convolve as `depthwise` does, with a kernel of any size that is `kernel_width` columns wide."""
    channels = bias.shape[0]
    rows = values.shape[0]
    reach = (kernel.shape[0] // kernel_width - 1) * down_dilation + 1
    ready = 0 if before.shape[0] else rows
    for y in range(out.shape[0] // width):
        ready = finish_rows(values, ready, min(rows, y * down - top + reach), before, before_low, before_high)
        for x in range(width):
            total = out[y * width + x]
            for c in range(channels):
                total[c] = bias[c]
            for t in range(kernel.shape[0]):
                weights = kernel[t]
                r = y * down - top + t // kernel_width * down_dilation
                column = (x * across - left + t % kernel_width * across_dilation) * channels
                if 0 <= r < rows and 0 <= column < values.shape[1]:
                    samples = values[r][column:]
                    for c in range(channels):
                        total[c] += weights[c] * samples[c]
            for c in range(channels):
                value = low if total[c] < low else total[c]
                total[c] = high if value > high else value


_DEPTHWISE_TEMPLATE = """
def depthwise(values, before, before_low, before_high, zeros, top, left, kernel, bias, low, high, out, width,
              down, across, down_dilation, across_dilation):
    channels = bias.shape[0]
    rows = values.shape[0]
    ready = 0 if before.shape[0] else rows
    k{i}_{j} = kernel[{i} * KERNEL_WIDTH + {j}]
    for y in range(out.shape[0] // width):
        needed = min(rows, y * down - top + LAST * down_dilation + 1)
        ready = finish_rows(values, ready, needed, before, before_low, before_high)
        y{i} = y * down - top + {i} * down_dilation
        r{i} = values[y{i}] if 0 <= y{i} < rows else zeros
        for start in range(0, width, COUNT):
            x = min(start, width - COUNT)  # the last windows may overlap those before
            x{n} = (x * across - left + {n} * across_dilation) * channels
            inside{n} = 0 <= x{n} < values.shape[1]
            s{i}_{n} = r{i}[x{n}:] if inside{n} else zeros
            out{o} = out[y * width + x + {o}]
            for c in range(channels):
                sum{o} = bias[c]
TAPS
                sum{o} = low if sum{o} < low else sum{o}
                out{o}[c] = high if sum{o} > high else sum{o}
"""


# The kernels and strides of the networks that ship.
@family((3, 3, 1), (3, 3, 2), (5, 5, 1), (5, 5, 2))
def depthwise(height: int, kernel_width: int, step: int) -> Loop:
    """Return the loop that convolves each map with its own kernel of `height` x `kernel_width`.

    ``depthwise(values (rows, W·C), before (T,), before_low, before_high, zeros (W·C,), top, left,
    kernel (height·kernel_width, C), bias (C,), low, high, out (rows'·width, C), width, down, across, down_dilation,
    across_dilation)`` stores the sums plus `bias`, clipped to low…high. The first window begins `top` rows and `left`
    columns before `values`; outside of them it contains `zeros`. `down` and `across` are the strides.

    If `before` is not empty, each row of `values` is first finished in place as by `shift`, with the bias `before` and
    clipped to before_low…before_high: just before the first window needs it, while it is in the cache.

    If `step` is not 0, it is the stride across; two neighbouring windows are computed at once, so that the samples that
    they share are loaded once, and `width` must be at least 2. (The sums of three would not fit into the registers, and
    LLVM's checks that no array overlaps another would cost more than they save.)
    """
    count = 2 if step else 1
    taps = []
    for i in range(height):
        for j in range(kernel_width):
            taps.append(f"weight = k{i}_{j}[c]")
            taps += [f"sum{o} += weight * s{i}_{j + o * step}[c]" for o in range(count)]
    text = _DEPTHWISE_TEMPLATE.replace("TAPS", "\n".join(" " * 16 + line for line in taps))
    text = text.replace("KERNEL_WIDTH", str(kernel_width)).replace("COUNT", str(count))
    text = text.replace("LAST", str(height - 1))
    text = unroll(text, i=height, j=kernel_width, n=kernel_width + (count - 1) * step, o=count)
    function = define(text, "depthwise", __name__, np=np, finish_rows=finish_rows)
    return loop(f"void({_DEPTHWISE_ARGUMENTS})", constants=(height, kernel_width, step))(function)


UNROLLED_VALUES_MAX = 32
"""Values of the longest row of a window whose copy is unrolled: in short rows, the overhead of a loop counts."""


@inline
def gather_dilated(row, first, spacing, kernel_width, out):
    """Copy `kernel_width` runs of values of `row`, `spacing` apart, side by side; zeros outside of `row`."""
    run = out.shape[0] // kernel_width
    for j in range(kernel_width):
        start = first + j * spacing
        target = out[j * run : (j + 1) * run]
        if 0 <= start < row.shape[0]:
            samples = row[start:]
            for c in range(run):
                target[c] = samples[c]
        else:
            for c in range(run):
                target[c] = np.float32(0)


_GATHER_TEMPLATE = """
def gather(values, windows, top, left, width, taps, kernel_width, down, across, down_dilation, across_dilation):
    run = windows.shape[1] // taps
    channels = run // kernel_width
    for p in range(windows.shape[0]):
        y = p // width * down - top
        x = (p % width * across - left) * channels
        for i in range(taps):
            target = windows[p][i * run : (i + 1) * run]
            r = y + i * down_dilation
            if r < 0 or r >= values.shape[0]:
                for c in range(run):
                    target[c] = np.float32(0)
            elif across_dilation > 1 or x < 0 or x + run > values.shape[1]:
                gather_dilated(values[r], x, across_dilation * channels, kernel_width, target)
            else:
                samples = values[r][x:]
COPY
"""


# Three taps of one map, three taps of three colours, and any number.
@family((3,), (9,), (0,))
def gather(numbers: int) -> Loop:
    """Return the loop that lays windows side by side, for windows with `numbers` values in a row; 0 for any number.

    ``gather(values (rows, W·C), windows (rows'·width, taps·kernel_width·C), top, left, width, taps, kernel_width, down,
    across, down_dilation, across_dilation)`` copies windows of `taps` rows. The first one begins `top` rows and `left`
    columns before the values; outside of them it contains zeros.
    """
    copy = ["for c in range(run):", "    target[c] = samples[c]"]
    if numbers:
        # All loads come before all stores: between loads and stores of single values LLVM would make no vectors.
        copy = [f"n{t} = samples[{t}]" for t in range(numbers)] + [f"target[{t}] = n{t}" for t in range(numbers)]
    text = _GATHER_TEMPLATE.replace("COPY", "\n".join(" " * 16 + line for line in copy))
    function = define(text, "gather", __name__, np=np, gather_dilated=gather_dilated)
    return loop("void(f4[:, ::1], f4[:, ::1], i8, i8, i8, i8, i8, i8, i8, i8, i8)", constants=(numbers,))(function)


@loop("void(f4[:, ::1], f4[::1])")
def mean(values, out):
    """Store the mean of each column of `values` (P, C) in `out` (C,)."""
    for c in range(out.shape[0]):
        out[c] = 0
    for p in range(values.shape[0]):
        row = values[p]
        for c in range(out.shape[0]):
            out[c] += row[c]
    share = np.float32(1) / np.float32(values.shape[0])
    for c in range(out.shape[0]):
        out[c] *= share
