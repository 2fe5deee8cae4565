"""Run many jobs on threads, and yield them in their order.

One thread reads a picture, works on it and writes it. At most `max_jobs` pictures are in memory at a time. The command
line prints the reports, and decides about the exit code.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from cnnfilter.errors import CnnfilterError
from cnnfilter.jobs.job import Job
from cnnfilter.jobs.streamed import StreamedJobs
from cnnfilter.jobs.worker_pool import in_order
from cnnfilter.runtime import blas, limits

SPARE_WORKERS = 4
"""Workers beyond the pictures in memory: while some wait for the disk, others compute.

200 JPEG files of 640x480 on 2 cores (mean of 16 runs): 1 spare worker 3.26 s, 4 2.89 s, 7 2.70 s.
"""


def run(
    jobs: Sequence[Job], work: Callable[[Job], Any], *, max_jobs: int | None = None, threads: int | None = None
) -> Generator[Job, None, None]:
    """Call ``work(job)`` for every job, up to `max_jobs` at a time, and yield the jobs in their order.

    The return value of `work` becomes ``job.result``, and Python's warnings ``job.warnings``. An error of the input
    (a `CnnfilterError`, an `OSError`, too little memory) becomes ``job.error``, and the other jobs go on. Any other
    error is a bug and is raised here, as is a closed pipe.

    A job that fails for lack of memory or file descriptors while others run is run again when they have ended.

    The first of `StreamedJobs` runs alone, as it is often the only one. The others are worked on as they come.

    Parameters
    ----------
    max_jobs : int, optional
        Pictures in memory at a time; None is one per core. A limit of memory allows fewer (`limits.max_jobs`).
    threads : int, optional
        Threads for one picture (``job.threads``); None shares the cores among the jobs.
    """
    from cnnfilter.runtime.parallel import default_threads

    cores = default_threads()
    if not isinstance(jobs, StreamedJobs):
        max_jobs = max(1, min(max_jobs or cores, len(jobs), limits.max_jobs(len(jobs))))
        yield from _run(jobs, work, max_jobs, threads or max(1, cores // max_jobs), len(jobs))
        return
    more = jobs.coming()
    yield from _run([next(more)], work, 1, threads or cores, 1)
    max_jobs = max(1, min(max_jobs or cores, limits.max_jobs(cores)))
    for second in more:
        yield from _run(chain([second], more), work, max_jobs, threads or max(1, cores // max_jobs), None)


def _run(
    jobs: Iterable[Job], work: Callable[[Job], Any], max_jobs: int, threads: int, count: int | None
) -> Generator[Job, None, None]:
    """Run `count` jobs, or those that come from a stream if it is None, and yield them in their order."""
    stopping = threading.Event()
    # Under a limit, the stacks of spare workers would take memory from the pictures.
    spare = 0 if limits.is_memory_limited() else SPARE_WORKERS
    slots = threading.Semaphore(max_jobs)
    workers = max_jobs + spare if max_jobs > 1 else 1
    streams = count is None and max_jobs > 1

    def work_on(job: Job) -> Job:
        job.threads = threads
        job.stopping = stopping
        job.writes_late = streams
        return _work_on(job, work, slots)

    blas.reserve_buffer()
    if max_jobs > 1:
        _share_heaps(max_jobs)
    with _recorded_warnings():
        ended = in_order(
            work_on,
            jobs,
            workers=workers if count is None else min(workers, count),
            stopping=stopping,
            needs_rerun=_failed_for_memory,
            max_waiting=workers + max_jobs if streams else None,
        )
        with contextlib.closing(ended):
            for job in ended:
                with _recorded_errors(job):
                    job.write_late()
                yield job
                job.result = job.output_file = None  # the caller has used them, and keeps the job


_M_ARENA_MAX = -8  # malloc.h of glibc


def _share_heaps(count: int) -> None:
    """Limit the heaps of glibc, which gives one to each thread and keeps there the memory of its largest picture."""
    if sys.platform.startswith("linux"):
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, count)


_current: contextvars.ContextVar[Job | None] = contextvars.ContextVar("_current", default=None)


def _work_on(job: Job, work: Callable[[Job], Any], slots: threading.Semaphore) -> Job:
    if job.skip_reason:
        job.has_ended = True
        job.source.drop()
        return job
    if job.error is not None:
        job.reset()
    with slots:
        began = time.perf_counter()
        _attempt(job, work)
        job.seconds = time.perf_counter() - began
    with _recorded_errors(job):
        job.finish()
    job.has_ended = not isinstance(job.error, InterruptedError)
    return job


def _failed_for_memory(job: Job) -> bool:
    """Return whether a job may succeed when no other runs."""
    return job.error is not None and _is_memory_error(job.error) and job.source.is_file


def _is_memory_error(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    return isinstance(error, MemoryError)


def _attempt(job: Job, work: Callable[[Job], Any]) -> None:
    _current.set(job)
    job.resources = contextlib.ExitStack()
    try:
        with _recorded_errors(job):
            try:
                job.result = work(job)
            except BaseException:
                job.discard()
                raise
    finally:
        _current.set(None)
        job.resources.close()
        del job.resources


@contextlib.contextmanager
def _recorded_errors(job: Job) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except (CnnfilterError, OSError, MemoryError, ImportError) as error:
        if isinstance(error, ImportError):
            if not limits.is_memory_error(error):
                raise
            error = MemoryError()
        if isinstance(error.__cause__, MemoryError | OSError) and _is_memory_error(error.__cause__):
            error = error.__cause__
        job.error = error.with_traceback(None)  # its frames refer to the picture
        job.error.__context__ = job.error.__cause__ = None
        if job.failed_at is None or isinstance(job.error, MemoryError):  # the picture is too large, not its target
            job.failed_at = job.source.name


@contextlib.contextmanager
def _recorded_warnings() -> Iterator[None]:
    """Add each warning to the job whose thread raised it.

    One hook serves all threads: `warnings.catch_warnings` in each would reset those of the others.
    """

    def keep(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any, **more: Any
    ) -> None:
        job = _current.get()
        if job is None:
            show(message, category, filename, lineno, *rest, **more)
        else:
            job.warn(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        show, warnings.showwarning = warnings.showwarning, keep
        yield
