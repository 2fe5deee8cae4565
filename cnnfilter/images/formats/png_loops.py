# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loops: the row filters of PNG: undo them, choose and apply them.

The loops compute in int16: sums and differences of bytes need 11 bits, and a vector holds twice as many int16 as
numbers of any wider type. (``int`` of a byte is unsigned in Numba, and so are differences of such numbers.)

References
----------
W3C PNG specification, third edition, section 9.
"""

from __future__ import annotations

import numpy as np

from cnnfilter.jit.loop import inline, loop

NONE, SUB, UP, AVERAGE, PAETH = range(5)


@inline
def paeth(left, above, corner):
    """Return the nearest of three int16 to left + above - corner: of equally near ones left, above, corner.

    The form without distances and branches: the larger of left and above if corner is far below them, the smaller if it
    is far above them, else corner. It is F. Giesen's, from stb_image.
    """
    threshold = np.int16(3 * corner - left - above)
    smaller = left if left < above else above
    larger = above if left < above else left
    nearest = smaller if larger <= threshold else corner
    return larger if threshold <= smaller else nearest


@inline
def magnitude(difference):
    """Return the absolute value of a difference of bytes, taken as a signed byte."""
    wrapped = np.uint8(difference & 255)
    negated = np.uint8(-difference & 255)
    return np.int32(negated if negated < wrapped else wrapped)


@loop("i8(u1[:, ::1], u1[::1], u1[:, ::1], i8)")
def unfilter(filtered, above, rows, step):
    """Turn filtered rows (n, 1 + bytes) and the row above them (bytes,) into rows (n, bytes).

    Pixels are `step` bytes apart. Returns 0, or 1 + the index of a row whose filter does not exist.
    """
    count, width = rows.shape
    for y in range(count):
        kind = filtered[y, 0]
        source = filtered[y, 1:]
        row = rows[y]
        upper = rows[y - 1] if y > 0 else above
        first = source[:step]
        rest = source[step:]
        here = row[step:]
        over = upper[step:]
        if kind == NONE:
            for x in range(width):
                row[x] = source[x]
        elif kind == UP:
            for x in range(width):
                row[x] = (np.int16(source[x]) + np.int16(upper[x])) & 255
        elif kind == SUB:
            for x in range(step):
                row[x] = first[x]
            for x in range(width - step):
                here[x] = (np.int16(rest[x]) + np.int16(row[x])) & 255
        elif kind == AVERAGE:
            for x in range(step):
                row[x] = (np.int16(first[x]) + (np.int16(upper[x]) >> 1)) & 255
            for x in range(width - step):
                here[x] = (np.int16(rest[x]) + ((np.int16(row[x]) + np.int16(over[x])) >> 1)) & 255
        elif kind == PAETH:
            for x in range(step):
                row[x] = (np.int16(first[x]) + np.int16(upper[x])) & 255
            for x in range(width - step):
                nearest = paeth(np.int16(row[x]), np.int16(over[x]), np.int16(upper[x]))
                here[x] = (np.int16(rest[x]) + nearest) & 255
        else:
            return y + 1
    return 0


@loop("void(u1[:, ::1], u1[:, ::1], i8)")
def filter_rows(rows, filtered, step):
    """Turn rows and the row above them (1 + n, bytes) into filtered rows (n, 1 + bytes).

    Pixels are `step` bytes apart. Each row gets the filter of sub, up and Paeth whose results have the smallest sum of
    absolute values as signed bytes: the heuristic of the PNG specification, section 12.7. The two other filters hardly
    ever make the file of a photo smaller.
    """
    count = filtered.shape[0]
    width = filtered.shape[1] - 1
    pairs = width - step
    for y in range(count):
        upper = rows[y]
        row = rows[y + 1]
        here = row[step:]
        over = upper[step:]
        target = filtered[y, 1:]
        by_sub = np.int32(0)
        by_up = np.int32(0)
        by_paeth = np.int32(0)
        for x in range(pairs):
            value = np.int16(here[x])
            left = np.int16(row[x])
            above = np.int16(over[x])
            by_sub = np.int32(by_sub + magnitude(np.int16(value - left)))
            by_up = np.int32(by_up + magnitude(np.int16(value - above)))
            nearest = paeth(left, above, np.int16(upper[x]))
            by_paeth = np.int32(by_paeth + magnitude(np.int16(value - nearest)))
        if by_up <= by_sub and by_up <= by_paeth:
            filtered[y, 0] = UP
            for x in range(width):
                target[x] = (np.int16(row[x]) - np.int16(upper[x])) & 255
        elif by_sub <= by_paeth:
            filtered[y, 0] = SUB
            for x in range(step):
                target[x] = row[x]
            rest = target[step:]
            for x in range(pairs):
                rest[x] = (np.int16(here[x]) - np.int16(row[x])) & 255
        else:
            filtered[y, 0] = PAETH
            for x in range(step):
                target[x] = (np.int16(row[x]) - np.int16(upper[x])) & 255
            rest = target[step:]
            for x in range(pairs):
                nearest = paeth(np.int16(row[x]), np.int16(over[x]), np.int16(upper[x]))
                rest[x] = (np.int16(here[x]) - nearest) & 255
