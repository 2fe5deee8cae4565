# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loops: the work of training between matrix products, forward and backward, on a batch of maps.

Maps are (N·H, W·C). A row of an output is one position in one picture: (N·H'·W', C). A geometry holds ``H, W, C, H',
W'``, the window's height and width, and down and across: stride, dilation, padding before. Maps are 0 beyond the
border.
"""

from __future__ import annotations

import math

import numpy as np

from cnnfilter.jit.loop import inline, loop


@inline
def clear(maps):
    """Set maps to 0."""
    for y in range(maps.shape[0]):
        row = maps[y]
        for x in range(row.shape[0]):
            row[x] = np.float32(0)


@inline
def corner(position, geometry):
    """Return the row and column where the window of a position begins."""
    across = geometry[4]
    return position // across * geometry[7] - geometry[11], position % across * geometry[8] - geometry[12]


@loop("void(f4[:, ::1], f4[:, ::1], i8[::1])")
def scatter(maps, windows, geometry):
    """Set each value of the maps to the sum of its copies in all windows (N·H'·W', kH·kW·C).

    This is the gradient of laying windows side by side.
    """
    height, width, channels = geometry[0], geometry[1], geometry[2]
    positions, tall, wide = geometry[3] * geometry[4], geometry[5], geometry[6]
    for n in range(maps.shape[0] // height):
        picture = maps[n * height : (n + 1) * height]
        clear(picture)
        for p in range(positions):
            window = windows[n * positions + p]
            y, x = corner(p, geometry)
            for i in range(tall):
                line = y + i * geometry[9]
                if line < 0 or line >= height:
                    continue
                row = picture[line]
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
def max_pool(maps, out, where, geometry, sign):
    """Store the largest value of each window (for a `sign` of −1 the smallest) and its tap: of equal ones the first."""
    height, width, channels = geometry[0], geometry[1], geometry[2]
    positions, tall, wide = geometry[3] * geometry[4], geometry[5], geometry[6]
    for n in range(maps.shape[0] // height):
        picture = maps[n * height : (n + 1) * height]
        for p in range(positions):
            best = out[n * positions + p]
            taps = where[n * positions + p]
            for c in range(channels):
                best[c] = -sign * np.float32(np.inf)
                taps[c] = np.uint8(0)
            y, x = corner(p, geometry)
            for i in range(tall):
                line = y + i * geometry[9]
                for j in range(wide):
                    column = x + j * geometry[10]
                    if 0 <= line < height and 0 <= column < width:
                        source = picture[line][column * channels :]
                        tap = np.uint8(i * wide + j)
                        for c in range(channels):
                            value = source[c]
                            better = value * sign > best[c] * sign
                            best[c] = value if better else best[c]
                            taps[c] = tap if better else taps[c]


@loop("void(f4[:, ::1], f4[:, ::1], u1[:, ::1], i8[::1])")
def max_pool_backward(maps, gradients, where, geometry):
    """Add each gradient to the value that `max_pool` chose."""
    height, width, channels = geometry[0], geometry[1], geometry[2]
    positions, tall, wide = geometry[3] * geometry[4], geometry[5], geometry[6]
    for n in range(maps.shape[0] // height):
        picture = maps[n * height : (n + 1) * height]
        clear(picture)
        for p in range(positions):
            gradient = gradients[n * positions + p]
            taps = where[n * positions + p]
            y, x = corner(p, geometry)
            for i in range(tall):
                line = y + i * geometry[9]
                for j in range(wide):
                    column = x + j * geometry[10]
                    if 0 <= line < height and 0 <= column < width:
                        target = picture[line][column * channels :]
                        tap = np.uint8(i * wide + j)
                        for c in range(channels):
                            value = gradient[c]
                            target[c] += value if taps[c] == tap else np.float32(0)


@loop("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[:, ::1], i8[::1])")
def depthwise(maps, kernel, bias, out, geometry):
    """Convolve each map with its own kernel (kH·kW, C), and add a bias."""
    height, width, channels = geometry[0], geometry[1], geometry[2]
    positions, tall, wide = geometry[3] * geometry[4], geometry[5], geometry[6]
    for n in range(maps.shape[0] // height):
        picture = maps[n * height : (n + 1) * height]
        for p in range(positions):
            total = out[n * positions + p]
            for c in range(channels):
                total[c] = bias[c]
            y, x = corner(p, geometry)
            for i in range(tall):
                line = y + i * geometry[9]
                for j in range(wide):
                    column = x + j * geometry[10]
                    if 0 <= line < height and 0 <= column < width:
                        source = picture[line][column * channels :]
                        weights = kernel[i * wide + j]
                        for c in range(channels):
                            total[c] += source[c] * weights[c]


@loop("void(f4[:, ::1], f4[:, ::1], f4[:, ::1], i8[::1])")
def depthwise_backward(maps, kernel, gradients, geometry):
    """Store the gradients of the maps, from those of the outputs of `depthwise`."""
    height, width, channels = geometry[0], geometry[1], geometry[2]
    positions, tall, wide = geometry[3] * geometry[4], geometry[5], geometry[6]
    for n in range(maps.shape[0] // height):
        picture = maps[n * height : (n + 1) * height]
        clear(picture)
        for p in range(positions):
            gradient = gradients[n * positions + p]
            y, x = corner(p, geometry)
            for i in range(tall):
                line = y + i * geometry[9]
                for j in range(wide):
                    column = x + j * geometry[10]
                    if 0 <= line < height and 0 <= column < width:
                        target = picture[line][column * channels :]
                        weights = kernel[i * wide + j]
                        for c in range(channels):
                            target[c] += gradient[c] * weights[c]


@loop("void(f4[:, ::1], f4[:, ::1], f4[:, ::1], i8[::1])")
def depthwise_kernel_backward(maps, kernel, gradients, geometry):
    """Add the gradients of the kernel to `kernel`, from those of the outputs of `depthwise`."""
    height, width, channels = geometry[0], geometry[1], geometry[2]
    positions, tall, wide = geometry[3] * geometry[4], geometry[5], geometry[6]
    for n in range(maps.shape[0] // height):
        picture = maps[n * height : (n + 1) * height]
        for p in range(positions):
            gradient = gradients[n * positions + p]
            y, x = corner(p, geometry)
            for i in range(tall):
                line = y + i * geometry[9]
                for j in range(wide):
                    column = x + j * geometry[10]
                    if 0 <= line < height and 0 <= column < width:
                        source = picture[line][column * channels :]
                        gained = kernel[i * wide + j]
                        for c in range(channels):
                            gained[c] += gradient[c] * source[c]


@loop("void(f4[::1], f4[::1], f4, f4)")
def clip_backward(gradients, values, low, high):
    """Set the gradients to 0 where `values`, clipped to low…high, are not between `low` and `high`."""
    for x in range(gradients.shape[0]):
        # Both loads come first: a load under a condition would keep LLVM from vectorising the loop.
        value = values[x]
        gradient = gradients[x]
        gradient = gradient if value > low else np.float32(0)
        gradients[x] = gradient if value < high else np.float32(0)


@loop("void(f4[:, ::1], f8[:, ::1])")
def moments(rows, out):
    """Store in `out` (2, C) the sums of each column of `rows` (P, C) and of its squares."""
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
def gradient_moments(rows, gradients, out, mean, scale):
    """Store in `out` (2, C) the sums of each column of the gradients, and of gradients · (rows − mean) · scale."""
    for c in range(rows.shape[1]):
        out[0, c] = 0.0
        out[1, c] = 0.0
    total = out[0]
    products = out[1]
    for p in range(rows.shape[0]):
        row = rows[p]
        gradient = gradients[p]
        for c in range(row.shape[0]):
            total[c] += np.float64(gradient[c])
            products[c] += np.float64(gradient[c] * ((row[c] - mean[c]) * scale[c]))


@loop("void(f4[:, ::1], f4[::1], f4[::1], f4, f4, f4[:, ::1])")
def scale_and_shift(rows, scale, shift, low, high, out):
    """Store ``row · scale + shift``, clipped to low…high, for each row (C,)."""
    for p in range(rows.shape[0]):
        row = rows[p]
        target = out[p]
        for c in range(row.shape[0]):
            value = row[c] * scale[c] + shift[c]
            value = low if value < low else value
            target[c] = high if value > high else value


@loop("void(f4[:, ::1], f4[:, ::1], f4[::1], f4[::1], f4[::1])")
def combine(rows, gradients, of_slope, of_row, more):
    """Replace the gradients by ``gradient · of_slope + row · of_row + more``."""
    for p in range(rows.shape[0]):
        row = rows[p]
        gradient = gradients[p]
        for c in range(row.shape[0]):
            gradient[c] = gradient[c] * of_slope[c] + row[c] * of_row[c] + more[c]


@loop("void(f4[::1], u2[::1], i8, f4, f4[::1])")
def drop(numbers, chances, limit, factor, out):
    """Store the numbers times `factor` where the chance is at least `limit`, else 0."""
    for x in range(out.shape[0]):
        value = numbers[x] * factor
        out[x] = value if chances[x] >= limit else np.float32(0)


@loop("void(f4[::1], f4[::1], f4[::1], f4[::1], f4, f4)")
def step_sgd(values, gradients, velocity, weight_decays, momentum, rate):
    """Move `values` by a step of SGD with Nesterov momentum and weight decay."""
    for x in range(values.shape[0]):
        gradient = gradients[x] + weight_decays[x] * values[x]
        speed = velocity[x] * momentum + gradient
        velocity[x] = speed
        values[x] -= rate * (gradient + momentum * speed)


@loop("void(f4[::1], f4[::1], f4[::1], f4[::1], f4[::1], f4, f4, f4, f4, f4, f4)")
def step_adamw(values, gradients, mean, square, weight_decays, first, second, of_mean, of_root, epsilon, rate):
    """Move `values` by a step of AdamW.

    `mean` and `square` are the running means of the gradients and of their squares, with decay rates `first` and
    `second`; the factors `of_mean` and `of_root` correct their bias towards the 0 that they began with.
    """
    for x in range(values.shape[0]):
        gradient = gradients[x]
        middle = mean[x] + (np.float32(1) - first) * (gradient - mean[x])
        spread = square[x] * second + (np.float32(1) - second) * (gradient * gradient)
        mean[x] = middle
        square[x] = spread
        step = middle * of_mean / (np.float32(math.sqrt(spread)) * of_root + epsilon)
        values[x] = values[x] * (np.float32(1) - rate * weight_decays[x]) - rate * step
