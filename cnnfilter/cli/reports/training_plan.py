"""The pictures that `train` found and the training that it plans, as lines of text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cnnfilter.cli.reports.layer_table import layer_table
from cnnfilter.cli.reports.tables import aligned
from cnnfilter.errors import count_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnnfilter.layers.answers import Answers
    from cnnfilter.layers.stack import Layers
    from cnnfilter.training.data.dataset import Dataset


_COUNTED_CLASSES_MAX = 40
"""Classes whose pictures are counted in a table; a longer table would not fit on a screen."""


def dataset_lines(dataset: Dataset) -> list[str]:
    """Return lines about the pictures: how the data were understood, the splits, and the pictures of each class."""
    how = {"validation": " (held back)"} if dataset.held_back else {}
    parts = [f"{len(part):,} {split}{how.get(split, '')}" for split, part in dataset.splits.items()]
    lines = [line for line in (dataset.decisions, dataset.axes_note, dataset.scale_note) if line]
    found = f"{count_text(len(dataset), 'picture')} of {count_text(len(dataset.classes), 'class', 'classes')}"
    lines += [f"{dataset.name}: {found}: {', '.join(parts)}"]
    if len(dataset.classes) > _COUNTED_CLASSES_MAX:
        return lines
    rows = [("class", *dataset.splits)]
    counts = [part.counts(len(dataset.classes)) for part in dataset.splits.values()]
    for number, name in enumerate(dataset.classes):
        rows.append((name, *(f"{count[number]:,}" for count in counts)))
    return [*lines, *aligned(rows)]


def plan_lines(dataset: Dataset, *, layers: Layers | None, threads: int | None, **how: Any) -> list[str]:
    """Return lines about the training: what is trained, its number of parameters, and about how long it takes."""
    from cnnfilter.training.augmentation import parse_augmentation

    changes = str(parse_augmentation(how["augment"]))
    if layers is None:
        return _head_lines(dataset, changes, threads)
    return _network_lines(dataset, layers, changes, threads, **how)


def _head_lines(dataset: Dataset, changes: str, threads: int | None) -> list[str]:
    from cnnfilter.networks.network import load_model
    from cnnfilter.training.head import CHANGED_COPIES_PER_PICTURE, seconds_for

    body = load_model()
    features = math.prod(list(body.layers.shapes(body.input_shape))[body.head])
    passes = len(dataset) + (CHANGED_COPIES_PER_PICTURE * len(dataset.train) if changes else 0)
    size = (features + 1) * len(dataset.classes)
    return [
        f"a head on {body.name}: dense {len(dataset.classes)} on {features:,} features, {size:,} parameters"
        + _augmentation_text(changes),
        f"about {_duration_text(seconds_for(body, dataset, passes, threads))}",
    ]


def _network_lines(
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
    from cnnfilter.layers.answers import Answers
    from cnnfilter.layers.summary import summarize
    from cnnfilter.training.data.decoded import find_shape
    from cnnfilter.training.network import Settings, check_settings, seconds_for

    shape = input or find_shape(dataset.train)
    settings = Settings(layers, shape, epochs, batch)
    check_settings(settings, len(dataset.classes))
    answers = _answers_text(Answers.of(layers, shape), dataset.classes)
    batches = -(-len(dataset.train) // batch)
    steps = f"{count_text(epochs, 'epoch')} of {count_text(batches, 'batch', 'batches')}"
    time = _duration_text(seconds_for(settings, len(dataset.train), threads))
    limit = "" if time_limit is None else f", at most {_duration_text(time_limit)}"
    return [
        *layer_table(summarize(layers, shape)),
        "",
        *answers,
        f"{steps}{_augmentation_text(changes)}: about {time}{limit}",
    ]


def _answers_text(answers: Answers, classes: Sequence[str]) -> list[str]:
    """Return a line about a sigmoid at the end."""
    if answers.is_binary:
        return [f"two classes from one number: its sigmoid is the probability of {classes[1]!r}"]
    if answers.independent:
        return [f"{answers.numbers:,} independent labels (sigmoid): the probabilities of a picture need not sum to 1"]
    return []


def _augmentation_text(changes: str) -> str:
    return f", augmented by {changes}" if changes else ""


def _duration_text(seconds: float) -> str:
    """Return seconds as whole seconds, or as minutes from 120 seconds on.

    >>> _duration_text(3.2), _duration_text(100), _duration_text(7000)
    ('4 s', '100 s', '117 min')
    """
    return f"{max(1, math.ceil(seconds))} s" if seconds < 120 else f"{seconds / 60:.0f} min"
