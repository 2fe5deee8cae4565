"""A stack of layers on whole pictures: every frame, colour weighted by alpha, maps as a picture or a contact sheet.

The layers run in bands of rows where they can (`cnnfilter.layers.bands`), so that a large picture needs little memory
beside itself and its result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cnnfilter.filters.images import filter_image, join_bands
from cnnfilter.filters.pooling.images import pool_image
from cnnfilter.images.colour import to_rgb
from cnnfilter.images.contact_sheets import contact_sheet, refuse_many
from cnnfilter.images.dtypes import Range, Span, store_band, to_picture, top_of
from cnnfilter.images.image import Image, check_size, join_pages, page_dtype
from cnnfilter.images.metadata import Metadata
from cnnfilter.layers.bands import SelectRows, count_banded, output_height, split_bands
from cnnfilter.layers.fixed import Activation, Allocate, FixedConvolution, Flatten, GlobalPool, Gray, MaxPool
from cnnfilter.layers.layer import Layer, Shape, WindowLayer
from cnnfilter.layers.stack import Layers, refuse_learned, run_layers

Maps = NDArray[np.float32]

MapsAndOpacity = tuple[Maps, Maps | None]
"""Maps (H, W, C), and their opacity (H, W, 1) from 0 to 1, or None."""

PixelsAndClipped = tuple[NDArray[Any], float]
"""Pixels (H, W, C), and the share of their samples that was clipped."""


class _Bands(NamedTuple):
    """The maps of a frame in bands, from top to bottom."""

    compute: Callable[[], Iterable[MapsAndOpacity]]
    """Computes the bands anew on each call."""
    join: Callable[[Iterable[PixelsAndClipped]], PixelsAndClipped]
    """Joins the pixels of all bands to those of the frame; the clipped share is that of the frame."""

    def whole(self) -> Maps:
        """Return all maps as one array."""
        return self.join((maps, 0.0) for maps, _ in self.compute())[0]

    def span(self) -> Span:
        """Return the smallest and the largest finite value of all maps."""
        return Span.union(Span.of(maps) for maps, _ in self.compute())


_NONNEGATIVE_ACTIVATIONS = ("relu", "relu6", "sigmoid", "softmax", "abs")


def apply_layers(
    image: Image,
    layers: Layers,
    *,
    alpha: str = "keep",
    signed: str | Span = "auto",
    sheet: bool | None = None,
    dtype: DTypeLike | None = None,
    max_pixels: int | None = None,
    allocate: Allocate = np.empty,
) -> tuple[Image, float]:
    """Send every frame of a picture through layers; the values between layers are float32.

    Parameters
    ----------
    alpha : "keep" (the opacity in each window), "filter" (sent through the layers like a colour) or "drop"; only maps
        that are the picture's channels have alpha
    signed : how values below 0 enter an unsigned picture, as in `filter_picture`; auto is abs where the
        values come from kernels that sum to 0, without a bias or an offset, and no later layer makes them positive,
        else clip
    sheet : whether the maps are drawn on a contact sheet; None for a sheet unless `dtype` is None, or each channel of
        the picture has one map (see `Layers.keeps_channels`)
    dtype : of the result; None gives the maps (H', W', C') as float32, in the units of the file, their alpha too. If
        the pages of the picture differ, it stands for the dtype of each page if it is that of the first.
    max_pixels : the most pixels that the maps after a layer may have; checked before memory is taken
    allocate : makes the arrays of whole maps between layers and, as the last one, the array of the result

    Returns
    -------
    the picture, or a contact sheet of the maps; and the largest share of clipped samples of a frame (0 for a sheet,
    where each map is stretched to its own range). Its mode is maps if the maps are not the channels of the picture, or
    `dtype` is None.

    Raises
    ------
    ShapeError
        If a layer cannot take the shape that the layer before gives.
    ModelError
        If a layer has learned weights.
    ImageError
        If the maps after a layer have more pixels than `max_pixels`, or there are more maps than fit on a sheet.
    """
    refuse_learned(layers)
    if image.pages:
        one = partial(apply_layers, layers=layers, alpha=alpha, sheet=sheet, max_pixels=max_pixels, allocate=allocate)
        span = None
        if signed == "stretch" and dtype is not None:
            span = Span.union(image.of_pages(lambda page: _span_in_shares(page, layers, alpha, allocate)))
        return apply_to_pages(image, one, signed, dtype, span)
    if max_pixels is not None:
        refuse_large(image.colour.shape, layers, max_pixels)
    if signed == "auto":
        signed = signed_rule(layers) if dtype is None or np.dtype(dtype).kind != "f" else "keep"
    if image.mode == "CMYK" and any(isinstance(layer, Gray) for layer in layers):
        image = to_rgb(image)  # luma is defined for light, not for inks
    count = layers.output_shape(image.colour.shape)[-1]
    keeps_channels = layers.keeps_channels(image.colour.shape)
    compute = partial(_compute_in_bands, image, layers=layers, alpha=alpha, allocate=allocate)
    if (dtype is not None and not keeps_channels) if sheet is None else sheet:
        refuse_many(count)  # before all maps are computed
        drawn = image.map(lambda frame: contact_sheet(_label_maps(compute(frame).whole(), layers)))
        return drawn.replace(mode="RGB", bands=None, metadata=image.metadata.without_place()), 0.0
    rule = _stretched_rule(image, compute) if signed == "stretch" else signed
    output_range = Range.of(rule, dtype) if dtype is not None else Range(keep=True)
    # Alpha has the range of the result's type; without a type, that of the picture's.
    top = top_of(image.pixels.dtype if dtype is None else dtype)
    shares = [0.0]

    def applied(frame: NDArray[Any]) -> NDArray[Any]:
        bands = compute(frame)
        stored = (
            _to_pixels(maps, opacity if keeps_channels else None, np.dtype(dtype or np.float32), output_range, top)
            for maps, opacity in bands.compute()
        )
        pixels, clipped = bands.join(stored)
        shares.append(clipped)
        return pixels

    result = image.map(applied).replace(metadata=_sampled(image, layers))
    return (result if keeps_channels and dtype is not None else result.replace(mode="maps", bands=None)), max(shares)


def _sampled(image: Image, layers: Layers) -> Metadata:
    """Return the metadata of the maps, whose georeference follows the windows of the layers."""
    metadata = image.metadata
    for layer, shape in zip(layers, layers.shapes(image.colour.shape), strict=False):
        if isinstance(layer, WindowLayer):
            down, across = layer.axes(*shape[:2])
            metadata = metadata.sampled(down.sampling, across.sampling)
        elif isinstance(layer, GlobalPool):
            metadata = metadata.sampled((shape[0], 0), (shape[1], 0))
        elif isinstance(layer, Flatten):
            metadata = metadata.without_place()
    return metadata


def _span_in_shares(image: Image, layers: Layers, alpha: str, allocate: Allocate) -> Span:
    """Return the span of the maps of a page, in shares of the range of the page's dtype."""
    compute = partial(_compute_in_bands, image, layers=layers, alpha=alpha, allocate=allocate)
    return _stretched_rule(image, compute).scaled(1 / top_of(image.pixels.dtype))


def apply_to_pages(
    image: Image,
    apply: Callable[..., tuple[Image, float]],
    signed: str | Span,
    dtype: DTypeLike | None,
    span: Span | None,
) -> tuple[Image, float]:
    """Return the results of `apply` for each page of a picture whose pages differ, and their largest clipped share.

    Parameters
    ----------
    apply : takes a page, and `signed` and `dtype` by name
    span : what is stretched instead of `signed`, in shares of the range of a page's dtype
    """

    def applied(page: Image) -> tuple[Image, float]:
        rule = signed if span is None else span.scaled(top_of(page.pixels.dtype))
        return apply(page, signed=rule, dtype=page_dtype(dtype, image, page))

    results = image.of_pages(applied)
    return join_pages([page for page, _ in results]), max(clipped for _, clipped in results)


def _stretched_rule(image: Image, compute: Callable[[NDArray[Any]], _Bands]) -> Span:
    """Return the span of the maps of all frames."""
    return Span.union(compute(frame).span() for frame in image.frames or (image.pixels,))


def _compute_in_bands(image: Image, frame: NDArray[Any], *, layers: Layers, alpha: str, allocate: Allocate) -> _Bands:
    """Return the maps of a frame in bands.

    A layer that cannot run in bands runs on whole maps, in arrays that `allocate` makes; the bands are those of the
    layers after the last such layer. With alpha, if there is such a layer, all layers run in one band.
    """
    if image.has_alpha:
        if count_banded(layers, frame[:, :, :-1].shape) == len(layers):
            return _in_bands(image, frame, layers, alpha, allocate)
        whole = [_maps_of(image, frame, layers, alpha)]
        return _Bands(lambda: whole, lambda bands: next(iter(bands)))
    while (near := count_banded(layers, frame.shape)) < len(layers):
        layer = layers[near]
        if near or frame.dtype != np.float32:
            frame = _in_bands(image, frame, layers[:near], alpha, allocate).whole()
        if isinstance(layer, (FixedConvolution, MaxPool)):
            frame = layer.maps_of(frame, allocate)
        else:
            frame = layer.forward(frame[None])[0]  # type: ignore[attr-defined]  # every layer without weights has it
        layers = layers[near + 1 :]
    return _in_bands(image, frame, layers, alpha, allocate)


def _in_bands(image: Image, frame: NDArray[Any], layers: Layers, alpha: str, allocate: Allocate) -> _Bands:
    shape = *frame.shape[:2], frame.shape[2] - image.has_alpha
    return _Bands(
        lambda: (_maps_of(image, frame[rows], those, alpha) for rows, those in split_bands(layers, shape)),
        partial(_join, shapes=list(layers.shapes(shape)), allocate=allocate),
    )


def _join(bands: Iterable[PixelsAndClipped], shapes: list[Shape], allocate: Allocate) -> PixelsAndClipped:
    """Join bands of maps, or of flat numbers (1, 1, F); `shapes` are those before, between and after the layers."""
    height = output_height(shapes)
    if len(shapes[-1]) == 3:
        return join_bands(bands, height, allocate)
    flat = (1, 1, *shapes[-1])
    rows = ((numbers.reshape(-1, shapes[-1][0] // height), share) for numbers, share in bands)
    numbers, share = join_bands(rows, height, lambda shape, dtype: allocate(flat, dtype).reshape(shape))
    return numbers.reshape(flat), share


def _to_pixels(
    maps: Maps, opacity: Maps | None, dtype: np.dtype[Any], output_range: Range, top: float
) -> PixelsAndClipped:
    """Return maps, with their opacity as alpha from 0 to `top`, as pixels of `dtype`.

    The clipped share is that of the maps.
    """
    if output_range.keep and opacity is None:
        return maps, 0.0
    out = np.empty(maps.shape, dtype)
    clipped = store_band(maps.reshape(len(maps), -1), out.reshape(len(maps), -1), output_range) / max(out.size, 1)
    if opacity is None:
        return out, clipped
    return np.concatenate([out, to_picture(opacity * np.float32(top), dtype)[0]], axis=2), clipped


def refuse_large(first: tuple[int, ...], layers: Layers, max_pixels: int) -> None:
    """Raise ImageError if the input of shape `first` or the maps after a layer have more than `max_pixels` pixels."""
    for shape in layers.shapes(first):
        if len(shape) == 3:
            check_size(shape[1], shape[0], max_pixels)


def signed_rule(layers: Layers) -> str:
    """Return the rule that ``auto`` stands for after `layers`: abs or clip.

    >>> from cnnfilter.layers.stack import parse_layers
    >>> [signed_rule(parse_layers(text)) for text in ("conv sobel-h | maxpool 2", "conv sobel-h | relu")]
    ['abs', 'clip']
    """
    if ends_nonnegative(layers):
        return "clip"
    for layer in reversed(layers):
        if isinstance(layer, FixedConvolution):
            kernels = [kernel for group in layer.kernel_sets for kernel in group]
            return "abs" if layer.bias == 0 and all(kernel.finds_differences for kernel in kernels) else "clip"
    return "clip"


def ends_nonnegative(layers: Layers) -> bool:
    """Return whether an activation after the last convolution leaves no value below 0.

    >>> from cnnfilter.layers.stack import parse_layers
    >>> [ends_nonnegative(parse_layers(text)) for text in ("conv sobel-h | relu", "relu | conv sobel-h")]
    [True, False]
    """
    for layer in reversed(layers):
        if isinstance(layer, Activation) and str(layer).partition(":")[0] in _NONNEGATIVE_ACTIVATIONS:
            return True
        if isinstance(layer, FixedConvolution):
            return False
    return False


def _label_maps(maps: Maps, layers: Layers) -> list[tuple[str, Maps]]:
    names = _map_names(layers)
    return [(f"{number + 1}: {names[number % len(names)]}", maps[:, :, number]) for number in range(maps.shape[2])]


def _map_names(layers: Layers) -> list[str]:
    """Return names for the maps of the last layer; more maps than names repeat them in the same order.

    A name begins with the kernel of the map, unless the layers after that convolution mix maps.

    >>> from cnnfilter.layers.stack import parse_layers
    >>> _map_names(parse_layers("conv sobel-h sobel-v | maxpool 2"))
    ['sobel-h | maxpool 2', 'sobel-v | maxpool 2']
    """
    last = layers[-1]
    for layer in reversed(layers):
        if isinstance(layer, FixedConvolution):
            if layer is last:
                return [f"conv {kernel}" for kernel in layer.kernels]
            return [f"{kernel} | {last}" for kernel in layer.kernels]
        if isinstance(layer, (Gray, Flatten)):  # they mix the maps before
            break
    return [str(last)]


def _maps_of(image: Image, frame: NDArray[Any], layers: Layers, alpha: str) -> MapsAndOpacity:
    """Return the maps (H', W', C') of a frame, or of rows of it, and their opacity (H', W', 1) or None."""
    if not image.has_alpha:
        return run_layers(frame, layers), None
    colour = np.ascontiguousarray(frame[:, :, :-1], np.float32)
    opacity = np.ascontiguousarray(frame[:, :, -1:], np.float32) / np.float32(top_of(frame.dtype))
    maps, seen_opacity = _run_with_opacity(colour, opacity, layers)
    if alpha == "filter":
        filtered = run_layers(opacity, Layers(layer for layer in layers if not isinstance(layer, Gray)))
        seen_opacity = filtered.clip(0, 1) if filtered.shape[2] == 1 else None
    return maps, None if alpha == "drop" else seen_opacity


def _run_with_opacity(maps: Maps, opacity: Maps, layers: Layers) -> MapsAndOpacity:
    """Return the maps after `layers`, and the opacity in the windows of the layers (None after ``flatten``).

    Each layer with windows weights the values that it sees by their opacity.
    """
    layers.output_shape(maps.shape)
    seen_opacity: Maps | None = opacity
    for layer in layers:
        if seen_opacity is not None and isinstance(layer, (FixedConvolution, MaxPool, GlobalPool)):
            maps, seen_opacity = _run_window_layer(layer, maps, seen_opacity)
        elif seen_opacity is not None and isinstance(layer, SelectRows):
            maps, seen_opacity = maps[layer.rows], seen_opacity[layer.rows]
        else:
            maps = layer.forward(maps[None])[0]  # type: ignore[attr-defined]  # every layer without weights has it
        seen_opacity = seen_opacity if not isinstance(layer, Flatten) else None
    return maps.reshape(1, 1, -1) if maps.ndim == 1 else maps, seen_opacity


def _run_window_layer(layer: Layer, maps: Maps, opacity: Maps) -> MapsAndOpacity:
    """Run a convolution or pooling on each map, as a grey picture with `opacity` as its alpha."""
    results = []
    options: dict[str, Any]
    for channel in range(maps.shape[2]):
        grey = Image(np.concatenate([maps[:, :, channel : channel + 1], opacity], axis=2), "LA")
        if isinstance(layer, FixedConvolution):
            options = {"stride": layer.stride, "padding": layer.pad, "dilation": layer.dilation}
            options |= {"border": layer.border, "bias": layer.bias}
            results += [filter_image(grey, [group], **options)[0] for group in layer.kernel_sets]
        elif isinstance(layer, GlobalPool):
            results.append(pool_image(grey, layer.op, size=maps.shape[:2]))
        elif isinstance(layer, MaxPool):
            options = {"size": layer.size, "stride": layer.stride, "padding": layer.pad}
            options |= {"dilation": layer.dilation, "ceil_mode": layer.ceil}
            results.append(pool_image(grey, layer.op, **options))
    return np.concatenate([result.colour for result in results], axis=2), results[0].alpha
