"""Read images from files and write images to files: choose the format, and convert what the format cannot hold.

The formats are in ``cnnfilter.images.formats``, each module imported when a file of its format is read or written.
"""

from __future__ import annotations

import importlib
import io
import os
from typing import IO, Any, cast

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.images.coding.settings import Settings
from cnnfilter.images.colour import lay_on_white, make_alpha_binary, to_eight_bits, to_rgb
from cnnfilter.images.formats.detect import (
    ANIMATED_FORMATS,
    FLOAT_FORMATS,
    SUFFIXES,
    TEXT_FORMATS,
    format_of_suffix,
    sniff,
)
from cnnfilter.images.image import MAX_PIXELS, AsImageError, Image, check_size, turn_upright, warn
from cnnfilter.images.metadata import Metadata, upright, with_size
from cnnfilter.images.pages import FIRST, Pages, choose_pages
from cnnfilter.images.streams.ends import is_followed

# The modes that each format holds. `_fit` converts images of other modes.
_MODES_OF_FORMAT = {
    "png": ("L", "LA", "RGB", "RGBA"),
    "jpg": ("L", "RGB", "CMYK"),
    "webp": ("RGB", "RGBA"),
    "tiff": ("L", "LA", "RGB", "RGBA", "CMYK", "maps"),
    "gif": ("L", "RGB", "RGBA"),
    "bmp": ("L", "RGB"),
    "ppm": ("L", "LA", "RGB", "RGBA"),
    "npy": ("L", "LA", "RGB", "RGBA", "CMYK", "maps"),
    "avif": ("L", "RGB", "RGBA"),
    "tga": ("L", "LA", "RGB", "RGBA"),
    "txt": ("L",),
    "csv": ("L",),
}
_SIXTEEN_BIT_FORMATS = ("png", "tiff", "ppm", "npy", "txt", "csv")
# The longest side, in pixels, that a format or its encoder in Pillow allows.
_MAX_SIDE_PIXELS = {"jpg": 65_500, "webp": 16_383, "gif": 65_535, "avif": 65_536, "tga": 65_535}

# Formats that have a module of their own; `cnnfilter.images.formats.pillow` handles all others.
_FORMAT_MODULES = {
    "png": "cnnfilter.images.formats.png",
    "jpg": "cnnfilter.images.formats.jpeg",
    "tiff": "cnnfilter.images.formats.tiff",
    "ppm": "cnnfilter.images.formats.pnm",
    "npy": "cnnfilter.images.formats.npy",
    "txt": "cnnfilter.images.matrices.text",
    "csv": "cnnfilter.images.matrices.text",
}

_HEAD_BYTES = 4096  # the first bytes of a stream, more than `sniff` looks at

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]


def read_image(
    source: Source,
    *,
    max_pixels: int = MAX_PIXELS,
    accept_truncated: bool = False,
    pages: Pages = None,
    axes: str | None = None,
) -> Image:
    """Read a picture: upright, with all frames, in its own depth.

    Parameters
    ----------
    source : path, bytes, or binary stream
        The format is recognised by the content, not by the name.
    max_pixels : int
        Largest accepted width times height times frames; checked before memory is allocated.
    accept_truncated : bool
        Whether of a file that is cut off or damaged, what there is of its pixels is returned, the others filled.
    pages : str or sequence of int, optional
        The pages of a TIFF file that are read, counted from 1: ``"1,3-5"``, ``"2-"`` or numbers; without it, all.
        ``"first"`` reads the first page, whatever the others are, and notes their number in ``page_count``.
    axes : "hwc", "chw", "zyx" or "nhwc", optional
        The order of the axes of an npy file; needed where it has more than 16 channels as (H, W, C). The slices of
        zyx and the pictures of nhwc become frames.

    Raises
    ------
    ImageError
        The file is missing, unreadable, damaged, too large, or not a picture.

    Warns
    -----
    ImageWarning
        With `accept_truncated`, if the file is cut off or damaged.
    """
    data, format = _read_bytes(source)
    try:
        image = _decode(data, format, max_pixels, pages, axes)
        if is_followed(data, format):
            warn("another picture follows the first in it, and is not read; through a pipe (cat FILE | …) all are")
    except ImageError as error:
        if not accept_truncated:
            raise
        image = _decode_truncated(data, format, max_pixels, error, pages)
    return _upright(image)


