"""What `train` and `evaluate` share: their common options, the bar, and what is said of the data."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from cnnfilter.cli.messages import one_line, reason, say
from cnnfilter.cli.options import refuse_without_package
from cnnfilter.cli.reporter import Progress, announce_compilation, collect_garbage
from cnnfilter.cli.reports.tables import csv_line
from cnnfilter.training.progress import Watcher

if TYPE_CHECKING:
    from cnnfilter.training.data.examples import Skipped
    from cnnfilter.training.evaluation import Evaluation
    from cnnfilter.training.progress import Epoch


class ProgressBar(Watcher):
    """A bar on a terminal, and a line an epoch.

    Parameters
    ----------
    quiet : bool
        Draw and say nothing.
    log : str, optional
        A CSV file that is written anew after every epoch.
    """

    def __init__(self, *, quiet: bool = False, log: str | None = None) -> None:
        self.quiet = quiet
        self.log = log
        self._what = ""
        self._epochs: list[Epoch] = []
        self.on_terminal = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._progress: Progress | None = None
        self._lock = threading.Lock()
        announce_compilation(quiet=quiet)
        collect_garbage()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._progress is not None:
            self._progress.clear()
            self._progress = None

    def begin(self, what: str, total: int) -> None:
        with self._lock:
            self._clear()
            self._what = what
            if total:
                self._progress = Progress(total, enabled=self.on_terminal)

    def advance(self, loss: float | None = None) -> None:
        with self._lock:
            if self._progress is not None:
                self._progress.note = "" if loss is None else self._state_text(loss)
                self._progress.advance()

    def _state_text(self, loss: float) -> str:
        """Say how far the network is: the loss of this epoch, and what the last one came to."""
        text = f"  {self._what}  loss {loss:.3f}"
        last = self._epochs[-1].validation_accuracy if self._epochs else None
        return text if last is None else f"{text}  valid {last:.1%}"

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        with self._lock:
            self._clear()
            self._epochs.append(epoch)
            if not self.quiet:
                click.echo(epoch_line(epoch, epochs), err=True)
            if self.log:
                self._write_log(self.log)

    def _write_log(self, path: str) -> None:
        try:
            write_log(path, self._epochs)
        except OSError as error:  # what was learned is worth more
            if not self.quiet:
                say("Warning", path, f"cannot be written ({reason(error)})")

    def went_before(self, epochs: Sequence[Epoch]) -> None:
        """Take the epochs of a training that goes on."""
        self._epochs = list(epochs)

    def say(self, text: str) -> None:
        with self._lock:
            self._clear()
            if not self.quiet:
                click.echo(one_line(text), err=True)


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """Write an epoch as a line."""
    text = f"epoch {epoch.number}/{epochs}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.1%}"
    if epoch.validation_loss is not None:
        text += f"  validation loss {epoch.validation_loss:.4f}  accuracy {epoch.validation_accuracy:.1%}"
    return f"{text}  rate {epoch.rate:.2g}  {epoch.seconds:.1f} s"


def write_log(path: str, epochs: Sequence[Epoch]) -> None:
    """Write the epochs as CSV, in place of what was there."""
    from cnnfilter.runtime.atomic_files import replace_file

    lines = [csv_line(["epoch", "seconds", "rate", "loss", "accuracy", "validation_loss", "validation_accuracy"])]
    lines += [csv_line("" if value is None else f"{value:.6g}" for value in epoch) for epoch in epochs]
    with replace_file(path, force=True) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


_LISTED_PICTURES_MAX = 10


def list_skipped(skipped: Sequence[Skipped], quiet: bool) -> None:
    """Say what was left out, and why: the first ten, and how many more."""
    if quiet:
        return
    for left_out in skipped[:_LISTED_PICTURES_MAX]:
        say("Skipped", *left_out)
    if len(skipped) > _LISTED_PICTURES_MAX:
        click.echo(f"Skipped: {len(skipped) - _LISTED_PICTURES_MAX:,} more", err=True)


def refuse_without_matplotlib() -> None:
    """Refuse --plot where it cannot be done, before any work."""
    refuse_without_package("matplotlib", "--plot needs matplotlib", extra="plot")


def write_plot(path: str, evaluation: Evaluation | None, history: Sequence[Epoch] = (), *, force: bool) -> None:
    """Draw the confusion matrix, and the epochs if there were some, as PNG."""
    from cnnfilter.runtime.atomic_files import replace_file
    from cnnfilter.training.plots import draw_training

    data = draw_training(evaluation, history)
    with replace_file(path, force=force) as file:
        file.write(data)
