"""Metadata of a picture: colour profile, EXIF, resolution, texts, georeference.

This module changes the few bytes of EXIF and XMP that become wrong when the pixels change (orientation, thumbnail).
The formats read metadata from files and write it to files. The tags of GeoTIFF are in `cnnfilter.images.tags`.
"""

from __future__ import annotations

import dataclasses
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnfilter.images.tags.georeference import Georeference

XMP = "XML:com.adobe.xmp"
"""The key of an XMP packet among the texts, as PNG names it."""

_ORIENTATION_TAG = 0x0112  # EXIF 2.32, section 4.6.4
_EXIF_TAG = 0x8769  # points to EXIF's own directory (section 4.6.3)
_WIDTH_TAGS, _HEIGHT_TAGS = (0x0100, 0xA002), (0x0101, 0xA003)  # ImageWidth, PixelXDimension (sections 4.6.4, 4.6.5)
_ICC_SPACES = {b"GRAY": ("L", "LA"), b"RGB ": ("RGB", "RGBA"), b"CMYK": ("CMYK",)}
_VALUE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # of a value of each type, if more than one
# Patterns are compiled on their first use, as most pictures have no XMP.
_XMP_ORIENTATION = r"""\s*tiff:Orientation\s*=\s*["']\d["']|<tiff:Orientation>\d</tiff:Orientation>"""
_XMP_SIZES = (
    r"""(\b(?:tiff|exif):(ImageWidth|ImageLength|PixelXDimension|PixelYDimension)(?:\s*=\s*["']|\s*>\s*))(\d{1,9})"""
)
"""Sizes of the picture as attributes and elements (XMP part 2, sections 2.3 and 2.4)."""

_XMP_PREVIEWS = (
    r"""<([\w.-]+:Thumbnails|[\w.-]*GImg:image|GImage:Data)\b[^>]*(?<!/)>[^<]*"""
    r"""(?:<(?!/\1\s*>)[^<]*)*</\1\s*>|\s[\w.-]*(?:GImg:image|GImage:Data)\s*=\s*(?:"[^"]*"|'[^']*')"""
)
"""Elements and attributes that hold previews: xmp:Thumbnails and xmpGImg:image (XMP part 2), GImage:Data (Google)."""


_PHOTO_FORMATS = ("jpg", "png", "webp", "avif", "tiff")
_FORMATS_OF_KIND = {
    "colour profile": _PHOTO_FORMATS,
    "EXIF": _PHOTO_FORMATS,
    "XMP": _PHOTO_FORMATS,
    "IPTC (caption, keywords)": ("jpg", "tiff"),
    "GeoTIFF tags": ("tiff",),
    "resolution": ("jpg", "png", "tiff", "bmp"),
}
"""The formats that hold each kind of metadata, as they are written here."""

_BARE_FORMATS = ("npy", "txt", "csv", "ppm")
"""Formats that are known to hold samples only; of what they leave out, captions and places are worth a warning."""

