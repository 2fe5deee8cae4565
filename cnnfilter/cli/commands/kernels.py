"""``cnnfilter kernels``: list the named kernels, show one, or find the kernel between two pictures."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli.messages import reason
from cnnfilter.cli.options import KernelSize, KernelText, errors_about
from cnnfilter.errors import CnnfilterError
from cnnfilter.kernels.catalogue import ENTRIES, FAMILIES
from cnnfilter.kernels.text import bare_numbers, check

if TYPE_CHECKING:
    from cnnfilter.images.image import Image
    from cnnfilter.kernels.kernel import Kernel, KernelSet

HELP = """\
List the named kernels, show what one does, or find the one that was used.

Without a command, all names are listed.

A filter that a network has learned is a kernel as well: MODEL#LAYER[FILTER], with layers counted from 1, as `describe`
counts them, and filters from 0. If a filter has weights for several channels, the kernel is their sum. -k filters every
channel of a picture with that sum, so that the result is that of the network only where the channels are equal, as in
a grey picture. MODEL#LAYER[FILTER,CHANNEL] takes the weights for one channel.

\b
Examples:
  cnnfilter kernels
  cnnfilter kernels show sobel-h
  cnnfilter kernels show 'efficientnet-lite0#1[5]'
  cnnfilter kernels show 'efficientnet-lite0#1[5,0]'
  cnnfilter kernels show 'gaussian:1.4' --png gaussian.png
  cnnfilter kernels fit photo.jpg filtered.png --size 3x3
"""


class _Kernels(click.Group):
    """A group whose message for an unknown command says how to show a kernel of that name."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. To see a kernel: cnnfilter kernels show {shlex.quote(args[0])}")
        return super().resolve_command(ctx, args)


@click.group("kernels", cls=_Kernels, help=HELP, short_help="List, show and find kernels.", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_names)


# ---------------------------------------------------------------- list

LIST_HELP = """\
List the named kernels, one line each.

Words in capitals stand for numbers (gaussian:1.4). Numbers in brackets may be left out, and so may all numbers: a
name alone takes common values. Every option that takes a kernel also takes rows of numbers or a file.

\b
Examples:
  cnnfilter kernels list
  cnnfilter kernels list --json
"""


@command.command("list", help=LIST_HELP, short_help="List the named kernels.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list with an object for each name.")
def list_names(as_json: bool = False) -> None:
    if as_json:
        _print_json([_entry_record(name) for name in ENTRIES])
        return
    width = max(len(entry.usage) for entry in ENTRIES.values())
    for family, title in FAMILIES.items():
        click.echo(title)
        for entry in ENTRIES.values():
            if entry.family == family:
                click.echo(f"  {entry.usage:<{width}}  {entry.purpose}")
        click.echo()
    click.echo("Numbers, JSON and files do as well: -k '0 -1 0; -1 5 -1; 0 -1 0', -k @kernel.txt")
    click.echo("More on one: cnnfilter kernels show NAME")


def _entry_record(name: str) -> dict[str, Any]:
    entry = ENTRIES[name]
    parameters = [
        {
            "name": p.name,
            "default": p.default,
            **(
                {"choices": list(p.choices)}
                if p.choices
                else {"least": p.minimum, "most": p.maximum_allowed, "whole": p.is_integer}
            ),
        }
        for p in entry.parameters
    ]
    return {
        "name": name,
        "usage": entry.usage,
        "family": entry.family,
        "purpose": entry.purpose,
        "source": entry.source,
        "parameters": parameters,
        "members": list(entry.members),
    }


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


# ---------------------------------------------------------------- show

SHOW_HELP = """\
Show a kernel: its numbers, a drawing, its sum, symmetry and separable parts, its response to a single bright pixel
and to a ramp, and its source.

KERNEL is anything that -k takes: a name, a name with numbers, rows in quotes, JSON, a file, or a learned filter
(MODEL#LAYER[FILTER], which is shown as the sum over the channels that it takes). In the drawing, red (or +) is
positive and blue (or -) is negative.

\b
Examples:
  cnnfilter kernels show sobel-h
  cnnfilter kernels show gaussian:1.4
  cnnfilter kernels show '-1 0 1; -2 0 2; -1 0 1'
  cnnfilter kernels show kirsch --png kirsch.png
  cnnfilter kernels show log:2 --json
  cnnfilter kernels show 'efficientnet-lite0#1[5,0]'
"""


