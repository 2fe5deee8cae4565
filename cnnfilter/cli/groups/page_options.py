"""The option that chooses pages of TIFF files, and the sources of results that have a file for each page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from cnnfilter.cli.options import Type
from cnnfilter.cli.output_files import Naming
from cnnfilter.errors import ImageError
from cnnfilter.images.pages import choose_pages, count_pages, parse_pages
from cnnfilter.jobs.source_target import PageSource, Source


class PageList(Type):
    """A list of pages, such as ``1,3-5`` or ``2-``."""

    name = "LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            parse_pages(str(value))
        except ImageError as error:
            self.fail(f"{error}.", param, ctx)
        return value


class PageOptions:
    """The options of the pages that a command reads."""

    OPTIONS: tuple[Callable[..., Any], ...] = (
        click.option(
            "--pages",
            type=PageList(),
            metavar="LIST",
            help="Read only these pages of TIFF files, counted from 1, such as 1,3-5 or 2-.  [default: all]",
        ),
    )

    def __init__(self, *, pages: str | None = None) -> None:
        self.pages = pages

    def separate(self, sources: Sequence[Source], naming: Naming) -> list[Source]:
        """Return the sources with their choice of pages; where names hold ``{page}``, one for each page."""
        if "page" not in naming.fields:
            for source in sources:
                source.pages = self.pages
            return [*sources]
        return [page for number, source in enumerate(sources, 1) for page in self._pages_of(source, number)]

    def _pages_of(self, source: Source, number: int) -> list[Source]:
        source.pages, source.number_of_input = self.pages, number
        try:
            with source.open_pages() as file:
                count, fault = count_pages(file)
                chosen = choose_pages(self.pages, count + bool(fault))  # the job of the damaged page reports it
                data = None if source.is_file else file.read()
        except (ImageError, OSError):  # reported when the source is read
            return [source]
        return [PageSource(source, page, data) for page in chosen]
