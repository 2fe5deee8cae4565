"""The inner loops of pooling.

A picture is rows of numbers, channels interleaved: (H, W·C). Each row of the picture is pooled across once,
into a ring that holds as many rows as a window is high; each row of the result then joins rows of the ring.
Across comes first so that the samples of a window are met line by line, as PyTorch meets them: of equal
numbers (0 and −0) the first one stays, and of several NaN the last.
"""

from __future__ import annotations

import functools

import numpy as np

from cnnfilter.loops.native import Inline, Loop, family, inline, loop


@inline
def larger(best, value):
    """Join for max; written so that it becomes two vector instructions."""
    best = value if value > best else best
    return value if value != value else best


@inline
def smaller(best, value):
    """Join for min."""
    best = value if value < best else best
    return value if value != value else best


@inline
def added(total, value):
    """Join for sums of floats."""
    return total + value


@inline
def counted(total, value):
    """Join for sums of bytes."""
    return np.int32(total) + np.int32(value)


_JOINS: dict[str, Inline] = {"max": larger, "min": smaller, "sum": added, "sum of bytes": counted}


SMALL = frozenset({(2, 2, 1), (2, 2, 3), (3, 2, 1), (3, 2, 3), (3, 1, 0)})
"""Windows of bytes and float32 with loops of their own: taps, stride, channels (0: any)."""


