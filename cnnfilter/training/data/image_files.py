"""Find picture files and their classes: ``DIR/class/*.jpg``, ``DIR/train/class/*.jpg``, or a table of path and label.

A file is taken for a picture by its first bytes. Decoding is left to `cnnfilter.training.data.examples`, and tables are
read in `cnnfilter.training.data.tables`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from cnnfilter.errors import DataError, ImageError
from cnnfilter.images.formats.detect import TEXT_FORMATS, sniff
from cnnfilter.training.data.examples import EMPTY_CLASS, HIDDEN, JUNK, Skipped
from cnnfilter.training.data.table_columns import SPLIT_NAMES, nfc
from cnnfilter.training.data.tables import LabelledFile, read_table

_JUNK_NAMES = {"thumbs.db", "desktop.ini", "__macosx"}
"""Files and folders that Windows and macOS put beside pictures, in lower case."""

_SIDE_FOLDERS = {"annotation", "annotations", "docs", "labels", "mask", "masks", "meta", "metadata", "segmentation"}
"""Folders that data sets have beside their split folders, in lower case."""

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")

_MISSING = "no such file"

_HEADER_BYTES = 4096
"""First bytes of a file, by which `sniff` tells its format."""

# --- folders ---------------------------------------------------------------------------------------------


def find_in_folder(folder: str) -> tuple[list[LabelledFile], list[Skipped]]:
    """Find the pictures of a folder of class folders, and the files that are skipped.

    Raises
    ------
    DataError
        If no class has a picture, or the folders can mean two things.
    OSError
        If the folder cannot be listed.
    """
    found: list[LabelledFile] = []
    skipped: list[Skipped] = []
    splits = _split_folders(folder)
    if not splits and (inner := only_folder(folder)) and (inner_splits := _split_folders(inner)):
        names = " and ".join(os.path.basename(path) for _, path in inner_splits)
        raise DataError(f"{folder} holds one folder only; the data are further in: give {inner}, which has {names}")
    for part, path in splits or [("", folder)]:
        for label, inner in _class_folders(path, skipped):
            files = list(_pictures_below(inner, skipped))
            found += [LabelledFile(file, label, part) for file in files]
            if not files:
                skipped.append(Skipped(inner, EMPTY_CLASS))
    if splits:
        parts = {path for _, path in splits}
        skipped += [Skipped(path, _why_no_split(path)) for path in _entries(folder, skipped) if path not in parts]
    if not found:
        raise DataError(
            f"{folder} has no pictures in class folders ({_first_skipped(skipped)}); "
            f"it should look like DIR/cats/1.jpg, DIR/dogs/2.jpg{table_note(folder)}"
        )
    return found, skipped


def _split_folders(folder: str) -> list[tuple[str, str]]:
    """Return the split and the path of each split folder in a folder; nothing if the folder has no splits.

    A split folder has the name of a split and holds folders itself. The folder has splits if all folders in it have
    such names, or one of them is for training. A class called ``train`` is no split folder, as it holds pictures.

    Raises
    ------
    DataError
        If the folder for training may also be a class, as other folders beside it hold pictures; or if all folders
        have names of splits, and none has class folders.
    """
    names = _folders_in(folder)
    inner = {name: _folders_in(os.path.join(folder, name)) for name in names if name.lower() in SPLIT_NAMES}
    parted = [name for name in inner if inner[name]]
    splits = {SPLIT_NAMES[name.lower()] for name in parted}
    others = [name for name in names if name not in inner]
    if len(names) > 1 and not parted and not others:
        raise DataError(
            f"{folder} has the splits {_some(names)} without class folders, so that their pictures have no labels"
            f"{table_note(folder)}"
        )
    if not parted or (others and "train" not in splits):
        return []
    if len(splits) == 1 or not set.intersection(*({nfc(other) for other in inner[name]} for name in parted)):
        classes = [name for name in others if _may_be_class(os.path.join(folder, name))]
        if classes:
            name = parted[0]
            raise DataError(
                f"{folder}: {name!r} may be a split, with the classes {_some(inner[name])}, or a class beside "
                f"{_some(classes)}; for the split give {os.path.join(folder, name)}, for the class another name to its "
                "folder"
            )
    return [(SPLIT_NAMES[name.lower()], os.path.join(folder, name)) for name in parted]


def _folders_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not _is_junk(entry.name))
    except PermissionError:
        return []


def _may_be_class(folder: str) -> bool:
    if os.path.basename(folder).lower() in _SIDE_FOLDERS:
        return False
    return any(True for _ in _pictures_below(folder, []))


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:4])) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _why_no_split(path: str) -> str:
    if os.path.isdir(path) and os.path.basename(path).lower() in SPLIT_NAMES:
        return "has no class folders, so that its pictures have no labels"
    return "neither train, validation nor test"


def table_note(folder: str) -> str:
    """Return a text about the table that a folder holds, for a message; else ""."""
    tables = [name for name in sorted(os.listdir(folder)) if name.lower().endswith(TABLE_SUFFIXES[:2])]
    return f"; if {tables[0]} has the labels, give {os.path.join(folder, tables[0])}" if tables else ""


def only_folder(folder: str) -> str:
    """Return the folder that is all that a folder holds, as unpacked archives have it, or ""; that of several levels.

    It holds several folders, or one with the name of a split.
    """
    path = folder
    while len(names := _folders_in(path)) == 1 and names[0].lower() not in SPLIT_NAMES:
        if any(why_no_picture(os.path.join(path, name)) is None for name in os.listdir(path) if name not in names):
            return ""
        path = os.path.join(path, names[0])
    return path if path != folder and names else ""


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK_NAMES


def _entries(folder: str, skipped: list[Skipped]) -> Iterator[str]:
    """Yield the paths in a folder, sorted; hidden files and junk are skipped."""
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if _is_junk(name):
            skipped.append(Skipped(path, HIDDEN if name.startswith(".") else JUNK))
        else:
            yield path


def _class_folders(folder: str, skipped: list[Skipped]) -> Iterator[tuple[str, str]]:
    for path in _entries(folder, skipped):
        if os.path.isdir(path):
            yield nfc(os.path.basename(path)), path
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
            return _MISSING if not os.path.lexists(path) or os.path.islink(path) else "not a file"
        with open(path, "rb") as file:
            format = sniff(file.read(_HEADER_BYTES))
    except ImageError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    if format == "tga" and not path.lower().endswith(".tga"):  # TGA has no signature, so its name must say it
        return "not a picture"
    if format in TEXT_FORMATS:  # a file of boxes or labels beside a picture
        return "numbers, not a picture"
    return None


def _first_skipped(skipped: list[Skipped]) -> str:
    if not skipped:
        return "it is empty"
    path, reason = skipped[0]
    more = f"; {len(skipped) - 1} more" if len(skipped) > 1 else ""
    return f"{os.path.basename(path)}: {reason}{more}"


# --- tables ----------------------------------------------------------------------------------------------


def find_in_table(
    path: str, *, columns: str | Sequence[str | int] | None = None, root: str | None = None, suffix: str = ""
) -> tuple[list[LabelledFile], list[Skipped], str]:
    """Find the pictures that a table lists, and the files that are skipped.

    Parameters
    ----------
    columns, root, suffix
        As `cnnfilter.training.data.tables.read_table` takes them.

    Returns
    -------
    found : list of LabelledFile
    skipped : list of Skipped
        With the classes of the table that have no picture.
    decisions : str
        How the table was understood, in one line.

    Raises
    ------
    DataError
        If the table cannot be understood, or there is no picture.
    OSError
        If the file cannot be read.
    """
    table = read_table(path, columns=columns, root=root, suffix=suffix)
    found: list[LabelledFile] = []
    skipped: list[Skipped] = []
    for entry in table.entries:
        if (reason := why_no_picture(entry.path)) is None:
            found.append(entry)
        else:
            skipped.append(Skipped(entry.path, reason + (table.files.hint(entry.path) if reason == _MISSING else "")))
    if not found:
        missing = all(reason == _MISSING for _, reason in skipped)
        advice = "; --root DIR is the folder that paths start from" if missing and skipped and root is None else ""
        raise DataError(f"{path} lists no picture that can be read ({_first_skipped(skipped)}){advice}")
    labels = {entry.label for entry in found}
    skipped += [Skipped(f"{path}: {label}", EMPTY_CLASS) for label in table.classes if label not in labels]
    classes = f"{len(labels)} {'class' if len(labels) == 1 else 'classes'}"
    return found, skipped, "; ".join([table.columns, classes, *table.remarks])
