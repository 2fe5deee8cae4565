"""TIFF: pages of 8, 16 and 32 bits, whole or floating point.

Pillow reads the pages that it keeps whole, tifffile the others: Pillow cuts 16-bit colour to 8 bits without
a word and knows no colour of 32 bits. A page that tifffile cannot unpack (LZW needs a further library) is
unpacked by Pillow's libtiff as if it were bytes, and put together here. Writing is small enough to be done
here, and so keeps the whole of EXIF, which neither of the two libraries would.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import io
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnfilter import codecs, limits
from cnnfilter.errors import ImageError
from cnnfilter.metadata import XMP, Metadata, resolution, split_orientation
from cnnfilter.picture import Image, as_pixels, check_size, warn

if TYPE_CHECKING:
    from PIL.TiffImagePlugin import TiffImageFile
    from tifffile import TiffPage

# Tags (TIFF 6.0, part 1 to 3; the last two from Adobe and ICC).
_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 277, 278, 279
_ACROSS, _DOWN, _PLANES, _UNIT, _PREDICTOR = 282, 283, 284, 296, 317
_TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_BYTES = 322, 323, 324, 325
_EXTRA, _FORMAT, _XMP, _ICC = 338, 339, 700, 34675
_ORIENTATION = 274
_DESCRIPTIVE = (270, 271, 272, 274, 305, 306, 315, 316, 33432, 34665, 34853)

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_PHOTOMETRIC_OF = {"L": _BLACK_IS_ZERO, "LA": _BLACK_IS_ZERO, "RGB": _RGB, "RGBA": _RGB, "CMYK": _CMYK}
_PREMULTIPLIED, _ALPHA = 1, 2


# --- reading ------------------------------------------------------------------------------------------


def read(data: bytes, max_pixels: int) -> Image:
    """Decode a TIFF file's bytes, with all its pages if they are alike.

    Raises
    ------
    ImageError
        If it is damaged, over the limit, or of a kind that neither library knows.
    """
    _silence_libtiff()
    metadata, pages = _metadata(data), None
    try:
        with codecs.pillow_limit.at_least(max_pixels), codecs.open_file(data, "tiff") as picture:
            check_size(picture.width, picture.height, max_pixels)
            if _is_kept_whole(picture):
                pages = _pages_by_pillow(picture, max_pixels)
                if _ORIENTATION not in picture.tag_v2:  # Pillow has turned the pages upright
                    metadata = dataclasses.replace(metadata, exif=split_orientation(metadata.exif)[1])
    except SyntaxError:  # what Pillow says of a kind of pixel that it does not know
        pass
    pages = pages or _pages_by_tifffile(data, max_pixels)
    alike = [pixels for pixels, mode in pages if pixels.shape == pages[0][0].shape and mode == pages[0][1]]
    if len(alike) < len(pages):
        warn(f"its {len(pages)} pages differ in size or kind: only the first is read")
        alike = alike[:1]
    return Image(alike[0], pages[0][1], "tiff", metadata, tuple(alike) if len(alike) > 1 else ())


@functools.cache
def _silence_libtiff() -> None:
    """Stop libtiff from writing to the process's standard error: what fails is raised by Pillow as well.

    The library is found through the module that is linked to it. Where it is built in without its symbols,
    its messages cannot be stopped.
    """
    from PIL import _imaging

    try:
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)
    except (OSError, AttributeError):
        pass


def _is_kept_whole(picture: TiffImageFile) -> bool:
    tags = picture.tag_v2
    bits, formats = tags.get(_BITS, (1,)), tags.get(_FORMAT, (1,))
    if isinstance(bits, int):
        bits = (bits,)
    whole = max(bits) <= 8 and set(formats) <= {1, 4}
    deep = picture.mode in ("I;16", "I;16B", "F") and tags.get(_PHOTOMETRIC) == _BLACK_IS_ZERO
    return whole or deep


def _pages_by_pillow(picture: TiffImageFile, max_pixels: int) -> list[tuple[np.ndarray, str]]:
    pages: list[tuple[np.ndarray, str]] = []
    pixels = 0
    for index in range(picture.n_frames):
        picture.seek(index)
        if index and int(picture.tag_v2.get(_SUBFILE, 0)) & 1:  # a smaller copy of another page
            continue
        pixels += picture.width * picture.height
        if pixels > max_pixels or len(pages) >= limits.frames:
            check_size(picture.width, picture.height, max_pixels, len(pages) + 1)
        pages.append(codecs.to_array(picture))
    return pages


def _metadata(data: bytes) -> Metadata:
    """Return what the first directory says beside how the file holds the pixels."""
    from PIL import Image as PillowImage

    tags = PillowImage.Exif()
    try:
        tags.load(data)
        icc, xmp = tags.get(_ICC), tags.get(_XMP)
        inches = {2: 1.0, 3: 2.54}.get(tags.get(_UNIT, 2), 0.0)
        dpi = resolution((tags.get(_ACROSS, 0) * inches, tags.get(_DOWN, 0) * inches))
        for tag in set(tags) - set(_DESCRIPTIVE):
            del tags[tag]
        exif = tags.tobytes() if len(tags) else None
    except Exception:  # tags that cannot be followed are no reason to refuse the picture
        return Metadata()
    text = {XMP: xmp.decode("utf-8", "replace")} if isinstance(xmp, bytes) else {}
    return Metadata(icc if isinstance(icc, bytes) else None, exif, dpi, text)


def _pages_by_tifffile(data: bytes, max_pixels: int) -> list[tuple[np.ndarray, str]]:
    import tifffile

    codecs.keep_quiet("tifffile")
    pages: list[tuple[np.ndarray, str]] = []
    pixels = 0
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for index, page in enumerate(file.pages):
            assert isinstance(page, tifffile.TiffPage)
            if index and page.is_reduced:
                continue
            pixels += page.imagewidth * page.imagelength
            check_size(page.imagewidth, page.imagelength, max_pixels)
            if pixels > max_pixels or len(pages) >= limits.frames:
                check_size(page.imagewidth, page.imagelength, max_pixels, len(pages) + 1)
            pages.append(_page(data, page))
    return pages


def _page(data: bytes, page: TiffPage) -> tuple[np.ndarray, str]:
    if page.axes not in ("YX", "YXS", "SYX") or page.dtype is None:
        raise ImageError(f"pages of the kind {page.axes or 'without pixels'} are not pictures")
    try:
        values = page.asarray()
        values = np.moveaxis(values, 0, 2) if page.axes == "SYX" else values
    except ValueError:
        if "imagecodecs" not in _reason(page):
            raise
        values = _unpack_by_libtiff(data, page)
    values = values.reshape(page.imagelength, page.imagewidth, -1)
    return _meaning(as_pixels(values), page)


def _reason(page: TiffPage) -> str:
    """Return why a page cannot be unpacked; that a codec is missing is the one that can be helped."""
    try:
        next(page.segments())
    except ValueError as error:
        return str(error)
    return ""


def _meaning(pixels: np.ndarray, page: TiffPage) -> tuple[np.ndarray, str]:
    """Return pixels and mode by the photometric interpretation and what the extra samples are."""
    kind, channels = int(page.photometric), pixels.shape[2]
    if kind == _WHITE_IS_ZERO and pixels.dtype.kind == "u":
        pixels = np.iinfo(pixels.dtype).max - pixels
    elif kind not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK):
        raise ImageError(f"colours of the kind {_name(page.photometric)} with more than 8 bits cannot be read")
    colours = {_RGB: 3, _CMYK: 4}.get(kind, 1)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[colours]
    extra = int(page.extrasamples[0]) if page.extrasamples else 0
    if channels == colours:
        return pixels, mode
    if channels == colours + 1 and mode != "CMYK" and extra in (_PREMULTIPLIED, _ALPHA):
        return (_divided_by_alpha(pixels) if extra == _PREMULTIPLIED else pixels), mode + "A"
    return pixels, "maps"


def _name(value: Any) -> str:
    return str(getattr(value, "name", value))


def _divided_by_alpha(pixels: np.ndarray) -> np.ndarray:
    """Undo the weighting of colour by alpha."""
    full = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
    colour, alpha = pixels[:, :, :-1].astype(np.float64), pixels[:, :, -1:].astype(np.float64)
    divided = np.divide(colour * full, alpha, out=np.zeros_like(colour), where=alpha > 0)
    if pixels.dtype.kind == "u":
        divided = np.floor(divided.clip(0, full) + 0.5)
    return np.concatenate([divided.astype(pixels.dtype), pixels[:, :, -1:]], axis=2)


def _unpack_by_libtiff(data: bytes, page: TiffPage) -> np.ndarray:
    """Let Pillow's libtiff unpack strips or tiles as 8-bit greys, and read the numbers out of them."""
    assert page.dtype is not None
    if page.bitspersample not in (16, 32, 64) or page.fillorder != 1:
        raise ImageError(f"{page.bitspersample} bits with {_name(page.compression)} compression cannot be read")
    separate = page.planarconfig == 2 and page.samplesperpixel > 1
    samples = 1 if separate else page.samplesperpixel
    planes = page.samplesperpixel if separate else 1
    per_plane = len(page.dataoffsets) // planes
    parts = [
        _unpack_plane(data, page, samples, slice(index * per_plane, (index + 1) * per_plane)) for index in range(planes)
    ]
    return np.concatenate(parts, axis=2)


