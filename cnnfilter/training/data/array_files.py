"""Read pictures and labels from array files: IDX (the format of MNIST, also packed by gzip) and .npz.

Headers are checked before memory is allocated for the arrays.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import zipfile
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import DataError, count_text
from cnnfilter.training.data.scales import refuse_black

Array = NDArray[Any]

_UNPACKED_BYTES_MAX = 1 << 34
"""Bytes that a file may unpack to (16 GiB).

All of the usual data sets are smaller; a small file that claims more is damaged, or made to fill the memory.
"""

_IDX_TYPES: dict[int, np.dtype[Any]] = {
    8: np.dtype("u1"),
    9: np.dtype("i1"),
    11: np.dtype(">i2"),
    12: np.dtype(">i4"),
    13: np.dtype(">f4"),
    14: np.dtype(">f8"),
}
_IDX_NAME = re.compile(r"(?P<split>[^/\\]*?)[-_.]?(?P<what>images|labels)[-_.]idx(?P<axes>\d)[-_.]u?byte(\.gz)?", re.I)
_IDX_SPLITS = {"train": "train", "t10k": "test", "test": "test", "val": "validation", "valid": "validation"}


class ArraySplit(NamedTuple):
    """The pictures (N, H, W) or (N, H, W, C) and labels (N,) of one split; `split` is empty if the data have none.

    `note` says that the axes were stored in another order.
    """

    split: str
    title: str
    pixels: Array
    labels: Array
    note: str = ""


# --- IDX -------------------------------------------------------------------------------------------------


def find_idx(path: str) -> dict[str, dict[str, str]]:
    """Return the IDX files of a folder, or a file and the other one of its pair.

    Each split has a dict of the paths of its ``images`` and ``labels``.
    """
    folder = path if os.path.isdir(path) else os.path.dirname(path) or "."
    only = None if os.path.isdir(path) else os.path.basename(path)
    wanted = _IDX_NAME.fullmatch(only) if only else None
    if only and wanted is None:
        return {}
    found: dict[str, dict[str, str]] = {}
    for name in sorted(os.listdir(folder)):
        match = _IDX_NAME.fullmatch(name)
        if match is None or (wanted is not None and match["split"] != wanted["split"]):
            continue
        # If a file is there both unpacked and packed, the unpacked one is read: it comes first in the order of names.
        split = _IDX_SPLITS.get(match["split"].lower(), match["split"].lower())
        found.setdefault(split, {}).setdefault(match["what"].lower(), os.path.join(folder, name))
    return found


def read_idx_pairs(files: dict[str, dict[str, str]]) -> list[ArraySplit]:
    """Read the pairs of files that `find_idx` found.

    Raises
    ------
    DataError
        If images or labels are missing, damaged, or do not belong together.
    """
    parts = []
    for split, pair in files.items():
        for what, axes in (("images", 3), ("labels", 1)):
            if what not in pair:
                other = next(iter(pair.values()))
                raise DataError(f"{other} has no {what} beside it (such as {split}-{what}-idx{axes}-ubyte)")
        known = split if split in ("train", "validation", "test") else ""
        pixels, labels = read_idx(pair["images"]), read_idx(pair["labels"])
        parts.append(_checked(ArraySplit(known, os.path.basename(pair["images"]), pixels, labels)))
    return parts


def read_idx(path: str) -> Array:
    """Return the array of an IDX file, which may be packed by gzip.

    Raises
    ------
    DataError
        If it is not an IDX file, or its size is not what its header says.
    """
    with open(path, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    file: Any = gzip.open(path) if packed else open(path, "rb")  # noqa: SIM115
    with file:
        try:
            return _read_idx(file, path)
        except (OSError, EOFError) as error:
            raise DataError(f"{path} is damaged: {error}") from error


def _read_idx(file: Any, path: str) -> Array:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES or not 1 <= magic[3] <= 4:
        raise DataError(f"{path} is not an IDX file: it begins with {magic.hex(' ')}")
    dtype = _IDX_TYPES[magic[2]]
    sizes = file.read(4 * magic[3])
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    wanted = math.prod(shape) * dtype.itemsize
    if wanted > _UNPACKED_BYTES_MAX:
        raise DataError(f"{path} claims {wanted:,} bytes; {_UNPACKED_BYTES_MAX:,} is the limit")
    # One byte more than the header says, to find files that are too long.
    data = file.read(wanted + 1)
    if len(data) != wanted or len(shape) != magic[3]:
        raise DataError(f"{path} says {'x'.join(map(str, shape))}, which is {wanted:,} bytes; it is cut or damaged")
    return np.frombuffer(data, dtype).reshape(shape)


# --- .npz ------------------------------------------------------------------------------------------------

_IMAGE_KEYS = ("images", "x", "data", "image", "pixels")
_LABEL_KEYS = ("labels", "y", "target", "targets", "label", "classes")
_NPZ_SPLITS = (("", ""), ("train", "train"), ("val", "validation"), ("valid", "validation"), ("test", "test"))


def read_npz(path: str, axes: str | None = None) -> list[ArraySplit]:
    """Read pictures and labels of an .npz file.

    The arrays are called ``images`` and ``labels``, or ``x_train``, ``y_train``, ``x_test`` and so on.

    Parameters
    ----------
    axes : "hwc" or "chw", optional
        The order of the axes of each picture, if it has channels; if not given, the one that can be meant.

    Raises
    ------
    DataError
        If it lacks them, is damaged, or holds other things than numbers and texts.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(info.file_size for info in archive.infolist())
            if total > _UNPACKED_BYTES_MAX:
                raise DataError(f"{path} unpacks to {total:,} bytes; {_UNPACKED_BYTES_MAX:,} is the limit")
            names = {name.removesuffix(".npy"): name for name in archive.namelist()}
            found = {split: keys for split, keys in _npz_keys(names).items() if len(keys) == 2}
            if not found:
                raise DataError(
                    f"{path} has {', '.join(sorted(names)) or 'nothing'}; 'images' and 'labels' would do, or x_train, "
                    "y_train, x_test and y_test"
                )
            parts = []
            for split, keys in found.items():
                pixels, labels = (_read_npy(archive, names[key], path) for key in keys)
                part = ArraySplit(split, f"{os.path.basename(path)}:{keys[0]}", pixels, labels)
                parts.append(_checked(_channels_last(part, axes)))
            return parts
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is not an .npz file, or damaged: {error}") from error


