"""Apply the first layers of a network to whole images, with every frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import DTypeLike, NDArray

from cnnfilter.images.contact_sheets import contact_sheet
from cnnfilter.images.dtypes import to_picture
from cnnfilter.images.image import Image, mode_of
from cnnfilter.layers.images import PICTURE_MAP_COUNTS, refuse_large
from cnnfilter.layers.stack import Layers, run_layers

if TYPE_CHECKING:
    from cnnfilter.networks.network import FirstLayers


def apply_network(
    image: Image,
    first: FirstLayers,
    then: Layers | None = None,
    *,
    signed: str = "auto",
    dtype: DTypeLike | None = None,
    max_pixels: int | None = None,
    threads: int | None = None,
) -> tuple[Image, float]:
    """Send every frame of an image through the first layers of a network, and then through layers without weights.

    Parameters
    ----------
    signed : as in `apply_layers`, but auto means stretch, because the maps are not in the units of the picture
    dtype, max_pixels : as in `apply_layers`

    Returns
    -------
    (Image, float)
        As `apply_layers`.

    Raises
    ------
    ShapeError
        If a layer cannot take the output of the layer before it.
    """
    shares = [0.0]

    def applied(frame: NDArray[Any]) -> NDArray[Any]:
        still = image.replace(pixels=frame, frames=(), durations=(), loop=None)
        maps = first.maps(still, threads)
        if then is not None:
            if max_pixels is not None:
                refuse_large(maps.shape, then, max_pixels)
            maps = run_layers(maps, then)
        if dtype is None:
            return maps
        if maps.shape[2] not in PICTURE_MAP_COUNTS:
            names = [first.filter_name(number) for number in range(maps.shape[2])]
            return contact_sheet([(name, maps[:, :, number]) for number, name in enumerate(names)])
        pixels, clipped = to_picture(maps, dtype, "stretch" if signed == "auto" else signed)
        shares.append(clipped)
        return pixels

    result = image.map(applied)
    channels = result.pixels.shape[2]
    return result.replace(mode="maps" if dtype is None else mode_of(channels)), max(shares)
