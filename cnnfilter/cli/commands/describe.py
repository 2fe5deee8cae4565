"""``cnnfilter describe``: shapes, parameters and costs of layers or of a model."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli import options
from cnnfilter.cli.completion import complete_layers
from cnnfilter.cli.messages import one_line, print_line
from cnnfilter.cli.options import Shape
from cnnfilter.cli.output_files import write_picture
from cnnfilter.cli.reports.layer_table import layer_table

if TYPE_CHECKING:
    from cnnfilter.layers.stack import Layers
    from cnnfilter.layers.summary import Summary
    from cnnfilter.networks.network import Network

HELP = """\
Print the output shape, parameters, multiply-adds, memory and receptive field of each layer, and the formula of its
output size with the numbers filled in; then totals, beside the parameters of fully connected layers with the same
outputs.

LAYERS are separated by |, and options are written as key=value. No weights are needed:

\b
  conv sobel-h blur       fixed kernels, each on every map   stride= pad= dilation= border= bias=
  conv 32x3x3             32 learned kernels of 3x3          stride= pad= dilation= bias=
  depthwise 3x3           one learned kernel per map         stride= pad= dilation= bias=
  mbconv 24x3x3 expand=6  inverted bottleneck                stride= pad=
  maxpool 2  avgpool 2  minpool 2                            stride= pad= dilation= ceil
  globalpool avg|max   flatten   dense 10   batchnorm   dropout 0.3   gray
  relu  relu6  leaky:0.1  sigmoid  tanh  softmax  abs

MODEL is efficientnet-lite0, which comes with cnnfilter, or a model file. It needs no --input, and its classes,
preparation and origin are printed too. --filters draws the filters that its first layer has learned.

Counts are for one picture. Memory is that of the maps as float32. The column "sees" is the receptive field: the
part of the input that one value of the output depends on.

\b
Examples:
  cnnfilter describe 'conv 32x3x3 | relu | maxpool 2 | flatten | dense 10' --input 28x28x1
  cnnfilter describe 'conv sobel-h sobel-v | abs | maxpool 3 stride=2' --input 512x512x3
  cnnfilter describe 'mbconv 24x3x3 expand=6 stride=2 | globalpool avg | dense 5' --input 112x112x16 --json
  cnnfilter describe efficientnet-lite0
  cnnfilter describe efficientnet-lite0 --filters filters.png
"""


_LAYERS_HINT = "'LAYERS|MODEL'"


@click.command("describe", help=HELP, short_help="Print shapes, parameters and costs of layers or a model.")
@click.argument("layers", metavar="LAYERS|MODEL", shell_complete=complete_layers)
@click.option(
    "--input",
    "shape",
    type=Shape(),
    metavar="HxWxC",
    help="Shape of the picture, such as 224x224x3. A model has a shape of its own.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
@click.option(
    "--filters",
    type=click.Path(),
    metavar="FILE",
    help="Instead of the table, draw the filters of the first layer of a model that has filters, on a contact sheet.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def command(layers: str, shape: tuple[int, int, int] | None, as_json: bool, filters: str | None, force: bool) -> None:
    with options.errors_about(_LAYERS_HINT):
        from cnnfilter.weights import is_model

        network = options.load_network(layers, _LAYERS_HINT) if is_model(layers) else None
        stack = _parse(layers, shape_needed=shape is None and filters is None) if network is None else network.layers
    if filters is not None:
        _draw_filters(network, filters, force)
        return
    from cnnfilter.layers.summary import summarize

    with options.errors_about(_LAYERS_HINT):
        summary = summarize(stack, shape or network.input_shape)  # type: ignore[union-attr]
    facts = {} if network is None else model_facts(network)
    click.echo(summary_json(summary, facts) if as_json else "\n".join([*layer_table(summary), *_fact_lines(facts)]))


def _parse(text: str, *, shape_needed: bool) -> Layers:
    from cnnfilter.layers.names import check

    check(text)  # before numpy is imported
    if shape_needed:
        raise click.UsageError(
            "Shapes and counts follow from the picture's: give --input HxWxC, such as --input 224x224x3."
        )
    from cnnfilter.layers.stack import parse_layers

    return parse_layers(text)


def _draw_filters(network: Network | None, path: str, force: bool) -> None:
    if network is None:
        raise click.UsageError("--filters needs a model: layers without weights have no filters to draw.")
    from cnnfilter.images.formats.detect import format_of_suffix
    from cnnfilter.networks.learned_filters import draw_filters

    with options.errors_about("'--filters'"):
        format_of_suffix(path)
    write_picture(path, draw_filters(network), force=force)
    print_line(path)


_ANSWERS = ("softmax", "labels", "binary")
"""The rules for probabilities: a softmax, or a sigmoid of each of several numbers, or of a single one."""


def model_facts(network: Network) -> dict[str, Any]:
    """Return the properties of a model besides its layers, as a dictionary for JSON."""
    import dataclasses

    return {
        "name": network.name,
        "classes": list(network.classes),
        "answers": _ANSWERS[network.answers.independent + network.answers.is_binary],
        "preparation": network.preparation.as_record(),
        "calibration": dataclasses.asdict(network.calibration),
        "provenance": network.provenance,
    }


def _fact_lines(facts: dict[str, Any]) -> Iterable[str]:
    if not facts:
        return
    names = facts["classes"]
    shown = ", ".join(names if len(names) <= 6 else [*names[:3], "…", *names[-2:]])
    how = facts["preparation"]
    part = _part_text(how["share"]) if how["fit"] == "crop" else "the whole picture"
    mean, std = (_numbers_text(how[name]) for name in ("mean", "std"))
    yield f"classes        {len(names):,}: {one_line(shown)}"
    if len(names) == 2 and facts["answers"] == "softmax":
        yield "answers        the softmax of two numbers, which is the sigmoid of their difference"
    elif facts["answers"] == "binary":
        label = one_line(names[1]) if names else "class 1"
        yield f"answers        the sigmoid of one number, which is the probability of {label}"
    elif facts["answers"] == "labels":
        yield "answers        the sigmoid of each number: a probability for each label by itself"
    yield f"preparation    {part}, {how['resample']}, (0…255 - {mean}) / {std}"
    if "scale" in how:
        low, high = how["scale"]
        yield f"floats         {low:.6g} is black, {high:.6g} white"
    if (limits := facts["calibration"]) != {"temperature": 1.0, "threshold": 0.0}:
        yield f"calibration    temperature {limits['temperature']:.3g}, unknown below {limits['threshold']:.1%}"
    yield from textwrap.wrap(
        one_line(facts["provenance"]), 96, initial_indent="from           ", subsequent_indent=" " * 15
    )


def _part_text(share: float) -> str:
    """Return the part of a picture that is cropped: a share of the largest part with the input's proportions.

    >>> _part_text(0.875), _part_text(1.0)
    ('the middle 87.5%', "the middle in the input's proportions")
    """
    if share == 1:
        return "the middle in the input's proportions"
    return f"the middle {share:.1%}".replace(".0%", "%")


def _numbers_text(values: Sequence[float]) -> str:
    shown = [f"{value:.6g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else f"({', '.join(shown)})"


def summary_json(summary: Summary, facts: dict[str, Any] | None = None) -> str:
    """Return a summary as a JSON object: ``input``, ``layers`` (a list), the totals, and ``model`` if there is one."""
    totals = summary._asdict()
    rows = [row._asdict() for row in totals.pop("rows")]
    model = {"model": facts} if facts else {}
    return json.dumps({"input": totals.pop("input"), "layers": rows, **totals, **model}, indent=2)