def _npz_keys(names: dict[str, str]) -> dict[str, list[str]]:
    """Return, for each split, the names of its pictures and its labels."""

    def written(base: str, split: str) -> list[str]:
        return [base] if not split else [f"{base}_{split}", f"{split}_{base}"]

    found: dict[str, list[str]] = {}
    for suffix, split in _NPZ_SPLITS:
        for keys in (_IMAGE_KEYS, _LABEL_KEYS):
            name = next((name for base in keys for name in written(base, suffix) if name in names), None)
            if name is not None and len(found.get(split, [])) < 2:
                found.setdefault(split, []).append(name)
    return found


def _read_npy(archive: zipfile.ZipFile, name: str, path: str) -> Array:
    size = archive.getinfo(name).file_size
    try:
        with archive.open(name) as member:
            data = member.read(size)
        # Without pickle: unpickling an array of objects can run any program.
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {name} cannot be read: {error}") from error


# --- checks ----------------------------------------------------------------------------------------------


def _channels_last(part: ArraySplit, axes: str | None) -> ArraySplit:
    """Return a split with pictures (N, H, W, C); DataError if they have no colours, or may be in either order."""
    shape = part.pixels.shape
    if len(shape) != 4 or 0 in shape:
        return part
    text = "x".join(map(str, shape))
    first, last = shape[1] in _COLOUR_CHANNELS, shape[3] in _COLOUR_CHANNELS
    if axes is None and shape[1] in (1, 3) and last:
        raise DataError(
            f"{part.title}: {text} may be (N, H, W, C) with {shape[3]} channels, or (N, C, H, W) with {shape[1]}; "
            "--axes nhwc or nchw says which"
        )
    if axes is None and not (first or last):
        raise DataError(
            f"{part.title}: {text} has {shape[3]} channels as (N, H, W, C), and {shape[1]} as (N, C, H, W); 1 (grey) "
            "and 3 (RGB) are pictures"
        )
    if axes == "hwc" or (axes is None and last):
        return part
    note = f"axes: {text} is (N, C, H, W), channels first"
    return part._replace(pixels=np.ascontiguousarray(part.pixels.transpose(0, 2, 3, 1)), note=note)


_COLOUR_CHANNELS = (1, 2, 3, 4)
"""Channels of grey and RGB, without and with alpha."""


def _checked(part: ArraySplit) -> ArraySplit:
    """Return a split with labels (N,); DataError if pictures and labels do not fit each other."""
    pixels, labels = part.pixels, part.labels
    if labels.ndim == 2 and labels.shape[1] == 1:  # the shape in which Keras stores the labels of CIFAR
        labels = labels[:, 0]
    shape = "x".join(map(str, pixels.shape))
    if pixels.ndim not in (3, 4) or 0 in pixels.shape or pixels.dtype.kind not in "uifb":
        raise DataError(
            f"{part.title}: pictures of shape {shape} and type {pixels.dtype}; (N, H, W) or (N, H, W, C) are"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "uiUS":
        raise DataError(
            f"{part.title}: labels of the shape {labels.shape} and the type {labels.dtype} are not one for each "
            "picture, as (N,) whole numbers are"
        )
    if len(labels) != len(pixels):
        raise DataError(
            f"{part.title}: {count_text(len(pixels), 'picture')} and {count_text(len(labels), 'label')} "
            "do not belong together"
        )
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise DataError(f"{part.title}: NaN or infinity in the pictures")
    refuse_black(part.title, pixels)
    return part._replace(labels=labels)
