"""Every kind of picture through every command that filters one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as PillowImage

from cnnfilter.cli import main
from cnnfilter.images.files import encode_image, read_image, write_image

SAMPLES = Path(__file__).parents[2] / "samples"

COMMANDS = {
    "convolve": ["convolve", "-k", "gaussian:1"],
    "edges": ["convolve", "-k", "sobel"],
    "pool": ["pool", "--size", "2"],
    "apply": ["apply", "conv gaussian:1 border=replicate | avgpool 2"],
}


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*args, input=None, code=0):
    done = CliRunner().invoke(main, args, input=input)
    assert done.exit_code == code, done.output
    return done


# --- modes

# Each mode of Pillow that a file can have, in a format that has it, and what it is read as.
MODES = [
    ("1", "png", "L", np.uint8),
    ("1", "tiff", "L", np.uint8),
    ("L", "png", "L", np.uint8),
    ("LA", "png", "LA", np.uint8),
    ("P", "png", "RGB", np.uint8),
    ("P", "gif", "RGB", np.uint8),
    ("RGB", "png", "RGB", np.uint8),
    ("RGB", "webp", "RGB", np.uint8),
    ("RGB", "bmp", "RGB", np.uint8),
    ("RGB", "ppm", "RGB", np.uint8),
    ("RGB", "tga", "RGB", np.uint8),
    ("RGBA", "png", "RGBA", np.uint8),
    ("RGBA", "tiff", "RGBA", np.uint8),
    ("CMYK", "jpeg", "CMYK", np.uint8),
    ("CMYK", "tiff", "CMYK", np.uint8),
    ("YCbCr", "jpeg", "RGB", np.uint8),
    ("I;16", "png", "L", np.uint16),
    ("I;16", "tiff", "L", np.uint16),
    ("F", "tiff", "L", np.float32),
]


def picture_of(mode, rng):
    if mode == "I;16":
        return PillowImage.fromarray(rng.integers(0, 65536, (12, 16), np.uint16))
    if mode == "F":
        return PillowImage.fromarray(rng.random((12, 16), np.float32) * 255)
    if mode == "P":  # without a transparent colour
        return PillowImage.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).quantize(16)
    return PillowImage.fromarray(rng.integers(0, 256, (12, 16, 4), np.uint8), "RGBA").convert(mode)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("mode", "format", "read_as", "dtype"), MODES)
def test_every_mode_through_every_command(mode, format, read_as, dtype, command, rng):
    picture_of(mode, rng).save("in", format=format)
    run(*COMMANDS[command], "in", "-f", "tiff", "-o", "out.tiff", "-q")
    result = read_image("out.tiff")
    assert (result.mode, result.pixels.dtype) == (read_as, dtype)
    halved = command in ("pool", "apply")
    assert result.pixels.shape[:2] == ((6, 8) if halved else (12, 16))


# --- the samples


def samples():
    return sorted(path.name for path in SAMPLES.iterdir() if path.suffix in (".png", ".jpg", ".gif"))


@pytest.mark.parametrize("numbers", ["-1 0 1", "0 -1 0", "1 2 1", "0 -1 0; -1 5 -1; 0 -1 0"])
def test_a_kernel_of_numbers_without_quotes_is_refused_with_them(numbers):
    write_image("photo.png", np.zeros((5, 6), np.uint8))
    for option in ("-k", "--kernel"):
        told = run("convolve", "photo.png", option, *numbers.split(), code=2).output
        assert f"A kernel typed as numbers is quoted: -k '{numbers}'." in told
    assert sorted(os.listdir()) == ["photo.png"]
    run("convolve", "photo.png", "-k", numbers, "-o", "filtered.png")
    shutil.copy("photo.png", "1")  # an input that has the name of a number
    run("convolve", "-k", "5", "1", "-o", "one.png")


@pytest.mark.parametrize("name", samples())
@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_gives_what_a_file_gives(name, command):
    piped = run(*COMMANDS[command], "-q", input=(SAMPLES / name).read_bytes()).stdout_bytes
    run(*COMMANDS[command], str(SAMPLES / name), "-f", "png", "-o", "out.png", "-q")
    assert piped == Path("out.png").read_bytes()


@pytest.mark.parametrize("name", ["coffee.png", "rocket.jpg"])
def test_a_pipe_of_the_system_gives_what_a_file_gives(name):
    command = [sys.executable, "-m", "cnnfilter", "convolve", "-k", "sharpen", "-f", Path(name).suffix[1:]]
    named = subprocess.run([*command, SAMPLES / name], stdout=subprocess.PIPE, check=True).stdout
    piped = subprocess.run(command, input=(SAMPLES / name).read_bytes(), stdout=subprocess.PIPE, check=True).stdout
    assert piped == named


@pytest.mark.parametrize("format", ["png", "jpg"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_large_picture_is_refused_and_the_old_result_stays(rng, format, damage):
    data = bytearray(encode_image(rng.integers(0, 256, (1400, 1100, 3), np.uint8), format))
    middle = len(data) * 2 // 3
    if damage == "cut":
        del data[middle:]
    else:
        data[middle : middle + 4] = b"\xff\xd8\xff\xdb"  # a wrong checksum in PNG, in JPEG markers that may not be here
    Path(f"a.{format}").write_bytes(data)
    Path("out.png").write_bytes(b"old")
    done = run("convolve", f"a.{format}", "-k", "sharpen", "-o", "out.png", "--force", code=1)
    assert done.stderr.startswith(f"Error: a.{format}: ")
    assert Path("out.png").read_bytes() == b"old"
    assert sorted(os.listdir()) == [f"a.{format}", "out.png"]


def test_sixteen_bits_keep_their_low_byte():
    before = read_image(SAMPLES / "coffee-16bit.png")
    assert (before.pixels % 257 != 0).mean() > 0.5  # it is not 8 bits stretched
    for suffix in ("png", "tiff"):
        run("convolve", str(SAMPLES / "coffee-16bit.png"), "-k", "identity", "-o", f"out.{suffix}")
        np.testing.assert_array_equal(read_image(f"out.{suffix}").pixels, before.pixels)


def test_a_rotated_photo_comes_out_upright_and_is_not_turned_again():
    before = read_image(SAMPLES / "rocket-rotated.jpg")
    run("convolve", str(SAMPLES / "rocket-rotated.jpg"), "-k", "identity", "-f", "jpg", "-o", "out.jpg")
    assert read_image("out.jpg").pixels.shape == before.pixels.shape
    with PillowImage.open("out.jpg") as saved:
        assert saved.size == before.pixels.shape[1::-1]
        assert saved.getexif().get(0x0112, 1) == 1


def test_metadata_is_kept_and_stripped():
    exif = PillowImage.Exif()
    exif[0x010E] = "a description"
    PillowImage.new("RGB", (8, 8), "red").save("in.jpg", exif=exif, dpi=(300, 300))
    run("convolve", "in.jpg", "-k", "blur", "-o", "kept.jpg")
    run("convolve", "in.jpg", "-k", "blur", "-o", "bare.jpg", "--strip")
    with PillowImage.open("kept.jpg") as kept, PillowImage.open("bare.jpg") as bare:
        assert kept.getexif()[0x010E] == "a description"
        assert kept.info["dpi"] == (300, 300)
        assert not bare.getexif()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_stays_one_where_the_format_allows(command, suffix):
    before = read_image(SAMPLES / "coins.gif")
    run(*COMMANDS[command], str(SAMPLES / "coins.gif"), "-o", f"out.{suffix}", "-q")
    after = read_image(f"out.{suffix}")
    assert len(after.frames) == len(before.frames)
    assert after.durations == before.durations


def test_elsewhere_the_first_frame_is_written_and_that_is_said():
    done = run("pool", str(SAMPLES / "coins.gif"), "-o", "out.jpg")
    assert done.stderr.startswith(f"Warning: {SAMPLES / 'coins.gif'}: jpg holds one frame")
    assert done.stderr.count("\n") == 1
    assert run("pool", str(SAMPLES / "coins.gif"), "-o", "quiet.jpg", "-q").stderr == ""


# --- floats and signs


def test_npy_holds_the_signs():
    write_image("in.png", np.array([[0, 0, 200, 200]], np.uint8))
    run("convolve", "in.png", "-k", "-1 0 1", "-o", "out.npy")
    np.testing.assert_array_equal(np.load("out.npy").squeeze(), [0, 200, 200, 0])
    run("convolve", "in.png", "-k", "1 0 -1", "-o", "other.npy")
    np.testing.assert_array_equal(np.load("other.npy").squeeze(), [0, -200, -200, 0])
    assert np.load("other.npy").dtype == np.float32


def test_a_rule_for_signs_keeps_bytes_in_npy():
    write_image("in.png", np.array([[0, 0, 200, 200]], np.uint8))
    run("convolve", "in.png", "-k", "1 0 -1", "--signed", "offset", "-o", "out.npy")
    assert np.load("out.npy").dtype == np.uint8
    np.testing.assert_array_equal(np.load("out.npy").squeeze(), [128, 28, 28, 128])


def test_a_float_picture_through_commands_and_back_to_bytes():
    write_image("in.png", np.array([[0, 0, 200, 200]], np.uint8))
    signed = run("convolve", "in.png", "-k", "1 0 -1", "-f", "npy").stdout_bytes
    pooled = run("pool", "--op", "min", "--size", "1,2", input=signed).stdout_bytes
    back = run("convolve", "-k", "identity", "--signed", "abs", "-f", "png", input=pooled).stdout_bytes
    np.testing.assert_array_equal(read_image(back).pixels.squeeze(), [200, 200])


# --- folders


def test_a_folder_keeps_its_structure_with_dir(rng):
    for name in ("photos/a.png", "photos/2024/a.png", "photos/2024/b.jpg"):
        os.makedirs(os.path.dirname(name), exist_ok=True)
        write_image(name, rng.integers(0, 256, (4, 4, 3), np.uint8))
    Path("photos/notes.txt").write_text("not a picture")
    run("pool", "-r", "photos", "-o", "out/{dir}/{stem}-small.{ext}")
    written = sorted(str(path) for path in Path("out").rglob("*.*"))
    assert written == [
        "out/photos/2024/a-small.png",
        "out/photos/2024/b-small.jpg",
        "out/photos/a-small.png",
    ]


def test_a_second_run_refuses_and_with_force_gives_the_same(rng):
    write_image("a.png", rng.integers(0, 256, (4, 4, 3), np.uint8))
    shutil.copy("a.png", "b.png")
    run("pool", "a.png", "b.png", "-o", "out/")
    before = Path("out/a.png").read_bytes()
    assert "exists already (and 1 more)" in run("pool", "a.png", "b.png", "-o", "out/", code=1).stderr
    run("pool", "a.png", "b.png", "-o", "out/", "--force")
    assert Path("out/a.png").read_bytes() == before