_RESOLUTION_TAG = 282
_MAKER_NOTE_TAG = 0x927C
_PROGRAM_TAGS = {270, 282, 283, 296, 305}
"""Tags of EXIF that programs write into each file: description, resolution and its unit, and their own name."""
_JPEG_START = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Metadata:
    """The metadata of a picture.

    Parameters
    ----------
    icc : bytes, optional
        ICC colour profile.
    exif : bytes, optional
        A TIFF structure (without the ``Exif\\0\\0`` that JPEG puts before it), without its orientation.
    dpi : (float, float), optional
        Dots per inch, across and down.
    text : mapping of str to str
        Texts by their PNG keyword; a comment is ``Comment``, an XMP packet ``XML:com.adobe.xmp``.
    colour : mapping of str to bytes
        PNG's chunks that define the colour space (gAMA, cHRM, sRGB, cICP); only PNG files hold them.
    iptc : bytes, optional
        The records of IPTC (caption, keywords, author); only JPEG and TIFF files hold them.
    georeference : Georeference, optional
        The tags of GeoTIFF and GDAL; only TIFF files hold them.
    size : (int, int), optional
        Width and height of the picture in its file. Sizes in XMP that are others are left as they are: they tell of the
        photo that the picture was cut from.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    colour: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    iptc: bytes | None = None
    georeference: Georeference | None = None
    size: tuple[int, int] | None = field(default=None, compare=False)

    def icc_for(self, mode: str) -> bytes | None:
        """Return the profile if it is one for colours of this mode, else None."""
        if self.icc is None or mode not in _ICC_SPACES.get(bytes(self.icc[16:20]), ()):
            return None
        return self.icc

    def lost_in(self, format: str, mode: str) -> str:
        """Return a warning of what a file of this format, with an image of this mode, does not hold; "" if nothing."""
        in_exif = format in _FORMATS_OF_KIND["EXIF"] and _RESOLUTION_TAG in _tags_of(self.exif)
        given = {
            "colour profile": self.icc_for(mode),
            "EXIF": _tags_of(self.exif) - _PROGRAM_TAGS,
            "XMP": self.text.get(XMP),
            "IPTC (caption, keywords)": self.iptc,
            "GeoTIFF tags": self.georeference,
            "resolution": None if in_exif else self.dpi,
        }
        lost = [kind for kind, content in given.items() if content and format not in _FORMATS_OF_KIND[kind]]
        if format in _BARE_FORMATS:
            lost = [kind for kind in lost if kind in ("IPTC (caption, keywords)", "GeoTIFF tags")]
        if not lost:
            return ""
        holders = [set(_FORMATS_OF_KIND[kind]) for kind in lost]
        keepers = set.intersection(*holders) or set.union(*holders)
        them, it = ("they are", "them") if len(lost) > 1 or lost[0].endswith("s") else ("it is", "it")
        return (
            f"{format} files are written without {_listed(lost)}: {them} left out; "
            f"{_listed([each for each in (*_PHOTO_FORMATS, 'bmp') if each in keepers])} would keep {it}"
        )

    def sampled(self, down: tuple[float, float], across: tuple[float, float]) -> Metadata:
        """Return the metadata of a result whose georeference follows its pixels.

        Parameters
        ----------
        down, across : (step, offset)
            Along each axis, the edge before pixel `n` of the result is at ``n * step + offset`` on this picture.
        """
        if self.georeference is None:
            return self
        from cnnfilter.images.tags.georeference import Sampling

        return dataclasses.replace(self, georeference=self.georeference.sampled(Sampling(*down), Sampling(*across)))

    def without_place(self, fault: str = "") -> Metadata:
        """Return the metadata of a result without rows and columns of this picture; `fault` becomes a warning."""
        if self.georeference is None:
            return self
        return dataclasses.replace(self, georeference=self.georeference.without_place(fault))


def _listed(names: list[str]) -> str:
    """Return names as a list in words.

    >>> _listed(["a"]), _listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def with_size(metadata: Metadata, width: int, height: int) -> Metadata:
    """Return the metadata with the size of the picture where its EXIF or XMP says another one."""
    metadata = _with_size_in_xmp(metadata, width, height)
    if not metadata.exif:
        return metadata
    exif = bytearray(metadata.exif)
    try:
        _set_size(exif, width, height)
    except (struct.error, ValueError):  # damaged EXIF has no size that a program could read
        return metadata
    return metadata if exif == metadata.exif else dataclasses.replace(metadata, exif=bytes(exif))


