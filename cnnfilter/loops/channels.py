"""A fourth byte for each pixel of three, and without it again: Pillow keeps colours in four."""

from __future__ import annotations

from cnnfilter.loops.native import loop


@loop("void(u1[:, ::1], u1[:, ::1])")
def drop_fourth(four, three):
    """Pixels (n, 4) to their first three bytes (n, 3)."""
    for x in range(len(three)):
        three[x, 0] = four[x, 0]
        three[x, 1] = four[x, 1]
        three[x, 2] = four[x, 2]


@loop("void(u1[:, ::1], u1[:, ::1])")
def add_fourth(three, four):
    """Pixels (n, 3) to (n, 4), the fourth byte 255."""
    for x in range(len(three)):
        four[x, 0] = three[x, 0]
        four[x, 1] = three[x, 1]
        four[x, 2] = three[x, 2]
        four[x, 3] = 255
