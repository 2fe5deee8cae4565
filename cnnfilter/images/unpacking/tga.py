"""Run-length coded TGA files as uncompressed ones, for files whose packets cross rows: Pillow does not decode those.

References
----------
Truevision TGA File Format Specification, version 2.0, field 7 (packets) and the TGA file footer
"""

from __future__ import annotations

import struct

from cnnfilter.errors import ImageError

_HEADER_BYTES = 18
_COMPRESSED = 8  # the bit of the image type that says so
_FOOTER_BYTES = 26
_FOOTER_SIGNATURE = b"TRUEVISION-XFILE.\0"


def uncompressed(data: bytes) -> bytes | None:
    """Return a run-length coded file with its pixels unpacked; None for a file that is not coded so.

    Raises
    ------
    ImageError
        The file ends before its last pixel.

    Examples
    --------
    >>> head = bytes([0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2, 0, 8, 0])  # 2x2, grey
    >>> uncompressed(head + bytes([0x82, 7, 0x00, 9]))[18:]
    b'\\x07\\x07\\x07\\t'
    """
    if len(data) < _HEADER_BYTES or not data[2] & _COMPRESSED:
        return None
    width, height = struct.unpack_from("<HH", data, 12)
    pixel_bytes = (data[16] + 7) // 8
    palette_bytes = int.from_bytes(data[5:7], "little") * ((data[7] + 7) // 8) if data[1] else 0
    start = _HEADER_BYTES + data[0] + palette_bytes
    needed = width * height * pixel_bytes
    pixels, end = _unpack(data, start, pixel_bytes, needed)
    rest = bytearray(data[end:])
    _move_extension(rest, end, len(pixels) - (end - start))
    return b"".join([data[:2], bytes([data[2] & ~_COMPRESSED]), data[3:start], pixels, rest])


def _unpack(data: bytes, at: int, pixel_bytes: int, needed: int) -> tuple[bytearray, int]:
    """Return the unpacked pixels of the packets from `at` on, and the offset of the end of the last packet."""
    pixels = bytearray()
    while len(pixels) < needed:
        count = (data[at] & 127) + 1 if at < len(data) else 1
        is_run = at < len(data) and data[at] & 128
        packed = data[at + 1 : at + 1 + (1 if is_run else count) * pixel_bytes]
        pixels += packed * count if is_run else packed
        at += 1 + (1 if is_run else count) * pixel_bytes
        if at > len(data):
            raise ImageError(f"it is cut off: {len(pixels):,} of its {needed:,} bytes of pixels are there")
    return pixels[:needed], at


def _move_extension(rest: bytearray, begin: int, distance: int) -> None:
    """Correct the offset of the extension area in the footer, if `rest`, from byte `begin` on, holds both."""
    if len(rest) >= _FOOTER_BYTES and rest.endswith(_FOOTER_SIGNATURE):
        (extension,) = struct.unpack_from("<I", rest, len(rest) - _FOOTER_BYTES)
        if extension >= begin:
            struct.pack_into("<I", rest, len(rest) - _FOOTER_BYTES, extension + distance)
