"""Tags and directories of TIFF and BigTIFF files: written, read and counted.

References
----------
TIFF 6.0, parts 1 to 3; https://libtiff.gitlab.io/libtiff/specification/bigtiff.html
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from cnnfilter.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image as PillowImage

SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIPS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 274, 277, 278, 279
ACROSS, DOWN, PLANES, UNIT, PREDICTOR = 282, 283, 284, 296, 317
TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES = 322, 323, 324, 325
EXTRA, FORMAT, XMP, ICC, IPTC = 338, 339, 700, 34675, 33723
EXIF, GPS = 34665, 34853
_SUB_DIRECTORIES, _DNG_VERSION = 330, 50706

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5
PREMULTIPLIED, ALPHA = 1, 2
COLOURS_OF_PHOTOMETRIC = {RGB: 3, CMYK: 4, 6: 3, 8: 3, 9: 3, 10: 3}
"""Samples of a pixel without its extra ones; 1 for all others. 6 is YCbCr, 8 to 10 are kinds of L*a*b*."""

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""The first bytes of TIFF and BigTIFF files in both byte orders."""

MAX_CLASSIC_BYTES = 1 << 32
"""Bytes of the largest file with offsets of 32 bits; larger ones are BigTIFF."""

_MAX_DIRECTORIES = 1 << 20  # following more would take a minute

_PIXEL_TAGS = {BITS, STRIPS, STRIP_BYTES, 320, TILES, TILE_BYTES, EXTRA, FORMAT, 347, 530, 532}
"""The tags with several values without which pixels cannot be decoded; 320 to 532 are palette, JPEG and YCbCr."""

_VALUE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value of each type, if it has more than one."""

_JPEG = 7  # the value of tag 259
_END_OF_JPEG = b"\xff\xd9"

Entry = tuple[bytes, bytes]
"""An entry of a directory: the bytes of tag, type and count (2 + 2 + 4 or 8), and those of its value."""

_OFFSET_TAGS = (STRIPS, STRIP_BYTES, TILES, TILE_BYTES)
_TYPE_BYTES = {3: (2, 2), 4: (4, 4), 5: (8, 4), 8: (2, 2), 9: (4, 4), 10: (8, 4), 11: (4, 4), 12: (8, 8)}
# Bytes of a value of each type, and of each number in it; values of other types have one byte.


@dataclass(frozen=True)
class Layout:
    """Byte order of a file, ``<`` or ``>``, and whether its offsets have 8 bytes (`big`) or 4."""

    order: str
    big: bool = False

    @property
    def head_size(self) -> int:
        """Bytes of the file's header."""
        return 16 if self.big else 8

    def head(self, directory: int) -> bytes:
        """Return the header of a file whose first directory is at offset `directory`."""
        mark = b"II" if self.order == "<" else b"MM"
        if self.big:
            return mark + struct.pack(self.order + "HHHQ", 43, 8, 0, directory)
        return mark + struct.pack(self.order + "HI", 42, directory)

    def entry(self, tag: int, value: Any) -> Entry:
        """Return an entry; its value is bytes, a whole number, or a list of such."""
        if isinstance(value, bytes):
            return self.raw(tag, 1 if tag == XMP else 7, len(value), value)
        numbers = value if isinstance(value, list) else [value]
        kind, letter = (16, "Q") if self.big else (4, "I")
        if tag not in _OFFSET_TAGS and max(numbers) < 65536:
            kind, letter = 3, "H"
        return self.raw(tag, kind, len(numbers), struct.pack(f"{self.order}{len(numbers)}{letter}", *numbers))

    def raw(self, tag: int, kind: int, count: int, content: bytes) -> Entry:
        """Return an entry of a type by its number."""
        return struct.pack(self.order + ("HHQ" if self.big else "HHI"), tag, kind, count), content

    def directory(self, entries: Sequence[Entry], at: int, *, last: bool = True) -> bytes:
        """Return the bytes of a directory at offset `at`, sorted by tag, and of its long values behind it."""
        count, offset, inline = ("Q", "Q", 8) if self.big else ("H", "I", 4)
        entries = sorted(entries, key=lambda entry: struct.unpack_from(self.order + "H", entry[0]))
        table, values = [struct.pack(self.order + count, len(entries))], bytearray()
        behind = at + len(table[0]) + sum(len(head) + inline for head, _ in entries) + inline
        for head, content in entries:
            if len(content) <= inline:
                table.append(head + content.ljust(inline, b"\0"))
            else:
                table.append(head + struct.pack(self.order + offset, behind + len(values)))
                values += content + bytes(len(content) % 2)
        end = 0 if last else behind + len(values)
        return b"".join([*table, struct.pack(self.order + offset, end), values])


