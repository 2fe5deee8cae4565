# mypy: allow-untyped-defs, allow-incomplete-defs
"""Compiled loops: pooling of 2x2 and 3x3 windows in vectors."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from cnnfilter.jit import float_vectors, integer_vectors
from cnnfilter.jit.instructions import BYTES, LANES, OF_BYTES, OF_WORDS, WORDS, instructions_of
from cnnfilter.jit.loop import Loop, family, inline, loop
from cnnfilter.jit.templates import define, put, unroll

Pair = tuple[int, int]


SMALL = frozenset({(2, 2, 1), (2, 2, 3), (3, 2, 1), (3, 2, 3), (3, 1, 0)})
"""Square windows that have loops of their own: taps, stride, channels (0: any)."""


ROWS = 4
"""Rows of the result that these give at once, from rows of the picture that most of them share."""


class Way(NamedTuple):
    """How windows are joined: the kind of vectors, their lanes, and the instructions.

    With a stride of 2 `halves` load the samples that two vectors hold, and down comes first, unless it matters which of
    equal samples was met first.
    """

    kind: str
    lanes: int
    load: str
    join: str
    store: str
    halves: tuple[str, str] = ("load(ROW, at)", "load(ROW, at + LANES)")
    down_first: bool = True


_OF_PAIRS = "load_even(ROW, at)", "load_odd(ROW, at)"


WAYS = {
    ("max", "u1", "u1"): Way(OF_BYTES, BYTES, "load_bytes", "larger_bytes", "store_bytes(PLACE, JOINED)"),
    ("max", "f4", "f4"): Way("vector", LANES, "floats", "larger_floats", "store(PLACE, JOINED)", down_first=False),
    ("avg", "u1", "u1"): Way(
        OF_WORDS, WORDS, "load_words", "add_words", "store_divided(PLACE, JOINED, MORE, FACTOR, SHIFT)", _OF_PAIRS
    ),
    ("avg", "u1", "f4"): Way(
        OF_WORDS, WORDS, "load_words", "add_words", "store_quotients(PLACE, JOINED, COUNT)", _OF_PAIRS
    ),
    ("avg", "f4", "f4"): Way("vector", LANES, "floats", "plus", "store(PLACE, divide(JOINED, COUNT))"),
}
"""The operations, samples and outputs of these loops."""


@inline
def cut(row, at, beyond, part):
    """Copy to `part` what a row holds from `at` on, and `beyond` for what lies before and after it."""
    low = min(max(-at, 0), part.shape[0])
    high = max(min(row.shape[0] - at, part.shape[0]), low)
    for j in range(low):
        part[j] = beyond
    inside = row[at + low :]
    for j in range(high - low):
        part[low + j] = inside[j]
    for j in range(high, part.shape[0]):
        part[j] = beyond


_SMALL = """
def small_windows(source, blank, parts, spares, target, channels, top, left, y0, y1):
    line, length, reach = source.shape[1], target.shape[1], parts.shape[1]
    before = left * channels
    blocks, last = (length + STEP - 1) // STEP, max(length - STEP, 0)
    begin = min((before + STRIDE * STEP - 1) // (STRIDE * STEP), blocks)
    end = min((line - reach + before) // (STRIDE * STEP), (length - LANES) // STEP) + 1
    if STRIDE * last - before <= line - reach and last <= length - LANES:
        end = blocks
    end = max(begin, end)
    spare{r} = spares[{r}]
    for group in range((y1 - y0 + ROWS - 1) // ROWS):
        y = min(y0 + ROWS * group, y1 - ROWS)
        first = STRIDE * y - top
        row{i} = source[first + {i}] if 0 <= first + {i} < source.shape[0] else blank
        out{r} = target[y + {r}]
        for block in range(begin, end):
            x = min(STEP * block, last)
            at = STRIDE * x - before
            JOIN(row{i})
            STORE(out{r}, x)
        for edge in range(begin + blocks - end):
            x = min(STEP * (edge if edge < begin else edge - begin + end), last)
            at = STRIDE * x - before
            part{i} = row{i}
            if not 0 <= at <= line - reach:
                part{i} = parts[{i}]
                cut(row{i}, at, blank[0], part{i})
                at = 0
            JOIN(part{i})
            STORE(spare{r}, 0)
            for j in range(min(STEP, length - x)):
                out{r}[x + j] = spare{r}[j]
"""


@family(*((*kinds, *window) for kinds in WAYS for window in sorted(SMALL)))
def small_windows(op: str, source: str, target: str, taps: int, stride: int, channels: int) -> Loop:
    """Return the loop for a window of `SMALL`, one of `WAYS`.

    ``small_windows(source (H, W·C), blank (W·C), parts, spares, target (H', W'·C), channels, top, left, y0, y1)``
    pools rows `y0` to `y1` of `target`, `ROWS` or more. `blank` is a row of padding; `parts` and `spares` have the
    shapes of `scratch_of_small`.
    """
    way = WAYS[op, source, target]
    named = instructions_of(float_vectors, integer_vectors)
    named |= {"load": named[way.load], "join": named[way.join]}
    named |= {f"take{tap}": float_vectors.every_second(way.kind, channels, tap) for tap in range(taps) if stride == 2}
    function = define(
        unroll(_text_of_small(way, taps, stride), i=_rows_in(taps, stride), r=ROWS),
        "small_windows",
        __name__,
        **named,
        cut=cut,
        LANES=way.lanes,
        STEP=_step(way.lanes, taps, stride, channels),
        STRIDE=stride,
        ROWS=ROWS,
        COUNT=taps * taps,
        **dict(zip(("MORE", "FACTOR", "SHIFT"), integer_vectors.division(taps * taps) or (), strict=True)),
    )
    arrays = f"{source}[:, ::1], {source}[::1], {source}[:, ::1], {target}[:, ::1], {target}[:, ::1]"
    constants = (tuple(WAYS).index((op, source, target)), taps, stride, channels)
    return loop(f"void({arrays}, i8, i8, i8, i8, i8)", constants=constants)(function)


def _text_of_small(way: Way, taps: int, stride: int) -> str:
    """Put how samples are joined and stored in the places of JOIN and STORE."""
    text = _SMALL
    for row, place in (("row{i}", "out{r}, x"), ("part{i}", "spare{r}, 0")):
        text = put(text, f"JOIN({row})", _text_of_joins(way, row, taps, stride))
        text = text.replace(f"STORE({place})", way.store.replace("PLACE", place).replace("JOINED", "joined{r}"))
    return text


def _text_of_joins(way: Way, row: str, taps: int, stride: int) -> str:
    """Return the lines that join the windows of `ROWS` rows of the result."""

    def down(name: str, r: int) -> str:
        return _joined([f"{name}{stride * r + tap}" for tap in range(taps)])

    def taken(low: str, high: str) -> str:
        return _joined([f"take{tap}({low}, {high})" for tap in range(taps)])

    across_first = stride == 1 or not way.down_first
    if stride == 1:
        lines = [f"across{{i}} = {_joined([f'load({row}, at + {tap} * channels)' for tap in range(taps)])}"]
    else:
        low, high = (half.replace("ROW", row) for half in way.halves)
        lines = [f"low{{i}} = {low}", f"high{{i}} = {high}"]
        lines += [f"across{{i}} = {taken('low{i}', 'high{i}')}"] if across_first else []
    for r in range(ROWS):
        if across_first:
            lines += [f"joined{r} = {down('across', r)}"]
        else:
            lines += [f"low = {down('low', r)}", f"high = {down('high', r)}", f"joined{r} = {taken('low', 'high')}"]
    return "\n".join(lines)


def scratch_of_small(asked: tuple[Any, ...], channels: int) -> tuple[Pair, Pair]:
    """Return the shapes of `parts` and `spares`."""
    taps, stride, lanes = asked[3], asked[4], WAYS[asked[:3]].lanes
    reach = 2 * lanes if stride == 2 else lanes + (taps - 1) * channels
    return (_rows_in(taps, stride), reach), (ROWS, lanes)


def _rows_in(taps: int, stride: int) -> int:
    """Count the rows of the picture that `ROWS` rows of the result see."""
    return (ROWS - 1) * stride + taps


def _step(lanes: int, taps: int, stride: int, channels: int) -> int:
    """Count the outputs that a vector gives; with a stride of 2, whole pixels whose windows end in two vectors."""
    if stride == 1:
        return lanes
    return min(lanes // channels, (2 * lanes - taps * channels) // (2 * channels) + 1) * channels


def _joined(parts: list[str]) -> str:
    return functools.reduce("join({}, {})".format, parts)
