# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loop: round float results and saturate them to uint8 or uint16."""

from __future__ import annotations

import numpy as np

from cnnfilter.jit.loop import loop


@loop(
    "i8(f4[:, ::1], u1[:, ::1], i8, f4, f4, i8, f4)",
    "i8(f4[:, ::1], u2[:, ::1], i8, f4, f4, i8, f4)",
)
def finish(values, out, first, gain, shift, absolute, top):
    """Store ``values·gain + shift`` (H, N), rounded half up and clipped to 0…top, in ``out[:, first : first + N]``.

    With `absolute`, the absolute value is taken before rounding. NaN becomes 0. Returns how many samples were clipped.
    """
    clipped = 0
    limit = top + np.float32(0.5)
    for y in range(values.shape[0]):
        row = values[y]
        target = out[y][first:]
        outside = np.int32(0)  # as wide as the samples, so that as many fit into a vector
        for x in range(row.shape[0]):
            value = row[x] * gain + shift
            if absolute:
                value = abs(value)
            outside = np.int32(outside + np.int32((value < np.float32(-0.5)) | (value >= limit)))
            value = value if value > np.float32(0) else np.float32(0)
            target[x] = np.int32(min(value, top) + np.float32(0.5))
        clipped += int(outside)
    return clipped
