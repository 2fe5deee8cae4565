"""Progress callbacks of training. The command line draws bars with them; those of `Watcher` itself do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Epoch(NamedTuple):
    """Figures of one pass over the training pictures.

    `loss` and `accuracy` are means over the batches of the epoch, each computed before the step on that batch.
    `validation_loss` and `validation_accuracy` are computed after the epoch; None without validation pictures.
    `rate` is the learning rate of the last step.
    """

    number: int
    seconds: float
    rate: float
    loss: float
    accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None


class Watcher:
    """Callbacks that a training calls, from any of its threads. Each does nothing; override those that are wanted."""

    def begin(self, what: str, total: int) -> None:
        """Called when a part of the work begins; `total` is its number of steps (0: unknown)."""

    def advance(self, loss: float | None = None) -> None:
        """Called after each step; `loss` is the mean loss of the epoch so far."""

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """Called after each epoch; `epochs` is the largest number of them."""

    def went_before(self, epochs: Sequence[Epoch]) -> None:
        """Called with the earlier epochs when a training goes on from a checkpoint."""

    def say(self, text: str) -> None:
        """Called with a message for the user."""

    def classes_lost(self, before: Sequence[str], after: Sequence[str]) -> None:
        """Say which classes the model will lack, as none of their pictures can be read."""
        for name in before:
            if name not in after:
                self.say(f"the class {name!r} is left out: none of its pictures can be read")
