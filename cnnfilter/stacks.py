"""A stack of layers on whole pictures: every frame, colour weighted by alpha, the maps as a picture or a sheet."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cnnfilter.alpha import filter_image, pool_image
from cnnfilter.depth import to_picture, top_of
from cnnfilter.errors import ModelError
from cnnfilter.layers import Activation, FixedConvolution, Flatten, GlobalPool, Gray, Layers, MaxPool, run_layers
from cnnfilter.picture import Image
from cnnfilter.shapes import Layer
from cnnfilter.sheets import contact_sheet

Maps = NDArray[np.float32]

AS_PICTURE = (1, 3, 4)
"""Numbers of maps that are written as one picture; others become a contact sheet."""

_NEVER_NEGATIVE = ("relu", "relu6", "sigmoid", "softmax", "abs")


def apply_layers(
    image: Image, layers: Layers, *, alpha: str = "keep", signed: str = "auto", dtype: DTypeLike | None = None
) -> tuple[Image, float]:
    """Send every frame of a picture through layers; between them everything stays float32.

    Parameters
    ----------
    alpha : "keep" (it follows the windows of the layers), "filter" (sent through the layers like a colour), "drop";
        it is part of the result where there is one map, or three
    signed : how values below 0 enter an unsigned picture, as in `filter_picture`; auto is abs where the values come
        from kernels that sum to 0 and no layer after them made them positive, else clip
    dtype : of the result; None gives the maps (H', W', C') as they are, float32

    Returns
    -------
    the picture of 1, 3 or 4 maps or else the contact sheet of them, and the largest share of clipped samples of a
    frame (0 for a sheet, where each map is stretched to its own range)

    Raises
    ------
    ShapeError
        Where a layer does not fit what the one before gives.
    ModelError
        For a layer that has learned weights.
    """
    refuse_learned(layers)
    if signed == "auto":
        signed = signed_rule(layers) if dtype is None or np.dtype(dtype).kind != "f" else "keep"
    shares = [0.0]

    def applied(frame: NDArray[Any]) -> NDArray[Any]:
        maps, opacity = _maps_of(image, frame, layers, alpha)
        if dtype is None:
            return maps
        if maps.shape[2] not in AS_PICTURE:
            return contact_sheet(_labelled(maps, layers))
        pixels, clipped = to_picture(maps, dtype, signed)
        shares.append(clipped)
        if opacity is None or maps.shape[2] == 4:
            return pixels
        return np.concatenate([pixels, to_picture(opacity * np.float32(top_of(dtype)), dtype)[0]], axis=2)

    result = image.map(applied)
    return (result if dtype is not None else result.replace(mode="maps")), max(shares)


def signed_rule(layers: Layers) -> str:
    """Return what ``auto`` means for the values that come out of `layers`: abs or clip.

    >>> from cnnfilter.layers import parse_layers
    >>> [signed_rule(parse_layers(text)) for text in ("conv sobel-h | maxpool 2", "conv sobel-h | relu", "conv blur")]
    ['abs', 'clip', 'clip']
    """
    for layer in reversed(layers):
        if isinstance(layer, Activation) and str(layer).partition(":")[0] in _NEVER_NEGATIVE:
            return "clip"
        if isinstance(layer, FixedConvolution):
            return "abs" if all(kernel.is_zero_sum for group in layer.found for kernel in group) else "clip"
    return "clip"


def refuse_learned(layers: Layers) -> None:
    """Raise ModelError for the first layer whose weights its text does not give."""
    for number, layer in enumerate(layers, 1):
        if layer.learned:
            raise ModelError(
                f"layer {number} '{layer}' has learned weights, which its text does not give; "
                "a fixed kernel such as 'conv sobel-h' would do"
            )


def _labelled(maps: Maps, layers: Layers) -> list[tuple[str, Maps]]:
    return [(f"{layers[-1]} {number + 1}", maps[:, :, number]) for number in range(maps.shape[2])]


def _maps_of(image: Image, frame: NDArray[Any], layers: Layers, alpha: str) -> tuple[Maps, Maps | None]:
    """Return the maps (H', W', C') of a frame, and its opacity (H', W', 1), 0 to 1, if it keeps one."""
    if not image.has_alpha:
        return run_layers(frame, layers), None
    colour = np.ascontiguousarray(frame[:, :, :-1], np.float32)
    opacity = np.ascontiguousarray(frame[:, :, -1:], np.float32) / np.float32(top_of(frame.dtype))
    maps, kept = _weighted(colour, opacity, layers)
    if alpha == "filter":
        filtered = run_layers(opacity, Layers(layer for layer in layers if not isinstance(layer, Gray)))
        kept = filtered.clip(0, 1) if filtered.shape[2] == 1 else None
    return maps, None if alpha == "drop" else kept


def _weighted(maps: Maps, opacity: Maps, layers: Layers) -> tuple[Maps, Maps | None]:
    """Return what `layers` make of `maps`, and where their windows see how much of it.

    Each layer with windows weights what it sees by the opacity there.
    """
    layers.output_shape(maps.shape)
    kept: Maps | None = opacity
    for layer in layers:
        if kept is not None and isinstance(layer, (FixedConvolution, MaxPool, GlobalPool)):
            maps, kept = _through_windows(layer, maps, kept)
        else:
            maps = layer.forward(maps[None])[0]  # type: ignore[attr-defined]  # every layer without weights has it
        kept = kept if not isinstance(layer, Flatten) else None
    return maps.reshape(1, 1, -1) if maps.ndim == 1 else maps, kept


def _through_windows(layer: Layer, maps: Maps, opacity: Maps) -> tuple[Maps, Maps | None]:
    results = []
    for channel in range(maps.shape[2]):
        grey = Image(np.concatenate([maps[:, :, channel : channel + 1], opacity], axis=2), "LA")
        if isinstance(layer, FixedConvolution):
            window = {"stride": layer.stride, "padding": layer.pad, "dilation": layer.dilation}
            options: dict[str, Any] = {**window, "border": layer.border, "bias": layer.bias}
            results += [filter_image(grey, [group], **options)[0] for group in layer.found]
        elif isinstance(layer, GlobalPool):
            results.append(pool_image(grey, layer.op, size=maps.shape[:2]))
        elif isinstance(layer, MaxPool):
            window = {"size": layer.size, "stride": layer.stride, "padding": layer.pad, "dilation": layer.dilation}
            results.append(pool_image(grey, layer.op, ceil_mode=layer.ceil, **window))
    return np.concatenate([result.colour for result in results], axis=2), results[0].alpha
