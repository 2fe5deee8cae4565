"""``cnnfilter warmup``: compile every loop now."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import click

from cnnfilter.cli.reporter import Progress

HELP = """\
Compile every loop of the filters and layers now, so that no later run has to wait for it.

Without it, each loop is compiled when it is first used. Machine code is kept in the user's cache folder, or in
CNNFILTER_CACHE_DIR if that is set. The command is meant for container images, servers and continuous integration.
It takes a minute or two the first time, on all cores.

A cache is read by other users too, if it belongs to root or to them and no other user may write it. In an image that is
to run on many machines, NUMBA_CPU_NAME=x86-64-v3, set for this command and for all later ones, compiles for every
processor of that level instead of for this one.

\b
Examples:
  cnnfilter warmup
  cnnfilter warmup --clean
"""

LOOPS_PER_PROCESS = 8
"""Loops for which another process is started at least: starting one takes as long as compiling one or two."""

MAX_PROCESSES = 8
"""Processes that compile at a time: each takes 300 MB of memory, and eight need a quarter of a minute (measured)."""


@click.command("warmup", help=HELP, short_help="Compile every loop now, for containers and servers.")
@click.option(
    "--clean",
    is_flag=True,
    help="Afterwards remove all others, made by other versions, for other processors, or for unusual sizes.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
def command(clean: bool, quiet: bool) -> None:
    from cnnfilter.jit import loop as loops

    loops.import_loops()
    began = time.perf_counter()
    forms = list(loops.every_loop())
    loops.warn_of_cache = _refuse
    progress = Progress(len(forms), enabled=not quiet and sys.stderr is not None and sys.stderr.isatty())
    keys = loops.entry_keys()
    with _helpers(sum(not loops.has_entry(key) for key in keys.values())):
        for number, (loop, dtypes) in enumerate(forms):
            progress.note = f"  {loop.name}"
            loop.prepare(dtypes)
            progress.done = number + sum(map(loops.has_entry, list(keys.values())[number + 1 :]))
            progress.advance()
    progress.clear()
    loops.open_to_readers()
    removed = loops.remove_entries(keys.values()) if clean else 0
    if not quiet:
        seconds = f"{time.perf_counter() - began:.1f} s"
        click.echo(f"{len(forms)} loops are ready after {seconds}.", err=True)
        if clean:
            click.echo(f"{removed} others were removed.", err=True)


def _refuse(reason: str) -> None:
    """End the command, because all that it would compile would be lost."""
    from cnnfilter.jit.loop import cache_folder

    raise click.ClickException(
        f"{cache_folder()}: compiled loops cannot be kept there ({reason}); CNNFILTER_CACHE_DIR names another folder"
    )


_START = "import sys; sys.path[:] = sys.argv[3:]; from cnnfilter.cli.commands import warmup; warmup.help_from_the_end()"


@contextlib.contextmanager
def _helpers(missing: int) -> Iterator[None]:
    """Start processes that compile the last loops first, while this one compiles the first; end them afterwards."""
    from cnnfilter.runtime.parallel import default_threads

    count = min(default_threads(), MAX_PROCESSES, missing // LOOPS_PER_PROCESS) - 1
    helpers: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(count if sys.executable else 0):
            line = [sys.executable, "-P", "-c", _START, str(number), str(count), *sys.path]
            with contextlib.suppress(OSError):
                helpers.append(subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        yield
    finally:
        for helper in helpers:
            helper.terminate()
        for helper in helpers:
            helper.wait()


def help_from_the_end() -> None:
    """Compile every loop that is missing, from the last to the first, as one of several processes."""
    from cnnfilter.jit import loop as loops

    number, count = int(sys.argv[1]), int(sys.argv[2])
    parent = os.getppid()
    loops.import_loops()
    loops.warn_of_cache = _refuse
    for (loop, dtypes), key in list(loops.entry_keys().items())[::-1][number::count]:
        if os.getppid() != parent:  # it was killed
            return
        if not loops.has_entry(key):
            loop.prepare(dtypes)
