"""The picture that is begun before it is wanted: decoded on a thread while numpy and the filters are imported.

Nothing here needs numpy. Each format says what it can begin with a file's bytes, and takes it up again when it is
given them to read.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any, NamedTuple

from cnnfilter import limits

_FORMATS = {b"\xff\xd8\xff": "cnnfilter.jpeg_pixels", b"\x89PN": "cnnfilter.png_ahead"}
"""The modules that begin a file, by its first bytes."""


class _Begun(NamedTuple):
    path: str
    state: tuple[int, ...]
    data: bytes
    made: Any


_begun: _Begun | None = None


def begin(path: str, max_pixels: int) -> None:
    """Begin to decode a file, if its format can, unless memory is scarce. What is wrong with it, reading will find."""
    global _begun
    _begun = None
    if limits.is_memory_limited():
        return
    with contextlib.suppress(Exception), open(path, "rb", buffering=0) as file:
        head = file.read(3)
        if head in _FORMATS:
            module = importlib.import_module(_FORMATS[head])
            file.seek(0)
            data = file.readall()
            _begun = _Begun(path, _state(os.fstat(file.fileno())), data, module.begin(data, max_pixels))


def bytes_of(source: Any) -> bytes | None:
    """Return the bytes of a file that was begun; None if `source` is anything else, or another file by now."""
    if _begun is None or source != _begun.path:
        return None
    with contextlib.suppress(OSError):
        if _state(os.stat(source)) == _begun.state:
            return _begun.data
    return None


def _state(status: os.stat_result) -> tuple[int, ...]:
    """Return what tells one file, as it is, from any other."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def take(data: bytes) -> Any:
    """Return what was begun with these bytes, once; None if nothing was."""
    global _begun
    if _begun is None or _begun.data is not data:
        return None
    made, _begun = _begun.made, None
    return made
