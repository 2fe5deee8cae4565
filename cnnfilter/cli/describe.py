"""``cnnfilter describe``: what a stack of layers makes of a picture, and what it costs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli import options
from cnnfilter.cli.messages import one_line

if TYPE_CHECKING:
    from cnnfilter.summary import Row, Summary

HELP = """\
Print what each layer makes of a picture: output shape, parameters, multiply-adds, memory, receptive field,
and the size formula with its numbers filled in; then totals, beside what fully connected layers of the same
outputs would need.

LAYERS are written between |, options as key=value. No weights are needed:

\b
  conv sobel-h blur       fixed kernels, each on every map   stride= pad= dilation= border= bias=
  conv 32x3x3             32 learned kernels of 3x3          stride= pad= dilation= bias=
  depthwise 3x3           one learned kernel a map           stride= pad= dilation= bias=
  mbconv 24x3x3 expand=6  inverted bottleneck                stride= pad=
  maxpool 2  avgpool 2  minpool 2                            stride= pad= dilation= ceil
  globalpool avg|max   flatten   dense 10   batchnorm   dropout 0.3   gray
  relu  relu6  leaky:0.1  sigmoid  tanh  softmax  abs

Counts are for one picture. Memory is that of the maps as float32. A layer "sees" its receptive field: the
part of the input that one of its numbers depends on.

\b
Examples:
  cnnfilter describe 'conv 32x3x3 | relu | maxpool 2 | flatten | dense 10' --input 28x28x1
  cnnfilter describe 'conv sobel-h sobel-v | abs | maxpool 3 stride=2' --input 512x512x3
  cnnfilter describe 'mbconv 24x3x3 expand=6 stride=2 | globalpool avg | dense 5' --input 112x112x16 --json
"""


class Shape(options.Type):
    """``HxWxC``, whole numbers from 1."""

    name = "HxWxC"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        numbers = re.split("[x,]", value.lower())
        if len(numbers) != 3 or not all(re.fullmatch("0*[1-9][0-9]{0,5}", number) for number in numbers):
            self.fail(
                f"{value!r} is not height x width x channels, such as 28x28x1 (grey) or 224x224x3 (colour).",
                param,
                ctx,
            )
        return tuple(map(int, numbers))


@click.command("describe", help=HELP, short_help="Print shapes, parameters and costs of a stack of layers.")
@click.argument("layers")
@click.option(
    "--input", "shape", type=Shape(), metavar="HxWxC", help="Shape of the picture, such as 224x224x3."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
def command(layers: str, shape: tuple[int, int, int] | None, as_json: bool) -> None:
    from cnnfilter.layers import parse_layers
    from cnnfilter.summary import summarize

    with options.about("'LAYERS'"):
        stack = parse_layers(layers)
    if shape is None:
        raise click.UsageError(
            "Shapes and counts follow from the picture's: give --input HxWxC, such as --input 224x224x3."
        )
    with options.about("'LAYERS'"):
        summary = summarize(stack, shape)
    click.echo(as_object(summary) if as_json else "\n".join(table(summary)))


def as_object(summary: Summary) -> str:
    """Write a summary as one JSON object: ``input``, ``layers`` (a list), and the totals."""
    totals = summary._asdict()
    rows = [row._asdict() for row in totals.pop("rows")]
    return json.dumps({"input": totals.pop("input"), "layers": rows, **totals}, indent=2)


_HEADER = ("", "layer", "output", "parameters", "multiply-adds", "memory", "sees", "fully connected", "size")
_LEFT = {"layer", "output", "size"}


def table(summary: Summary) -> Iterable[str]:
    """Write a summary as lines of text: a row per layer, then the totals."""
    start = ("", "input", _shape(summary.input), "", "", size(math.prod(summary.input) * 4), "", "", "")
    cells: list[Sequence[str]] = [_HEADER, start]
    for number, row in enumerate(summary.rows, 1):
        first, *more = row.formula.split("\n")
        cells.append((*_cells(number, row), first))
        cells.extend(("",) * (len(_HEADER) - 1) + (line,) for line in more)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        aligned = (
            cell.ljust(width) if name in _LEFT else cell.rjust(width)
            for name, cell, width in zip(_HEADER, line, widths, strict=True)
        )
        yield "  ".join(aligned).rstrip()
    yield ""
    yield from _totals(summary)


def _cells(number: int, row: Row) -> tuple[str, ...]:
    return (
        str(number),
        one_line(row.layer),
        _shape(row.output),
        f"{row.parameters:,}",
        f"{row.multiply_adds:,}",
        size(row.memory),
        _shape(row.receptive_field) if row.receptive_field else "all",
        "" if row.fully_connected is None else f"{row.fully_connected:,}",
    )


def _totals(summary: Summary) -> Iterable[str]:
    yield f"parameters     {summary.parameters:,} ({size(summary.parameters * 4)} as float32)"
    yield f"multiply-adds  {summary.multiply_adds:,}"
    yield (
        f"memory         {size(summary.memory)} for the input and all maps;"
        f" {size(summary.peak_memory)} for the largest input and output of a layer"
    )
    if summary.fully_connected:
        yield f"beside it      fully connected layers of the same outputs: {_fully_connected(summary)}"


def _fully_connected(summary: Summary) -> str:
    needed = f"{summary.fully_connected:,} parameters"
    if not summary.parameters:
        return needed
    ratio = summary.fully_connected / summary.parameters
    return f"{needed}, {ratio:,.{0 if ratio >= 10 else 1}f} times as many"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def size(count: int) -> str:
    """Write a number of bytes for people.

    >>> size(128), size(100_352), size(12_345_678)
    ('128 B', '100.4 kB', '12.3 MB')
    """
    if count < 1000:
        return f"{count} B"
    unit = next(unit for unit in _UNITS if count < 999_950 * _UNITS[unit] / 1000 or unit == "TB")
    return f"{count / _UNITS[unit]:,.1f} {unit}"


_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
