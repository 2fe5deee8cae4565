"""An evaluation as text for people and as JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnnfilter.cli.reports.tables import aligned
from cnnfilter.errors import count_text
from cnnfilter.training.evaluation import Evaluation


def evaluation_record(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as a dictionary for JSON, in which None stands for NaN."""

    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    label, share = evaluation.majority
    return {
        "accuracy": evaluation.accuracy,
        "count": len(evaluation),
        "interval": list(evaluation.interval),
        "majority": {"class": label, "accuracy": share},
        "loss": evaluation.loss,
        "classes": list(evaluation.classes),
        "confusion": evaluation.confusion.tolist(),
        "per_class": [
            {
                "class": row.label,
                "count": row.count,
                "precision": number(row.precision),
                "recall": number(row.recall),
                "f1": number(row.f1),
            }
            for row in evaluation.per_class
        ],
        "trained_on": evaluation.trained_on,
        "checked": evaluation.checked,
        "skipped": [{"path": path, "reason": reason} for path, reason in evaluation.skipped],
    }


def trained_text(evaluation: Evaluation) -> str:
    """Return a text about the pictures that the network was trained on; "" if there are none."""
    if not evaluation.trained_on:
        return ""
    sample = "" if evaluation.checked == len(evaluation) else f" (of {evaluation.checked:,} that the model can tell)"
    share = round(len(evaluation) * evaluation.trained_on / evaluation.checked)
    about = f"about {share:,}" if sample else f"{share:,}"
    return f"{about} of {len(evaluation):,} pictures were trained on{sample}, which flatters the accuracy"


def verdict(evaluation: Evaluation, what: str) -> str:
    """Return one line with the accuracy, its interval, and the accuracy of always saying the most frequent class.

    `what` names the split, such as "test".
    """
    low, high = evaluation.interval
    label, share = evaluation.majority
    return (
        f"accuracy {evaluation.accuracy:.1%} of {count_text(len(evaluation), (what + ' picture').lstrip())} "
        f"(95 % interval {low:.1%} to {high:.1%}; always saying {label!r}: {share:.1%})"
    )


def evaluation_lines(evaluation: Evaluation, what: str, *, mistakes: int = 10) -> list[str]:
    """Return an evaluation as lines: verdict, table of classes, confusion matrix, and the most confident mistakes."""
    lines = [verdict(evaluation, what), "", *_class_table(evaluation), "", *_confusion_table(evaluation)]
    wrong = evaluation.mistakes()
    if wrong[:mistakes]:
        lines += ["", f"surest mistakes ({min(mistakes, len(wrong))} of {len(wrong):,}):"]
        lines += [
            f"  {found.probability:6.1%}  {found.answer!r} instead of {found.truth!r}: {found.name}"
            for found in wrong[:mistakes]
        ]
    return lines


def _class_table(evaluation: Evaluation) -> list[str]:
    """Return the table of precision, recall and F1, with a row for each class that is a label or an answer."""
    answers = evaluation.confusion.sum(axis=0)
    rows: list[tuple[str, ...]] = [("class", "pictures", "precision", "recall", "F1")]
    for row, count in zip(evaluation.per_class, answers, strict=True):
        if row.count or count:
            rows.append((row.label, f"{row.count:,}", *map(_percent, (row.precision, row.recall, row.f1))))
    return aligned(rows)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"


_CONFUSION_CLASSES_MAX = 20
"""Classes of a confusion matrix that fit on a screen; of more, the most frequent confusions are listed."""


def _confusion_table(evaluation: Evaluation) -> list[str]:
    """Return the confusion matrix, a row for each label and a column for each answer; a list if there are many."""
    confusion = evaluation.confusion
    used = np.flatnonzero(confusion.sum(axis=0) + confusion.sum(axis=1))
    if len(used) > _CONFUSION_CLASSES_MAX:
        return _confusions(evaluation)
    rows: list[tuple[str, ...]] = [("true class", *(str(number) for number in used))]
    for number in used:
        counts = (str(count) if count else "." for count in confusion[number, used])
        rows.append((f"{number} {evaluation.classes[number]}", *counts))
    return ["confusion matrix (a row for each true class, a column for each answer):", *aligned(rows)]


def _confusions(evaluation: Evaluation) -> list[str]:
    """Return the most frequent confusions, one a line."""
    confusion = evaluation.confusion.copy()
    np.fill_diagonal(confusion, 0)
    order = np.argsort(-confusion, axis=None, kind="stable")[:_CONFUSION_CLASSES_MAX]
    lines = ["most frequent confusions:"]
    for index in order:
        row, column = divmod(int(index), len(evaluation.classes))
        if confusion[row, column]:
            truth, answer = evaluation.classes[row], evaluation.classes[column]
            lines.append(f"  {confusion[row, column]:,} times {answer!r} instead of {truth!r}")
    return lines if len(lines) > 1 else ["no confusions"]