class _NumbersAreArguments(click.Command):
    """A command that takes an argument such as ``-1 0 1`` for numbers, not for an option; several need quotes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        unquoted = bare_numbers(args)
        if len(unquoted) > 1:
            ctx.fail(f"A kernel typed as numbers is quoted: cnnfilter kernels show '{' '.join(unquoted)}'.")
        numbers = [arg for arg in args if re.match(r"-[\d.]", arg)]
        if numbers and "--" not in args:
            args = [arg for arg in args if arg not in numbers] + ["--", *numbers]
        return super().parse_args(ctx, args)


@command.command("show", cls=_NumbersAreArguments, help=SHOW_HELP, short_help="Show what a kernel is and does.")
@click.argument("kernel", type=KernelText())
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every digit.")
@click.option(
    "--png", type=click.Path(dir_okay=False), metavar="FILE", help="Draw the kernel into a picture, too; - is stdout."
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def show(kernel: str, as_json: bool, png: str | None, force: bool) -> None:
    with errors_about("'KERNEL'"):
        check(kernel)  # before numpy is imported
    from cnnfilter.cli.reports.kernel import kernel_lines, kernel_record
    from cnnfilter.kernels.lookup import find_kernels

    with errors_about("'KERNEL'"):
        found = find_kernels(kernel)
    if png:
        _write_png(found, png, force)
    if as_json:
        records = [kernel_record(one) for one in found]
        _print_json({"name": found.name, "combine": found.combine if len(found) > 1 else None, "kernels": records})
        return
    if png == "-":
        return
    if len(found) > 1:
        click.echo(f"{found.name}: {len(found)} kernels, whose results are combined by {found.combine}\n")
    for n, one in enumerate(found):
        click.echo(("\n" if n else "") + "\n".join(kernel_lines(one)))


def _write_png(found: KernelSet, path: str, force: bool) -> None:
    from cnnfilter.cli.reports.kernel_drawing import draw_picture
    from cnnfilter.images.files import write_image
    from cnnfilter.images.formats.detect import format_of_suffix

    if path == "-":
        write_image(sys.stdout.buffer, draw_picture(found), format="png")
        return
    with errors_about("'--png'"):
        format_of_suffix(path)
    with _errors_name_file(path):
        write_image(path, draw_picture(found), force=force)


@contextlib.contextmanager
def _errors_name_file(path: str) -> Iterator[None]:
    """Put the name of a file before the message of an error."""
    try:
        yield
    except (OSError, CnnfilterError) as error:
        raise click.ClickException(f"{path}: {reason(error)}") from error


# ---------------------------------------------------------------- fit

FIT_HELP = """\
Find the kernel that turns one picture into another, by least squares.

AFTER is the result of an unknown filter on BEFORE. The kernel of the given size that explains AFTER best is
printed, ready for -k, and the quality of the fit on stderr. All channels are used. The border is left out, and so
are samples at the ends of an 8-bit or 16-bit range, where the filter may have clipped. If whole numbers over a
divisor explain AFTER as well, they are printed, else as many digits as the pictures determine; --exact prints
every digit that was computed.

Only a linear filter can be found. Absolute values, as in an edge picture saved as PNG, are not linear.

\b
Examples:
  cnnfilter kernels fit photo.jpg filtered.png --size 3x3
  cnnfilter kernels fit photo.jpg filtered.png --size 5x5 --bias -o kernel.mat
  cnnfilter convolve other.jpg -k "$(cnnfilter kernels fit photo.jpg filtered.png -s 3)" -o same.png
"""


@command.command("fit", help=FIT_HELP, short_help="Find the kernel between two pictures.")
@click.argument("before", type=click.Path())
@click.argument("after", type=click.Path())
@click.option(
    "-s",
    "--size",
    type=KernelSize(),
    metavar="HxW",
    default="3x3",
    show_default=True,
    help="Height and width of the kernel.",
)
@click.option("--bias", is_flag=True, help="Fit a constant that is added, too (--signed offset adds 128).")
@click.option("--exact", is_flag=True, help="Print every digit as computed.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the kernel to a file: .txt .csv .json .npy or .mat. Only .json and .mat keep a bias.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the kernel and the residual as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing on stderr.")
def fit(
    before: str,
    after: str,
    size: tuple[int, int],
    bias: bool,
    exact: bool,
    output: str | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    from cnnfilter.cli.reports.kernel import kernel_record
    from cnnfilter.cli.reports.kernel_fit import fit_lines, kernel_option_text, residual_record
    from cnnfilter.kernels.fitting import fit_kernel, known_name, rounded, simplify

    pictures = _read_pair(before, after)
    kernel, residual = fit_kernel(pictures[0].colour, pictures[1].colour, size, bias=bias)
    name = known_name(kernel, residual.error)
    if not exact:
        kernel = simplify(kernel, residual.error) or rounded(kernel, residual.error)
    if output:
        _write_kernel(kernel, output, force)
    if as_json:
        _print_json({**kernel_record(kernel), "known_as": name, "residual": residual_record(residual)})
    elif not output:
        click.echo(kernel_option_text(kernel, exact))
    if not quiet and not as_json:
        click.echo("\n".join(fit_lines(kernel, residual, name, pictures)), err=True)


def _read_pair(before: str, after: str) -> tuple[Image, Image]:
    from cnnfilter.errors import ImageError
    from cnnfilter.images.files import read_image
    from cnnfilter.jobs.source_target import STDIN, Source

    if before == after == "-":
        raise click.UsageError("'-' (stdin) can be read only once: name a file for BEFORE or AFTER.")
    images = []
    for path in (before, after):
        with _errors_name_file(path):
            source = Source(path)
            if path == STDIN and source.is_followed():
                raise ImageError("another picture follows the first: send one by itself")
            images.append(read_image(source.path_or_data() if path == STDIN else path))
    return images[0], images[1]


def _write_kernel(kernel: Kernel, path: str, force: bool) -> None:
    from cnnfilter.kernels.files import encode_kernel
    from cnnfilter.runtime.atomic_files import replace_file

    with errors_about("'-o' / '--output'"):
        data = encode_kernel(kernel.weights, os.path.splitext(path)[1], offset=kernel.offset)
    with _errors_name_file(path), replace_file(path, force=force) as stream:
        stream.write(data)
