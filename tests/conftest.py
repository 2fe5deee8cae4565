"""What every test may use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

MANY = 1000
"""Tests of which some want nearly every loop."""


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
