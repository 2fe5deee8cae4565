"""The labels of pictures as lines of text, CSV and JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cnnfilter.cli.messages import json_line, print_line
from cnnfilter.cli.reports.tables import csv_line

if TYPE_CHECKING:
    from cnnfilter.networks.labels import Label
    from cnnfilter.networks.network import Network


class PictureLabels(NamedTuple):
    """The labels of a picture, the likeliest first, its path as it was given, and that to which it was sorted."""

    path: str
    labels: list[Label]
    sorted_to: str | None = None


def label_printer(format: str, network: Network, *, alone: bool) -> Callable[[PictureLabels], None]:
    """Return the function that prints the labels of one picture; for CSV, print the names of the columns first.

    `alone` means that the run has one input, whose labels need no path.
    """
    if format == "json":
        return lambda found: click.echo(labels_json(found, network.name))
    if format == "csv":
        print_line(csv_line(["path", "rank", "label", "index", "probability"]))
        return _print_rows
    return _print_alone if alone else _print_line


def _print_alone(found: PictureLabels) -> None:
    for label in found.labels:
        print_line(f"{label.probability:6.1%}  {label.label}")


def _print_line(found: PictureLabels) -> None:
    labels = "; ".join(f"{label.label} {label.probability:.1%}" for label in found.labels)
    print_line(f"{found.path}: {labels}")


def _print_rows(found: PictureLabels) -> None:
    for rank, label in enumerate(found.labels, 1):
        index = "" if label.index is None else label.index
        print_line(csv_line([found.path, rank, label.label, index, f"{label.probability:.6f}"]))


def labels_json(found: PictureLabels, model: str) -> str:
    """Return the labels of a picture as a JSON object: ``path``, ``model``, ``top``, and ``sorted_to`` if it was."""
    top = [dataclasses.asdict(label) | {"probability": round(label.probability, 6)} for label in found.labels]
    # Undecodable bytes of a path stay escaped as in `os.fsdecode`.
    fields: dict[str, Any] = {"path": found.path, "model": model, "top": top}
    if found.sorted_to is not None:
        fields["sorted_to"] = found.sorted_to
    return json_line(fields)
