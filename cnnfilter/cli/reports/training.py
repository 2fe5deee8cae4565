"""The progress of `train` and `evaluate`: a bar, lines of epochs, a log as CSV, skipped pictures, and plots."""

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
    from cnnfilter.training.data.duplicates import Duplicate
    from cnnfilter.training.data.examples import Skipped
    from cnnfilter.training.evaluation import Evaluation
    from cnnfilter.training.progress import Epoch


class ProgressBar(Watcher):
    """Progress of a training: a bar on a terminal, and a line for each epoch.

    Parameters
    ----------
    quiet : bool
        Print nothing.
    log : str, optional
        A CSV file that is rewritten after every epoch.
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
        if isinstance(error, KeyboardInterrupt) and self._progress is not None and not self.quiet:
            # The command line prints the note, after the line of the terminal's ^C.
            error.add_note(self._interruption(self._progress))
        self._clear()

    def _interruption(self, progress: Progress) -> str:
        steps = f"batches of {self._what}" if self._what.startswith("epoch") else "pictures"
        return (
            f"Interrupted after {progress.done:,} of {progress.total:,} {steps}; "
            "nothing is written, and the same command begins again"
        )

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
        """Return the text after the bar: the loss of this epoch and the validation accuracy of the last one."""
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
        except OSError as error:  # a failing log must not end the training
            if not self.quiet:
                say("Warning", path, f"cannot be written ({reason(error)})")

    def went_before(self, epochs: Sequence[Epoch]) -> None:
        """Take over the epochs of a training that is resumed."""
        self._epochs = list(epochs)

    def say(self, text: str) -> None:
        with self._lock:
            self._clear()
            if not self.quiet:
                click.echo(one_line(text), err=True)


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """Return an epoch as a line of text."""
    text = f"epoch {epoch.number}/{epochs}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.1%}"
    if epoch.validation_loss is not None:
        text += f"  validation loss {epoch.validation_loss:.4f}  accuracy {epoch.validation_accuracy:.1%}"
    return f"{text}  rate {epoch.rate:.2g}  {epoch.seconds:.1f} s"


def write_log(path: str, epochs: Sequence[Epoch]) -> None:
    """Write the epochs as CSV, replacing the file."""
    from cnnfilter.runtime.atomic_files import replace_file

    lines = [csv_line(["epoch", "seconds", "rate", "loss", "accuracy", "validation_loss", "validation_accuracy"])]
    lines += [csv_line("" if value is None else f"{value:.6g}" for value in epoch) for epoch in epochs]
    with replace_file(path, force=True) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


_LISTED_PICTURES_MAX = 10
"""Skipped pictures that are listed; of more, only the number is printed."""


def list_skipped(skipped: Sequence[Skipped], quiet: bool) -> None:
    """Print all classes without a picture, the first skipped pictures with the reasons, and one hidden file."""
    from cnnfilter.training.data.examples import EMPTY_CLASS, HIDDEN, JUNK

    if quiet:
        return
    classes = [left_out for left_out in skipped if left_out.reason == EMPTY_CLASS]
    hidden = [left_out for left_out in skipped if left_out.reason in (HIDDEN, JUNK)]
    pictures = [left_out for left_out in skipped if left_out.reason not in (EMPTY_CLASS, HIDDEN, JUNK)]
    for left_out in (*classes, *pictures[:_LISTED_PICTURES_MAX]):
        say("Skipped", *left_out)
    if len(pictures) > _LISTED_PICTURES_MAX:
        click.echo(f"Skipped: {len(pictures) - _LISTED_PICTURES_MAX:,} more", err=True)
    for left_out in hidden[:1]:
        say("Skipped", *left_out)
    if len(hidden) > 1:
        click.echo(f"Skipped: {len(hidden) - 1:,} more that are hidden, or junk of another program", err=True)


def duplicate_lines(duplicates: Sequence[Duplicate], classes: Sequence[str]) -> list[str]:
    """Return a line about pictures that are in two splits, and one about pictures that are in two classes."""
    lines = []
    if split := [pair for pair in duplicates if pair.split != pair.other_split]:
        one, other = f" ({split[0].split})", f" ({split[0].other_split})"
        found = _example(split, one, other)
        lines.append(f"pictures in two splits, which flatters the verdict: {found}")
    if labelled := [pair for pair in duplicates if pair.label != pair.other_label]:
        first = labelled[0]
        found = _example(labelled, f" ({classes[first.label]})", f" ({classes[first.other_label]})")
        lines.append(f"pictures in two classes, one of which is wrong: {found}")
    return lines


def _example(duplicates: Sequence[Duplicate], one: str, other: str) -> str:
    first = duplicates[0]
    kind = "the same bytes as" if first.exact else "nearly the same picture as"
    return f"{len(duplicates):,}, such as {first.one}{one} is {kind} {first.other}{other}"


def refuse_without_matplotlib() -> None:
    """Refuse --plot if matplotlib is not installed, before any work."""
    refuse_without_package("matplotlib", "--plot needs matplotlib", extra="plot")


def write_plot(path: str, evaluation: Evaluation | None, history: Sequence[Epoch] = (), *, force: bool) -> None:
    """Write a PNG file with the confusion matrix and, if there are any, the curves of the epochs."""
    from cnnfilter.runtime.atomic_files import replace_file
    from cnnfilter.training.plots import draw_training

    data = draw_training(evaluation, history)
    with replace_file(path, force=force) as file:
        file.write(data)
