"""The process around the command line: its settings, and its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PHOTO = str(ROOT / "samples" / "coffee.png")


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


START = "import sys; sys.argv = ['cnnfilter', *sys.argv[1:]]; from cnnfilter.__main__ import run\n"
AT_EXIT = START + "import atexit; atexit.register(print, 'at exit'); sys.stdout.write('waiting '); run()"


def test_exit_handlers_and_buffers_are_served_at_the_end() -> None:
    ended = run("-c", AT_EXIT, "--version", PYTHONUNBUFFERED="")
    assert ended.returncode == 0
    assert ended.stdout.startswith("waiting cnnfilter ")
    assert ended.stdout.endswith("at exit\n")


@pytest.mark.parametrize(("arguments", "code"), [(["--nonsense"], 2), (["convolve", "none.png", "-k", "sharpen"], 1)])
def test_the_exit_code_is_that_of_the_command_line(arguments: list[str], code: int) -> None:
    ended = run("-m", "cnnfilter", *arguments)
    assert ended.returncode == code
    assert "Error" in ended.stderr
    assert "Traceback" not in ended.stderr


LAST = "import os\nclass Last:\n    def __del__(self, write=os.write): write(1, b'taken apart')\nlast = Last()\n"


@pytest.mark.parametrize("has_thread", [False, True])
def test_objects_are_freed_at_the_end_only_while_a_thread_runs(has_thread: bool) -> None:
    watch = "import threading, time; threading.Thread(target=time.sleep, args=[0.3]).start()\n" if has_thread else ""
    assert run("-c", START + LAST + watch + "run()", "--version").stdout.endswith("taken apart") == has_thread


def test_a_profiler_prints_its_profile() -> None:
    assert "function calls" in run("-m", "cProfile", "-m", "cnnfilter", "--version").stdout


def test_the_blas_has_one_thread_unless_the_environment_says_another_number() -> None:
    tell = (
        "import atexit\ndef tell():\n    from threadpoolctl import threadpool_info\n"
        "    print([one['num_threads'] for one in threadpool_info() if one['internal_api'] == 'openblas'])\n"
        "atexit.register(tell)\n"
    )
    command = ["-c", START + tell + "run()", "convolve", PHOTO, "-k", "sharpen", "-o", os.devnull, "--force", "-q"]
    assert run(*command, "-f", "ppm").stdout in ("[1]\n", "[]\n")
    if (os.cpu_count() or 1) > 1:
        assert run(*command, "-f", "ppm", OPENBLAS_NUM_THREADS="2").stdout in ("[2]\n", "[]\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--version"], "1000000 False"), (["convolve", PHOTO, "-k", "blur", "-o"], "20000 True")],
)
def test_garbage_is_collected_after_the_imports(tmp_path: Path, arguments: list[str], expected: str) -> None:
    tell = "print(gc.get_threshold()[0], gc.get_freeze_count() > 5000)"  # Python 3.12 freezes some hundred itself
    watch = f"import atexit, gc; atexit.register(lambda: {tell}); run()"
    output = [str(tmp_path / "a.png")] if "-o" in arguments else []
    assert run("-c", START + watch, *arguments, *output).stdout.splitlines()[-1] == expected
