"""How results are compressed: as the input, or as the options say, which a format must have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as Pillow

from cnnfilter.cli import main

COMMANDS = {
    "convolve": ("convolve", "-k", "blur"),
    "pool": ("pool",),
    "apply": ("apply", "conv blur"),
    "sheet": ("apply", "conv sobel-h sobel-v blur"),
}


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    small = Pillow.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    small.resize((96, 72)).save("photo.jpg", quality=40, subsampling=1, progressive=True)
    small.save("lossless.webp", lossless=True)
    small.save("drawing.png")


def run(*args, code=0):
    done = CliRunner().invoke(main, args)
    assert done.exit_code == code, done.output
    return done


@pytest.mark.parametrize("command", COMMANDS)
def test_a_jpeg_stays_the_jpeg_that_it_was(command):
    run(*COMMANDS[command], "photo.jpg", "-o", "out/")
    with Pillow.open("photo.jpg") as old, Pillow.open("out/photo.jpg") as new:
        assert new.format == "JPEG"
        assert new.quantization == old.quantization
        assert new.layer == old.layer
        assert new.info["progressive"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_say_otherwise(command):
    run(*COMMANDS[command], "photo.jpg", "-o", "out.jpg", "--quality", "80", "--subsampling", "420", "--no-progressive")
    Pillow.new("RGB", (8, 8)).save("eighty.jpg", quality=80)
    with Pillow.open("eighty.jpg") as wanted, Pillow.open("out.jpg") as new:
        assert new.quantization == wanted.quantization
        assert new.layer[0][1:3] == (2, 2)
        assert "progressive" not in new.info


def test_a_lossless_webp_stays_lossless():
    run("convolve", "lossless.webp", "-k", "identity", "-o", "{stem}-x.{ext}")
    with Pillow.open("lossless.webp") as old, Pillow.open("lossless-x.webp") as new:
        np.testing.assert_array_equal(np.asarray(new), np.asarray(old))


def test_without_loss_on_request():
    run("convolve", "drawing.png", "-k", "identity", "-o", "out.webp", "--lossless")
    with Pillow.open("drawing.png") as old, Pillow.open("out.webp") as new:
        np.testing.assert_array_equal(np.asarray(new), np.asarray(old))


def test_two_or_four_maps_of_a_jpeg_are_a_png_with_alpha():
    run("apply", "gray | conv sobel-h sobel-v", "photo.jpg", "--no-sheet", "-o", "out/")
    with Pillow.open("out/photo.png") as picture:
        assert picture.mode == "LA"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("photo.jpg", "-o", "out.png", "--quality", "80"),
            "--quality: png has no quality; jpg, webp and avif have it",
        ),
        (("photo.jpg", "--quality", "80"), "--quality: png has no quality"),  # stdout gets png
        (("photo.jpg", "-o", "x/", "--lossless"), "--lossless: jpg has no lossless mode to choose; webp and avif have"),
        (("photo.jpg", "-f", "webp", "--progressive"), "--progressive: webp has no progressive mode; jpg has it"),
        (("photo.jpg", "-f", "png", "--no-progressive"), "--no-progressive: png has no progressive mode"),
        (("drawing.png", "-o", "x/", "--subsampling", "444"), "--subsampling: png has no chroma subsampling; jpg and"),
        (
            ("photo.jpg", "-o", "x/", "--compression", "9"),
            "--compression: jpg has no compression to choose; png and tiff have",
        ),
        (
            ("drawing.png", "-o", "x.png", "--compression", "zstd"),
            "--compression: png has no compression 'zstd'; it has none deflate",
        ),
        (("drawing.png", "-o", "x.png", "--compression", "fastest"), "compression 'fastest' is none of"),
        (("drawing.png", "-o", "x.webp", "--lossless", "--quality", "5"), "contradict each other"),
        (("photo.jpg", "-o", "x.jpg", "--quality", "101"), "'--quality'"),
        (("photo.jpg", "drawing.png", "-o", "x/", "--quality", "80"), "(the format of x/drawing.png)"),
    ],
)
@pytest.mark.parametrize("command", ["convolve", "pool", "apply"])
def test_an_option_that_the_format_does_not_have(command, options, message):
    done = run(*COMMANDS[command], *options, code=2)
    assert message in " ".join(done.stderr.split())
    assert not Path("x").exists()


def test_an_input_that_is_no_picture_does_not_stop_the_others():
    Path("broken.jpg").write_text("no picture")
    done = run("pool", "broken.jpg", "photo.jpg", "-o", "out/", "--quality", "80", code=1)
    assert "broken.jpg: not a picture" in done.stderr
    assert Path("out/photo.jpg").exists()


def test_a_level_of_png():
    for level in ("0", "9"):
        run("pool", "photo.jpg", "-o", f"{level}.png", "--compression", level)
    assert Path("9.png").stat().st_size < Path("0.png").stat().st_size


def test_a_tiff_keeps_its_compression_unless_another_one_is_named():
    Pillow.open("drawing.png").save("in.tif", compression="tiff_lzw")
    run("pool", "in.tif", "-o", "kept.tif")
    run("pool", "in.tif", "-o", "named.tif", "--compression", "zstd")
    run("pool", "in.tif", "-o", "level.tif", "--compression", "9")
    run("pool", "drawing.png", "-o", "plain.tif")
    expected = {"kept": "tiff_lzw", "named": "zstd", "level": "tiff_adobe_deflate", "plain": "raw"}
    for name, compression in expected.items():
        with Pillow.open(f"{name}.tif") as new:
            assert new.info["compression"] == compression
            assert new.size == (8, 6)


def test_the_options_are_parameters_of_write_image():
    import inspect

    from cnnfilter import write_image
    from cnnfilter.cli.groups.coding_options import CodingOptions

    parameters = inspect.signature(write_image).parameters
    for name, option in inspect.signature(CodingOptions).parameters.items():
        assert parameters[name].default == option.default