def _decode_truncated(data: bytes, format: str, max_pixels: int, error: ImageError, pages: Pages) -> Image:
    """Return the readable part of a file that raised `error`, with a warning; without one, raise the error."""
    from cnnfilter.images.truncated import completed

    try:
        with AsImageError(""):
            whole = completed(data, format, max_pixels)
            image = None if whole is None else _decode(whole, format, max_pixels, pages)
    except ImageError:
        image = None
    if image is None:
        raise error
    warn(f"{error}; what there is of it is read, the rest is filled")
    return image


def _read_bytes(source: Any) -> tuple[bytes, str]:
    """Return a source's bytes and their format, which is recognised first: /dev/zero would have no end."""
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return data, sniff(data)
    try:
        if hasattr(source, "read"):
            return _read_stream(source)
        with open(source, "rb", buffering=0) as file:
            return _read_stream(file)
    except FileNotFoundError:
        raise ImageError("there is no such file") from None
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise ImageError("cannot be read: there is not enough memory for it") from error


def _read_stream(stream: IO[bytes]) -> tuple[bytes, str]:
    head = stream.read(_HEAD_BYTES)
    format = sniff(head)
    if isinstance(stream, io.FileIO) and stream.seekable():  # saves the copy that `head + rest` makes
        stream.seek(0)
        head = b""
    return head + stream.read(), format


def _decode(data: bytes, format: str, max_pixels: int, pages: Pages, axes: str | None = None) -> Image:
    with AsImageError("cannot be decoded as " + format):
        if format == "tiff":
            from cnnfilter.images.formats import tiff

            return tiff.read(data, max_pixels, pages)
        if format == "npy" and axes is not None:
            from cnnfilter.images.formats import npy

            return npy.read(data, max_pixels, axes)
        image = _decode_as(data, format, max_pixels)
    if pages not in (None, FIRST):
        if image.frames:
            raise ImageError(f"{format} has frames, not pages: a TIFF file has pages that can be chosen")
        choose_pages(pages, 1)
    return image


def _decode_as(data: bytes, format: str, max_pixels: int) -> Image:
    module = _FORMAT_MODULES.get(format)
    if module is not None:
        image: Image = importlib.import_module(module).read(data, max_pixels)
        return image
    from cnnfilter.images.formats import pillow

    return pillow.read(data, format, max_pixels)


def _upright(image: Image) -> Image:
    """Return an image turned by its EXIF orientation, without that tag."""
    height, width = image.pixels.shape[:2]
    orientation, metadata = upright(image.metadata, image.metadata.size or (width, height))
    if orientation != 1:
        image = image.map(lambda pixels: turn_upright(pixels, orientation))
    return image.replace(metadata=metadata)


