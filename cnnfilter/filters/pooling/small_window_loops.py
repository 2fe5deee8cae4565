# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loops: pooling of 2x2 and 3x3 windows in vectors.

All other windows are pooled by `cnnfilter.filters.pooling.any_window_loops`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from cnnfilter.jit import float_vectors, integer_vectors
from cnnfilter.jit.instructions import LANES, LANES_U8, LANES_U16, VECTOR_U8, VECTOR_U16, instructions_of
from cnnfilter.jit.loop import Loop, family, inline, loop
from cnnfilter.jit.templates import define, put, unroll

Pair = tuple[int, int]


SMALL_WINDOWS = frozenset({(2, 2, 1), (2, 2, 3), (3, 2, 1), (3, 2, 3), (3, 1, 0)})
"""The square windows of these loops: taps, stride, channels (0: any number)."""


TILE_ROWS = 4
"""Rows of the result that a loop computes at once, because their windows share rows of the picture."""


class VectorInstructions(NamedTuple):
    """The vector instructions that pool samples of one type: the kind of vectors, their lanes, and how to use them.

    At a stride of 2, `halves` load the samples of two vectors. If `rows_first`, windows are then combined down before
    they are combined across, which needs fewer instructions; it is false where the order of equal samples matters.
    """

    kind: str
    lanes: int
    load: str
    combine: str
    store: str
    halves: tuple[str, str] = ("load(ROW, at)", "load(ROW, at + LANES)")
    rows_first: bool = True


_EVEN_AND_ODD = "load_even(ROW, at)", "load_odd(ROW, at)"


VECTOR_INSTRUCTIONS = {
    ("max", "u1", "u1"): VectorInstructions(
        VECTOR_U8, LANES_U8, "load_bytes", "larger_bytes", "store_bytes(TARGET, COMBINED)"
    ),
    ("max", "f4", "f4"): VectorInstructions(
        "vector", LANES, "load_floats", "larger_floats", "store(TARGET, COMBINED)", rows_first=False
    ),
    ("avg", "u1", "u1"): VectorInstructions(
        VECTOR_U16,
        LANES_U16,
        "load_bytes_u16",
        "add_u16",
        "store_divided(TARGET, COMBINED, MORE, FACTOR, SHIFT)",
        _EVEN_AND_ODD,
    ),
    ("avg", "u1", "f4"): VectorInstructions(
        VECTOR_U16, LANES_U16, "load_bytes_u16", "add_u16", "store_quotients(TARGET, COMBINED, COUNT)", _EVEN_AND_ODD
    ),
    ("avg", "f4", "f4"): VectorInstructions(
        "vector", LANES, "load_floats", "plus", "store(TARGET, divide(COMBINED, COUNT))"
    ),
}
"""The instructions for each operation, type of samples and type of outputs."""


@inline
def cut(row, at, padding, part):
    """Copy the samples of a row from index `at` on to `part`, with `padding` before and after the row."""
    low = min(max(-at, 0), part.shape[0])
    high = max(min(row.shape[0] - at, part.shape[0]), low)
    for j in range(low):
        part[j] = padding
    inside = row[at + low :]
    for j in range(high - low):
        part[low + j] = inside[j]
    for j in range(high, part.shape[0]):
        part[j] = padding


_TEMPLATE = """
def small_windows(source, blank, parts, spares, target, channels, top, left, y0, y1):
    line, length, reach = source.shape[1], target.shape[1], parts.shape[1]
    before = left * channels
    blocks, last = (length + STEP - 1) // STEP, max(length - STEP, 0)
    inner_begin = min((before + STRIDE * STEP - 1) // (STRIDE * STEP), blocks)
    inner_end = min((line - reach + before) // (STRIDE * STEP), (length - LANES) // STEP) + 1
    if STRIDE * last - before <= line - reach and last <= length - LANES:
        inner_end = blocks
    inner_end = max(inner_begin, inner_end)
    spare{r} = spares[{r}]
    for group in range((y1 - y0 + TILE_ROWS - 1) // TILE_ROWS):
        y = min(y0 + TILE_ROWS * group, y1 - TILE_ROWS)
        first = STRIDE * y - top
        row{i} = source[first + {i}] if 0 <= first + {i} < source.shape[0] else blank
        out{r} = target[y + {r}]
        for block in range(inner_begin, inner_end):
            x = min(STEP * block, last)
            at = STRIDE * x - before
            COMBINE(row{i})
            STORE(out{r}, x)
        for edge in range(inner_begin + blocks - inner_end):
            x = min(STEP * (edge if edge < inner_begin else edge - inner_begin + inner_end), last)
            at = STRIDE * x - before
            part{i} = row{i}
            if not 0 <= at <= line - reach:
                part{i} = parts[{i}]
                cut(row{i}, at, blank[0], part{i})
                at = 0
            COMBINE(part{i})
            STORE(spare{r}, 0)
            for j in range(min(STEP, length - x)):
                out{r}[x + j] = spare{r}[j]
"""


