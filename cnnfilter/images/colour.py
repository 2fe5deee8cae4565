"""CMYK, transparency and depth as another colour mode."""

from __future__ import annotations

import numpy as np

from cnnfilter.images.image import Image, warn


def to_rgb(image: Image) -> Image:
    """Return CMYK as RGB: by its profile if it has one for 8 bits, else what is left of white by the inks."""
    icc = image.metadata.icc_for("CMYK")
    if icc and image.pixels.dtype == np.uint8:
        from cnnfilter.images.formats import pillow

        return image.map(lambda pixels: pillow.cmyk_to_rgb(pixels, icc)).replace(mode="RGB")
    full = np.iinfo(image.pixels.dtype).max

    def convert(pixels: np.ndarray) -> np.ndarray:
        left = full - pixels.astype(np.uint64)
        rgb = (2 * left[:, :, :3] * left[:, :, 3:] + full) // (2 * full)
        return rgb.astype(pixels.dtype)

    return image.map(convert)


def make_alpha_binary(image: Image) -> Image:
    """GIF's pixels are there or not: half is there. What is not there takes no colour of the palette."""
    full = np.iinfo(image.pixels.dtype).max

    def decide(pixels: np.ndarray) -> np.ndarray:
        there = pixels[:, :, -1:] > full // 2
        alpha = np.full_like(pixels[:, :, -1:], full)
        return np.where(there, np.concatenate([pixels[:, :, :-1], alpha], axis=2), 0).astype(pixels.dtype)

    frames = image.frames or (image.pixels,)
    if any(((frame[:, :, -1] != full) & (frame[:, :, -1] != 0)).any() for frame in frames):
        warn("gif holds no half transparency: each pixel is kept or left out; webp and png would keep it")
    return image.map(decide)


def lay_on_white(image: Image, format: str) -> Image:
    """Lay a picture with transparency on white paper, which is what viewers show."""
    full = 255 if image.pixels.dtype == np.uint8 else 65535

    def lay(pixels: np.ndarray) -> np.ndarray:
        colour, alpha = pixels[:, :, :-1].astype(np.uint64), pixels[:, :, -1:].astype(np.uint64)
        mixed = (2 * (colour * alpha + full * (full - alpha)) + full) // (2 * full)
        return mixed.astype(pixels.dtype)

    frames = image.frames or (image.pixels,)
    if any((frame[:, :, -1] != full).any() for frame in frames):
        warn(f"{format} holds no transparency: the picture is laid on white; png and webp would keep it")
    return image.map(lay)


def to_eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Round 0…65535 to 0…255: 257 steps are one."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
