"""The models that were trained here: small, and as good as their notice says."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from cnnfilter import evaluate, load_folder, load_model, weights

FASHION = "/usr/share/datasets/fashion-mnist"  # where Debian's package dataset-fashion-mnist puts it


def test_fashion():
    assert os.path.getsize(weights.path_of("fashion")) <= 600_000
    network = load_model("fashion")
    assert network.classes[0] == "T-shirt/top"
    assert len(network.classes) == 10
    if not os.path.isdir(FASHION):
        pytest.skip("dataset-fashion-mnist is not installed")
    data = load_folder(FASHION, validation=0)
    some = data.test.take(np.arange(0, 10_000, 10))
    found = evaluate(network, dataclasses.replace(data, splits={"test": some}))
    assert found.accuracy > 0.91


def test_fashion_knows_trousers_without_any_data():
    """Two legs, drawn by hand."""
    picture = np.zeros((28, 28), np.uint8)
    picture[2:7, 9:19] = 190
    picture[7:27, 9:13] = picture[7:27, 15:19] = 180
    network = load_model("fashion")
    assert network.classes[int(network.predict(picture)[0].argmax())] == "trouser"


def test_digits(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    assert os.path.getsize(weights.path_of("digits")) <= 50_000
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
