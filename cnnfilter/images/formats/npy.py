"""npy files: arrays as pictures. The size in the header is compared with the file's size before it is used."""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.images.image import Image, as_pixels, check_size, mode_of

AXES = ("hwc", "chw", "zyx", "nhwc")
"""Orders of axes: channels last or first; slices of a volume, and pictures with their channels, which are frames."""

_CHANNELS_MAX = 16
"""Channels of an array (H, W, C) up to which its order is taken for granted.

Satellite pictures have up to 13; an array with more is a volume, has its channels first, or holds maps of a network.
"""


def read(data: bytes, max_pixels: int, axes: str | None = None) -> Image:
    """Return an array (H, W) or (H, W, C) as an image.

    uint8 and uint16 stay, with 2 and 4 channels as grey and RGB with alpha. Booleans become 0 and 255. All other
    types become float32 with the same values, where 2 and 4 channels are maps.

    Parameters
    ----------
    axes : one of `AXES`, optional
        The order of the axes; needed where the array has more than 16 channels as (H, W, C).

    Raises
    ------
    ImageError
        The file is cut off, or has more than `max_pixels`; or the array has another shape or no numbers.
    """
    found = read_header(io.BytesIO(data), len(data), max_pixels, axes)
    flat = np.frombuffer(data, found.dtype, math.prod(found.stored), found.start)
    values = flat.reshape(found.stored, order="F" if found.fortran_order else "C")
    if axes in ("zyx", "nhwc"):
        frames = tuple(as_pixels(values[number].reshape(found.shape)) for number in range(len(values)))
        return Image(frames[0], mode_for(frames[0].dtype, found.shape[2]), "npy", frames=frames, axes=axes)
    pixels = as_pixels(values.transpose(1, 2, 0) if axes == "chw" else values.reshape(found.shape))
    return Image(pixels, mode_for(pixels.dtype, found.shape[2]), "npy", axes=axes or "hwc")


class Header(NamedTuple):
    """The header of a file: shape (H, W, C) of a picture, order, dtype, the offset of the numbers, the whole shape."""

    shape: tuple[int, int, int]
    fortran_order: bool
    dtype: np.dtype[Any]
    start: int
    stored: tuple[int, ...]


def read_header(stream: io.BytesIO, size: int, max_pixels: int, axes: str | None = None) -> Header:
    """Read and check the header of a file of `size` bytes.

    Raises
    ------
    ImageError
        As `read`.
    """
    shape, fortran_order, dtype = parse_header(stream)
    if dtype.hasobject or dtype.kind not in "buif":
        raise ImageError(f"an array of {dtype} is not a picture; one of numbers is")
    (height, width, channels), frames = _sizes(shape, axes)
    check_size(width, height, max_pixels, frames)
    if channels < 1:
        raise ImageError(f"an array of the shape {shape} has no channels")
    there, needed = size - stream.tell(), math.prod(shape) * dtype.itemsize
    if there < needed:
        raise ImageError(f"the file is cut off: {shape} of {dtype} are {needed:,} bytes, and {there:,} are there")
    if axes is None and channels > _CHANNELS_MAX:
        raise ImageError(
            f"an array of the shape {shape} has {channels} channels as (H, W, C); --axes hwc takes it so, chw takes "
            f"{height} channels of {width} rows, zyx takes {height} slices of {width} rows"
        )
    return Header((height, width, channels), fortran_order, dtype, stream.tell(), shape)


def _sizes(shape: tuple[int, ...], axes: str | None) -> tuple[tuple[int, int, int], int]:
    """Return the shape (H, W, C) of each picture of an array, and their number."""
    if axes is None:
        if len(shape) not in (2, 3):
            raise ImageError(f"an array of the shape {shape} is not a picture; (H, W) or (H, W, C) is")
    elif len(shape) != len(axes) and not (axes == "hwc" and len(shape) == 2):
        raise ImageError(f"an array of the shape {shape} has {len(shape)} axes; --axes {axes} names {len(axes)}")
    sizes = dict(zip(axes or "hwc", shape, strict=False))
    height, width = sizes.get("h", sizes.get("y", 0)), sizes.get("w", sizes.get("x", 0))
    frames = sizes.get("n", sizes.get("z", 1))
    if not frames:
        raise ImageError(f"an array of the shape {shape} has no pictures")
    return (height, width, sizes.get("c", 1)), frames


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
    """Return the header and the samples of an npy file.

    It is an array (H, W) for one channel, else (H, W, C); of an array with other axes, it has their order.
    """
    pixels = image.pixels
    if image.axes == "chw":
        pixels = pixels.transpose(2, 0, 1)
    elif image.axes in ("zyx", "nhwc") and image.frames:
        pixels = np.stack(image.frames)
        if image.axes == "zyx" and pixels.shape[3] == 1:
            pixels = pixels[:, :, :, 0]
    pixels = np.ascontiguousarray(pixels)
    if image.axes == "hwc":
        return [header(pixels.shape, pixels.dtype), pixels.data.cast("B")]
    return [_header_of(pixels.shape, pixels.dtype), pixels.data.cast("B")]


def header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the header of a file for pixels of the shape (H, W, C)."""
    return _header_of(shape[:2] if shape[2] == 1 else shape, dtype)


def _header_of(saved: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    head = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": saved}
    np.lib.format.write_array_header_1_0(head, fields)
    return head.getvalue()
