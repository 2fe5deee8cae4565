"""The compression of a file that was read, so that a result in the same format can be compressed in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnfilter.images.coding.settings import SUBSAMPLINGS, Settings

_SAMPLINGS: dict[tuple[tuple[int, int], ...], str] = {
    ((1, 1),) * 3: "444",
    ((2, 1), (1, 1), (1, 1)): "422",
    ((2, 2), (1, 1), (1, 1)): "420",
}
"""The subsampling by the factors, across and down, of a JPEG file's three components (ITU-T T.81, A.1.1)."""


@dataclass(frozen=True)
class Packing:
    """The compression of the pages of a TIFF file, and their strips or tiles.

    Parameters
    ----------
    compression, predictor : int
        The values of the tags 259 and 317; 1 is none.
    tile : (int, int), optional
        Rows and columns of a tile; None for strips.
    rows : int, optional
        Rows of a strip.
    """

    compression: int = 1
    predictor: int = 1
    tile: tuple[int, int] | None = None
    rows: int | None = None

    @property
    def is_plain(self) -> bool:
        """Return whether the pixels are stored as an array."""
        return self.compression == 1 and self.tile is None


@dataclass(frozen=True)
class Coding:
    """The compression of a file.

    Parameters
    ----------
    format : str
        The file's format; results in other formats do not use the values.
    tables : tuple of tuple of int
        JPEG's quantization tables, 64 numbers each, by the components that use them.
    subsampling : str, optional
        One of `SUBSAMPLINGS`; None if it is another one, or there is no chroma.
    progressive : bool
        Whether a JPEG file is progressive.
    lossless : bool
        Whether a WebP or AVIF file holds the very pixels.
    packing : Packing
        How a TIFF file is compressed.
    """

    format: str
    tables: tuple[tuple[int, ...], ...] = ()
    subsampling: str | None = None
    progressive: bool = False
    lossless: bool = False
    packing: Packing = Packing()


def of_jpeg(picture: Any) -> Coding:
    """Return how a JPEG file that Pillow has opened is compressed.

    The tables are those of the components in their order, without repetitions at the end, as Pillow writes them: the
    last table serves all further components.
    """
    components = picture.layer
    numbers = [component[3] for component in components]
    while len(numbers) > 1 and numbers[-1] == numbers[-2]:
        del numbers[-1]
    tables = tuple(tuple(picture.quantization.get(number, ())) for number in numbers)
    if len(tables) > 3 or any(len(table) != 64 or 0 in table for table in tables):
        tables = ()
    factors = tuple((component[1], component[2]) for component in components)
    return Coding("jpg", tables, _SAMPLINGS.get(factors), bool(picture.info.get("progressive")))


def of_webp(data: bytes) -> Coding:
    """Return how a WebP file is compressed: without loss if all of its pictures are (RFC 9649, section 2.6)."""
    kinds = set[bytes]()
    _collect_webp_chunks(data, 12, len(data), kinds)
    return Coding("webp", lossless=b"VP8L" in kinds and b"VP8 " not in kinds)


def _collect_webp_chunks(data: bytes, at: int, end: int, kinds: set[bytes]) -> None:
    while at + 8 <= end:
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        kinds.add(kind)
        if kind == b"ANMF":  # a frame: 16 bytes of its own, and chunks
            _collect_webp_chunks(data, at + 24, min(end, at + 8 + size), kinds)
        at += 8 + size + size % 2


def of_file(data: bytes, format: str) -> Coding | None:
    """Return how a WebP or AVIF file is compressed; None for other formats."""
    if format == "webp":
        return of_webp(data)
    if format == "avif":
        from cnnfilter.images.coding import avif

        subsampling, lossless = avif.describe(data)
        return Coding("avif", subsampling=subsampling, lossless=lossless)
    return None


# --- options of Pillow's encoders ---------------------------------------------------------------------

_JPEG_QUALITY, _WEBP_QUALITY, _AVIF_QUALITY = 95, 90, 90
"""Qualities without a file of the format as input: coarser ones blur edges, which filters bring out."""


def save_options(format: str, kept: Coding | None, asked: Settings) -> dict[str, Any]:
    """Return the options of Pillow's encoder for a JPEG, WebP or AVIF file.

    Parameters
    ----------
    kept : how the input is compressed; it counts if it has the same format
    asked : the settings that were asked for, which go before
    """
    encoder = {"jpg": _jpeg_options, "webp": _webp_options, "avif": _avif_options}.get(format)
    return {} if encoder is None else encoder(_kept_in(format, kept), asked)


def _kept_in(format: str, kept: Coding | None) -> Coding:
    return kept if kept is not None and kept.format == format else Coding(format)


def is_lossless(format: str, kept: Coding | None, asked: Settings) -> bool:
    """Return whether a WebP or AVIF file is to hold the very pixels."""
    return _is_lossless(_kept_in(format, kept), asked)


def _jpeg_options(kept: Coding, asked: Settings) -> dict[str, Any]:
    subsampling = asked.subsampling or kept.subsampling or SUBSAMPLINGS[0]
    options: dict[str, Any] = {"subsampling": SUBSAMPLINGS.index(subsampling)}
    if kept.tables and asked.quality is None:
        options["qtables"] = list(kept.tables)
    else:
        options["quality"] = asked.quality or _JPEG_QUALITY
    if kept.progressive if asked.progressive is None else asked.progressive:
        options["progressive"] = True
    return options


def _is_lossless(kept: Coding, asked: Settings) -> bool:
    return asked.lossless or (kept.lossless and asked.quality is None and asked.subsampling in (None, SUBSAMPLINGS[0]))


def _webp_options(kept: Coding, asked: Settings) -> dict[str, Any]:
    if _is_lossless(kept, asked):
        return {"lossless": True, "exact": True}
    return {"quality": asked.quality or _WEBP_QUALITY, "exact": True}


def _avif_options(kept: Coding, asked: Settings) -> dict[str, Any]:
    subsampling = asked.subsampling or kept.subsampling
    if _is_lossless(kept, asked):
        return {"quality": 100, "subsampling": "4:4:4"}
    options: dict[str, Any] = {"quality": asked.quality or _AVIF_QUALITY}
    return options | ({"subsampling": ":".join(subsampling)} if subsampling else {})
