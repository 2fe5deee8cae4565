"""Netpbm's formats: PBM, PGM and PPM (plain and raw), PAM with alpha or of inks, and PFM with float32.

Pillow reads most of them, but reduces 16-bit colour to 8 bits.

References
----------
https://netpbm.sourceforge.net/doc/ (pbm, pgm, ppm, pam), https://netpbm.sourceforge.net/doc/pfm.html
"""

from __future__ import annotations

import re

import numpy as np

from cnnfilter.errors import ImageError, count_text
from cnnfilter.images.image import CHANNELS, Image, check_size, widened

# White space and comments, and the word of a header after them.
_WORD = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*([^\s#]+)")
_CHANNELS = {b"P1": 1, b"P2": 1, b"P3": 3, b"P4": 1, b"P5": 1, b"P6": 3, b"Pf": 1, b"PF": 3}
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_TUPLE_TYPES = {"L": "GRAYSCALE", "LA": "GRAYSCALE_ALPHA", "RGB": "RGB", "RGBA": "RGB_ALPHA", "CMYK": "CMYK"}
_MODES_OF_TUPLE_TYPES = {"": "", "BLACKANDWHITE": "L", "BLACKANDWHITE_ALPHA": "LA"}
_MODES_OF_TUPLE_TYPES |= {name: mode for mode, name in _TUPLE_TYPES.items()}


def read(data: bytes, max_pixels: int) -> Image:
    """Decode the first picture of a PNM file's bytes.

    If the file's maximum is neither 255 nor 65535, the samples are stretched to the next larger of the two.

    Raises
    ------
    ImageError
        The file is cut off, invalid, or has more than `max_pixels`.
    """
    kind = data[:2]
    if kind == b"P7":
        width, height, channels, maximum, start, mode = _pam_header(data)
    else:
        width, height, channels, maximum, start = _header(data, kind)
        mode = _MODES[channels]
    check_size(width, height, max_pixels)
    if kind in (b"Pf", b"PF"):
        return Image(_floats(data, start, (height, width, channels), maximum), mode, "ppm")
    if not 0 < maximum < 65536:
        raise ImageError(f"a maximum of {maximum:g} is not between 1 and 65535")
    shape = (height, width, channels)
    if kind in (b"P1", b"P4"):
        values = 1 - (_plain_bits(data, start, shape) if kind == b"P1" else _packed_bits(data, start, shape))
    elif kind in (b"P2", b"P3"):
        values = _plain_numbers(data, start, shape)
    else:
        values = _raw(data, start, shape, np.dtype(">u2") if maximum > 255 else np.dtype(np.uint8))
    return Image(widened(values, int(maximum)), mode, "ppm")


def _header(data: bytes, kind: bytes) -> tuple[int, int, int, float, int]:
    words, at = [], 2
    for _ in range(2 if kind in (b"P1", b"P4") else 3):
        match = _WORD.match(data, at)
        if match is None:
            raise ImageError("the file is cut off in its header")
        words.append(match[1])
        at = match.end()
    width, height, maximum = _number(words[0]), _number(words[1]), 1.0
    if len(words) == 3:
        maximum = float(words[2]) if kind in (b"Pf", b"PF") else _number(words[2])
    return width, height, _CHANNELS[kind], maximum, at + 1


def _number(word: bytes) -> int:
    if not word.isdigit() or len(word) > 10:
        raise ImageError(f"its header says {word[:20]!r} where a number must be")
    return int(word)


def _pam_header(data: bytes) -> tuple[int, int, int, float, int, str]:
    head, mark, _ = data[:4096].partition(b"ENDHDR\n")
    fields = dict(line.split(None, 1) for line in head.splitlines()[1:] if len(line.split(None, 1)) == 2)
    names = (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
    if not mark or not all(name in fields for name in names):
        raise ImageError("its header is not one of a PAM file")
    width, height, channels, maximum = (_number(fields[name].strip()) for name in names)
    if channels not in _MODES:
        raise ImageError(f"it has {channels} channels; 1 to 4 can be read")
    return width, height, channels, maximum, len(head) + len(mark), _pam_mode(fields.get(b"TUPLTYPE", b""), channels)


def _pam_mode(tuple_type: bytes, channels: int) -> str:
    """Return the mode of a PAM file; without a tuple type, that of its number of channels."""
    name = tuple_type.decode("latin-1").strip()
    mode = _MODES_OF_TUPLE_TYPES.get(name, "maps") or _MODES[channels]
    if mode == "maps" and channels in (1, 3):  # without alpha
        return _MODES[channels]
    if mode != "maps" and CHANNELS[mode] != channels:
        raise ImageError(f"its header says {name} and {count_text(channels, 'channel')}; {name} has {CHANNELS[mode]}")
    return mode


def _raw(data: bytes, start: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    count = int(np.prod(shape))
    _require(len(data) - start, count * dtype.itemsize)
    values: np.ndarray = np.frombuffer(data, dtype, count, start).reshape(shape)
    return values


def _require(there: int, needed: int) -> None:
    if there < needed:
        raise ImageError(f"the file is cut off: {needed:,} bytes of pixels are missing {needed - max(there, 0):,}")


def _packed_bits(data: bytes, start: int, shape: tuple[int, int, int]) -> np.ndarray:
    height, width, _ = shape
    rows = _raw(data, start, (height, (width + 7) // 8), np.dtype(np.uint8))
    return np.unpackbits(rows, axis=1, count=width)[:, :, None]


def _plain_bits(data: bytes, start: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the bits of a plain PBM file, whose digits need no space between them."""
    digits = np.frombuffer(_without_comments(data[start:]), np.uint8)
    bits: np.ndarray = digits[(digits == 0x30) | (digits == 0x31)] - np.uint8(0x30)
    count = int(np.prod(shape))
    _require(len(bits), count)
    return bits[:count].reshape(shape)


def _plain_numbers(data: bytes, start: int, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    _require(len(data) - start, 2 * count - 1)  # the shortest: a digit and a space for each number
    words = _without_comments(data[start:]).split(None, count)[:count]
    if len(words) < count or not all(word.isdigit() and len(word) < 10 for word in words):
        raise ImageError(f"the file is cut off or damaged: its header announces {count_text(count, 'number')}")
    return np.array(words).astype(np.int64).reshape(shape)


def _without_comments(text: bytes) -> bytes:
    return re.sub(rb"#[^\n\r]*", b"", text)


def _floats(data: bytes, start: int, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """Return the samples of a PFM file: rows from the bottom up, little-endian if the scale is negative."""
    values = _raw(data, start, shape, np.dtype("<f4" if scale < 0 else ">f4"))
    return np.ascontiguousarray(values[::-1], dtype=np.float32)


def encode(image: Image) -> list[bytes | memoryview]:
    """Return the header and the samples of a PGM or PPM file, or of a PAM file if there is alpha or ink."""
    height, width, channels = image.pixels.shape
    maximum = np.iinfo(image.pixels.dtype).max
    if image.has_alpha or image.mode == "CMYK":
        head = f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {channels}\nMAXVAL {maximum}\n"
        head += f"TUPLTYPE {_TUPLE_TYPES[image.mode]}\nENDHDR\n"
    else:
        head = f"P{5 if channels == 1 else 6}\n{width} {height}\n{maximum}\n"
    pixels = image.pixels.astype(">u2") if maximum > 255 else image.pixels
    return [head.encode(), pixels.data.cast("B")]
