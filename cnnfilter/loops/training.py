"""The loops of training: what stands between the matrix products, forward and backward, on a batch of maps.

Maps are (N·H, W·C); a row of an output is one place of one picture, (N·H'·W', C). A geometry holds ``H, W, C, H',
W'``, the window's height and width, and down and across: stride, dilation, padding before. What lies beyond the
border is 0.
"""

from __future__ import annotations

import numpy as np

from cnnfilter.loops.native import loop

_MAPS_AND_ROWS = "void(f4[:, ::1], f4[:, ::1], i8[::1])"


@loop(_MAPS_AND_ROWS)
def gather(maps, windows, geometry):
    """Lay the windows of `maps` side by side: each row of `windows` (N·H'·W', kH·kW·C) is one."""
    height, width, channels = geometry[0], geometry[1], geometry[2]
    down, across, tall, wide = geometry[3], geometry[4], geometry[5], geometry[6]
    for p in range(windows.shape[0]):
        window = windows[p]
        picture = p // (down * across) * height
        y = p // across % down * geometry[7] - geometry[11]
        x = p % across * geometry[8] - geometry[12]
        for i in range(tall):
            line = y + i * geometry[9]
            part = window[i * wide * channels :]
            if line < 0 or line >= height:
                for c in range(wide * channels):
                    part[c] = np.float32(0)
            elif channels == 1:  # too short to be copied piece by piece
                row = maps[picture + line]
                for j in range(wide):
                    column = x + j * geometry[10]
                    part[j] = row[column] if 0 <= column < width else np.float32(0)
            elif geometry[10] == 1:
                first = min(wide, max(0, -x)) * channels
                end = max(first, min(wide, width - x) * channels)
                row = maps[picture + line]
                for c in range(first):
                    part[c] = np.float32(0)
                source = row[x * channels + first :]
                target = part[first:]
                for c in range(end - first):
                    target[c] = source[c]
                for c in range(end, wide * channels):
                    part[c] = np.float32(0)
            else:
                row = maps[picture + line]
                for j in range(wide):
                    column = x + j * geometry[10]
                    target = part[j * channels :]
                    if column < 0 or column >= width:
                        for c in range(channels):
                            target[c] = np.float32(0)
                    else:
                        source = row[column * channels :]
                        for c in range(channels):
                            target[c] = source[c]


@loop(_MAPS_AND_ROWS)
def scatter(maps, windows, geometry):
    """Add each window to the place in `maps` that `gather` takes it from; maps begin with 0."""
    height, width, channels = geometry[0], geometry[1], geometry[2]
    down, across, tall, wide = geometry[3], geometry[4], geometry[5], geometry[6]
    for y in range(maps.shape[0]):
        row = maps[y]
        for x in range(row.shape[0]):
            row[x] = np.float32(0)
    for p in range(windows.shape[0]):
        window = windows[p]
        picture = p // (down * across) * height
        y = p // across % down * geometry[7] - geometry[11]
        x = p % across * geometry[8] - geometry[12]
        for i in range(tall):
            line = y + i * geometry[9]
            if line < 0 or line >= height:
                continue
            row = maps[picture + line]
            part = window[i * wide * channels :]
            if geometry[10] == 1:
                first = min(wide, max(0, -x)) * channels
                end = min(wide, width - x) * channels
                target = row[x * channels + first :]
                source = part[first:]
                for c in range(end - first):
                    target[c] += source[c]
            else:
                for j in range(wide):
                    column = x + j * geometry[10]
                    if 0 <= column < width:
                        target = row[column * channels :]
                        source = part[j * channels :]
                        for c in range(channels):
                            target[c] += source[c]


@loop("void(f4[:, ::1], f4[:, ::1], u1[:, ::1], i8[::1], f4)")
def pool_most(maps, out, where, geometry, sign):
    """Give the largest number of each window (`sign` −1: the smallest), and at which tap it is; the first of equals."""
    height, width, channels = geometry[0], geometry[1], geometry[2]
    down, across, tall, wide = geometry[3], geometry[4], geometry[5], geometry[6]
    for p in range(out.shape[0]):
        best = out[p]
        taps = where[p]
        picture = p // (down * across) * height
        y = p // across % down * geometry[7] - geometry[11]
        x = p % across * geometry[8] - geometry[12]
        for c in range(channels):
            best[c] = -sign * np.float32(np.inf)
            taps[c] = np.uint8(0)
        for i in range(tall):
            line = y + i * geometry[9]
            for j in range(wide):
                column = x + j * geometry[10]
                if 0 <= line < height and 0 <= column < width:
                    source = maps[picture + line][column * channels :]
                    tap = np.uint8(i * wide + j)
                    for c in range(channels):
                        value = source[c]
                        more = value * sign > best[c] * sign
                        best[c] = value if more else best[c]
                        taps[c] = tap if more else taps[c]


