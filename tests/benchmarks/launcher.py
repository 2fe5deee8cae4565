"""Starts programs for the benchmarks, and tells how long they took and how much memory they held.

It runs as a process of its own that has imported next to nothing: Linux counts into a child's peak memory
what its parent held when the child began, and a parent of half a gigabyte is slow to start children.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time


def serve() -> None:
    """Answer each line of stdin, a command in JSON, with a line on stdout."""
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)


def run(command: list[str], environment: dict[str, str], folder: str) -> dict[str, object]:
    """Run a program to its end: its seconds, its peak memory in bytes, what it said, its exit code."""
    with open(os.devnull, "r+b") as nothing:
        began = time.perf_counter()
        child = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE
        )
        assert child.stderr
        said = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        child.stderr.close()
    return {
        "seconds": seconds,
        "processor": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss * 1024,  # Linux counts in KiB
        "said": said.decode(errors="replace")[-2000:],
        "code": child.returncode,
    }


if __name__ == "__main__":
    serve()
