"""Find the columns of a table of labels: whether it has a header, and which columns are path, label and split.

Columns are found by their names and by which cells name existing files. A table that can mean two things is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from cnnfilter.errors import DataError
from cnnfilter.training.data.picture_paths import PictureFiles, is_picture_name

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Names of folders and cells of tables that stand for splits, in lower case."""

_PATH_WORDS = (
    *("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_name", "image_file"),
    *("image_path", "image_id", "img", "img_name", "img_path", "picture", "photo", "name", "id", "fname"),
)
_LABEL_WORDS = (
    *("label", "class", "class_name", "classname", "category", "category_name", "target", "label_name"),
    *("labels", "classes", "class_id", "class_label", "label_id", "category_id", "targets"),
)
_SPLIT_WORDS = ("split", "set", "subset", "partition")
"""Words of headers, in lower case with ``_`` for spaces and hyphens. Of several path columns that name no existing
file, the one whose word comes first here is taken."""

PROBED_ROWS = 20
"""Rows whose files are looked for to tell which column holds paths: a few may be missing."""

_LISTED_COLUMNS = 12
"""Names of columns that a message lists."""

MARKS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
"""Cells of one-hot tables, in lower case."""


class Row(NamedTuple):
    """The cells of a row, and the number of the line on which it ends."""

    line: int
    cells: list[str]


class Columns(NamedTuple):
    """Numbers of columns: of the path, of the label (of each class if the table is one-hot), and of the split."""

    path: int
    labels: tuple[int, ...]
    split: int | None


def nfc(name: str) -> str:
    """Return a name in the Unicode form NFC, so that one name is one class however it is written.

    >>> nfc("Ku\N{COMBINING DIAERESIS}che") == "K\N{LATIN SMALL LETTER U WITH DIAERESIS}che"
    True
    """
    return unicodedata.normalize("NFC", name)


def _word(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.lower())


def has_header(cells: list[str], files: PictureFiles, wanted: list[str] | None) -> bool:
    """Return whether the first row is a header: a row that names no file.

    A row of data whose file is missing is told by the suffix of a picture, and by a file with such a suffix.
    """
    names = [nfc(cell) for cell in cells]
    words = [_word(name) for name in names]
    if wanted is not None and not all(name.isdecimal() for name in wanted):
        return True
    if any(word in _PATH_WORDS for word in words) and any(word in _LABEL_WORDS for word in words):
        return True
    if any(map(files.has, cells)):
        return False
    if any(word in (*_PATH_WORDS, *_LABEL_WORDS, *_SPLIT_WORDS) for word in words):
        return True
    return not any(is_picture_name(cell) or files.has_nearly(cell) for cell in cells)


def find_columns(
    path: str, names: list[str] | None, rows: list[Row], files: PictureFiles, wanted: list[str] | None
) -> Columns:
    """Return the columns that were asked for, or those that can mean one thing only."""
    width = len(names) if names is not None else len(rows[0].cells)
    if width < 2:
        cell = names[0] if names is not None else rows[0].cells[0]
        raise DataError(f"{path} line 1: {cell!r} has no label; lines such as cats/1.jpg,cat would do")
    for row in rows:
        if len(row.cells) > width and any(row.cells[width:]):
            raise DataError(
                f"{path} line {row.line} has {len(row.cells)} cells, the first line {width}; "
                "a cell that holds the delimiter stands between quotes"
            )
    table = _Table(path, names, width, rows, files)
    if wanted is None:
        at = table.path_column()
        split = table.split_column(at)
        return Columns(at, table.label_columns(at, split), split)
    at, label, *more = [table.place(name) for name in wanted]
    if len({at, label, *more}) < len(wanted):
        raise DataError(f"{path}: --columns {','.join(wanted)} names one column twice")
    split = more[0] if more else table.split_column(at, label)
    return Columns(at, (label,), split if more or split is None or table.holds_splits(split) else None)


