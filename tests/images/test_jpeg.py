"""JPEG: bands joined by restart markers show what one scan shows; reading has no copies."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from cnnfilter.errors import ImageError
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.formats import jpeg
from cnnfilter.images.formats.jpeg_loops import add_fourth, drop_fourth
from cnnfilter.images.image import Image
from cnnfilter.images.metadata import Metadata

PHOTO = Path(__file__).parents[2] / "samples" / "coffee.png"
MODES = {"L": 1, "RGB": 3, "CMYK": 4}


def photo(mode: str = "RGB") -> Image:
    with Pillow.open(PHOTO) as picture:
        pixels = np.asarray(picture.convert("RGB").crop((0, 0, 397, 299)).convert(mode))
    return Image(np.ascontiguousarray(pixels).reshape(299, 397, MODES[mode]), mode)


def in_one_scan(image: Image) -> bytes:
    height, width, _ = image.pixels.shape
    stream = io.BytesIO()
    Pillow.frombytes(image.mode, (width, height), image.pixels.tobytes()).save(
        stream, "JPEG", quality=95, subsampling=0
    )
    return stream.getvalue()


def decoded(file: bytes) -> np.ndarray:
    with Pillow.open(io.BytesIO(file)) as picture:
        return np.asarray(picture)


# --- writing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("band_bytes", [1, 397 * 160, 397 * 3 * 296])
def test_bands_decode_to_what_one_scan_decodes_to(monkeypatch: pytest.MonkeyPatch, mode: str, band_bytes: int) -> None:
    monkeypatch.setattr(jpeg, "_BAND_BYTES", band_bytes)
    image = photo(mode)
    files = {b"".join(jpeg.encode(image, threads=threads)) for threads in (1, 2, 3)}
    assert len(files) == 1
    file = files.pop()
    assert (decoded(file) == decoded(in_one_scan(image))).all()
    restarts = [file.count(b"\xff" + bytes([0xD0 + number])) for number in range(8)]
    assert all(restarts) if band_bytes == 1 else sum(restarts) < 8


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_another_decoder_sees_the_same(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(jpeg, "_BAND_BYTES", 1)
    image = photo(mode)
    banded, whole = b"".join(jpeg.encode(image)), in_one_scan(image)
    ours, theirs = (cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED) for file in (banded, whole))
    assert (ours == theirs).all()


def test_a_small_picture_is_one_scan() -> None:
    assert jpeg.encode(photo()) == [in_one_scan(photo())]


def test_a_restart_interval_of_the_widest_picture_can_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "_BAND_BYTES", 1 << 40)
    pixels = np.zeros((80, 65_500, 1), np.uint8)
    pixels[::7, ::5] = 200
    file = b"".join(jpeg.encode(Image(pixels, "L")))
    assert b"\xff\xd0" in file
    assert (decoded(file) == decoded(in_one_scan(Image(pixels, "L")))).all()


def test_without_files_in_memory_the_bytes_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "_BAND_BYTES", 1)
    expected = jpeg.encode(photo())

    def refuse(name: str) -> int:
        raise OSError("not here")

    monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    assert jpeg.encode(photo()) == expected


def test_bands_keep_what_belongs_to_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "_BAND_BYTES", 1)
    exif = Pillow.Exif()
    exif[0x010E] = "x" * 5000  # the first band's headers are long, and the others' not
    icc = bytes(16) + b"RGB " + bytes(200)
    metadata = Metadata(icc, exif.tobytes()[6:], (300.0, 300.0), {"Comment": "a cup"})
    back = read_image(encode_image(photo().replace(metadata=metadata), "jpg"))
    assert back.metadata.icc == icc
    assert back.metadata.exif is not None
    assert b"x" * 5000 in back.metadata.exif
    assert back.metadata.dpi == (300, 300)
    assert back.metadata.text["Comment"] == "a cup"
    assert (back.pixels == decoded(in_one_scan(photo()))).all()


# --- reading --------------------------------------------------------------------------------------------------


def saved(mode: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image = photo(mode)
    Pillow.frombytes(mode, (397, 299), image.pixels.tobytes()).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "restart_marker_rows": 1}], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_pixels_are_those_of_pillow(monkeypatch: pytest.MonkeyPatch, mode: str, options: dict[str, Any]) -> None:
    file = saved(mode, **options)
    expected = decoded(file).reshape(299, 397, -1)
    for without in (False, True):  # also where Pillow has to decode into memory of its own
        if without:
            monkeypatch.setattr(jpeg, "_decode_into", lambda picture, size, memory: False)
        image = read_image(file)
        assert image.mode == mode
        assert (image.pixels == expected).all()
        assert image.pixels.flags.writeable or without


@pytest.mark.parametrize("cut", [3, 100, 5000])
def test_a_cut_file_is_refused(cut: int) -> None:
    with pytest.raises(ImageError, match="cannot be decoded as jpg"):
        read_image(saved("RGB", comment=b"a cup", dpi=(72, 72))[:cut])


def test_more_pixels_than_its_bytes_can_hold_are_refused() -> None:
    huge = bytearray(saved("L"))
    size_at = huge.index(b"\xff\xc0") + 5
    huge[size_at : size_at + 4] = b"\xff\xdc\xff\xdc"
    with pytest.raises(ImageError, match="cut off"):
        read_image(bytes(huge), max_pixels=1 << 40)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000])
@pytest.mark.parametrize("python", [False, True])
def test_a_fourth_byte_comes_and_goes(count: int, python: bool) -> None:
    drop, add = (getattr(one, "function" if python else "__call__") for one in (drop_fourth, add_fourth))
    pixels = np.random.default_rng(count).integers(0, 256, (count, 4), np.uint8)
    memory = np.concatenate([pixels.ravel(), [7, 8, 9]]).astype(np.uint8)
    some = count // 3
    drop(memory, 0, some)
    drop(memory, some, count)
    np.testing.assert_array_equal(memory[: 3 * count].reshape(count, 3), pixels[:, :3])
    assert list(memory[-3:]) == [7, 8, 9]
    four = np.full(4 * count + 2, 7, np.uint8)
    add(memory, four, count)
    pixels[:, 3] = 255
    np.testing.assert_array_equal(four, [*pixels.ravel(), 7, 7])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="shells limit files as Linux has it")
def test_a_limit_on_files_is_none_on_a_pipe(tmp_path: Path) -> None:
    pixels = np.random.default_rng(9).integers(0, 256, (200, 300, 3), np.uint8)
    (tmp_path / "in.jpg").write_bytes(encode_image(pixels, "jpg"))
    line = 'ulimit -f 8; exec "$0" -m cnnfilter convolve -k identity in.jpg -f jpg -o -'
    done = subprocess.run(["bash", "-c", line, sys.executable], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert read_image(done.stdout).pixels.shape == (200, 300, 3)
