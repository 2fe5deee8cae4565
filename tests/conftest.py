"""Fixtures and settings for every test."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

MANY = 1000
"""Tests of which some want nearly every loop."""

WITHOUT_LINUX = Path(__file__).with_name("without_linux")
"""The folder of a module that Python imports at its start, and that takes away what macOS has not."""

collect_ignore = ["without_linux"]  # a system may have a module sitecustomize of its own, as Debian has

if os.environ.get("CNNFILTER_TESTS_WITHOUT_LINUX", "") not in ("", "0"):
    runpy.run_path(str(WITHOUT_LINUX / "sitecustomize.py"))
    _start = subprocess.Popen.__init__

    def _start_without_linux(process, *line, env=None, **more):  # type: ignore[no-untyped-def]
        """Start a process that imports the module too, whatever path the test has set."""
        env = dict(os.environ if env is None else env)
        env["CNNFILTER_TESTS_WITHOUT_LINUX"] = "1"
        env["PYTHONPATH"] = os.pathsep.join([str(WITHOUT_LINUX), *filter(None, [env.get("PYTHONPATH")])])
        _start(process, *line, env=env, **more)

    subprocess.Popen.__init__ = _start_without_linux  # type: ignore[method-assign]


def pytest_configure() -> None:
    """Start child processes with default signals where the parent ignores them, as ``nohup`` and some CI systems do.

    An ignored signal stays ignored in a child; one that has a handler is set to its default when the child starts.
    """
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same on every run."""
    return np.random.default_rng(20_240_229)


@pytest.fixture(scope="session", autouse=True)
def _loops_are_compiled_meanwhile(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compile the loops on another core while the first of many tests run: it is half of the time without a cache."""
    if len(request.session.items) < MANY:
        yield
        return
    with subprocess.Popen([sys.executable, "-m", "cnnfilter", "warmup", "--quiet"]) as compiling:
        yield
        compiling.kill()
