"""The settings of a file's compression that can be asked for: quality, lossless, subsampling, progressive, compression.

This module does not import numpy, so that the command line can refuse a setting without that delay.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnnfilter.errors import ImageError

FORMATS_OF_SETTING = {
    "quality": ("jpg", "webp", "avif"),
    "lossless": ("webp", "avif"),
    "subsampling": ("jpg", "avif"),
    "progressive": ("jpg",),
    "compression": ("png", "tiff"),
}
"""The formats that have each setting."""

SUBSAMPLINGS = ("444", "422", "420")
"""Chroma subsampling: 444 has chroma for every pixel, 422 for each pair in a row, 420 for each square of four."""

COMPRESSIONS = {"png": ("none", "deflate"), "tiff": ("none", "packbits", "lzw", "deflate", "zstd", "lzma")}
"""The names of compressions of each format; a level from 0 to 9 is one of Deflate."""

DEFAULT, FAST = "default", "fast"
"""Values of ``compression``: what the input and the format suggest, and PNG's rows without filter and compression."""

_LEVELS = tuple("0123456789")


@dataclass(frozen=True)
class Settings:
    """The settings that were asked for; None, False and `DEFAULT` leave a setting to the input and the format.

    Parameters
    ----------
    quality : int, optional
        1 to 100.
    lossless : bool
        Whether the file has to hold the very pixels.
    subsampling : str, optional
        One of `SUBSAMPLINGS`.
    progressive : bool, optional
        Whether a JPEG file is progressive.
    compression : str
        `DEFAULT`, `FAST`, a name of `COMPRESSIONS`, or a level of Deflate from 0 (none) to 9.
    """

    quality: int | None = None
    lossless: bool = False
    subsampling: str | None = None
    progressive: bool | None = None
    compression: str = DEFAULT

    @property
    def given(self) -> list[str]:
        """The names of the settings that were given."""
        unset = {"quality": None, "lossless": False, "subsampling": None, "progressive": None}
        given = [name for name, value in unset.items() if getattr(self, name) is not value]
        return given if self.compression in (DEFAULT, FAST) else [*given, "compression"]

    def deflate_level(self, default: int) -> int:
        """Return the level of Deflate, 0 for no compression; `default` if none was given.

        >>> [Settings(compression=given).deflate_level(1) for given in ("default", "none", "9")]
        [1, 0, 9]
        """
        if self.compression in ("none", FAST):
            return 0
        return int(self.compression) if self.compression in _LEVELS else default

    def unknown_to(self, format: str) -> str | None:
        """Return the first setting that was given and that a format does not have; None if it has all."""
        return next((name for name in self.given if format not in FORMATS_OF_SETTING[name]), None)

    def check(self, format: str) -> None:
        """Check that a format has the settings that were given.

        Raises
        ------
        ImageError
            The format does not have one of them, or they contradict each other.

        Examples
        --------
        >>> Settings(quality=80).check("png")
        Traceback (most recent call last):
        cnnfilter.errors.ImageError: png has no quality; jpg, webp and avif have it
        """
        self.check_values()
        if name := self.unknown_to(format):
            raise ImageError(f"{format} has no {_NOUNS[name]}; {_joined(FORMATS_OF_SETTING[name])} it")
        if self.compression not in (DEFAULT, FAST, *_LEVELS, *COMPRESSIONS.get(format, ())):
            raise ImageError(
                f"{format} has no compression {self.compression!r}; it has {' '.join(COMPRESSIONS[format])}, "
                "and the levels 0 to 9 of deflate"
            )

    def check_values(self) -> None:
        """Check the values, whatever the format is.

        Raises
        ------
        ImageError
            A value is unknown, or two values contradict each other.
        """
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ImageError(f"a quality of {self.quality} is not between 1 and 100")
        if self.subsampling not in (None, *SUBSAMPLINGS):
            raise ImageError(f"subsampling {self.subsampling!r} is none of {' '.join(SUBSAMPLINGS)}")
        if self.lossless and self.quality is not None:
            raise ImageError("lossless and quality contradict each other: a file without loss has no quality")
        if self.lossless and self.subsampling not in (None, "444"):
            raise ImageError(
                f"lossless and subsampling {self.subsampling} contradict each other: lossless goes with 444"
            )
        names = sorted({name for names in COMPRESSIONS.values() for name in names})
        if self.compression not in (DEFAULT, FAST, *_LEVELS, *names):
            raise ImageError(f"compression {self.compression!r} is none of {' '.join(names)} or a level from 0 to 9")


NO_SETTINGS = Settings()
"""Nothing was asked for."""

_NOUNS = {
    "quality": "quality",
    "lossless": "lossless mode to choose",
    "subsampling": "chroma subsampling",
    "progressive": "progressive mode",
    "compression": "compression to choose",
}


def _joined(formats: tuple[str, ...]) -> str:
    return f"{', '.join(formats[:-1])} and {formats[-1]} have" if len(formats) > 1 else f"{formats[0]} has"
