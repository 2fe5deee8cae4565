"""Streams of pictures: where each picture ends, whatever the sizes of the pieces in which the bytes come."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import PIL.Image
import pytest

from cnnfilter.errors import ImageError
from cnnfilter.images.files import read_image
from cnnfilter.images.streams.pictures import PictureStream


class Pipe:
    """A stream that gives at most `size` bytes at a time, and counts what was asked of it."""

    def __init__(self, data: bytes, size: int = 1 << 16) -> None:
        self.data = data
        self.size = size
        self.read_bytes = 0

    def read(self, size: int) -> bytes:
        piece = self.data[self.read_bytes : self.read_bytes + min(size, self.size)]
        self.read_bytes += len(piece)
        return piece


def taken(data: bytes, size: int = 1 << 16) -> list[bytes]:
    """Return the pictures of a stream; an error ends them as its message."""
    stream = PictureStream(Pipe(data, size).read)
    found: list = []
    try:
        found.append(stream.take())
        while stream.has_more():
            found.append(stream.take_following())
    except ImageError as error:
        found.append(str(error))
    return found


def picture(format: str, seed: int = 0, size: tuple[int, int] = (9, 7), **options) -> bytes:
    """Return a file that Pillow has written."""
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(values).save(file, format, **options)
    return file.getvalue()


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def jpeg_with(segment: bytes, marker: int = 0xE1, data: bytes | None = None) -> bytes:
    """Return a JPEG file with a segment behind its first marker."""
    data = picture("jpeg") if data is None else data
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def multi_picture(first: bytes, second: bytes) -> bytes:
    """Return an MPO file of two pictures (CIPA DC-007): an index in APP2, and the second after the first."""

    def index(offset: int) -> bytes:
        entries = struct.pack("<IIIHHIIIHH", 0x20030000, 0, 0, 0, 0, 0, len(second), offset, 0, 0)
        fields = struct.pack("<HHII", 0xB001, 4, 1, 2) + struct.pack("<HHII", 0xB002, 7, 32, 8 + 2 + 24 + 4)
        return b"MPF\0" + b"II*\0" + struct.pack("<IH", 8, 2) + fields + b"\0\0\0\0" + entries

    size = len(jpeg_with(index(0), 0xE2, first))
    return jpeg_with(index(size - 10), 0xE2, first) + second  # offsets count from the byte order, at 10


THUMBNAIL = picture("jpeg", 5, (4, 4))

FILES = {
    "png": picture("png"),
    "apng": picture("png", save_all=True, append_images=[PIL.Image.new("RGB", (7, 9), "red")]),
    "jpeg": picture("jpeg"),
    "progressive jpeg": picture("jpeg", size=(40, 50), progressive=True),
    "jpeg with restarts": picture("jpeg", size=(64, 64), restart_marker_blocks=1),
    "jpeg with a thumbnail": jpeg_with(b"Exif\0\0" + THUMBNAIL),
    "jpeg with fill bytes": picture("jpeg")[:-2] + b"\xff\xff\xff\xd9",
    "mpo": multi_picture(picture("jpeg", 1), picture("jpeg", 2)),
    "gif": picture("gif"),
    "animated gif": picture("gif", save_all=True, append_images=[PIL.Image.new("RGB", (7, 9), "red")]),
    "webp": picture("webp", lossless=True),
    "webp of odd size": picture("webp", 3, (5, 3), quality=30),
    "bmp": picture("bmp"),
    "bmp without its size": picture("bmp")[:2] + bytes(4) + picture("bmp")[6:],
    "avif": picture("avif"),
    "npy": npy(np.arange(12.0).reshape(3, 4)),
    "npy of bytes": npy(np.zeros((2, 3, 3), np.uint8)),
    "P1": b"P1\n# bits\n3 2\n101\n011",
    "P2": b"P2 2 2 # a comment\n9\n1 2 # between\n3\n 4",
    "P3": b"P3 1 2 255 1 2 3\n4 5 6",
    "P4": b"P4\n9 2\n\x80\x00\x01\x00",
    "P5": b"P5 2 2 255\nP5 1",
    "P5 of 16 bits": b"P5 2 1 256\n" + bytes(4),
    "P6": picture("ppm"),
    "P7": b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 2\nMAXVAL 255\nTUPLTYPE GRAYSCALE_ALPHA\nENDHDR\nabcd",
    "Pf": b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 1, 2),
    "PF": b"PF\n1 1\n1.0\n" + struct.pack(">3f", 1, 2, 3),
}
NEEDS_SPACE = ("P1", "P2", "P3")


@pytest.mark.parametrize("size", [1, 3, 1 << 16])
@pytest.mark.parametrize("name", FILES)
def test_each_picture_ends_where_the_next_begins(name, size):
    file = FILES[name] + (b"\n" if name in NEEDS_SPACE else b"")
    found = [data.rstrip(b"\n") if name in NEEDS_SPACE else data for data in taken(file * 2 + FILES["png"], size)]
    assert found == [FILES[name], FILES[name], FILES["png"]]


@pytest.mark.parametrize("name", [name for name in FILES if name not in NEEDS_SPACE and "avif" not in name])
def test_a_picture_is_taken_before_a_byte_of_the_next_one_comes(name):
    pipe = Pipe(FILES[name] + FILES["png"], 1)
    assert PictureStream(pipe.read).take() == FILES[name]
    assert pipe.read_bytes <= max(len(FILES[name]), 64)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("padding", [b"\0" * 500, b"\n", b"\r\n\0\0 \t"])
def test_zeros_and_line_ends_may_stand_between_pictures_and_after_them(name, padding):
    file = FILES[name] + (b"\n" if name in NEEDS_SPACE else b"")
    assert [data.rstrip(b"\n") for data in taken((file + padding) * 2)] == [FILES[name].rstrip(b"\n")] * 2


def test_a_plain_picture_of_many_pieces_ends_at_its_last_number():
    numbers = np.random.default_rng(1).integers(0, 256, 90_000)
    lines = "\n".join(" ".join(map(str, row)) for row in numbers.reshape(-1, 15)).encode()
    plain = b"P2 300 300 255\n" + lines
    assert taken(plain + b"\nP5 1 1 255 a") == [plain, b"P5 1 1 255 a"]


def test_the_pictures_of_an_index_that_are_not_there_are_not_looked_for():
    stale = FILES["mpo"][: -len(picture("jpeg", 2))]
    assert taken(stale + FILES["png"] * 4) == [stale, *[FILES["png"]] * 4]


def test_matrices_are_separated_by_blank_lines():
    assert taken(b"# two\n\n1 2\n3 4\n\n\n5 6\n") == [b"# two\n\n1 2\n3 4\n", b"5 6\n"]
    assert taken(b"1,2\n3,4\n") == [b"1,2\n3,4\n"]


@pytest.mark.parametrize("name", ["png", "jpeg", "jpeg with restarts", "progressive jpeg", "gif"])
def test_a_picture_that_is_cut_off_ends_where_the_next_begins(name):
    cut = FILES[name][: len(FILES[name]) * 2 // 3]
    assert taken(cut + FILES[name] + FILES["png"]) == [cut, FILES[name], FILES["png"]]
    if "jpeg" not in name:
        assert taken(cut + FILES["P6"] + FILES["png"]) == [cut, FILES["P6"], FILES["png"]]


@pytest.mark.parametrize("name", [name for name in FILES if name not in NEEDS_SPACE])
def test_bytes_that_are_no_picture_are_an_error(name):
    found = taken(FILES[name] * 2 + b"hello")
    assert found[:2] == [FILES[name]] * 2
    assert found[2:] == ["after picture 2 come bytes that are no picture ('hello')"]


def test_the_error_after_a_single_picture_says_how_to_go_on():
    message = "after picture 1 come bytes that are no picture ('%PDF-1.7'); as a file it is read without them"
    assert taken(FILES["png"] + b"%PDF-1.7")[1:] == [message]


@pytest.mark.parametrize("other", [b"1 2 3\n", picture("tga")])
def test_what_has_no_signature_does_not_follow_a_picture(other):
    assert "come bytes that are no picture" in taken(FILES["png"] + other)[1]


@pytest.mark.parametrize("padding", [b"", b"\0\0\0"])
@pytest.mark.parametrize(
    ("format", "file"),
    [
        ("TIFF", picture("tiff")),
        ("TIFF", picture("tiff", compression="tiff_deflate")),
        ("TIFF", picture("tiff", save_all=True, append_images=[PIL.Image.new("L", (3, 3))])),
        ("TIFF", picture("tiff", big_tiff=True)),
        ("TGA", picture("tga")),
        ("TGA", picture("tga", compression="tga_rle")),
    ],
)
def test_a_picture_after_one_whose_end_cannot_be_told_is_not_lost(format, file, padding):
    assert taken(file) == [file]
    assert taken(file + padding) == [file + padding]
    for follower in (file, FILES["png"], FILES["jpeg"]):
        (message,) = taken(file + padding + follower)
        assert message == (
            f"another picture follows this {format}, whose bytes do not tell where it ends: send each one by itself"
        )


@pytest.mark.parametrize("name", ["png", "apng", "animated gif", "webp", "bmp", "npy", "P4", "P6", "P7", "PF"])
def test_a_file_with_a_second_picture_is_warned_of(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for file in (FILES[name], FILES[name] + bytes(100), FILES[name] + b"hello"):
            read_image(file)
    for follower in (FILES[name], b"\n" + FILES["png"]):
        with pytest.warns(UserWarning, match="another picture follows the first in it, and is not read"):
            read_image(FILES[name] + follower)


def test_a_stream_is_read_no_further_than_its_format_needs():
    pipe = Pipe(b"\x02" * (1 << 20), 4096)
    assert PictureStream(pipe.read).take() == b"\x02" * 4096  # no picture, which its reader says
    assert pipe.read_bytes == 4096
