"""Reports of a run: failures, warnings, paths and details of each input, a summary, and a progress line."""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from cnnfilter.cli.input_files import describe_left_out
from cnnfilter.cli.messages import print_line, print_paths, reason, say
from cnnfilter.cli.reports.shared_warnings import SharedWarnings
from cnnfilter.jobs.source_target import PageSource

if TYPE_CHECKING:
    from cnnfilter.jobs.job import Job

PROGRESS_AFTER_SECONDS = 1.0
"""Seconds after which the progress line is drawn: shorter runs need none."""

SUMMARY_INPUTS_MIN = 10
"""Inputs from which on a summary line says how many of them were not done; fewer are easily counted by eye."""

GARBAGE_OBJECTS = 20_000
"""New objects after which Python collects garbage during a run (during the imports: 1,000,000)."""

REDRAW_SECONDS = 0.1
"""Seconds between two drawings of the progress line, so that drawing takes no time from the work."""


_COMPILED_PARTS = {
    "images.formats.jpeg": "JPEG",
    "images.formats.png": "PNG",
    "filters.convolution": "convolution",
    "filters.pooling": "pooling",
    "networks": "networks",
    "training": "training",
}
"""The work of the loops of a module, by the beginning of its name below ``cnnfilter``."""


def announce_compilation(*, quiet: bool = False) -> None:
    """Print a line on a terminal when loops are compiled, because that makes the first run slow: one for each part.

    If they cannot be stored, so that each run has to compile them, print a warning, also where there is no terminal.
    """
    if quiet:
        return
    from cnnfilter.jit import loop

    loop.warn_of_cache = _warn_of_cache
    if not _is_terminal():
        return
    announced = set()

    def announce(name: str) -> None:
        part = next((part for start, part in _COMPILED_PARTS.items() if name.startswith(start)), "pictures")
        if part not in announced:
            announced.add(part)
            click.echo(f"preparing the code for {part}: some seconds, in the first run only …", err=True)

    loop.announce = announce


def _warn_of_cache(reason: str) -> None:
    """Print the warning once in a run."""
    from cnnfilter.jit import loop

    loop.warn_of_cache = lambda reason: None
    say(
        "Warning",
        loop.cache_folder(),
        f"compiled loops cannot be kept there ({reason}), so each run compiles them anew; "
        "CNNFILTER_CACHE_DIR names another folder",
    )


def collect_garbage() -> None:
    """Collect garbage from now on, if `cnnfilter.__main__` has put it off during the imports.

    Objects that exist already are left out: modules stay until the end.
    """
    if gc.get_threshold()[0] > GARBAGE_OBJECTS:
        gc.freeze()
        gc.set_threshold(GARBAGE_OBJECTS, 20, 20)


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


