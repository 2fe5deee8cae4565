"""``cnnfilter warmup``: compile every loop now."""

from __future__ import annotations

import importlib
import pkgutil
import time

import click

HELP = """\
Compile every loop now, so that no later run has to wait for it.

Otherwise each loop is compiled when it is first used, and its machine code kept in the user's cache folder (or in
CNNFILTER_CACHE_DIR). For container images, servers and continuous integration.

\b
Examples:
  cnnfilter warmup
  CNNFILTER_CACHE_DIR=./cache cnnfilter warmup
"""


@click.command("warmup", help=HELP, short_help="Compile every loop now, for images and servers.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
def command(quiet: bool) -> None:
    from cnnfilter import loops
    from cnnfilter.loops import native

    for module in pkgutil.iter_modules(loops.__path__):
        importlib.import_module(f"{loops.__name__}.{module.name}")
    began = time.perf_counter()
    forms = list(native.every_loop())
    for number, (loop, dtypes) in enumerate(forms, 1):
        if not quiet:
            click.echo(f"[{number}/{len(forms)}] {loop.name} ({', '.join(dtypes)})", err=True)
        loop.prepare(dtypes)
    if not quiet:
        click.echo(f"{len(forms)} loops are ready after {time.perf_counter() - began:.1f} s.", err=True)
