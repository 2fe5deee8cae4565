"""What a network says of pictures, and what is done with it: labels, matches, sorted files, heat maps."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ModelError
from cnnfilter.networks.network import Network
from cnnfilter.runtime.atomic_files import replace_file

UNKNOWN = "unknown"
"""The label of a picture whose best probability is below the threshold."""


@dataclass(frozen=True)
class Label:
    """One of a network's answers; `index` is None for unknown."""

    label: str
    index: int | None
    probability: float


def best_labels(
    network: Network, probabilities: NDArray[np.float32], *, top: int = 5, threshold: float | None = None
) -> list[Label]:
    """Return the likeliest labels of one picture, the likeliest first.

    Parameters
    ----------
    probabilities : (classes,) array
        A row of what `Network.predict` gives.
    top : int
        How many.
    threshold : float, optional
        If the best is below it, the only label is unknown, with the best's probability; the model's own if not given.
    """
    # Of equal ones the first in the model's order.
    order = np.argsort(-probabilities, kind="stable")[:top]
    limit = network.calibration.threshold if threshold is None else threshold
    best = float(probabilities[order[0]])
    if best < limit:
        return [Label(UNKNOWN, None, best)]
    return [Label(network.label(int(index)), int(index), float(probabilities[index])) for index in order]


def find_labels(network: Network, patterns: Iterable[str]) -> frozenset[str]:
    """Return the labels that patterns name: whole labels, or with ``*`` and ``?``; upper and lower case are the same.

    Raises
    ------
    ModelError
        For a pattern that names no label; it says what may be meant.
    """
    labels = [*(network.label(index) for index in range(network.outputs)), UNKNOWN]
    found: set[str] = set()
    for pattern in patterns:
        wanted = pattern.lower()
        named = [label for label in labels if label.lower() == wanted] or [
            label for label in labels if fnmatch.fnmatchcase(label.lower(), wanted)
        ]
        if not named:
            raise ModelError(f"{network.name} has no label {pattern!r}{_alike(pattern, labels)}")
        found.update(named)
    return frozenset(found)


def _alike(wanted: str, labels: Sequence[str]) -> str:
    import difflib

    holding = [label for label in labels if re.search(rf"\b{re.escape(wanted.lower())}\b", label.lower())]
    by_case = {label.lower(): label for label in labels}
    near = [by_case[name] for name in difflib.get_close_matches(wanted.lower(), by_case, 3, 0.6)]
    names = list(dict.fromkeys([*holding, *near]))[:5]
    return f"; did you mean {', '.join(map(repr, names))}?" if names else ""


# --- sorting files into folders ------------------------------------------------------------------------


def folder_of(label: str) -> str:
    """Return the name of a label's folder, which every file system takes.

    >>> folder_of("maillot, tank suit"), folder_of("a/b"), folder_of("..")
    ('maillot, tank suit', 'a_b', '_')
    """
    name = re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", label).strip(" .")
    return name[:100] or "_"


def place_for(path: str, folder: str) -> tuple[str, bool]:
    """Return where a file goes in a folder, and whether it (or its like) is there already.

    A name that another file has gets a number: ``photo-2.jpg``.
    """
    stem, suffix = os.path.splitext(os.path.basename(path))
    number = 1
    while True:
        name = stem + (f"-{number}" if number > 1 else "") + suffix
        place = os.path.join(folder, name)
        if not os.path.lexists(place):
            return place, False
        if _same_file(path, place):
            return place, True
        number += 1


def _same_file(path: str, place: str) -> bool:
    if not os.path.isfile(place):
        return False
    if os.path.samefile(path, place):
        return True
    if os.path.getsize(path) != os.path.getsize(place):
        return False
    with open(path, "rb") as one, open(place, "rb") as other:
        while block := one.read(1 << 20):
            if block != other.read(1 << 20):
                return False
    return True


def copy_file(path: str, place: str) -> None:
    """Copy a file to a place where there is none, with its times; all of it or nothing."""
    with open(path, "rb") as source, replace_file(place) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    shutil.copystat(path, place)


def move_file(path: str, place: str) -> None:
    """Move a file to a place where there is none; the original stays until the whole of it is there."""
    if os.path.islink(path):
        raise OSError(errno.EINVAL, "is a symbolic link, which would not fit its target from there; --copy would do")
    try:
        os.link(path, place)  # unlike a rename, it refuses a place that came into being meanwhile
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without hard links
        copy_file(path, place)
    os.unlink(path)


def link_file(path: str, place: str) -> None:
    """Make a symbolic link to a file at a place where there is none."""
    os.symlink(os.path.abspath(path), place)


SORTERS = {"copy": copy_file, "move": move_file, "link": link_file}


def sort_file(path: str, folder: str, how: str) -> str:
    """Copy, move or link a file into a folder, which is made if it is not there; return where it is.

    Nothing is ever overwritten. A file that is there already, byte for byte, is not copied again, nor is its original
    taken away.

    Raises
    ------
    OSError
        If it cannot be done; the original is as it was.
    """
    os.makedirs(folder, exist_ok=True)
    while True:
        place, there = place_for(path, folder)
        if there:
            return place
        try:
            SORTERS[how](path, place)
        except FileExistsError:  # somebody else took the name
            continue
        return place
