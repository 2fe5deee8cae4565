"""Pictures whose data end early: an error in every format and command, or with --accept-truncated what there is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as PillowImage

from cnnfilter.cli import main
from cnnfilter.errors import ImageError
from cnnfilter.images.files import read_image
from cnnfilter.images.image import ImageWarning
from cnnfilter.images.truncated import completed
from tests.hostile import files

CUTS = 40


def saved(format, picture, **options):
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def cut_files():
    """Return a small file of every format, and of every way in which a format stores its pixels."""
    noise = np.random.default_rng(1).integers(0, 256, (9, 12, 3), np.uint8)
    picture = PillowImage.fromarray(noise).resize((36, 27), PillowImage.Resampling.BICUBIC)
    frames = {"save_all": True, "append_images": [picture.rotate(90), picture.rotate(180)]}
    whole = files.small_files()
    return whole | {
        "progressive jpg": saved("JPEG", picture, progressive=True),
        "subsampled jpg": saved("JPEG", picture, quality=60, subsampling=2),
        "lossless webp": saved("WEBP", picture, lossless=True),
        "moving webp": saved("WEBP", picture, **frames),
        "moving avif": saved("AVIF", picture, **frames),
        "rle bmp": saved("BMP", picture.convert("P")),
        "rle tga": saved("TGA", picture, compression="tga_rle"),
        "plain ppm": b"P3 4 3 255\n" + b" ".join(b"%d" % value for value in range(10, 46)) + b"\n",
        "pbm": saved("PPM", picture.convert("1")),
        "16-bit png": saved("PNG", PillowImage.fromarray(noise[:, :, 0].astype(np.uint16) * 257)),
    }


FILES = cut_files()
COMMANDS = {
    "convolve": ["convolve", "-k", "identity"],
    "pool": ["pool", "--size", "1"],
    "apply": ["apply", "relu"],
}
NOT_COMPLETED = ("webp", "lossless webp", "moving webp", "avif", "moving avif")
"""Files whose decoders need all data. (The TIFF files here have their directory at the end.)"""


def lengths(data):
    return sorted({len(data) * index // CUTS for index in range(CUTS)})


def is_same(one, other):
    return len(one.frames) == len(other.frames) and all(
        np.array_equal(*pair) for pair in zip((one.pixels, *one.frames), (other.pixels, *other.frames), strict=True)
    )


def before_scan(data):
    """Return a JPEG file up to its first scan."""
    at = 2
    while data[at + 1] != 0xDA:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data[:at]


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_an_error_or_the_whole_picture(name):
    whole = read_image(FILES[name])
    for length in lengths(FILES[name]):
        try:
            image = read_image(FILES[name][:length])
        except ImageError:
            continue
        assert is_same(image, whole), length  # TGA files may end before their footer


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", FILES)
def test_every_command_refuses_cut_files(name, command, tmp_path):
    data, whole = FILES[name], read_image(FILES[name])
    paths = [tmp_path / f"{length}.cut" for length in lengths(data)]
    for path, length in zip(paths, lengths(data), strict=True):
        path.write_bytes(data[:length])
    out = tmp_path / "out"
    arguments = [*COMMANDS[command], *map(str, paths), "-q", "-f", "npy", "-o", f"{out}/"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1, done.output
    written = sorted(out.iterdir()) if out.exists() else []
    for path in written:
        assert np.array_equal(read_image(path).pixels, whole.pixels), path
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error: ")]) == len(paths) - len(written)


@pytest.mark.parametrize("name", ["jpg", "progressive jpg", "subsampled jpg"])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_a_jpeg_that_ends_before_its_scan_is_an_error(name, end):
    data = before_scan(FILES[name]) + end
    for accept_truncated in (False, True):  # there is nothing of the picture
        with pytest.raises(ImageError, match="ends before its scan"):
            read_image(data, accept_truncated=accept_truncated)


def test_classify_prints_no_label_of_a_cut_jpeg(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(before_scan(FILES["jpg"]))
    done = CliRunner().invoke(main, ["classify", str(tmp_path / "cut.jpg")])
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "cut.jpg: the file is cut off" in done.stderr


def test_a_gif_without_its_trailer_may_lack_frames():
    data = FILES["moving gif"]
    assert data.endswith(b";")
    with pytest.raises(ImageError, match="cut off"):
        read_image(data[:-1])
    with pytest.warns(ImageWarning, match="cut off"):
        assert is_same(read_image(data[:-1], accept_truncated=True), read_image(data))


@pytest.mark.parametrize("name", [name for name in FILES if name not in (*NOT_COMPLETED, "tiff", "tiff16")])
def test_what_there_is_of_a_cut_file_is_read_with_a_warning(name):
    data = FILES[name]
    whole = read_image(data)
    length = len(data) * 9 // 10
    with pytest.warns(ImageWarning, match="what there is of it is read, the rest is filled"):
        image = read_image(data[:length], accept_truncated=True)
    assert image.mode == whole.mode
    assert image.pixels.shape == whole.pixels.shape
    difference = np.abs(image.pixels.astype(int) - whole.pixels).max(axis=2)
    if name == "progressive jpg":  # all of it is there, without the finest details
        assert 0 < difference.mean() < 40
    else:
        assert 0.3 < (difference == 0).mean() < 1 or image.frames


def test_what_there_is_of_a_cut_tiff_is_read_if_its_directory_is_there():
    picture = PillowImage.fromarray(np.arange(300, dtype=np.uint16).astype(np.uint8).reshape(10, 30))
    data = saved("TIFF", picture)
    with pytest.raises(ImageError):
        read_image(data[:-90])
    with pytest.warns(ImageWarning):
        image = read_image(data[:-90], accept_truncated=True)
    assert np.array_equal(image.pixels[:7, :, 0], np.asarray(picture)[:7])


@pytest.mark.parametrize("name", NOT_COMPLETED)
def test_a_file_whose_decoder_needs_all_data_stays_an_error(name):
    with pytest.raises(ImageError):
        read_image(FILES[name][:-40], accept_truncated=True)


def test_a_damaged_png_gives_the_rows_before_the_damage():
    picture = PillowImage.fromarray(np.random.default_rng(3).integers(0, 256, (40, 40), np.uint8))
    data = bytearray(saved("PNG", picture))
    data[-100] ^= 0xFF
    with pytest.raises(ImageError, match="damaged"):
        read_image(bytes(data))
    with pytest.warns(ImageWarning, match="damaged"):
        image = read_image(bytes(data), accept_truncated=True)
    assert np.array_equal(image.pixels[:30, :, 0], np.asarray(picture)[:30])


def test_accept_truncated_does_not_make_files_larger_than_the_limit():
    for head in (b"P5 99999 99999 255 ab", FILES["bmp"][:18] + b"\xff\xff\xff\x7f" * 2 + FILES["bmp"][26:60]):
        with pytest.raises(ImageError):
            read_image(head, accept_truncated=True)
    assert completed(b"P5 99999 99999 255 ab", "ppm", 1000) is None


@pytest.mark.parametrize("command", COMMANDS)
def test_the_option_of_every_command(command, tmp_path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(FILES["jpg"][:-60])
    arguments = [*COMMANDS[command], str(path), "-o", str(tmp_path / "out.npy")]
    assert CliRunner().invoke(main, arguments).exit_code == 1
    done = CliRunner().invoke(main, [*arguments, "--accept-truncated"])
    assert done.exit_code == 0, done.output
    assert "cut.jpg: " in done.stderr
    assert "what there is of it is read" in done.stderr
    assert read_image(tmp_path / "out.npy").pixels.any()