class _Table(NamedTuple):
    """A table whose columns are sought; `names` is None if it has no header."""

    path: str
    names: list[str] | None
    width: int
    rows: list[Row]
    files: PictureFiles

    def place(self, name: str) -> int:
        """Return the number of a column, counted from 0, by its name or its number from 1."""
        names = self.names or []
        for places in (
            [index for index, other in enumerate(names) if other == name],
            [index for index, other in enumerate(names) if _word(other) == _word(name)],
        ):
            if len(places) > 1:
                raise DataError(f"{self.path} has {len(places)} columns called {name!r}; --columns takes numbers, too")
            if places:
                return places[0]
        if name.isdecimal() and 1 <= int(name) <= self.width:
            return int(name) - 1
        raise DataError(f"{self.path} has no column {name!r}, but {self.listed()}")

    def listed(self) -> str:
        """Return the names of the columns, or how many there are, for a message."""
        if self.names is None:
            return f"{self.width} columns without names"
        shown = ", ".join(map(repr, self.names[:_LISTED_COLUMNS]))
        return f"the columns {shown}" + (f" and {self.width - _LISTED_COLUMNS} more" * (self.width > _LISTED_COLUMNS))

    def unclear(self, reason: str) -> DataError:
        return DataError(
            f"{self.path} has {self.listed()}; {reason}; --columns PATH,LABEL says which to take, by name or number"
        )

    def values(self, column: int) -> list[str]:
        return [row.cells[column] if column < len(row.cells) else "" for row in self.rows]

    def called(self, words: tuple[str, ...]) -> list[int]:
        """Return the columns whose names are among some words, in the order of the words."""
        names = [_word(name) for name in self.names or []]
        return [index for word in words for index, name in enumerate(names) if name == word]

    def named(self, columns: Iterable[int]) -> str:
        return " and ".join(repr(self.names[column]) if self.names else str(column + 1) for column in columns)

    def path_column(self) -> int:
        """Return the column whose cells name files, or nearly do, or else the one that is called like a path."""
        called = self.called(_PATH_WORDS)
        for test in (self.files.has, self.files.has_nearly, is_picture_name):
            found = [column for column in range(self.width) if any(map(test, self.values(column)[:PROBED_ROWS]))]
            found = [column for column in called if column in found] or found
            if len(found) > 1:
                files = [[self.files.find(cell) for cell in self.values(column)] for column in found]
                if any(one != files[0] for one in files):
                    raise self.unclear(f"{self.named(found)} name files")
            if found:
                return found[0]
        if called:
            return called[0]
        raise self.unclear(f"none names a file below {self.files.folder or '.'} (--root DIR is another folder)")

    def split_column(self, *taken: int) -> int | None:
        """Return the column whose name is a word for splits, or the one whose cells are all names of splits."""
        called = [column for column in self.called(_SPLIT_WORDS) if column not in taken]
        if called:
            return called[0]
        found = [
            column
            for column in range(self.width)
            if column not in (*taken, *self.called(_LABEL_WORDS)) and self.holds_splits(column)
        ]
        if self.width < 3 or not found:
            return None
        if len(found) > 1:
            raise self.unclear(f"{self.named(found)} name splits")
        return found[0]

    def holds_splits(self, column: int) -> bool:
        """Return whether all cells of a column are names of splits."""
        values = {cell.lower() for cell in self.values(column)}
        return bool(values) and values <= SPLIT_NAMES.keys()

    def label_columns(self, path: int, split: int | None) -> tuple[int, ...]:
        """Return the column of the label, or those of the classes of a one-hot table."""
        called = [column for column in self.called(_LABEL_WORDS) if column not in (path, split)]
        others = [
            column
            for column in range(self.width)
            if column not in (path, split)
            and (self.names is None or re.fullmatch(r"(unnamed:.*)?", self.names[column].lower()) is None)
        ]
        marked = [column for column in others if all(cell.lower() in MARKS for cell in self.values(column))]
        line = self._line_of_two_marks(marked)
        one_hot = len(marked) > 1 and line is None and self.names is not None and bool(self.rows)
        if one_hot and not called:
            return tuple(marked)
        if one_hot and set(called) & set(marked):
            raise self.unclear(f"{self.named(called)} may be the label, or one of the classes {self.named(marked)}")
        if len(called) > 1:
            pairs = set(zip(*(self.values(column) for column in called), strict=True))
            if any(len(set(self.values(column))) != len(pairs) for column in called):
                raise self.unclear(f"{self.named(called)} may be the label")
            called.sort(key=lambda column: all(cell.isdecimal() for cell in self.values(column)))
        if called:
            return (called[0],)
        if len(others) == 1:
            return (others[0],)
        if line is not None and self.names is not None and len(marked) > 1:
            raise self.unclear(f"line {line} has not one 1 in {self.named(marked)}, so that they are no classes")
        raise self.unclear("which of them is the label is not clear")

    def _line_of_two_marks(self, columns: list[int]) -> int | None:
        """Return the line of the first row that does not have a single mark in some columns."""
        for row in self.rows:
            if sum(MARKS[row.cells[column].lower()] for column in columns) != 1:
                return row.line
        return None
