"""Learned filters as kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnfilter
from cnnfilter import Network, convolve, find_kernel, load_model
from cnnfilter.errors import KernelError, ModelError
from cnnfilter.networks.learned_filters import draw_filters, filters_of
from cnnfilter.networks.model_file import Backbone
from cnnfilter.weights import checksum, path_of
from tests.networks.test_model_file import save, small_model


@pytest.fixture
def path(tmp_path, rng):
    text = "conv 4x3x5 | relu | depthwise 3x3 | mbconv 4x5x5 expand=2 | globalpool avg | dense 3"
    return str(save(tmp_path / "m.safetensors", small_model(rng, text)))


def test_a_filter_is_the_sum_over_its_maps(path):
    kernel = load_model(path).weights[0]["kernel"]
    found = find_kernel(f"{path}#1[2]")
    np.testing.assert_allclose(found.weights, kernel[:, :, :, 2].sum(axis=2), atol=1e-6)
    np.testing.assert_array_equal(find_kernel(f"{path}#1[2,1]").weights, kernel[:, :, 1, 2])
    assert found.name == f"{path}#1[2]"


def test_filters_of_one_map_each(path):
    network = load_model(path)
    np.testing.assert_array_equal(find_kernel(f"{path}#3[1]").weights, network.weights[2]["kernel"][:, :, 1, 0])
    np.testing.assert_array_equal(
        find_kernel(f"{path}#4[7]").weights, network.weights[3]["depthwise.kernel"][:, :, 7, 0]
    )


def test_it_filters_a_grey_picture_as_the_layer_does(rng):
    network = load_model()
    grey = rng.integers(0, 256, (224, 224), np.uint8)
    maps = network.forward(network.prepare(np.pad(grey, 16)), until=1)[0]
    same = network.forward(((np.repeat(grey[:, :, None], 3, axis=2) - 127.0) / 128)[None], until=1)[0]
    made = convolve((grey - np.float32(127)) / 128, "efficientnet-lite0#1[3]", stride=2, border="zero")
    np.testing.assert_allclose(made + network.weights[0]["bias"][3], same[:, :, 3], atol=1e-4)
    assert maps.shape == same.shape


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("#1[4]", "layer 1 has the filters 0 to 3"),
        ("#1[0,3]", "its filters have the maps 0 to 2"),
        ("#0[0]", "has the layers 1 to 6, not 0"),
        ("#7[0]", "has the layers 1 to 6, not 7"),
        ("#2[0]", "layer 2 of m.safetensors, 'relu', has no filters"),
        ("#6[0]", "layer 6 of m.safetensors, 'dense 3', has no filters"),
        ("#1", r"a learned filter is written MODEL#LAYER\[FILTER\]"),
        ("#1[x]", r"a learned filter is written MODEL#LAYER\[FILTER\]"),
    ],
)
def test_refusals(path, spec, message):
    with pytest.raises(KernelError, match=message):
        find_kernel(path + spec)


def test_filters_of_a_head_are_those_of_its_backbone(tmp_path, rng):
    head = load_model().head
    backbone = Backbone("efficientnet-lite0", checksum(path_of("efficientnet-lite0")), head)
    path = save(tmp_path / "h.safetensors", small_model(rng, "dense 3", (1280,), backbone=backbone))
    np.testing.assert_array_equal(find_kernel(f"{path}#1[5]").weights, find_kernel("efficientnet-lite0#1[5]").weights)
    with pytest.raises(KernelError, match=f"h.safetensors has the layers 1 to {head + 1}, not {head + 2}$"):
        find_kernel(f"{path}#{head + 2}[0]")
    with pytest.raises(KernelError, match=f"layer {head + 1} of h.safetensors, 'dense 3', has no filters"):
        find_kernel(f"{path}#{head + 1}[0]")


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (
            Backbone("efficientnet-lite9", "0" * 64, 3),
            "is a head for 'efficientnet-lite9', which this cnnfilter does not",
        ),
        (Backbone("efficientnet-lite0", "0" * 64, 3), "is a head for another efficientnet-lite0"),
    ],
)
def test_a_head_for_another_model_is_refused(tmp_path, rng, backbone, message):
    path = save(tmp_path / "h.safetensors", small_model(rng, "dense 3", (20,), backbone=backbone))
    with pytest.raises(KernelError, match=message):
        find_kernel(f"{path}#1[0]")


def test_one_tensor_is_read_and_no_network(path):
    code = f"import sys; from cnnfilter import find_kernel; find_kernel({path + '#1[2]'!r}); print(*sys.modules)"
    root = str(Path(cnnfilter.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert not {"cnnfilter.networks.network", "cnnfilter.layers.stack"} & set(done.stdout.decode().split())


def test_an_unknown_model_is_named():
    with pytest.raises(KernelError, match="no model 'lite7'"):
        find_kernel("lite7#1[0]")


def test_the_sheet_shows_every_filter_of_the_first_layer_that_has_some(rng):
    colour = draw_filters(Network(small_model(rng, "conv 4x3x3 | globalpool avg | dense 3"), "m"))
    assert (colour[:, :, 0] != colour[:, :, 1]).any()
    grey = draw_filters(Network(small_model(rng, "relu | depthwise 3x3 | globalpool avg | dense 3"), "m"))
    assert (grey[:, :, 0] == grey[:, :, 1]).all()
    with pytest.raises(ModelError, match="no layer of m has filters"):
        draw_filters(Network(small_model(rng, "flatten | dense 3"), "m"))


def test_filters_of_gives_height_width_maps_filters(path):
    assert filters_of(load_model(path), 1).shape == (3, 5, 3, 4)
    assert filters_of(load_model(path), 3).shape == (3, 3, 1, 4)
