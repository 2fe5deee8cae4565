"""The compiled loops of `cnnfilter.filters` as plain functions with the same parameters.

Sums are made in float64. A twin of a family of loops takes the constants of the family first.
"""

from __future__ import annotations

import itertools

import numpy as np

# --- direct convolution --------------------------------------------------------------------------------


def weighted_sums(samples, starts, rows, offsets, weights, height, count, step):
    """Return sums (height, count): tap t of output (y, x) is at ``starts[y·step + rows[t]] + offsets[t] + x``."""
    sums = np.zeros((height, count))
    for y in range(height):
        for row, offset, weight in zip(rows, offsets, weights, strict=True):
            at = starts[y * step + row] + offset
            sums[y] += float(weight) * samples[at : at + count]
    return sums


def stored(sums, out, first, absolute, top, counted):
    """Store sums in ``out[:, first:]``: float32 as they are, whole numbers rounded half up into 0…top.

    Return how many lay outside of that range in the rows `counted`.
    """
    target = out[:, first : first + sums.shape[1]]
    if out.dtype == np.float32:
        target[...] = sums
        return 0
    values = np.abs(sums) if absolute else sums
    target[...] = np.floor(values.clip(0, top) + 0.5)
    return int(np.count_nonzero((values[counted] < -0.5) | (values[counted] >= top + 0.5)))


def every_row(out, count_every):
    """Return the rows in which samples outside of the range are counted."""
    return np.arange(0, len(out), count_every)


def one_row_of_four(out, count_every):
    """Return the rows that are counted where four are made at once; the last four may overlap those before."""
    groups = np.minimum(np.arange(0, len(out), 4), len(out) - 4)
    return np.arange(len(out)) if count_every == 1 else groups


def taps(samples, starts, rows, offsets, weights, out, first, count, step, shift, absolute, top, count_every):
    """Sum taps anywhere."""
    sums = shift + weighted_sums(samples, starts, rows, offsets, weights, len(out), count, step)
    return stored(sums, out, first, absolute, top, every_row(out, count_every))


def tile(samples, starts, weights, offsets, out, first, count, shift, absolute, top, count_every):
    """Sum the taps of a dense kernel (kH, kW): row i is i rows below, column j is ``offsets[j]`` further."""
    rows, columns = (index.ravel() for index in np.indices(weights.shape))
    sums = shift + weighted_sums(samples, starts, rows, offsets[columns], weights.ravel(), len(out), count, 1)
    return stored(sums, out, first, absolute, top, one_row_of_four(out, count_every))


def integers(samples, starts, rows, offsets, weights, out, first, count, step, gain, shift, absolute, count_every):
    """Sum bytes with whole weights, and store ``sum·gain + shift``."""
    sums = weighted_sums(samples, starts, rows, offsets, weights, len(out), count, step) * gain + shift
    return stored(sums, out, first, absolute, 255, every_row(out, count_every))


def separable(
    samples,
    starts,
    down,
    columns,
    across,
    rows,
    ends,
    lines,
    out,
    first,
    count,
    step,
    shift,
    absolute,
    top,
    count_every,
):
    """Sum products of a column and a row of weights, one for each two neighbours in `ends`."""
    sums = np.full((len(out), count), shift, np.float64)
    for (low, left), (high, right) in itertools.pairwise(ends):
        for column, distance in zip(columns[low:high], down[low:high], strict=True):
            for row, offset in zip(rows[left:right], across[left:right], strict=True):
                sums += weighted_sums(
                    samples, starts, [distance], [offset], [float(column) * row], len(out), count, step
                )
    return stored(sums, out, first, absolute, top, every_row(out, count_every))


def separable_tile(samples, starts, columns, across, rows, lines, out, first, count, shift, absolute, top, count_every):
    """Sum the taps of the kernel that is a column of weights times a row of weights."""
    return tile(samples, starts, np.outer(columns, rows), across, out, first, count, shift, absolute, top, count_every)


# --- boxes ----------------------------------------------------------------------------------------------


def box(samples, starts, height, width, channels, rows, count):
    """Return the sums (rows, count) of the window's bytes, whose columns are `channels` samples apart."""
    tall, wide = (index.ravel() for index in np.indices((height, width)))
    sums = weighted_sums(samples, starts, tall, wide * channels, np.ones(height * width), rows, count, 1)
    return sums.astype(np.int64)


def box_means(channels, samples, starts, lines, out, first, count, height, width, more, factor, shift):
    """Store means of bytes: a division by a multiplication and a shift."""
    sums = box(samples, starts, height, width, channels, len(out), count)
    out[:, first : first + count] = (sums + more) * factor >> (16 + shift)
    return 0


def box_sums(channels, samples, starts, lines, out, first, count, height, width, gain, shift, top, count_every):
    """Store ``sum·gain + shift`` of the bytes of a window."""
    sums = box(samples, starts, height, width, channels, len(out), count) * gain + shift
    return stored(sums, out, first, False, top, every_row(out, count_every))


def small_means(samples, starts, out, first, count, height, width, channels, more, factor, shift):
    """Store means of bytes, as `box_means`."""
    box_means(channels, samples, starts, None, out, first, count, height, width, more, factor, shift)


# --- borders --------------------------------------------------------------------------------------------


def fill(source, scratch, rows, columns, channels, left, right, constant):
    """Copy pixels from rows and columns of the source; those of -1 are the constant."""
    pixels = source.reshape(len(source), -1, channels)
    copied = pixels[np.ix_(rows, columns)]
    copied[rows < 0] = constant
    copied[:, columns < 0] = constant
    scratch[...] = copied.reshape(scratch.shape)


