"""Pool whole pictures: every frame, and colour weighted by alpha, as `cnnfilter.filters.images` explains it."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfilter.filters.images import Samples, Sides, check_alpha, in_bands, is_opaque, is_worth_bands
from cnnfilter.filters.pooling.pool import pool, pool_axes
from cnnfilter.images.dtypes import to_picture, top_of
from cnnfilter.images.image import Image
from cnnfilter.runtime import buffers


def pool_image(image: Image, op: str = "max", *, alpha: str = "keep", **options: Any) -> Image:
    """Pool every frame of a picture; whole numbers stay whole.

    Parameters
    ----------
    alpha : "keep" (pooled where the size changes), "filter" (always pooled), "drop"
    options : those of `pool`
    """
    check_alpha(alpha)
    return image.map(lambda frame: _pool_frame(image, frame, op, alpha, options))


def _pool_frame(image: Image, frame: Samples, op: str, alpha: str, options: dict[str, Any]) -> Samples:
    options = {"dtype": frame.dtype, **options}
    if not image.has_alpha:
        pooled: Samples = pool(frame, op, **options)
        return pooled
    empty = options.pop("empty", buffers.empty)
    opaque = is_opaque(frame)
    if is_worth_bands(frame, empty):
        window = {name: options[name] for name in ("stride", "padding", "dilation", "ceil_mode") if name in options}
        axes = pool_axes(frame.shape[0], frame.shape[1], options.get("size", 2), **window)
        if axes[0].outputs > 1:

            def part(seen: Samples, padding: Sides) -> tuple[Samples, float]:
                return _pool_with_alpha(seen, opaque, op, alpha, {**options, "padding": padding}), 0.0

            return in_bands(frame, axes, part, empty)[0]
    return _pool_with_alpha(frame, opaque, op, alpha, options)


def _pool_with_alpha(frame: Samples, opaque: bool, op: str, alpha: str, options: dict[str, Any]) -> Samples:
    """Pool a frame, or rows of one that is `opaque` as a whole or is not."""
    colour, opacity = np.ascontiguousarray(frame[:, :, :-1]), np.ascontiguousarray(frame[:, :, -1:])
    top = top_of(frame.dtype)
    if opaque:
        pixels: Samples = pool(colour, op, **options)
    elif op == "avg":
        pixels = _weighted_mean(colour, opacity.astype(np.float32) / np.float32(top), options)
    else:  # a colour that cannot be seen never wins
        lowest = {"max": 0 if frame.dtype.kind == "u" else -np.inf, "min": top if frame.dtype.kind == "u" else np.inf}
        pixels = pool(np.where(opacity > 0, colour, frame.dtype.type(lowest[op])), op, **options)
        if pixels.dtype.kind == "f":
            pixels[~np.isfinite(pixels)] = 0
    if alpha == "drop":
        return pixels
    new_opacity = opacity
    if alpha == "filter" or pixels.shape[:2] != opacity.shape[:2]:
        new_opacity = pool(opacity, op, **options)
    return np.concatenate([pixels, new_opacity], axis=2)


def _weighted_mean(colour: Samples, weight: Samples, options: dict[str, Any]) -> Samples:
    """Return the mean of the colours, each with its alpha; the padding counts as opaque black, as in `pool`."""
    window = {**options, "dtype": np.float32}
    total = pool(colour * weight, "avg", **window)
    seen = pool(weight, "avg", **window) + (1 - pool(np.ones_like(weight), "avg", **window))
    mean = np.divide(total, seen, out=np.zeros_like(total), where=seen > 1e-6)
    return to_picture(mean, options["dtype"], "keep" if np.dtype(options["dtype"]).kind == "f" else "clip")[0]
