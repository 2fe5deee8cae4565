"""IPTC between JPEG and TIFF: captions and keywords are kept, previews of the unfiltered picture are not."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import IptcImagePlugin

from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.image import Image
from cnnfilter.images.metadata import Metadata
from cnnfilter.images.tags.iptc import records_of_tags, without_previews


def data_set(number: int, content: bytes, record: int = 2) -> bytes:
    return bytes([0x1C, record, number]) + struct.pack(">H", len(content)) + content


CAPTION = data_set(0, b"\0\4") + data_set(120, b"a caption") + data_set(25, b"wall") + data_set(25, b"garden")


def photo(records: bytes | None = CAPTION) -> Image:
    return Image(np.zeros((4, 5, 3), np.uint8), "RGB", metadata=Metadata(iptc=records))


def tiff_with(tag: int, kind: str, value: Any, byteorder: Any = "<") -> bytes:
    stream = io.BytesIO()
    tags = [(tag, kind, len(value), value)]
    tifffile.imwrite(stream, np.zeros((4, 5), np.uint8), extratags=tags, metadata=None, byteorder=byteorder)
    return stream.getvalue()


@pytest.mark.parametrize("first", ["jpg", "tiff"])
@pytest.mark.parametrize("second", ["jpg", "tiff"])
def test_records_are_kept_in_both_directions(first: str, second: str) -> None:
    file = encode_image(read_image(encode_image(photo(), first)), second)
    assert read_image(file).metadata.iptc == CAPTION
    seen = IptcImagePlugin.getiptcinfo(Pillow.open(io.BytesIO(file)))
    assert seen is not None
    assert seen[2, 120] == b"a caption"
    assert seen[2, 25] == [b"wall", b"garden"]
    assert read_image(encode_image(read_image(file), second, strip=True)).metadata.iptc is None


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_records_as_numbers_of_32_bits(byteorder: str) -> None:
    padded = CAPTION + bytes(-len(CAPTION) % 4)
    numbers = struct.unpack(f"{byteorder}{len(padded) // 4}I", padded)
    assert read_image(tiff_with(33723, "I", numbers, byteorder)).metadata.iptc == CAPTION


def test_records_as_bytes() -> None:
    file = tiff_with(33723, "B", CAPTION)
    assert read_image(file).metadata.iptc == CAPTION


def test_records_among_photoshops_resources() -> None:
    other = b"8BIM" + struct.pack(">H", 0x03ED) + b"\3abc" + struct.pack(">I", 3) + b"xyz\0"
    own = b"8BIM" + struct.pack(">H", 0x0404) + b"\0\0" + struct.pack(">I", len(CAPTION)) + CAPTION
    assert read_image(tiff_with(34377, "B", other + own)).metadata.iptc == CAPTION
    assert read_image(tiff_with(34377, "B", other)).metadata.iptc is None
    assert read_image(tiff_with(34377, "B", own[:9])).metadata.iptc is None


@pytest.mark.parametrize("format", ["jpg", "tiff"])
def test_a_preview_among_the_records_is_removed(format: str) -> None:
    preview = data_set(200, b"\0\1") + data_set(201, b"\0\1") + data_set(202, b"the unfiltered picture")
    long = bytes([0x1C, 2, 202, 0x80, 4]) + struct.pack(">I", 70_000) + b"q" * 70_000
    assert without_previews(CAPTION + preview + data_set(40, b"later")) == CAPTION + data_set(40, b"later")
    assert without_previews(long + CAPTION) == CAPTION
    again = read_image(encode_image(photo(CAPTION + preview), format)).metadata
    assert again.iptc == CAPTION


@pytest.mark.parametrize("value", [b"", b"\0\0\0\0"])
def test_what_is_no_record(value: bytes) -> None:
    assert records_of_tags({33723: value}) is None
    assert without_previews(b"damaged" + CAPTION) == b"damaged" + CAPTION
