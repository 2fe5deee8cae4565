"""Copy, move or link a file into a folder of its label, and tell which names of files are possible or the same."""

from __future__ import annotations

import errno
import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

from cnnfilter.jobs.source_target import STDIN, STDOUT
from cnnfilter.runtime.atomic_files import replace_file

_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$"]
    + [f"{port}{number}" for port in ("com", "lpt") for number in "0123456789\u00b9\u00b2\u00b3"]
)


def is_device_name(name: str) -> bool:
    """Return whether Windows takes a name for a device, whatever its suffix is.

    References
    ----------
    https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file

    Examples
    --------
    >>> is_device_name("NUL.png"), is_device_name("com1"), is_device_name("console")
    (True, True, False)
    """
    return name.partition(".")[0].rstrip(" ").lower() in _DEVICES


def folder_name(label: str) -> str:
    """Return the name of a label's folder, which is valid on every file system.

    >>> folder_name("maillot, tank suit"), folder_name("a/b"), folder_name(".."), folder_name("con")
    ('maillot, tank suit', 'a_b', '_', '_con')
    """
    name = re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", label).strip(" .")[:100].rstrip(" .") or "_"
    return f"_{name}" if is_device_name(name) else name


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
            taken.setdefault(folded(name), label)
    for label, name in names.items():
        number = 1
        while taken.setdefault(folded(names[label]), label) != label:
            number += 1
            names[label] = f"{name}-{number}"
    return names


def folded(name: str) -> str:
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


# --- names of files on different systems: which are impossible, and which are the same file


def part_without_name(path: str) -> str | None:
    """Return a part of a path that Windows takes for a device or a stream, or would change, or None.

    ``NUL`` alone is the null device, which may be written to.
    """
    if path.lower() in (STDOUT, "nul"):
        return None
    import ntpath

    for part in ntpath.splitdrive(path)[1].replace("\\", "/").split("/"):
        is_changed = part not in (".", "..") and part != part.rstrip(" .")
        if is_changed or is_device_name(part) or set(part) & set('<>:"|?*'):
            return part
    return None


def ignores_case(folder: str) -> bool:
    """Return whether the file system of a folder takes ``A.png`` and ``a.png`` for one file.

    It is asked for a file of the folder by its name in the other case; for an empty or missing folder, for the folder
    itself.
    """
    path = os.path.realpath(folder or os.curdir)
    try:
        known = [os.path.join(path, name) for name in os.listdir(path)]
    except OSError:
        known = []
    for one in [*known, *_with_parents(path)]:
        parent, name = os.path.split(one)
        if name.swapcase() != name and os.path.lexists(one):
            other = os.path.join(parent, name.swapcase())
            return os.path.lexists(other) and os.path.samestat(os.lstat(one), os.lstat(other))
    return False


def _with_parents(path: str) -> Iterator[str]:
    while os.path.basename(path):
        yield path
        path = os.path.dirname(path)


def names_of_files(paths: Iterable[str]) -> dict[str, str]:
    """Return a name for each path that is the same for the same file, also where the file system ignores case."""
    names = {path: path if path in (STDIN, STDOUT) else os.path.realpath(path) for path in paths}
    folds = {name: folded(name) for name in set(names.values())}
    counts = Counter(folds.values())
    shared = {name for name, fold in folds.items() if counts[fold] > 1 and ignores_case(os.path.dirname(name))}
    return {path: folds[name] if name in shared else name for path, name in names.items()}
