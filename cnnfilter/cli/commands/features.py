"""``cnnfilter features``: write the feature vectors or maps that a network computes of pictures."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli import options
from cnnfilter.cli.messages import EXIT_FAILED
from cnnfilter.cli.output_files import bad_output, refuse_existing, refuse_missing_folder
from cnnfilter.cli.read_only import MODEL_HINT, Inputs, inputs, model
from cnnfilter.cli.reports.tables import csv_line

if TYPE_CHECKING:
    import numpy as np

    from cnnfilter.jobs.job import Job
    from cnnfilter.networks.network import Network

HELP = """\
Write the features that a network computes of pictures: one vector for each (1280 numbers with the network that
comes with cnnfilter), or with --layer the maps after any layer. Pictures that look alike have similar vectors.

OUT is an .npy file (an array with one row for each picture; photos.npy gets its paths in photos.paths.txt), .npz (the
arrays "features" and "paths") or .csv (one line for each picture, its path first). With - the result goes to stdout,
in the format that --format names. Pictures that cannot be read are reported and left out.

\b
Examples:
  cnnfilter features -r photos -o photos.npy
  cnnfilter features a.jpg b.jpg -o vectors.csv
  cnnfilter features photo.jpg --layer 3 -o maps.npy
  cat photo.jpg | cnnfilter features -o - --format csv
"""

FORMATS = ("npy", "npz", "csv")
"""The formats of the file of features, by its suffix."""

_CONTINUATION = "nothing is written, and the same command begins again"
"""The advice on going on after an interruption."""


@click.command("features", help=HELP, short_help="Write feature vectors of pictures, or maps.")
@model
@click.option("-o", "--output", type=click.Path(), metavar="OUT", required=True, help="A file, or - for stdout.")
@click.option(
    "-f", "--format", type=click.Choice(FORMATS), help="Format of OUT.  [default: by its suffix; npy on stdout]"
)
@click.option(
    "--layer",
    type=options.Count(),
    metavar="N",
    help="Write the maps after layer N, as `describe` numbers them.  [default: the vector before the last dense layer]",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@options.scale
@inputs
def command(
    inputs: Inputs,
    model: str,
    output: str,
    format: str | None,
    layer: int | None,
    force: bool,
    scale: tuple[float, float] | None,
) -> None:
    format = format or _format_of(output)
    files = [] if output == "-" else [output, *([paths_file(output)] if format == "npy" else [])]
    for path in files:
        refuse_existing(path, force)
        refuse_missing_folder(path)
    sources = inputs.sources()
    if len(files) > 1:
        _refuse_line_breaks([source.path for source in sources], files[1])
    network = options.load_network(model, MODEL_HINT, scale)
    with options.errors_about("'--layer'"):
        layer_count = _layer_count(network, layer)
    paths: list[str] = []
    rows: list[np.ndarray] = []

    def compute(job: Job) -> Any:
        return network.forward(
            network.prepare(job.read_first_frame("is used")), until=layer_count, threads=job.threads
        )[0]

    def collect(job: Job) -> None:
        paths.append(job.source.listed_path)
        rows.append(job.result.reshape(-1) if layer is None else job.result)

    all_read = inputs.run(sources, compute, collect, results_on_stdout=output == "-", continuation=_CONTINUATION)
    if rows:
        _write(output, format, paths, rows, force)
    if not all_read:
        raise click.exceptions.Exit(EXIT_FAILED)


def _format_of(output: str) -> str:
    if output == "-":
        return "npy"
    suffix = os.path.splitext(output)[1].lower().removeprefix(".")
    if suffix not in FORMATS:
        raise bad_output(f"{output!r} does not end in .npy, .npz or .csv; or name the format with --format.")
    return suffix


def paths_file(output: str) -> str:
    """Return the name of the file of paths beside an .npy file.

    >>> paths_file("out/photos.npy")
    'out/photos.paths.txt'
    """
    return os.path.splitext(output)[0] + ".paths.txt"


def _refuse_line_breaks(paths: list[str], listing: str) -> None:
    """Refuse paths that would be more than one line of the file of paths."""
    broken = [path for path in paths if "\n" in path or "\r" in path]
    if broken:
        raise click.ClickException(
            f"{broken[0]}: a name with a line break has no place in {listing}, which has a line for each picture; "
            ".npz and .csv take it"
        )


def _layer_count(network: Network, layer: int | None) -> int:
    from cnnfilter.errors import ModelError, count_text

    if layer is None:
        return network.head
    if layer > len(network.layers):
        raise ModelError(f"{network.name} has {count_text(len(network.layers), 'layer')}, not {layer}")
    return layer


def _write(output: str, format: str, paths: list[str], rows: list[np.ndarray], force: bool) -> None:
    from cnnfilter.runtime.atomic_files import replace_file, write_all

    parts = _encoded(format, paths, rows)
    if output == "-":
        write_all(sys.stdout.buffer, parts[0])
        return
    with replace_file(output, force=force) as file:
        file.write(parts[0])
    if format == "npy":
        with replace_file(paths_file(output), force=force) as file:
            file.write(parts[1])


def _encoded(format: str, paths: list[str], rows: list[np.ndarray]) -> tuple[bytes, bytes]:
    """Return the content of the file, and that of the file of paths, one path a line."""
    import numpy as np

    data = io.BytesIO()
    if format == "csv":
        for path, row in zip(paths, rows, strict=True):
            data.write(os.fsencode(csv_line([path, *(f"{number:.7g}" for number in row.ravel())]) + "\n"))
    elif format == "npz":
        np.savez(data, features=np.stack(rows), paths=np.array(paths))
    else:
        np.save(data, np.stack(rows))
    return data.getvalue(), os.fsencode("".join(f"{path}\n" for path in paths))
