"""The inner loops of a network's layers, on maps with the channels side by side.

A matrix product does the work that goes across channels; these loops do what stands between the products, while the
numbers are still in the cache.
"""

from __future__ import annotations

import functools

import numpy as np

from cnnfilter.loops.native import Loop, loop
from cnnfilter.loops.unroll import define, unroll


@loop("void(f4[:, ::1], f4[::1], f4, f4, i8, i8)")
def shift(values, bias, low, high, first, end):  # type: ignore[no-untyped-def]
    """Add `bias` (C,) to the rows `first`…`end` of `values` (P, C), and keep each number within low…high."""
    for p in range(first, end):
        row = values[p]
        for c in range(bias.shape[0]):
            value = row[c] + bias[c]
            value = low if value < low else value
            row[c] = high if value > high else value


@loop("void(f4[:, ::1], f4[:, ::1], i8, i8)")
def add(values, more, first, end):  # type: ignore[no-untyped-def]
    """Add the rows `first`…`end` of `more` (P, C) to those of `values` (P, C)."""
    for p in range(first, end):
        row = values[p]
        other = more[p]
        for c in range(row.shape[0]):
            row[c] += other[c]


@loop("void(f4[:, ::1], f4[::1], f4, f4, f4[:, ::1], i8, i8, i8)")
def shift_into(values, bias, low, high, padded, width, top, left):  # type: ignore[no-untyped-def]
    """As `shift`, from `values` (rows·width, C) into the middle of `padded` (R, X·C), with zeros around.

    Row 0 of the values goes to row `top`, their column 0 to column `left`.
    """
    channels = bias.shape[0]
    rows = values.shape[0] // width
    for r in range(padded.shape[0]):
        out = padded[r]
        if r < top or r >= top + rows:
            for x in range(out.shape[0]):
                out[x] = np.float32(0)
        else:
            for x in range(left * channels):
                out[x] = np.float32(0)
            for x in range((left + width) * channels, out.shape[0]):
                out[x] = np.float32(0)
            for x in range(width):
                row = values[(r - top) * width + x]
                target = out[(left + x) * channels :]
                for c in range(channels):
                    value = row[c] + bias[c]
                    value = low if value < low else value
                    target[c] = high if value > high else value


_DEPTHWISE = """
def depthwise(padded, kernel, bias, low, high, out, width, down, across, down_apart, across_apart):
    channels = bias.shape[0]
    for y in range(out.shape[0] // width):
        r{i} = padded[y * down + {i} * down_apart]
        x = 0
        while x < width:
            step = 2 if x + 1 < width else 1
            a{i}_{j} = r{i}[(x * across + {j} * across_apart) * channels :]
            k{i}_{j} = kernel[{i} * WIDE + {j}]
            first = out[y * width + x]
            if step == 2:
                b{i}_{j} = r{i}[((x + 1) * across + {j} * across_apart) * channels :]
                second = out[y * width + x + 1]
                for c in range(channels):
                    one = bias[c]
                    two = bias[c]
                    w{i}_{j} = k{i}_{j}[c]
                    one += w{i}_{j} * a{i}_{j}[c]
                    two += w{i}_{j} * b{i}_{j}[c]
                    one = low if one < low else one
                    two = low if two < low else two
                    first[c] = high if one > high else one
                    second[c] = high if two > high else two
            else:
                for c in range(channels):
                    one = bias[c]
                    one += k{i}_{j}[c] * a{i}_{j}[c]
                    one = low if one < low else one
                    first[c] = high if one > high else one
            x += step
"""


@functools.cache
def depthwise(height: int, wide: int) -> Loop:
    """Return the loop of one `height` x `wide` kernel a map.

    ``depthwise(padded (R, X·C), kernel (height·wide, C), bias (C,), low, high, out (rows·width, C), width, down,
    across, down_apart, across_apart)``: strides, then dilations. Two neighbours at once, so that each weight is loaded once for both.
    """
    text = unroll(_DEPTHWISE.replace("WIDE", str(wide)), i=height, j=wide)
    function = define(text, "depthwise", __name__, np=np)
    signature = "void(f4[:, ::1], f4[:, ::1], f4[::1], f4, f4, f4[:, ::1], i8, i8, i8, i8, i8)"
    return loop(signature, constants=(height, wide))(function)


@loop("void(f4[:, ::1], f4[:, ::1], i8, i8, i8, i8, i8, i8, i8)")
def gather(padded, windows, width, taps, wide, down, across, down_apart, across_apart):  # type: ignore[no-untyped-def]
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
def mean(values, out):  # type: ignore[no-untyped-def]
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