@functools.cache
def across_any(op: str) -> Inline:
    """Make the pooling of one row across, for any window."""
    join = _JOINS[op]

    @inline
    def across(row, work, out, window, neutral):
        """Pool `row` (W·C) across into `out` (W'·C); `work` (3, P·C) holds what the windows see.

        Windows of 1, 2, 4 … taps are joined from two halves, and those that make up `taps` from left to
        right, so the work grows with the logarithm of the window.
        """
        samples, joined = work[0], work[2]
        channels, taps, stride = window[0], window[2], window[4]
        step = window[6] * channels
        start = window[8] * channels
        reach = samples.shape[0]
        end = min(start + row.shape[0], reach)
        for j in range(start):
            samples[j] = neutral
        inside = samples[start:end]
        for j in range(inside.shape[0]):
            inside[j] = row[j]
        for j in range(end, reach):
            samples[j] = neutral
        length = reach - (taps - 1) * step
        width, covered, rest, at = 1, 0, taps, 0
        while rest > 0:
            # Named by their row: arrays that change places would keep the compiler from vectorising.
            windows = work[at]
            if rest & 1:
                shifted = windows[covered * step :][:length]
                if covered == 0:
                    for j in range(shifted.shape[0]):
                        joined[j] = shifted[j]
                else:
                    for j in range(shifted.shape[0]):
                        joined[j] = join(joined[j], shifted[j])
                covered += width
            rest >>= 1
            if rest > 0:
                wider = work[1 - at]
                shifted = windows[width * step :][: reach - (2 * width - 1) * step]
                for j in range(shifted.shape[0]):
                    wider[j] = join(windows[j], shifted[j])
                at = 1 - at
                width *= 2
        if stride == 1:
            for j in range(out.shape[0]):
                out[j] = joined[j]
        elif channels == 1:
            for x in range(out.shape[0]):
                out[x] = joined[x * stride]
        elif channels == 3:  # as 4 below, a number that the compiler knows
            for x in range(out.shape[0] // 3):
                for c in range(3):
                    out[x * 3 + c] = joined[x * stride * 3 + c]
        elif channels == 4:
            for x in range(out.shape[0] // 4):
                for c in range(4):
                    out[x * 4 + c] = joined[x * stride * 4 + c]
        else:
            for x in range(out.shape[0] // channels):
                for c in range(channels):
                    out[x * channels + c] = joined[x * stride * channels + c]

    return across


@functools.cache
def across_small(op: str, taps: int, stride: int, channels: int) -> Inline:
    """Make the pooling of one row across for a window of 2 or 3 neighbours, known to the compiler.

    With a stride of 1 the number of channels is of no matter, and `channels` 0.
    """
    join = _JOINS[op]

    @inline
    def across(row, work, out, window, neutral):
        """Pool `row` (W·C) across into `out` (W'·C)."""
        depth = channels if channels else window[0]
        left = window[8]
        width, outputs = row.shape[0] // depth, out.shape[0] // depth
        low = min((left + stride - 1) // stride, outputs)
        high = max(low, min((width + left - taps) // stride + 1, outputs))
        for edge in range(low + outputs - high):  # what reaches into the padding
            x = edge if edge < low else edge - low + high
            for c in range(depth):
                out[x * depth + c] = neutral
                for i in range(max(0, left - x * stride), min(taps, width + left - x * stride)):
                    q = (x * stride - left + i) * depth + c
                    out[x * depth + c] = join(out[x * depth + c], row[q])
        inside = out[low * depth : high * depth]
        first = row[(low * stride - left) * depth :]
        second = first[depth:]
        third = first[(taps - 1) * depth :]
        if stride == 1:
            if taps == 2:
                for j in range(inside.shape[0]):
                    inside[j] = join(first[j], second[j])
            else:
                for j in range(inside.shape[0]):
                    inside[j] = join(join(first[j], second[j]), third[j])
        elif taps == 2:
            for x in range(high - low):
                for c in range(channels):
                    q = x * stride * channels + c
                    inside[x * channels + c] = join(first[q], second[q])
        else:
            for x in range(high - low):
                for c in range(channels):
                    q = x * stride * channels + c
                    inside[x * channels + c] = join(join(first[q], second[q]), third[q])

    return across


@family(("min",), *(("max", *small) for small in ((), *sorted(SMALL))))
def extremes(op: str, taps: int = 0, stride: int = 0, channels: int = 0) -> Loop:
    """Make the loop of max or min: for any window, or for one of `SMALL`, square and without dilation."""
    join = _JOINS[op]
    across = across_small(op, taps, stride, channels) if taps else across_any(op)

    @loop(
        *(
            f"void({t}[:, ::1], {t}[:, ::1], {t}[:, ::1], {t}[:, ::1], i8[::1], i8, i8, f8)"
            for t in (("u1", "f4") if taps else ("u1", "u2", "f4"))
        ),
        constants=(int(op == "max"), taps, stride, channels),
    )
    def extreme_rows(source, work, ring, target, window, y0, y1, neutral):
        """Pool rows `y0` to `y1` of `target` (H', W'·C) from `source` (H, W·C).

        `window` is C, taps down and across, stride down and across, dilation down and across, padding at the
        top and at the left; `work` (3, P·C) takes a row as wide as the windows reach, `ring` (reach, W'·C)
        the pooled rows.
        """
        rows, down, apart, top = window[1], window[3], window[5], window[7]
        height, held = source.shape[0], ring.shape[0]
        done = 0
        for y in range(y0, y1):
            first = y * down - top
            end = min(first + (rows - 1) * apart + 1, height)
            for r in range(max(first, done), end):
                across(source[r], work, ring[r % held], window, neutral)
            done = max(done, end)
            out = target[y]
            if taps == 2 and 0 <= first <= height - 2:
                upper, lower = ring[first % held], ring[(first + 1) % held]
                for j in range(out.shape[0]):
                    out[j] = join(upper[j], lower[j])
            elif taps == 3 and 0 <= first <= height - 3:
                upper, middle, lower = ring[first % held], ring[(first + 1) % held], ring[(first + 2) % held]
                for j in range(out.shape[0]):
                    out[j] = join(join(upper[j], middle[j]), lower[j])
            else:
                for j in range(out.shape[0]):
                    out[j] = neutral
                for i in range(rows):
                    r = first + i * apart
                    if 0 <= r < height:
                        row = ring[r % held]
                        for j in range(out.shape[0]):
                            out[j] = join(out[j], row[j])

    return extreme_rows


@family((), *sorted(SMALL), *((*small, True) for small in sorted(SMALL)))
def means(taps: int = 0, stride: int = 0, channels: int = 0, of_bytes: bool = False) -> Loop:
    """Make the loop of the mean: for any window, or for one of `SMALL`, square and without dilation.

    Sums of any window are float64, which is exact for 8 and 16 bits; those of a small one are uint16 for
    bytes, else float32.
    """
    kind = "sum of bytes" if of_bytes else "sum"
    join = _JOINS[kind]
    across = across_small(kind, taps, stride, channels) if taps else across_any(kind)
    if not taps:
        sums, forms = "f8", [("u1", "u1"), ("u1", "f4"), ("u2", "u2"), ("u2", "f4"), ("f4", "f4")]
    elif of_bytes:
        sums, forms = "u2", [("u1", "u1"), ("u1", "f4")]
    else:
        sums, forms = "f4", [("f4", "f4")]
    real = np.float32 if taps else np.float64

    @loop(
        *(
            f"void({source}[:, ::1], {sums}[:, ::1], {sums}[:, ::1], {target}[:, ::1],"
            f" {'f4' if taps else 'f8'}[::1], {'f4' if taps else 'f8'}[::1], i8[::1], i8, i8, i8)"
            for source, target in forms
        ),
        constants=(taps, stride, channels, int(of_bytes)),
    )
    def mean_rows(source, work, ring, target, high, wide, window, y0, y1, whole):
        """Average into rows `y0` to `y1` of `target` (H', W'·C) from `source` (H, W·C); `window` as for max.

        A window counts ``high[y] * wide[j]`` samples. With `whole` these are one over the counts, and the mean
        is rounded half up: a quarter more in the whole sum outweighs the rounding of the reciprocals, so that
        halves go up, and is too little to lift anything else.
        """
        rows, down, apart, top = window[1], window[3], window[5], window[7]
        height, held = source.shape[0], ring.shape[0]
        done = 0
        for y in range(y0, y1):
            first = y * down - top
            end = min(first + (rows - 1) * apart + 1, height)
            for r in range(max(first, done), end):
                across(source[r], work, ring[r % held], window, 0)
            done = max(done, end)
            out = target[y]
            total = work[0]
            if taps == 2 and 0 <= first <= height - 2:
                upper, lower = ring[first % held], ring[(first + 1) % held]
                for j in range(out.shape[0]):
                    total[j] = join(upper[j], lower[j])
            elif taps == 3 and 0 <= first <= height - 3:
                upper, middle, lower = ring[first % held], ring[(first + 1) % held], ring[(first + 2) % held]
                for j in range(out.shape[0]):
                    total[j] = join(join(upper[j], middle[j]), lower[j])
            else:
                for j in range(out.shape[0]):
                    total[j] = 0
                for i in range(rows):
                    r = first + i * apart
                    if 0 <= r < height:
                        row = ring[r % held]
                        for j in range(out.shape[0]):
                            total[j] = join(total[j], row[j])
            samples = high[y]
            if whole:
                for j in range(out.shape[0]):
                    out[j] = np.int32((real(total[j]) + real(0.25)) * (samples * wide[j]) + real(0.5))
            else:
                for j in range(out.shape[0]):
                    out[j] = real(total[j]) / (samples * wide[j])

    return mean_rows
