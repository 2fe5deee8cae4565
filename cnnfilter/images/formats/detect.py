"""The picture formats, and how to recognise one: by a file's first bytes, or by the suffix of a path.

This module does not import numpy, so that the command line can refuse an unknown suffix without that delay.
"""

from __future__ import annotations

import os
import re

from cnnfilter.errors import ImageError

SUFFIXES = {
    ".png": "png",
    ".apng": "png",
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".jpe": "jpg",
    ".jfif": "jpg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".gif": "gif",
    ".bmp": "bmp",
    ".dib": "bmp",
    ".ppm": "ppm",
    ".pgm": "ppm",
    ".pbm": "ppm",
    ".pnm": "ppm",
    ".pam": "ppm",
    ".npy": "npy",
    ".avif": "avif",
    ".tga": "tga",
    ".txt": "txt",
    ".csv": "csv",
}
"""The format of each suffix."""

UNREADABLE_SUFFIXES = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    ".jxl": "JPEG XL",
    **dict.fromkeys((".jp2", ".j2k", ".jpx"), "JPEG 2000"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".rw2", ".orf", ".pef"), "camera raw"),
    ".psd": "Photoshop",
    ".exr": "OpenEXR",
}
"""Suffixes of pictures that cannot be read, and what their formats are called."""

LOSSLESS_FORMATS = frozenset({"png", "tiff", "gif", "bmp", "ppm", "npy", "tga", "txt", "csv"})
"""Formats from which the same pixels are read that were written (GIF: if they have at most 256 colours)."""

ANIMATED_FORMATS = frozenset({"png", "webp", "gif", "tiff", "avif"})
"""Formats that hold more than one frame (TIFF: pages)."""

TEXT_FORMATS = ("txt", "csv")
"""Formats of numbers as text, which hold one channel. Their content tells them apart only by the commas of CSV."""

ARRAY_FORMATS = ("npy", *TEXT_FORMATS)
"""Formats that hold the numbers of a result as they are, rather than a picture to look at."""

MAPPED_FORMATS = ("tiff", "npy")
"""Formats of float32 samples at known places, which may be larger than memory."""