def order_of(exif: bytes) -> str:
    """Return the byte order of EXIF, which is a TIFF structure."""
    return ">" if exif[:2] == b"MM" else "<"


def entries_of_exif(exif: bytes, layout: Layout, wanted: Sequence[int], *, anew: bool = False) -> dict[int, Entry]:
    """Return the `wanted` entries of EXIF's first directory for a file of this layout, by tag.

    In a classic file EXIF is at the start, so its offsets are valid and its entries are returned unchanged. For
    BigTIFF, and for EXIF that is not at the start (`anew`), they are written anew, without the directories EXIF and
    GPS, which hold offsets themselves.
    """
    order = order_of(exif)
    entries: dict[int, Entry] = {}
    (directory,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, directory)
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", exif, at)
        if tag not in wanted:
            continue
        if not (layout.big or anew):
            entries[tag] = exif[at : at + 8], exif[at + 8 : at + 12]
        elif tag not in (EXIF, GPS):
            size, of_number = _TYPE_BYTES.get(kind, (1, 1))
            (start,) = (at + 8,) if size * number <= 4 else struct.unpack_from(order + "I", exif, at + 8)
            content = exif[start : start + size * number]
            if order != layout.order:
                content = b"".join(
                    content[first : first + of_number][::-1] for first in range(0, len(content), of_number)
                )
            entries[tag] = layout.raw(tag, kind, number, content)
    return entries


def read_tags(file: BinaryIO) -> PillowImage.Exif:
    """Return the tags of a file's first directory; Pillow raises exceptions of any type for damaged ones."""
    from PIL import Image as PillowImage

    head = file.read(16)
    tags = PillowImage.Exif()
    tags.endian = "<" if head[:2] == b"II" else ">"
    tags.bigtiff = 43 in head[2:4]
    kind, at = ("Q", 8) if tags.bigtiff else ("I", 4)
    tags.load_from_fp(file, struct.unpack_from(tags.endian + kind, head, at)[0])
    return tags


def bytes_of_values(tags: PillowImage.Exif) -> Mapping[int, bytes]:
    """Return the bytes of the values of tags as they are in the file: Pillow gives only one number of an IPTC value."""
    values: Mapping[int, bytes] = getattr(getattr(tags, "_info", None), "_tagdata", {})
    return values


def follow_directories(file: BinaryIO) -> tuple[list[int], str]:
    """Return the offsets of a file's directories, and what is wrong with the pointer to the next one, or "".

    The chain ends without a fault where it comes back to an earlier directory.

    Raises
    ------
    ImageError
        There are more than `_MAX_DIRECTORIES`.
    """
    head = file.read(16)
    size = file.seek(0, io.SEEK_END)
    order, big = _order_and_size(head)
    count, offset = struct.Struct(order + ("Q" if big else "H")), struct.Struct(order + ("Q" if big else "I"))
    entry_bytes = 20 if big else 12
    seen = dict[int, None]()
    at, end = 0, 8 if big else 4
    try:
        while True:
            file.seek(end)
            (at,) = offset.unpack(file.read(offset.size))
            if not at or at in seen:
                return list(seen), ""
            file.seek(at)
            end = at + count.size + count.unpack(file.read(count.size))[0] * entry_bytes
            if end > size:
                break
            seen[at] = None
            if len(seen) > _MAX_DIRECTORIES:
                raise ImageError(f"it has more than {_MAX_DIRECTORIES:,} pages")
    except (struct.error, OSError, OverflowError):  # an offset beyond the file's end, or beyond any file
        if not at or at in seen:
            return list(seen), f"the file ends at byte {size:,}, in the pointer to its directory"
    where = "begins" if at < size else "should be"
    return list(seen), f"its directory {where} at byte {at:,}, and the file ends at byte {size:,}"


def refuse_cut_values(data: bytes, directory: int) -> None:
    """Check that the values of the tags that describe the pixels are inside the file.

    Raises
    ------
    ImageError
        The file ends before such a value.
    """
    _, big = _order_and_size(data[:16])
    for tag, kind, values, _, offset in _entries(data, directory):
        size = values * _VALUE_BYTES.get(kind, 1)
        if size > (8 if big else 4) and offset + size > len(data) and tag in _PIXEL_TAGS:
            end = offset + size
            raise ImageError(f"it is cut off: its tag {tag} ends at byte {end:,}, and the file at byte {len(data):,}")


