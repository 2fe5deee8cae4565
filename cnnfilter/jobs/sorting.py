"""Copy, move or link a file into a folder of its label."""

from __future__ import annotations

import errno
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable

from cnnfilter.runtime.atomic_files import replace_file


def folder_name(label: str) -> str:
    """Return the name of a label's folder, which is valid on every file system.

    >>> folder_name("maillot, tank suit"), folder_name("a/b"), folder_name("..")
    ('maillot, tank suit', 'a_b', '_')
    """
    name = re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", label).strip(" .")
    return name[:100] or "_"


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """Return the name of a folder for each label, no two of which are the same on any file system.

    Labels that need no change come first; of others that would share a folder, all but the first get a number.

    >>> folder_names(["A/B", "A:B", "A_B", "a_b"])
    {'A/B': 'A_B-2', 'A:B': 'A_B-3', 'A_B': 'A_B', 'a_b': 'a_b-4'}
    """
    names = {label: folder_name(label) for label in labels}
    taken: dict[str, str] = {}  # the label that has each folder, by the folded name of the folder
    for label, name in names.items():
        if name == label:
            taken.setdefault(_folded(name), label)
    for label, name in names.items():
        number = 1
        while taken.setdefault(_folded(names[label]), label) != label:
            number += 1
            names[label] = f"{name}-{number}"
    return names


def _folded(name: str) -> str:
    """Return the form of a name in which file systems without case, or with another Unicode form, compare it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def target_path(path: str, folder: str) -> tuple[str, bool]:
    """Return the path of a file in a folder, and whether the same file is there already.

    A number is added to a name that another file has: ``photo-2.jpg``.
    """
    stem, suffix = os.path.splitext(os.path.basename(path))
    number = 1
    while True:
        name = stem + (f"-{number}" if number > 1 else "") + suffix
        target = os.path.join(folder, name)
        if not os.path.lexists(target):
            return target, False
        if _same_file(path, target):
            return target, True
        number += 1


def _same_file(path: str, target: str) -> bool:
    if not os.path.isfile(target):
        return False
    if os.path.samefile(path, target):
        return True
    if os.path.getsize(path) != os.path.getsize(target):
        return False
    with open(path, "rb") as one, open(target, "rb") as other:
        while block := one.read(1 << 20):
            if block != other.read(1 << 20):
                return False
    return True


def copy_file(path: str, target: str) -> None:
    """Copy a file and its times to a new path, completely or not at all."""
    with open(path, "rb") as source, replace_file(target) as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    shutil.copystat(path, target)


def move_file(path: str, target: str) -> None:
    """Move a file to a new path; the original is removed when the new file is complete."""
    if os.path.islink(path):
        raise OSError(errno.EINVAL, "is a symbolic link, which would not fit its target from there; --copy would do")
    try:
        os.link(path, target)  # unlike a rename, it fails if the target was created meanwhile
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without hard links
        copy_file(path, target)
    os.unlink(path)


def link_file(path: str, target: str) -> None:
    """Make a symbolic link to a file at a new path."""
    os.symlink(os.path.abspath(path), target)


SORTERS = {"copy": copy_file, "move": move_file, "link": link_file}


def sort_file(path: str, folder: str, how: str) -> str:
    """Copy, move or link a file into a folder, which is created if needed; return its path there.

    No file is overwritten. Nothing is done if the folder holds the same bytes already under that name.

    Raises
    ------
    OSError
        If it cannot be done; the original is unchanged.
    """
    os.makedirs(folder, exist_ok=True)
    while True:
        target, exists = target_path(path, folder)
        if exists:
            return target
        try:
            SORTERS[how](path, target)
        except FileExistsError:  # another process took the name
            continue
        return target
