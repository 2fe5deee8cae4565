"""Samples of a TIFF page: packed bits widened to bytes, and pixels with the mode that the page's tags give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.images.formats.tiff_tags import ALPHA, BLACK_IS_ZERO, CMYK, PREMULTIPLIED, RGB, WHITE_IS_ZERO
from cnnfilter.images.image import CHANNELS, Bands, widened

if TYPE_CHECKING:
    from tifffile import TiffPage

_BAND_SAMPLES = 1 << 20
"""Samples that are unpacked at a time; each takes some 20 bytes meanwhile."""

_MAX_PACKED_BITS = 15  # with the 7 bits before it, such a sample spans 3 bytes at most


def is_packed(page: TiffPage) -> bool:
    """Return whether a page's samples are whole numbers that do not fill bytes, such as those of 12 bits."""
    bits = page.bitspersample
    return page.dtype is not None and page.dtype.kind in "bu" and bits != 8 and 1 <= bits <= _MAX_PACKED_BITS


def refuse_unknown(page: TiffPage) -> None:
    """Check that a page holds real numbers of a kind that numpy has.

    Raises
    ------
    ImageError
        It does not.
    """
    if page.axes not in ("YX", "YXS", "SYX"):
        raise ImageError(f"pages of the kind {page.axes or 'without pixels'} are not pictures")
    if page.dtype is None or page.dtype.kind not in "buif":
        form = page.dtype or f"{name_of(page.sampleformat).lower()} of {page.bitspersample} bits"
        raise ImageError(f"samples of {form} are not a picture; real numbers are")


def unpack_samples(packed: np.ndarray, count: int, bits: int, fill_order: int = 1) -> np.ndarray:
    """Return rows of packed samples (H, bytes) as (H, count), widened to uint8 or uint16 (4095 becomes 65535).

    Parameters
    ----------
    bits : of a sample, 1 to 15
    fill_order : 1 if the highest bit of a byte comes first, 2 if the lowest

    Examples
    --------
    >>> unpack_samples(np.array([[0xFF, 0xF0, 0x01]], np.uint8), 2, 12)
    array([[65535,    16]], dtype=uint16)
    """
    places = np.arange(count) * bits
    first, shift = places // 8, (24 - bits - places % 8).astype(np.uint32)
    samples = np.empty((len(packed), count), np.uint8 if bits <= 8 else np.uint16)
    rows = max(1, _BAND_SAMPLES // count)
    for top in range(0, len(packed), rows):
        band = packed[top : top + rows]
        if fill_order == 2:
            band = np.packbits(np.unpackbits(band, axis=1, bitorder="little"), axis=1)
        wide = np.pad(band, ((0, 0), (0, 2))).astype(np.uint32)
        three = wide[:, first] << 16 | wide[:, first + 1] << 8 | wide[:, first + 2]
        samples[top : top + rows] = widened(three >> shift & (1 << bits) - 1, (1 << bits) - 1)
    return samples


def name_of(value: Any) -> str:
    """Return the name of a value of an enumeration, such as a compression; its number if it has no name."""
    return str(getattr(value, "name", value))


def interpret(pixels: np.ndarray, page: TiffPage) -> tuple[np.ndarray, str]:
    """Return pixels and mode of samples by the photometric interpretation and the kind of the extra samples.

    Raises
    ------
    ImageError
        The photometric interpretation is not one of grey, RGB and CMYK, or there are fewer samples than it needs.
    """
    kind, channels = int(page.photometric), pixels.shape[2]
    if kind == WHITE_IS_ZERO and pixels.dtype.kind == "u":
        pixels = pixels.copy()
        pixels[:, :, 0] = np.iinfo(pixels.dtype).max - pixels[:, :, 0]
    elif kind not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK):
        raise ImageError(
            f"colours of the kind {name_of(page.photometric)} with {channels} samples of {page.bitspersample} bits "
            "cannot be read"
        )
    colours = {RGB: 3, CMYK: 4}.get(kind, 1)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[colours]
    extra = int(page.extrasamples[0]) if page.extrasamples else 0
    if channels < colours:
        raise ImageError(f"{channels} samples of a pixel are not enough for {mode}")
    if channels == colours:
        return pixels, mode
    if channels == colours + 1 and mode != "CMYK" and extra in (PREMULTIPLIED, ALPHA):
        return (_divided_by_alpha(pixels) if extra == PREMULTIPLIED else pixels), mode + "A"
    return pixels, "maps"


def bands_of(page: TiffPage, mode: str) -> Bands | None:
    """Return the meaning of the channels of a page whose mode is ``maps``; None for other modes."""
    if mode != "maps":
        return None
    colours = {RGB: "RGB", CMYK: "CMYK"}.get(int(page.photometric), "L")
    count = page.samplesperpixel - CHANNELS[colours]
    known = [int(kind) for kind in page.extrasamples or ()][:count]
    return Bands(colours, tuple(known + [0] * (count - len(known))))


def _divided_by_alpha(pixels: np.ndarray) -> np.ndarray:
    """Return pixels whose colour is no longer premultiplied by alpha."""
    full = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    colour, alpha = pixels[:, :, :-1].astype(np.float64), pixels[:, :, -1:].astype(np.float64)
    divided = np.divide(colour * full, alpha, out=np.zeros_like(colour), where=alpha > 0)
    if pixels.dtype.kind == "u":
        divided = np.floor(divided.clip(0, full) + 0.5)
    return np.concatenate([divided.astype(pixels.dtype), pixels[:, :, -1:]], axis=2)
