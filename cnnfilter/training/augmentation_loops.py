# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loop: apply random changes to training pictures: move, turn, scale, brighten, cut a hole."""

from __future__ import annotations

import math

import numpy as np

from cnnfilter.jit.loop import loop


@loop("void(u1[:, ::1], f4[:, ::1], f4[::1], i8[:, ::1], f4[::1], f4[::1], f4[:, ::1], i8, i8)")
def change(pixels, matrices, gains, holes, mean, factor, out, height, width):
    """Store ``(sample · gain − mean) · factor`` for each pixel of each picture (H·W·C) of `pixels`.

    The samples are interpolated between four pixels. A matrix (6,) maps the pixel (y, x) of `out` to
    ``(m0·y + m1·x + m2, m3·y + m4·x + m5)`` of the picture, whose edge is repeated beyond its border. The rectangle
    `holes` (top, left, bottom, right) becomes 0.
    """
    channels = mean.shape[0]
    for n in range(pixels.shape[0]):
        source = pixels[n]
        target = out[n]
        m = matrices[n]
        gain = gains[n]
        still = m[0] == 1 and m[1] == 0 and m[2] == 0 and m[3] == 0 and m[4] == 1 and m[5] == 0
        for y in range(height):
            for x in range(width):
                at = (y * width + x) * channels
                if still:
                    for c in range(channels):
                        value = min(np.float32(source[at + c]) * gain, np.float32(255))
                        target[at + c] = (value - mean[c]) * factor[c]
                else:
                    sy = min(max(m[0] * y + m[1] * x + m[2], np.float32(0)), np.float32(height - 1))
                    sx = min(max(m[3] * y + m[4] * x + m[5], np.float32(0)), np.float32(width - 1))
                    top = math.floor(sy)
                    left = math.floor(sx)
                    fy = np.float32(sy - top)
                    fx = np.float32(sx - left)
                    down = width * channels if top + 1 < height else 0
                    right = channels if left + 1 < width else 0
                    corner = (top * width + left) * channels
                    for c in range(channels):
                        a = np.float32(source[corner + c])
                        b = np.float32(source[corner + right + c])
                        d = np.float32(source[corner + down + c])
                        e = np.float32(source[corner + down + right + c])
                        upper = a + (b - a) * fx
                        lower = d + (e - d) * fx
                        value = min((upper + (lower - upper) * fy) * gain, np.float32(255))
                        target[at + c] = (value - mean[c]) * factor[c]
        for y in range(holes[n, 0], holes[n, 2]):
            for k in range((y * width + holes[n, 1]) * channels, (y * width + holes[n, 3]) * channels):
                target[k] = np.float32(0)
