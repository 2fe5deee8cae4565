"""npy: arrays as data. The header is believed only after what it asks for was compared with what is there."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.picture import Image, as_pixels, check_size, mode_of


def read(data: bytes, max_pixels: int) -> Image:
    """Read an array (H, W) or (H, W, C) as a picture.

    uint8 and uint16 stay what they are, with 2 and 4 channels as grey and RGB with alpha. Booleans become 0
    and 255. All else becomes float32 with the values as they are, where 2 and 4 channels are maps.

    Raises
    ------
    ImageError
        If it is cut off, over the limit, of another shape, or not of numbers.
    """
    stream = io.BytesIO(data)
    shape, fortran_order, dtype = _header(stream)
    if dtype.hasobject or dtype.kind not in "buif":
        raise ImageError(f"an array of {dtype} is not a picture; one of numbers is")
    if len(shape) not in (2, 3):
        raise ImageError(f"an array of the shape {shape} is not a picture; (H, W) or (H, W, C) is")
    height, width, channels = (*shape, 1)[:3]
    check_size(width, height, max_pixels)
    if channels < 1:
        raise ImageError(f"an array of the shape {shape} has no channels")
    there, needed = len(data) - stream.tell(), math.prod(shape) * dtype.itemsize
    if there < needed:
        raise ImageError(f"the file is cut off: {shape} of {dtype} are {needed:,} bytes, and {there:,} are there")
    flat = np.frombuffer(data, dtype, math.prod(shape), stream.tell())
    values = flat.reshape(shape, order="F" if fortran_order else "C").reshape(height, width, channels)
    pixels = as_pixels(values)
    mode = mode_of(channels)
    if pixels.dtype == np.float32 and mode in ("LA", "RGBA"):
        mode = "maps"
    return Image(pixels, mode, "npy")


def _header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ImageError(f"npy of version {version[0]}.{version[1]} holds named fields, not a picture")


def encode(image: Image) -> list[bytes | memoryview]:
    """Return the pieces of an npy file: (H, W) for one channel, else (H, W, C)."""
    pixels = image.pixels[:, :, 0] if image.pixels.shape[2] == 1 else image.pixels
    pixels = np.ascontiguousarray(pixels)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(pixels))
    return [header.getvalue(), pixels.data.cast("B")]