@loop("void(f4[:, ::1], f4[:, ::1], u1[:, ::1], i8[::1])")
def pool_most_back(maps, slopes, where, geometry):
    """Hand each slope to the number that was chosen; maps begin with 0."""
    height, width, channels = geometry[0], geometry[1], geometry[2]
    down, across, tall, wide = geometry[3], geometry[4], geometry[5], geometry[6]
    for y in range(maps.shape[0]):
        row = maps[y]
        for x in range(row.shape[0]):
            row[x] = np.float32(0)
    for p in range(slopes.shape[0]):
        slope = slopes[p]
        taps = where[p]
        picture = p // (down * across) * height
        y = p // across % down * geometry[7] - geometry[11]
        x = p % across * geometry[8] - geometry[12]
        for i in range(tall):
            line = y + i * geometry[9]
            for j in range(wide):
                column = x + j * geometry[10]
                if 0 <= line < height and 0 <= column < width:
                    target = maps[picture + line][column * channels :]
                    tap = np.uint8(i * wide + j)
                    for c in range(channels):
                        value = slope[c]
                        target[c] += value if taps[c] == tap else np.float32(0)


@loop("void(f4[:, ::1], f4[:, ::1], f4[::1], i8[::1])")
def pool_mean(maps, out, shares, geometry):
    """Give the sum of each window times the share of its place (H'·W',)."""
    height, width, channels = geometry[0], geometry[1], geometry[2]
    down, across, tall, wide = geometry[3], geometry[4], geometry[5], geometry[6]
    for p in range(out.shape[0]):
        total = out[p]
        picture = p // (down * across) * height
        y = p // across % down * geometry[7] - geometry[11]
        x = p % across * geometry[8] - geometry[12]
        for c in range(channels):
            total[c] = np.float32(0)
        for i in range(tall):
            line = y + i * geometry[9]
            for j in range(wide):
                column = x + j * geometry[10]
                if 0 <= line < height and 0 <= column < width:
                    source = maps[picture + line][column * channels :]
                    for c in range(channels):
                        total[c] += source[c]
        share = shares[p % (down * across)]
        for c in range(channels):
            total[c] *= share


@loop("void(f4[:, ::1], f4[:, ::1], f4[::1], i8[::1])")
def pool_mean_back(maps, slopes, shares, geometry):
    """Hand each slope times its share to all numbers of the window; maps begin with 0."""
    height, width, channels = geometry[0], geometry[1], geometry[2]
    down, across, tall, wide = geometry[3], geometry[4], geometry[5], geometry[6]
    for y in range(maps.shape[0]):
        row = maps[y]
        for x in range(row.shape[0]):
            row[x] = np.float32(0)
    for p in range(slopes.shape[0]):
        slope = slopes[p]
        share = shares[p % (down * across)]
        picture = p // (down * across) * height
        y = p // across % down * geometry[7] - geometry[11]
        x = p % across * geometry[8] - geometry[12]
        for i in range(tall):
            line = y + i * geometry[9]
            for j in range(wide):
                column = x + j * geometry[10]
                if 0 <= line < height and 0 <= column < width:
                    target = maps[picture + line][column * channels :]
                    for c in range(channels):
                        target[c] += slope[c] * share


