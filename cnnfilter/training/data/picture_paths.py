"""Find the files that the cells of a table of labels name, however their paths are written."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator

_PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".pam", ".tga", ".npy"),
)
"""Suffixes of the formats that `cnnfilter.images` reads."""


class PictureFiles:
    """Finds the files that the cells of a table name.

    Parameters
    ----------
    folder : str
        The folder that relative paths start from.
    suffix : str
        What paths end in, if the table leaves it out.
    encoding : str
        The encoding of the table, in which names of files may be stored, too.

    Attributes
    ----------
    slashes_turned : bool
        A file was found with slashes for the backslashes of its cell.
    """

    def __init__(self, folder: str, suffix: str, encoding: str) -> None:
        self.folder = folder
        self.suffix = suffix
        self.encoding = encoding
        self.slashes_turned = False
        self._names: dict[str, list[str]] = {}

    def find(self, cell: str) -> str:
        """Return the path of the file that a cell names; the cell in the folder if there is no such file."""
        typed = os.path.join(self.folder, self._with_suffix(cell))
        if os.path.isfile(typed):
            return typed
        for path in self._spellings(cell):
            if os.path.isfile(path):
                self.slashes_turned |= "\\" in cell and "\\" not in path
                return path
        return typed

    def has(self, cell: str) -> bool:
        """Return whether a cell names an existing file."""
        return bool(cell) and os.path.isfile(self.find(cell))

    def has_nearly(self, cell: str) -> bool:
        """Return whether a file has nearly the name that a cell says, such as one with a suffix."""
        return bool(cell) and bool(self.hint(self.find(cell)))

    def hint(self, path: str) -> str:
        """Return the remark that a file of nearly the same name exists, for a path without a file; else ""."""
        folder, base = os.path.split(path.replace("\\", "/"))
        names = self._listed(folder)
        alike = [name for name in names if name.casefold() == base.casefold() and name != base]
        longer = [name for name in names if is_picture_name(name) and os.path.splitext(name)[0] == base]
        if alike:
            return f"; {alike[0]} is there"
        return f"; {longer[0]} is there, so --suffix {os.path.splitext(longer[0])[1]} would do" if longer else ""

    def _listed(self, folder: str) -> list[str]:
        if folder not in self._names:
            try:
                self._names[folder] = sorted(os.listdir(folder or "."))
            except (OSError, ValueError):
                self._names[folder] = []
        return self._names[folder]

    def _with_suffix(self, cell: str) -> str:
        return cell if not self.suffix or cell.lower().endswith(self.suffix.lower()) else cell + self.suffix

    def _spellings(self, cell: str) -> Iterator[str]:
        """Yield other paths that a cell may mean: without suffix, with slashes, in other Unicode forms and bytes."""
        for name in dict.fromkeys([self._with_suffix(cell), cell]):
            for turned in dict.fromkeys([name, name.replace("\\", "/")]):
                yield os.path.join(self.folder, turned)
                if not turned.isascii():
                    yield os.path.join(self.folder, unicodedata.normalize("NFC", turned))
                    yield os.path.join(self.folder, unicodedata.normalize("NFD", turned))
                    if self.encoding == "cp1252":
                        yield os.path.join(self.folder, os.fsdecode(turned.encode(self.encoding)))


def is_picture_name(name: str) -> bool:
    return name.lower().endswith(_PICTURE_SUFFIXES)
