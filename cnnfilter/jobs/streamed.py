"""Jobs whose number is not known before they end, because streams of pictures are among their sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cnnfilter.jobs.job import Job
from cnnfilter.jobs.source_target import Source

MakeJob = Callable[[Source, int], Job]
"""Takes a source and its number among all pictures, counted from 1, and returns its job."""


class StreamedJobs(list[Job]):
    """The jobs of sources with streams among them; the list holds those that were made already.

    Parameters
    ----------
    sources : sequence of Source
    make_job : callable
        Makes the job of a source.
    """

    def __init__(self, sources: Sequence[Source], make_job: MakeJob) -> None:
        super().__init__()
        self._sources = sources
        self._make_job = make_job

    def coming(self) -> Iterator[Job]:
        """Yield the job of each picture, when all bytes of the picture have come."""
        followers = 0
        for index, source in enumerate(self._sources, 1):
            number = source.number_of_input or index
            yield self._made(source, number + followers)
            for following in source.following():
                followers += 1
                yield self._made(following, number + followers)

    def _made(self, source: Source, number: int) -> Job:
        job = self._make_job(source, number)
        self.append(job)
        return job


def coming(jobs: Sequence[Job]) -> Iterator[Job]:
    """Yield the jobs, and with streams among their sources also those that are made when their pictures come."""
    return jobs.coming() if isinstance(jobs, StreamedJobs) else iter(jobs)
