"""The shipped network beside PyTorch's answers, and networks of every kind of layer beside a slow pass."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnfilter.weights
from cnnfilter import Network, activate, load_model, read_image
from cnnfilter.errors import ModelError, ShapeError
from cnnfilter.layers.layer import show_shape
from cnnfilter.layers.stack import parse_layers
from cnnfilter.networks.model_file import Backbone, Calibration
from cnnfilter.networks.network import load_first_layers
from cnnfilter.weights import checksum, path_of
from tests import naive
from tests.networks.test_model_file import save, small_model

SAMPLES = Path(__file__).parents[2] / "samples"
PHOTOS = {"chelsea": "chelsea.png", "coffee": "coffee.png", "rocket": "rocket.jpg", "camera": "camera.png"}
LABELS = {"chelsea": "tiger cat", "coffee": "espresso", "rocket": "missile", "camera": "tripod"}


@pytest.fixture(scope="module")
def lite0() -> Network:
    return load_model()


@pytest.fixture(scope="module")
def reference():
    """Inputs, pooled vectors and logits that PyTorch gave for the float32 weights."""
    with np.load(Path(__file__).parents[1] / "golden" / "lite0_reference.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize("photo", PHOTOS)
def test_lite0_gives_what_pytorch_gave(lite0, reference, photo):
    batch = ((reference[f"{photo}.input_u8"] - np.float32(127)) / np.float32(128))[None]
    logits = lite0.forward(batch)[0]
    wanted = reference[f"{photo}.logits"]
    assert np.abs(logits - wanted).max() < 0.1  # the weights that ship are rounded to float16
    assert list(np.argsort(-logits)[:5]) == list(np.argsort(-wanted)[:5])
    assert lite0.classes[logits.argmax()] == LABELS[photo]
    features = lite0.forward(batch, until=lite0.head).reshape(-1)
    np.testing.assert_allclose(features, reference[f"{photo}.features"], atol=0.1)


@pytest.mark.parametrize("photo", ["chelsea", "coffee", "camera"])
def test_lite0_prepares_as_it_was_trained(lite0, reference, photo):
    prepared = lite0.prepare(read_image(SAMPLES / PHOTOS[photo]))[0]
    np.testing.assert_array_equal(prepared * 128 + 127, reference[f"{photo}.input_u8"])


def test_probabilities_and_features(lite0, reference):
    photos = [read_image(SAMPLES / PHOTOS[name]) for name in ("chelsea", "coffee")]
    probabilities = lite0.predict(photos)
    assert probabilities.shape == (2, 1000)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    wanted = activate(reference["chelsea.logits"], "softmax")
    np.testing.assert_allclose(probabilities[0], wanted, atol=0.01)
    features = lite0.features(photos)
    assert features.shape == (2, 1280)
    np.testing.assert_allclose(features[1], reference["coffee.features"], atol=0.1)


def test_one_picture_or_several_in_any_form(lite0):
    photo = read_image(SAMPLES / "chelsea.png")
    once = lite0.predict(photo)
    assert once.shape == (1, 1000)
    for form in (photo.pixels, [photo], [photo.pixels], photo.pixels[None]):
        np.testing.assert_array_equal(lite0.predict(form), once)
    np.testing.assert_array_equal(lite0.predict(photo.pixels.astype(np.float64)), once)
    sixteen = lite0.predict(photo.pixels.astype(np.uint16) * 257)
    np.testing.assert_array_equal(sixteen, once)


def test_the_same_bits_for_any_threads_and_any_neighbours(lite0, rng):
    batch = rng.standard_normal((3, 224, 224, 3)).astype(np.float32)
    together = lite0.forward(batch, threads=2)
    for threads in (1, 2, 4):
        np.testing.assert_array_equal(lite0.forward(batch[1:2], threads=threads), together[1:2])
    np.testing.assert_array_equal(lite0.forward(batch, threads=1), together)


def test_other_batches_are_refused(lite0):
    for shape in ((1, 224, 224, 1), (224, 224, 3), (0, 224, 224, 3), (1, 100, 100, 3)):
        with pytest.raises(ShapeError, match=r"takes \(N, 224, 224, 3\)"):
            lite0.forward(np.zeros(shape, np.float32))
    with pytest.raises(ShapeError, match="no picture"):
        lite0.predict([])
    with pytest.raises(ModelError, match="has 22 layers, not 23"):
        lite0.forward(np.zeros((1, 224, 224, 3)), until=23)


def test_lite0_is_what_it_says(lite0):
    assert repr(lite0) == "<Network efficientnet-lite0: 22 layers, 1000 classes>"
    assert lite0.outputs == 1000
    assert len(set(lite0.classes)) == 1000
    assert lite0.classes[134] != lite0.classes[517]
    assert checksum(path_of(lite0.name)) in Path(cnnfilter.weights.__file__).with_name("NOTICE.txt").read_text()


# --- every kind of layer ---------------------------------------------------------------------------------

STACKS = {
    "conv 4x3x3 | relu | maxpool 2 | conv 6x2x3 stride=2 pad=valid | flatten | dense 3": (8, 9, 1),
    "conv 4x3x3 bias=no | batchnorm | relu6 | depthwise 3x3 stride=2 | batchnorm | leaky:0.1 | globalpool | dense 3": (
        8,
        8,
        3,
    ),
    "depthwise 5x5 bias=no | tanh | batchnorm | globalpool max | dense 3 bias=no | batchnorm | softmax": (7, 5, 3),
    "mbconv 3x3x3 expand=2 | mbconv 5x5x5 expand=1 stride=2 | avgpool 2 | dropout 0.5 | flatten | dense 3 | relu": (
        9,
        8,
        3,
    ),
    "gray | conv sobel-h blur | abs | conv 2x1x1 | sigmoid | flatten | dropout 0.1 | dense 3": (6, 6, 3),
}


def _slow(layer, weights, maps):
    """One layer on one picture, in float64."""
    if layer.name in ("conv", "depthwise") and layer.learned:
        down, across = layer.axes(*maps.shape[:2])
        kernel = weights["kernel"]
        pads = ((down.before, down.after), (across.before, across.after))

        def one(i, o):
            return naive.convolve(maps[:, :, [i]], kernel[:, :, i, o], layer.stride, pads, layer.dilation)[:, :, 0]

        if layer.name == "depthwise":
            result = [one(c, 0) for c in range(maps.shape[2])]
        else:
            result = [sum(one(i, o) for i in range(maps.shape[2])) for o in range(kernel.shape[3])]
        return np.stack(result, axis=-1) + weights.get("bias", 0)
    if layer.name == "mbconv":
        through = maps
        for part, stage in layer.stages(maps.shape).items():
            tensors = {name: weights[f"{part}.{name}"] for name in ("kernel", "bias")}
            through = _slow(stage, tensors, through)
            through = through if part == "project" else through.clip(0, 6)
        return through + maps if layer.residual(maps.shape) else through
    if layer.name == "dense":
        return maps.reshape(-1) @ weights["kernel"] + weights.get("bias", 0)
    if layer.name == "batchnorm":
        return maps * weights["scale"] + weights["shift"]
    return layer.forward(maps[None].astype(np.float32))[0].astype(float)


@pytest.mark.parametrize("text", STACKS)
def test_every_layer_beside_a_slow_pass(rng, text):
    shape = STACKS[text]
    model = small_model(rng, text, shape)
    network = Network(model)
    batch = rng.standard_normal((2, *shape)).astype(np.float32)
    for picture in range(2):
        maps = batch[picture].astype(float)
        for count, (layer, weights) in enumerate(zip(model.layers, model.weights, strict=True), 1):
            maps = _slow(layer, weights, maps)
            made = network.forward(batch, until=count)
            assert made.dtype == np.float32
            np.testing.assert_allclose(made[picture], maps, atol=1e-4, err_msg=f"after layer {count} {layer}")


def test_forward_stops_before_a_softmax_and_predict_has_it_once(rng):
    model = small_model(rng, "flatten | dense 3 | softmax", (2, 2, 1))
    network, plain = Network(model), Network(small_model(rng, "flatten | dense 3", (2, 2, 1)))
    plain.model = dataclasses.replace(plain.model, weights=model.weights[:2])
    batch = rng.standard_normal((1, 2, 2, 1))
    np.testing.assert_array_equal(network.forward(batch), plain.forward(batch))
    pixels = np.arange(4, dtype=np.uint8).reshape(2, 2)
    np.testing.assert_array_equal(network.predict(pixels), plain.predict(pixels))


def test_temperature_flattens_the_probabilities(rng):
    model = small_model(rng, "flatten | dense 3", (2, 2, 1))
    pixels = np.array([[0, 200], [90, 255]], np.uint8)
    logits = Network(model).forward(Network(model).prepare(pixels))
    warm = Network(dataclasses.replace(model, calibration=Calibration(temperature=4.0))).predict(pixels)
    np.testing.assert_allclose(warm, activate(logits / 4, "softmax"), rtol=1e-6)


# --- loading -------------------------------------------------------------------------------------------


def test_a_model_file_is_loaded_by_its_path(tmp_path, rng):
    path = save(tmp_path / "pets.safetensors", small_model(rng))
    network = load_model(path)
    assert (network.name, network.classes) == ("pets.safetensors", ("cat", "dog", "eel"))


def test_what_cannot_be_loaded_says_which(tmp_path):
    with pytest.raises(ModelError, match=r"no model 'lite9': there are efficientnet-lite0, .*, or a file's path"):
        load_model("lite9")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"model '.*broken.safetensors' is not a safetensors file, or cut \(7 bytes\)"):
        load_model(broken)
    with pytest.raises(ModelError, match="not a regular file"):
        load_model(tmp_path)


def test_a_head_stands_on_its_backbone(tmp_path, rng, lite0):
    file = path_of("efficientnet-lite0")
    backbone = Backbone("efficientnet-lite0", checksum(file), lite0.head)
    features = lite0.layers[: lite0.head].output_shape(lite0.input_shape)
    head = small_model(rng, "dense 3", features, backbone=backbone)
    network = load_model(save(tmp_path / "head.safetensors", head))
    assert str(network.layers) == f"{lite0.layers[: lite0.head]} | dense 3"
    photo = read_image(SAMPLES / "coffee.png")
    kernel, bias = (network.weights[-1][name] for name in ("kernel", "bias"))
    wanted = lite0.features(photo) @ kernel + bias
    np.testing.assert_allclose(network.forward(network.prepare(photo)), wanted, rtol=1e-3, atol=1e-4)

    for change, message in [
        ({"name": "resnet"}, "a head for 'resnet', which this cnnfilter does not have"),
        ({"sha256": "0" * 64}, "a head for another efficientnet-lite0 .sha256 000000000000…"),
        ({"layers": 3}, f"takes {show_shape(features)} numbers; its backbone gives 112x112x16"),
        ({"layers": 300}, "backbone has 22 layers, not 300"),
    ]:
        wrong = dataclasses.replace(head, backbone=dataclasses.replace(backbone, **change))
        with pytest.raises(ModelError, match=message):
            load_model(save(tmp_path / "wrong.safetensors", wrong))


def test_the_first_layers_of_a_network(lite0):
    first = load_first_layers("efficientnet-lite0[:3]")
    assert first is not None
    assert first.count == 3
    assert first.filter_name(5) == "efficientnet-lite0#3[5]"
    maps = first.maps(np.zeros((30, 40), np.uint8))
    assert maps.shape == (112, 112, 16)
    whole = load_first_layers("efficientnet-lite0")
    assert whole is not None
    assert whole.maps(np.zeros((30, 40), np.uint8)).shape == (1, 1, 1000)
    assert load_first_layers("relu") is None
    for count in (0, 23):
        with pytest.raises(ModelError, match=f"efficientnet-lite0 has 22 layers, not {count}"):
            load_first_layers(f"efficientnet-lite0[:{count}]")


def test_lite0_as_text_counts_what_the_paper_counts(lite0):
    assert str(parse_layers(str(lite0.layers))) == str(lite0.layers)
    shapes = list(lite0.layers.shapes(lite0.input_shape))
    parameters = sum(layer.parameters(shape) for layer, shape in zip(lite0.layers, shapes, strict=False))
    held = sum(math.prod(tensor.shape) for weights in lite0.weights for tensor in weights.values())
    # The source learned a scale and a shift for each of 21,008 maps of a convolution; only a bias is left of them.
    assert parameters == held == 4_652_008 - 21_008


def test_a_network_imports_no_filters_that_it_does_not_have():
    code = """if True:
        import sys
        from cnnfilter.networks.network import load_model
        load_model()
        print({"cnnfilter.filters.convolution.convolve", "cnnfilter.kernels.lookup", "cnnfilter.filters.pooling.pool",
        "PIL", "numba"} &
        set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