FLOAT_FORMATS = (*MAPPED_FORMATS, *TEXT_FORMATS)
"""Formats that hold float32 samples."""

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"\x93NUMPY", "npy"),
)
# First bytes of other formats that users try, for an error message that names the format.
_UNREADABLE_SIGNATURES = (
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive (.npz holds several arrays: save the one you mean as .npy)"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML or SVG"),
    (b"<!DOCTYPE", "HTML"),
    (b"<html", "HTML"),
    (b"\x1f\x8b", "gzip"),
    (b"FUJIFILMCCD-RAW", "a raw photo (RAF)"),
    (b"IIU\0", "a raw photo (RW2)"),
    (b"IIRO", "a raw photo (ORF)"),
    (b"IIRS", "a raw photo (ORF)"),
    (b"MMOR", "a raw photo (ORF)"),
    (b"FOVb", "a raw photo (X3F)"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"SIMPLE  =", "FITS"),
)
_CR2_BYTES = (b"CR\2\0", 8)
"""The mark of a Canon CR2 file, which is a TIFF of a preview first, and its place."""

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_HEIF_BRANDS = frozenset({b"mif1", b"mif2", b"msf1"})
_FILM_BRANDS = {
    b"crx ": "a raw photo (CR3)",
    b"qt  ": "a film (QuickTime)",
    **dict.fromkeys((b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V "), "a film (MP4)"),
    **dict.fromkeys((b"3gp4", b"3gp5", b"3gp6", b"3g2a"), "a film (3GPP)"),
}
"""The content of a file with the structure of MP4, by its first brand (registered at mp4ra.org)."""
_TEXT_NUMBER = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:\s|#[^\n\r]*[\n\r])*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf(?:inity)?))(?=[\s,;/]|$)",
    re.IGNORECASE,
)
"""The first number of a text, after blank lines and comments."""

_CONTROL_BYTE = re.compile(rb"[\0-\x08\x0e-\x1f\x7f]")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_READABLE_FORMATS = "PNG, JPEG, TIFF, WebP, AVIF, BMP, GIF, PNM, TGA or npy"


def format_of_suffix(path: str | os.PathLike[str]) -> str | None:
    """Return the format of a path's suffix; None if it has no suffix.

    Raises
    ------
    ImageError
        No format has the suffix.

    Examples
    --------
    >>> format_of_suffix("a/photo.JPEG")
    'jpg'
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix and suffix not in SUFFIXES:
        known = " ".join(sorted(SUFFIXES))
        raise ImageError(f"no picture format has the suffix {suffix!r}; known are {known}")
    return SUFFIXES.get(suffix)


def sniff(data: bytes) -> str:
    """Return the format of a file by its first bytes.

    Raises
    ------
    ImageError
        It is empty, or of a format that cannot be read.
    """
    if not data:
        raise ImageError("it is empty")
    if data[:2] == b"II" and data.startswith(*_CR2_BYTES):
        raise unreadable("a raw photo (CR2)")
    for magic, format in _SIGNATURES:
        if data.startswith(magic):
            return format
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp" and (branded := _sniff_brands(data)):
        return branded
    if data[:1] == b"P" and data[1:2] in b"1234567fF" and data[2:3].isspace():
        return "ppm"
    for magic, name in _UNREADABLE_SIGNATURES:
        if data.lstrip()[: len(magic)].lower() == magic.lower():
            raise unreadable(name)
    if _looks_like_tga(data):
        return "tga"
    if numbers := _sniff_numbers(data):
        return numbers
    raise ImageError(f"not a picture that can be read ({_READABLE_FORMATS})")


def unreadable(name: str) -> ImageError:
    """Return the error for a file of a format that is known by its name, but not read."""
    return ImageError(f"this is {name}; {_READABLE_FORMATS} can be read")


def _sniff_brands(data: bytes) -> str | None:
    """Return ``avif`` for a file of HEIF's structure (ISO/IEC 23008-12) whose brands are AVIF's; None for no picture.

    Raises
    ------
    ImageError
        The pictures in it are HEIC, or of a kind that its brands do not name; or it is a film or a raw photo.
    """
    brands = [data[at : at + 4] for at in (8, *range(16, min(int.from_bytes(data[:4], "big"), 64), 4))]
    is_heic = not _HEIC_BRANDS.isdisjoint(brands)
    if brands[0] in _AVIF_BRANDS or (not is_heic and not _AVIF_BRANDS.isdisjoint(brands)):
        return "avif"
    if is_heic:
        raise unreadable("HEIC")
    if not _HEIF_BRANDS.isdisjoint(brands):
        raise unreadable("HEIF, whose pictures are neither AVIF nor HEIC")
    if brands[0] in _FILM_BRANDS:
        raise unreadable(_FILM_BRANDS[brands[0]])
    return None


def _looks_like_tga(data: bytes) -> bool:
    """Return whether every field of a TGA header is valid, as TGA files have no signature."""
    if len(data) < 18:
        return False
    width, height = int.from_bytes(data[12:14], "little"), int.from_bytes(data[14:16], "little")
    return (
        data[1] in (0, 1)
        and data[2] in ((1, 9) if data[1] else (2, 3, 10, 11))
        and data[16] in (1, 8, 16, 24, 32)
        and width > 0
        and height > 0
        and data[17] & 0xC0 == 0
    )


def _sniff_numbers(data: bytes) -> str | None:
    """Return ``txt`` or ``csv`` for a text that begins with a number; None for anything else."""
    head = data[:4096]
    if head.startswith(_UTF16_MARKS):
        head = head[: len(head) & ~1].decode("utf-16", "replace").encode()
    if _CONTROL_BYTE.search(head) or (number := _TEXT_NUMBER.match(head)) is None:
        return None
    return "csv" if b"," in re.split(rb"[#\n\r]", head[number.start(1) :], maxsplit=1)[0] else "txt"
