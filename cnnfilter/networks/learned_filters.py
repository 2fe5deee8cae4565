"""A learned filter as a kernel: ``MODEL#LAYER[FILTER]`` or ``MODEL#LAYER[FILTER,MAP]``.

Layers are counted from 1, as `describe` counts them, filters and maps from 0. A filter across several maps is the sum
over them: what it makes of a picture whose channels are alike. Of an inverted bottleneck it is the depthwise filter.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import KernelError, ModelError
from cnnfilter.kernels.lookup import Kernel, KernelSet
from cnnfilter.networks.network import Network, load_model

Weights = NDArray[np.float64]

_SPEC = re.compile(r"(.+)#(\d+)\[(\d+)(?:,(\d+))?\]")
EXAMPLE = "efficientnet-lite0#1[3]"


def find_learned(text: str) -> KernelSet:
    """Return the kernel of a learned filter.

    Raises
    ------
    KernelError
        If it is not written as above, or the model, layer, filter or map is not there.
    """
    match = _SPEC.fullmatch(text)
    if match is None:
        raise KernelError(f"{text!r}: a learned filter is written MODEL#LAYER[FILTER], as in {EXAMPLE}")
    model, layer, filter, source = match[1], int(match[2]), int(match[3]), match[4]
    try:
        network = load_model(model)
        maps = filters_of(network, layer)
    except ModelError as error:
        raise KernelError(f"{text!r}: {error}") from error
    if filter >= maps.shape[3]:
        raise KernelError(f"{text!r}: layer {layer} has the filters 0 to {maps.shape[3] - 1}")
    chosen = maps[:, :, :, filter]
    if source is not None:
        if int(source) >= chosen.shape[2]:
            raise KernelError(f"{text!r}: its filters have the maps 0 to {chosen.shape[2] - 1}")
        chosen = chosen[:, :, int(source), None]
    return KernelSet([Kernel(chosen.sum(axis=2, dtype=np.float64), text)])


def filters_of(network: Network, layer: int) -> Weights:
    """Return the filters of a layer (counted from 1) as (kH, kW, I, O); I is 1 where each map has its own.

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
    """Draw the filters of the first layer that has some on a contact sheet, each as `convolve -k` names it.

    Filters across three maps are drawn in colour, others as their sum.

    Raises
    ------
    ModelError
        If no layer has any.
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
