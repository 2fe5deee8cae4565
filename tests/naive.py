"""The slow, obvious oracle: every fast path is compared with these few lines.

Plain Python floats and loops, written from the definitions and not from the package's code.
"""

from __future__ import annotations

import math

import numpy as np


def pool(pixels, op, size, stride, padding, dilation=(1, 1), ceil_mode=False, count_include_pad=True):
    """Max, min or average pooling of (H, W, C) by PyTorch's rules; padding is (top, right, bottom, left).

    Gives float64 for the average, the input's dtype otherwise.
    """
    height, width, channels = pixels.shape
    top, right, bottom, left = padding
    rows = _starts(height, size[0], stride[0], top, bottom, dilation[0], ceil_mode)
    columns = _starts(width, size[1], stride[1], left, right, dilation[1], ceil_mode)
    out = np.zeros((len(rows), len(columns), channels), np.float64 if op == "avg" else pixels.dtype)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            taps = [(row + i * dilation[0], column + j * dilation[1]) for i in range(size[0]) for j in range(size[1])]
            padded = [(a, b) for a, b in taps if -top <= a < height + bottom and -left <= b < width + right]
            inside = [(a, b) for a, b in padded if 0 <= a < height and 0 <= b < width]
            for c in range(channels):
                values = [pixels[a, b, c] for a, b in inside]
                if op == "avg":
                    count = len(padded) if count_include_pad else len(inside)
                    out[y, x, c] = sum(float(v) for v in values) / count if count else 0.0
                else:
                    out[y, x, c] = _extreme(values, op, pixels.dtype)
    return out


def _starts(n, k, stride, before, after, dilation, ceil_mode):
    """Return the starts of the windows along one axis; the picture's first sample is at 0."""
    span = dilation * (k - 1) + 1
    last = (n + before + after - span) / stride
    count = (math.ceil(last) if ceil_mode else math.floor(last)) + 1
    starts = [i * stride - before for i in range(count)]
    if ceil_mode and starts[-1] >= n:
        starts.pop()
    return starts


def _extreme(values, op, dtype):
    """The first largest (smallest) value, or the last NaN if there is one."""
    if np.issubdtype(dtype, np.floating):
        best = dtype.type(-np.inf if op == "max" else np.inf)
    else:
        best = np.iinfo(dtype).min if op == "max" else np.iinfo(dtype).max
    for value in values:
        if (value > best if op == "max" else value < best) or value != value:
            best = value
    return best


def convolve(pixels, weights, stride=(1, 1), pads=((0, 0), (0, 0)), dilation=(1, 1), border="zero"):
    """Correlate every channel of (H, W, C) with (kH, kW) in float64; `pads` are before and after, y and x."""
    mode = {"replicate": "edge", "reflect": "reflect", "symmetric": "symmetric", "wrap": "wrap"}.get(border)
    pixels = pixels.astype(np.float64)
    if mode is None:
        value = float(border.partition(":")[2] or 0)
        padded = np.pad(pixels, (*pads, (0, 0)), constant_values=value)
    else:
        padded = np.pad(pixels, (*pads, (0, 0)), mode=mode)
    kernel_h, kernel_w = weights.shape
    height = (padded.shape[0] - dilation[0] * (kernel_h - 1) - 1) // stride[0] + 1
    width = (padded.shape[1] - dilation[1] * (kernel_w - 1) - 1) // stride[1] + 1
    out = np.zeros((height, width, pixels.shape[2]))
    for i in range(kernel_h):
        for j in range(kernel_w):
            if weights[i, j] != 0:  # 0 times infinity is no part of a sum
                a, b = i * dilation[0], j * dilation[1]
                seen = padded[a : a + (height - 1) * stride[0] + 1, b : b + (width - 1) * stride[1] + 1]
                out += weights[i, j] * seen[:: stride[0], :: stride[1]]
    return out