def write_image(
    target: str | os.PathLike[str] | IO[bytes],
    image: Image | np.ndarray,
    *,
    format: str | None = None,
    force: bool = True,
    strip: bool = False,
    quality: int | None = None,
    lossless: bool = False,
    subsampling: str | None = None,
    progressive: bool | None = None,
    compression: str = "default",
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
) -> None:
    """Write a picture, compressed as the file that it was read from if that had the same format.

    Parameters
    ----------
    target : path or binary stream
        A file is replaced as a whole or not at all.
    image : Image or ndarray, shape (H, W) or (H, W, C)
    format : str, optional
        One of the values of ``SUFFIXES``; without it the format of the path's suffix, or png.
    force : bool
        Whether an existing file may be replaced.
    strip : bool
        Whether all metadata are left out: profile, EXIF, IPTC, XMP, GeoTIFF tags, resolution and texts.
    quality : int, optional
        1 to 100, for JPEG, WebP and AVIF. Without it, a JPEG file keeps the quantization tables of its input; it is
        95 for other JPEG files, and 90 for WebP and AVIF.
    lossless : bool
        Whether a WebP or AVIF file holds the very pixels; without it, it does if its input did.
    subsampling : str, optional
        Chroma subsampling of JPEG and AVIF: ``444``, ``422`` or ``420``; without it that of the input, else 444 for
        JPEG and 420 for AVIF.
    progressive : bool, optional
        Whether a JPEG file is progressive; without it, it is if its input was.
    compression : str
        ``none`` or ``deflate``, for TIFF also ``packbits``, ``lzw``, ``zstd`` or ``lzma``; or a level of Deflate from
        ``0`` to ``9``. ``default`` is level 1 for PNG, and for TIFF the compression of the input, else none. ``fast``
        stores the rows of PNG without filter and compression, for a pipe.
    max_pixels : int
        Largest accepted width times height times frames.
    threads : int, optional
        Threads that encode PNG and JPEG; None is one for each core. The bytes do not depend on it.

    Raises
    ------
    ImageError
        The format cannot hold the picture, or does not have a setting, or the picture is too large.
    FileExistsError
        The path exists and `force` is not set.

    Warns
    -----
    ImageWarning
        For each thing that the format cannot hold: transparency, the lower 8 of 16 bits, frames.
    """
    if format is None:
        format = None if hasattr(target, "write") else format_of_suffix(target)
    from cnnfilter.runtime.atomic_files import replace_file, write_all

    settings = Settings(quality, lossless, subsampling, progressive, compression)
    parts = _encode(image, format or "png", strip, settings, max_pixels, threads)
    if hasattr(target, "write"):
        stream = cast("IO[bytes]", target)
        for part in parts:
            write_all(stream, part)
        return
    with replace_file(target, force=force) as file:
        for part in parts:
            file.write(part)


def encode_image(
    image: Image | np.ndarray,
    format: str,
    *,
    strip: bool = False,
    quality: int | None = None,
    lossless: bool = False,
    subsampling: str | None = None,
    progressive: bool | None = None,
    compression: str = "default",
    max_pixels: int = MAX_PIXELS,
    threads: int | None = None,
) -> bytes:
    """Return a picture as the bytes of a file; the parameters are those of `write_image`.

    Examples
    --------
    >>> encode_image(np.zeros((2, 2), np.uint8), "ppm")
    b'P5\\n2 2\\n255\\n\\x00\\x00\\x00\\x00'
    """
    settings = Settings(quality, lossless, subsampling, progressive, compression)
    parts = _encode(image, format, strip, settings, max_pixels, threads)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _encode(
    image: Image | np.ndarray, format: str, strip: bool, settings: Settings, max_pixels: int, threads: int | None
) -> list[bytes]:
    format = SUFFIXES.get(f".{format.lower()}", format)
    if format not in _MODES_OF_FORMAT:
        raise ImageError(f"{format!r} is not a format that can be written; {' '.join(_MODES_OF_FORMAT)} are")
    settings.check(format)
    if isinstance(image, np.ndarray):
        image = Image.from_array(image)
    if image.pages and format == "tiff":
        return _encode_pages(image, strip, settings, max_pixels, threads)
    image = _fit(image, format)  # colours are converted by the profile, even if it is left out
    if strip:
        image = image.replace(metadata=Metadata())
    height, width = image.pixels.shape[:2]
    warn_of_lost_metadata(image.metadata, format, image.mode)
    image = image.replace(metadata=with_size(image.metadata, width, height))
    check_size(width, height, max_pixels, len(image.frames) or 1)
    longest = _MAX_SIDE_PIXELS.get(format)
    if longest is not None and max(width, height) > longest:
        raise ImageError(f"{width}x{height} is too large for {format}, which ends at {longest:,} pixels a side")
    with AsImageError("cannot be encoded as " + format):
        return _encode_fitting(image, format, settings, threads)


def warn_of_lost_metadata(metadata: Metadata, format: str, mode: str) -> None:
    """Warn once of the metadata of an image of this mode that files of a format are written without."""
    place = metadata.georeference
    if place and place.fault:
        warn(place.fault)
    if lost := metadata.lost_in(format, mode):
        warn(lost)


