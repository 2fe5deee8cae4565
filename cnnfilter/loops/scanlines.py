"""Row filters of PNG (W3C PNG specification, third edition, section 9): undo them, choose and apply them.

Values are taken as 16-bit numbers: twice as many fit into a vector as of any wider type, and 9 bits would do.
(``int`` of a byte is an unsigned number to Numba, which has no negative differences.)
"""

from __future__ import annotations

import functools

import numpy as np

from cnnfilter.loops.native import Loop, inline, loop

NONE, SUB, UP, AVERAGE, PAETH = range(5)


@inline
def paeth(left, above, corner):  # type: ignore[no-untyped-def]
    """Return whichever of three int16 is nearest to left + above - corner; ties go in that order."""
    to_left = np.int16(above - corner)
    to_above = np.int16(left - corner)
    to_corner = np.int16(to_left + to_above)
    to_left = np.int16(-to_left) if to_left < 0 else to_left
    to_above = np.int16(-to_above) if to_above < 0 else to_above
    to_corner = np.int16(-to_corner) if to_corner < 0 else to_corner
    nearer = above if to_above < to_left else left
    nearest = to_above if to_above < to_left else to_left
    return corner if to_corner < nearest else nearer


@inline
def magnitude(difference):  # type: ignore[no-untyped-def]
    """Return how far a difference of bytes is from 0, once it is a signed byte itself."""
    wrapped = np.uint8(difference & 255)
    negated = np.uint8(-difference & 255)
    return np.int32(negated if negated < wrapped else wrapped)


@functools.cache
def unfilter(step: int) -> Loop:
    """Return the loop that undoes the row filters of pixels of `step` bytes (1, 2, 3, 4, 6 or 8)."""

    @loop("i8(u1[:, ::1], u1[::1], u1[:, ::1])", constants=(step,))
    def undo(filtered, above, rows):  # type: ignore[no-untyped-def]
        """Filtered rows (n, 1 + bytes) and the row above (bytes,) to rows (n, bytes).

        Returns 0, or 1 + the index of a row whose filter does not exist.
        """
        count, width = rows.shape
        start = min(step, width)
        for y in range(count):
            kind = filtered[y, 0]
            source = filtered[y, 1:]
            row = rows[y]
            upper = rows[y - 1] if y > 0 else above
            if kind == NONE:
                for x in range(width):
                    row[x] = source[x]
            elif kind == UP:
                for x in range(width):
                    row[x] = (np.int16(source[x]) + np.int16(upper[x])) & 255
            elif kind == SUB:
                for x in range(start):
                    row[x] = source[x]
                for x in range(start, width):
                    row[x] = (np.int16(source[x]) + np.int16(row[x - step])) & 255
            elif kind == AVERAGE:
                for x in range(start):
                    row[x] = (np.int16(source[x]) + (np.int16(upper[x]) >> 1)) & 255
                for x in range(start, width):
                    average = (np.int16(row[x - step]) + np.int16(upper[x])) >> 1
                    row[x] = (np.int16(source[x]) + average) & 255
            elif kind == PAETH:
                for x in range(start):
                    row[x] = (np.int16(source[x]) + np.int16(upper[x])) & 255
                for x in range(start, width):
                    nearest = paeth(np.int16(row[x - step]), np.int16(upper[x]), np.int16(upper[x - step]))
                    row[x] = (np.int16(source[x]) + nearest) & 255
            else:
                return y + 1
        return 0

    return undo


@functools.cache
def filter_rows(step: int) -> Loop:
    """Return the loop that filters rows of pixels of `step` bytes (1, 2, 3, 4, 6 or 8)."""

    @loop("void(u1[:, ::1], u1[:, ::1])", constants=(step,))
    def apply(rows, filtered):  # type: ignore[no-untyped-def]
        """The row above and rows (1 + n, bytes) to filtered rows (n, 1 + bytes).

        Each row gets, of sub, up and Paeth, the filter whose results have the smallest sum of magnitudes
        as signed bytes (the heuristic of the PNG specification, section 12.7). The two others hardly ever
        make a photo's file smaller.
        """
        count = filtered.shape[0]
        width = filtered.shape[1] - 1
        pairs = width - step
        for y in range(count):
            upper = rows[y]
            row = rows[y + 1]
            here = row[step:]
            above = upper[step:]
            target = filtered[y, 1:]
            by_sub = np.int32(0)
            by_up = np.int32(0)
            by_paeth = np.int32(0)
            for x in range(pairs):
                value = np.int16(here[x])
                left = np.int16(row[x])
                over = np.int16(above[x])
                corner = np.int16(upper[x])
                by_sub = np.int32(by_sub + magnitude(np.int16(value - left)))
                by_up = np.int32(by_up + magnitude(np.int16(value - over)))
                by_paeth = np.int32(by_paeth + magnitude(np.int16(value - paeth(left, over, corner))))
            if by_up <= by_sub and by_up <= by_paeth:
                filtered[y, 0] = UP
                for x in range(width):
                    target[x] = (np.int16(row[x]) - np.int16(upper[x])) & 255
            elif by_sub <= by_paeth:
                filtered[y, 0] = SUB
                for x in range(step):
                    target[x] = row[x]
                for x in range(pairs):
                    target[x + step] = (np.int16(here[x]) - np.int16(row[x])) & 255
            else:
                filtered[y, 0] = PAETH
                for x in range(step):
                    target[x] = (np.int16(row[x]) - np.int16(upper[x])) & 255
                for x in range(pairs):
                    nearest = paeth(np.int16(row[x]), np.int16(above[x]), np.int16(upper[x]))
                    target[x + step] = (np.int16(here[x]) - nearest) & 255

    return apply
