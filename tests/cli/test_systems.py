"""Commands on other systems, which are stood in for: what macOS and Windows have not is taken away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnfilter
from cnnfilter.images.files import write_image

ROOT = Path(cnnfilter.__file__).parents[1]
WITHOUT_LINUX = Path(__file__).parents[1] / "without_linux"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# --- macOS


@pytest.mark.parametrize("suffix", ["png", "jpg", "npy", "tiff"])
def test_without_what_only_linux_has_the_results_are_the_same(rng, suffix):
    write_image(f"in.{suffix}", rng.integers(0, 256, (40, 50, 3), np.uint8))
    results = []
    for path in ([], [str(WITHOUT_LINUX)]):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([*path, str(ROOT)]),
            "CNNFILTER_TESTS_WITHOUT_LINUX": "1" if path else "",
        }
        line = ["convolve", f"in.{suffix}", "-k", "gaussian", "-o", f"out.{suffix}", "--force"]
        done = subprocess.run(
            [sys.executable, "-m", "cnnfilter", *line], env=environment, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        results.append(Path(f"out.{suffix}").read_bytes())
    assert results[0] == results[1]


def test_the_stand_in_takes_away_what_it_names():
    program = "import os, mmap; print(hasattr(os, 'memfd_create'), os.path.exists('x'))\nopen('/proc/cpuinfo')"
    environment = os.environ | {"PYTHONPATH": str(WITHOUT_LINUX), "CNNFILTER_TESTS_WITHOUT_LINUX": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "False False\n"
    assert "FileNotFoundError" in done.stderr
