"""The learned filters of a network: as arrays, and drawn on a contact sheet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ModelError
from cnnfilter.networks.network import Network

Weights = NDArray[np.float64]


def filters_of(network: Network, layer: int) -> Weights:
    """Return the filters of a layer (counted from 1) as (kH, kW, I, O); I is 1 if each map has a filter of its own.

    Raises
    ------
    ModelError
        If the network has no such layer, or the layer has no filters.
    """
    if not 1 <= layer <= len(network.layers):
        raise ModelError(f"{network.name} has the layers 1 to {len(network.layers)}, not {layer}")
    tensors = network.weights[layer - 1]
    kernel = tensors.get("depthwise.kernel", tensors.get("kernel"))
    if kernel is None or kernel.ndim != 4:
        raise ModelError(f"layer {layer} of {network.name}, '{network.layers[layer - 1]}', has no filters to learn")
    own = network.layers[layer - 1].name in ("depthwise", "mbconv")
    return kernel.transpose(0, 1, 3, 2) if own else kernel  # type: ignore[return-value]


def draw_filters(network: Network) -> NDArray[np.uint8]:
    """Draw the filters of the first layer with filters on a contact sheet, with the names that `convolve -k` takes.

    Filters of three input maps are drawn in colour, all others as their sum over the input maps.

    Raises
    ------
    ModelError
        If no layer has filters.
    """
    from cnnfilter.images.contact_sheets import contact_sheet

    for layer in range(1, len(network.layers) + 1):
        if any(name.endswith("kernel") and tensor.ndim == 4 for name, tensor in network.weights[layer - 1].items()):
            break
    else:
        raise ModelError(f"no layer of {network.name} has filters")
    maps = filters_of(network, layer)
    drawn = maps if maps.shape[2] == 3 else maps.sum(axis=2, keepdims=True)
    tiles = [
        (
            f"{network.name}#{layer}[{number}]",
            drawn[:, :, :, number].squeeze(axis=2) if drawn.shape[2] == 1 else drawn[:, :, :, number],
        )
        for number in range(maps.shape[3])
    ]
    return contact_sheet(tiles)
