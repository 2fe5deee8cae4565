"""The header of an AVIF file's first frame: its chroma subsampling, and whether it is compressed without loss.

Only those fields of AV1 are read that come before the quantizer. Pillow decodes and encodes AVIF.

References
----------
AV1 Bitstream & Decoding Process Specification; AV1 Image File Format; ISO/IEC 14496-12
"""

from __future__ import annotations


def describe(data: bytes) -> tuple[str | None, bool]:
    """Return the chroma subsampling of an AVIF file (None for grey, or where it is not found), and if it is lossless.

    It is lossless if its first frame is not quantized and its chroma not subsampled.
    """
    box = data.find(b"av1C")
    if box < 0 or box + 8 > len(data):
        return None, False
    flags = data[box + 6]
    is_grey, across, down = bool(flags & 16), flags >> 3 & 1, flags >> 2 & 1
    subsampling = None if is_grey else {(0, 0): "444", (1, 0): "422", (1, 1): "420"}.get((across, down))
    try:
        lossless = _av1_quantizer(data) == 0 and (is_grey or subsampling == "444")
    except (LookupError, ValueError):
        lossless = False
    return subsampling, lossless


_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6  # obu_type (AV1 specification, section 6.2.2)


def _av1_quantizer(data: bytes) -> int:
    """Return base_q_idx of a still picture (AV1 specification, sections 5.5, 5.9); ValueError if it is not found."""
    obus = _obus(data[_item_start(data) :])
    sequence = _Bits(obus[_SEQUENCE_HEADER])
    sequence.take(3)  # seq_profile
    sequence.take(1)  # still_picture
    if not sequence.take(1):  # reduced_still_picture_header
        raise ValueError("not the header of a still picture")
    sequence.take(5)  # seq_level_idx
    bits = sequence.take(4) + 1, sequence.take(4) + 1
    width, height = sequence.take(bits[0]) + 1, sequence.take(bits[1]) + 1
    large_blocks = sequence.take(1)
    sequence.take(2)  # enable_filter_intra, enable_intra_edge_filter
    enable_superres = sequence.take(1)

    frame = _Bits(obus.get(_FRAME) or obus[_FRAME_HEADER])
    frame.take(1)  # disable_cdf_update
    allow_screen_content_tools = frame.take(1)
    if allow_screen_content_tools:
        frame.take(1)  # force_integer_mv
    use_superres = frame.take(1) if enable_superres else 0
    if use_superres:
        frame.take(3)  # coded_denom
    if frame.take(1):  # render_and_frame_size_different
        frame.take(32)
    if allow_screen_content_tools and not use_superres:
        frame.take(1)  # allow_intrabc
    _skip_tile_info(frame, width, height, large_blocks)
    return frame.take(8)


def _skip_tile_info(frame: _Bits, width: int, height: int, large_blocks: int) -> None:
    """Skip tile_info (AV1 specification, section 5.9.15) of a frame whose tiles have one size."""
    block = 128 if large_blocks else 64
    columns, rows = -(-width // block), -(-height // block)
    if not frame.take(1):  # uniform_tile_spacing_flag
        raise ValueError("tiles of different sizes")
    max_area, max_width = 4096 * 2304 // block**2, 4096 // block
    min_column_bits = _log2(max_width, columns)
    column_bits, max_bits = min_column_bits, _log2(1, min(columns, 64))
    while column_bits < max_bits and frame.take(1):
        column_bits += 1
    row_bits, max_bits = (
        max(max(min_column_bits, _log2(max_area, rows * columns)) - column_bits, 0),
        _log2(1, min(rows, 64)),
    )
    while row_bits < max_bits and frame.take(1):
        row_bits += 1
    if column_bits or row_bits:
        frame.take(column_bits + row_bits)  # context_update_tile_id
        frame.take(2)  # tile_size_bytes_minus_1


def _log2(unit: int, target: int) -> int:
    bits = 0
    while unit << bits < target:
        bits += 1
    return bits


def _item_start(data: bytes) -> int:
    """Return the offset of the first item's data by the ``iloc`` box (ISO/IEC 14496-12, section 8.11.3)."""
    at = data.index(b"iloc") + 4
    version, sizes = data[at], int.from_bytes(data[at + 4 : at + 6], "big")
    offset_size, base_size, index_size = sizes >> 12, sizes >> 4 & 15, sizes & 15 if version else 0
    at += 6 + (4 if version == 2 else 2)  # item_count
    at += 4 if version == 2 else 2  # item_ID
    at += (2 if version else 0) + 2  # construction_method, data_reference_index
    base = int.from_bytes(data[at : at + base_size], "big")
    at += base_size + 2 + index_size  # extent_count
    return base + int.from_bytes(data[at : at + offset_size], "big")


def _obus(data: bytes) -> dict[int, bytes]:
    """Return the first unit of each type (AV1 specification, section 5.3), as far as they can be read."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and _FRAME not in found and _FRAME_HEADER not in found:
        kind, has_extension, has_size = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at += 1 + has_extension
        size, shift = len(data) - at, 0
        if has_size:
            size = 0
            while True:
                if shift > 49:  # leb128 has 8 bytes at most (AV1 specification, section 4.10.5)
                    raise ValueError("a size without end")
                size |= (data[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if not data[at - 1] & 128:
                    break
        found.setdefault(kind, data[at : at + size])
        at += size
    return found


class _Bits:
    """Bytes that are read bit by bit, the highest first."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> int:
        """Return the number in the next bits; IndexError behind the end."""
        value = 0
        for _ in range(count):
            value = value << 1 | self.data[self.at >> 3] >> (7 - self.at % 8) & 1
            self.at += 1
        return value
