"""``cnnfilter warmup``: compile every loop now."""

from __future__ import annotations

import sys
import time

import click

HELP = """\
Compile every loop now, so that no later run has to wait for it.

Without it, each loop is compiled when it is first used. Machine code is kept in the user's cache folder, or in
CNNFILTER_CACHE_DIR if that is set. The command is meant for container images, servers and continuous integration.
It takes a few minutes the first time.

\b
Examples:
  cnnfilter warmup
"""


@click.command("warmup", help=HELP, short_help="Compile every loop now, for images and servers.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
def command(quiet: bool) -> None:
    from cnnfilter.jit.loop import every_loop, import_loops

    import_loops()
    began = time.perf_counter()
    forms = list(every_loop())
    on_terminal = sys.stderr is not None and sys.stderr.isatty() and not quiet
    for number, (loop, dtypes) in enumerate(forms, 1):
        if on_terminal:
            click.echo(f"\r\x1b[K{number}/{len(forms)}  {loop.name}", nl=False, err=True)
        loop.prepare(dtypes)
    if not quiet:
        clear = "\r\x1b[K" if on_terminal else ""
        click.echo(f"{clear}{len(forms)} loops are ready after {time.perf_counter() - began:.1f} s.", err=True)
