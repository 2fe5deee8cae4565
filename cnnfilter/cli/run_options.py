"""Groups of options; the options of a run over many inputs (jobs, threads, limits, reports); and the run itself."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli.options import Command, Count, Pixels, Size, add_options, note_quiet
from cnnfilter.cli.streams import streamed_jobs
from cnnfilter.runtime import limits

if TYPE_CHECKING:
    from cnnfilter.jobs.job import Job
    from cnnfilter.jobs.source_target import Source, Target


def option_groups(combine: Callable[..., Any], *groups: Any) -> Callable[[Command], Command]:
    """Return a decorator that gives a command the options of several groups, as one argument.

    Parameters
    ----------
    combine : callable
        Makes the first argument of the command from one object of each group.
    *groups : type
        Classes whose attribute ``OPTIONS`` holds options, and whose parameters take the values.
    """

    def decorate(function: Command) -> Command:
        parameters = [(group, list(inspect.signature(group).parameters)) for group in groups]

        @functools.wraps(function)
        def command(**values: Any) -> Any:
            made = [group(**{name: values.pop(name) for name in names}) for group, names in parameters]
            return function(combine(*made), **values)

        return add_options([option for group in groups for option in group.OPTIONS])(command)

    return decorate


def limit(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """Return a callback that sets the variable `name` of `limits` while the command runs."""

    def change(ctx: click.Context, param: click.Parameter, value: int | None) -> None:
        if value is not None and not ctx.resilient_parsing:
            ctx.call_on_close(functools.partial(setattr, limits, name, getattr(limits, name)))
            setattr(limits, name, value)

    return change


def _limit_memory(ctx: click.Context, param: click.Parameter, value: int | None) -> None:
    if value is not None and not ctx.resilient_parsing:
        try:
            ctx.with_resource(limits.limit_memory(value))
        except NotImplementedError as error:
            raise click.BadParameter(f"{error}.", ctx, param) from error


def _limit_option(name: str, type: Count | Size, callback: Callable[..., None], help: str) -> Callable[..., Any]:
    return click.option(
        name, type=type, metavar=type.name, expose_value=False, is_eager=True, callback=callback, help=help
    )


LIMIT_OPTIONS: tuple[Callable[..., Any], ...] = (
    _limit_option(
        "--max-frames",
        Count(),
        limit("frames"),
        f"Accept animations of up to N frames.  [default: {limits.frames}]",
    ),
    _limit_option(
        "--max-kernel",
        Count(),
        limit("kernel_side"),
        f"Accept kernels of up to N rows and columns.  [default: {limits.kernel_side}]",
    ),
    _limit_option("--max-model", Size(), limit("model_bytes"), "Accept model files of up to SIZE.  [default: 1G]"),
    _limit_option(
        "--max-memory",
        Size(least=limits.MIN_MEMORY_BYTES),
        _limit_memory,
        "Use no more memory than SIZE, such as 2G; a picture that needs more fails. For every 128M, at most one "
        "picture is worked on at the same time.",
    ),
)
"""The options that change the limits of `cnnfilter.runtime.limits`, except pixels, which are a parameter."""


class RunOptions:
    """The options of a run over many inputs."""

    OPTIONS: tuple[Callable[..., Any], ...] = (
        click.option(
            "-j",
            "--jobs",
            type=Count(),
            metavar="N",
            help="Work on N pictures at the same time.  [default: one per core]",
        ),
        click.option(
            "--threads",
            type=Count(),
            metavar="N",
            help="Use N threads for one picture.  [default: the free cores]",
        ),
        click.option("--fail-fast", is_flag=True, help="Stop at the first input that fails."),
        click.option("--dry-run", is_flag=True, help="Print only what would be read and written."),
        click.option(
            "--json",
            is_flag=True,
            help="Print the result as JSON, one object a line: the labels (classify), or a report of each input, which "
            "goes to stderr if the pictures go to stdout.",
        ),
        click.option(
            "--max-pixels",
            type=Pixels(),
            metavar="N",
            help="Accept pictures of up to N pixels (width x height x frames), such as 200M for 200 million.  "
            f"[default: {limits.PIXELS}]",
        ),
        *LIMIT_OPTIONS,
        click.option(
            "--accept-truncated",
            is_flag=True,
            help="Read what there is of a picture that is cut off or damaged, with a warning, and fill the rest.",
        ),
        click.option(
            "--axes",
            type=click.Choice(["hwc", "chw", "zyx", "nhwc"]),
            help="Order of the axes of .npy arrays, needed for more than 16 channels: channels last or first, slices "
            "of a volume, or several pictures. Slices and pictures are filtered one by one.",
        ),
        click.option("-v", "--verbose", is_flag=True, help="Print on stderr what was done, how, and how long it took."),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            callback=note_quiet,
            help="Print no warnings, no paths of written files and no summary.",
        ),
    )

    def __init__(
        self,
        *,
        jobs: int | None = None,
        threads: int | None = None,
        fail_fast: bool = False,
        dry_run: bool = False,
        json: bool = False,
        max_pixels: int | None = None,
        accept_truncated: bool = False,
        axes: str | None = None,
        verbose: bool = False,
        quiet: bool = False,
    ) -> None:
        self.jobs = jobs
        self.threads = threads
        self.fail_fast = fail_fast
        self.dry_run = dry_run
        self.json = json
        self.max_pixels = max_pixels
        self.accept_truncated = accept_truncated
        self.axes = axes
        self.verbose = verbose
        self.quiet = quiet

    def jobs_for(
        self,
        sources: Sequence[Source],
        targets: Sequence[Target] | None = None,
        *,
        strip: bool = False,
        settings: dict[str, Any] | None = None,
    ) -> list[Job]:
        """Return a job for each source and its target; for streams, the jobs that their pictures will have."""
        from cnnfilter.jobs.job import Job

        make = functools.partial(
            Job,
            strip=strip,
            settings=settings or {},
            max_pixels=self.max_pixels,
            accept_truncated=self.accept_truncated,
            axes=self.axes,
            detailed=self.verbose,
        )
        if any(source.is_stream for source in sources):
            return streamed_jobs(sources, targets, make)
        places = [None] * len(sources) if targets is None else targets
        return [make(source, target) for source, target in zip(sources, places, strict=True)]

    def each(
        self,
        jobs: Sequence[Job],
        work: Callable[[Job], Any],
        use: Callable[[Job], None] | None = None,
        *,
        results_on_stdout: bool = False,
        paths: bool = False,
        end: str = "\n",
        plan_only: bool | None = None,
        json_is_result: bool = False,
        continuation: str | None = None,
        left_out: Counter[str] | None = None,
    ) -> bool:
        """Run every job on threads, then use its result and report it, in the order of the jobs.

        Parameters
        ----------
        work : callable
            Takes a `Job`, reads its picture, calls the library, and may write a result; the value it returns becomes
            ``job.result``.
        use : callable, optional
            Takes a job that has ended without an error, and prints its result. An OSError that it raises counts as the
            job's own.
        results_on_stdout : bool
            Whether results go to stdout; the lines of the run, such as a warning, go to stderr then.
        paths : bool
            Print the path of each file that was written.
        end : str
            Printed after each path.
        plan_only : bool, optional
            Print only what would be read and written; by default if ``--dry-run`` was given.
        json_is_result : bool
            Whether ``--json`` asks for the results that `use` prints, and not for reports.
        continuation : str, optional
            How to go on after an interruption; by default the line names the input that is next.
        left_out : Counter of str, optional
            How many files in the folders are left out, by their formats, which cannot be read.

        Returns
        -------
        bool
            Whether no job has failed.
        """
        from cnnfilter.cli.reporter import Reporter, announce_compilation, collect_garbage
        from cnnfilter.jobs import run
        from cnnfilter.jobs.streamed import coming

        if plan_only is None:
            plan_only = self.dry_run
        wants_reports = self.json and (plan_only or not json_is_result)

        def interruption(reported: int) -> str:
            ended = reported if use is not None else sum(job.has_ended for job in jobs)
            go_on = continuation or f"the next is {jobs[min(ended, len(jobs) - 1)].source.name}"
            return f"Interrupted after {ended:,} of {len(jobs):,} inputs; {go_on}"

        reporter = Reporter(
            len(jobs),
            verbose=self.verbose,
            quiet=self.quiet,
            paths=paths,
            end=end,
            json=("stderr" if results_on_stdout else "stdout") if wants_reports else None,
            interruption=interruption,
            left_out=left_out,
        )
        if plan_only:
            with reporter:
                for job in coming(jobs):
                    reporter.plan(job)
                    job.source.drop()
            return True
        announce_compilation(quiet=self.quiet or reporter.json == "stderr")
        collect_garbage()
        with reporter, contextlib.closing(run.run(jobs, work, max_jobs=self.jobs, threads=self.threads)) as ended:
            for job in ended:
                if use is not None and job.error is None:
                    reporter.progress.clear()
                    _use(job, use)
                reporter.report(job)
                if job.error is not None and self.fail_fast:
                    break
        return not reporter.failed


def _use(job: Job, use: Callable[[Job], None]) -> None:
    try:
        use(job)
    except BrokenPipeError:
        raise
    except OSError as error:
        job.error, job.failed_at = error, error.filename or "stdout"
