"""INPUT for commands that read pictures and print what they find, and the way of those pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli.input_files import Selection
from cnnfilter.cli.options import option_groups
from cnnfilter.cli.run_options import RunOptions

if TYPE_CHECKING:
    from cnnfilter.jobs.job import Task
    from cnnfilter.jobs.source_target import Source, Target


class Inputs:
    """What was asked of the pictures that a command reads."""

    def __init__(self, selection: Selection, running: RunOptions) -> None:
        self.selection = selection
        self.running = running

    @property
    def end(self) -> str:
        """What stands behind a path that is printed."""
        return self.selection.end

    @property
    def from_list(self) -> bool:
        """Whether inputs come from a list."""
        return self.selection.files_from is not None

    @property
    def quiet(self) -> bool:
        """Whether only what was asked for is printed."""
        return self.running.quiet

    @property
    def dry_run(self) -> bool:
        """Whether it is only to be said what would be done."""
        return self.running.dry_run

    def sources(self, leave_out: str | None = None) -> list[Source]:
        """Find what is to be read; in folders without the folder `leave_out`."""
        return self.selection.sources(leave_out)

    def run(
        self,
        sources: Sequence[Source],
        work: Callable[[Task], Any],
        use: Callable[[Task], None],
        *,
        targets: Sequence[Target] | None = None,
        results_on_stdout: bool = True,
        plan_only: bool | None = None,
    ) -> bool:
        """Work on every picture on threads, and use each result in the order of the inputs.

        Parameters
        ----------
        work : callable
            Takes a `Task`: reads it and calls the library; what it returns becomes ``task.result``.
        use : callable
            Takes the task when it has ended well: prints its result. An OSError of it counts as the task's.
        results_on_stdout : bool
            Whether `use` prints on stdout, so that a report has to go elsewhere.
        plan_only : bool, optional
            Only tell what would be read and written; else if ``--dry-run`` was given.

        Returns
        -------
        Whether every input could be read.
        """
        tasks = self.running.tasks(sources, targets)
        return self.running.each(
            tasks, work, use, results_on_stdout=results_on_stdout, end=self.end, plan_only=plan_only
        )


inputs = option_groups(Inputs, Selection, RunOptions)
"""Give a command INPUT and the options of reading, as one argument ``inputs``."""

MODEL_HINT = "'-m' / '--model'"
"""What messages call the option ``model``."""

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
