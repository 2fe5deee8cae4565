"""safetensors files: there and back, beside the package of that name, and every way to be damaged or hostile."""

from __future__ import annotations

import io
import json
import os
import pickle
import time

import numpy as np
import pytest

from cnnfilter.errors import ModelError
from cnnfilter.weights.safetensors import HEADER_BYTES_MAX, TensorFile, write_tensors


def _bytes(tensors, metadata=None):
    file = io.BytesIO()
    write_tensors(file, tensors, metadata or {})
    return file.getvalue()


@pytest.fixture
def tensors(rng):
    return {
        "b": rng.standard_normal((2, 3)).astype(np.float32),
        "a": rng.standard_normal(5).astype(np.float16),
        "empty": np.zeros((0, 4), np.float32),
        "one": np.array(7, np.float32),
    }


def test_what_is_written_is_read(tmp_path, tensors):
    path = tmp_path / "x.safetensors"
    path.write_bytes(_bytes(tensors, {"größe": "1 × 2"}))
    with TensorFile(path) as file:
        assert file.metadata == {"größe": "1 × 2"}
        assert list(file.entries) == list(tensors)
        for name, tensor in tensors.items():
            read = file.read(name)
            assert read.dtype == np.float32
            np.testing.assert_array_equal(read, tensor.astype(np.float32))


def test_the_same_content_gives_the_same_bytes(tensors):
    texts = {name: name for name in "zyxwvuts"}
    assert _bytes(tensors, texts) == _bytes(dict(tensors), dict(texts))


def test_the_package_reads_ours_and_we_read_its(tmp_path, tensors):
    safetensors = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    path.write_bytes(_bytes(tensors, {"a": "b"}))
    theirs = safetensors.load_file(path)
    assert theirs.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(theirs[name], tensor)
        assert theirs[name].dtype == tensor.dtype
    safetensors.save_file(tensors, path, {"a": "b"})
    with TensorFile(path) as file:
        assert file.metadata == {"a": "b"}
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(file.read(name), tensor)


def test_a_header_whose_length_looks_like_a_pickle(tmp_path):
    path = tmp_path / "x.safetensors"
    for padding in range(200, 500):
        data = _bytes({}, {"x": "y" * padding})
        if data[0] == 0x80:
            break
    assert data[0] == 0x80
    path.write_bytes(data)
    with TensorFile(path) as file:
        assert file.metadata == {"x": "y" * padding}


def test_the_numbers_are_aligned():
    data = _bytes({"x": np.zeros(3, np.float32)}, {"odd": "."})
    assert (8 + int.from_bytes(data[:8], "little")) % 8 == 0


