"""Conversions between colour modes: CMYK to RGB, transparency to white paper or to one bit, any depth to 8 bits."""

from __future__ import annotations

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.images.image import CHANNELS, Image, warn


def to_rgb(image: Image) -> Image:
    """Return a CMYK image as RGB: by its ICC profile if it has one, else by ``(1 - ink)·(1 - black)``.

    The profile is applied to 8 bits; 16-bit inks are rounded to them, with a warning.

    Raises
    ------
    ImageError
        The inks are floats.
    """
    if image.pixels.dtype == np.float32:
        raise ImageError("inks of floats cannot become RGB, as their range is not known; tiff and npy keep them")
    icc = image.metadata.icc_for("CMYK")
    if icc:
        return image.map(lambda pixels: _by_profile(pixels, icc)).replace(mode="RGB")
    full = np.iinfo(image.pixels.dtype).max

    def convert(pixels: np.ndarray) -> np.ndarray:
        left = full - pixels.astype(np.uint64)
        rgb = (2 * left[:, :, :3] * left[:, :, 3:] + full) // (2 * full)
        return rgb.astype(pixels.dtype)

    return image.map(convert)


def _by_profile(inks: np.ndarray, icc: bytes) -> np.ndarray:
    """Return inks as sRGB of their own depth."""
    from cnnfilter.images.formats import pillow

    if inks.dtype == np.uint8:
        return pillow.cmyk_to_rgb(inks, icc)
    warn("its 16-bit inks are rounded to 8 bits, at which their profile is applied; tiff would keep them")
    return pillow.cmyk_to_rgb(to_eight_bits(inks), icc).astype(np.uint16) * np.uint16(257)


def make_alpha_binary(image: Image) -> Image:
    """Return an image whose pixels are opaque or fully transparent, as GIF has them; half opaque becomes opaque.

    Transparent pixels become black, so that they take no colour of the palette.
    """
    full = np.iinfo(image.pixels.dtype).max

    def decide(pixels: np.ndarray) -> np.ndarray:
        opaque = pixels[:, :, -1:] > full // 2
        alpha = np.full_like(pixels[:, :, -1:], full)
        return np.where(opaque, np.concatenate([pixels[:, :, :-1], alpha], axis=2), 0).astype(pixels.dtype)

    frames = image.frames or (image.pixels,)
    if any(((frame[:, :, -1] != full) & (frame[:, :, -1] != 0)).any() for frame in frames):
        warn("gif holds no half transparency: each pixel is kept or left out; webp and png would keep it")
    return image.map(decide)


def lay_on_white(image: Image, format: str) -> Image:
    """Return an image without its alpha, laid on white in its own depth; `format` is named in the warning."""
    full = 255 if image.pixels.dtype == np.uint8 else 65535

    def lay(pixels: np.ndarray) -> np.ndarray:
        colour, alpha = pixels[:, :, :-1].astype(np.uint64), pixels[:, :, -1:].astype(np.uint64)
        mixed = (2 * (colour * alpha + full * (full - alpha)) + full) // (2 * full)
        return mixed.astype(pixels.dtype)

    frames = image.frames or (image.pixels,)
    if any((frame[:, :, -1] != full).any() for frame in frames):
        warn(f"{format} holds no transparency: the picture is laid on white; png and webp would keep it")
    return image.map(lay)


def visible_bytes(image: Image) -> np.ndarray:
    """Return an image's colours as uint8 (H, W, C): CMYK as RGB, transparent parts on white, no extra samples.

    Deeper colours are mixed with white and rounded to 8 bits in one step, not rounded twice.
    """
    if image.bands is not None:
        image = _without_extra(image)
    if image.mode == "CMYK":
        image = to_rgb(image)
    if image.alpha is None:
        return to_eight_bits(image.pixels)
    full = np.float32(np.iinfo(image.pixels.dtype).max if image.pixels.dtype.kind == "u" else 255)
    opacity = image.alpha / full
    return to_eight_bits(((image.colour * opacity + full * (1 - opacity)) * (255 / full)).astype(np.float32))


def _without_extra(image: Image) -> Image:
    """Return the colours of a TIFF page, without its extra samples."""
    assert image.bands is not None
    mode, extra = image.bands
    count = f"{len(extra)} extra channels are" if len(extra) > 1 else "extra channel is"
    warn(f"its {count} left out: only its colours ({mode}) are looked at")
    pixels = np.ascontiguousarray(image.pixels[:, :, : CHANNELS[mode]])
    return image.replace(pixels=pixels, mode=mode, bands=None, frames=())


def to_eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Return pixels as uint8: uint16 divided by 257 and rounded; float32 in units of 0…255, rounded half up, NaN as 0.

    >>> to_eight_bits(np.array([0, 128, 129, 65535], np.uint16))
    array([  0,   0,   1, 255], dtype=uint8)
    >>> to_eight_bits(np.array([-3, 0.5, np.nan, 300], np.float32))
    array([  0,   1,   0, 255], dtype=uint8)
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    rounded: np.ndarray = np.nan_to_num(pixels) + np.float32(0.5)
    return rounded.clip(0, 255).astype(np.uint8)
