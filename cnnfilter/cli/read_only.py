"""The options of commands that read pictures and print results: their inputs, the options of a run, and the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli.completion import complete_model
from cnnfilter.cli.input_files import Selection
from cnnfilter.cli.run_options import RunOptions, option_groups

if TYPE_CHECKING:
    from cnnfilter.jobs.job import Job
    from cnnfilter.jobs.source_target import Source, Target


class Inputs:
    """The inputs of a command and the options of its run."""

    def __init__(self, selection: Selection, run_options: RunOptions) -> None:
        self.selection = selection
        self.run_options = run_options

    @property
    def end(self) -> str:
        """The text that is printed after a path: a line's end or a NUL."""
        return self.selection.end

    @property
    def from_list(self) -> bool:
        """Return whether a list of inputs was given."""
        return self.selection.files_from is not None

    @property
    def quiet(self) -> bool:
        """Return whether warnings and the summary are left out."""
        return self.run_options.quiet

    @property
    def dry_run(self) -> bool:
        """Return whether to print only what would be done."""
        return self.run_options.dry_run

    @property
    def json(self) -> bool:
        """Return whether the result is printed as JSON."""
        return self.run_options.json

    def sources(self, leave_out: str | None = None) -> list[Source]:
        """Return the sources to read; folders are searched without the folder `leave_out`."""
        return self.selection.sources(leave_out)

    def run(
        self,
        sources: Sequence[Source],
        work: Callable[[Job], Any],
        use: Callable[[Job], None],
        *,
        targets: Sequence[Target] | None = None,
        settings: dict[str, Any] | None = None,
        results_on_stdout: bool = True,
        plan_only: bool | None = None,
        json_is_result: bool = False,
        continuation: str | None = None,
    ) -> bool:
        """Process every picture on threads, and use each result in the order of the inputs.

        Parameters
        ----------
        work : callable
            Takes a `Job`, reads its picture and calls the library; the value it returns becomes ``job.result``.
        use : callable
            Takes a job that has ended without an error, and prints its result. An OSError that it raises counts as the
            job's own.
        settings : dict, optional
            Options of `write_image` for the pictures that are written.
        results_on_stdout : bool
            Whether `use` prints on stdout; the lines of the run, such as a warning, go to stderr then.
        plan_only : bool, optional
            Print only what would be read and written; by default if ``--dry-run`` was given.
        json_is_result : bool
            Whether ``--json`` asks for the results that `use` prints, and not for reports.
        continuation : str, optional
            How to go on after an interruption; by default the line names the input that is next.

        Returns
        -------
        bool
            Whether every input could be read.
        """
        jobs = self.run_options.jobs_for(sources, targets, settings=settings)
        return self.run_options.each(
            jobs,
            work,
            use,
            results_on_stdout=results_on_stdout and not (self.dry_run if plan_only is None else plan_only),
            end=self.end,
            plan_only=plan_only,
            json_is_result=json_is_result,
            continuation=continuation,
            left_out=self.selection.left_out,
        )


inputs = option_groups(Inputs, Selection, RunOptions)
"""The decorator that gives a command INPUT and the options of a run, as one argument ``inputs``."""

MODEL_HINT = "'-m' / '--model'"
"""The name of the option `model` in error messages."""

model = click.option(
    "-m",
    "--model",
    metavar="NAME|FILE",
    shell_complete=complete_model,
    envvar="CNNFILTER_MODEL",
    default="efficientnet-lite0",
    show_default=True,
    show_envvar=True,
    help="The network: one that comes with cnnfilter, or a model file.",
)
