"""The cache of compiled loops: a private folder of the user.

Machine code that is loaded is executed. So the cache is read only if its folder belongs to this user and is closed to
all others; each entry has a checksum, and an entry that was cut or changed counts as missing.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress

from cnnfilter.runtime.atomic_files import replace_file

try:
    from _blake2 import blake2b  # hashlib has it too, but imports OpenSSL
except ImportError:
    from hashlib import blake2b

_MAGIC = b"cnnfilter loop 1\n"
_DIGEST_BYTES = 32


def cache_folder() -> str:
    """Return the folder of the compiled loops, in ``CNNFILTER_CACHE_DIR`` or in the user's cache folder."""
    chosen = os.environ.get("CNNFILTER_CACHE_DIR")
    if chosen:
        return os.path.join(chosen, "loops")
    # The same folders as of platformdirs, whose import would take a seventh of a whole run.
    if sys.platform == "darwin":
        caches = os.path.expanduser("~/Library/Caches")
    elif sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(caches, "cnnfilter", "loops")


def cache_key(parts: Iterable[str]) -> str:
    """Return the name of an entry: a hash of all that the compiled loop depends on."""
    digest = blake2b(digest_size=20)
    for part in parts:
        encoded = part.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def read_entry(key: str) -> bytes | None:
    """Return the bytes that are stored under `key`, or None if there is no such entry, or none to be trusted."""
    folder = cache_folder()
    if not _is_private(folder):
        return None
    try:
        with open(os.path.join(folder, key), "rb") as file:
            if not _is_ours(os.fstat(file.fileno())):
                return None
            data = file.read()
    except OSError:
        return None
    start = len(_MAGIC) + _DIGEST_BYTES
    body = data[start:]
    intact = data[: len(_MAGIC)] == _MAGIC and data[len(_MAGIC) : start] == _digest(key, body)
    return body if intact else None


def write_entry(key: str, body: bytes) -> bool:
    """Store `body` under `key`; return whether that was possible."""
    folder = cache_folder()
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        if not _is_private(folder):
            return False
        with replace_file(os.path.join(folder, key), force=True) as file:
            file.write(_MAGIC + _digest(key, body) + body)
    except OSError:
        return False
    return True


def _digest(key: str, body: bytes) -> bytes:
    return blake2b(body, digest_size=_DIGEST_BYTES, key=key.encode()).digest()


def _is_private(folder: str) -> bool:
    try:
        status = os.lstat(folder)
    except OSError:
        return False
    closed = os.name != "posix" or not status.st_mode & 0o077
    return stat.S_ISDIR(status.st_mode) and closed and _is_ours(status)


def _is_ours(status: os.stat_result) -> bool:
    # On systems other than POSIX, the folder is in the user's profile.
    return os.name != "posix" or status.st_uid == os.geteuid()
