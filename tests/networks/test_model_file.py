"""Model files: what is written is read, and each rule that is broken is named."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest

from cnnfilter import convolve, load_model, parse_layers
from cnnfilter.errors import ModelError
from cnnfilter.networks.model_file import (
    Backbone,
    Calibration,
    Model,
    Preparation,
    read_model,
    tensor_shapes,
    write_model,
)
from cnnfilter.weights.safetensors import TensorFile, write_tensors

LAYERS = "conv 4x3x3 stride=2 | batchnorm | relu | globalpool avg | dense 3 bias=no"


def small_model(rng, text=LAYERS, input_shape=(8, 8, 3), classes=("cat", "dog", "eel"), **more):
    """A small network with weights."""
    layers = parse_layers(text)
    weights = [{} for _ in layers]
    for name, shape in tensor_shapes(layers, input_shape).items():
        number, _, tensor = name.partition(".")
        weights[int(number) - 1][tensor] = (rng.standard_normal(shape) / 2).astype(np.float32)
    return Model(layers, tuple(weights), input_shape, classes, **more)


def save(path, model, **options):
    with open(path, "wb") as file:
        write_model(file, model, **options)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_written_is_read(tmp_path, rng, dtype):
    model = small_model(
        rng,
        preparation=Preparation("squash", 1.0, "bilinear", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (-0.5, 0.5)),
        provenance="made up, für Tests",
        calibration=Calibration(1.5, 0.25),
    )
    read = read_model(save(tmp_path / "m", model, dtype=dtype))
    assert dataclasses.replace(read, weights=()) == dataclasses.replace(model, weights=())
    for ours, theirs in zip(read.weights, model.weights, strict=True):
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            assert tensor.dtype == np.float32
            np.testing.assert_array_equal(tensor, theirs[name].astype(dtype).astype(np.float32))


def test_a_head_names_its_backbone(tmp_path, rng):
    model = small_model(rng, "dense 3", (20,), backbone=Backbone("efficientnet-lite0", "0" * 64, 21))
    assert read_model(save(tmp_path / "m", model)).backbone == Backbone("efficientnet-lite0", "0" * 64, 21)


def test_the_same_model_gives_the_same_bytes(rng):
    model = small_model(rng)
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        write_model(file, model)
    assert files[0].getvalue() == files[1].getvalue()


def _parts(rng):
    """Metadata and tensors of a right file."""
    file = io.BytesIO()
    write_model(file, small_model(rng))
    data = file.getvalue()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    tensors = {
        name: np.frombuffer(data, "<f2", np.prod(entry["shape"], dtype=int), 8 + length + entry["data_offsets"][0])
        .reshape(entry["shape"])
        .copy()
        for name, entry in header.items()
    }
    return metadata, tensors


METADATA = {
    "no format": ({"format": None}, "not a model of cnnfilter"),
    "another format": ({"format": "pt"}, "not a model of cnnfilter"),
    "no version": ({"version": None}, "version 'none'; this cnnfilter reads version 1"),
    "another version": ({"version": "2"}, "version '2'; this cnnfilter reads version 1"),
    "no layers": ({"layers": None}, "lacks 'layers'"),
    "no provenance": ({"provenance": None}, "lacks 'provenance'"),
    "an unknown field": ({"more": "x"}, "has 'more'"),
    "no such layer": ({"layers": "conw 4x3x3"}, "layers cannot be read: layer 1 'conw 4x3x3'"),
    "too many layers": ({"layers": " | ".join(["relu"] * 1001)}, "more than 1000 layers"),
    "too long layers": ({"layers": "relu " * 20_000}, "layers are 100,000 characters long; 65,536 is the limit"),
    "layers that do not fit": ({"layers": "flatten | conv 4x3x3"}, "layers do not fit together: layer 2"),
    "no shape": ({"input": "8x8"}, "input '8x8' is not HxWxC"),
    "a shape of 0": ({"input": "0x8x3"}, "input '0x8x3'"),
    "a huge shape": ({"input": "9999x9999x3"}, "input '9999x9999x3'"),
    "a shape for heads": ({"input": "8"}, "input '8'"),
    "huge maps": ({"layers": "conv 9999x1x1", "input": "4000x4000x3"}, "more than 268,435,456 numbers"),
    "classes no json": ({"classes": "cat,dog"}, "classes is not JSON"),
    "classes too deep": ({"classes": "[" * 100_000}, "classes is not JSON"),
    "classes no list": ({"classes": '{"a": 1}'}, "classes are not a list of names"),
    "classes no names": ({"classes": "[1, 2, 3]"}, "classes are not a list of names"),
    "an empty class": ({"classes": '["a", "b", ""]'}, "classes are not a list of names"),
    "two classes of one name": ({"classes": '["a", "b", "a"]'}, "two classes 'a'"),
    "a class too few": ({"classes": '["a", "b"]'}, "has 2 classes, but its layers give 3 numbers"),
    "preparation no json": ({"preparation": "{"}, "preparation is not JSON"),
    "preparation without a field": ({"preparation": '{"fit": "crop"}'}, "preparation does not have the fields"),
    "calibration of 0": ({"calibration": '{"temperature": 0, "threshold": 0}'}, "a temperature above 0"),
    "calibration of text": ({"calibration": '{"temperature": "1", "threshold": 0}'}, "a temperature above 0"),
    "a backbone by path": (
        {"backbone": json.dumps({"name": "../x", "sha256": "0" * 64, "layers": 1})},
        "backbone is not a name",
    ),
    "a backbone without a sum": ({"backbone": '{"name": "x", "sha256": "0", "layers": 1}'}, "backbone is not a name"),
}


@pytest.mark.parametrize("what", METADATA)
def test_broken_metadata(tmp_path, rng, what):
    changes, message = METADATA[what]
    metadata, tensors = _parts(rng)
    metadata = {name: text for name, text in (metadata | changes).items() if text is not None}
    _refused(tmp_path, tensors, metadata, message)


@pytest.mark.parametrize(
    "kernel", ["@k.txt", "k.npy", "./k", "/dev/zero", "m.safetensors#1[0]", "here", "'1 2;@k.txt'", "[[1]]"]
)
def test_no_kernel_of_another_file(tmp_path, rng, monkeypatch, kernel):
    monkeypatch.chdir(tmp_path)
    for name in ("k.txt", "k.npy", "k", "here"):
        (tmp_path / name).write_text("1 2 1")
    metadata, tensors = _parts(rng)
    layers = f"conv sobel-h {kernel} | {metadata['layers']}"
    _refused(tmp_path, tensors, metadata | {"layers": layers}, "neither a kernel's name nor numbers")


def test_fixed_kernels_are_part_of_a_model(tmp_path, rng):
    text = "gray | conv sobel-h gaussian:1.4 '1/9 -2 1e-3; 0 1 0' stride=2 | flatten | dense 3"
    model = small_model(rng, text)
    assert str(read_model(save(tmp_path / "m", model)).layers) == str(model.layers)


def test_the_border_of_fixed_kernels_is_written_and_without_one_it_is_zero(tmp_path, rng):
    """Files of earlier versions name no border, and were trained with zeros around the maps."""
    text = "conv sobel-h | flatten | dense 3"
    model = small_model(rng, text)
    path = save(tmp_path / "new", model)
    with TensorFile(path) as file:
        metadata, tensors = file.metadata, {name: file.read(name) for name in file.entries}
    assert metadata["layers"] == "conv sobel-h border=replicate | flatten | dense 3"
    assert str(read_model(path).layers) == text
    with open(tmp_path / "old", "wb") as target:
        write_tensors(target, tensors, metadata | {"layers": text})
    old = read_model(tmp_path / "old")
    assert str(old.layers) == "conv sobel-h border=zero | flatten | dense 3"
    batch = rng.normal(size=(2, *old.input_shape)).astype(np.float32)
    zeros = np.stack([convolve(each, "sobel-h", border="zero") for each in batch])
    expected = zeros.reshape(2, -1) @ old.weights[2]["kernel"] + old.weights[2]["bias"]
    np.testing.assert_allclose(load_model(tmp_path / "old").forward(batch), expected, rtol=1e-4, atol=1e-4)
    again = save(tmp_path / "again", old)
    np.testing.assert_array_equal(load_model(again).forward(batch), load_model(tmp_path / "old").forward(batch))


PREPARATION = {
    "fit": ("stretch", "fit is crop or squash"),
    "resample": ("nearest", "fit is crop or squash"),
    "share": (0, "share is not a number from 0.01 to 1"),
    "mean": ([1, 2], "2 numbers of mean for 3 channels"),
    "std": ([0], "std is not above 0"),
    "scale": ([1, 0], "scale is not two numbers, of which the first is smaller"),
}


@pytest.mark.parametrize("field", PREPARATION)
def test_broken_preparations(tmp_path, rng, field):
    value, message = PREPARATION[field]
    metadata, tensors = _parts(rng)
    preparation = json.loads(metadata["preparation"])
    _refused(tmp_path, tensors, metadata | {"preparation": json.dumps(preparation | {field: value})}, message)
    for wrong in (True, None, "x", [], [float("1e300")]):
        broken = json.dumps(preparation | {field: wrong})
        _refused(tmp_path, tensors, metadata | {"preparation": broken}, "preparation")


def _refused(tmp_path, tensors, metadata, message):
    path = tmp_path / "m.safetensors"
    with open(path, "wb") as file:
        write_tensors(file, tensors, metadata)
    with pytest.raises(ModelError, match=message):
        read_model(path)


def test_broken_tensors(tmp_path, rng):
    metadata, tensors = _parts(rng)
    missing = {name: tensor for name, tensor in tensors.items() if name != "2.shift"}
    _refused(tmp_path, missing, metadata, "lacks the tensor '2.shift' of shape 4")
    _refused(tmp_path, tensors | {"5.bias": tensors["2.shift"]}, metadata, "a tensor '5.bias' that no layer takes")
    _refused(
        tmp_path, tensors | {"1.bias": np.zeros(5, np.float16)}, metadata, "'1.bias' in shape 5; its layers need 4"
    )
    tensors["1.bias"][2] = np.nan
    _refused(tmp_path, tensors, metadata, "'1.bias' holds NaN or infinity")
