"""The options of how results are compressed, and their check against the formats of the results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli.input_files import format_of
from cnnfilter.errors import ImageError
from cnnfilter.images.coding.settings import COMPRESSIONS, DEFAULT, SUBSAMPLINGS, Settings

if TYPE_CHECKING:
    from cnnfilter.jobs.source_target import Source, Target


class CodingOptions:
    """The options of how the pictures that a command writes are compressed."""

    OPTIONS: tuple[Callable[..., Any], ...] = (
        click.option(
            "--quality",
            type=click.IntRange(1, 100),
            metavar="N",
            help="Quality of JPEG, WebP and AVIF, from 1 to 100. Without it, JPEG keeps the quantization tables of its "
            "input, and lossless WebP and AVIF stay lossless; else it is 95 for JPEG, and 90 for WebP and AVIF.",
        ),
        click.option("--lossless", is_flag=True, help="Write WebP and AVIF without loss."),
        click.option(
            "--subsampling",
            type=click.Choice(SUBSAMPLINGS),
            help="Chroma subsampling of JPEG and AVIF.  [default: that of the input, else 444 for JPEG, 420 for AVIF]",
        ),
        click.option(
            "--progressive/--no-progressive",
            default=None,
            help="Write progressive JPEG, or baseline JPEG.  [default: as the input]",
        ),
        click.option(
            "--compression",
            metavar="NAME|LEVEL",
            default=DEFAULT,
            help=f"Compression of TIFF ({', '.join(COMPRESSIONS['tiff'])}) and PNG ({', '.join(COMPRESSIONS['png'])}), "
            "or a level of deflate from 0 to 9.  [default: for TIFF that of the input, else none; for PNG level 1]",
        ),
    )

    def __init__(
        self,
        *,
        quality: int | None = None,
        lossless: bool = False,
        subsampling: str | None = None,
        progressive: bool | None = None,
        compression: str = DEFAULT,
    ) -> None:
        self.settings = Settings(quality, lossless, subsampling, progressive, compression)
        try:
            self.settings.check_values()
        except ImageError as error:
            raise click.UsageError(f"{error}.") from error

    @property
    def given(self) -> str | None:
        """The first of these options that was given; None if none was."""
        return self._option(self.settings.given[0]) if self.settings.given else None

    def _option(self, name: str) -> str:
        return "--no-progressive" if name == "progressive" and not self.settings.progressive else f"--{name}"

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of `write_image` that were given."""
        return {name: getattr(self.settings, name) for name in self.settings.given}

    def check_format(self, format: str | None) -> None:
        """Raise a usage error if a format does not have one of the settings that were given."""
        if format is not None:
            self._check(format, "")

    def check(self, sources: Sequence[Source], targets: Iterable[Target]) -> None:
        """Raise a usage error if the format of a result does not have one of the settings that were given.

        Inputs whose format is unknown are passed over: reading them reports why, and does not stop the others.
        """
        if not self.settings.given:
            return
        checked = set[str]()
        for source, target in zip(sources, targets, strict=False):
            if target.format not in (None, *checked) and format_of(source) is not None:
                self._check(str(target.format), f" (the format of {target.name})")
                checked.add(str(target.format))

    def _check(self, format: str, where: str) -> None:
        try:
            self.settings.check(format)
        except ImageError as error:
            option = self._option(self.settings.unknown_to(format) or "compression")
            raise click.UsageError(f"{option}: {error}{where}.") from error
