"""Matrices as text: rows of numbers on lines, between spaces (txt) or commas (csv), as a picture of one channel."""

from __future__ import annotations

import io
import math
import re
import warnings

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.images.formats.detect import sniff
from cnnfilter.images.image import Image, check_size, mode_of

_BLANK_BETWEEN_ROWS = re.compile(r"\S[^\S\n]*\n[^\S\n]*\n\s*[^\s#]")
_ROUNDED_TO_INFINITY = (2 - 2.0**-24) * 2.0**127
"""The smallest number that float32 rounds to infinity: half a unit above its largest one (IEEE 754)."""

_SHOWN_CHARACTERS = 20


def read(data: bytes, max_pixels: int) -> Image:
    """Return the numbers of a text as an image (H, W, 1) of float32.

    ``#`` begins a comment. The first and last lines may be blank.

    Raises
    ------
    ImageError
        A row is longer than others, blank, or holds a word that is not a finite number; the message names the line. Or
        the matrix has more than `max_pixels`.

    Examples
    --------
    >>> read(b"1 2\\n3 4\\n", 100).pixels[:, :, 0]
    array([[1., 2.],
           [3., 4.]], dtype=float32)
    """
    text = _decoded(data)
    values = _parsed_by_numpy(text)
    if values is None:
        values = np.array(_rows(text))
    check_size(values.shape[1], values.shape[0], max_pixels)
    return Image(values.astype(np.float32)[:, :, None], "L", sniff(data))


def _decoded(data: bytes) -> str:
    """Return a text with its line ends as ``\\n``. Comments in other encodings than UTF-8 do not matter."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return data.decode(encoding, "replace").replace("\r\n", "\n").replace("\r", "\n").rstrip()


def _parsed_by_numpy(text: str) -> np.ndarray | None:
    """Return the numbers as float64 (H, W), parsed by compiled code; None if there is anything to say about them."""
    if _BLANK_BETWEEN_ROWS.search(text):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a text without numbers
            values = np.loadtxt(io.StringIO(text), delimiter="," if "," in text else None, comments="#", ndmin=2)
    except ValueError:
        return None
    return values if values.size and np.abs(values).max() < _ROUNDED_TO_INFINITY else None  # nor is NaN


def _rows(text: str) -> list[list[float]]:
    """Return the numbers line by line, or raise the error that names the line."""
    rows: list[list[float]] = []
    first = blank = 0
    for number, line in enumerate(text.splitlines(), 1):
        written, comment, _ = line.partition("#")
        if not written.strip():
            blank = blank or (0 if comment or not rows else number)
            continue
        if blank:
            raise ImageError(f"line {blank} is blank, and further rows follow: a file holds one matrix")
        row = [_number(word, number, place) for place, word in enumerate(_words(written, number), 1)]
        first = first or number
        if rows and len(row) != len(rows[0]):
            have = f"{len(row)} number{'s' if len(row) > 1 else ''}"
            raise ImageError(f"line {number} has {have}, and line {first} has {len(rows[0])}: every row needs as many")
        rows.append(row)
    if not rows:
        raise ImageError("it holds no numbers")
    return rows


def _words(line: str, number: int) -> list[str]:
    if ";" in line:
        raise ImageError(f"line {number} has a semicolon: spaces or commas separate numbers, and each row has its line")
    if "," not in line:
        return line.split()
    words = [word.strip() for word in line.split(",")]
    for word in words:
        if len(word.split()) > 1:
            raise ImageError(f"line {number} has commas and spaces between numbers ({word[:_SHOWN_CHARACTERS]!r})")
    return words


def _number(word: str, line: int, place: int) -> float:
    """Return the number of a word such as ``-1``, ``0.5`` or ``1/9``, as kernels are written too."""
    above, slash, below = word.replace("\N{MINUS SIGN}", "-").partition("/")
    try:
        if "_" in word:  # Python's own notation
            raise ValueError
        value = float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError):
        shown = repr(word[:_SHOWN_CHARACTERS]) if word else "nothing"
        raise ImageError(f"line {line}, column {place}: {shown} is not a number") from None
    if not math.isfinite(value):
        raise ImageError(f"line {line}, column {place}: {word} is not a finite number")
    if abs(value) >= _ROUNDED_TO_INFINITY:
        raise ImageError(f"line {line}, column {place}: {word} is beyond the numbers of float32 (up to 3.4e38)")
    return value


def as_matrix(image: Image, format: str) -> Image:
    """Return an image of one channel with its usual mode.

    Raises
    ------
    ImageError
        It has more channels, which `format` does not hold.
    """
    channels = image.colour.shape[2]
    if channels != 1:
        gray = ", and the layer gray makes one of three" if image.mode in ("RGB", "RGBA") else ""
        raise ImageError(f"{format} holds one channel, and there are {channels}; npy holds them all{gray}")
    return image.replace(mode=mode_of(image.pixels.shape[2]))


def encode(image: Image, separator: str = " ") -> list[bytes]:
    r"""Return a picture of one channel as text, with the fewest digits that are read back as the same numbers.

    Columns are aligned where they stand between spaces.

    Raises
    ------
    ImageError
        A number is NaN or infinite.

    Examples
    --------
    >>> encode(Image.from_array(np.array([[1, -0.5], [10, 0.1]], np.float32)))
    [b' 1 -0.5\n10  0.1\n']
    """
    values = image.pixels[:, :, 0]
    if not np.isfinite(values).all():
        raise ImageError("NaN and infinity are not written as text; npy holds them")
    rows = [[word.removesuffix(".0") for word in row] for row in values.astype(str).tolist()]
    if separator == " ":
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows = [[word.rjust(width) for word, width in zip(row, widths, strict=True)] for row in rows]
    return ["".join(separator.join(row) + "\n" for row in rows).encode()]
