"""The labels of pictures as lines of text, CSV and JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import click

from cnnfilter.cli.messages import print_line
from cnnfilter.cli.reports.tables import csv_line

if TYPE_CHECKING:
    from cnnfilter.networks.labels import Label
    from cnnfilter.networks.network import Network


class Looked(NamedTuple):
    """A picture's labels, the likeliest first, and its path as typed."""

    path: str
    labels: list[Label]


def printer(format: str, network: Network, *, alone: bool) -> Callable[[Looked], None]:
    """Return the function that prints the labels of a picture; print the head of a CSV file."""
    if format == "json":
        return lambda looked: click.echo(as_object(looked, network.name))
    if format == "csv":
        print_line(csv_line(["path", "rank", "label", "index", "probability"]))
        return _print_rows
    return _print_alone if alone else _print_line


def _print_alone(looked: Looked) -> None:
    for label in looked.labels:
        print_line(f"{label.probability:6.1%}  {label.label}")


def _print_line(looked: Looked) -> None:
    labels = "; ".join(f"{label.label} {label.probability:.1%}" for label in looked.labels)
    print_line(f"{looked.path}: {labels}")


def _print_rows(looked: Looked) -> None:
    for rank, label in enumerate(looked.labels, 1):
        index = "" if label.index is None else label.index
        print_line(csv_line([looked.path, rank, label.label, index, f"{label.probability:.6f}"]))


def as_object(looked: Looked, model: str) -> str:
    """Write a picture's labels as one JSON object: ``path``, ``model``, ``top``."""
    top = [dataclasses.asdict(label) | {"probability": round(label.probability, 6)} for label in looked.labels]
    # Bytes of a path that are no text stay escaped, as Python keeps them.
    return json.dumps({"path": looked.path, "model": model, "top": top}, ensure_ascii=not looked.path.isprintable())
