"""``cnnfilter convolve``: filter pictures with one or more kernels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli import options
from cnnfilter.cli.clipping import rule_of_kernels
from cnnfilter.cli.read_write import Pictures, pictures
from cnnfilter.images.formats.detect import FLOAT_FORMATS
from cnnfilter.kernels.text import bare_numbers

if TYPE_CHECKING:
    from cnnfilter.images.image import Image
    from cnnfilter.jobs.job import Job
    from cnnfilter.kernels.kernel import KernelSet

HELP = """\
Filter pictures with a kernel: sharpen, blur, find edges, or numbers of your own.

The kernel is applied as drawn, as in PyTorch, ONNX and OpenCV (cross-correlation). With --flip it is turned by
180 degrees first: that is the convolution of mathematics.

KERNEL is a name (sobel-h), a name with numbers (gaussian:1.4), rows in quotes ('0 -1 0; -1 5 -1; 0 -1 0', fractions
such as 1/9 too), JSON, or a file (@kernel.txt; .csv .json .npy .mat). "cnnfilter kernels" lists the names. '3x3:
0,-1,0,-1,5,-1,0,-1,0' and '[0 -1 0; -1 5 -1; 0 -1 0]' are rows, too. A single row of 9, 25, ... numbers needs a
semicolon at its end, because it could be a square as well. MODEL#LAYER[FILTER] is a learned filter, summed over the
channels that it takes; every channel of the picture is filtered with the sum. MODEL#1[5,0] takes its weights of
channel 0 alone.

The results of several -k are combined into one picture; sobel, scharr, prewitt and roberts stand for two
kernels each, one for each direction.

INPUT is a file, - for stdin, or with -r a folder. A file that exists is not replaced unless --force is given.

\b
Examples:
  cnnfilter convolve photo.jpg -k sharpen
  cnnfilter convolve photo.jpg -k sobel -o edges.png
  cnnfilter convolve photo.jpg -k '0 -1 0; -1 5 -1; 0 -1 0' -o sharp.jpg
  cnnfilter convolve a.png b.png -k gaussian:2 -o blurred/
  cnnfilter convolve -r photos -k unsharp:2,0.8 -o 'out/{dir}/{stem}.jpg'
  cnnfilter convolve photo.jpg -k sobel-h --signed offset --stride 2 -o relief.png
  cnnfilter convolve photo.jpg -k laplacian -f npy > signed.npy
  cat photo.jpg | cnnfilter convolve -k high-pass > high.png
  cat *.jpg | cnnfilter convolve -k high-pass -o 'high/{index}.png'
  find photos -name '*.jpg' -print0 | cnnfilter convolve --files-from - -0 -k sharpen -o 'out/{dir}/{name}' --if-newer
"""


class _Convolve(click.Command):
    """A command that refuses a kernel of several numbers without quotes, whose second number would be an input."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for index, arg in enumerate(args):
            numbers = bare_numbers(args[index + 1 :]) if arg in ("-k", "--kernel") else []
            if len(numbers) > 1:
                ctx.fail(f"A kernel typed as numbers is quoted: -k '{' '.join(numbers)}'.")
        return super().parse_args(ctx, args)


@click.command("convolve", cls=_Convolve, help=HELP, short_help="Filter pictures with one or more kernels.")
@click.option(
    "-k",
    "--kernel",
    "kernels",
    type=options.KernelText(),
    multiple=True,
    callback=options.at_least_one_kernel,
    help="A name, NAME:numbers, rows as text, JSON, a file or a learned filter; may be repeated. MODEL#LAYER[FILTER] "
    "sums a filter over the channels it takes, MODEL#LAYER[FILTER,CHANNEL] takes one of them.  [required]",
)
@click.option("--flip", is_flag=True, help="Turn the kernel by 180 degrees.")
@click.option(
    "--stride", type=options.Pair(1), default=1, show_default=True, help="Keep every N-th row and column of the result."
)
@click.option(
    "--padding",
    type=options.Padding(),
    metavar="same|valid|N|H,W|T,R,B,L",
    default="same",
    show_default=True,
    help="Rows and columns to add around the picture: same keeps its size (divided by the stride), valid adds none.",
)
@click.option(
    "--border",
    type=options.Border(),
    metavar="NAME",
    default="replicate",
    show_default=True,
    help="Values of the padding: replicate, reflect (the edge is not repeated), symmetric (it is repeated), wrap, zero "
    "or constant:V.",
)
@click.option(
    "--dilation",
    type=options.Pair(1),
    default=1,
    show_default=True,
    help="Distance between the samples that neighbouring weights multiply; 1 leaves none out.",
)
@click.option(
    "--bias",
    type=options.Number(),
    default=0.0,
    show_default=True,
    help="A number to add to the result, in the file's units.",
)
@click.option("--normalize", is_flag=True, help="Divide the kernel by its sum.")
@options.signed
@click.option(
    "--combine",
    type=click.Choice(["magnitude", "max", "mean", "sum", "stack"]),
    help="How to combine the results of several kernels; stack keeps each.  [default: magnitude, or what the kernel's "
    "name means]",
)
@click.option(
    "--algorithm",
    type=click.Choice(["auto", "direct", "separable", "fft"]),
    default="auto",
    show_default=True,
    help="How the result is computed; -v prints which algorithm was used and why.",
)
@options.alpha
@pictures
def command(pictures: Pictures, kernels: tuple[str, ...], flip: bool, normalize: bool, **how: Any) -> None:
    chosen = options.find_kernels(kernels, flip=flip, normalize=normalize)
    names = [kernel.name for named in chosen for kernel in named]
    stacked = how["combine"] == "stack" and len(names) > 1
    clipping = rule_of_kernels(chosen, how["combine"], how["bias"], how["signed"])

    def convolve(job: Job) -> None:
        from cnnfilter.filters.images import filter_image

        source = job.read()
        rule = clipping.of(source)
        sheet = stacked and job.format not in FLOAT_FORMATS
        dtype = "float32" if sheet else job.dtype_for(source, signed=how["signed"] == "auto")
        allocate = job.allocate_for(source)
        image, clipped, algorithms_used = filter_image(
            source,
            chosen,
            dtype=dtype,
            threads=job.threads,
            max_pixels=job.max_pixels,
            allocate=allocate,
            **how,
        )
        job.note(lambda: "; ".join(algorithms_used))
        job.write(_spread_maps(image, names, job, source) if stacked else image)
        job.warn_clipped(clipped, rule.advice, rule.min_share)

    pictures.run(convolve, tag=_kernel_tag(chosen))


def _kernel_tag(chosen: list[KernelSet]) -> str:
    """Return the part of a file name that names the kernels: sobel-h, or sharpen-sobel for two ``-k``."""
    names = [named[0].tag if len(named) == 1 else re.sub(r"[^A-Za-z0-9.]+", "-", named.name) for named in chosen]
    return "-".join(names)[:100]


def _spread_maps(image: Image, names: list[str], job: Job, like: Image) -> Image:
    from cnnfilter.filters.maps import spread_maps

    return spread_maps(image, names, job.format or "png", like)
