"""Convolve whole pictures: every frame, and colour weighted by alpha.

The colour of a transparent pixel is not visible and has no meaning, so it must not spread to its neighbours. Each
sample of a window is weighted by its alpha α, and for the missing share stands the mean colour of the window,
``m = Σ|k|αc / Σ|k|α``:

    Σ k·(α·c + (1 − α)·m)

For a kernel without negative weights that is the weighted mean of the visible colours, times the kernel's
sum; a constant colour gives an edge filter nothing to find, whatever its alpha does; and an opaque picture is
filtered as if it had no alpha.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ShapeError
from cnnfilter.filters.convolution.convolve import filter_picture, find_span, refuse_overflow, signed_rule
from cnnfilter.filters.convolution.regions import combine_maps
from cnnfilter.filters.windows import NEAR_BORDERS, Axis, RowBand, border_constant, source_positions, window_axes
from cnnfilter.images.dtypes import Span, to_picture, top_of
from cnnfilter.images.image import Image, check_size, join_pages, page_dtype
from cnnfilter.kernels.kernel import Kernel
from cnnfilter.kernels.lookup import find_kernels

Samples = NDArray[Any]

Sides = tuple[int, int, int, int]
"""Padding: top, right, bottom, left."""

ALPHA = ("keep", "filter", "drop")
"""The rules for the alpha of a result; see `filter_image`."""

_BAND_SAMPLES = 1 << 21
"""Samples of a band, unless a single row has more: 8 MiB of float32."""


def filter_image(
    image: Image,
    kernels: Sequence[Any],
    *,
    alpha: str = "keep",
    max_pixels: int | None = None,
    **options: Any,
) -> tuple[Image, float, tuple[str, ...]]:
    """Convolve every frame of a picture.

    Parameters
    ----------
    kernels : names, text, arrays or Kernels, as `find_kernels` takes them
    alpha : "keep" (the alpha at the centre of each window), "filter" (convolved like the colours), "drop"
    max_pixels : pixels of the result that are accepted, all frames together; checked before memory is allocated
    options : those of `filter_picture`, but stretch uses one span for all frames and pages. The alpha of a float32
        result is in the units of the picture, as its colours are. If the pages of the picture differ, each has a result
        of its own; `dtype` stands for the dtype of each page if it is that of the first.

    Returns
    -------
    the picture; the largest share of clipped samples of a frame; and a line on the algorithm for each kernel

    Raises
    ------
    ImageError
        The result would have more pixels.
    """
    check_alpha(alpha)
    if image.pages:
        return _filter_pages(image, kernels, alpha, max_pixels, options)
    if max_pixels is not None:
        _refuse_large(image, find_kernels(kernels[0])[0], max_pixels, options)
    if options.get("signed") == "stretch":
        options["signed"] = _span(image, kernels, options)
    clipped: list[float] = []
    algorithms_used: list[tuple[str, ...]] = []

    def filtered(frame: Samples) -> Samples:
        pixels, share, how = _filter_frame(image, frame, kernels, alpha, options)
        clipped.append(share)
        algorithms_used.append(how)
        return pixels

    down, across = _axes(image, find_kernels(kernels[0])[0], options)
    result = image.map(filtered).replace(metadata=image.metadata.sampled(down.sampling, across.sampling))
    return result, max(clipped), algorithms_used[0]


def _span(image: Image, kernels: Sequence[Any], options: dict[str, Any]) -> Span:
    """Return the smallest and the largest result for the colours of all frames."""
    frames = image.frames or (image.pixels,)
    return Span.union(_span_of_frame(image, frame, kernels, options) for frame in frames)


def _filter_pages(
    image: Image, kernels: Sequence[Any], alpha: str, max_pixels: int | None, options: dict[str, Any]
) -> tuple[Image, float, tuple[str, ...]]:
    """Convolve each page of a picture whose pages differ; stretch uses one span, in shares of the range of a page."""
    span = None
    if options.get("signed") == "stretch":
        span = Span.union(
            image.of_pages(lambda page: _span(page, kernels, options).scaled(1 / top_of(page.pixels.dtype)))
        )

    def filtered(page: Image) -> tuple[Image, float, tuple[str, ...]]:
        own = {**options, "dtype": page_dtype(options.get("dtype"), image, page)}
        if span is not None:
            own["signed"] = span.scaled(top_of(page.pixels.dtype))
        return filter_image(page, kernels, alpha=alpha, max_pixels=max_pixels, **own)

    results = image.of_pages(filtered)
    return join_pages([page for page, _, _ in results]), max(clipped for _, clipped, _ in results), results[0][2]


def check_alpha(alpha: str) -> None:
    """Refuse a rule that is not one of `ALPHA`, with a ShapeError."""
    if alpha not in ALPHA:
        raise ShapeError(f"alpha {alpha!r} is not one of {', '.join(ALPHA)}")


def _axes(image: Image, kernel: Kernel, options: dict[str, Any]) -> tuple[Axis, Axis]:
    window = {name: options[name] for name in ("stride", "dilation", "padding") if name in options}
    return window_axes(image.pixels.shape[:2], kernel.weights.shape, **window)


def _refuse_large(image: Image, kernel: Kernel, max_pixels: int, options: dict[str, Any]) -> None:
    down, across = _axes(image, kernel, options)
    check_size(across.outputs, down.outputs, max_pixels, len(image.frames) or 1)


def _filter_frame(
    image: Image, frame: Samples, kernels: Sequence[Any], alpha: str, options: dict[str, Any]
) -> tuple[Samples, float, tuple[str, ...]]:
    if not image.has_alpha:
        result = filter_picture(frame, kernels, **options)
        return result.pixels, result.clipped, result.algorithms_used
    options = dict(options)
    allocate = options.pop("allocate", np.empty)
    opaque = is_opaque(frame)
    axes = _axes_in_bands(frame, kernels, options) if is_worth_bands(frame) else None
    if axes is None:
        return _filter_with_alpha(frame, opaque, kernels, alpha, options)
    algorithms_used: list[tuple[str, ...]] = []

    def filter_rows(rows: Samples, padding: Sides) -> tuple[Samples, float]:
        pixels, clipped, used = _filter_with_alpha(rows, opaque, kernels, alpha, {**options, "padding": padding})
        algorithms_used.append(used)
        return pixels, clipped

    pixels, clipped = in_bands(frame, axes, filter_rows, allocate)
    return pixels, clipped, algorithms_used[0]


def _span_of_frame(image: Image, frame: Samples, kernels: Sequence[Any], options: dict[str, Any]) -> Span:
    """Return the smallest and the largest result for the colours of a frame."""
    options = {name: value for name, value in options.items() if name not in ("signed", "allocate")}
    if not image.has_alpha:
        return find_span(frame, kernels, **options)
    opaque = is_opaque(frame)

    def span(seen: Samples, window: dict[str, Any]) -> Span:
        colour, opacity = split_alpha(seen)
        if opaque:
            return find_span(colour, kernels, **{**options, **window})
        return Span.of(_weigh(colour, opacity, kernels, {**options, **window})[0])

    axes = _axes_in_bands(frame, kernels, options) if is_worth_bands(frame) else None
    if axes is None:
        return span(frame, {})
    return Span.union(span(seen, {"padding": padding}) for seen, padding in _bands(frame, axes))


def split_alpha(frame: Samples) -> tuple[Samples, Samples]:
    """Return the colours and the alpha of a frame, each contiguous."""
    return np.ascontiguousarray(frame[:, :, :-1]), np.ascontiguousarray(frame[:, :, -1:])


def is_worth_bands(frame: Samples) -> bool:
    """Return whether float copies of a whole frame would take so much memory that bands pay."""
    return frame.size > 2 * _BAND_SAMPLES


def is_opaque(frame: Samples) -> bool:
    """Return whether the last channel of a frame (H, W, C), its alpha, is opaque everywhere.

    It is read in bands, as the frame may be mapped from a file.
    """
    top = top_of(frame.dtype)
    rows = max(1, _BAND_SAMPLES // frame[0].size)
    return all((frame[y : y + rows, :, -1] == top).all() for y in range(0, len(frame), rows))


def _filter_with_alpha(
    frame: Samples, opaque: bool, kernels: Sequence[Any], alpha: str, options: dict[str, Any]
) -> tuple[Samples, float, tuple[str, ...]]:
    """Filter a frame, or some of its rows; `opaque` says whether the whole frame is."""
    colour, opacity = split_alpha(frame)
    top = top_of(frame.dtype)
    if opaque:
        result = filter_picture(colour, kernels, **options)
        pixels, clipped, algorithms_used = result.pixels, result.clipped, result.algorithms_used
    else:
        pixels, clipped, algorithms_used = _filter_weighted(colour, opacity, kernels, options)
    sets = [kernel for spec in kernels for kernel in find_kernels(spec)]
    if alpha == "drop" or pixels.shape[2] != colour.shape[2]:  # a stack of maps has no alpha
        return pixels, clipped, algorithms_used
    if alpha == "filter":
        without = {name: value for name, value in options.items() if name not in ("bias", "signed", "dtype")}
        result = filter_picture(opacity, kernels, signed="clip", dtype=frame.dtype, **without)
        new_opacity = result.pixels
    else:
        new_opacity = _at_centres(opacity, sets[0], top, options)
    if pixels.dtype == np.float32:
        new_opacity = new_opacity.astype(np.float32, copy=False)  # in the units of the file, as the colours are
    elif pixels.dtype != new_opacity.dtype:
        scale = top_of(pixels.dtype) / top
        new_opacity = to_picture(new_opacity.astype(np.float32) * np.float32(scale), pixels.dtype)[0]
    return np.concatenate([pixels, new_opacity], axis=2), clipped, algorithms_used


def _axes_in_bands(frame: Samples, kernels: Sequence[Any], options: dict[str, Any]) -> tuple[Axis, Axis] | None:
    """Return the axes of the windows if bands of rows can be filtered one by one, otherwise None."""
    shapes = {kernel.weights.shape for spec in kernels for kernel in find_kernels(spec)}
    is_near = options.get("border", "replicate").partition(":")[0] in NEAR_BORDERS
    if len(shapes) > 1 or not is_near:
        return None
    window = {name: options[name] for name in ("stride", "dilation", "padding") if name in options}
    down, across = window_axes(frame.shape[:2], shapes.pop(), **window)
    return None if max(down.before, down.after) >= down.reach else (down, across)


def in_bands(
    frame: Samples,
    axes: tuple[Axis, Axis],
    part: Callable[[Samples, Sides], tuple[Samples, float]],
    allocate: Callable[..., Samples],
) -> tuple[Samples, float]:
    """Return the joined results of `part` for all bands; it takes the rows that a band sees, and their padding."""
    return join_bands((part(seen, padding) for seen, padding in _bands(frame, axes)), axes[0].outputs, allocate)


def _bands(frame: Samples, axes: tuple[Axis, Axis]) -> Iterator[tuple[Samples, Sides]]:
    """Yield for each band of the result the rows of the frame that it sees, and their padding."""
    down, across = axes
    # A band has at least three times as many rows as it shares with its neighbours.
    rows = max(1, _BAND_SAMPLES // (down.stride * frame[0].size), 3 * down.reach // down.stride)
    for first in range(0, down.outputs, rows):
        band = RowBand.of(down, first, min(first + rows, down.outputs))
        yield (
            np.ascontiguousarray(frame[band.start : band.stop]),
            (band.before, across.after, band.after, across.before),
        )


def join_bands(
    parts: Iterable[tuple[Samples, float]], height: int, allocate: Callable[..., Samples]
) -> tuple[Samples, float]:
    """Return bands of rows as one array, which `allocate` makes, and the mean of the shares of clipped samples."""
    out: Samples | None = None
    end, mean = 0, 0.0
    for pixels, share in parts:
        if out is None:
            out = allocate((height, *pixels.shape[1:]), pixels.dtype)
        out[end : end + len(pixels)] = pixels
        end += len(pixels)
        mean += share * len(pixels) / height
    assert out is not None
    return out, mean


def _filter_weighted(
    colour: Samples, opacity: Samples, kernels: Sequence[Any], options: dict[str, Any]
) -> tuple[Samples, float, tuple[str, ...]]:
    """Return colours filtered by the module's formula, the share of clipped samples, and the algorithms."""
    found = [kernel for spec in kernels for kernel in find_kernels(spec)]
    dtype = np.dtype(options.get("dtype") or colour.dtype)
    rule = signed_rule(options.get("signed", "auto"), found, dtype, options.get("bias", 0.0))
    values, algorithms_used = _weigh(colour, opacity, kernels, options)
    pixels, clipped = to_picture(values, dtype, rule)
    return pixels, clipped, algorithms_used


