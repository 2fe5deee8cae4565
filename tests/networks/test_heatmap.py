"""Class activation maps: exact shares, and where they are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter import Image, Network
from cnnfilter.errors import ModelError
from cnnfilter.networks.heatmap import activation_map, explain, lay_over, layers_before_mean
from cnnfilter.networks.model_file import Preparation
from tests.networks.test_model_file import small_model


@pytest.mark.parametrize(
    "ending", ["globalpool avg | dense 3", "globalpool | flatten | dropout 0.2 | dense 3 | softmax"]
)
def test_the_mean_of_the_shares_is_the_number_before_the_softmax(rng, ending):
    network = Network(small_model(rng, f"conv 4x3x3 | relu | {ending}"))
    batch = rng.standard_normal((1, 8, 8, 3)).astype(np.float32)
    maps = network.forward(batch, until=layers_before_mean(network))[0]
    logits = network.forward(batch)[0]
    for label in range(3):
        shares = activation_map(network, maps, label)
        assert shares.shape == (8, 8)
        bias = network.weights[network.head]["bias"][label]
        np.testing.assert_allclose(shares.mean() + bias, logits[label], rtol=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        "conv 4x3x3 | globalpool max | dense 3",
        "flatten | dense 3",
        "globalpool avg | dense 5 | relu | dense 3",
        "globalpool avg | dense 3 | relu",
    ],
)
def test_other_networks_have_none(rng, text):
    with pytest.raises(ModelError, match="has no heat map: that needs 'globalpool avg'"):
        layers_before_mean(Network(small_model(rng, text)))


def test_the_place_that_speaks_for_the_label_is_the_brightest_and_the_margin_is_dark(rng):
    model = small_model(rng, input_shape=(4, 4, 3), preparation=Preparation("crop", 0.5))
    heat = np.full((2, 2), -1, np.float32)
    heat[0, 1] = 3
    grey = Image(np.full((40, 60, 3), 128, np.uint8), "RGB")
    laid = lay_over(grey, heat, Network(model)).pixels
    assert laid.shape == (40, 60, 3)
    assert laid.dtype == np.uint8
    light = laid.sum(axis=2)
    y, x = np.unravel_index(light.argmax(), light.shape)
    assert 10 <= y < 20
    assert 30 <= x < 40
    np.testing.assert_array_equal(laid[:10], np.broadcast_to(laid[0, 0], (10, 60, 3)))
    assert int(light[0, 0]) <= int(light.min()) + 3 < 3 * 128


def test_a_map_without_any_share_is_dark_all_over(rng):
    laid = lay_over(
        Image(np.full((8, 8, 1), 200, np.uint8), "L"), np.full((2, 2), -1, np.float32), Network(small_model(rng))
    )
    assert len(np.unique(laid.pixels.reshape(-1, 3), axis=0)) == 1


def test_explain_gives_what_predict_gives(rng):
    network = Network(small_model(rng))
    photo = Image(rng.integers(0, 256, (12, 10, 3), np.uint8), "RGB")
    probabilities, laid = explain(network, photo)
    np.testing.assert_array_equal(probabilities, network.predict(photo)[0])
    assert laid.pixels.shape == (12, 10, 3)
