"""The best labels of a picture, and the labels that patterns name."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ModelError
from cnnfilter.networks.network import Network

UNKNOWN_LABEL = "unknown"
"""Label of a picture whose best probability is below the threshold."""


@dataclass(frozen=True)
class Label:
    """A label with its index among the outputs of the network and its probability; `index` is None for unknown."""

    label: str
    index: int | None
    probability: float


def best_labels(
    network: Network, probabilities: NDArray[np.float32], *, top: int = 5, threshold: float | None = None
) -> list[Label]:
    """Return the labels of one picture with the highest probabilities, the highest first.

    Parameters
    ----------
    probabilities : (classes,) array
        A row of the result of `Network.predict`.
    top : int
        The number of labels.
    threshold : float, optional
        If the highest probability is below it, the only label is unknown, with that probability. By default the
        threshold of the model.
    """
    # A stable sort, so that equal probabilities stay in the order of the model.
    order = np.argsort(-probabilities, kind="stable")[:top]
    limit = network.calibration.threshold if threshold is None else threshold
    best = float(probabilities[order[0]])
    if best < limit:
        return [Label(UNKNOWN_LABEL, None, best)]
    return [Label(network.label(int(index)), int(index), float(probabilities[index])) for index in order]


def find_labels(network: Network, patterns: Iterable[str]) -> frozenset[str]:
    """Return the labels that patterns match: whole labels, or with ``*`` and ``?``, in upper or lower case.

    Raises
    ------
    ModelError
        If a pattern matches no label; the message names similar labels.
    """
    labels = [*network.labels, UNKNOWN_LABEL]
    found: set[str] = set()
    for pattern in patterns:
        wanted = _folded(pattern)
        named = [label for label in labels if _folded(label) == wanted] or [
            label for label in labels if fnmatch.fnmatchcase(_folded(label), wanted)
        ]
        if not named:
            raise ModelError(f"{network.name} has no label {pattern!r}{_alike(pattern, labels)}")
        found.update(named)
    return frozenset(found)


def _folded(label: str) -> str:
    """Return a label in lower case and in the Unicode form NFC."""
    return unicodedata.normalize("NFC", label.lower())


def _alike(wanted: str, labels: Sequence[str]) -> str:
    """Return the end of a message, with the labels that hold the word or are spelt like it; empty if there are none."""
    import difflib

    holding = [label for label in labels if re.search(rf"\b{re.escape(_folded(wanted))}\b", _folded(label))]
    by_case = {_folded(label): label for label in labels}
    near = [by_case[name] for name in difflib.get_close_matches(_folded(wanted), by_case, 3, 0.6)]
    names = list(dict.fromkeys([*holding, *near]))[:5]
    return f"; did you mean {', '.join(map(repr, names))}?" if names else ""