def _with_header(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
NUMBER = np.float32(1).tobytes()

REFUSED = {
    "empty": (b"", "not a safetensors file, or cut"),
    "short": (b"abc", "not a safetensors file, or cut"),
    "noise": (bytes(range(200, 255)), "not a safetensors file, or cut"),
    "pickle": (pickle.dumps({"a": 1}), "is a pickle, which is a program"),
    "zip": (b"PK\x03\x04" + bytes(100), "is a zip archive"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x032.1:" + bytes(100), "is an ONNX model, which cnnfilter writes"),
    "onnx without a producer": (b"\x08\x0d:\x10" + bytes(100), "is an ONNX model"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(100), "is a TensorFlow Lite model"),
    "coreml": (b"\x08\x01\x12\x20\x0a\x05" + bytes(100), "is not a safetensors file, or cut"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is HDF5"),
    "npy": (b"\x93NUMPY" + bytes(100), "is an .npy array"),
    "length beyond the end": ((1000).to_bytes(8, "little") + b"{}", "cut"),
    "length of 2**63": ((1 << 63).to_bytes(8, "little") + b"{}" + bytes(99), "cut"),
    "no json": (_with_header(b"{nothing"), "header is damaged: it is not JSON"),
    "no utf-8": (_with_header(b'{"\xff": 1}'), "header is damaged: it is not JSON"),
    "deep json": (_with_header(b'{"x":' * 100_000), "header is damaged: it is not JSON"),
    "a list": (_with_header([1]), "not a safetensors file"),
    "a name twice": (_with_header(b'{"x": {}, "x": {}}'), "a name stands in it twice"),
    "nan in the header": (_with_header(b'{"x": NaN}'), "NaN stands in it"),
    "metadata not texts": (_with_header({"__metadata__": {"a": 1}}), "metadata are not texts"),
    "metadata a list": (_with_header({"__metadata__": ["a"]}), "metadata are not texts"),
    "a field missing": (_with_header({"x": {"dtype": "F32", "shape": [1]}}, NUMBER), "'x' lacks its type"),
    "a field more": (_with_header({"x": ONE | {"more": 1}}, NUMBER), "'x' lacks its type"),
    "an unknown type": (_with_header({"x": ONE | {"dtype": "I64"}}, NUMBER), "type I64; F16 and F32 are read"),
    "a type of no text": (_with_header({"x": ONE | {"dtype": ["F32"]}}, NUMBER), "F16 and F32 are read"),
    "a negative size": (_with_header({"x": ONE | {"shape": [-1]}}, NUMBER), "not whole numbers"),
    "a size of true": (_with_header({"x": ONE | {"shape": [True]}}, NUMBER), "not whole numbers"),
    "a fraction": (_with_header({"x": ONE | {"shape": [1.0]}}, NUMBER), "not whole numbers"),
    "a huge size": (_with_header({"x": ONE | {"shape": [1 << 60]}}, NUMBER), "not whole numbers"),
    "too many bytes for the shape": (_with_header({"x": ONE | {"shape": [2]}}, NUMBER), "does not take 4 bytes"),
    "offsets the wrong way": (_with_header({"x": ONE | {"data_offsets": [4, 0]}}, NUMBER), "does not take -4 bytes"),
    "a gap": (_with_header({"x": ONE | {"data_offsets": [4, 8]}}, NUMBER * 2), "does not begin where"),
    "an overlap": (_with_header({"x": ONE, "y": ONE}, NUMBER * 2), "does not begin where"),
    "cut": (_with_header({"x": ONE}, NUMBER[:2]), "it is cut or damaged"),
    "more at the end": (_with_header({"x": ONE}, NUMBER * 2), "it is cut or damaged"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(tmp_path, what):
    data, message = REFUSED[what]
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    began = time.perf_counter()
    with pytest.raises(ModelError, match=message):
        TensorFile(path)
    assert time.perf_counter() - began < 2


def test_a_header_that_claims_more_than_the_limit_is_not_even_read(tmp_path):
    path = tmp_path / "x.safetensors"
    with open(path, "wb") as file:
        file.write((HEADER_BYTES_MAX + 1).to_bytes(8, "little") + b"{")
        file.truncate(1 << 33)  # a hole: 8 GiB that are not there
    with pytest.raises(ModelError, match="its header claims 1,048,577 bytes; 1,048,576 is the limit"):
        TensorFile(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_nan_and_infinity_are_refused(tmp_path, bad, dtype):
    path = tmp_path / "x.safetensors"
    path.write_bytes(_bytes({"x": np.array([1, bad, 2], dtype)}))
    with TensorFile(path) as file, pytest.raises(ModelError, match="'x' holds NaN or infinity"):
        file.read("x")


def test_numbers_whose_sum_is_beyond_float32_are_not(tmp_path):
    path = tmp_path / "x.safetensors"
    large = np.full(3, 3e38, np.float32)
    path.write_bytes(_bytes({"x": large}))
    with TensorFile(path) as file:
        np.testing.assert_array_equal(file.read("x"), large)


def test_what_is_no_regular_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="not a regular file"):
        TensorFile(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ModelError, match="not a regular file"):
            TensorFile(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        TensorFile(tmp_path / "none")


def test_other_numbers_are_not_written():
    with pytest.raises(TypeError, match="float64"):
        _bytes({"x": np.zeros(2)})
    with pytest.raises(ModelError, match="too long"):
        _bytes({}, {"x": "y" * HEADER_BYTES_MAX})
