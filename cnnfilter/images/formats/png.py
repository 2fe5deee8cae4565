"""PNG files (W3C specification, third edition) of every depth and colour type, and their metadata.

Pixels and chunks are in `cnnfilter.images.formats.png_chunks`, animations in `cnnfilter.images.formats.apng`. Pillow is
not used, because it reduces 16-bit colour to 8 bits and is slower.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping

from cnnfilter.images import deflate
from cnnfilter.images.coding.settings import NO_SETTINGS, Settings
from cnnfilter.images.formats.png_chunks import (
    COLOUR_TYPE,
    SIGNATURE,
    Chunks,
    chunk,
    compress,
    decode,
    four_bytes,
    image_data,
    interpret,
    split,
)
from cnnfilter.images.image import Image, warn
from cnnfilter.images.metadata import XMP, Metadata, resolution
from cnnfilter.images.tags.raw_profiles import take_raw_profiles

_MAX_TEXT_BYTES = 1 << 24  # of an unpacked text or profile, so that a short file cannot fill the memory
_COLOUR_CHUNKS = (b"cICP", b"gAMA", b"cHRM", b"sRGB")
_IS_VALID: dict[bytes, Callable[[bytes], bool]] = {
    b"gAMA": lambda content: len(content) == 4 and any(content),
    b"cHRM": lambda content: len(content) == 32,
    b"sRGB": lambda content: len(content) == 1 and content[0] < 4,
    b"cICP": lambda content: len(content) == 4,
    b"pHYs": lambda content: len(content) == 9 and content[8] < 2,
    b"eXIf": lambda content: content[:4] in (b"II*\0", b"MM\0*"),
}
"""The tests of the content of chunks by which readers accept it (sections 11.3.2, 11.3.3 and 11.3.4)."""

_METRES_PER_INCH = 0.0254

# --- reading --------------------------------------------------------------------------------------------------


def read(data: bytes, max_pixels: int) -> Image:
    """Decode a PNG file's bytes.

    Raises
    ------
    ImageError
        The file is damaged, cut off, or has more than `max_pixels`.
    """
    chunks = split(memoryview(data), max_pixels)
    metadata = _metadata(chunks)
    if chunks.animation:
        from cnnfilter.images.formats import apng

        animation: Image | None = apng.read(chunks, metadata, max_pixels)
        if animation is not None:
            return animation
    pixels, mode = interpret(decode(chunks.header, chunks.data), chunks)
    return Image(pixels, mode, "png", metadata)


# --- metadata -----------------------------------------------------------------------------------------


def _metadata(chunks: Chunks) -> Metadata:
    """Return the metadata in a file's chunks, without those that are damaged, which others could not open.

    Warns
    -----
    ImageWarning
        For the damaged chunks.
    """
    other = chunks.other
    damaged = [*chunks.damaged]
    damaged += [kind for kind, is_valid in _IS_VALID.items() if kind in other and not is_valid(bytes(other[kind]))]
    exif = other.get(b"eXIf") if b"eXIf" not in damaged else None
    colour = {kind.decode(): bytes(other[kind]) for kind in _COLOUR_CHUNKS if kind in other and kind not in damaged}
    profile = _profile(other.get(b"iCCP"))
    if b"iCCP" in other and profile is None:
        damaged.append(b"iCCP")
    text = {}
    for kind, content in chunks.texts:
        keyword_and_value = _text(kind, bytes(content))
        if keyword_and_value is None:
            damaged.append(kind)
        else:
            text[keyword_and_value[0]] = keyword_and_value[1]
    raw = take_raw_profiles(text)
    if raw.xmp is not None:
        text.setdefault(XMP, raw.xmp)
    if damaged:
        names = ", ".join(dict.fromkeys(kind.decode("latin-1") for kind in damaged))
        warn(f"damaged parts of the file are left out: {names}")
    return Metadata(
        icc=profile,
        exif=bytes(exif) if exif is not None else raw.exif,
        dpi=_resolution(other.get(b"pHYs")),
        text=text,
        colour=colour,
    )


def _profile(content: memoryview | None) -> bytes | None:
    if content is None:
        return None
    _, _, packed = bytes(content).partition(b"\0")
    return deflate.inflate(packed[1:], _MAX_TEXT_BYTES)


def _resolution(content: memoryview | None) -> tuple[float, float] | None:
    """Return dots per inch, if pHYs has a unit and not only the shape of a pixel."""
    if content is None or len(content) != 9:
        return None
    across, down, unit = struct.unpack(">IIB", content)
    return resolution((round(across * _METRES_PER_INCH, 4), round(down * _METRES_PER_INCH, 4))) if unit == 1 else None


def _text(kind: bytes, content: bytes) -> tuple[str, str] | None:
    keyword, _, rest = content.partition(b"\0")
    value: bytes | None = rest
    encoding = "latin-1"
    if kind == b"zTXt":
        value = deflate.inflate(rest[1:], _MAX_TEXT_BYTES)
    elif kind == b"iTXt":
        encoding = "utf-8"
        *_, value = rest[2:].split(b"\0", 2)
        if rest[:1] == b"\1":
            value = deflate.inflate(value, _MAX_TEXT_BYTES)
    if value is None or not keyword:
        return None
    return keyword.decode("latin-1"), value.decode(encoding, "replace")


def _metadata_chunks(metadata: Metadata, mode: str) -> Iterator[bytes]:
    icc = metadata.icc_for(mode)
    for kind, content in metadata.colour.items():
        if not (icc and kind == "sRGB"):
            yield chunk(kind.encode(), content)
    if icc:
        packed = deflate.ZLIB_HEADER, *deflate.compress_band(icc, last=True), four_bytes(deflate.adler32(icc))
        yield chunk(b"iCCP", b"ICC profile\0\0", *packed)
    if metadata.dpi:
        across, down = (round(dots / _METRES_PER_INCH) for dots in metadata.dpi)
        yield chunk(b"pHYs", struct.pack(">IIB", across, down, 1))
    if metadata.exif:
        yield chunk(b"eXIf", metadata.exif)
    yield from _text_chunks(metadata.text)


def _text_chunks(text: Mapping[str, str]) -> Iterator[bytes]:
    """Yield the chunks of texts: tEXt for Latin-1, else iTXt; a keyword has 1 to 79 Latin-1 characters."""
    for keyword, value in text.items():
        name = keyword.encode("latin-1", "ignore")[:79].strip()
        if not name:
            continue
        try:
            if keyword.startswith("XML:"):
                raise UnicodeError("XMP is UTF-8 by definition")
            yield chunk(b"tEXt", name, b"\0", value.encode("latin-1"))
        except UnicodeError:
            yield chunk(b"iTXt", name, b"\0\0\0\0\0", value.encode())


# --- writing ------------------------------------------------------------------------------------------


def encode(image: Image, *, threads: int | None = None, settings: Settings = NO_SETTINGS) -> list[bytes]:
    """Return the pieces of a PNG file.

    Parameters
    ----------
    image : Image
        uint8 or uint16; L, LA, RGB or RGBA.
    threads : int, optional
        Threads that compress; None is one for each core. The bytes do not depend on it.
    settings : Settings
        The compression that was asked for.
    """
    height, width = image.pixels.shape[:2]
    level = settings.deflate_level(deflate.DEFAULT_LEVEL)
    depth = 8 * image.pixels.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, COLOUR_TYPE[image.mode], 0, 0, 0)
    head = SIGNATURE + chunk(b"IHDR", header) + b"".join(_metadata_chunks(image.metadata, image.mode))
    tail = chunk(b"IEND")
    if len(image.frames) > 1:
        from cnnfilter.images.formats import apng

        return [head, *apng.encode(image, level=level, threads=threads), tail]
    pieces = compress(image.pixels, level, threads)
    return [head, *(part for piece in pieces for part in image_data(*piece)), tail]