def _weigh(
    colour: Samples, opacity: Samples, kernels: Sequence[Any], options: dict[str, Any]
) -> tuple[Samples, tuple[str, ...]]:
    """Return the float32 result of the module's formula, and the algorithms."""
    combine, bias = options.get("combine"), options.get("bias", 0.0)
    weight = opacity.astype(np.float32) / np.float32(top_of(opacity.dtype))
    window = {name: value for name, value in options.items() if name not in ("signed", "combine", "bias", "dtype")}
    border = window.get("border", "replicate")
    # A constant border is opaque.
    opaque = {**window, "border": "constant:1"} if border_constant(border) is not None else window
    sets = [find_kernels(spec) for spec in kernels]
    found = [kernel for several in sets for kernel in several]
    for kernel in found:
        refuse_overflow(kernel, colour.dtype)  # `filter_picture` gets the colours as float32
    visible = colour * weight

    def sums(samples: Samples, weights: Samples, where: dict[str, Any]) -> Samples:
        return filter_picture(samples, [weights], signed="auto", dtype=np.float32, **where).pixels

    maps = []
    algorithms_used: list[str] = []
    for kernel in found:
        shares = np.abs(kernel.weights)
        result = filter_picture(visible, [kernel.weights], signed="auto", dtype=np.float32, **window)
        signs = kernel.weights.min() < 0
        total = sums(visible, shares, window) if signs else result.pixels
        weights = sums(weight, shares, opaque)
        mean = np.divide(total, weights, out=np.zeros_like(total), where=weights > 1e-6 * shares.sum())
        present = sums(weight, kernel.weights, opaque) if signs else weights
        maps.append(result.pixels + mean * (np.float32(kernel.weights.sum()) - present))
        algorithms_used += result.algorithms_used
    if combine is None:
        combine = sets[0].combine if len(sets) == 1 else "magnitude"
    combine = combine if len(found) > 1 else ""
    is_combined = combine not in ("", "stack")
    biases = [kernel.offset + (0.0 if is_combined else bias) for kernel in found]
    return combine_maps(maps, combine, biases, bias if is_combined else 0.0), tuple(algorithms_used)


def _at_centres(opacity: Samples, kernel: Kernel, top: float, options: dict[str, Any]) -> Samples:
    """Return the alpha at the centre of each window; a constant border is opaque."""
    window = {name: options[name] for name in ("stride", "dilation", "padding") if name in options}
    axes = window_axes(opacity.shape[:2], kernel.weights.shape, **window)
    places = []
    for axis in axes:
        at = np.arange(axis.outputs) * axis.stride + axis.dilation * ((axis.taps - 1) // 2)
        places.append(source_positions(axis, options.get("border", "replicate"))[at])
    rows, columns = places
    taken: Samples = opacity[rows[:, None], columns[None, :]]
    taken[(rows[:, None] < 0) | (columns[None, :] < 0)] = top
    return taken
