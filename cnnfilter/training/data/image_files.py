"""Find picture files and their classes: ``DIR/class/*.jpg``, ``DIR/train/class/*.jpg``, or a CSV of path and label.

A file is taken for a picture by its first bytes. Decoding is left to `cnnfilter.training.data.examples`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from typing import NamedTuple

from cnnfilter.errors import DataError, ImageError
from cnnfilter.images.formats.detect import sniff
from cnnfilter.training.data.examples import Skipped

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Names of folders and of entries of a CSV that stand for splits, in lower case."""

_PATH_COLUMNS = ("path", "file", "filename", "filepath", "image", "name")
_LABEL_COLUMNS = ("label", "class", "category", "target")
_SPLIT_COLUMNS = ("split", "set", "subset")
_JUNK_NAMES = {"thumbs.db", "desktop.ini", "__macosx"}
"""Files and folders that Windows and macOS put beside pictures, in lower case."""

_HEADER_BYTES = 4096
"""First bytes of a file, by which `sniff` tells its format."""

_DIALECT_CHARACTERS = 65_536
"""First characters of a CSV file among which its first line is sought."""


class LabelledFile(NamedTuple):
    """A picture file, the name of its class, and its split; `split` is empty if the data have none."""

    path: str
    label: str
    split: str


# --- folders ---------------------------------------------------------------------------------------------


def find_in_folder(folder: str) -> tuple[list[LabelledFile], list[Skipped]]:
    """Find the pictures of a folder of class folders, and the files that are skipped.

    Raises
    ------
    DataError
        If no class has a picture.
    OSError
        If the folder cannot be listed.
    """
    found: list[LabelledFile] = []
    skipped: list[Skipped] = []
    splits = _split_folders(folder)
    for part, path in splits or [("", folder)]:
        for label, inner in _class_folders(path, skipped):
            files = list(_pictures_below(inner, skipped))
            found += [LabelledFile(file, label, part) for file in files]
            if not files:
                skipped.append(Skipped(inner, "a class without a picture"))
    if splits:
        parts = {path for _, path in splits}
        skipped += [
            Skipped(path, "neither train, validation nor test")
            for path in _entries(folder, skipped)
            if path not in parts
        ]
    if not found:
        raise DataError(
            f"{folder} has no pictures in class folders ({_first_skipped(skipped)}); "
            "it should look like DIR/cats/1.jpg, DIR/dogs/2.jpg"
        )
    return found, skipped


def _split_folders(folder: str) -> list[tuple[str, str]]:
    """Return the split and the path of each split folder in a folder; nothing if the folder has no splits.

    A split folder has the name of a split and holds folders itself. The folder has splits if all folders in it are
    split folders, or one of them is for training. A class called ``train`` is no split folder, as it holds pictures.
    """
    names = [name for name in sorted(os.listdir(folder)) if not _is_junk(name)]
    folders = [name for name in names if os.path.isdir(os.path.join(folder, name))]
    parted = [name for name in folders if name.lower() in SPLITS and _has_folders(os.path.join(folder, name))]
    if parted and (len(parted) == len(folders) or any(SPLITS[name.lower()] == "train" for name in parted)):
        return [(SPLITS[name.lower()], os.path.join(folder, name)) for name in parted]
    return []


def _has_folders(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.is_dir() and not _is_junk(entry.name) for entry in entries)


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK_NAMES


def _entries(folder: str, skipped: list[Skipped]) -> Iterator[str]:
    """Yield the paths in a folder, sorted; hidden files and junk are skipped."""
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if _is_junk(name):
            skipped.append(Skipped(path, "hidden" if name.startswith(".") else "junk of another program"))
        else:
            yield path


def _class_folders(folder: str, skipped: list[Skipped]) -> Iterator[tuple[str, str]]:
    for path in _entries(folder, skipped):
        if os.path.isdir(path):
            yield os.path.basename(path), path
        else:
            skipped.append(Skipped(path, "not in a class folder"))


