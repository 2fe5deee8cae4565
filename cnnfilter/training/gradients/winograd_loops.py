# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loops: the transforms of Winograd's 3x3 convolution, which takes 16 products for 2x2 outputs instead of 36.

A tile of 2x2 outputs depends on 4x4 values of the maps. The maps, the kernels and the outputs are transformed into a
basis in which the convolution is 16 matrix products, one for each of the 16 values of a tile. These loops are the
transforms of maps and outputs, which need additions only. Gradients take the transposed transforms.

Maps are flat arrays (N·H·W·C), and so are tiles (16·T·C). The rows of tiles of all pictures are numbered through;
`first` is the first one of a call. A geometry holds ``H, W, C, tiles down, tiles across, padding at the top, padding at
the left``. C is a multiple of `LANES`.

References
----------
Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4.1, F(2x2, 3x3).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfilter.jit.float_vectors import load_floats, minus, plus, splat, store, within
from cnnfilter.jit.instructions import LANES
from cnnfilter.jit.loop import Loop, loop
from cnnfilter.jit.templates import define, put, unroll

MAPS_MULTIPLE = LANES
"""The numbers of maps in and out are multiples of this one: the loops load and store whole vectors of maps."""

_EACH_TILE_TEMPLATE = """
    height, width, channels, down, across = geometry[0], geometry[1], geometry[2], geometry[3], geometry[4]
    plane = tiles.shape[0] // 16
    zeros = splat(np.float32(0))
    at = 0
    for tile_row in range(first, first + plane // (across * channels)):
        top = tile_row % down * 2 - geometry[5]
        row{y} = top + {y}
        start{y} = (tile_row // down * height + row{y}) * width * channels
        has_row{y} = 0 <= row{y} < height
        for left in range(-geometry[6], across * 2 - geometry[6], 2):
            column{x} = left + {x}
            place{y}{x} = start{y} + column{x} * channels
            has{y}{x} = has_row{y} and 0 <= column{x} < width
            for c in range(0, channels, LANES):
                EACH_VECTOR
                at += LANES
"""

_TO_TILES_TEMPLATE = """
m{i}{j} = load_floats(maps, place{i}{j} + c) if has{i}{j} else zeros
h0{j} = minus(m0{j}, m2{j})
h1{j} = plus(m1{j}, m2{j})
h2{j} = minus(m2{j}, m1{j})
h3{j} = minus(m1{j}, m3{j})
t{i}0 = minus(h{i}0, h{i}2)
t{i}1 = plus(h{i}1, h{i}2)
t{i}2 = minus(h{i}2, h{i}1)
t{i}3 = minus(h{i}1, h{i}3)
store(tiles, at + ({i} * 4 + {j}) * plane, t{i}{j})
"""

_ADD_FROM_TILES_TEMPLATE = """
t{i}{j} = load_floats(tiles, at + ({i} * 4 + {j}) * plane)
h0{j} = t0{j}
h1{j} = plus(minus(t1{j}, t2{j}), t3{j})
h2{j} = minus(plus(t1{j}, t2{j}), t0{j})
h3{j} = minus(zeros, t3{j})
m{i}0 = h{i}0
m{i}1 = plus(minus(h{i}1, h{i}2), h{i}3)
m{i}2 = minus(plus(h{i}1, h{i}2), h{i}0)
m{i}3 = minus(zeros, h{i}3)
if has{i}{j}: store(maps, place{i}{j} + c, plus(load_floats(maps, place{i}{j} + c), m{i}{j}))
"""

_OUT_OF_TILES_TEMPLATE = """
t{i}{j} = load_floats(tiles, at + ({i} * 4 + {j}) * plane)
h0{j} = plus(plus(t0{j}, t1{j}), t2{j})
h1{j} = minus(minus(t1{j}, t2{j}), t3{j})
m{o}0 = plus(plus(h{o}0, h{o}1), h{o}2)
m{o}1 = minus(minus(h{o}1, h{o}2), h{o}3)
more = load_floats(bias, c)
if has{o}{p}: store(maps, place{o}{p} + c, within(plus(m{o}{p}, more), low, high))
"""

_INTO_TILES_TEMPLATE = """
m{o}{p} = load_floats(maps, place{o}{p} + c) if has{o}{p} else zeros
h0{p} = m0{p}
h1{p} = plus(m0{p}, m1{p})
h2{p} = minus(m0{p}, m1{p})
h3{p} = minus(zeros, m1{p})
t{i}0 = h{i}0
t{i}1 = plus(h{i}0, h{i}1)
t{i}2 = minus(h{i}0, h{i}1)
t{i}3 = minus(zeros, h{i}1)
store(tiles, at + ({i} * 4 + {j}) * plane, t{i}{j})
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
    """Return the loop over tiles that lie on `size` x `size` values of the maps; `text` is for a vector of each."""
    text = put(_EACH_TILE_TEMPLATE, "EACH_VECTOR", unroll(text, i=4, j=4, o=2, p=2))
    text = unroll(f"def {name}(maps, tiles, first, geometry{more}):{text}", y=size, x=size)
    function = define(text, name, __name__, np=np, LANES=LANES, **_INSTRUCTIONS)
    return loop(f"void(f4[::1], f4[::1], i8, i8[::1]{types})")(function)


to_tiles = _loop("to_tiles", _TO_TILES_TEMPLATE, 4)
"""``to_tiles(maps, tiles, first, geometry)``: transform maps into tiles; beyond the border maps are 0."""

add_from_tiles = _loop("add_from_tiles", _ADD_FROM_TILES_TEMPLATE, 4)
"""``add_from_tiles(maps, tiles, first, geometry)``: add the transpose of `to_tiles` to maps."""

out_of_tiles = _loop("out_of_tiles", _OUT_OF_TILES_TEMPLATE, 2, ", bias, low, high", ", f4[::1], f4, f4")
"""``out_of_tiles(maps, tiles, first, geometry, bias (C,), low, high)``: transform tiles into outputs, add a bias, and
clip to low…high."""

into_tiles = _loop("into_tiles", _INTO_TILES_TEMPLATE, 2)
"""``into_tiles(maps, tiles, first, geometry)``: the transpose of `out_of_tiles`, without bias and clipping."""

KERNEL_TRANSFORM = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
"""G of the paper: transforms kernels, down and across. Its transpose transforms their gradients."""
