"""Curves of a training and the confusion matrix of an evaluation, drawn by matplotlib (the extra ``plot``)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnfilter.training.evaluation import Evaluation
from cnnfilter.training.progress import Epoch

_MARKED_EPOCHS_MAX = 40
"""Epochs up to which each has a dot on its curve; more would touch each other. Chosen by eye."""

_COUNTED_CLASSES_MAX = 40
"""Classes up to which each cell of the confusion matrix shows its count; more would be too small. Chosen by eye."""


def draw_training(evaluation: Evaluation | None, history: Sequence[Epoch] = ()) -> bytes:
    """Return a PNG file of the curves of loss and accuracy (if there are epochs) beside the confusion matrix."""
    from matplotlib.figure import Figure

    panels = 2 * bool(history) + (evaluation is not None)
    size = 6.0 if evaluation is None else max(6.0, 0.4 * _used(evaluation).size + 2)
    figure = Figure(
        figsize=(5 * (panels - (evaluation is not None)) + (size if evaluation else 0), size if evaluation else 4),
        layout="constrained",
    )
    axes = list(np.atleast_1d(figure.subplots(1, max(panels, 1))))
    if history:
        _curves(axes[0], "loss", [epoch.loss for epoch in history], [epoch.validation_loss for epoch in history])
        _curves(
            axes[1], "accuracy", [epoch.accuracy for epoch in history], [epoch.validation_accuracy for epoch in history]
        )
    if evaluation is not None:
        _confusion(axes[-1], evaluation)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    return file.getvalue()


def _curves(axis: Any, title: str, training: Sequence[float], validation: Sequence[float | None]) -> None:
    numbers = range(1, len(training) + 1)
    axis.plot(numbers, training, label="training", marker="." if len(training) < _MARKED_EPOCHS_MAX else "")
    if validation and validation[0] is not None:
        axis.plot(numbers, validation, label="validation", marker="." if len(training) < _MARKED_EPOCHS_MAX else "")
    axis.set(xlabel="epoch", title=title)
    axis.grid(alpha=0.3)
    axis.legend()


def _used(evaluation: Evaluation) -> Any:
    """Return the numbers of the classes that occur among labels or answers."""
    confusion = evaluation.confusion
    return np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))


def _confusion(axis: Any, evaluation: Evaluation) -> None:
    used = _used(evaluation)
    counts = evaluation.confusion[np.ix_(used, used)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [evaluation.classes[number] for number in used]
    axis.set_xticks(range(len(used)), names, rotation=90 if len(used) > 4 else 0)
    axis.set_yticks(range(len(used)), names)
    axis.set(xlabel="said", ylabel="is", title=f"accuracy {evaluation.accuracy:.1%}")
    if len(used) <= _COUNTED_CLASSES_MAX:
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
