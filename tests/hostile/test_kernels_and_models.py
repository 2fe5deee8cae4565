"""Kernel files and model files: every rule broken, every byte of a small one changed, every length cut."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest

from cnnfilter.errors import KernelError, ModelError
from cnnfilter.kernels.lookup import find_kernel
from cnnfilter.networks.model_file import read_model
from tests.networks.test_model_file import save, small_model

WEIGHTS = np.array([[0, -1, 0.5], [1, 2, -3]])


def kernel_files(folder):
    """Return a small file of every format."""
    texts = {
        "k.txt": "0 -1 1/2\n1 2 -3\n",
        "k.csv": "0,-1,0.5\n1,2,-3\n",
        "k.json": "[[0, -1, 0.5], [1, 2, -3]]",
        "k.mat": "3 2 1 0\n0 -1 0.5\n1 2 -3\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    np.save(folder / "k.npy", WEIGHTS)
    return [folder / name for name in (*texts, "k.npy")]


def read_or_refuse(path):
    """Read a kernel; whatever is wrong with it is a KernelError of one line that names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            weights = find_kernel(f"@{path}").weights
        except KernelError as error:
            message = str(error)
            assert str(path) in message
            assert len(message) < 600
        else:
            assert np.isfinite(weights).all()
            assert max(weights.shape) <= 1023


@pytest.mark.parametrize("number", range(5))
def test_kernel_files_whose_bytes_are_changed_or_cut(in_a_folder, number):
    path = kernel_files(in_a_folder)[number]
    np.testing.assert_array_equal(find_kernel(f"@{path}").weights, WEIGHTS)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for changed in (0x00, 0xFF, whole[place] ^ 0x01, ord(" "), ord("9")):
            path.write_bytes(whole[:place] + bytes([changed]) + whole[place + 1 :])
            read_or_refuse(path)
        path.write_bytes(whole[:place])
        read_or_refuse(path)


# --- models (that each rule is checked is in test_model_file.py and test_tensor_file.py)


def load_or_refuse(path):
    """Read a model; whatever is wrong with it is a ModelError."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            model = read_model(path)
        except ModelError as error:
            message = str(error)
            assert message
        else:
            assert all(np.isfinite(tensor).all() for tensors in model.weights for tensor in tensors.values())


def test_model_files_whose_bytes_are_changed_or_cut(in_a_folder, rng):
    path = save(
        in_a_folder / "m.safetensors", small_model(rng, "conv 1x2x2 | relu | flatten | dense 2", (2, 2, 1), ("a", "b"))
    )
    whole = path.read_bytes()
    assert len(whole) < 1200
    for place in range(len(whole)):
        for changed in (0xFF, whole[place] ^ 0x01):
            path.write_bytes(whole[:place] + bytes([changed]) + whole[place + 1 :])
            load_or_refuse(path)
        path.write_bytes(whole[:place])
        with pytest.raises(ModelError):
            read_model(path)
    path.write_bytes(whole)
    assert read_model(path).classes == ("a", "b")


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":[' + b",".join([b"[]"] * 349_000) + b"]}",
        b"{" + b",".join(b'"%x":0' % number for number in range(95_000)) + b"}",
        b'{"__metadata__":{' + b",".join(b'"%x":""' % number for number in range(100_000)) + b"}}",
        b'{"a":' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    ],
    ids=["lists", "tensors", "texts", "depth"],
)
def test_the_longest_header_takes_little_memory(in_a_folder, text):
    path = in_a_folder / "m.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    tracemalloc.start()
    with pytest.raises(ModelError):
        read_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
