"""What a network says of pictures, and what is done with it: labels, matches, sorted files, heat maps."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ModelError
from cnnfilter.networks.network import Network

UNKNOWN_LABEL = "unknown"
"""The label of a picture whose best probability is below the threshold."""


@dataclass(frozen=True)
class Label:
    """One of a network's answers; `index` is None for unknown."""

    label: str
    index: int | None
    probability: float


def best_labels(
    network: Network, probabilities: NDArray[np.float32], *, top: int = 5, threshold: float | None = None
) -> list[Label]:
    """Return the likeliest labels of one picture, the likeliest first.

    Parameters
    ----------
    probabilities : (classes,) array
        A row of what `Network.predict` gives.
    top : int
        How many.
    threshold : float, optional
        If the best is below it, the only label is unknown, with the best's probability; the model's own if not given.
    """
    # Of equal ones the first in the model's order.
    order = np.argsort(-probabilities, kind="stable")[:top]
    limit = network.calibration.threshold if threshold is None else threshold
    best = float(probabilities[order[0]])
    if best < limit:
        return [Label(UNKNOWN_LABEL, None, best)]
    return [Label(network.label(int(index)), int(index), float(probabilities[index])) for index in order]


def find_labels(network: Network, patterns: Iterable[str]) -> frozenset[str]:
    """Return the labels that patterns name: whole labels, or with ``*`` and ``?``; upper and lower case are the same.

    Raises
    ------
    ModelError
        For a pattern that names no label; it says what may be meant.
    """
    labels = [*(network.label(index) for index in range(network.outputs)), UNKNOWN_LABEL]
    found: set[str] = set()
    for pattern in patterns:
        wanted = pattern.lower()
        named = [label for label in labels if label.lower() == wanted] or [
            label for label in labels if fnmatch.fnmatchcase(label.lower(), wanted)
        ]
        if not named:
            raise ModelError(f"{network.name} has no label {pattern!r}{_alike(pattern, labels)}")
        found.update(named)
    return frozenset(found)


def _alike(wanted: str, labels: Sequence[str]) -> str:
    import difflib

    holding = [label for label in labels if re.search(rf"\b{re.escape(wanted.lower())}\b", label.lower())]
    by_case = {label.lower(): label for label in labels}
    near = [by_case[name] for name in difflib.get_close_matches(wanted.lower(), by_case, 3, 0.6)]
    names = list(dict.fromkeys([*holding, *near]))[:5]
    return f"; did you mean {', '.join(map(repr, names))}?" if names else ""


# --- sorting files into folders ------------------------------------------------------------------------
