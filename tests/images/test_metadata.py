"""EXIF, XMP and profiles: what is taken out, and that all else stays."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms, IptcImagePlugin, PngImagePlugin

from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.image import Image, ImageWarning
from cnnfilter.images.metadata import Metadata, split_orientation, with_size, without_orientation


def exif_of(tags: dict[int, object], *, order: str = "<") -> bytes:
    """Let Pillow write EXIF with these tags, one in a directory of its own, and GPS."""
    exif = Pillow.Exif()
    exif.endian = order
    for tag, value in tags.items():
        exif[tag] = value
    exif.get_ifd(0x8769)[0x9003] = "2024:02:29 12:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes()


def tags_of(exif: bytes) -> dict[int, object]:
    read = Pillow.Exif()
    read.load(exif)
    found = dict(read)
    assert read.get_ifd(0x8769)[0x9003] == "2024:02:29 12:00:00"
    assert read.get_ifd(0x8825)[1] == "N"
    return {tag: value for tag, value in found.items() if tag < 0x8000}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_only_the_orientation_is_taken_out(orientation: int, order: str) -> None:
    exif = exif_of({0x010F: "A maker of cameras", 0x0112: orientation, 0x0131: "soft"}, order=order)
    found, rest = split_orientation(exif)
    assert found == orientation
    assert rest is not None
    assert tags_of(rest) == {0x010F: "A maker of cameras", 0x0131: "soft"}
    assert split_orientation(rest) == (1, rest)


def test_exif_without_orientation_is_kept() -> None:
    exif = exif_of({0x010F: "A maker"}).removeprefix(b"Exif\0\0")
    assert split_orientation(exif) == (1, exif)


def test_nothing_left_is_nothing() -> None:
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 8, 0)
    assert split_orientation(b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)) == (8, None)
    assert split_orientation(None) == (1, None)


@pytest.mark.parametrize("value", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_upright(value: int) -> None:
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, value, 0)
    assert split_orientation(b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)) == (1, None)


def with_thumbnail(*, last: bool) -> bytes:
    """A directory with a maker, and a second one with a thumbnail of the picture as it was."""
    picture = b"\xff\xd8THUMBNAIL\xff\xd9"
    first = struct.pack("<H", 1) + struct.pack("<HHI4s", 0x010F, 2, 4, b"abc\0") + struct.pack("<I", 26)
    start = 26 + 2 + 24 + 4
    second = struct.pack("<H", 2) + struct.pack("<HHII", 0x0201, 4, 1, start)
    second += struct.pack("<HHII", 0x0202, 4, 1, len(picture)) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + first + second + picture + (b"" if last else b"MAKERNOTE")


@pytest.mark.parametrize("last", [True, False])
def test_the_thumbnail_goes(last: bool) -> None:
    _, rest = split_orientation(with_thumbnail(last=last))
    assert rest is not None
    assert b"THUMBNAIL" not in rest
    read = Pillow.Exif()
    read.load(rest)
    assert dict(read) == {0x010F: "abc"}
    assert not read.get_ifd(1)
    assert rest.endswith(b"MAKERNOTE") == (not last)


@pytest.mark.parametrize(
    "exif",
    [
        b"x",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x09",
        bytes(50),
    ],
)
def test_damaged_exif_is_dropped(exif: bytes) -> None:
    assert split_orientation(exif) == (1, None)


def test_every_cut_of_exif_is_survived() -> None:
    exif = exif_of({0x0112: 6, 0x010F: "A maker of cameras"})
    for length in range(len(exif)):
        orientation, _ = split_orientation(exif[:length])
        assert orientation in (1, 6)


@pytest.mark.parametrize(
    ("xmp", "expected"),
    [
        ('<rdf:Description tiff:Orientation="6" a="1"/>', '<rdf:Description a="1"/>'),
        ("<a><tiff:Orientation>8</tiff:Orientation><b/></a>", "<a><b/></a>"),
        ("<a/>", "<a/>"),
    ],
)
def test_xmp_does_not_ask_for_a_rotation_any_more(xmp: str, expected: str) -> None:
    assert without_orientation(xmp) == expected


@pytest.mark.parametrize(
    ("space", "fits"),
    [(b"RGB ", {"RGB", "RGBA"}), (b"GRAY", {"L", "LA"}), (b"CMYK", {"CMYK"}), (b"Lab ", set())],
)
def test_a_profile_is_given_only_to_its_colours(space: bytes, fits: set[str]) -> None:
    metadata = Metadata(icc=bytes(16) + space + bytes(108))
    assert {mode for mode in ("L", "LA", "RGB", "RGBA", "CMYK", "maps") if metadata.icc_for(mode)} == fits


def test_pillow_agrees_on_all_orientations() -> None:
    """The tags that Pillow writes are the ones that are read here."""
    for orientation in range(1, 9):
        picture, exif = Pillow.new("L", (2, 2)), Pillow.Exif()
        exif[0x0112] = orientation
        stream = io.BytesIO()
        picture.save(stream, "JPEG", exif=exif)
        assert split_orientation(Pillow.open(stream).info["exif"])[0] == orientation


@pytest.mark.parametrize(
    "preview",
    [
        "<xmp:Thumbnails><rdf:Alt><rdf:li><xmpGImg:image>/9j/AAAA</xmpGImg:image></rdf:li></rdf:Alt></xmp:Thumbnails>",
        "<xap:Thumbnails>\n <xapGImg:image>/9j/AAAA</xapGImg:image>\n</xap:Thumbnails>",
        '<xmp:Thumbnails xml:lang="x"><rdf:li xmpGImg:image="/9j/AAAA" xmpGImg:width="16"/></xmp:Thumbnails>',
        "<GImage:Data>/9j/AAAA</GImage:Data>",
        '<rdf:Description GImage:Data="/9j/AAAA"/>',
        "<rdf:Description xmpGImg:image = '/9j/AAAA'/>",
    ],
)
def test_xmp_keeps_no_preview_of_the_picture_before_filtering(preview: str) -> None:
    before, after = "<x:xmpmeta><dc:source>a garden wall</dc:source>", "<dc:image>wall 7</dc:image></x:xmpmeta>"
    kept = without_orientation(before + preview + after)
    assert "/9j/" not in kept
    assert kept.startswith(before)
    assert kept.endswith(after)


@pytest.mark.parametrize("format", ["jpg", "webp", "png", "tiff"])
@pytest.mark.parametrize("kind", ["<HHIHH", ">HHIHH"])
@pytest.mark.parametrize("size", [(64, 96), (3, 70_000)])
def test_exif_says_the_size_of_the_picture_that_is_written(format: str, kind: str, size: tuple[int, int]) -> None:
    if size[1] > 16_383 and format in ("jpg", "webp"):
        pytest.skip("a larger side than the format allows")
    order, head = kind[0], {"<": b"II*\0", ">": b"MM\0*"}[kind[0]]
    own = struct.pack(order + "H", 2) + struct.pack(kind, 0xA002, 3, 1, 96, 0) + struct.pack(kind, 0xA003, 3, 1, 64, 0)
    directory = struct.pack(order + "HHHII", 1, 0x8769, 4, 1, 26)
    exif = head + struct.pack(order + "I", 8) + directory + bytes(4) + own + bytes(4)
    image = Image(np.zeros((size[1], size[0], 3), np.uint8), "RGB", metadata=Metadata(exif=exif))
    said = Pillow.open(io.BytesIO(encode_image(image, format))).getexif().get_ifd(0x8769)
    assert (said[0xA002], said[0xA003]) == size
    assert with_size(Metadata(exif=exif), 96, 64).exif == exif
    assert with_size(Metadata(exif=exif[:30]), 1, 1).exif == exif[:30]


@pytest.mark.parametrize("side", [16, 1500])  # in one band, and in several
@pytest.mark.parametrize("caption", [b"a caption", b"an even one"])
def test_a_jpeg_keeps_its_iptc(side: int, caption: bytes) -> None:
    records = b"\x1c\x02\x78" + struct.pack(">H", len(caption)) + caption
    image = Image(np.zeros((side, side, 3), np.uint8), "RGB", metadata=Metadata(iptc=records))
    written = encode_image(image, "jpg")
    assert IptcImagePlugin.getiptcinfo(Pillow.open(io.BytesIO(written)))[2, 120] == caption
    again = read_image(written)
    assert again.metadata.iptc == records
    assert caption not in encode_image(again, "jpg", strip=True)
    with pytest.warns(ImageWarning, match="png files are written without IPTC"):
        encode_image(again, "png")


@pytest.mark.parametrize(
    ("format", "lost"),
    [
        ("jpg", ""),
        ("png", ""),
        ("tiff", ""),
        ("webp", "webp files are written without resolution: it is left out; jpg, png, tiff and bmp would keep it"),
        (
            "bmp",
            "bmp files are written without colour profile, EXIF and XMP: they are left out; jpg, png, webp, avif and",
        ),
        (
            "gif",
            "gif files are written without colour profile, EXIF, XMP and resolution: they are left out; jpg, png and",
        ),
        ("npy", ""),
    ],
)
def test_metadata_that_a_format_does_not_hold_are_said_once(format, lost):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Pillow.Exif()
    exif[271] = "Maker"
    stream = io.BytesIO()
    picture = Pillow.new("RGB", (8, 8))
    picture.save(stream, "JPEG", exif=exif, dpi=(300, 300), icc_profile=profile, xmp=b"<x:xmpmeta/>")
    image = read_image(stream.getvalue())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encode_image(image, format)
        encode_image(image, format, strip=True)
    assert len(caught) == bool(lost)
    assert not lost or str(caught[0].message).startswith(lost)


def test_a_resolution_in_the_exif_is_not_lost():
    exif = Pillow.Exif()
    exif[282], exif[283] = 300.0, 300.0
    stream = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(stream, "JPEG", exif=exif, dpi=(300, 300))
    encode_image(read_image(stream.getvalue()), "webp")  # warnings are errors here


@pytest.mark.parametrize(
    "form", ["tiff:ImageWidth=\"64\" exif:PixelYDimension='40'", "<tiff:ImageWidth>64</tiff:ImageWidth>"]
)
def test_sizes_in_xmp_are_those_of_the_result(form):
    stream = io.BytesIO()
    packet = f"<x:xmpmeta><rdf:Description {form}/></x:xmpmeta>" if "=" in form else f"<x:xmpmeta>{form}</x:xmpmeta>"
    Pillow.new("RGB", (64, 40)).save(stream, "JPEG", xmp=packet.encode())
    image = read_image(stream.getvalue())
    result = read_image(encode_image(image.replace(pixels=np.ascontiguousarray(image.pixels[::2, ::2])), "jpg"))
    written = result.metadata.text["XML:com.adobe.xmp"]
    assert written == packet.replace("64", "32").replace("40", "20")


@pytest.mark.parametrize("format", ["jpg", "tiff", "png"])
def test_sizes_in_xmp_of_a_turned_picture_and_of_another_one(format):
    """A turned picture has the sizes of the result; those of a photo that it was cut from stay."""
    stream = io.BytesIO()
    packet = '<x:xmpmeta tiff:ImageWidth="64" tiff:ImageLength="40" exif:PixelXDimension="3008"/>'
    exif = Pillow.Exif()
    exif[274] = 6
    picture = Pillow.new("RGB", (64, 40))
    if format == "tiff":
        picture.save(stream, "TIFF", tiffinfo={274: 6, 700: packet.encode()})
    elif format == "jpg":
        picture.save(stream, "JPEG", xmp=packet.encode(), exif=exif)
    else:
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", packet)
        picture.save(stream, "PNG", pnginfo=texts, exif=exif)
    image = read_image(stream.getvalue())
    assert image.pixels.shape[:2] == (64, 40)
    written = read_image(encode_image(image.replace(pixels=np.ascontiguousarray(image.pixels[::4, ::4])), "png"))
    expected = '<x:xmpmeta tiff:ImageWidth="10" tiff:ImageLength="16" exif:PixelXDimension="3008"/>'
    assert written.metadata.text["XML:com.adobe.xmp"] == expected


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_preview_in_the_makers_note_is_removed(order):
    """With the note as a whole, as its parts refer to each other; a note without a preview stays."""
    preview = io.BytesIO()
    Pillow.new("RGB", (32, 32)).save(preview, "JPEG")
    for note, stays in ((b"NIKON" + preview.getvalue() + b"behind it", False), (b"NIKON without a preview", True)):
        head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
        first = struct.pack(order + "HHHIII", 1, 0x8769, 4, 1, 26, 0)
        second = struct.pack(order + "HHHIIHHIHHI", 2, 0x927C, 7, len(note), 56, 0xA001, 3, 1, 1, 0, 0)
        _, exif = split_orientation(head + first + second + note)
        assert exif is not None
        assert (b"NIKON" in exif, b"behind" in exif, b"\xff\xd8\xff" in exif) == (stays, False, False)
        tags = Pillow.Exif()
        tags.load(b"Exif\0\0" + exif)
        assert tags.get_ifd(0x8769).get(0xA001) == 1
        assert (0x927C in tags.get_ifd(0x8769)) == stays


def test_the_name_of_a_program_is_no_exif_to_warn_of():
    exif = Pillow.Exif()
    exif[305], exif[270] = "a program", "a description"
    stream = io.BytesIO()
    Pillow.new("RGB", (8, 8)).save(stream, "TIFF", tiffinfo=exif)
    encode_image(read_image(stream.getvalue()), "bmp")  # warnings are errors here
