"""The best labels, and labels by pattern."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from cnnfilter import Network
from cnnfilter.errors import ModelError
from cnnfilter.networks.labels import UNKNOWN_LABEL, Label, best_labels, find_labels
from cnnfilter.networks.model_file import Calibration
from tests.networks.test_model_file import small_model


@pytest.fixture
def network(rng) -> Network:
    return Network(small_model(rng, classes=("tabby cat", "Maltese dog", "eel")), "pets")


def test_the_likeliest_first_and_equal_ones_in_the_models_order(network):
    found = best_labels(network, np.array([0.25, 0.5, 0.25], np.float32))
    assert found == [Label("Maltese dog", 1, 0.5), Label("tabby cat", 0, 0.25), Label("eel", 2, 0.25)]
    assert best_labels(network, np.array([0.25, 0.5, 0.25], np.float32), top=1) == found[:1]


def test_below_the_threshold_a_label_is_unknown(network, rng):
    probabilities = np.array([0.25, 0.5, 0.25], np.float32)
    assert best_labels(network, probabilities, threshold=0.51) == [Label(UNKNOWN_LABEL, None, 0.5)]
    assert best_labels(network, probabilities, threshold=0.5)[0].label == "Maltese dog"
    strict = Network(small_model(rng, calibration=Calibration(threshold=0.6)))
    assert best_labels(strict, probabilities)[0].label == UNKNOWN_LABEL
    assert best_labels(strict, probabilities, threshold=0)[0].label == "dog"


def test_outputs_without_names_are_numbers(rng):
    network = Network(small_model(rng, classes=()))
    assert best_labels(network, np.array([0.1, 0.1, 0.8], np.float32), top=1)[0].label == "2"


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_labels_are_found_in_either_unicode_form(rng, forms):
    label, pattern = (unicodedata.normalize(form, "Kn\xf6del") for form in forms)
    network = Network(small_model(rng, classes=(label, "a", "b")), "food")
    assert find_labels(network, [pattern]) == find_labels(network, [pattern[:2] + "*"]) == {label}


def test_patterns(network):
    assert find_labels(network, ["TABBY CAT"]) == {"tabby cat"}
    assert find_labels(network, ["*dog", "e?l"]) == {"Maltese dog", "eel"}
    assert find_labels(network, ["unknown"]) == {UNKNOWN_LABEL}
    with pytest.raises(ModelError, match="pets has no label 'dog'; did you mean 'Maltese dog'"):
        find_labels(network, ["eel", "dog"])
    with pytest.raises(ModelError, match=r"pets has no label 'xyzzy'$"):
        find_labels(network, ["xyzzy"])
