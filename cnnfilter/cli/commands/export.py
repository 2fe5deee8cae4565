"""``cnnfilter export``: write a model as an ONNX file."""

from __future__ import annotations

import os

import click

from cnnfilter.cli import options, output_files
from cnnfilter.cli.completion import complete_model
from cnnfilter.cli.messages import say

HELP = """\
Write a model as an ONNX file, for onnxruntime and the many programs that read it.

The input of the graph is "pictures" (N, H, W, C), float32, prepared as `describe MODEL` says. Its outputs are
"logits" and "probabilities" (N, classes), as cnnfilter computes them. The metadata of the file hold the classes and
the preparation. The command needs the package onnx, which the extra 'onnx' installs.

\b
Examples:
  cnnfilter export pets.safetensors -o pets.onnx
  cnnfilter export efficientnet-lite0 -o lite0.onnx
"""


@click.command("export", help=HELP, short_help="Write a model as an ONNX file.")
@click.argument("model", shell_complete=complete_model)
@click.option("-o", "--output", type=click.Path(), metavar="FILE", required=True, help="The ONNX file, .onnx.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
def command(model: str, output: str, force: bool, quiet: bool) -> None:
    if not output.endswith(".onnx"):
        raise output_files.bad_output(f"{output!r} does not end in .onnx.")
    output_files.refuse_existing(output, force)
    output_files.refuse_missing_folder(output)
    network = options.load_network(model)
    options.refuse_without_package("onnx", "export needs the package onnx", extra="onnx")

    from cnnfilter.networks.onnx import export_onnx
    from cnnfilter.runtime.atomic_files import replace_file

    data = export_onnx(network)
    with replace_file(output, force=force) as file:
        file.write(data)
    if not quiet:
        say(output, f"{os.path.getsize(output):,} bytes")
