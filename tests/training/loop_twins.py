"""The compiled loops of `cnnfilter.training` as plain functions with the same parameters.

Maps are (N·H, W·C); a row of an output is one place of one picture, (N·H'·W', C). A geometry holds ``H, W, C, H', W'``,
the window's height and width, and down and across: stride, dilation, padding before.
"""

from __future__ import annotations

import numpy as np


def taps(maps, geometry):
    """Yield the places of an output and of the maps (N·H·W, C), and the tap that joins them, inside of the border."""
    height, width, _, rows, columns, tall, wide, down, across, down_apart, across_apart, top, left = geometry
    for n, y, x, i, j in np.ndindex(len(maps) // height, rows, columns, tall, wide):
        row, column = y * down + i * down_apart - top, x * across + j * across_apart - left
        if 0 <= row < height and 0 <= column < width:
            yield (n * rows + y) * columns + x, (n * height + row) * width + column, i * wide + j


def pixels_of(maps, geometry):
    """Return a view (N·H·W, C) of maps."""
    return maps.reshape(-1, geometry[2])


def scatter(maps, windows, geometry):
    """Add what windows hold of each pixel: the transpose of laying windows side by side."""
    pixels, parts = pixels_of(maps, geometry), windows.reshape(len(windows), -1, geometry[2])
    pixels[...] = 0
    for place, pixel, tap in taps(maps, geometry):
        pixels[pixel] += parts[place, tap]


def max_pool(maps, out, where, geometry, sign):
    """Return the largest value of each window, or the smallest for a sign of −1, and its tap."""
    pixels = pixels_of(maps, geometry)
    out[...], where[...] = -sign * np.inf, 0
    for place, pixel, tap in taps(maps, geometry):
        better = sign * pixels[pixel] > sign * out[place]
        out[place] = np.where(better, pixels[pixel], out[place])
        where[place] = np.where(better, tap, where[place])


def max_pool_backward(maps, gradients, where, geometry):
    """Add each gradient to the value that was chosen."""
    pixels = pixels_of(maps, geometry)
    pixels[...] = 0
    for place, pixel, tap in taps(maps, geometry):
        pixels[pixel] += np.where(where[place] == tap, gradients[place], 0)


def depthwise(maps, kernel, bias, out, geometry):
    """Convolve each map with its own kernel."""
    pixels = pixels_of(maps, geometry)
    out[...] = bias
    for place, pixel, tap in taps(maps, geometry):
        out[place] += pixels[pixel] * kernel[tap]


def depthwise_backward(maps, kernel, gradients, geometry):
    """Return the gradients of the maps."""
    pixels = pixels_of(maps, geometry)
    pixels[...] = 0
    for place, pixel, tap in taps(maps, geometry):
        pixels[pixel] += gradients[place] * kernel[tap]


def depthwise_kernel_backward(maps, kernel, gradients, geometry):
    """Add to `kernel` its gradients."""
    pixels = pixels_of(maps, geometry)
    for place, pixel, tap in taps(maps, geometry):
        kernel[tap] += gradients[place] * pixels[pixel]


def clip_backward(gradients, values, low, high):
    """Set the gradients to 0 where values were clipped."""
    gradients[~((values > low) & (values < high))] = 0


def moments(rows, out):
    """Sum each column, and its squares."""
    values = rows.astype(np.float64)
    out[...] = values.sum(axis=0), (values**2).sum(axis=0)


def gradient_moments(rows, gradients, out, mean, scale):
    """Sum each column of the gradients, and of the gradients times the normalized rows."""
    values = gradients.astype(np.float64)
    out[...] = values.sum(axis=0), (values * ((rows - mean) * scale)).sum(axis=0)


def scale_and_shift(rows, scale, shift, low, high, out):
    """Multiply, add, and clip."""
    out[...] = (rows * scale + shift).clip(low, high)


def combine(rows, gradients, of_gradient, of_row, more):
    """Replace the gradients by a sum of them, the rows and a constant."""
    gradients[...] = gradients * of_gradient + rows * of_row + more


def drop(numbers, chances, limit, factor, out):
    """Multiply by a factor where the chance is at least the limit; else 0."""
    out[...] = np.where(chances >= limit, numbers * np.float32(factor), 0)


def step_sgd(values, gradients, velocity, weight_decays, momentum, rate):
    """Move by Nesterov's momentum."""
    gradient = gradients + weight_decays * values
    velocity[...] = momentum * velocity + gradient
    values -= rate * (gradient + momentum * velocity)


def step_adamw(values, gradients, mean, square, weight_decays, first, second, of_mean, of_root, epsilon, rate):
    """Move by AdamW."""
    mean[...] = first * mean + (1 - first) * gradients
    square[...] = second * square + (1 - second) * gradients**2
    step = mean * of_mean / (np.sqrt(square) * of_root + epsilon)
    values[...] = values * (1 - rate * weight_decays) - rate * step


# --- Winograd (Lavin & Gray 2016, section 4.1, F(2x2, 3x3)) ------------------------------------------------

INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float64)
"""B transposed: from the 4x4 values that a tile sees to the tile."""
OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float64)
"""A transposed: from a tile to its 2x2 outputs."""


