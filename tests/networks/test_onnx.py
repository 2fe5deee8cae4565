"""Networks as ONNX: the same answers in onnxruntime, layer by layer and for whole models."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cnnfilter import load_model, parse_layers
from cnnfilter.errors import ModelError
from cnnfilter.networks.model_file import Calibration, Model, Preparation, tensor_shapes
from cnnfilter.networks.network import Network

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from cnnfilter.networks.onnx import export_onnx  # noqa: E402 - only where onnx is


def network(text: str, shape: tuple[int, int, int], rng: np.random.Generator, **more) -> Network:
    layers = parse_layers(text)
    weights: list[dict] = [{} for _ in layers]
    for name, size in tensor_shapes(layers, shape).items():
        number, _, tensor = name.partition(".")
        weights[int(number) - 1][tensor] = rng.normal(0, 0.3, size).astype(np.float32)
    preparation = Preparation("crop", 1.0, "bicubic", (100.0,), (50.0,))
    return Network(Model(layers, tuple(weights), shape, preparation=preparation, **more))


def run(data: bytes, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(["logits", "probabilities"], {"pictures": batch})


@pytest.mark.parametrize(
    "text",
    [
        "conv 4x3x3 stride=2 | relu | conv 3x2x5 pad=1,0,2,3 bias=no | leaky:0.2",
        "conv 4x3x3 dilation=2 pad=valid | batchnorm | tanh | flatten | batchnorm | dense 5",
        "depthwise 3x3 stride=2 bias=no | sigmoid | depthwise 2x3 | abs",
        "mbconv 3x3x3 expand=2 | mbconv 5x5x5 expand=1 stride=2 | relu6",
        "maxpool 3 stride=2 pad=1 ceil | minpool 2 | globalpool max | dense 3",
        "maxpool 2 dilation=2 stride=1 | avgpool 2 | globalpool avg | dense 3 bias=no",
        "avgpool 3 stride=2 pad=1 ceil | flatten | dropout 0.5 | dense 7 | softmax",
        "gray | conv sobel-h blur bias=3 | conv 2x3x3 | softmax",
        "conv sobel-h blur stride=2 border=zero | flatten | dense 2",
        "conv '1 2 3; 4 5 -6' pad=2,1,0,3 dilation=2,1 | flatten | dense 2",
        "conv gaussian:1 pad=valid | globalpool avg | dense 2",
        "conv gaussian:1 sharpen '1 2; 3 4' | globalpool avg | dense 4",
    ],
)
def test_layers_give_the_same(text, rng):
    made = network(text, (11, 12, 3), rng)
    batch = rng.normal(size=(3, 11, 12, 3)).astype(np.float32)
    logits, probabilities = run(export_onnx(made), batch)
    wanted = made.forward(batch).reshape(3, -1)
    np.testing.assert_allclose(logits, wanted, atol=2e-4 * np.abs(wanted).max())
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_sigmoid_gives_the_same(classes, temperature, rng):
    """Also with classes that PyTorch's convention names: one number is the probability of the second class."""
    numbers = 1 if classes == 2 else classes
    names = tuple("abc"[:classes])
    calibration = Calibration(temperature, 0.1)
    made = network(f"flatten | dense {numbers} | sigmoid", (4, 5, 1), rng, classes=names, calibration=calibration)
    pictures = rng.integers(0, 256, (6, 4, 5)).astype(np.uint8)
    logits, probabilities = run(export_onnx(made), made.prepare(list(pictures)))
    wanted = made.forward(made.prepare(list(pictures)))
    assert logits.shape == wanted.shape == (6, numbers)
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
    np.testing.assert_allclose(probabilities, made.predict(list(pictures)), atol=1e-6)
    np.testing.assert_allclose(probabilities[:, -1], 1 / (1 + np.exp(-wanted[:, -1] / temperature)), atol=1e-5)
    assert (np.abs(probabilities.sum(axis=1) - 1).max() < 1e-6) == (classes == 2)


def test_the_shipped_model_gives_the_same(rng):
    shipped = load_model()
    pictures = rng.integers(0, 256, (2, 40, 50, 3)).astype(np.uint8)
    logits, probabilities = run(export_onnx(shipped), shipped.prepare(list(pictures)))
    np.testing.assert_allclose(logits, shipped.forward(shipped.prepare(list(pictures))), atol=2e-3)
    np.testing.assert_allclose(probabilities, shipped.predict(list(pictures)), atol=1e-4)


def test_a_temperature_is_kept_and_the_file_tells_what_it_needs(rng):
    made = network("flatten | dense 2", (2, 2, 1), rng, classes=("a", "b"), calibration=Calibration(2.5, 0.6))
    data = export_onnx(made)
    picture = np.full((2, 2), 200, np.uint8)
    np.testing.assert_allclose(run(data, made.prepare(picture))[1], made.predict(picture), rtol=1e-5)
    properties = {entry.key: entry.value for entry in onnx.load_from_string(data).metadata_props}
    assert json.loads(properties["classes"]) == ["a", "b"]
    assert json.loads(properties["preparation"])["mean"] == [100.0]
    assert data == export_onnx(made)


@pytest.mark.parametrize("text", ["conv sobel | dense 2", "conv blur border=reflect | flatten | dense 2"])
def test_what_onnx_lacks_is_refused(text, rng):
    with pytest.raises(ModelError, match="ONNX has single kernels with zeros around only"):
        export_onnx(network(text if "flatten" in text else text.replace("|", "| flatten |"), (6, 6, 1), rng))
