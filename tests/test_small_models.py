"""The models that were trained here: small, and as good as their notice says."""

from __future__ import annotations

import os

import numpy as np
import pytest

from cnnfilter import evaluate, load_folder, load_model, models


def test_digits(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    assert os.path.getsize(models.path_of("digits")) <= 50_000
    digits = datasets.load_digits()
    pictures = np.round(digits.images * 255 / 16).astype(np.uint8)
    np.savez(tmp_path / "digits.npz", images=pictures, labels=digits.target)
    found = evaluate(load_model("digits"), load_folder(tmp_path / "digits.npz"), split="validation")
    assert len(found) == 359
    assert found.right >= 358


def test_digits_know_a_zero():
    """A ring such as the data's."""
    rows = ["00591100", "00b9b500", "03f20b80", "04c00880", "05800980", "04b01c70", "02e5ac00", "006da000"]
    picture = np.array([[17 * int(level, 16) for level in row] for row in rows], np.uint8)
    network = load_model("digits")
    assert network.classes[int(network.predict(picture)[0].argmax())] == "0"
    assert network.predict(picture)[0, 0] > 0.9
