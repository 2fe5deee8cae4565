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

REDRAWN = 0.1
"""Seconds between two drawings of the progress line."""


def announce_compilation(*, quiet: bool = False) -> None:
    """Tell a terminal when a loop is compiled, so that nobody wonders why the first run takes so long."""
    if not quiet and _is_terminal():
        from cnnfilter.loops import native

        native.announce = lambda text: click.echo(f"{text} …", err=True)


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


class Reporter:
    """Prints what the tasks of a run have to say, in their order, and counts the failures.

    Parameters
    ----------
    total : int
        How many tasks there are.
    verbose, quiet : bool
        Print notes; print no warnings, no paths and no progress.
    paths : bool
        Print the path of each file that is written, on stdout.
    """

    def __init__(self, total: int, *, verbose: bool = False, quiet: bool = False, paths: bool = False) -> None:
        self.verbose = verbose
        self.quiet = quiet
        self.paths = paths and not quiet
        self.failed = 0
        self.progress = Progress(total, wanted=not quiet and total > 1 and _is_terminal())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.clear()
        if error is None and self.progress.total > 1 and (self.verbose or self.progress.last_drawn):
            self._sum_up()

    def _sum_up(self) -> None:
        passed = time.monotonic() - self.progress.began
        failed = f", {self.failed} failed" if self.failed else ""
        click.echo(f"{self.progress.done - self.failed} done{failed} in {passed:.1f} s", err=True)

    def report(self, task: Task) -> None:
        """Print what there is to say of a task that has ended."""
        if task.error is not None or self.verbose or self.paths or (task.warnings and not self.quiet):
            self.progress.clear()
            self._print(task)
        self.progress.advance()

    def _print(self, task: Task) -> None:
        name = task.source.name
        for text in task.warnings if not self.quiet else ():
            say("Warning", name, text)
        for text in task.notes if self.verbose else ():
            say(name, text)
        if task.error is not None:
            self.failed += 1
            say("Error", task.failed_at or name, reason(task.error))
        elif self.paths and task.target is not None:
            print_path(task.target.path)


class Progress:
    """A line on stderr that is drawn again and again, once the run has become long.

    Parameters
    ----------
    total : int
        How many steps there are.
    wanted : bool
        Whether to draw at all: stderr is a terminal.
    """

    def __init__(self, total: int, *, wanted: bool) -> None:
        self.total = total
        self.wanted = wanted
        self.done = 0
        self.began = time.monotonic()
        self.last_drawn: float | None = None
        self.visible = False

    def advance(self) -> None:
        """Count one more, and draw if it is time to."""
        self.done += 1
        now = time.monotonic()
        early = now < (self.began + LONG if self.last_drawn is None else self.last_drawn + REDRAWN)
        if self.wanted and not early and self.done < self.total:
            self._draw(now)

    def _draw(self, now: float) -> None:
        rate = self.done / (now - self.began)
        filled = 30 * self.done // self.total
        bar = "#" * filled + "-" * (30 - filled)
        left = _clock((self.total - self.done) / rate)
        sys.stderr.write(f"\r[{bar}] {self.done}/{self.total}  {rate:.3g}/s  {left} left\x1b[K")
        sys.stderr.flush()
        self.last_drawn = now
        self.visible = True

    def clear(self) -> None:
        """Take the line away, so that something else can be printed."""
        if self.visible:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.visible = False


def _clock(seconds: float) -> str:
    """Write a time as a clock does.

    >>> _clock(7), _clock(3725)
    ('0:07', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
