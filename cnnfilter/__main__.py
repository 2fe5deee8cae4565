"""The process of the command line: ``python -m cnnfilter``, and the console script."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
import threading
from typing import NoReturn


def run() -> NoReturn:
    """Set up the process, run the command line, and end the process."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the command line handles it, Ctrl-C ends the process without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # OpenBLAS starts its threads when numpy is imported, and they would spin on the cores that filter the picture.
    # Matrix products run on the threads of cnnfilter (`cnnfilter.runtime.blas`).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imports make many objects and no garbage, so the collector would search them in vain (7 ms of CPU).
    # `cnnfilter.cli.reporter.collect_garbage` restores it after the imports.
    gc.set_threshold(1_000_000, 20, 20)
    from cnnfilter.cli import main

    try:
        main(prog_name="cnnfilter")
    except SystemExit as end:
        if not _is_watched() and isinstance(end.code, int):
            _leave(end.code)
        raise
    raise AssertionError("the command line always ends with an exit code")


def _is_watched() -> bool:
    """Return whether the interpreter has to end as usual: for a debugger, a profiler, or a thread that still runs."""
    monitoring = getattr(sys, "monitoring", None)  # cProfile registers there since Python 3.12, not as getprofile()
    return bool(
        sys.gettrace()
        or sys.getprofile()
        or (monitoring and any(monitoring.get_tool(number) for number in range(6)))
        or any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())
    )


def _leave(code: int) -> NoReturn:
    """End the process as the interpreter does, but without freeing each object (saves 32 ms of CPU)."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or a broken pipe, which was reported
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
