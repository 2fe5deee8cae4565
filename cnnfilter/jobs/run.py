"""Many inputs, in parallel, with one report each, in their order.

A picture is read, worked on and written by one thread, so that never more pictures are in memory than
there are threads, and different pictures overlap. What is printed of a report, and what the process
returns, is left to the command line.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from cnnfilter.errors import CnnfilterError
from cnnfilter.jobs.job import Task
from cnnfilter.jobs.worker_pool import in_order
from cnnfilter.runtime import limits

SPARE_WORKERS = 4
"""Workers beyond the pictures at a time: while these wait for the disk, others compute.

200 JPEG files of 640x480 on 2 cores (mean of 16 runs): 1 spare worker 3.26 s, 4 2.89 s, 7 2.70 s.
"""


def run(
    tasks: Sequence[Task], work: Callable[[Task], Any], *, jobs: int | None = None, threads: int | None = None
) -> Generator[Task, None, None]:
    """Work on every task, on up to `jobs` threads, and yield the tasks in their order as they end.

    What `work` returns becomes ``task.result``. An error that belongs to the input (a `CnnfilterError`, an
    `OSError`, too little memory) is kept in ``task.error`` and stops nothing; any other is a bug and is
    raised here, as is a closed pipe. Python's warnings become ``task.warnings``.

    Parameters
    ----------
    jobs : int, optional
        Pictures at a time; None is one per core. No more than fit into the memory that the process may take.
    threads : int, optional
        Threads that a task may use within a picture (``task.threads``); None shares the cores among the jobs.
    """
    from cnnfilter.runtime.parallel import default_threads

    cores = default_threads()
    stopping = threading.Event()
    jobs = max(1, min(jobs or cores, len(tasks), limits.jobs_with_room(len(tasks))))
    # The stack of each takes some of the memory that is allowed.
    spare = 0 if limits.is_memory_limited() else SPARE_WORKERS
    slots = threading.Semaphore(jobs)
    for task in tasks:
        task.threads = threads or max(1, cores // jobs)
        task.stopping = stopping
    if jobs > 1:
        _share_heaps(jobs)
    with _warnings_kept():
        ended = in_order(
            lambda task: _work_on(task, work, slots),
            tasks,
            workers=min(jobs + spare, len(tasks)) if jobs > 1 else 1,
            stopping=stopping,
            needs_rerun=_failed_for_memory,
        )
        with contextlib.closing(ended):
            for task in ended:
                yield task
                task.result = task.new = None  # it has been used; the task may live as long as the run


_M_ARENA_MAX = -8  # malloc.h of glibc


def _share_heaps(count: int) -> None:
    """Let threads share heaps: glibc gives each its own, which keeps what its largest picture took."""
    if sys.platform.startswith("linux"):
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, count)


_current: contextvars.ContextVar[Task | None] = contextvars.ContextVar("_current", default=None)


def _work_on(task: Task, work: Callable[[Task], Any], slots: threading.Semaphore) -> Task:
    if task.needless:
        return task
    if task.error is not None:
        task.forget()
    with slots:
        began = time.perf_counter()
        _attempt(task, work)
        task.seconds = time.perf_counter() - began
    with _errors_kept(task):
        task.finish()
    return task


def _failed_for_memory(task: Task) -> bool:
    """Whether a task failed that may do when nothing else is being done."""
    return task.error is not None and _wants_room(task.error) and task.source.is_file


def _wants_room(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    return isinstance(error, MemoryError)


def _attempt(task: Task, work: Callable[[Task], Any]) -> None:
    _current.set(task)
    task.open = contextlib.ExitStack()
    try:
        with _errors_kept(task):
            try:
                task.result = work(task)
            except BaseException:
                task.abandon()
                raise
    finally:
        _current.set(None)
        task.open.close()
        del task.open


@contextlib.contextmanager
def _errors_kept(task: Task) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except (CnnfilterError, OSError, MemoryError, ImportError) as error:
        if isinstance(error, ImportError):
            if not limits.is_for_want_of_memory(error):
                raise
            error = MemoryError()
        if isinstance(error.__cause__, MemoryError | OSError) and _wants_room(error.__cause__):
            error = error.__cause__
        task.error = error.with_traceback(None)  # the frames would keep the picture alive
        task.error.__context__ = task.error.__cause__ = None
        task.failed_at = task.failed_at or task.source.name


@contextlib.contextmanager
def _warnings_kept() -> Iterator[None]:
    """Give each warning to the task whose thread raised it.

    The hook is set once for all threads, because `warnings.catch_warnings` in each would undo the others'.
    """

    def keep(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any, **more: Any
    ) -> None:
        task = _current.get()
        if task is None:
            show(message, category, filename, lineno, *rest, **more)
        else:
            task.warn(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        show, warnings.showwarning = warnings.showwarning, keep
        yield