def _pictures_below(folder: str, skipped: list[Skipped]) -> Iterator[str]:
    try:
        paths = list(_entries(folder, skipped))
    except OSError as error:
        skipped.append(Skipped(folder, error.strerror or str(error)))
        return
    for path in paths:
        if os.path.isdir(path):
            if not os.path.islink(path):  # a link may lead back up
                yield from _pictures_below(path, skipped)
        elif (reason := why_no_picture(path)) is None:
            yield path
        else:
            skipped.append(Skipped(path, reason))


def why_no_picture(path: str) -> str | None:
    """Return the reason why a file is not a picture, by its first bytes; None if it is one."""
    try:
        if not os.path.isfile(path):
            return "no such file" if not os.path.lexists(path) or os.path.islink(path) else "not a file"
        with open(path, "rb") as file:
            format = sniff(file.read(_HEADER_BYTES))
    except ImageError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    if format == "tga" and not path.lower().endswith(".tga"):  # TGA has no signature, so its name must say it
        return "not a picture"
    return None


def _first_skipped(skipped: list[Skipped]) -> str:
    if not skipped:
        return "it is empty"
    path, reason = skipped[0]
    more = f"; {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return f"{os.path.basename(path)}: {reason}{more}"


# --- CSV -------------------------------------------------------------------------------------------------


def find_in_csv(path: str) -> tuple[list[LabelledFile], list[Skipped]]:
    """Find the pictures that a CSV file lists, and the files that are skipped.

    Each line holds a path (relative to the folder of the file), a label and, optionally, a split. A header is optional.

    Raises
    ------
    DataError
        If a line lacks its path or label, or there is no picture.
    OSError
        If the file cannot be read.
    """
    found: list[LabelledFile] = []
    skipped: list[Skipped] = []
    for number, entry in _rows(path):
        if not entry.label or not entry.path:
            lacks = "label" if entry.path else "path"
            raise DataError(f"{path} line {number}: {entry.path or entry.label!r} has no {lacks}")
        picture = os.path.join(os.path.dirname(path), entry.path)
        if (reason := why_no_picture(picture)) is None:
            found.append(entry._replace(path=picture))
        else:
            skipped.append(Skipped(picture, reason))
    if not found:
        raise DataError(f"{path} lists no picture that can be read ({_first_skipped(skipped)})")
    return found, skipped


def _rows(path: str) -> Iterator[tuple[int, LabelledFile]]:
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        try:
            dialect = _dialect(file.read(_DIALECT_CHARACTERS), file)
            rows = [row for row in csv.reader(file, dialect) if any(map(str.strip, row))]
        except csv.Error as error:
            raise DataError(f"{path} is not a CSV file: {error}") from error
    if not rows:
        raise DataError(f"{path} is empty; it should have lines such as cats/1.jpg,cat")
    columns = _columns([name.strip().lower() for name in rows[0]])
    if columns is None and len(rows[0]) < 2:
        raise DataError(f"{path} line 1: {rows[0][0]!r} has no label; lines such as cats/1.jpg,cat would do")
    start = 0 if columns is None else 1
    at = columns or (0, 1, None)
    for number, row in enumerate(rows[start:], start + 1):
        cells = [row[index].strip() if index is not None and index < len(row) else "" for index in at]
        part = SPLITS.get(cells[2].lower(), "") if cells[2] else ""
        if cells[2] and not part:
            raise DataError(f"{path} line {number}: split {cells[2]!r} is not train, validation or test")
        yield number, LabelledFile(cells[0], cells[1], part)


def _dialect(text: str, file: object) -> type[csv.Dialect] | str:
    """Return the dialect by the delimiter of the first line (comma, semicolon or tab), and rewind the file."""
    file.seek(0)  # type: ignore[attr-defined]
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)

    class Dialect(csv.excel):
        pass

    Dialect.delimiter = delimiter
    return Dialect


def _columns(names: list[str]) -> tuple[int, int, int | None] | None:
    """Return the columns of path, label and split; None if the names are not a header."""

    def place(known: tuple[str, ...]) -> int | None:
        return next((names.index(name) for name in known if name in names), None)

    path, label = place(_PATH_COLUMNS), place(_LABEL_COLUMNS)
    return None if path is None or label is None else (path, label, place(_SPLIT_COLUMNS))
