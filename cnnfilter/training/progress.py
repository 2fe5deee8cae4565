"""Who looks on while something is trained: the command line draws bars; by default nobody does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Epoch(NamedTuple):
    """What one pass over the training pictures came to.

    Accuracy and loss are of the training pictures while they were learned from, and of the validation pictures after it
    (None without such).
    """

    number: int
    seconds: float
    rate: float
    loss: float
    accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None


class Watcher:
    """Told what is going on; the calls come from any thread."""

    def begin(self, what: str, total: int) -> None:
        """Say that a part of the work begins, of so many steps (0: unknown)."""

    def advance(self, loss: float | None = None) -> None:
        """Count one step; `loss` is the mean of the epoch so far."""

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """Say what an epoch came to, and how many there will be."""

    def went_before(self, epochs: Sequence[Epoch]) -> None:
        """Say which epochs there were before a training that goes on."""

    def say(self, text: str) -> None:
        """Say something that matters."""
