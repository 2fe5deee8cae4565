"""Every test here runs commands in an empty folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

import cnnfilter


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(cnnfilter.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)
    return tmp_path
