"""Small files of every readable format, and what a hostile or unlucky world makes of them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from cnnfilter.images.files import encode_image
from cnnfilter.images.image import Image

FORMATS = (
    "png",
    "apng",
    "jpg",
    "webp",
    "avif",
    "tiff",
    "tiff16",
    "pages",
    "gif",
    "moving gif",
    "bmp",
    "ppm",
    "tga",
    "npy",
)


def small_files() -> dict[str, bytes]:
    """Return a small file of every format."""
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 256, (9, 11, 3), np.uint8)
    frames = tuple(rng.integers(0, 256, (6, 5, 3), np.uint8) for _ in range(3))
    moving = Image(frames[0], "RGB", frames=frames, durations=(40, 40, 40), loop=0)
    files = {name: encode_image(pixels, name) for name in FORMATS if name in ("png", "jpg", "webp", "tiff", "gif")}
    files |= {name: encode_image(pixels, name) for name in ("avif", "bmp", "ppm", "tga", "npy")}
    files["apng"] = encode_image(moving, "png")
    files["moving gif"] = encode_image(moving, "gif")
    files["pages"] = encode_image(moving.replace(durations=()), "tiff")
    files["tiff16"] = encode_image(pixels.astype(np.uint16) * 257, "tiff")
    assert set(files) == set(FORMATS)
    return files


def cut(data: bytes, most: int = 160) -> Iterator[bytes]:
    """Yield the file cut off at every length, or at so many of them."""
    for length in sorted({len(data) * index // most for index in range(most)}):
        yield data[:length]


def flipped(data: bytes, most: int = 160) -> Iterator[bytes]:
    """Yield the file with one byte changed: every one, or so many of them, the first ones all."""
    places = {*range(min(len(data), 64)), *(len(data) * index // most for index in range(most))}
    for index, place in enumerate(sorted(place for place in places if place < len(data))):
        changed = bytearray(data)
        changed[place] ^= (0xFF, 0x01, 0x80)[index % 3]
        yield bytes(changed)


def spliced(data: bytes, others: list[bytes]) -> Iterator[bytes]:
    """Yield the file's head on the body of others."""
    for other in others:
        for head in (8, 16, 32, len(data) // 2):
            yield data[:head] + other[head:]


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def _nothing(size: int) -> bytes:
    """Return `size` zeros, compressed."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


def _npy(header: str) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


WANTS_MEMORY = ("gif: below the limit", "tiff: below the limit, of 700 MB")
"""Bombs that could be pictures, so that only the memory of the process refuses them."""


def bombs() -> dict[str, bytes]:
    """Return small files that ask for much."""
    huge = _nothing(1 << 30)
    tiny = encode_image(np.zeros((1, 1, 3), np.uint8), "gif")
    trailer = tiny.rindex(b";")
    start = tiny.index(b",")
    bmp = bytearray(encode_image(np.zeros((2, 2, 3), np.uint8), "bmp"))
    tga = bytearray(encode_image(np.zeros((2, 2, 3), np.uint8), "tga"))
    tga[12:16] = struct.pack("<HH", 65535, 65535)
    webp = bytearray(encode_image(np.zeros((2, 2, 3), np.uint8), "webp"))
    return {
        "png: a large size": _png(60_000, 60_000, chunk(b"IDAT", zlib.compress(b"\0"))),
        "png: the largest size": _png(2**31 - 1, 2**31 - 1, chunk(b"IDAT", zlib.compress(b"\0"))),
        "png: size 0": _png(0, 10, chunk(b"IDAT", zlib.compress(b"\0"))),
        "png: pixels that never end": _png(4, 4, chunk(b"IDAT", huge)),
        "png: a profile that never ends": _png(
            1, 1, chunk(b"iCCP", b"x\0\0" + huge), chunk(b"IDAT", zlib.compress(bytes(4)))
        ),
        "png: a text that never ends": _png(
            1, 1, chunk(b"zTXt", b"x\0\0" + huge), chunk(b"IDAT", zlib.compress(bytes(4)))
        ),
        "png: a text in another coding that never ends": _png(
            1, 1, chunk(b"iTXt", b"x\0\1\0\0\0" + huge), chunk(b"IDAT", zlib.compress(bytes(4)))
        ),
        "png: a chunk longer than the file": _png(1, 1) + struct.pack(">I", 2**31 - 1) + b"IDAT",
        "png: below the limit, of 700 MB": _png(9400, 9400, chunk(b"IDAT", zlib.compress(b"\0")), depth=16, colour=6),
        "gif: below the limit": tiny[:6] + struct.pack("<HH", 9400, 9400) + tiny[10:],
        "bmp: below the limit": bytes(bmp[:18]) + struct.pack("<ii", 9400, 9400) + bytes(bmp[26:]),
        "jpg: below the limit": _resized_jpeg(9400, 9400),
        "tiff: below the limit": _tiff(9400, 9400),
        "tiff: below the limit, of 700 MB": _tiff(9400, 9400, bits=64),
        "gif: a million frames": tiny[:trailer] + tiny[start:trailer] * 200_000 + b";",
        "gif: a large canvas": tiny[:6] + struct.pack("<HH", 65535, 65535) + tiny[10:],
        "bmp: a large size": bytes(bmp[:18]) + struct.pack("<ii", 1 << 20, 1 << 20) + bytes(bmp[26:]),
        "tga: a large size": bytes(tga),
        "webp: cut": bytes(webp[:30]),
        "ppm: a large size": b"P6\n1000000 1000000\n255\n\0\0\0",
        "ppm: a size of a thousand digits": b"P6\n" + b"9" * 1000 + b" 1\n255\n\0\0\0",
        "ppm: text that never ends": b"P3\n10 10\n255\n" + b"1" * 4_000_000,
        "npy: 32 GiB": _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (65536, 65536), }"),
        "npy: more axes than there are": _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1), }"),
        "npy: a size below 0": _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 5), }"),
        "npy: a header that is deep": _npy("(" * 80 + ")" * 30),
        "npy: a type that is an object": _npy("{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }"),
        "npy: a type with fields": _npy("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (2, 2), }"),
        "npy: many channels": _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9000, 9000, 100000), }"),
        "npy: no pixels, and many": _npy("{'descr': '|V0', 'fortran_order': False, 'shape': (9000, 9000), }"),
        "tiff: a large size": _tiff(100_000, 100_000),
        "tiff: directories in a circle": _tiff(2, 2, following=8),
        "tiff: a strip of 4 GiB": _tiff(2, 2, strip=2**32 - 1),
    }


def _resized_jpeg(width: int, height: int) -> bytes:
    data = encode_image(np.zeros((8, 8, 3), np.uint8), "jpg")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def _tiff(width: int, height: int, *, following: int = 0, strip: int = 12, bits: int = 8) -> bytes:
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, strip),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", following) + bytes(16)


def impostors() -> dict[str, bytes]:
    """Return files of kinds that are no pictures, by what some programs would start for them."""
    empty = io.BytesIO()
    np.savez(empty, a=np.zeros((3, 3)))
    return {
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        "EPS with a preview": b"\xc5\xd0\xd3\xc6" + bytes(40),
        "PDF": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://localhost/"/></svg>',
        "a script": b"#!/bin/sh\ntouch started\n",
        "a program": b"\x7fELF" + bytes(60),
        "npz": empty.getvalue(),
        "a pickle": b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
        "WMF": b"\xd7\xcd\xc6\x9a" + bytes(40),
        "MVG": b"push graphic-context\nviewbox 0 0 1 1\nimage over 0,0 0,0 'url(http://localhost)'\n",
        "FITS": b"SIMPLE  =                    T" + bytes(2880),
        "nothing": b"",
        "one byte": b"\x89",
        "text": b"a letter to somebody\n",
    }
