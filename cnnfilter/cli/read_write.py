"""The options of commands that read pictures and write pictures: inputs, outputs and the options of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli.groups.coding_options import CodingOptions
from cnnfilter.cli.groups.page_options import PageOptions
from cnnfilter.cli.input_files import Selection
from cnnfilter.cli.messages import EXIT_FAILED
from cnnfilter.cli.options import Format
from cnnfilter.cli.output_files import Naming, bad_output, plan_targets
from cnnfilter.cli.run_options import RunOptions, option_groups
from cnnfilter.images.formats.detect import TEXT_FORMATS

if TYPE_CHECKING:
    from cnnfilter.jobs.job import Job


_CONTINUATIONS = {
    "refuse": "the same command with --skip-existing goes on",
    "skip-existing": "the same command goes on",
    "if-newer": "the same command goes on",
    "force": "the same command begins again",
}
"""The advice on going on after an interruption, for each rule about files that exist."""


class WriteOptions:
    """The options of the pictures that a command writes."""

    OPTIONS: tuple[Callable[..., Any], ...] = (
        click.option(
            "-o",
            "--output",
            type=click.Path(readable=False),
            metavar="OUT",
            help="A file, a folder (out/), a template with {stem} {name} {ext} {dir} {index} {page}, or - for "
            "stdout; {page} writes a file for each page of a TIFF file. "
            "Without it: stdout if that is not a terminal and there is one input (txt and csv on a terminal too), "
            "else a file named after the input in the current folder. Several pictures on stdin leave one after "
            "another, or each by its {index}.",
        ),
        click.option(
            "-f",
            "--format",
            type=Format(),
            help="Format of the result. Without it: the format of OUT's suffix, else that of the input; for stdout png "
            "(npy if the input is npy).",
        ),
        click.option("--force", is_flag=True, help="Replace files that exist, even the input."),
        click.option("--skip-existing", is_flag=True, help="Leave out inputs whose result exists."),
        click.option(
            "--if-newer", is_flag=True, help="Leave out inputs whose result is newer, and replace older results."
        ),
        click.option(
            "--strip",
            is_flag=True,
            help="Leave out all metadata: colour profile, EXIF, IPTC, XMP, GeoTIFF tags, resolution and texts.",
        ),
    )

    def __init__(
        self,
        *,
        output: str | None = None,
        format: str | None = None,
        force: bool = False,
        skip_existing: bool = False,
        if_newer: bool = False,
        strip: bool = False,
    ) -> None:
        rules = {"--force": force, "--skip-existing": skip_existing, "--if-newer": if_newer}
        given = [name for name, is_given in rules.items() if is_given]
        if len(given) > 1:
            raise click.UsageError(f"{' and '.join(given)} say different things about files that exist: give one.")
        self.existing = given[0].lstrip("-") if given else "refuse"
        self.output = output
        self.format = format
        self.strip = strip
        self.known_format = format
        if output is not None:  # refuses an impossible name before numpy is imported
            self.known_format = Naming(output, format, tag="", to_stdout=False).known_format


class Pictures:
    """The inputs and outputs of a command and the options of its run."""

    def __init__(
        self,
        selection: Selection,
        write_options: WriteOptions,
        pages: PageOptions,
        coding: CodingOptions,
        run_options: RunOptions,
    ) -> None:
        coding.check_format(write_options.known_format)  # before numpy is imported
        self.selection = selection
        self.write_options = write_options
        self.pages = pages
        self.coding = coding
        self.run_options = run_options

    def run(self, work: Callable[[Job], Any], *, tag: str, lossless: bool = False) -> None:
        """Process every picture; exit with code 1 if one failed.

        Parameters
        ----------
        work : callable
            Takes a `Job`, reads its picture, calls the library and writes the result.
        tag : str
            Name of the operation, which becomes part of the default file names.
        lossless : bool
            Whether results have the format of their inputs only if that is lossless.
        """
        write_options = self.write_options
        sources = self.selection.sources(leave_out=write_options.output)
        is_shown = write_options.format in TEXT_FORMATS
        to_stdout = self.selection.is_one and (is_shown or not sys.stdout.isatty())
        naming = Naming(write_options.output, write_options.format, tag, to_stdout=to_stdout, lossless=lossless)
        if naming.to_stdout and not is_shown and sys.stdout.isatty() and not self.run_options.dry_run:
            raise bad_output("stdout is a terminal, which shows no pictures: redirect it, or name a file.")
        sources = self.pages.separate(sources, naming)
        targets = plan_targets(sources, naming, existing=write_options.existing)
        self.coding.check(sources, targets)
        done = self.run_options.each(
            self.run_options.jobs_for(sources, targets, strip=write_options.strip, settings=self.coding.parameters),
            work,
            results_on_stdout=naming.to_stdout,
            paths=naming.has_default_name,
            end=self.selection.end,
            continuation=None if naming.to_stdout else _CONTINUATIONS[write_options.existing],
            left_out=self.selection.left_out,
        )
        if not done:
            raise click.exceptions.Exit(EXIT_FAILED)


pictures = option_groups(Pictures, Selection, WriteOptions, PageOptions, CodingOptions, RunOptions)
"""The decorator that gives a command INPUT and the options of reading and writing, as one argument ``pictures``."""