def _with_size_in_xmp(metadata: Metadata, width: int, height: int) -> Metadata:
    """Return the metadata with these sizes in the XMP packet, where it tells those of the picture in its file."""
    if metadata.size is None or XMP not in metadata.text:
        return metadata
    axis = {"ImageWidth": 0, "PixelXDimension": 0, "ImageLength": 1, "PixelYDimension": 1}
    before, after, packet = metadata.size, (width, height), metadata.text[XMP]

    def corrected(found: re.Match[str]) -> str:
        return found[0] if int(found[3]) != before[axis[found[2]]] else f"{found[1]}{after[axis[found[2]]]}"

    return dataclasses.replace(metadata, text={**metadata.text, XMP: re.sub(_XMP_SIZES, corrected, packet)})


def _set_size(exif: bytearray, width: int, height: int) -> None:
    order = {b"II": "<", b"MM": ">"}.get(bytes(exif[:2]), "")
    if not order:
        raise ValueError("neither byte order")
    (first,) = struct.unpack_from(order + "I", exif, 4)
    directories, sizes = [first], {**dict.fromkeys(_WIDTH_TAGS, width), **dict.fromkeys(_HEIGHT_TAGS, height)}
    while directories:
        directory = directories.pop()
        (count,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, values, value = struct.unpack_from(order + "HHII", exif, entry)
            if tag == _EXIF_TAG and directory == first and value != first:
                directories.append(value)
            elif tag in sizes and (kind, values) in ((3, 1), (4, 1)):
                (said,) = struct.unpack_from(order + "HI"[kind - 3], exif, entry + 8)
                if said != sizes[tag]:
                    struct.pack_into(order + "HII", exif, entry + 2, 4, 1, sizes[tag])


def resolution(dpi: Any) -> tuple[float, float] | None:
    """Return (across, down) in dots per inch, or None if the values are none: files hold zeros and 4 billion, too.

    >>> resolution((300, 150)), resolution((0, 72)), resolution("high")
    ((300.0, 150.0), None, None)
    """
    try:
        across, down = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 0 < across < 65536 and 0 < down < 65536 else None


def split_orientation(exif: bytes | None) -> tuple[int, bytes | None]:
    """Return the orientation (1…8) of EXIF, and the EXIF without that tag and without its thumbnail.

    The entry is removed from the directory in place, so all other offsets stay valid. The thumbnail is removed because
    it shows the picture before filtering. Damaged EXIF is dropped: the result is then (1, None).

    Examples
    --------
    >>> entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    >>> split_orientation(b"II*\\0" + struct.pack("<IH", 8, 1) + entry + bytes(4))[0]
    6
    """
    if not exif:
        return 1, None
    try:
        return _split_orientation(bytearray(exif.removeprefix(b"Exif\0\0")))
    except (struct.error, ValueError):
        return 1, None


def _split_orientation(exif: bytearray) -> tuple[int, bytes | None]:
    order = {b"II": "<", b"MM": ">"}.get(bytes(exif[:2]))
    if order is None:
        return 1, None
    (directory,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, directory)
    first, end = directory + 2, directory + 2 + 12 * count
    if end > len(exif):
        raise ValueError("the directory runs past the end")
    orientation = 1
    if end + 4 <= len(exif):
        exif = _without_thumbnail(exif, order, end)
    for entry in reversed(range(first, end, 12)):
        tag, kind, _, value = struct.unpack_from(order + "HHII", exif, entry)
        if tag == _ORIENTATION_TAG:
            (orientation,) = struct.unpack_from(order + ("I" if kind == 4 else "H"), exif, entry + 8)
            _remove_entry(exif, order, directory, entry)
            count -= 1
        elif tag == _EXIF_TAG and value != directory:
            _remove_maker_preview(exif, order, value)
    return orientation if 1 <= orientation <= 8 else 1, bytes(exif) if count else None


def _remove_entry(exif: bytearray, order: str, directory: int, entry: int) -> None:
    (count,) = struct.unpack_from(order + "H", exif, directory)
    end = min(directory + 2 + 12 * count + 4, len(exif))
    exif[entry:end] = exif[entry + 12 : end] + bytes(12)
    struct.pack_into(order + "H", exif, directory, count - 1)


def _remove_maker_preview(exif: bytearray, order: str, directory: int) -> None:
    """Remove and clear the maker note of a directory if it holds a JPEG file: a preview of the unfiltered picture."""
    (count,) = struct.unpack_from(order + "H", exif, directory)
    for entry in reversed(range(directory + 2, min(directory + 2 + 12 * count, len(exif) - 11), 12)):
        tag, _, length, start = struct.unpack_from(order + "HHII", exif, entry)
        if tag == _MAKER_NOTE_TAG and exif.find(_JPEG_START, start, start + length) >= 0:
            exif[start : start + length] = bytes(max(0, min(length, len(exif) - start)))
            _remove_entry(exif, order, directory, entry)


def _without_thumbnail(exif: bytearray, order: str, link: int) -> bytearray:
    """Unlink the second directory and clear its thumbnail; cut the bytes off if they are at the end, as cameras do."""
    (second,) = struct.unpack_from(order + "I", exif, link)
    struct.pack_into(order + "I", exif, link, 0)
    if 0 < second < len(exif) - 2:
        tags = {}
        (count,) = struct.unpack_from(order + "H", exif, second)
        for entry in range(second + 2, min(second + 2 + 12 * count, len(exif) - 11), 12):
            tag, _, _, value = struct.unpack_from(order + "HHII", exif, entry)
            tags[tag] = value
        start, length = tags.get(0x0201, 0), tags.get(0x0202, 0)
        if 0 < start < len(exif):
            exif[start : start + length] = bytes(min(length, len(exif) - start))
            if start + length >= len(exif):
                return exif[:start]
    return exif


def without_orientation(xmp: str) -> str:
    """Return an XMP packet without its orientation and its previews, which show the picture before filtering.

    >>> without_orientation("<x><xmp:Thumbnails>a preview</xmp:Thumbnails><dc:source>a wall</dc:source></x>")
    '<x><dc:source>a wall</dc:source></x>'
    """
    return re.sub(_XMP_PREVIEWS, "", re.sub(_XMP_ORIENTATION, "", xmp))


def upright(metadata: Metadata, size: tuple[int, int]) -> tuple[int, Metadata]:
    """Return the orientation (1…8) of a file's picture, and the metadata of the picture once it is upright.

    Parameters
    ----------
    size : width and height of the picture in its file
    """
    orientation, exif = split_orientation(metadata.exif)
    text, dpi = dict(metadata.text), metadata.dpi
    if XMP in text:
        text[XMP] = without_orientation(text[XMP])
    dpi = dpi[::-1] if dpi and orientation > 4 else dpi
    if orientation != 1:
        metadata = metadata.without_place("its georeference is left out: it holds for the picture before it is turned")
    return orientation, dataclasses.replace(metadata, exif=exif, dpi=dpi, text=text, size=size)


def is_part_of(exif: bytes | None, whole: bytes | None) -> bool:
    """Return whether EXIF says nothing that other EXIF does not say: each entry of its first directory is there."""
    if exif is None or exif == whole:
        return True
    try:
        return whole is not None and _entries_of(exif) <= _entries_of(whole)
    except struct.error:  # a damaged entry
        return False


def _tags_of(exif: bytes | None) -> set[int]:
    """Return the tags of the first directory; none if it is damaged."""
    try:
        return {tag for tag, _, _ in _entries_of(exif)} if exif else set()
    except struct.error:
        return set()


def _entries_of(exif: bytes) -> set[tuple[int, int, bytes]]:
    """Return tag, type and value of each entry of the first directory."""
    order = "<" if exif[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, directory)
    found = set()
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, number, offset = struct.unpack_from(order + "HHII", exif, at)
        size = number * _VALUE_BYTES.get(kind, 1)
        start = at + 8 if size <= 4 else offset
        found.add((tag, kind, exif[start : start + size]))
    return found