@family(*((*kinds, *window) for kinds in VECTOR_INSTRUCTIONS for window in sorted(SMALL_WINDOWS)))
def small_windows(op: str, source: str, target: str, taps: int, stride: int, channels: int) -> Loop:
    """Return the loop for a window of `SMALL_WINDOWS`, with an operation and types of `VECTOR_INSTRUCTIONS`.

    ``small_windows(source (H, W·C), blank (W·C,), parts, spares, target (H', W'·C), channels, top, left, y0, y1)``
    pools rows `y0` to `y1` of `target`, at least `TILE_ROWS`. `top` and `left` are the padding; `blank` is a row of
    padding. `parts` and `spares` are scratch space of the shapes that `scratch_shapes` gives.
    """
    instructions = VECTOR_INSTRUCTIONS[op, source, target]
    named = instructions_of(float_vectors, integer_vectors)
    named |= {"load": named[instructions.load], "combine": named[instructions.combine]}
    named |= {
        f"take{tap}": float_vectors.every_second(instructions.kind, channels, tap) for tap in range(taps) if stride == 2
    }
    function = define(
        unroll(_text(instructions, taps, stride), i=_rows_in(taps, stride), r=TILE_ROWS),
        "small_windows",
        __name__,
        **named,
        cut=cut,
        LANES=instructions.lanes,
        STEP=_step(instructions.lanes, taps, stride, channels),
        STRIDE=stride,
        TILE_ROWS=TILE_ROWS,
        COUNT=taps * taps,
        **dict(zip(("MORE", "FACTOR", "SHIFT"), integer_vectors.division(taps * taps) or (), strict=True)),
    )
    arrays = f"{source}[:, ::1], {source}[::1], {source}[:, ::1], {target}[:, ::1], {target}[:, ::1]"
    constants = (tuple(VECTOR_INSTRUCTIONS).index((op, source, target)), taps, stride, channels)
    return loop(f"void({arrays}, i8, i8, i8, i8, i8)", constants=constants)(function)


def _text(instructions: VectorInstructions, taps: int, stride: int) -> str:
    """Replace COMBINE and STORE by the lines that combine and store samples."""
    text = _TEMPLATE
    for row, target in (("row{i}", "out{r}, x"), ("part{i}", "spare{r}, 0")):
        text = put(text, f"COMBINE({row})", _text_of_combining(instructions, row, taps, stride))
        text = text.replace(
            f"STORE({target})", instructions.store.replace("TARGET", target).replace("COMBINED", "combined{r}")
        )
    return text


def _text_of_combining(instructions: VectorInstructions, row: str, taps: int, stride: int) -> str:
    """Return the lines that combine the windows of `TILE_ROWS` rows of the result."""

    def down(name: str, r: int) -> str:
        return _nested([f"{name}{stride * r + tap}" for tap in range(taps)])

    def taken(low: str, high: str) -> str:
        return _nested([f"take{tap}({low}, {high})" for tap in range(taps)])

    across_first = stride == 1 or not instructions.rows_first
    if stride == 1:
        lines = [f"across{{i}} = {_nested([f'load({row}, at + {tap} * channels)' for tap in range(taps)])}"]
    else:
        low, high = (half.replace("ROW", row) for half in instructions.halves)
        lines = [f"low{{i}} = {low}", f"high{{i}} = {high}"]
        lines += [f"across{{i}} = {taken('low{i}', 'high{i}')}"] if across_first else []
    for r in range(TILE_ROWS):
        if across_first:
            lines += [f"combined{r} = {down('across', r)}"]
        else:
            lines += [f"low = {down('low', r)}", f"high = {down('high', r)}", f"combined{r} = {taken('low', 'high')}"]
    return "\n".join(lines)


def scratch_shapes(form: tuple[Any, ...], channels: int) -> tuple[Pair, Pair]:
    """Return the shapes of `parts` and `spares` for a form: the arguments of `small_windows`."""
    taps, stride, lanes = form[3], form[4], VECTOR_INSTRUCTIONS[form[:3]].lanes
    reach = 2 * lanes if stride == 2 else lanes + (taps - 1) * channels
    return (_rows_in(taps, stride), reach), (TILE_ROWS, lanes)


def _rows_in(taps: int, stride: int) -> int:
    """Return the number of rows of the picture in the windows of `TILE_ROWS` rows of the result."""
    return (TILE_ROWS - 1) * stride + taps


def _step(lanes: int, taps: int, stride: int, channels: int) -> int:
    """Return the outputs of a vector; at a stride of 2, of whole pixels whose windows lie in two vectors."""
    if stride == 1:
        return lanes
    return min(lanes // channels, (2 * lanes - taps * channels) // (2 * channels) + 1) * channels


def _nested(parts: list[str]) -> str:
    return functools.reduce("combine({}, {})".format, parts)
