"""Write a file so that at any time either the old or the complete new one is there."""

from __future__ import annotations

import atexit
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, BinaryIO

_temporary_paths: set[str] = set()
"""Hidden files that are being written."""

_is_exiting = False

_DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Error numbers of a full disk, an exceeded quota and an exceeded file size."""


@atexit.register
def _remove_temporary_files() -> None:
    """Remove the incomplete files of threads that still write when the process ends."""
    global _is_exiting
    _is_exiting = True
    while _temporary_paths:
        with suppress(OSError, KeyError):
            os.unlink(_temporary_paths.pop())


@contextmanager
def replace_file(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[BinaryIO]:
    """Open a binary file that replaces `path` when the block ends without an exception.

    The bytes go to a hidden temporary file beside the target (for a symbolic link, beside the file that it points
    to), which is flushed to the disk and then renamed. After an exception it is removed. A new file gets the
    permissions that the umask allows; a replaced one keeps its own.

    Raises
    ------
    FileExistsError
        `path` exists and `force` is false, also if it was created while the block ran.
    OSError
        The folder does not exist or cannot be written, or the disk is full; it names the file.
    """
    target, mode = _resolve(path)
    if mode and not force:
        raise FileExistsError(f"{os.fspath(path)!r} exists")
    if mode and not stat.S_ISREG(mode):  # a device or a named pipe: nothing to rename
        with _named_errors(path), open(target, "wb") as file:
            yield file
        return
    folder, name = os.path.split(target)
    # A file name may have 255 bytes, so the hidden one starts with a part of the name.
    temporary = os.path.join(folder, f".{name[:40]}.{os.urandom(6).hex()}.tmp")
    _temporary_paths.add(temporary)
    try:
        if _is_exiting:
            raise InterruptedError(errno.EINTR, "the process ends")
        with _named_errors(path, temporary):
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
            with os.fdopen(descriptor, "wb") as file:
                yield file
                flush(file)
            _move(temporary, target, force)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        _temporary_paths.discard(temporary)


def _resolve(path: str | os.PathLike[str]) -> tuple[str, int]:
    """Return the path behind symbolic links, and the mode of the file there: 0 if there is none."""
    target = os.fspath(path)
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return target, 0
    if not stat.S_ISLNK(mode):
        return target, mode
    target = os.path.realpath(target)
    return target, os.stat(target).st_mode if os.path.exists(target) else 0


@contextmanager
def _named_errors(path: str | os.PathLike[str], temporary: str | None = None) -> Iterator[None]:
    """Put `path` into errors that name no file, as on a full disk, or the hidden one."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL_ERRNOS if error.filename is None else error.filename == temporary:
            error.filename, error.filename2 = os.fspath(path), None
        raise


def write_all(stream: IO[bytes], data: bytes | memoryview) -> None:
    """Write all of `data`, also to an unbuffered stream, whose write() may take a part only.

    Standard output is unbuffered where PYTHONUNBUFFERED is set.
    """
    rest = memoryview(data)
    while rest:
        taken = stream.write(rest)
        if taken is None:  # a stream that returns no count has taken all
            return
        rest = rest[taken:]


def flush(file: BinaryIO) -> None:
    """Wait until the bytes written so far are on the disk; not for pipes and devices."""
    file.flush()
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        _sync(file.fileno())


def _sync(descriptor: int) -> None:
    """Wait until a file is on the disk. On macOS, fsync waits only until the disk has the bytes in its memory."""
    with suppress(ImportError, AttributeError, OSError):  # not macOS, or a file system that cannot
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined,unused-ignore]
        return
    os.fsync(descriptor)


def _move(temporary: str, target: str, force: bool) -> None:
    if force:
        with suppress(FileNotFoundError):
            os.chmod(temporary, os.stat(target).st_mode & 0o7777)
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)  # unlike a rename, it fails if the target was created meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(f"{target!r} exists") from None
        os.replace(temporary, target)
    else:
        os.unlink(temporary)
