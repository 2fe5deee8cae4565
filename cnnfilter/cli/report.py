"""What is told of a run: failures, warnings, paths, details, and how far it has come."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from cnnfilter.cli.messages import print_path, reason, say

if TYPE_CHECKING:
    from cnnfilter.batch import Task

LONG = 1.0
"""Seconds after which a run is long enough for a progress line."""


def announce_compilation(*, quiet: bool = False) -> None:
    """Tell a terminal when a loop is compiled, so that nobody wonders why the first run takes so long."""
    if not quiet and sys.stderr is not None and sys.stderr.isatty():
        from cnnfilter.loops import native

        native.announce = lambda text: click.echo(f"{text} …", err=True)


class Reporter:
    """Prints what the tasks of a run have to say, in their order, and counts the failures.

    Parameters
    ----------
    total : int
        How many tasks there are.
    verbose, quiet : bool
        Print notes; print no warnings and no paths.
    paths : bool
        Print the path of each file that is written, on stdout.
    """

    def __init__(
        self, total: int, *, verbose: bool = False, quiet: bool = False, paths: bool = False
    ) -> None:
        self.verbose = verbose
        self.quiet = quiet
        self.paths = paths and not quiet
        self.failed = 0
        self.progress = Progress(total)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.clear()

    def report(self, task: Task) -> None:
        """Print what there is to say of a task that has ended."""
        self.progress.clear()
        name = task.source.name
        if not self.quiet:
            for text in task.warnings:
                say("Warning", name, text)
        if self.verbose:
            for text in task.notes:
                click.echo(f"{name}: {text}", err=True)
        if task.error is not None:
            self.failed += 1
            say("Error", task.failed_at or name, reason(task.error))
        elif self.paths and task.target is not None:
            print_path(task.target.path)
        self.progress.advance()


class Progress:
    """A line on stderr that is drawn again and again: only on a terminal, once the run has become long."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.began = time.monotonic()
        self.drawn = False
        self.wanted = total > 1 and sys.stderr is not None and sys.stderr.isatty()

    def advance(self) -> None:
        """Count one more, and draw."""
        self.done += 1
        passed = time.monotonic() - self.began
        if not self.wanted or passed < LONG or self.done == self.total:
            return
        rate = self.done / passed
        filled = 30 * self.done // self.total
        bar = "#" * filled + "-" * (30 - filled)
        left = (self.total - self.done) / rate
        sys.stderr.write(f"\r[{bar}] {self.done}/{self.total}  {rate:.3g}/s  {_clock(left)} left ")
        sys.stderr.flush()
        self.drawn = True

    def clear(self) -> None:
        """Take the line away, so that something else can be printed."""
        if self.drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.drawn = False


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
