"""``cnnfilter pool``: shrink pictures to the largest, smallest or mean value of each window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli import options
from cnnfilter.cli.read_write import Pictures, pictures

if TYPE_CHECKING:
    from cnnfilter.images.image import Image
    from cnnfilter.jobs.job import Job

HELP = """\
Shrink pictures by pooling: the largest, smallest or mean value of each window.

Sizes and special cases are those of PyTorch. 8-bit and 16-bit pictures keep their depth; means are rounded half
up. With -f npy the means are written as they are, as float32.

INPUT is a file, - for stdin, or with -r a folder.

\b
Examples:
  cnnfilter pool photo.jpg
  cnnfilter pool photo.jpg --op avg --size 4 -o small.png
  cnnfilter pool photo.jpg --size 3 --stride 2 --padding 1 --ceil-mode -o half.png
  cnnfilter pool a.png b.png --op min --size 1,8 -o pooled/
  cnnfilter pool photo.jpg --op avg --global -f npy > mean.npy
  cnnfilter pool matrix.txt -f txt
  cat photo.jpg | cnnfilter convolve -k sharpen | cnnfilter pool --size 2 --stride 2 > small.png
"""


_WINDOW_PARAMETERS = ("size", "stride", "padding", "dilation", "ceil_mode", "count_include_pad")
"""The parameters that have no meaning with ``--global``."""


@click.command("pool", help=HELP, short_help="Shrink pictures to the largest, smallest or mean value of each window.")
@click.option(
    "--op",
    type=click.Choice(["max", "avg", "min"]),
    default="max",
    show_default=True,
    help="The value of each window: its maximum, mean or minimum.",
)
@click.option("--size", type=options.Pair(1), default=2, show_default=True, help="Size of the window.")
@click.option("--stride", type=options.Pair(1), help="Distance between windows.  [default: the size]")
@click.option(
    "--padding",
    type=options.Pair(0),
    default=0,
    show_default=True,
    help="Rows and columns to add on each side, at most half the window: max and min ignore them, for avg they are 0.",
)
@click.option(
    "--dilation",
    type=options.Pair(1),
    default=1,
    show_default=True,
    help="Distance between a window's samples.",
)
@click.option("--ceil-mode", is_flag=True, help="Keep windows that reach beyond the last row or column.")
@click.option(
    "--count-include-pad/--no-count-include-pad",
    default=True,
    show_default=True,
    help="Whether avg counts the padding as samples.",
)
@click.option("--global", "one_window", is_flag=True, help="Use one window, the whole picture.")
@options.alpha
@pictures
def command(pictures: Pictures, op: str, one_window: bool, **how: Any) -> None:
    if one_window and (option := options.first_given(_WINDOW_PARAMETERS)):
        raise click.UsageError(f"--global is one window over the whole picture: leave out {option}.")

    def pool(job: Job) -> None:
        from cnnfilter.filters.pooling.images import pool_image

        def pool_page(image: Image) -> Image:
            own: dict[str, Any] = {"size": image.pixels.shape[:2]} if one_window else {}
            if op == "avg" and image.pixels.dtype.kind == "u":
                own["dtype"] = job.dtype_for(image, signed=True)
            return pool_image(image, op, threads=job.threads, allocate=job.allocate_for(image), **{**how, **own})

        job.write(job.read().map_pages(pool_page))

    pictures.run(pool, tag=f"{op}pool")
