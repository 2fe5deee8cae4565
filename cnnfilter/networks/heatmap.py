"""Class activation maps: the contribution of each position of a picture to the logit of a class, in colours over it.

Where a network ends with a global mean and one dense layer, the logit of a class is the mean of
``maps[y, x] @ kernel[:, class]`` over all positions, plus a bias. So the contribution of each position is exact.

References: B. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, equation 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ModelError
from cnnfilter.images.image import Image
from cnnfilter.layers.fixed import GlobalPool
from cnnfilter.networks.network import Network
from cnnfilter.networks.preparation import as_picture, crop_box

Maps = NDArray[np.float32]

# Black, violet, red, orange, yellow in even steps of lightness: matplotlib's colour map "inferno" at 0, 0.25, 0.5,
# 0.75 and 1.
_COLOUR_STEPS = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float32)
# The share of the colour over the picture, where the map is 0 and where it is 1: chosen by eye, so that the picture
# stays visible everywhere.
_COLOUR_SHARE_MIN, _COLOUR_SHARE_MAX = 0.25, 0.75


def activation_map(network: Network, maps: Maps, label: int) -> Maps:
    """Return the contribution of each position to the logit of a class.

    Parameters
    ----------
    maps : (H, W, C) array
        The input of the global mean.
    label : int
        The index of the class.

    Returns
    -------
    (H, W) float32 array
        Its mean, plus the bias of the class, is the logit.
    """
    kernel = network.weights[network.head]["kernel"]
    if network.answers.is_binary:  # what speaks against the second class speaks for the first one
        return maps @ kernel[:, 0] * np.float32(1 if label else -1)
    return maps @ kernel[:, label]


def layers_before_mean(network: Network) -> int:
    """Return the number of layers before the global mean.

    Raises
    ------
    ModelError
        If the network does not end with a global mean and one dense layer.
    """
    names = [layer.name for layer in network.layers[: network.head]]
    rest = {str(layer) for layer in network.layers[network.head + 1 :]}
    while names and names[-1] in ("flatten", "dropout"):
        names.pop()
    pool = network.layers[len(names) - 1] if names else None
    if not isinstance(pool, GlobalPool) or pool.op != "avg" or rest - {"softmax", "sigmoid"}:
        raise ModelError(f"{network.name} has no heat map: that needs 'globalpool avg' before its last dense layer")
    return len(names) - 1


def lay_over(image: Image, heat: Maps, network: Network) -> Image:
    """Return a picture with an activation map in colours over it.

    Parameters
    ----------
    image : Image
    heat : (H', W') array
        An activation map of the part of the picture that the network got; the margin around that part is darkened.

    Returns
    -------
    Image
        RGB with 8 bits, as large as the picture.
    """
    colours = as_picture(image, network.preparation.scale)
    height, width = colours.shape[:2]
    rows, columns, _ = network.input_shape
    left, top, right, bottom = crop_box(height, width, (rows, columns), network.preparation)
    strength = np.zeros((height, width), np.float32)
    strength[top:bottom, left:right] = _enlarged(_scaled(heat), (bottom - top, right - left))
    share = (_COLOUR_SHARE_MIN + (_COLOUR_SHARE_MAX - _COLOUR_SHARE_MIN) * strength)[:, :, None]
    laid = colours * (1 - share) + _coloured(strength) * share
    pixels = (laid + np.float32(0.5)).astype(np.uint8)
    return Image(pixels, "RGB", image.format, image.metadata, coding=image.coding)


def _scaled(heat: Maps) -> Maps:
    """Return the positive values divided by the largest one, from 0 to 1; negative values become 0."""
    positive = np.maximum(heat, 0)
    return positive / max(float(positive.max()), np.finfo(np.float32).tiny)  # type: ignore[no-any-return]


def _enlarged(heat: Maps, size: tuple[int, int]) -> NDArray[Any]:
    from PIL import Image as Pillow

    enlarged = np.asarray(Pillow.fromarray(heat).resize(size[::-1], Pillow.Resampling.BICUBIC))
    return enlarged.clip(0, 1)


def _coloured(strength: Maps) -> Maps:
    steps = np.linspace(0, 1, len(_COLOUR_STEPS))
    channels = [np.interp(strength, steps, _COLOUR_STEPS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def explain(network: Network, image: Image, *, threads: int | None = None) -> tuple[Maps, Image]:
    """Return the probabilities of a picture, and the picture with the activation map of its likeliest label over it.

    Raises
    ------
    ModelError
        If the network does not end with a global mean and one dense layer.
    """
    batch = network.prepare(image)
    maps = network.forward(batch, until=layers_before_mean(network), threads=threads)[0]
    probabilities = network.predict(image, threads=threads)[0]
    heat = activation_map(network, maps, int(probabilities.argmax()))
    return probabilities, lay_over(image, heat, network)
