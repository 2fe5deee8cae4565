"""npy files: arrays as pictures. The size in the header is compared with the file's size before it is used."""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.images.image import Image, as_pixels, check_size, mode_of


def read(data: bytes, max_pixels: int) -> Image:
    """Return an array (H, W) or (H, W, C) as an image.

    uint8 and uint16 stay, with 2 and 4 channels as grey and RGB with alpha. Booleans become 0 and 255. All other
    types become float32 with the same values, where 2 and 4 channels are maps.

    Raises
    ------
    ImageError
        The file is cut off, or has more than `max_pixels`; or the array has another shape or no numbers.
    """
    found = read_header(io.BytesIO(data), len(data), max_pixels)
    flat = np.frombuffer(data, found.dtype, math.prod(found.shape), found.start)
    values = flat.reshape(found.shape, order="F" if found.fortran_order else "C")
    pixels = as_pixels(values)
    return Image(pixels, mode_for(pixels.dtype, found.shape[2]), "npy")


class Header(NamedTuple):
    """The header of a file: shape (H, W, C), order, dtype, and the offset of the numbers."""

    shape: tuple[int, int, int]
    fortran_order: bool
    dtype: np.dtype[Any]
    start: int


def read_header(stream: io.BytesIO, size: int, max_pixels: int) -> Header:
    """Read and check the header of a file of `size` bytes.

    Raises
    ------
    ImageError
        As `read`.
    """
    shape, fortran_order, dtype = parse_header(stream)
    if dtype.hasobject or dtype.kind not in "buif":
        raise ImageError(f"an array of {dtype} is not a picture; one of numbers is")
    if len(shape) not in (2, 3):
        raise ImageError(f"an array of the shape {shape} is not a picture; (H, W) or (H, W, C) is")
    height, width, channels = (*shape, 1)[:3]
    check_size(width, height, max_pixels)
    if channels < 1:
        raise ImageError(f"an array of the shape {shape} has no channels")
    there, needed = size - stream.tell(), math.prod(shape) * dtype.itemsize
    if there < needed:
        raise ImageError(f"the file is cut off: {shape} of {dtype} are {needed:,} bytes, and {there:,} are there")
    return Header((height, width, channels), fortran_order, dtype, stream.tell())


def mode_for(dtype: np.dtype[Any], channels: int) -> str:
    """Return the mode of an array; 2 and 4 channels of float32 are maps, not grey or RGB with alpha."""
    mode = mode_of(channels)
    return "maps" if dtype == np.float32 and mode in ("LA", "RGBA") else mode


def parse_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the order is Fortran's, and dtype, as the header says them."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ImageError(f"npy of version {version[0]}.{version[1]} holds named fields, not a picture")


def encode(image: Image) -> list[bytes | memoryview]:
    """Return the header and the samples of an npy file, an array (H, W) for one channel, else (H, W, C)."""
    pixels = np.ascontiguousarray(image.pixels)
    return [header(pixels.shape, pixels.dtype), pixels.data.cast("B")]


def header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the header of a file for pixels of the shape (H, W, C)."""
    head = io.BytesIO()
    saved = shape[:2] if shape[2] == 1 else shape
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": saved}
    np.lib.format.write_array_header_1_0(head, fields)
    return head.getvalue()
