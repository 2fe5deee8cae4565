"""The compiled loops of `cnnfilter.networks` as plain functions with the same parameters."""

from __future__ import annotations

import numpy as np


def shift(values, bias, low, high):
    """Add the bias, repeated, and clip."""
    values[...] = (values + np.resize(bias, len(values))).clip(low, high)


def shift_and_add(values, bias, low, high, more):
    """Add the bias, repeated, clip, and add `more`."""
    shift(values, bias, low, high)
    values += more


def add(values, more):
    """Add `more`."""
    values += more


def mean(values, out):
    """Return the mean of each column."""
    out[...] = values.mean(axis=0, dtype=np.float64)


def windows_of(values, channels, rows, columns, top, left, tall, wide, down, across, down_apart, across_apart):
    """Return the windows (rows·columns, tall, wide, C) of maps (H, W·C), zero beyond the border."""
    maps = values.reshape(len(values), -1, channels)
    windows = np.zeros((rows, columns, tall, wide, channels), values.dtype)
    for y, x, i, j in np.ndindex(rows, columns, tall, wide):
        row, column = y * down - top + i * down_apart, x * across - left + j * across_apart
        if 0 <= row < maps.shape[0] and 0 <= column < maps.shape[1]:
            windows[y, x, i, j] = maps[row, column]
    return windows.reshape(rows * columns, tall, wide, channels)


def large_depthwise(wide, values, before, least, most, zeros, top, left, kernel, bias, low, high, out, width, *steps):
    """Finish `values` in place if there is a bias `before`; convolve each map with its own kernel, add a bias, clip."""
    tall = len(kernel) // wide
    if len(before):
        for row in values:
            shift(row, before, least, most)
    windows = windows_of(values, len(bias), len(out) // width, width, top, left, tall, wide, *steps)
    sums = (windows.reshape(len(out), tall * wide, -1).astype(np.float64) * kernel).sum(axis=1)
    out[...] = (sums + bias).clip(low, high)


def depthwise(values, before, least, most, zeros, top, left, kernel, bias, low, high, out, width, *steps):
    """Do the same for a square kernel."""
    wide = round(len(kernel) ** 0.5)
    large_depthwise(wide, values, before, least, most, zeros, top, left, kernel, bias, low, high, out, width, *steps)


def gather(values, windows, top, left, width, taps, wide, *steps):
    """Copy each window side by side into a row."""
    channels = windows.shape[1] // (taps * wide)
    found = windows_of(values, channels, len(windows) // width, width, top, left, taps, wide, *steps)
    windows[...] = found.reshape(windows.shape)
