"""Apply the first layers of a network to whole images, with every frame."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from numpy.typing import DTypeLike, NDArray

from cnnfilter.images.contact_sheets import contact_sheet
from cnnfilter.images.dtypes import Span, to_picture
from cnnfilter.images.image import Image, mode_of
from cnnfilter.layers.images import apply_to_pages, refuse_large
from cnnfilter.layers.stack import Layers, run_layers

if TYPE_CHECKING:
    from cnnfilter.networks.network import FirstLayers


def apply_network(
    image: Image,
    first: FirstLayers,
    then: Layers | None = None,
    *,
    signed: str | Span = "auto",
    sheet: bool | None = None,
    dtype: DTypeLike | None = None,
    max_pixels: int | None = None,
    threads: int | None = None,
) -> tuple[Image, float]:
    """Send every frame of an image through the first layers of a network, and then through layers without weights.

    Parameters
    ----------
    signed : as in `apply_layers`, but auto means stretch, because the maps are not in the units of the picture
    sheet, dtype, max_pixels : as in `apply_layers`

    Returns
    -------
    (Image, float)
        As `apply_layers`.

    Raises
    ------
    ShapeError
        If a layer cannot take the output of the layer before it.
    """
    if image.pages:
        one = partial(apply_network, first=first, then=then, max_pixels=max_pixels, threads=threads)
        if signed in ("auto", "stretch") and dtype is not None and not sheet:
            maps = image.of_pages(partial(one, dtype=None, sheet=False))
            signed = Span.union(Span.of(page.pixels) for page, _ in maps)
        return apply_to_pages(image, partial(one, sheet=sheet), signed, dtype, None)
    layers = Layers((*first.network.layers[: first.count], *(then or ())))
    keeps_channels = layers.keeps_channels(first.network.input_shape)

    def maps_of(frame: NDArray[Any]) -> NDArray[Any]:
        still = image.replace(pixels=frame, frames=(), durations=(), loop=None)
        maps = first.maps(still, threads)
        if then is not None:
            if max_pixels is not None:
                refuse_large(maps.shape, then, max_pixels)
            maps = run_layers(maps, then)
        return maps

    def draw(frame: NDArray[Any]) -> NDArray[Any]:
        maps = maps_of(frame)
        names = [first.filter_name(number) for number in range(maps.shape[2])]
        return contact_sheet([(name, maps[:, :, number]) for number, name in enumerate(names)])

    if (dtype is not None and not keeps_channels) if sheet is None else sheet:
        metadata = image.metadata.without_place()
        return image.map(draw).replace(mode="RGB", bands=None, metadata=metadata), 0.0
    image = image.replace(
        metadata=image.metadata.without_place("its georeference is left out: the network takes it in another size")
    )
    if dtype is None:
        return image.map(maps_of).replace(mode="maps", bands=None), 0.0
    rule = signed
    if rule in ("auto", "stretch"):
        rule = Span.union(Span.of(maps_of(frame)) for frame in image.frames or (image.pixels,))
    shares = [0.0]

    def applied(frame: NDArray[Any]) -> NDArray[Any]:
        pixels, clipped = to_picture(maps_of(frame), dtype, rule)
        shares.append(clipped)
        return pixels

    result = image.map(applied)
    mode = mode_of(result.pixels.shape[2]) if keeps_channels else "maps"
    return result.replace(mode=mode, bands=None), max(shares)