@loop("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[:, ::1], i8[::1])")
def depthwise(maps, kernel, bias, out, geometry):
    """Convolve each map with its own kernel (kH·kW, C)."""
    height, width, channels = geometry[0], geometry[1], geometry[2]
    down, across, tall, wide = geometry[3], geometry[4], geometry[5], geometry[6]
    for p in range(out.shape[0]):
        total = out[p]
        picture = p // (down * across) * height
        y = p // across % down * geometry[7] - geometry[11]
        x = p % across * geometry[8] - geometry[12]
        for c in range(channels):
            total[c] = bias[c]
        for i in range(tall):
            line = y + i * geometry[9]
            for j in range(wide):
                column = x + j * geometry[10]
                if 0 <= line < height and 0 <= column < width:
                    source = maps[picture + line][column * channels :]
                    weights = kernel[i * wide + j]
                    for c in range(channels):
                        total[c] += source[c] * weights[c]


@loop("void(f4[:, ::1], f4[:, ::1], f4[:, ::1], f4[:, ::1], f4[:, ::1], i8[::1])")
def depthwise_back(maps, kernel, slopes, maps_slope, kernel_slope, geometry):
    """Give the slopes of the maps, which begin with 0, and add those of the kernel to `kernel_slope`."""
    height, width, channels = geometry[0], geometry[1], geometry[2]
    down, across, tall, wide = geometry[3], geometry[4], geometry[5], geometry[6]
    for y in range(maps_slope.shape[0]):
        row = maps_slope[y]
        for x in range(row.shape[0]):
            row[x] = np.float32(0)
    for p in range(slopes.shape[0]):
        slope = slopes[p]
        picture = p // (down * across) * height
        y = p // across % down * geometry[7] - geometry[11]
        x = p % across * geometry[8] - geometry[12]
        for i in range(tall):
            line = y + i * geometry[9]
            for j in range(wide):
                column = x + j * geometry[10]
                if 0 <= line < height and 0 <= column < width:
                    source = maps[picture + line][column * channels :]
                    target = maps_slope[picture + line][column * channels :]
                    weights = kernel[i * wide + j]
                    gained = kernel_slope[i * wide + j]
                    for c in range(channels):
                        target[c] += slope[c] * weights[c]
                        gained[c] += slope[c] * source[c]


@loop("void(f4[::1], f4[::1], f4, f4)")
def keep_between(slopes, values, low, high):
    """Set the slopes to 0 where `values` is not between `low` and `high`."""
    for x in range(slopes.shape[0]):
        # Both are loaded first: a load under a condition would keep the loop from running on vectors.
        value = values[x]
        slope = slopes[x]
        slope = slope if value > low else np.float32(0)
        slopes[x] = slope if value < high else np.float32(0)


@loop("void(f4[:, ::1], f8[:, ::1])")
def moments(rows, out):
    """Add up each column of `rows` (P, C) and its squares, into `out` (2, C)."""
    for c in range(rows.shape[1]):
        out[0, c] = 0.0
        out[1, c] = 0.0
    total = out[0]
    squares = out[1]
    for p in range(rows.shape[0]):
        row = rows[p]
        for c in range(row.shape[0]):
            value = np.float64(row[c])
            total[c] += value
            squares[c] += value * value


@loop("void(f4[:, ::1], f4[:, ::1], f8[:, ::1], f4[::1], f4[::1])")
def slope_moments(rows, slopes, out, mean, scale):
    """Add up each column of the slopes, and of the slopes times the rows less their mean times `scale`."""
    for c in range(rows.shape[1]):
        out[0, c] = 0.0
        out[1, c] = 0.0
    total = out[0]
    products = out[1]
    for p in range(rows.shape[0]):
        row = rows[p]
        slope = slopes[p]
        for c in range(row.shape[0]):
            total[c] += np.float64(slope[c])
            products[c] += np.float64(slope[c] * ((row[c] - mean[c]) * scale[c]))


@loop("void(f4[:, ::1], f4[::1], f4[::1], f4[:, ::1])")
def scale_and_shift(rows, scale, shift, out):
    """Give ``row · scale + shift`` for each row (C,)."""
    for p in range(rows.shape[0]):
        row = rows[p]
        target = out[p]
        for c in range(row.shape[0]):
            target[c] = row[c] * scale[c] + shift[c]


@loop("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[::1], f4[::1])")
def combine(rows, slopes, of_slope, of_row, more):
    """Replace the slopes by ``slope · of_slope + row · of_row + more``."""
    for p in range(rows.shape[0]):
        row = rows[p]
        slope = slopes[p]
        for c in range(row.shape[0]):
            slope[c] = slope[c] * of_slope[c] + row[c] * of_row[c] + more[c]