def _encode_pages(image: Image, strip: bool, settings: Settings, max_pixels: int, threads: int | None) -> list[bytes]:
    """Return a TIFF file of pages that differ, which holds them all as they are."""
    from cnnfilter.images.formats import tiff

    pages, pixels = [], 0
    for page in image.pages:
        height, width = page.pixels.shape[:2]
        pixels += height * width
        check_size(width, height, max_pixels)
        metadata = Metadata() if strip else with_size(page.metadata, width, height)
        warn_of_lost_metadata(metadata, "tiff", page.mode)
        pages.append(page.replace(metadata=metadata))
    if pixels > max_pixels:
        limit = f"the limit is {max_pixels:,} (--max-pixels {pixels} allows them)"
        raise ImageError(f"{len(pages)} pages have {pixels:,} pixels; {limit}")
    with AsImageError("cannot be encoded as tiff"):
        pages_of_file = image.replace(pages=tuple(pages))
        return cast("list[bytes]", tiff.encode(pages_of_file, threads=threads, settings=settings))


def _encode_fitting(image: Image, format: str, settings: Settings, threads: int | None) -> list[bytes]:
    module = _FORMAT_MODULES.get(format)
    if module is None:
        from cnnfilter.images.formats import pillow

        return [pillow.encode(image, format, settings)]
    options: dict[str, Any] = {"threads": threads, "settings": settings} if format in ("png", "jpg", "tiff") else {}
    if format == "csv":
        options["separator"] = ","
    parts: list[bytes] = importlib.import_module(module).encode(image, **options)
    return parts


def _fit(image: Image, format: str) -> Image:
    """Return an image converted to what the format holds, with a warning for each thing that is lost."""
    if image.frames or image.pages:
        image = _fit_frames(image, format)
    if image.pixels.dtype == np.float32 and format not in FLOAT_FORMATS:
        raise ImageError(f"{format} holds no floating-point values; tiff and npy do (or convert to uint8 or uint16)")
    modes = _MODES_OF_FORMAT[format]
    if format in TEXT_FORMATS:
        from cnnfilter.images.matrices.text import as_matrix

        image = as_matrix(image, format)
    if image.mode == "maps" and image.mode not in modes:
        raise ImageError(
            f"{format} cannot hold {image.pixels.shape[2]} channels; npy and tiff can, a contact sheet too"
        )
    if image.mode == "CMYK" and "CMYK" not in modes and not format == image.format == "ppm":  # PAM holds inks
        image = to_rgb(image)
    if image.has_alpha and format == "gif":
        image = make_alpha_binary(image)
    if image.has_alpha and not {"LA", "RGBA"} & set(modes):
        image = lay_on_white(image, format)
    if image.mode == "L" and "L" not in modes:
        image = image.map(lambda pixels: pixels.repeat(3, axis=2))
    if image.mode == "LA" and "LA" not in modes:
        image = image.map(lambda pixels: pixels[:, :, [0, 0, 0, 1]])
    if image.pixels.dtype == np.uint16 and format not in _SIXTEEN_BIT_FORMATS:
        warn(f"{format} holds 8 bits: the 16-bit values are rounded to them; png and tiff would keep them")
        image = image.map(to_eight_bits)
    return image


def _fit_frames(image: Image, format: str) -> Image:
    """Return an image with its frames or pages if the format holds such, else with the first one."""
    if format == "tiff":
        if any(image.durations):
            warn("tiff holds the frames as pages, without their timing")
        return image
    if (format in ANIMATED_FORMATS and image.durations) or (format == "npy" and image.axes in ("zyx", "nhwc")):
        return image
    kind, other = ("frame", "gif, webp and png") if image.durations else ("page", "tiff")
    count = len(image.frames or image.pages)
    warn(f"{format} holds one {kind}: the first of {count} is written; {other} would keep all")
    return image.replace(frames=(), durations=(), loop=None, pages=())
