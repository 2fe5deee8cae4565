"""The cache of compiled loops: a folder that belongs to the user, or to the administrator.

Machine code that is loaded is executed. So an entry is read only if the entry and its folder belong to this user or to
root, and no other user may write them. Each entry begins with its key, the machine and the loop that it is for, and has
a checksum of all its bytes: an entry that was cut, changed or renamed, or that comes from another machine, counts as
missing. An entry that no run has read for `MAX_UNUSED_SECONDS` is removed.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from cnnfilter.runtime.atomic_files import replace_file

try:
    from _blake2 import blake2b  # hashlib has it too, but imports OpenSSL
except ImportError:
    from hashlib import blake2b

LOOPS, PROCESSORS = "loops", "processors"
"""The folders of the cache: machine code, and what LLVM has told of processors."""

MAX_UNUSED_SECONDS = 90 * 86_400
"""Seconds after which an entry that no run has read is removed: versions and processors change a few times a year."""

TOUCH_SECONDS = 10 * 86_400
"""Seconds after which reading an entry sets its time anew; each run would have to write to the disk otherwise."""

MAX_UNFINISHED_SECONDS = 86_400
"""Seconds after which a hidden file, which a process that was killed has left, is removed."""

_MAGIC = b"cnnfilter loop 2\n"  # the first bytes of an entry; other formats of entries get another number
_DIGEST_BYTES = 32  # the checksum of an entry, BLAKE2b with 256 bits
_cleaned: set[str] = set()
"""The folders that this process has searched for old entries."""


def cache_folder(kind: str = LOOPS) -> str:
    """Return the folder of the compiled loops, in ``CNNFILTER_CACHE_DIR`` or in the user's cache folder."""
    chosen = os.environ.get("CNNFILTER_CACHE_DIR")
    if chosen:
        return os.path.join(chosen, kind)
    # The same folders as of platformdirs, whose import would take a seventh of a whole run.
    if sys.platform == "darwin":
        caches = os.path.expanduser("~/Library/Caches")
    elif sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(caches, "cnnfilter", kind)


def cache_key(parts: Iterable[str]) -> str:
    """Return the name of an entry: a hash of all that the compiled loop depends on."""
    digest = blake2b(digest_size=20)
    for part in parts:
        encoded = part.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def machine() -> str:
    """Return the system, its architecture, and the bits of an address."""
    # Windows has no uname, and names there the architecture of the process, not of the system.
    architecture = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
    return f"{sys.platform} {architecture} {sys.maxsize.bit_length() + 1}"


def read_entry(key: str, kind: str = LOOPS) -> bytes | None:
    """Return the bytes that are stored under `key`, or None if there is no such entry, or none to be trusted."""
    folder = cache_folder(kind)
    path = os.path.join(folder, key)
    try:
        if _distrust(os.lstat(folder), stat.S_ISDIR):
            return None
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if _distrust(status, stat.S_ISREG):
                return None
            data = file.read()
    except OSError:
        return None
    start = len(_MAGIC) + _DIGEST_BYTES
    if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) : start] != _digest(key, data[start:]):
        return None
    written_for, _, rest = data[start:].partition(b"\n")
    if written_for != f"{key} {machine()}".encode():
        return None
    if time.time() - status.st_mtime > TOUCH_SECONDS:
        with suppress(OSError):
            os.utime(path)
    return rest.partition(b"\n")[2]


def write_entry(key: str, body: bytes, kind: str = LOOPS, *, about: str = "") -> bool:
    """Store `body` under `key`; return whether that was possible. `about` is a line for a reader of the file."""
    return why_not_written(key, body, kind, about=about) is None


def why_not_written(key: str, body: bytes, kind: str = LOOPS, *, about: str = "") -> str | None:
    """Store `body` under `key`; return None, or the reason why that was not possible."""
    folder = cache_folder(kind)
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        distrust = _distrust(os.lstat(folder), stat.S_ISDIR)
        if distrust:
            return distrust
        with replace_file(os.path.join(folder, key), force=True) as file:
            if hasattr(os, "fchmod"):  # whatever the umask is, others may not write
                os.fchmod(file.fileno(), os.fstat(file.fileno()).st_mode & 0o755)
            content = f"{key} {machine()}\n{about}\n".encode("utf-8", "replace") + body
            file.write(_MAGIC + _digest(key, content) + content)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if folder not in _cleaned:
        _cleaned.add(folder)
        _remove_unused(folder)
    return None


def has_entry(key: str) -> bool:
    """Return whether there is a file for `key`, which may be of no use."""
    return os.path.exists(os.path.join(cache_folder(), key))


def remove_entries(keep: Iterable[str]) -> int:
    """Remove all compiled loops but those under the keys `keep`, and return how many there were."""
    folder, removed = cache_folder(), 0
    with suppress(OSError):
        if not _distrust(os.lstat(folder), stat.S_ISDIR):
            for name in set(os.listdir(folder)) - set(keep):
                with suppress(OSError):
                    os.unlink(os.path.join(folder, name))
                    removed += 1
    return removed


def open_to_readers() -> None:
    """Let other users read the compiled loops, as far as the umask allows: a server can run as another user."""
    mask = os.umask(0o077)
    os.umask(mask)
    for kind in (LOOPS, PROCESSORS):
        with suppress(OSError):
            folder = cache_folder(kind)
            if not _distrust(os.lstat(folder), stat.S_ISDIR):
                os.chmod(folder, 0o755 & ~mask)


def _remove_unused(folder: str) -> None:
    now = time.time()
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            limit = MAX_UNFINISHED_SECONDS if entry.name.startswith(".") else MAX_UNUSED_SECONDS
            with suppress(OSError):
                if now - entry.stat(follow_symlinks=False).st_mtime > limit:
                    os.unlink(entry.path)


def _digest(key: str, content: bytes) -> bytes:
    return blake2b(content, digest_size=_DIGEST_BYTES, key=key.encode()).digest()


def _distrust(status: os.stat_result, is_of_kind: Callable[[int], bool]) -> str | None:
    """Return why a folder or file of the cache is not to be trusted, or None."""
    if not is_of_kind(status.st_mode):
        return "it is a link, or no folder"
    if os.name != "posix":  # the folder is in the user's profile
        return None
    if status.st_uid not in (0, os.geteuid()):
        return "it belongs to another user"
    return "others may write it" if status.st_mode & 0o022 else None
