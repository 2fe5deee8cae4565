"""Copy, move or link a file into a folder of its label."""

from __future__ import annotations

import errno
import os
import re
import shutil

from cnnfilter.runtime.atomic_files import replace_file


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
