"""The compiled loops of `cnnfilter.images` as plain functions with the same parameters."""

from __future__ import annotations

import numpy as np

from cnnfilter.images.formats.png_loops import AVERAGE, NONE, PAETH, SUB, UP


def predicted(kind, left, above, corner):
    """Return what a PNG filter subtracts from a byte, of the bytes at the left, above, and above the left."""
    if kind == PAETH:
        base = left + above - corner
        return min((left, above, corner), key=lambda value: abs(base - value))  # of equal distances the first
    return {NONE: 0, SUB: left, UP: above, AVERAGE: (left + above) // 2}[kind]


def unfilter(filtered, above, rows, step):
    """Undo the filters of PNG rows, one byte after the other; return 1 + the row with a filter that does not exist."""
    for y, (kind, *values) in enumerate(filtered.tolist()):
        if kind > PAETH:
            return y + 1
        upper, row = (rows[y - 1] if y else above).tolist(), []
        for x, value in enumerate(values):
            left, corner = (row[x - step], upper[x - step]) if x >= step else (0, 0)
            row.append((value + predicted(kind, left, upper[x], corner)) & 255)
        rows[y] = row
    return 0


def filter_rows(rows, filtered, step):
    """Filter each row by sub, up or Paeth, whichever gives the smallest sum of magnitudes as signed bytes.

    The first pixel does not count; of equal sums the order is up, sub, Paeth.
    """
    for y, (upper, row) in enumerate(zip(rows[:-1].tolist(), rows[1:].tolist(), strict=True)):
        best = None
        for kind in (UP, SUB, PAETH):
            values = []
            for x, value in enumerate(row):
                left, corner = (row[x - step], upper[x - step]) if x >= step else (0, 0)
                values.append((value - predicted(kind, left, upper[x], corner)) & 255)
            cost = sum(min(value, 256 - value) for value in values[step:])
            if best is None or cost < best:
                best, filtered[y] = cost, [kind, *values]


def drop_fourth(memory, first, end):
    """Move the first three bytes of pixels of four together."""
    memory[3 * first : 3 * end] = memory[4 * first : 4 * end].reshape(-1, 4)[:, :3].ravel()


def add_fourth(three, four, count):
    """Copy pixels of three bytes to four, the fourth 255."""
    pixels = np.full((count, 4), 255, np.uint8)
    pixels[:, :3] = three[: 3 * count].reshape(-1, 3)
    four[: 4 * count] = pixels.ravel()


def finish(values, out, first, gain, shift, fold, top):
    """Store ``values·gain + shift`` rounded half up into 0…top, NaN as 0; return how many lay outside."""
    scaled = values * np.float32(gain) + np.float32(shift)
    scaled = np.abs(scaled) if fold else scaled
    kept = np.where(np.isnan(scaled), 0, scaled).clip(0, top)
    out[:, first : first + values.shape[1]] = np.floor(kept + np.float32(0.5))
    return int(np.count_nonzero((scaled < -0.5) | (scaled >= top + 0.5)))
