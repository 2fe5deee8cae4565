"""Where compiled loops are kept: a folder of the user's own, which nobody else may write.

A cache of machine code is code. It is read only from a folder that belongs to this user and is closed
to all others, and each entry carries a checksum, so that a cut or changed file is a missing one.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress

from cnnfilter.runtime.atomic_files import replace_file

try:
    from _blake2 import blake2b  # what hashlib has it from, whose import loads OpenSSL too
except ImportError:
    from hashlib import blake2b

_MAGIC = b"cnnfilter loop 1\n"
_DIGEST_BYTES = 32


def cache_folder() -> str:
    """Return the folder of the compiled loops: in ``CNNFILTER_CACHE_DIR``, or the user's cache."""
    chosen = os.environ.get("CNNFILTER_CACHE_DIR")
    if chosen:
        return os.path.join(chosen, "loops")
    # platformdirs knows these places too, but its import takes a seventh of a whole run.
    if sys.platform == "darwin":
        caches = os.path.expanduser("~/Library/Caches")
    elif sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(caches, "cnnfilter", "loops")


def cache_key(parts: Iterable[str]) -> str:
    """Return one name for all that a compiled loop depends on."""
    digest = blake2b(digest_size=20)
    for part in parts:
        encoded = part.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def read_entry(key: str) -> bytes | None:
    """Return what was kept under `key`, or None if there is nothing that can be trusted."""
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
    whole = data[: len(_MAGIC)] == _MAGIC and data[len(_MAGIC) : start] == _digest(key, body)
    return body if whole else None


def write_entry(key: str, body: bytes) -> bool:
    """Keep `body` under `key`; return whether that was possible."""
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
    # Elsewhere than on POSIX systems the folder stands in the user's own profile.
    return os.name != "posix" or status.st_uid == os.geteuid()
