"""Prepare pictures as the input of a network: crop, resize, convert the channels, and scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnfilter.errors import ShapeError
from cnnfilter.images.colour import to_eight_bits, visible_bytes
from cnnfilter.images.image import Image, warn
from cnnfilter.layers.layer import Shape
from cnnfilter.networks.float_scales import Scale, count_outside, show_scale, to_bytes
from cnnfilter.networks.model_file import Preparation

Box = tuple[int, int, int, int]


def prepare(picture: Image | ArrayLike, shape: Shape, how: Preparation) -> NDArray[np.float32]:
    """Return the input (H, W, C) of a network for a picture.

    Parameters
    ----------
    picture : Image, or (H, W) or (H, W, C) array
        Transparent parts are shown on white.
    shape : (H, W, C)
        The input shape of the network: RGB if C is 3, grey (Rec. 601 luma) if it is 1.

    Raises
    ------
    ShapeError
        If C is neither 1 nor 3, or the picture is neither grey nor RGB.
    ImageError
        If the samples of a float picture are not on the scale of the network, or fit no scale.
    """
    image = as_image(picture)
    fitted = fit(image, shape, how)
    if image.pixels.dtype == np.float32 and how.scale is not None:
        _warn_of_clipping(image, how.scale)
    return scale(fitted, how)


def _warn_of_clipping(image: Image, scale: Scale) -> None:
    outside = count_outside(image.colour, scale)
    if outside:
        warn(f"{outside:,} of {image.colour.size:,} samples lie outside the scale {show_scale(scale)} and are clipped")


def as_picture(picture: Image | ArrayLike, scale: Scale | None = None) -> NDArray[np.uint8]:
    """Return any picture as RGB bytes (H, W, 3); for `scale` see `cnnfilter.networks.float_scales.to_bytes`."""
    return as_colours(to_bytes(as_image(picture), scale), 3)


def fit(picture: Image | ArrayLike, shape: Shape, how: Preparation) -> NDArray[np.uint8]:
    """Return the cropped and resized picture as bytes (H, W, C), before it is scaled."""
    height, width, channels = shape
    return _resized(as_colours(to_bytes(as_image(picture), how.scale), channels), (height, width), how)


def scale(pixels: NDArray[np.uint8], how: Preparation) -> NDArray[np.float32]:
    """Return bytes (…, C) less the mean, divided by the standard deviation."""
    mean, std = (np.array(numbers, np.float32) for numbers in (how.mean, how.std))
    scaled: NDArray[np.float32] = np.divide(np.subtract(pixels, mean, dtype=np.float32), std)
    return scaled


def crop_box(height: int, width: int, shape: tuple[int, int], how: Preparation) -> Box:
    """Return the part of a picture that the network gets, as (left, top, right, bottom) in pixels.

    >>> crop_box(300, 451, (224, 224), Preparation("crop", 0.875))
    (95, 19, 357, 281)
    """
    if how.fit == "squash":
        return 0, 0, width, height
    scale = min(height / shape[0], width / shape[1]) * how.share
    tall, wide = (max(1, int(side * scale + 1e-6)) for side in shape)
    # If the margin is odd, the additional pixel is above or left.
    top, left = (height - tall + 1) // 2, (width - wide + 1) // 2
    return left, top, left + wide, top + tall


def as_image(picture: Image | ArrayLike) -> Image:
    """Return an array (H, W) or (H, W, C) as an image; an image stays as it is."""
    if isinstance(picture, Image):
        return picture
    array = np.asarray(picture)
    known = array.dtype in (np.uint8, np.uint16, np.float32)
    return Image.from_array(array if known else array.astype(np.float32))


def as_colours(image: Image, channels: int) -> NDArray[np.uint8]:
    """Return the colours of a picture as bytes (H, W, 1) or (H, W, 3), with its transparent parts on white."""
    if channels not in (1, 3):
        raise ShapeError(f"a network that takes {channels} maps takes no picture; 1 (grey) or 3 (RGB) would do")
    pixels = visible_bytes(image)
    if pixels.shape[2] not in (1, 3):
        raise ShapeError(f"a picture of {pixels.shape[2]} maps is neither grey nor RGB")
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return pixels.repeat(3, axis=2)
    # Rec. 601 luma in decimal fractions. The layer `gray` uses Pillow's 16-bit fractions, which give another byte for
    # 8,824 of the 2**24 colours: with those, a network with one channel would get other inputs than in its training.
    return to_eight_bits(pixels @ np.array([0.299, 0.587, 0.114], np.float32))[:, :, None]


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int], how: Preparation) -> NDArray[np.uint8]:
    from PIL import Image as Pillow

    left, top, right, bottom = crop_box(pixels.shape[0], pixels.shape[1], size, how)
    cropped = np.ascontiguousarray(pixels[top:bottom, left:right])
    if cropped.shape[:2] == size:
        return cropped
    resample = Pillow.Resampling.BICUBIC if how.resample == "bicubic" else Pillow.Resampling.BILINEAR
    # Cropped before it is resized, so that pixels outside the crop do not change its edge.
    picture = Pillow.fromarray(cropped[:, :, 0] if pixels.shape[2] == 1 else cropped)
    return np.asarray(picture.resize(size[::-1], resample)).reshape(*size, pixels.shape[2])
