"""Data sets of labelled pictures: classes, splits, and the files that were skipped.

Files are found in `cnnfilter.training.data.image_files` and `cnnfilter.training.data.array_files`. A picture is decoded
when it is read, and nothing is written beside the data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import DataError, count_text
from cnnfilter.images.image import MAX_PIXELS
from cnnfilter.networks.float_scales import Scale, check_scale
from cnnfilter.training.data.array_files import ArraySplit, find_idx, read_idx_pairs, read_npz
from cnnfilter.training.data.class_names import are_numbers, class_text, is_text, listed, sorted_classes
from cnnfilter.training.data.examples import ArrayExamples, Examples, FileExamples, Skipped
from cnnfilter.training.data.image_files import TABLE_SUFFIXES, find_in_folder, find_in_table, only_folder, table_note
from cnnfilter.training.data.scales import array_ranges, decide_scale, file_ranges, has_own_range
from cnnfilter.training.data.table_columns import nfc
from cnnfilter.training.data.tables import LabelledFile

SPLITS = ("train", "validation", "test")
VALIDATION_SHARE = 0.2
"""Share of each class that is held back for validation if the data have no such split, as the help promises."""


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures in up to three splits.

    Attributes
    ----------
    name : str
        The path of the data.
    classes : tuple of str
        Names, in their order; the position of a name is the number of the class.
    splits : dict of str to Examples
        Those of ``train``, ``validation`` and ``test`` that exist. Data without splits are all ``train``.
    skipped : tuple of Skipped
        Files that were left out, and why.
    numbered : bool
        The classes of the data are numbers, not names.
    indexed : bool
        The labels of the data are numbers of an array, which may stand for the classes of a model in their order.
        Numbers that are names of folders or cells of a table are names.
    held_back : bool
        The validation split was taken from the training pictures by `load_folder`.
    decisions : str
        How a table of labels was understood, in one line; empty for other data.
    scale : (float, float), optional
        The samples of float pictures that are black and white; None if there are no float pictures.
    scale_note : str
        Which scale that is, and why, in one line.
    axes_note : str
        The order of the axes of arrays whose channels come first, in one line; empty for others.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Examples]
    skipped: tuple[Skipped, ...] = ()
    numbered: bool = False
    indexed: bool = False
    held_back: bool = False
    decisions: str = ""
    scale: Scale | None = None
    scale_note: str = ""
    axes_note: str = ""

    @property
    def train(self) -> Examples:
        return self.splits["train"]

    @property
    def validation(self) -> Examples | None:
        return self.splits.get("validation")

    @property
    def test(self) -> Examples | None:
        return self.splits.get("test")

    def __len__(self) -> int:
        return sum(map(len, self.splits.values()))

    def all(self) -> Examples:
        """Return the examples of all splits together."""
        parts = list(self.splits.values())
        places = np.concatenate([part.places for part in parts])
        return Examples(parts[0].source, places, np.concatenate([part.labels for part in parts]))

    def without(self, unreadable: Iterable[Skipped]) -> Dataset:
        """Return the dataset without pictures that cannot be read, and without classes that have no other pictures."""
        skipped = tuple(unreadable)
        if not skipped:
            return self
        names = {path for path, _ in skipped}
        remaining = {
            split: part.take(np.array([part.name(index) not in names for index in range(len(part))], bool))
            for split, part in self.splits.items()
        }
        used = [
            number
            for number in range(len(self.classes))
            if any((part.labels == number).any() for part in remaining.values())
        ]
        renumbered = np.full(len(self.classes), -1)
        renumbered[used] = np.arange(len(used))
        splits = {
            split: replace(part, labels=renumbered[part.labels]) for split, part in remaining.items() if len(part)
        }
        classes = tuple(self.classes[number] for number in used)
        return replace(self, classes=classes, splits=splits, skipped=(*self.skipped, *skipped))

    def check(self) -> None:
        """Refuse data from which no classifier can be trained.

        Raises
        ------
        DataError
            If there is no training split, only one class, or a single picture of each class; if a class of another
            split has no training picture; or if the name of a class cannot be written into a model.
        """
        if "train" not in self.splits:
            others = f", only {' and '.join(self.splits)}" if self.splits else ""
            raise DataError(f"{self.name} has no pictures to train on{others}{self._skipped_note()}")
        _refuse_other_classes(self)
        for name in self.classes:
            if not is_text(name):
                raise DataError(
                    f"{self.name}: the class {name!r} cannot be written into a model, as its name is not UTF-8; give "
                    "it another name"
                )
        counts = self.train.counts(len(self.classes))
        if np.count_nonzero(counts) < 2:
            raise DataError(
                f"{self.name} has one class only ({listed(self.classes)}); a classifier needs two"
                f"{self._skipped_note()}{self._folder_note()}"
            )
        if counts.max() < 2:
            raise DataError(
                f"{self.name} has a single picture of each class to train on, which teaches nothing; "
                f"some ten of each would do{self._skipped_note()}"
            )

    def _skipped_note(self) -> str:
        """Return a text about the skipped files, which may be the reason why there are too few pictures."""
        if not self.skipped:
            return ""
        path, reason = self.skipped[-1]
        return f" ({len(self.skipped):,} left out, such as {path}: {reason})"

    def _folder_note(self) -> str:
        """Return a text about the folder further in, or the table, that may hold the classes; else ""."""
        if not os.path.isdir(self.name):
            return ""
        inner = only_folder(self.name)
        return f"; if the classes are the folders of {inner}, give that folder" if inner else table_note(self.name)

    def renamed(self, classes: Sequence[str]) -> Dataset:
        """Return the dataset with names for classes that are numbers.

        Raises
        ------
        DataError
            If they have names already, or the names are not as many as the classes.
        """
        classes = [nfc(name) for name in classes]
        if not self.numbered:
            raise DataError(f"{self.name} has names for its classes already: {listed(self.classes)}")
        if len(classes) != len(self.classes) or len(set(classes)) != len(classes):
            raise DataError(
                f"{count_text(len(classes), 'name')} ({listed(classes)}) for "
                f"{count_text(len(self.classes), 'class', 'classes')} of {self.name}"
            )
        return replace(self, classes=tuple(classes), numbered=False)

    def labels_in(self, split: Examples, classes: Sequence[str], whose: str) -> NDArray[np.int64]:
        """Return the labels of a split as numbers in another list of classes.

        Raises
        ------
        DataError
            For a class that is not in that list; the message names both lists.
        """
        present = [self.classes[number] for number in np.unique(split.labels)]
        numbers = {nfc(name): number for number, name in enumerate(classes)}
        if all(name in numbers for name in present):
            return np.array([numbers.get(name, -1) for name in self.classes])[split.labels]
        if self.indexed and all(int(name) < len(classes) for name in present):
            return np.array([int(name) for name in self.classes])[split.labels]
        unknown = [name for name in present if name not in numbers]
        advice = "; --classes gives numbers their names" if self.numbered else ""
        raise DataError(
            f"{self.name} has the classes {listed(present)}, {whose} knows {listed(classes)}; "
            f"not among these: {listed(unknown)}{advice}{self._folder_note()}"
        )


def load_folder(
    path: str | os.PathLike[str],
    *,
    validation: float = VALIDATION_SHARE,
    seed: int = 0,
    max_pixels: int = MAX_PIXELS,
    columns: str | Sequence[str | int] | None = None,
    root: str | os.PathLike[str] | None = None,
    suffix: str = "",
    scale: Scale | None = None,
    axes: str | None = None,
) -> Dataset:
    """Find labelled pictures and their splits.

    Parameters
    ----------
    path
        A folder of class folders (``DIR/cats/1.jpg``), which may be in folders ``train``, ``val`` and ``test``; a table
        of path and label (CSV, also one-hot); an IDX file or a folder of them (the format of MNIST, also .gz); or an
        .npz file of ``images`` and ``labels``.
    validation : float
        The share of each class that is held back from training if the data have no validation split; 0 for none.
    seed : int
        The pictures that are held back are drawn by it.
    max_pixels : int
        Pictures of more pixels are refused when they are read.
    columns : str or sequence, optional
        The columns of a table that hold path and label, by name or by number from 1: ``"image,kind"`` or ``(1, 3)``. A
        third is that of the split. If not given, they are found by their names and by which cells name files.
    root : path, optional
        The folder that the paths of a table start from; the folder of the table if not given.
    suffix : str
        What the paths of a table end in if it leaves that out, such as ``".jpg"``.
    scale : (float, float), optional
        The samples of float pictures that are black and white, such as ``(-0.5, 0.5)``; those outside are clipped. If
        not given, it is 0…1, 0…255 or 0…65535, whichever the range of all float pictures fits.
    axes : "nhwc", "nchw", "hwc" or "chw", optional
        The order of the axes of arrays in .npz and .npy files: channels last or first. If not given, channels of an
        .npz file may be either, if only one of them can be meant.

    Raises
    ------
    DataError
        If there is no such path, there are no pictures, or they do not suffice for training (see `Dataset.check`); if
        a table or folder can mean two things; if options of tables are given for other data; or if the float pictures
        fit no scale.
    OSError
        If the folder or file cannot be read.

    Examples
    --------
    >>> load_folder("photos/")  # doctest: +SKIP
    """
    name = os.fspath(path)
    if not 0 <= validation < 1:
        raise DataError(f"a share of {validation} cannot be held back; it is from 0 to below 1")
    if not os.path.exists(name):
        raise DataError(f"{name}: no such file or directory")
    table = {"columns": columns, "root": None if root is None else os.fspath(root), "suffix": suffix}
    found = _load(name, max_pixels, table, None if scale is None else check_scale(scale), axes and axes.lstrip("n"))
    if "train" in found.splits and found.validation is None and validation:
        found.check()
        return _hold_back(found, validation, seed)
    return found


def _load(name: str, max_pixels: int, table: dict[str, Any], scale: Scale | None, axes: str | None) -> Dataset:
    """Find the examples of a folder or file, by what it is; `table` has the parameters of `find_in_table`."""
    idx = find_idx(name)
    if not idx and not os.path.isdir(name) and name.lower().endswith(TABLE_SUFFIXES):
        found, skipped, decisions = find_in_table(name, **table)
        return replace(_from_files(name, found, skipped, max_pixels, scale, axes), decisions=decisions)
    for option, value in table.items():
        if value:
            raise DataError(f"--{option} belongs to tables of labels, and {name} is not one (.csv, .tsv or .txt)")
    if idx:
        return _from_arrays(name, read_idx_pairs(idx), scale)
    if os.path.isdir(name):
        return _from_files(name, *find_in_folder(name), max_pixels, scale, axes)
    if name.lower().endswith(".npz"):
        return _from_arrays(name, read_npz(name, axes), scale)
    raise DataError(f"{name} is not a folder of class folders, a .csv of path and label, an IDX file or an .npz")


def _from_files(
    name: str,
    found: list[LabelledFile],
    skipped: list[Skipped],
    max_pixels: int,
    scale: Scale | None,
    axes: str | None,
) -> Dataset:
    classes = tuple(sorted_classes({entry.label for entry in found}))
    numbers = {label: number for number, label in enumerate(classes)}
    paths = [entry.path for entry in found]
    labels = np.array([numbers[entry.label] for entry in found], np.int64)
    given = np.array([entry.split or "train" for entry in found])
    if len({os.path.normpath(entry.path) for entry in found}) != len(found):
        raise DataError(f"{name} lists a picture twice: {_first_repeated(found)}")
    ranges = file_ranges(paths, max_pixels, scale, axes)
    places = {split: np.flatnonzero(given == split) for split in SPLITS}
    floats = {split: [ranges[paths[at]] for at in own if paths[at] in ranges] for split, own in places.items()}
    decided = decide_scale(name, floats, scale)
    source = FileExamples(paths, max_pixels, decided.scale, axes)
    splits = {split: Examples(source, own, labels[own]) for split, own in places.items() if own.size}
    return Dataset(
        name,
        classes,
        splits,
        tuple(skipped),
        numbered=are_numbers(classes),
        scale=decided.scale,
        scale_note=decided.note,
    )


def _first_repeated(found: Sequence[LabelledFile]) -> str:
    """Return the first path that is there twice, with its labels if they differ."""
    seen: dict[str, str] = {}
    for entry in found:
        path = os.path.normpath(entry.path)
        if path in seen:
            break
        seen[path] = entry.label
    labels = {seen[path], entry.label}
    return path if len(labels) == 1 else f"{path}, as {seen[path]!r} and as {entry.label!r}"


def _from_arrays(name: str, parts: list[ArraySplit], scale: Scale | None) -> Dataset:
    classes = tuple(sorted_classes({class_text(label) for part in parts for label in np.unique(part.labels)}))
    numbers = {label: number for number, label in enumerate(classes)}
    shapes = {part.pixels.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise DataError(f"{name} has pictures of different sizes: {', '.join(map(str, shapes))}")
    floats = [part for part in parts if not has_own_range(part.pixels.dtype)]
    decided = decide_scale(name, {part.split or "train": array_ranges(part.pixels, scale) for part in floats}, scale)
    splits, start = {}, 0
    source = ArrayExamples([(part.title, part.pixels) for part in parts], decided.scale)
    for part in parts:
        values, inverse = np.unique(part.labels, return_inverse=True)
        labels = np.array([numbers[class_text(value)] for value in values], np.int64)[inverse]
        splits[part.split or "train"] = Examples(source, np.arange(start, start + len(labels)), labels)
        start += len(labels)
    indexed = all(part.labels.dtype.kind in "ui" for part in parts)
    numbered = are_numbers(classes)
    return Dataset(
        name,
        classes,
        splits,
        numbered=numbered,
        indexed=indexed and numbered,
        scale=decided.scale,
        scale_note=decided.note,
        axes_note=next((part.note for part in parts if part.note), ""),
    )


# --- splits ----------------------------------------------------------------------------------------------


def _refuse_other_classes(found: Dataset) -> None:
    """Raise DataError if a class of another split has no training picture."""
    known = set(found.train.labels.tolist())
    trained = [found.classes[number] for number in sorted(known)]
    for split, part in found.splits.items():
        here = sorted(set(part.labels.tolist()))
        if not known.issuperset(here):
            names = [found.classes[number] for number in here]
            raise DataError(
                f"{found.name}: train has the classes {listed(trained)}, {split} has {listed(names)}; "
                f"unknown in training is {listed([name for name in names if name not in trained])}"
            )


def _hold_back(found: Dataset, share: float, seed: int) -> Dataset:
    """Move a share of each class from train to validation: at least one picture, but not all."""
    rng = np.random.default_rng([seed, 1])
    trained, held_back = [], []
    for number in range(len(found.classes)):
        own = rng.permutation(np.flatnonzero(found.train.labels == number))
        count = min(max(1, round(len(own) * share)), len(own) - 1)
        held_back.append(own[:count])
        trained.append(own[count:])
    train, validation = (found.train.take(np.sort(np.concatenate(part))) for part in (trained, held_back))
    parts = {"train": train, "validation": validation, **{k: v for k, v in found.splits.items() if k != "train"}}
    return replace(found, splits={name: part for name, part in parts.items() if len(part)}, held_back=True)