def segments_without_end(data: bytes, directory: int) -> list[tuple[int, int]]:
    """Return offset and size of the JPEG strips or tiles of a page that have no end marker, which libtiff fills.

    In JPEG data, 255 is followed by 217 only in that marker (ITU-T T.81, B.1.1.5). No library here decodes JPEG data of
    other than 8 bits.
    """
    if numbers_of(data, directory, COMPRESSION) != (_JPEG,) or {*numbers_of(data, directory, BITS)} != {8}:
        return []
    offsets = numbers_of(data, directory, STRIPS) or numbers_of(data, directory, TILES)
    sizes = numbers_of(data, directory, STRIP_BYTES) or numbers_of(data, directory, TILE_BYTES)
    places = zip(offsets, sizes, strict=False)
    return [(at, size) for at, size in places if size and data.find(_END_OF_JPEG, at, at + size) < 0]


def without_fault(data: bytes) -> bytes:
    """Return a file whose chain of directories ends before the one that is not in the file."""
    directories, fault = follow_directories(io.BytesIO(data))
    if not fault or not directories:
        return data
    order, big = _order_and_size(data[:16])
    count, entry_bytes, pointer = (8, 20, 8) if big else (2, 12, 4)
    at = directories[-1]
    number = int.from_bytes(data[at : at + count], "little" if order == "<" else "big")
    end = at + count + number * entry_bytes
    return data[:end] + bytes(pointer) + data[end + pointer :]


def numbers_of(data: bytes, directory: int, tag: int) -> tuple[int, ...]:
    """Return the whole numbers of a tag in a directory; none if it is missing, or not in the file."""
    order, big = _order_and_size(data[:16])
    for found, kind, values, at, offset in _entries(data, directory):
        if found == tag and (letter := {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)):
            numbers = struct.Struct(f"{order}{min(values, len(data))}{letter}")
            at = at if numbers.size <= (8 if big else 4) else offset
            return numbers.unpack_from(data, at) if at + numbers.size <= len(data) else ()
    return ()


def is_raw_photo(data: bytes, directory: int) -> bool:
    """Return whether a file's first directory is the preview of a raw photo, as in DNG, NEF and ARW files.

    Such a directory says itself that it is a reduced copy, and the photo is in another one, which it names or which
    follows in the DNG.
    """
    if not sum(numbers_of(data, directory, SUBFILE)) & 1:
        return False
    return any(found in (_SUB_DIRECTORIES, _DNG_VERSION) for found, *_ in _entries(data, directory))


def _entries(data: bytes, directory: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield tag, type, number of values, the place of the value, and the value as an offset, of each entry."""
    order, big = _order_and_size(data[:16])
    entry, count = struct.Struct(order + ("HHQQ" if big else "HHII")), 8 if big else 2
    number = int.from_bytes(data[directory : directory + count], "little" if order == "<" else "big")
    for at in range(directory + count, directory + count + number * entry.size, entry.size):
        tag, kind, values, offset = entry.unpack_from(data, at)
        yield tag, kind, values, at + entry.size - (8 if big else 4), offset


def without_copies(file: BinaryIO, directories: list[int]) -> list[int]:
    """Return the offsets of the directories of pages: without those of smaller copies, which follow their page.

    Entries are sorted, so that the mark of a copy is the first.
    """
    file.seek(0)
    order, big = _order_and_size(file.read(16))
    first_entry = struct.Struct(order + ("QHHQHH" if big else "HHHIHH"))
    pages = directories[:1]
    for at in directories[1:]:
        file.seek(at)
        _, tag, _, _, *value = first_entry.unpack(file.read(first_entry.size).ljust(first_entry.size, b"\0"))
        if tag != SUBFILE or not sum(value) & 1:
            pages.append(at)
    return pages


def _order_and_size(head: bytes) -> tuple[str, bool]:
    return "<" if head[:2] == b"II" else ">", 43 in head[2:4]


def bytes_of_pixels(file: BinaryIO) -> int:
    """Return the bytes of the unpacked pixels of a file's first page; 0 if its tags are damaged."""
    try:
        tags = read_tags(file)
        bits, samples = tags.get(BITS, 1), tags.get(SAMPLES, 1)
        each = bits if isinstance(bits, tuple) else (bits,) * min(samples, 1 << 16)
        sizes = (tags[WIDTH], tags[LENGTH], sum(each))
        return math.prod(sizes) // 8 if all(isinstance(size, int) for size in sizes) else 0
    except Exception:  # reading the file will raise it again
        return 0
