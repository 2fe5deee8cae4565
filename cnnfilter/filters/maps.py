"""The maps of several kernels as a picture of one format: pages, a contact sheet, or the maps as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnfilter.images.formats.detect import ARRAY_FORMATS
from cnnfilter.images.image import Image, join_pages, mode_of


def spread_maps(image: Image, names: Sequence[str], format: str, like: Image | None = None) -> Image:
    """Return the maps of several kernels as a picture that can be written in a format.

    Parameters
    ----------
    image : the result of `filter_image` for ``combine="stack"``: K maps of each of C channels
    names : the names of the K kernels
    format : arrays hold the maps as they are, tiff a page for each frame and kernel, all others a contact sheet
    like : the picture that was filtered: a page has its mode, if it has as many channels
    """
    if image.pages:
        sources = like.pages if like is not None else image.pages
        pairs = zip(image.pages, sources, strict=True)
        return join_pages([spread_maps(page, names, format, source) for page, source in pairs])
    if format in ARRAY_FORMATS:
        return image.replace(mode="maps")
    kernels = len(names)
    channels = image.pixels.shape[2] // kernels
    if format == "tiff":
        frames = image.frames or (image.pixels,)
        pages = tuple(np.ascontiguousarray(maps[:, :, number::kernels]) for maps in frames for number in range(kernels))
        mode, bands = mode_of(channels), None
        if like is not None and channels == like.pixels.shape[2]:
            mode, bands = like.mode, like.bands
        return image.replace(pixels=pages[0], mode=mode, bands=bands, frames=pages, durations=(), loop=None)
    from cnnfilter.images.contact_sheets import contact_sheet  # it imports Pillow, which nothing else here needs

    marks = {1: [""], 3: [" R", " G", " B"]}.get(channels) or [f" {number + 1}" for number in range(channels)]
    labels = [name + mark for mark in marks for name in names]
    sheet = image.map(lambda maps: contact_sheet([(label, maps[:, :, number]) for number, label in enumerate(labels)]))
    return sheet.replace(metadata=image.metadata.without_place())
