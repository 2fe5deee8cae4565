"""Read and write safetensors files, which hold named arrays and texts, and no code.

A file has eight bytes with the length of a JSON header, the header, and the values. Everything in the header is checked
before any value is read, so that a damaged or hostile file takes neither time nor memory. The same content is always
written as the same bytes, which the package `safetensors` does not promise for the texts.

References: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ModelError
from cnnfilter.runtime import limits

DTYPES: dict[str, np.dtype[Any]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4")}
HEADER_BYTES_MAX = 1 << 20
"""Bytes of a header at most: three times those of a thousand tensors and ten thousand class names.

The package `safetensors` allows 100 MB.
"""

_OTHER_FORMATS = (
    (b"\x80", "a pickle, which is a program"),
    (b"PK\x03\x04", "a zip archive (PyTorch's .pt, Keras, .npz), which may hold programs"),
    (b"\x89HDF", "HDF5"),
    (b"\x93NUMPY", "an .npy array"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GGUF", "GGUF"),
)


class Entry(NamedTuple):
    """The type and shape of a tensor, and the positions of its first byte and its end in the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    end: int


class TensorFile:
    """An open safetensors file whose header has been checked.

    Attributes
    ----------
    metadata : dict of str to str
    entries : dict of str to Entry
        In the order of the header.

    Raises
    ------
    ModelError
        If it is no safetensors file, or the header does not account for every byte after it.
    OSError
        If it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError("is not a regular file, which a model has to be")
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115 - closed by __exit__
        try:
            self.metadata, self.entries = _read_header(self._file)
            if status.st_size > limits.model_bytes:
                raise ModelError(
                    f"has {status.st_size:,} bytes; the limit is {limits.model_bytes:,} "
                    f"(--max-model {status.st_size} allows it)"
                )
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, name: str) -> NDArray[np.float32]:
        """Return one tensor as float32; ModelError if it holds NaN or infinity."""
        entry = self.entries[name]
        self._file.seek(entry.start)
        stored = np.fromfile(self._file, entry.dtype, math.prod(entry.shape))
        values = stored.astype(np.float32, copy=False).reshape(entry.shape)
        # The sum is a fast test: if it is finite, every value is.
        with np.errstate(over="ignore", invalid="ignore"):
            total = values.sum()
        if not np.isfinite(total) and not np.isfinite(values).all():
            raise ModelError(f"tensor {name!r} holds NaN or infinity")
        return values


def write_tensors(file: BinaryIO, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write float16 and float32 arrays and texts in their order; the same content always gives the same bytes."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _dtype_name(array), "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the values are aligned
    if len(text) > HEADER_BYTES_MAX:
        raise ModelError(f"a header of {len(text):,} bytes is too long; {HEADER_BYTES_MAX:,} is the limit")
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for array in arrays.values():
        file.write(array.tobytes())


def _dtype_name(array: NDArray[Any]) -> str:
    for name, dtype in DTYPES.items():
        if array.dtype == dtype:
            return name
    raise TypeError(f"tensors are float16 or float32, not {array.dtype}")


# --- the header, checked -------------------------------------------------------------------------------


def _read_header(file: BinaryIO) -> tuple[dict[str, str], dict[str, Entry]]:
    size = os.fstat(file.fileno()).st_size
    head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    if head[8:] != b"{" or not 2 <= length <= size - 8:
        raise ModelError(_refusal(head, size))
    if length > HEADER_BYTES_MAX:
        raise ModelError(f"its header claims {length:,} bytes; {HEADER_BYTES_MAX:,} is the limit")
    file.seek(8)
    header = _parse(file.read(length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ModelError("its metadata are not texts")
    return metadata, _entries(header, 8 + length, size)


def _refusal(head: bytes, size: int) -> str:
    """Return the end of the message for a file that is not a safetensors file; it names the format, if it is known."""
    for magic, what in _OTHER_FORMATS:
        if head.startswith(magic):
            return f"is {what}; a model is a safetensors file"
    if head[4:8] == b"TFL3":
        return "is a TensorFlow Lite model; a model is a safetensors file"
    if _looks_like_onnx(head):
        return "is an ONNX model, which cnnfilter writes and does not read; a model is a safetensors file"
    return f"is not a safetensors file, or cut ({size:,} bytes)"


def _looks_like_onnx(head: bytes) -> bool:
    """Return whether a file begins with the version of an ONNX model, and its producer's name or its graph.

    A Core ML model begins with a version too, but a message follows, which begins with 10, and no name.
    """
    if head[:1] != b"\x08" or len(head) < 5:
        return False
    return head[2] in (0x3A, 0x42) or (head[2] == 0x12 and chr(head[4]).isprintable())


def _parse(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode(), object_pairs_hook=_once_each, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ModelError) else "it is not JSON"
        raise ModelError(f"its header is damaged: {reason}") from None
    if not isinstance(header, dict):
        raise ModelError("its header is damaged: it is not an object")
    return header


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ModelError("a name stands in it twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ModelError(f"{name} stands in it")


def _entries(header: dict[str, Any], start: int, size: int) -> dict[str, Entry]:
    entries = {name: _entry(name, fields, start) for name, fields in header.items()}
    end = start
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        if entry.start != end:
            raise ModelError(f"tensor {name!r} does not begin where the one before it ends")
        end = entry.end
    if end != size:
        raise ModelError(f"its tensors end at byte {end:,}, the file at byte {size:,}: it is cut or damaged")
    return entries


def _entry(name: str, fields: Any, start: int) -> Entry:
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise ModelError(f"tensor {name!r} lacks its type, shape or place")
    shape, offsets = fields["shape"], fields["data_offsets"]
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2:
        raise ModelError(f"tensor {name!r} has a shape or place that is not whole numbers")
    dtype = DTYPES.get(fields["dtype"]) if isinstance(fields["dtype"], str) else None
    if dtype is None:
        raise ModelError(f"tensor {name!r} is of type {str(fields['dtype'])[:20]}; F16 and F32 are read")
    begin, end = offsets
    if len(shape) > 8 or end - begin != math.prod(shape) * dtype.itemsize:
        raise ModelError(f"tensor {name!r} of shape {shape} does not take {end - begin} bytes")
    return Entry(dtype, tuple(shape), start + begin, start + end)


def _whole_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 48 for value in values)