def tiles_of(maps, tiles, first, geometry, size):
    """Yield the place and channels of each tile, and the slices of the padded maps that it lies on."""
    _, _, channels, down, across, *_ = (int(number) for number in geometry)
    for tile in range(len(tiles) // (16 * channels)):
        line, column = first + tile // across, tile % across
        top, left = line % down * 2, column * 2
        yield tile, (line // down, slice(top, top + size), slice(left, left + size))


def padded(maps, geometry):
    """Return maps (N, H + …, W + …, C) with zeros around them, and the part that is the maps."""
    height, width, channels, down, across, top, left = (int(number) for number in geometry)
    plain = maps.reshape(-1, height, width, channels)
    wide = np.zeros((len(plain), max(2 * down + 4, top + height), max(2 * across + 4, left + width), channels))
    inner = wide[:, top : top + height, left : left + width]
    inner[...] = plain
    return wide, inner


def to_basis(basis, values):
    """Return ``basis · values · basisᵀ`` of values (n, n, C)."""
    return np.einsum("ai,bj,ijc->abc", basis, basis, values)


def change_basis(maps, tiles, first, geometry, basis):
    """Fill tiles with the values below them in another basis."""
    wide, _ = padded(maps, geometry)
    out = tiles.reshape(16, -1, int(geometry[2]))
    for tile, place in tiles_of(maps, tiles, first, geometry, basis.shape[1]):
        out[:, tile] = to_basis(basis, wide[place]).reshape(16, -1)


def to_tiles(maps, tiles, first, geometry):
    """Carry maps to tiles."""
    change_basis(maps, tiles, first, geometry, INPUT)


def into_tiles(maps, tiles, first, geometry):
    """Carry gradients of outputs to tiles: the transpose of `out_of_tiles`."""
    change_basis(maps, tiles, first, geometry, OUTPUT.T)


def add_from_tiles(maps, tiles, first, geometry):
    """Add tiles to maps: the transpose of `to_tiles`."""
    wide, inner = padded(maps, geometry)
    values = tiles.reshape(4, 4, -1, int(geometry[2]))
    for tile, place in tiles_of(maps, tiles, first, geometry, 4):
        wide[place] += to_basis(INPUT.T, values[:, :, tile])
    maps[...] = inner.ravel()


def out_of_tiles(maps, tiles, first, geometry, bias, low, high):
    """Carry tiles to outputs; add a bias, and clip."""
    wide, inner = padded(maps, geometry)
    values = tiles.reshape(4, 4, -1, int(geometry[2]))
    for tile, place in tiles_of(maps, tiles, first, geometry, 2):
        wide[place] = (to_basis(OUTPUT, values[:, :, tile]) + bias).clip(low, high)
    maps[...] = inner.ravel()


# --- augmentation ------------------------------------------------------------------------------------------


def change(pixels, matrices, gains, holes, mean, factor, out, height, width):
    """Sample pictures where matrices say, by bilinear interpolation with the edge repeated; normalize; cut holes."""
    channels = len(mean)
    y, x = np.indices((height, width)).astype(np.float32)
    for n, (m, gain, hole) in enumerate(zip(matrices, gains, holes, strict=True)):
        picture = pixels[n].reshape(height, width, channels).astype(np.float32)
        sy = (m[0] * y + m[1] * x + m[2]).clip(0, height - 1)
        sx = (m[3] * y + m[4] * x + m[5]).clip(0, width - 1)
        top, left = np.floor(sy).astype(int), np.floor(sx).astype(int)
        below, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
        fy, fx = (sy - top)[..., None], (sx - left)[..., None]
        upper = picture[top, left] * (1 - fx) + picture[top, right] * fx
        lower = picture[below, left] * (1 - fx) + picture[below, right] * fx
        sampled = ((upper * (1 - fy) + lower * fy) * gain).clip(None, 255)
        result = (sampled - mean) * factor
        result[hole[0] : hole[2], hole[1] : hole[3]] = 0
        out[n] = result.ravel()
