"""CMYK with a profile, against littleCMS: converted where a format cannot hold inks, and kept where it can."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms

from cnnfilter.errors import ImageError
from cnnfilter.images.colour import visible_bytes
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.image import Image, ImageWarning
from cnnfilter.images.metadata import Metadata

SOLIDS = {8: (55, -37, -50), 4: (48, 74, -3), 2: (89, -5, 93), 1: (16, 0, 0)}
"""The L*a*b* colours of solid cyan, magenta, yellow and black, by their bits in the number of an overprint."""


def press_profile() -> bytes:
    """An ICC profile of a press: a table of the colours of the 16 overprints (ICC.1, type mft1)."""
    table = b""
    for overprint in range(16):
        lab = np.array([100.0, 0.0, 0.0])
        for bit, (lightness, a, b) in SOLIDS.items():
            if overprint & bit:
                lab = np.array([lab[0] * lightness / 100, lab[1] / 2 + a, lab[2] / 2 + b])
        table += bytes(int(np.clip(value + 0.5, 0, 255)) for value in (lab[0] * 2.55, lab[1] + 128, lab[2] + 128))
    line = bytes(range(256))
    unit = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 6) + b"press\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061),
        b"A2B0": b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unit + line * 4 + table + line * 3,
    }
    head, body, at = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        head += name + struct.pack(">II", at + len(body), len(content))
        body += content
    fields = struct.pack(">I", at + len(body)) + bytes(4) + bytes([2, 0x40, 0, 0]) + b"prtrCMYKLab "
    fields += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    fields = fields.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return fields.ljust(128, b"\0") + struct.pack(">I", len(tags)) + head + body


def inks_and_colours() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:32, :32]
    inks = np.stack([x * 8, y * 8, (x + y) * 4, (x % 8) * 12], 2).astype(np.uint8)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(press_profile()))
    picture = Pillow.frombytes("CMYK", (32, 32), inks.tobytes())
    colours = ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return inks, np.asarray(colours)


def test_inks_with_a_profile_are_converted_by_it_where_a_format_has_none() -> None:
    inks, colours = inks_and_colours()
    assert abs(colours - np.asarray(Pillow.frombytes("CMYK", (32, 32), inks).convert("RGB"), int)).mean() > 15
    image = Image(inks, "CMYK", metadata=Metadata(icc=press_profile()))
    for kept in ("tiff", "jpg"):
        assert read_image(encode_image(image, kept)).mode == "CMYK"
    back = read_image(encode_image(read_image(encode_image(image, "tiff")), "png"))
    np.testing.assert_array_equal(back.pixels, colours)
    assert back.metadata.icc is None


def test_inks_of_16_bits_are_converted_by_their_profile_too() -> None:
    inks, colours = inks_and_colours()
    image = Image(inks.astype(np.uint16) * 257, "CMYK", metadata=Metadata(icc=press_profile()))
    with pytest.warns(ImageWarning, match="its 16-bit inks are rounded to 8 bits, at which their profile is applied"):
        back = read_image(encode_image(image, "png"))
    np.testing.assert_array_equal(back.pixels, colours.astype(np.uint16) * 257)


def test_inks_of_floats_are_refused_where_colours_are_needed() -> None:
    with pytest.raises(ImageError, match="inks of floats cannot become RGB"):
        visible_bytes(Image(np.zeros((2, 2, 4), np.float32), "CMYK"))
