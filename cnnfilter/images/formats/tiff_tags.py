"""TIFF's directories: which tags there are, and how they are laid out in a file (BigTIFF's too).

References: TIFF 6.0, part 1 to 3; BigTIFF as libtiff describes it.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from cnnfilter.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image as PillowImage

SUBFILE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIPS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES = 273, 274, 277, 278, 279
ACROSS, DOWN, PLANES, UNIT, PREDICTOR = 282, 283, 284, 296, 317
TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES = 322, 323, 324, 325
EXTRA, FORMAT, XMP, ICC = 338, 339, 700, 34675
EXIF, GPS = 34665, 34853

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5
PREMULTIPLIED, ALPHA = 1, 2

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a file begins."""

MAX_CLASSIC_BYTES = 1 << 32
"""Bytes at which a file ends whose offsets are not those of BigTIFF."""

_MAX_DIRECTORIES = 1 << 20

Entry = tuple[bytes, bytes]
"""A directory's entry: tag, type and count, 2 + 2 + 4 or 8 bytes; and its value, of any length."""

_OFFSET_TAGS = (STRIPS, STRIP_BYTES, TILES, TILE_BYTES)
_TYPE_BYTES = {3: (2, 2), 4: (4, 4), 5: (8, 4), 8: (2, 2), 9: (4, 4), 10: (8, 4), 11: (4, 4), 12: (8, 8)}
# Bytes of a value of each type, and of each of its numbers; those of the others are single.


@dataclass(frozen=True)
class Layout:
    """How a file writes its numbers: ``<`` or ``>``, with offsets of 4 bytes, or `big` with 8."""

    order: str
    big: bool = False

    @property
    def head_size(self) -> int:
        """Bytes before anything else."""
        return 16 if self.big else 8

    def head(self, directory: int) -> bytes:
        """Return the first bytes of a file whose first directory is at that offset."""
        mark = b"II" if self.order == "<" else b"MM"
        if self.big:
            return mark + struct.pack(self.order + "HHHQ", 43, 8, 0, directory)
        return mark + struct.pack(self.order + "HI", 42, directory)

    def entry(self, tag: int, value: Any) -> Entry:
        """Return an entry whose value is bytes, or one or more whole numbers."""
        if isinstance(value, bytes):
            return self.raw(tag, 1 if tag == XMP else 7, len(value), value)
        numbers = value if isinstance(value, list) else [value]
        kind, letter = (16, "Q") if self.big else (4, "I")
        if tag not in _OFFSET_TAGS and max(numbers) < 65536:
            kind, letter = 3, "H"
        return self.raw(tag, kind, len(numbers), struct.pack(f"{self.order}{len(numbers)}{letter}", *numbers))

    def raw(self, tag: int, kind: int, count: int, content: bytes) -> Entry:
        """Return an entry of any type."""
        return struct.pack(self.order + ("HHQ" if self.big else "HHI"), tag, kind, count), content

    def directory(self, entries: Sequence[Entry], at: int, *, last: bool = True) -> bytes:
        """Lay out a directory that starts at `at`, sorted by tag, with the long values behind it."""
        count, offset, room = ("Q", "Q", 8) if self.big else ("H", "I", 4)
        entries = sorted(entries, key=lambda entry: struct.unpack_from(self.order + "H", entry[0]))
        table, values = [struct.pack(self.order + count, len(entries))], bytearray()
        behind = at + len(table[0]) + sum(len(head) + room for head, _ in entries) + room
        for head, content in entries:
            if len(content) <= room:
                table.append(head + content.ljust(room, b"\0"))
            else:
                table.append(head + struct.pack(self.order + offset, behind + len(values)))
                values += content + bytes(len(content) % 2)
        end = 0 if last else behind + len(values)
        return b"".join([*table, struct.pack(self.order + offset, end), values])


def order_of(exif: bytes) -> str:
    """Return how EXIF, which is a TIFF structure itself, writes its numbers."""
    return ">" if exif[:2] == b"MM" else "<"


def entries_of_exif(exif: bytes, layout: Layout, wanted: Sequence[int]) -> dict[int, Entry]:
    """Return entries of EXIF's first directory.

    Where EXIF stands at the start of a file of its own layout, all its offsets are right, and so the entries are as
    they stand there. For a big file they are written anew, without what points elsewhere.
    """
    order = order_of(exif)
    entries: dict[int, Entry] = {}
    (directory,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, directory)
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", exif, at)
        if tag not in wanted:
            continue
        if not layout.big:
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
    """Return the tags of a file's first directory; what fails is whatever Pillow raises."""
    from PIL import Image as PillowImage

    head = file.read(16)
    tags = PillowImage.Exif()
    tags.endian = "<" if head[:2] == b"II" else ">"
    tags.bigtiff = 43 in head[2:4]
    kind, at = ("Q", 8) if tags.bigtiff else ("I", 4)
    tags.load_from_fp(file, struct.unpack_from(tags.endian + kind, head, at)[0])
    return tags


def count_directories(file: BinaryIO) -> int:
    """Return how many directories a file's chain has; it ends where it comes back to one, or leaves the file.

    Raises
    ------
    ImageError
        They are more than anybody writes: following them would take a minute.
    """
    head = file.read(16)
    order, big = "<" if head[:2] == b"II" else ">", 43 in head[2:4]
    count, offset = struct.Struct(order + ("Q" if big else "H")), struct.Struct(order + ("Q" if big else "I"))
    seen = set[int]()
    with contextlib.suppress(struct.error, OSError, OverflowError):  # what stands beyond the end, or any file's
        (at,) = offset.unpack_from(head, 8 if big else 4)
        while at and at not in seen:
            file.seek(at)
            file.seek(count.unpack(file.read(count.size))[0] * (20 if big else 12), io.SEEK_CUR)
            seen.add(at)
            if len(seen) > _MAX_DIRECTORIES:
                raise ImageError(f"it has more than {_MAX_DIRECTORIES:,} pages")
            (at,) = offset.unpack(file.read(offset.size))
    return len(seen)


def bytes_of_pixels(file: BinaryIO) -> int:
    """Return how many bytes the pixels of a file's first page take, unpacked; 0 if it does not say so."""
    try:
        tags = read_tags(file)
        bits, samples = tags.get(BITS, 1), tags.get(SAMPLES, 1)
        each = bits if isinstance(bits, tuple) else (bits,) * min(samples, 1 << 16)
        sizes = (tags[WIDTH], tags[LENGTH], sum(each))
        return math.prod(sizes) // 8 if all(isinstance(size, int) for size in sizes) else 0
    except Exception:  # what is wrong with it is said by whoever reads it
        return 0
