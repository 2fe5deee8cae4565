"""The jobs and targets of pictures that come one after another through a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from cnnfilter.errors import ImageError

if TYPE_CHECKING:
    from cnnfilter.jobs.job import Job
    from cnnfilter.jobs.source_target import Source, Target
    from cnnfilter.jobs.streamed import StreamedJobs


def streamed_jobs(
    sources: Sequence[Source], targets: Sequence[Target] | None, make: Callable[[Source, Target | None], Job]
) -> StreamedJobs:
    """Return the jobs of sources with streams among them, whose pictures become targets as they come.

    A picture whose result cannot be written is a job that fails.

    Parameters
    ----------
    targets : Targets, optional
        The targets of `plan_targets`; None if nothing is written.
    make : callable
        Makes the job of a source and its target.
    """
    from cnnfilter.cli.output_files import Targets
    from cnnfilter.jobs.streamed import StreamedJobs

    planned: dict[Source, tuple[int, Target]] = {}
    for index, (source, target) in enumerate(zip(sources, targets or (), strict=targets is not None), 1):
        planned[source] = source.number_of_input or index, target

    def make_job(source: Source, number: int) -> Job:
        planned_number, target = planned.get(source, (None, None))
        if isinstance(targets, Targets) and planned_number != number and source.error is None:
            try:
                target = targets.further(source, number)
            except click.ClickException as error:
                source.error = ImageError(error.message)
        return make(source, target)

    return StreamedJobs(sources, make_job)
