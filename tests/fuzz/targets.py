"""The targets of fuzzing: functions that take any bytes, and must neither raise anything unexpected nor break a law."""

from __future__ import annotations

import contextlib
import io
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

from cnnfilter.errors import CnnfilterError
from cnnfilter.images import mapped_files
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.kernels.lookup import find_kernel, find_kernels
from cnnfilter.layers.stack import parse_layers
from cnnfilter.networks.model_file import read_model, write_model

PIXELS = 1 << 14


def _picture(data: bytes) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = read_image(data, max_pixels=PIXELS)
    except CnnfilterError:
        return
    assert image.pixels.size
    assert image.pixels.dtype in (np.uint8, np.uint16, np.float32)


def png(data: bytes) -> None:
    """A PNG file whose chunks have the right checksums, so that what they hold is looked at."""
    signature, at = b"\x89PNG\r\n\x1a\n", 0
    chunks = [signature]
    while at + 8 <= len(data):
        length = min(int.from_bytes(data[at : at + 4], "big") & 0xFFFF, len(data) - at - 8)
        body = data[at + 4 : at + 8 + length]
        chunks += [struct.pack(">I", length), body, struct.pack(">I", zlib.crc32(body))]
        at += 8 + length
    _picture(b"".join(chunks))


def npy(data: bytes) -> None:
    """An npy file."""
    _picture(b"\x93NUMPY" + data)


def pnm(data: bytes) -> None:
    """A PNM file."""
    _picture(b"P" + data)


def tiff(data: bytes) -> None:
    """A TIFF file, read as a whole, and mapped: of a damaged one, two libraries may make two pictures."""
    file = b"II*\0" + data
    _picture(file)
    with (
        warnings.catch_warnings(),
        mock.patch.multiple(mapped_files, MIN_MAPPED_BYTES=0, MIN_UNPACKED_FILE_BYTES=0),
        tempfile.NamedTemporaryFile() as written,
        contextlib.ExitStack() as stack,
    ):
        warnings.simplefilter("ignore")
        written.write(file)
        written.flush()
        with contextlib.suppress(CnnfilterError):
            image = mapped_files.map_picture(written.name, PIXELS, stack, lambda: None)
            if image is not None:
                assert image.pixels.dtype in (np.uint8, np.uint16, np.float32)
                assert image.pixels.tobytes(), "every sample can be looked at"


def kernel(data: bytes) -> None:
    """A kernel as text; what is read can be written and read again."""
    text = data.decode("utf-8", "surrogateescape")
    if text.lstrip().startswith("@") or "#" in text:  # files and networks
        return
    try:
        found = find_kernels(text)
    except CnnfilterError:
        return
    for one in found:
        assert np.isfinite(one.weights).all()
        assert one.tag
        rows = (" ".join(map(repr, map(float, row))) for row in one.weights[:20, :20])
        again = find_kernel("; ".join(rows) + ";")  # the last semicolon: nine numbers in a row are a row
        assert np.array_equal(again.weights, one.weights[:20, :20])


def layers(data: bytes) -> None:
    """Layers as text; what they print means the same."""
    text = data.decode("utf-8", "surrogateescape")
    if "@" in text or "#" in text:
        return
    try:
        stack = parse_layers(text)
    except CnnfilterError:
        return
    assert str(parse_layers(str(stack))) == str(stack)
    try:
        list(stack.shapes((32, 32, 3)))
    except CnnfilterError:
        return


def model(data: bytes) -> None:
    """A model file."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            read_model(file.name)
        except CnnfilterError:
            return


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (png, npy, pnm, tiff, kernel, layers, model)
}


def seeds() -> dict[str, list[bytes]]:
    """Return for each target some right inputs to start from."""
    from cnnfilter.kernels.catalogue import ENTRIES
    from tests.hostile.files import small_files
    from tests.networks.test_model_file import small_model

    files = small_files()
    pictures = [files["png"], files["apng"], encode_image(np.zeros((3, 3), np.uint16), "png")]
    model_bytes = io.BytesIO()
    rng = np.random.default_rng(1)
    write_model(model_bytes, small_model(rng, "conv 1x2x2 | flatten | dense 2", (2, 2, 1), ("a", "b")))
    return {
        "png": [_without_checksums(file) for file in pictures],
        "npy": [encode_image(np.zeros((2, 3, 3), dtype), "npy")[6:] for dtype in (np.uint8, np.float32)],
        "pnm": [files["ppm"][1:], b"2 2 2\n9\n1 2 3 9\n", b"7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n0"],
        "tiff": [
            file[4:]
            for file in (
                encode_image(np.zeros((3, 3, 3), np.uint16), "tiff"),
                _tiff(np.arange(24, dtype=np.uint16).reshape(2, 2, 2, 3)),
                _tiff(np.arange(512, dtype=np.uint16).reshape(16, 32), compression="zlib", predictor=True),
                _tiff(np.ones((20, 20, 3), np.float32), compression="zlib", tile=(16, 16), planarconfig="contig"),
                _tiff(np.ones((5, 6), np.uint8), rowsperstrip=2, extratags=[(274, "H", 1, 6, True)]),
            )
        ],
        "kernel": [
            *(name.encode() for name in ENTRIES),
            *(entry.example.encode() for entry in ENTRIES.values() if entry.example),
            b"0 -1 0; -1 5 -1; 0 -1 0",
            b"1/9, 1e-3; -2 3",
            b'{"weights": [[1, 2]], "divisor": 3}',
            b"[[1, 2], [3, 4]]",
        ],
        "layers": [
            b"conv sobel-h sobel-v stride=2 | relu | maxpool 2",
            b"conv 32x3x3 pad=1 | batchnorm | leaky:0.1 | globalpool avg | flatten | dense 10",
            b"mbconv 24x3x3 expand=6 stride=2 | depthwise 3x3 | dropout 0.3 | softmax",
            b"gray | conv '1 2 1; 2 4 2' bias=10 border=reflect dilation=2 | avgpool 2 ceil | abs",
        ],
        "model": [model_bytes.getvalue()],
    }


def _tiff(pixels: np.ndarray, **options: Any) -> bytes:
    import tifffile

    file = io.BytesIO()
    photometric = "rgb" if pixels.shape[-1] == 3 else "minisblack"
    tifffile.imwrite(file, pixels, metadata=None, byteorder="<", photometric=photometric, **options)
    return file.getvalue()


def _without_checksums(file: bytes) -> bytes:
    parts, at = [], 8
    while at < len(file):
        length = int.from_bytes(file[at : at + 4], "big")
        parts.append(file[at : at + 8 + length])
        at += 12 + length
    return b"".join(parts)
