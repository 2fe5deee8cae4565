"""Pool whole pictures: every frame, and colour weighted by alpha for means."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnfilter.filters.images import Samples, Sides, check_alpha, in_bands, is_opaque, is_worth_bands, split_alpha
from cnnfilter.filters.pooling.pool import pool_axes, pool_picture
from cnnfilter.filters.windows import Axis
from cnnfilter.images.dtypes import to_picture, top_of
from cnnfilter.images.image import Image, page_dtype


def pool_image(image: Image, op: str = "max", *, alpha: str = "keep", **options: Any) -> Image:
    """Pool every frame of a picture; integers stay integers, unless `dtype` says otherwise.

    Parameters
    ----------
    alpha : "keep" (pooled where the size changes), "filter" (always pooled), "drop"
    options : those of `pool_picture`
    """
    check_alpha(alpha)
    if image.pages:
        kind = options.pop("dtype", image.pixels.dtype)
        return image.map_pages(
            lambda page: pool_image(page, op, alpha=alpha, dtype=page_dtype(kind, image, page), **options)
        )
    down, across = _pool_axes(image.pixels, options)
    pooled = image.map(lambda frame: _pool_frame(image, frame, op, alpha, options))
    return pooled.replace(metadata=image.metadata.sampled(down.sampling, across.sampling))


def _pool_axes(frame: Samples, options: dict[str, Any]) -> tuple[Axis, Axis]:
    window = {name: options[name] for name in ("stride", "padding", "dilation", "ceil_mode") if name in options}
    return pool_axes(frame.shape[0], frame.shape[1], options.get("size", 2), **window)


def _pool_frame(image: Image, frame: Samples, op: str, alpha: str, options: dict[str, Any]) -> Samples:
    options = {"dtype": frame.dtype, **options}
    if not image.has_alpha:
        pooled: Samples = pool_picture(frame, op, **options)
        return pooled
    allocate = options.pop("allocate", np.empty)
    opaque = is_opaque(frame)
    if is_worth_bands(frame):
        axes = _pool_axes(frame, options)
        if axes[0].outputs > 1:

            def pool_rows(rows: Samples, padding: Sides) -> tuple[Samples, float]:
                return _pool_with_alpha(rows, opaque, op, alpha, {**options, "padding": padding}), 0.0

            return in_bands(frame, axes, pool_rows, allocate)[0]
    return _pool_with_alpha(frame, opaque, op, alpha, options)


def _pool_with_alpha(frame: Samples, opaque: bool, op: str, alpha: str, options: dict[str, Any]) -> Samples:
    """Pool a frame, or some of its rows; `opaque` says whether the whole frame is."""
    colour, opacity = split_alpha(frame)
    top = top_of(frame.dtype)
    if opaque:
        pixels: Samples = pool_picture(colour, op, **options)
    elif op == "avg":
        pixels = _weighted_mean(colour, opacity.astype(np.float32) / np.float32(top), options)
    else:  # the colour of a transparent pixel is never the maximum or minimum
        lowest = {"max": 0 if frame.dtype.kind == "u" else -np.inf, "min": top if frame.dtype.kind == "u" else np.inf}
        pixels = pool_picture(np.where(opacity > 0, colour, frame.dtype.type(lowest[op])), op, **options)
        if pixels.dtype.kind == "f":
            pixels[~np.isfinite(pixels)] = 0
    if alpha == "drop":
        return pixels
    new_opacity = opacity
    if alpha == "filter" or pixels.shape[:2] != opacity.shape[:2]:
        new_opacity = pool_picture(opacity, op, **options)
    return np.concatenate([pixels, new_opacity], axis=2)


def _weighted_mean(colour: Samples, weight: Samples, options: dict[str, Any]) -> Samples:
    """Return the mean of the colours, each with its alpha; the padding counts as opaque black, as in `pool`."""
    window = {**options, "dtype": np.float32}
    total = pool_picture(colour * weight, "avg", **window)
    weights = pool_picture(weight, "avg", **window) + (1 - pool_picture(np.ones_like(weight), "avg", **window))
    mean = np.divide(total, weights, out=np.zeros_like(total), where=weights > 1e-6)
    return to_picture(mean, options["dtype"], "keep" if np.dtype(options["dtype"]).kind == "f" else "clip")[0]
