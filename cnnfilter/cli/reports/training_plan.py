"""What `train` finds and what it would do, as lines of text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cnnfilter.cli.reports.layer_table import table
from cnnfilter.cli.reports.tables import aligned

if TYPE_CHECKING:
    from cnnfilter.layers.stack import Layers
    from cnnfilter.training.data.dataset import Dataset


def describe_dataset(dataset: Dataset) -> list[str]:
    """Say what was found: the splits, and the pictures of each class."""
    how = {"validation": " (held back)"} if dataset.held_back else {}
    parts = [f"{len(part):,} {split}{how.get(split, '')}" for split, part in dataset.splits.items()]
    lines = [f"{dataset.name}: {len(dataset):,} pictures of {len(dataset.classes)} classes: {', '.join(parts)}"]
    if len(dataset.classes) > _MOST_CLASSES:
        return lines
    rows = [("class", *dataset.splits)]
    counts = [part.counts(len(dataset.classes)) for part in dataset.splits.values()]
    for number, name in enumerate(dataset.classes):
        rows.append((name, *(f"{count[number]:,}" for count in counts)))
    return [*lines, *aligned(rows)]


_MOST_CLASSES = 40
"""Of which the pictures are counted on the screen."""


def describe_plan(dataset: Dataset, *, layers: Layers | None, threads: int | None, **how: Any) -> list[str]:
    """Say what would be trained, how large it is, and about how long that takes."""
    from cnnfilter.training.augmentation import parse_augmentation

    changes = str(parse_augmentation(how["augment"]))
    if layers is None:
        return _describe_head(dataset, changes, threads)
    return _describe_network(dataset, layers, changes, threads, **how)


def _describe_head(dataset: Dataset, changes: str, threads: int | None) -> list[str]:
    from cnnfilter.networks.network import load_model
    from cnnfilter.training.head import CHANGED_COPIES_PER_PICTURE, seconds_for

    body = load_model()
    features = math.prod(list(body.layers.shapes(body.input_shape))[body.head])
    looks = len(dataset) + (CHANGED_COPIES_PER_PICTURE * len(dataset.train) if changes else 0)
    size = (features + 1) * len(dataset.classes)
    return [
        f"a head on {body.name}: dense {len(dataset.classes)} on {features:,} features, {size:,} parameters"
        + _augmented(changes),
        f"about {_clock(seconds_for(body, dataset, looks, threads))}",
    ]


def _describe_network(
    dataset: Dataset,
    layers: Layers,
    changes: str,
    threads: int | None,
    *,
    input: tuple[int, int, int] | None,
    epochs: int,
    batch: int,
    time_limit: float | None,
    **_: Any,
) -> list[str]:
    from cnnfilter.layers.summary import summarize
    from cnnfilter.training.data.decoded import find_shape
    from cnnfilter.training.network import Settings, check_settings, seconds_for

    shape = input or find_shape(dataset.train)
    settings = Settings(layers, shape, epochs, batch)
    check_settings(settings, len(dataset.classes))
    batches = -(-len(dataset.train) // batch)
    steps = f"{_count(epochs, 'epoch')} of {_count(batches, 'batch', 'batches')}"
    time = _clock(seconds_for(settings, len(dataset.train), threads))
    limit = "" if time_limit is None else f", at most {_clock(time_limit)}"
    return [*table(summarize(layers, shape)), "", f"{steps}{_augmented(changes)}: about {time}{limit}"]


def _augmented(changes: str) -> str:
    return f", augmented by {changes}" if changes else ""


def _count(number: int, one: str, more: str = "") -> str:
    """Write so many of something.

    >>> _count(1, "epoch"), _count(1000, "epoch")
    ('1 epoch', '1,000 epochs')
    """
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def _clock(seconds: float) -> str:
    """Write a time for people, in round numbers.

    >>> _clock(3.2), _clock(100), _clock(7000)
    ('4 s', '100 s', '117 min')
    """
    return f"{max(1, math.ceil(seconds))} s" if seconds < 120 else f"{seconds / 60:.0f} min"
