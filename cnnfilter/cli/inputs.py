"""INPUT for commands that read pictures and print what they find, and the way of those pictures."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli import options

if TYPE_CHECKING:
    from cnnfilter.batch import Source, Target, Task


class Inputs:
    """What was asked of the pictures that a command reads."""

    def __init__(
        self, *, input: tuple[str, ...], recursive: bool, verbose: bool, quiet: bool, **limits: int | None
    ) -> None:
        self.paths = list(input) or ["-"]
        self.recursive = recursive
        self.verbose = verbose
        self.quiet = quiet
        self.max_pixels = limits["max_pixels"]
        self.jobs = limits["jobs"]
        self.threads = limits["threads"]
        options.Pictures(input=input)  # refuses a terminal as input, and stdin twice

    def sources(self, leave_out: str | None = None) -> list[Source]:
        """Find what is to be read; in folders without the folder `leave_out`."""
        from cnnfilter.cli import targets

        return list(targets.find_sources(self.paths, self.recursive, leave_out=leave_out))

    def run(
        self,
        sources: Sequence[Source],
        work: Callable[[Task], Any],
        use: Callable[[Task], None],
        *,
        targets: Sequence[Target] | None = None,
    ) -> bool:
        """Work on every picture on threads, and use each result in the order of the inputs.

        Parameters
        ----------
        work : callable
            Takes a `Task`: reads it and calls the library; what it returns becomes ``task.result``.
        use : callable
            Takes the task when it has ended well: prints its result. An OSError of it counts as the task's.

        Returns
        -------
        Whether every input could be read.
        """
        from cnnfilter import batch
        from cnnfilter.cli.report import Reporter, announce_compilation

        announce_compilation(quiet=self.quiet)
        places = [None] * len(sources) if targets is None else targets
        tasks = [
            batch.Task(source, target, max_pixels=self.max_pixels)
            for source, target in zip(sources, places, strict=True)
        ]
        with (
            Reporter(len(tasks), verbose=self.verbose, quiet=self.quiet) as reporter,
            contextlib.closing(batch.run(tasks, work, jobs=self.jobs, threads=self.threads)) as ended,
        ):
            for task in ended:
                if task.error is None:
                    reporter.progress.clear()
                    try:
                        use(task)
                    except BrokenPipeError:
                        raise
                    except OSError as error:
                        task.error, task.failed_at = error, error.filename or task.source.name
                reporter.report(task)
        return not reporter.failed


def inputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command INPUT and the options of reading, as one argument ``inputs``."""
    names = ("input", "recursive", "max_pixels", "jobs", "threads", "verbose", "quiet")

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        chosen = Inputs(**{name: values.pop(name) for name in names})
        return function(chosen, **values)

    for option in reversed(options.READING_OPTIONS):
        command = option(command)
    return command


model = click.option(
    "-m",
    "--model",
    metavar="NAME|FILE",
    envvar="CNNFILTER_MODEL",
    default="efficientnet-lite0",
    show_default=True,
    show_envvar=True,
    help="The network: one that comes with cnnfilter, or a model file.",
)


def write_line(text: str, end: str = "\n") -> None:
    """Write a line to stdout: file names in their own bytes for a program, harmless for a terminal."""
    from cnnfilter.cli.messages import one_line

    if sys.stdout.isatty():
        click.echo(one_line(text))
    else:
        click.echo(os.fsencode(text + end), nl=False)