def _unpack_plane(data: bytes, page: TiffPage, samples: int, segments: slice) -> np.ndarray:
    assert page.dtype is not None
    size = samples * page.dtype.itemsize
    width, length = page.imagewidth, page.imagelength
    entries: dict[int, Any] = {_BITS: 8, _COMPRESSION: int(page.compression), _PHOTOMETRIC: 1, _SAMPLES: 1}
    offsets = [offset + 8 for offset in page.dataoffsets[segments]]
    if page.is_tiled:
        across, down = page.tilewidth, page.tilelength
        width, length = -(-width // across) * across, -(-length // down) * down
        entries |= {_TILE_WIDTH: across * size, _TILE_LENGTH: down}
        entries |= {_TILES: offsets, _TILE_BYTES: list(page.databytecounts[segments])}
    else:
        across = width
        entries |= {_ROWS_PER_STRIP: min(page.rowsperstrip, length)}
        entries |= {_STRIPS: offsets, _STRIP_BYTES: list(page.databytecounts[segments])}
    entries |= {_WIDTH: width * size, _LENGTH: length}
    order = page.parent.byteorder
    start = 8 + len(data) + len(data) % 2
    mark = b"II*\0" if order == "<" else b"MM\0*"
    directory = _directory([_entry(order, tag, value) for tag, value in entries.items()], order, start)
    file = b"".join([mark, struct.pack(order + "I", start), data, bytes(len(data) % 2), directory])
    with codecs.pillow_limit.at_least(width * size * length), codecs.open_file(file, "tiff") as picture:
        unpacked = np.array(picture)
    blocks = unpacked.reshape(length, width // across, across * size)
    numbers = _undo_predictor(blocks, page, samples)
    return numbers.reshape(length, width, samples)[: page.imagelength, : page.imagewidth]


def _undo_predictor(blocks: np.ndarray, page: TiffPage, samples: int) -> np.ndarray:
    """Rows of bytes (length, blocks across, bytes) to numbers, by TIFF's predictors 1 to 3."""
    assert page.dtype is not None
    dtype = page.dtype.newbyteorder(page.parent.byteorder)
    if page.predictor == 3:  # bytes by significance, differences of bytes along the row (TIFF Technical Note 3)
        rows = blocks.reshape(*blocks.shape[:2], -1, samples).cumsum(axis=2, dtype=np.uint8)
        planes = rows.reshape(*blocks.shape[:2], dtype.itemsize, -1)
        floats: np.ndarray = np.ascontiguousarray(planes.swapaxes(2, 3)).view(f">f{dtype.itemsize}")
        return floats.astype(page.dtype)
    if page.predictor == 2:  # differences of the bits as whole numbers, whatever they stand for
        whole = np.ascontiguousarray(blocks).view(dtype.str.replace(dtype.kind, "u"))
        native = whole.dtype.newbyteorder("=")
        sums = whole.reshape(*blocks.shape[:2], -1, samples).cumsum(axis=2, dtype=native)
        numbers: np.ndarray = sums.view(page.dtype.newbyteorder("="))
        return numbers
    if page.predictor != 1:
        raise ImageError(f"predictor {page.predictor} cannot be read")
    plain: np.ndarray = np.ascontiguousarray(blocks).view(dtype)
    return plain.astype(page.dtype)


# --- writing ------------------------------------------------------------------------------------------


def encode(image: Image) -> list[bytes | memoryview]:
    """Return the pieces of an uncompressed TIFF file: a page for each frame, or for each of ``maps``.

    EXIF is a TIFF structure itself. Put at the start of the file, all its offsets are right as they are, and
    its directory becomes the first page's with the tags of the pixels added.
    """
    frames: Sequence[np.ndarray] = image.frames or (image.pixels,)
    mode = image.mode
    if mode == "maps":
        frames = [np.ascontiguousarray(frame[:, :, c : c + 1]) for frame in frames for c in range(frame.shape[2])]
        mode = "L"
    order, head, described = _taken_apart(image.metadata.exif)
    end = len(head) + sum(frame.nbytes + frame.nbytes % 2 for frame in frames)
    if end + (1 << 20) > 1 << 32:
        raise ImageError("a TIFF file ends at 4 GiB; npy does not")
    pieces: list[bytes | memoryview] = []
    directories, at = [], len(head)
    for index, frame in enumerate(frames):
        entries = {} if index else dict(described)
        entries |= _page_entries(frame, mode, at, order)
        entries |= _metadata_entries(image.metadata, mode, order)
        directories.append(list(entries.values()))
        pieces.append(np.ascontiguousarray(frame, order + frame.dtype.str[1:]).data.cast("B"))
        pieces.append(bytes(frame.nbytes % 2))
        at += frame.nbytes + frame.nbytes % 2
    head[4:8] = struct.pack(order + "I", end)
    for index, entries_of_page in enumerate(directories):
        last = index == len(directories) - 1
        pieces.append(_directory(entries_of_page, order, end, last=last))
        end += len(pieces[-1])
    return [bytes(head), *pieces]


def _taken_apart(exif: bytes | None) -> tuple[str, bytearray, dict[int, tuple[bytes, bytes]]]:
    """Return EXIF's byte order, its bytes up to an even length, and its first directory's raw entries."""
    if exif is None:
        return "<", bytearray(b"II*\0" + bytes(4)), {}
    order = "<" if exif[:2] == b"II" else ">"
    entries = {}
    (directory,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, directory)
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from(order + "H", exif, at)
        if tag in _DESCRIPTIVE:
            entries[tag] = exif[at : at + 8], exif[at + 8 : at + 12]  # an offset stays right
    return order, bytearray(exif + bytes(len(exif) % 2)), entries


def _page_entries(frame: np.ndarray, mode: str, at: int, order: str) -> dict[int, tuple[bytes, bytes]]:
    height, width, channels = frame.shape
    values: dict[int, Any] = {
        _SUBFILE: 0,
        _WIDTH: width,
        _LENGTH: height,
        _BITS: [8 * frame.itemsize] * channels,
        _COMPRESSION: 1,
        _PHOTOMETRIC: _PHOTOMETRIC_OF[mode],
        _STRIPS: at,
        _SAMPLES: channels,
        _ROWS_PER_STRIP: height,
        _STRIP_BYTES: frame.nbytes,
        _PLANES: 1,
        _FORMAT: [3 if frame.dtype.kind == "f" else 1] * channels,
    }
    if mode in ("LA", "RGBA"):
        values[_EXTRA] = _ALPHA
    return {tag: _entry(order, tag, value) for tag, value in values.items()}


def _metadata_entries(metadata: Metadata, mode: str, order: str) -> dict[int, tuple[bytes, bytes]]:
    values: dict[int, Any] = {}
    if icc := metadata.icc_for(mode):
        values[_ICC] = icc
    if xmp := metadata.text.get(XMP):
        values[_XMP] = xmp.encode()
    entries = {tag: _entry(order, tag, value) for tag, value in values.items()}
    if metadata.dpi:
        across, down = (struct.pack(order + "II", round(dots * 10_000), 10_000) for dots in metadata.dpi)
        entries[_ACROSS] = (struct.pack(order + "HHI", _ACROSS, 5, 1), across)
        entries[_DOWN] = (struct.pack(order + "HHI", _DOWN, 5, 1), down)
        entries[_UNIT] = _entry(order, _UNIT, 2)
    return entries


def _entry(order: str, tag: int, value: Any) -> tuple[bytes, bytes]:
    """Return an entry's first 8 bytes, and its value: bytes, or one or more whole numbers."""
    if isinstance(value, bytes):
        kind, count, content = (1 if tag == _XMP else 7), len(value), value
    else:
        numbers = value if isinstance(value, list) else [value]
        short = max(numbers) < 65536 and tag not in (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES)
        kind, count = (3 if short else 4), len(numbers)
        content = struct.pack(f"{order}{count}{'H' if short else 'I'}", *numbers)
    return struct.pack(order + "HHI", tag, kind, count), content


def _directory(entries: Sequence[tuple[bytes, bytes]], order: str, at: int, *, last: bool = True) -> bytes:
    """Lay out a directory that starts at `at`, sorted by tag, with the long values behind it."""
    entries = sorted(entries, key=lambda entry: struct.unpack_from(order + "H", b"".join(entry)))
    behind = at + 2 + 12 * len(entries) + 4
    table, values = [struct.pack(order + "H", len(entries))], b""
    for entry in entries:
        head, content = entry
        if len(content) <= 4:
            table.append(head + content.ljust(4, b"\0"))
        else:
            table.append(head + struct.pack(order + "I", behind + len(values)))
            values += content + bytes(len(content) % 2)
    end = 0 if last else behind + len(values)
    return b"".join([*table, struct.pack(order + "I", end), values])
