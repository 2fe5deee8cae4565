"""Read tables of labels: text files of rows such as ``cats/1.jpg,cat``, as spreadsheets and competitions write them.

Header and columns are found in `cnnfilter.training.data.table_columns`, the files that rows name in
`cnnfilter.training.data.picture_paths`. `cnnfilter.training.data.image_files` decides whether a file is a picture.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cnnfilter.errors import DataError
from cnnfilter.training.data.picture_paths import PictureFiles
from cnnfilter.training.data.table_columns import (
    MARKS,
    PROBED_ROWS,
    SPLIT_NAMES,
    Columns,
    Row,
    find_columns,
    has_header,
    nfc,
)

_SAMPLE_CHARACTERS = 65_536
"""First characters of a table by which its delimiter is chosen."""

_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class LabelledFile(NamedTuple):
    """A picture file, the name of its class, and its split; `split` is empty if the data have none."""

    path: str
    label: str
    split: str


class LabelTable(NamedTuple):
    """The rows of a table.

    Attributes
    ----------
    entries : list of LabelledFile
        One for each row, its path joined with the folder. The file need not exist.
    classes : list of str
        The names of all classes, also of those that no row has.
    columns : str
        How the columns were understood, such as ``columns: image_name = path, label = label``.
    remarks : list of str
        What else was decided, such as the encoding.
    files : PictureFiles
        The finder of the files.
    """

    entries: list[LabelledFile]
    classes: list[str]
    columns: str
    remarks: list[str]
    files: PictureFiles


def parse_columns(columns: str | Sequence[str | int]) -> list[str]:
    """Return the names or numbers of the columns of path, label and, if given, split.

    >>> parse_columns("image, kind"), parse_columns((1, 3))
    (['image', 'kind'], ['1', '3'])

    Raises
    ------
    DataError
        If they are not two or three.
    """
    cells = next(csv.reader([columns]), []) if isinstance(columns, str) else [str(column) for column in columns]
    names = [nfc(name).strip() for name in cells]
    if len(names) not in (2, 3) or not all(names):
        raise DataError(f"{columns!r} is not PATH,LABEL, two columns by name or number (or PATH,LABEL,SPLIT)")
    return names


def read_table(
    path: str, *, columns: str | Sequence[str | int] | None = None, root: str | None = None, suffix: str = ""
) -> LabelTable:
    """Read a table of labels.

    Parameters
    ----------
    columns : str or sequence, optional
        The columns of path and label, by name or by number from 1; if not given, they are found by their names and
        by which cells name existing files.
    root : str, optional
        The folder that paths start from; that of the table if not given.
    suffix : str
        What paths end in, if the table leaves it out.

    Raises
    ------
    DataError
        If it is not a table, its columns are not clear, or a row lacks its path or label.
    OSError
        If it cannot be read.
    """
    if root is not None and not os.path.isdir(root):
        raise DataError(f"there is no folder {root}")
    with open(path, "rb") as file:
        text, encoding = _decode(path, file.read())
    folder = os.path.dirname(path) if root is None else root
    files = PictureFiles(folder, suffix if not suffix or suffix.startswith(".") else f".{suffix}", encoding)
    rows = _rows(path, text, files)
    wanted = None if columns is None else parse_columns(columns)
    names = [nfc(cell) for cell in rows[0].cells] if has_header(rows[0].cells, files, wanted) else None
    body = rows if names is None else rows[1:]
    found = find_columns(path, names, body, files, wanted)
    entries = list(_entries(path, found, names, body, files))
    shown = names or [str(number) for number in range(1, len(rows[0].cells) + 1)]
    one_hot = len(found.labels) > 1
    label = ", ".join(shown[column] for column in found.labels) + " = label" + " (one-hot)" * one_hot
    split = f", {shown[found.split]} = split" if found.split is not None else ""
    classes = [shown[column] for column in found.labels] if one_hot else [entry.label for entry in entries]
    remarks = ["read as cp1252, as it is not UTF-8"] if encoding == "cp1252" else []
    remarks += ["backslashes are taken for slashes"] if files.slashes_turned else []
    return LabelTable(
        entries, list(dict.fromkeys(classes)), f"columns: {shown[found.path]} = path, {label}{split}", remarks, files
    )


# --- text ------------------------------------------------------------------------------------------------


def _decode(path: str, data: bytes) -> tuple[str, str]:
    """Return the text of a table and its encoding: UTF-8, UTF-16, UTF-32, else cp1252."""
    encoding = next((encoding for mark, encoding in _ENCODINGS if data.startswith(mark)), None)
    if encoding is None and b"\0" in data:  # UTF-16 without a mark has a zero byte in each Latin letter
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    for attempt in [encoding] if encoding else ["utf-8", "cp1252"]:
        try:
            text = data.decode(attempt).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text, attempt
    raise DataError(f"{path} is not a table in UTF-8, UTF-16 or cp1252")


def _rows(path: str, text: str, files: PictureFiles) -> list[Row]:
    """Return the rows that are not empty, by the delimiter that suits them best."""
    hint = re.match(r"sep=(.)\r?\n", text)  # a line that Excel understands
    text = text[hint.end() :] if hint else text
    if not text.strip():
        raise DataError(f"{path} is empty; it should have lines such as cats/1.jpg,cat")
    delimiter = hint[1] if hint else _delimiter(text, files)
    try:
        return _split(text, delimiter)
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: {error}") from error


def _delimiter(text: str, files: PictureFiles) -> str:
    """Return the delimiter whose cells name files, make rows of one width, and are the most."""
    sample = text if len(text) <= _SAMPLE_CHARACTERS else text[: text.rfind("\n", 0, _SAMPLE_CHARACTERS) + 1]

    def suits(delimiter: str) -> tuple[bool, bool, bool, int]:
        try:
            rows = _split(sample, delimiter)[: PROBED_ROWS + 1]
        except csv.Error:
            rows = []
        widths = [len(row.cells) for row in rows] or [0]
        named = bool(rows) and any(map(files.has, rows[-1].cells))
        return min(widths) > 1, named, len(set(widths)) == 1, widths[0]

    best = max(",;\t|", key=suits)
    # Spaces are in many paths, so they part cells only where a cell then names a file.
    return " " if not suits(best)[0] and suits(" ")[:3] == (True, True, True) else best


def _split(text: str, delimiter: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter == " ")
    rows = [Row(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    return [row for row in rows if any(row.cells)]


def _entries(
    path: str, columns: Columns, names: list[str] | None, rows: list[Row], files: PictureFiles
) -> Iterator[LabelledFile]:
    for line, cells in rows:
        typed, first, part = (
            cells[column] if column is not None and column < len(cells) else ""
            for column in (columns.path, columns.labels[0], columns.split)
        )
        label = nfc(first)
        if len(columns.labels) > 1 and names is not None:
            label = next(names[column] for column in columns.labels if MARKS[cells[column].lower()])
        if not label or not typed:
            lacks = "label" if typed else "path"
            raise DataError(f"{path} line {line}: {typed or label!r} has no {lacks}")
        if part and part.lower() not in SPLIT_NAMES:
            raise DataError(f"{path} line {line}: split {part!r} is not train, validation or test")
        yield LabelledFile(files.find(typed), label, SPLIT_NAMES.get(part.lower(), ""))
