"""Take away from a process what Linux has and macOS has not, before anything else is imported.

``CNNFILTER_TESTS_WITHOUT_LINUX=1 pytest tests/cli tests/jobs`` runs the tests and all their processes without it. The
name of the system stays, because Python's own modules choose by it what they call.
"""

from __future__ import annotations

import builtins
import errno
import mmap
import os
from typing import Any

VARIABLE = "CNNFILTER_TESTS_WITHOUT_LINUX"
FUNCTIONS = ("memfd_create", "posix_fallocate", "posix_fadvise", "sched_getaffinity", "sched_setaffinity")
"""The functions of `os` that macOS has not."""

READ_BY_OTHERS = ("/proc/self/maps", "/proc/self/status")
"""What threadpoolctl reads under this name of the system, and the memory that tests measure."""

_open = builtins.open


def _open_without_proc(file: Any, *more: Any, **others: Any) -> Any:
    hidden = isinstance(file, str) and file.startswith(("/proc/", "/sys/"))
    if hidden and file not in READ_BY_OTHERS:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file)
    return _open(file, *more, **others)


if os.environ.get(VARIABLE, "") not in ("", "0"):
    for _name in FUNCTIONS:
        if hasattr(os, _name):
            delattr(os, _name)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        del mmap.MADV_HUGEPAGE
    builtins.open = _open_without_proc
