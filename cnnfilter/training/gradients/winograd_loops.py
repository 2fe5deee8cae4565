# mypy: allow-untyped-defs, allow-incomplete-defs
"""The loops of Winograd's convolution of 3x3: each 2x2 of the outputs takes 16 products instead of 36.

An output's tile of 2x2 sees 4x4 numbers of the maps. Those, the kernels and the outputs are carried over to another
basis, where a convolution is 16 matrix products, one for each of the 16 numbers of a tile; what stands in these loops
are the ways there and back, with nothing but sums. (Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural
Networks", section 4.1, F(2x2, 3x3).)

The slopes go the same ways in the other direction: each loop has its transpose beside it.

Maps are one run of numbers (N·H·W·C), tiles as well (16·T·C). Rows of tiles are counted through all pictures, and
`first` is the first of them. A geometry holds ``H, W, C, tiles down, tiles across, rows before, columns before``. C is
a multiple of `LANES`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfilter.jit.float_vectors import load_floats, minus, plus, splat, store, within
from cnnfilter.jit.instructions import LANES
from cnnfilter.jit.loop import Loop, loop
from cnnfilter.jit.templates import define, put, unroll

_EACH_TILE = """
    height, width, channels, down, across = geometry[0], geometry[1], geometry[2], geometry[3], geometry[4]
    apart = tiles.shape[0] // 16
    none = splat(np.float32(0))
    at = 0
    for line in range(first, first + apart // (across * channels)):
        top = line % down * 2 - geometry[5]
        row{y} = top + {y}
        start{y} = (line // down * height + row{y}) * width * channels
        has_row{y} = 0 <= row{y} < height
        for left in range(-geometry[6], across * 2 - geometry[6], 2):
            column{x} = left + {x}
            place{y}{x} = start{y} + column{x} * channels
            has{y}{x} = has_row{y} and 0 <= column{x} < width
            for c in range(0, channels, LANES):
                EACH_VECTOR
                at += LANES
"""

_TO_TILES = """
m{i}{j} = load_floats(maps, place{i}{j} + c) if has{i}{j} else none
h0{j} = minus(m0{j}, m2{j})
h1{j} = plus(m1{j}, m2{j})
h2{j} = minus(m2{j}, m1{j})
h3{j} = minus(m1{j}, m3{j})
t{i}0 = minus(h{i}0, h{i}2)
t{i}1 = plus(h{i}1, h{i}2)
t{i}2 = minus(h{i}2, h{i}1)
t{i}3 = minus(h{i}1, h{i}3)
store(tiles, at + ({i} * 4 + {j}) * apart, t{i}{j})
"""

_ADD_FROM_TILES = """
t{i}{j} = load_floats(tiles, at + ({i} * 4 + {j}) * apart)
h0{j} = t0{j}
h1{j} = plus(minus(t1{j}, t2{j}), t3{j})
h2{j} = minus(plus(t1{j}, t2{j}), t0{j})
h3{j} = minus(none, t3{j})
m{i}0 = h{i}0
m{i}1 = plus(minus(h{i}1, h{i}2), h{i}3)
m{i}2 = minus(plus(h{i}1, h{i}2), h{i}0)
m{i}3 = minus(none, h{i}3)
if has{i}{j}: store(maps, place{i}{j} + c, plus(load_floats(maps, place{i}{j} + c), m{i}{j}))
"""

_OUT_OF_TILES = """
t{i}{j} = load_floats(tiles, at + ({i} * 4 + {j}) * apart)
h0{j} = plus(plus(t0{j}, t1{j}), t2{j})
h1{j} = minus(minus(t1{j}, t2{j}), t3{j})
m{o}0 = plus(plus(h{o}0, h{o}1), h{o}2)
m{o}1 = minus(minus(h{o}1, h{o}2), h{o}3)
more = load_floats(bias, c)
if has{o}{p}: store(maps, place{o}{p} + c, within(plus(m{o}{p}, more), low, high))
"""

_INTO_TILES = """
m{o}{p} = load_floats(maps, place{o}{p} + c) if has{o}{p} else none
h0{p} = m0{p}
h1{p} = plus(m0{p}, m1{p})
h2{p} = minus(m0{p}, m1{p})
h3{p} = minus(none, m1{p})
t{i}0 = h{i}0
t{i}1 = plus(h{i}0, h{i}1)
t{i}2 = minus(h{i}0, h{i}1)
t{i}3 = minus(none, h{i}1)
store(tiles, at + ({i} * 4 + {j}) * apart, t{i}{j})
"""

_INSTRUCTIONS: dict[str, Any] = {
    "load_floats": load_floats,
    "minus": minus,
    "plus": plus,
    "splat": splat,
    "store": store,
    "within": within,
}


def _loop(name: str, text: str, size: int, more: str = "", types: str = "") -> Loop:
    """Make a loop over tiles that lie on `size` x `size` numbers of the maps, of the text for one vector of each."""
    text = put(_EACH_TILE, "EACH_VECTOR", unroll(text, i=4, j=4, o=2, p=2))
    text = unroll(f"def {name}(maps, tiles, first, geometry{more}):{text}", y=size, x=size)
    function = define(text, name, __name__, np=np, LANES=LANES, **_INSTRUCTIONS)
    return loop(f"void(f4[::1], f4[::1], i8, i8[::1]{types})")(function)


to_tiles = _loop("to_tiles", _TO_TILES, 4)
"""``to_tiles(maps, tiles, first, geometry)``: carry maps over; beyond the border they are 0."""

add_from_tiles = _loop("add_from_tiles", _ADD_FROM_TILES, 4)
"""``add_from_tiles(maps, tiles, first, geometry)``: the transpose of `to_tiles`, added to maps."""

out_of_tiles = _loop("out_of_tiles", _OUT_OF_TILES, 2, ", bias, low, high", ", f4[::1], f4, f4")
"""``out_of_tiles(maps, tiles, first, geometry, bias (C,), low, high)``: carry outputs back; add a bias, keep them
within low…high."""

into_tiles = _loop("into_tiles", _INTO_TILES, 2)
"""``into_tiles(maps, tiles, first, geometry)``: the transpose of `out_of_tiles` without what it adds."""

KERNEL_TRANSFORM = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
"""How kernels are carried over, down and across; for their slopes its transpose."""