class Reporter:
    """The reports of the jobs of a run, printed in their order, and the counts of how they ended.

    Parameters
    ----------
    total : int
        How many jobs there are.
    verbose, quiet : bool
        Print notes; print no warnings, no paths, no progress and no summary.
    paths : bool
        Print the path of each file that is written, on stdout.
    end : str
        Printed after each path.
    json : "stdout" or "stderr", optional
        Print a JSON object for each job there, and one for the run. On stderr nothing else is printed then.
    interruption : callable
        Takes the number of jobs that were reported, and returns the line about an interruption.
    left_out : Counter of str, optional
        How many files in the folders are left out, by their formats, which cannot be read.
    """

    def __init__(
        self,
        total: int,
        *,
        verbose: bool = False,
        quiet: bool = False,
        paths: bool = False,
        end: str = "\n",
        json: str | None = None,
        interruption: Callable[[int], str] = "Interrupted after {} inputs".format,
        left_out: Counter[str] | None = None,
    ) -> None:
        self.left_out = left_out or Counter()
        self.interruption = interruption
        self.verbose = verbose
        self.quiet = quiet
        self.paths = paths and not quiet and not json
        self.end = end
        self.json = json
        self.counts = dict.fromkeys(("done", "skipped", "failed"), 0)
        self.planned = False
        self.total = total
        self.warnings = SharedWarnings()
        self.progress = Progress(total, enabled=not quiet and not json and total > 1 and _is_terminal())

    @property
    def failed(self) -> int:
        """The number of jobs that have failed."""
        return self.counts["failed"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.clear()
        warned = [": ".join(("Warning", *line)) for line in self.warnings.lines()]
        if self.left_out and not self.quiet and self.json != "stderr":
            warned.append(f"Warning: {describe_left_out(self.left_out)}")
        if error is None:
            for line in warned:
                say(line)
            if not self.planned:
                self._print_summary()
        elif isinstance(error, KeyboardInterrupt) and self.total > 1 and not self.quiet and self.json != "stderr":
            # The command line prints the notes, after the line of the terminal's ^C.
            for line in (*warned, self.interruption(sum(self.counts.values()))):
                error.add_note(line)

    def _print_summary(self) -> None:
        seconds = time.monotonic() - self.progress.began
        total = max(self.total, sum(self.counts.values()))  # of a stream, the number was not known
        left = total - sum(self.counts.values())
        counts = self.counts | {"left": left}
        if self.json:
            left_out = {"left_out": self.left_out.total()} if self.left_out else {}
            self._print_object(counts | left_out | {"seconds": round(seconds, 3)})
        is_wanted = total > 1 and (self.verbose or self.progress.last_drawn)
        is_needed = total >= SUMMARY_INPUTS_MIN and counts["done"] < total
        if (is_wanted or is_needed) and not self.quiet and self.json != "stderr":
            others = "".join(f", {count} {what}" for what, count in counts.items() if count and what != "done")
            click.echo(f"{counts['done']} done{others} in {seconds:.1f} s", err=True)

    def report(self, job: Job) -> None:
        """Print the report of a job that has ended."""
        status = "failed" if job.error is not None else "skipped" if job.skip_reason else "done"
        self.counts[status] += 1
        # The error alone is printed: what a decoder warned of before it explains nothing.
        said = [*job.warnings] if status != "failed" and not self.quiet else []
        if status == "failed" or self.verbose or self.paths or self.json or said:
            self.progress.clear()
            if self.json:
                self._print_object(_as_object(job, status))
            if self.json != "stderr":
                self._print(job, status, said)
        self.progress.advance()

    def _print(self, job: Job, status: str, warnings: list[str]) -> None:
        name = job.source.name
        for text in warnings:
            if self.total == 1:
                say("Warning", name, text)
            else:
                self.warnings.add(name, text)
        for text in job.notes if self.verbose else ():
            say(name, text)
        if job.error is not None:
            say("Error", job.failed_at or name, reason(job.error))
        elif status == "skipped":
            if self.verbose:
                say(name, f"left out: {job.target and job.target.name} {job.skip_reason}")
        elif self.paths and job.target is not None:
            print_line(job.target.path, self.end)

    def plan(self, job: Job) -> None:
        """Print what would be done with a job."""
        self.planned = True
        if self.json:
            self._print_object(_as_object(job, "skipped" if job.skip_reason else "planned"))
        elif not job.skip_reason:
            name = job.source.listed_path
            print_paths(f"{name} -> {job.target.name}" if job.target else name, self.end)
        elif self.verbose:
            self._print(job, "skipped", [])

    def _print_object(self, fields: dict[str, Any]) -> None:
        import json

        click.echo(json.dumps(fields), err=self.json == "stderr")


def _as_object(job: Job, status: str) -> dict[str, Any]:
    """Return the JSON object of a job; undecodable bytes of a path stay escaped as in `os.fsdecode`."""
    fields: dict[str, Any] = {"input": job.source.listed_path, "status": status}
    if isinstance(job.source, PageSource):
        fields["page"] = job.source.page
    if job.target is not None:
        fields["output"] = job.target.path
        fields["format"] = job.target.format
    if job.error is not None:
        fields["error"] = reason(job.error)
    elif job.skip_reason:
        fields["reason"] = job.skip_reason
    if status in ("done", "failed"):
        fields |= {"warnings": job.warnings, "seconds": round(job.seconds, 4)}
    return fields


class Progress:
    """A progress line on stderr, which is redrawn while a long run goes on.

    Parameters
    ----------
    total : int
        How many steps there are.
    wanted : bool
        Whether to draw; false if stderr is not a terminal.

    Attributes
    ----------
    note : str
        Text after the bar, which is shortened by its length.
    """

    def __init__(self, total: int, *, enabled: bool) -> None:
        self.total = total
        self.enabled = enabled
        self.note = ""
        self.done = 0
        self.began = time.monotonic()
        self.last_drawn: float | None = None
        self.visible = False

    def advance(self) -> None:
        """Count one more step, and draw the line if it is due."""
        self.done += 1
        now = time.monotonic()
        due = self.began + PROGRESS_AFTER_SECONDS if self.last_drawn is None else self.last_drawn + REDRAW_SECONDS
        if self.enabled and now >= due and self.done < self.total:
            self._draw(now)

    def _draw(self, now: float) -> None:
        rate = self.done / (now - self.began)
        width = max(10, 30 - len(self.note))
        filled = width * self.done // self.total
        bar = "#" * filled + "-" * (width - filled)
        left = _clock_text((self.total - self.done) / rate)
        sys.stderr.write(f"\r[{bar}] {self.done}/{self.total}  {rate:.3g}/s  {left} left{self.note}\x1b[K")
        sys.stderr.flush()
        self.last_drawn = now
        self.visible = True

    def clear(self) -> None:
        """Remove the line, so that another one can be printed."""
        if self.visible:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.visible = False


def _clock_text(seconds: float) -> str:
    """Return seconds as minutes and seconds, with hours if there are some.

    >>> _clock_text(7), _clock_text(3725)
    ('0:07', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