def largest_bits(values, first, count):
    """Return the largest bit pattern of float32 without their signs."""
    return int((values[:, first : first + count] & 0x7FFFFFFF).max())


def side_rows(
    samples,
    starts,
    places,
    rows,
    across,
    weights,
    out,
    first,
    count,
    channels,
    step,
    constant,
    shift,
    absolute,
    top,
    count_every,
):
    """Sum taps at a side of a picture, where rows that begin at -1 and columns at -1 are the constant."""
    sums = np.full((len(out), count, channels), shift, np.float64)
    for y, x in np.ndindex(len(out), count):
        for row, offset, weight in zip(rows, across, weights, strict=True):
            start, place = starts[y * step + row], places[x + offset]
            inside = start >= 0 and place >= 0
            sums[y, x] += weight * (samples[start + place * channels :][:channels] if inside else constant)
    return stored(sums.reshape(len(out), -1), out, first, absolute, top, every_row(out, count_every))


# --- Fourier --------------------------------------------------------------------------------------------


def frequencies(size):
    """Return the order in which the transform leaves the frequencies: by their remainder of 4, again and again."""
    if size <= 2:
        return np.arange(size)
    rest = frequencies(size // 4)
    return np.concatenate([4 * rest + remainder for remainder in range(4)])


def transform(re, im, cosines, sines):
    """Transform a complex tile (N, N) down and across; it is transposed, with its frequencies reordered."""
    size = len(re)
    order = frequencies(size)
    tile = np.fft.fft2(re[:, :size] + 1j * im[:, :size])[np.ix_(order, order)].T
    re[:, :size], im[:, :size] = tile.real, tile.imag


def convolve_pair(planes, spectrum, tables, samples, starts, tiles, step, rows, out, down, across):
    """Multiply one or two tiles of samples with a spectrum, and copy the rows and columns that are wanted."""
    size = spectrum.shape[1]
    order = frequencies(size)
    factors = np.empty((size, size), complex)
    factors[np.ix_(order, order)] = (spectrum[0, :, :size] + 1j * spectrum[1, :, :size]).T
    for left, columns, first, count in tiles:
        tile = np.zeros((size, size))
        for y in range(rows):
            tile[y, :columns] = samples[starts[y] + left :][: columns * step : step]
        result = np.fft.ifft2(np.fft.fft2(tile) * factors * size**2).real
        out[:, first : first + count * step : step] = result[: len(out) * down : down, : count * across : across]


# --- pooling --------------------------------------------------------------------------------------------


def larger(best, value):
    """Return the larger values: the first of equal ones, the last NaN."""
    return np.where((value > best) | np.isnan(value), value, best)


def smaller(best, value):
    """Return the smaller values: the first of equal ones, the last NaN."""
    return np.where((value < best) | np.isnan(value), value, best)


COMBINE = {"max": larger, "min": smaller, "avg": np.add}


def pooled(op, source, target, window, y0, y1, neutral, dtype):
    """Return rows `y0` to `y1` of the combined windows, whose samples are met line by line.

    `window` is C, taps down and across, stride down and across, dilation down and across, padding at the top and at
    the left.
    """
    channels, tall, wide, stride_y, stride_x, apart_y, apart_x, top, left = (int(number) for number in window)
    pixels = source.reshape(len(source), -1, channels)
    columns = target.shape[1] // channels
    result = np.empty((y1 - y0, columns, channels), dtype)
    for y in range(y0, y1):
        for x in range(columns):
            total = np.full(channels, neutral, dtype)
            for i in range(y * stride_y - top, y * stride_y - top + tall * apart_y, apart_y):
                for j in range(x * stride_x - left, x * stride_x - left + wide * apart_x, apart_x):
                    if 0 <= i < pixels.shape[0] and 0 <= j < pixels.shape[1]:
                        total = COMBINE[op](total, pixels[i, j].astype(dtype))
            result[y - y0, x] = total
    return result.reshape(y1 - y0, -1)


def extreme_rows(op, source, work, target, window, y0, y1, neutral):
    """Pool by max or min."""
    target[y0:y1] = pooled(op, source, target, window, y0, y1, neutral, source.dtype)


def ring_rows(op, source, work, ring, target, window, y0, y1, neutral, grouped):
    """Pool by max or min."""
    extreme_rows(op, source, work, target, window, y0, y1, neutral)


def mean_rows(source, work, target, high, wide, window, y0, y1, moves, whole):
    """Divide the sums of windows by their counts ``high[y]·wide[x]``; with `whole` these are reciprocals."""
    sums = pooled("avg", source, target, window, y0, y1, 0, np.float64)
    counts = high[y0:y1, None] * wide
    target[y0:y1] = np.floor((sums + 0.25) * counts + 0.5) if whole else sums / counts


def small_windows(op, taps, stride, source, blank, parts, spares, target, channels, top, left, y0, y1):
    """Pool square windows by max, or by the mean of all their samples, beyond the border those of `blank`."""
    window = channels, taps, taps, stride, stride, 1, 1, top, left
    if op == "max":
        extreme_rows(op, source, None, target, window, y0, y1, blank[0])
        return
    means = pooled(op, source, target, window, y0, y1, 0, np.float64) / taps**2
    target[y0:y1] = means if target.dtype == np.float32 else np.floor(means + 0.5)
