"""Files to pictures and back: every format and mode, what is kept, lost with a warning, or refused."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps

from cnnfilter.errors import ImageError
from cnnfilter.images import files
from cnnfilter.images.files import encode_image, read_image, write_image
from cnnfilter.images.formats import pillow
from cnnfilter.images.formats.detect import ANIMATED_FORMATS, LOSSLESS_FORMATS, SUFFIXES, TEXT_FORMATS, format_of_suffix
from cnnfilter.images.image import Image, ImageWarning
from cnnfilter.images.metadata import Metadata

WRITABLE = ("png", "jpg", "webp", "tiff", "gif", "bmp", "ppm", "npy", "avif", "tga")
EXACT = ("png", "tiff", "bmp", "ppm", "npy", "tga")
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
PILLOW_MODES = (
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "I;16",
    "F",
)


@pytest.fixture
def photo() -> Image:
    return read_image("samples/chelsea.png").map(lambda pixels: pixels[:120:2, :160:2]).replace(metadata=Metadata())


def in_mode(mode: str, dtype: type = np.uint8) -> Image:
    """A soft picture in a mode, so that lossy formats stay near it."""
    y, x = np.mgrid[:24, :32].astype(float)
    planes = [np.hypot(x - 5 * index, y) / 40 for index in range(MODES[mode])]
    pixels = (np.stack(planes, axis=2).clip(0, 1) * np.iinfo(dtype).max).astype(dtype)
    return Image(pixels, mode)


def saved(picture: Pillow.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


# --- formats and modes --------------------------------------------------------------------------------


@pytest.mark.parametrize("format", WRITABLE)
def test_every_format_comes_back(photo: Image, format: str) -> None:
    back = read_image(encode_image(photo, format))
    assert back.format == format
    assert back.mode == "RGB"
    assert back.pixels.shape == photo.pixels.shape
    difference = np.abs(back.pixels.astype(int) - photo.pixels)
    assert difference.max() == 0 if format in EXACT else difference.mean() < 6


@pytest.mark.parametrize("format", EXACT)
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_lossless_formats_are_exact_in_the_modes_they_hold(format: str, mode: str) -> None:
    if mode not in files._MODES_OF_FORMAT[format]:
        return
    image = in_mode(mode)
    back = read_image(encode_image(image, format))
    assert back.mode == mode
    np.testing.assert_array_equal(back.pixels, image.pixels)


@pytest.mark.parametrize("format", WRITABLE)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_mode_into_every_format(format: str, mode: str, dtype: type) -> None:
    """Written, or changed with a warning that says so; the picture stays the picture."""
    image = in_mode(mode, dtype)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        back = read_image(encode_image(image, format))
    messages = " ".join(str(warning.message) for warning in caught)
    assert all(warning.category is ImageWarning for warning in caught)
    assert ("8 bits" in messages) == (dtype == np.uint16 and format not in ("png", "tiff", "ppm", "npy"))
    assert ("transparency" in messages) == (image.has_alpha and format in ("jpg", "bmp", "gif"))
    assert back.pixels.shape[:2] == (24, 32)
    if (mode, format) != ("CMYK", "npy"):  # which says nothing of what its channels mean
        assert back.has_alpha == (image.has_alpha and format not in ("jpg", "bmp"))
    if format in ("png", "tiff", "ppm", "npy"):
        assert back.pixels.dtype == dtype


@pytest.mark.parametrize("mode", PILLOW_MODES)
def test_every_pillow_mode_becomes_a_picture(mode: str) -> None:
    """Straight from Pillow's memory: some of these modes come from a single format only."""
    base = Pillow.fromarray(in_mode("RGBA").pixels)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(base.convert("RGB"), srgb, lab, outputMode="LAB")
    elif mode in ("La", "RGBa"):
        picture = base.convert(mode[:-1].upper() + "A").convert(mode)
    elif mode == "I;16":
        picture = Pillow.fromarray(in_mode("L", np.uint16).pixels[:, :, 0])
    elif mode == "PA":
        picture = base.quantize(16).convert("PA")
    elif mode == "LA":
        picture = base.convert("LA")
    else:
        picture = base.convert("RGB").convert(mode)
    from cnnfilter.images.formats import pillow

    assert picture is not None
    pixels, ours = pillow.to_array(picture)
    assert Image(pixels, ours).pixels.flags.c_contiguous
    expected = {"1": "L", "La": "LA", "P": "RGB", "PA": "RGBA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB"}
    expected |= {"LAB": "RGB", "HSV": "RGB", "I": "L", "I;16": "L", "F": "L"}
    assert ours == expected.get(mode, mode)
    if mode in ("YCbCr", "LAB", "HSV"):
        assert np.abs(pixels.astype(int) - in_mode("RGBA").pixels[:, :, :3]).mean() < 4


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 95}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("PPM", {}),
        ("TGA", {}),
        ("TGA", {"compression": "tga_rle"}),
        ("TIFF", {"compression": "jpeg"}),
    ],
)
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_reads_what_pillow_writes_in_it(format: str, options: dict[str, Any], mode: str) -> None:
    if "compression" in options and mode in "1P" and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("older Pillows write beyond their buffer, or crash")
    base = Pillow.fromarray(in_mode("RGBA").pixels)
    picture = base if mode == "RGBA" else base.convert("RGB").convert(mode)
    try:
        file = saved(picture, format, **options)
    except (OSError, ValueError):
        return  # the format has no such mode
    image = read_image(file)
    theirs = Pillow.open(io.BytesIO(file)).convert(image.mode)
    np.testing.assert_array_equal(image.pixels.squeeze(), np.asarray(theirs))


@pytest.mark.parametrize("format", ["webp", "gif", "bmp"])
def test_an_interruption_need_not_wait_for_a_codec(monkeypatch: pytest.MonkeyPatch, photo: Image, format: str) -> None:
    """Pillow takes seconds for a large picture, in one call; it is the main thread that hears signals."""
    threads = []

    def spied(module: Any, name: str) -> None:
        original = getattr(module, name)

        def spy(*given: Any, **more: Any) -> Any:
            threads.append(threading.get_ident())
            return original(*given, **more)

        monkeypatch.setattr(module, name, spy)

    spied(Pillow.Image, "save")
    spied(pillow, "to_array")
    read_image(encode_image(photo, format))
    assert len(threads) == 2
    assert threading.main_thread().ident not in threads


def test_content_decides_and_not_the_name(tmp_path: Path, photo: Image) -> None:
    path = tmp_path / "wrong.jpg"
    path.write_bytes(encode_image(photo, "png"))
    assert read_image(path).format == "png"


@pytest.mark.parametrize("suffix", ["png", "JPG", "jpeg", "webp", "tif", "TIFF", "gif", "bmp", "ppm", "pgm", "npy"])
def test_the_suffix_decides_how_it_is_written(tmp_path: Path, photo: Image, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_image(path, photo)
    assert read_image(path).format == SUFFIXES["." + suffix.lower()]


def test_suffixes() -> None:
    assert format_of_suffix("a.b/c") is None
    assert format_of_suffix(Path("x.TIF")) == "tiff"
    with pytest.raises(ImageError, match=r"no picture format has the suffix '\.xyz'; known are .*\.png"):
        format_of_suffix("a.xyz")
    assert set(SUFFIXES.values()) == set(files._MODES_OF_FORMAT) == {*WRITABLE, *TEXT_FORMATS}
    assert {*WRITABLE, *TEXT_FORMATS} >= LOSSLESS_FORMATS | ANIMATED_FORMATS


@pytest.mark.parametrize("alias", ["jpeg", "tif", "PNG", "pgm"])
def test_a_format_may_be_named_by_its_suffix(photo: Image, alias: str) -> None:
    assert read_image(encode_image(photo, alias)).format == SUFFIXES["." + alias.lower()]


def test_sources_and_targets_of_every_kind(tmp_path: Path, photo: Image) -> None:
    path, stream = tmp_path / "a.png", io.BytesIO()
    write_image(str(path), photo)
    write_image(stream, photo)
    assert stream.getvalue() == path.read_bytes() == encode_image(photo, "png")
    stream.seek(0)
    data = path.read_bytes()
    for source in (path, str(path), data, bytearray(data), memoryview(data), stream):
        np.testing.assert_array_equal(read_image(source).pixels, photo.pixels)


def test_an_array_may_be_written(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((3, 4), np.uint8))
    assert read_image(tmp_path / "a.png").pixels.shape == (3, 4, 1)


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path, photo: Image) -> None:
    path = tmp_path / "a.png"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_image(path, photo, force=False)
    assert path.read_text() == "mine"
    write_image(path, photo)
    assert read_image(path).mode == "RGB"


# --- depth --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["png", "tiff", "ppm", "npy"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_the_low_byte_of_16_bits_is_kept(rng: np.random.Generator, format: str, mode: str) -> None:
    pixels = rng.integers(0, 65536, (9, 8, MODES[mode]), dtype=np.uint16)
    back = read_image(encode_image(Image(pixels, mode), format))
    assert back.mode == mode
    np.testing.assert_array_equal(back.pixels, pixels)


def test_16_bits_are_rounded_to_8_and_not_cut() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    with pytest.warns(ImageWarning, match="bmp holds 8 bits: .* png and tiff would keep them"):
        back = read_image(encode_image(every, "bmp"))
    exact = every.astype(float) * 255 / 65535
    assert np.abs(back.pixels[:, :, 0] - exact).max() <= 0.5


@pytest.mark.parametrize("format", sorted(set(WRITABLE) - {"tiff", "npy"}))
def test_floats_are_refused_where_they_have_no_place(format: str) -> None:
    with pytest.raises(ImageError, match=f"{format} holds no floating-point values; tiff and npy do"):
        encode_image(np.zeros((2, 2), np.float32), format)


@pytest.mark.parametrize("format", ["tiff", "npy"])
def test_floats_are_kept_as_they_are(format: str) -> None:
    values = np.array([[-1.5, np.nan], [np.inf, 3e38]], np.float32)
    np.testing.assert_array_equal(read_image(encode_image(values, format)).pixels[:, :, 0], values)


def test_many_channels_are_refused_where_they_have_no_place() -> None:
    with pytest.raises(ImageError, match="png cannot hold 7 channels; npy and tiff can"):
        encode_image(np.zeros((2, 2, 7), np.uint8), "png")


# --- colour and alpha ---------------------------------------------------------------------------------


def test_transparency_is_laid_on_white_where_it_has_no_place() -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    with pytest.warns(ImageWarning, match="bmp holds no transparency: the picture is laid on white"):
        back = read_image(encode_image(pixels, "bmp"))
    assert back.pixels.tolist() == [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]


def test_opaque_alpha_is_no_loss() -> None:
    pixels = np.full((2, 2, 4), 255, np.uint8)
    assert read_image(encode_image(pixels, "bmp")).mode == "RGB"  # a warning would be an error here


def test_gif_keeps_what_is_there_or_not(photo: Image) -> None:
    alpha = np.full_like(photo.pixels[:, :, :1], 255)
    alpha[:10] = 0
    image = Image(np.concatenate([photo.pixels, alpha], axis=2), "RGBA")
    back = read_image(encode_image(image, "gif"))
    np.testing.assert_array_equal(back.alpha, alpha)
    alpha[20] = 100
    image = Image(np.concatenate([photo.pixels, alpha], axis=2), "RGBA")
    with pytest.warns(ImageWarning, match="no half transparency"):
        back = read_image(encode_image(image, "gif"))
    assert back.alpha is not None
    assert set(np.unique(back.alpha)) == {0, 255}


def test_cmyk_keeps_its_inks_in_jpeg_and_tiff() -> None:
    image = read_image("samples/coffee-cmyk.jpg")
    assert image.mode == "CMYK"
    np.testing.assert_array_equal(read_image(encode_image(image, "tiff")).pixels, image.pixels)
    back = read_image(encode_image(image, "jpg"))
    assert back.mode == "CMYK"
    assert np.abs(back.pixels.astype(int) - image.pixels).mean() < 3
    theirs = np.asarray(Pillow.open(io.BytesIO(encode_image(image, "jpg"))).convert("RGB")).astype(int)
    assert np.abs(theirs - np.asarray(Pillow.open("samples/coffee-cmyk.jpg").convert("RGB"))).mean() < 3


def test_cmyk_without_adobes_mark_is_read_the_same() -> None:
    file = Path("samples/coffee-cmyk.jpg").read_bytes()
    at = file.index(b"\xff\xee")
    length = int.from_bytes(file[at + 2 : at + 4], "big")
    unmarked = read_image(file[:at] + file[at + 2 + length :])
    np.testing.assert_array_equal(unmarked.pixels, read_image(file).pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_inks_become_colours(dtype: type) -> None:
    full = np.iinfo(dtype).max
    inks = np.array([[[0, 0, 0, 0], [full, 0, 0, 0], [0, full, full, 0], [0, 0, 0, full]]], dtype)
    back = read_image(encode_image(Image(inks, "CMYK"), "png"))
    assert (back.pixels // full).tolist() == [[[1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0]]]
    assert back.pixels.dtype == dtype


def test_inks_become_colours_as_in_pillow(rng: np.random.Generator) -> None:
    inks = rng.integers(0, 256, (30, 30, 4), dtype=np.uint8)
    theirs = np.asarray(Pillow.frombytes("CMYK", (30, 30), inks.tobytes()).convert("RGB"))
    ours = read_image(encode_image(Image(inks, "CMYK"), "png")).pixels
    np.testing.assert_allclose(ours.astype(int), theirs, rtol=0, atol=1)


def test_a_damaged_cmyk_profile_does_not_stop_the_picture() -> None:
    image = Image(np.zeros((2, 2, 4), np.uint8), "CMYK", metadata=Metadata(icc=bytes(16) + b"CMYK" + bytes(100)))
    back = read_image(encode_image(image, "png"))
    assert (back.pixels == 255).all()
    assert back.metadata.icc is None


# --- orientation and metadata -------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_in_every_format(orientation: int, format: str) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A maker"
    picture = Pillow.fromarray(in_mode("RGB").pixels)
    options = {"lossless": True} if format == "WEBP" else {}
    file = saved(picture, format, exif=exif, dpi=(100, 200), **options)
    image = read_image(file)
    expected = ImageOps.exif_transpose(Pillow.open(io.BytesIO(file)))
    np.testing.assert_array_equal(image.pixels, np.asarray(expected))
    read = Pillow.Exif()
    read.load(image.metadata.exif or b"")
    assert read[0x010F] == "A maker"
    assert 0x0112 not in read
    if image.metadata.dpi and format != "TIFF":
        dpi = (200, 100) if orientation >= 5 else (100, 200)
        assert image.metadata.dpi == pytest.approx(dpi, abs=0.02)
    again = read_image(encode_image(image, "png"))
    np.testing.assert_array_equal(again.pixels, image.pixels)


@pytest.mark.filterwarnings("ignore:(webp|avif) files are written without resolution")
@pytest.mark.parametrize("format", ["png", "jpg", "webp", "tiff", "avif"])
def test_profile_exif_and_xmp_are_kept_and_strip_drops_them(photo: Image, format: str) -> None:
    exif = Pillow.Exif()
    exif[0x8298] = "nobody"
    source = photo
    packed = exif.tobytes().removeprefix(b"Exif\0\0")
    xmp = "<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    metadata = Metadata(source.metadata.icc, packed, (72, 72), {"XML:com.adobe.xmp": xmp, "Comment": "héllo"})
    back = read_image(encode_image(source.replace(metadata=metadata), format)).metadata
    assert back.icc == source.metadata.icc
    read = Pillow.Exif()
    read.load(back.exif or b"")
    assert dict(read) == {0x8298: "nobody"}
    assert back.text["XML:com.adobe.xmp"] == xmp
    if format in ("png", "jpg", "tiff"):
        assert back.dpi == pytest.approx((72, 72), abs=0.02)
    if format in ("png", "jpg"):
        assert back.text["Comment"] == "héllo"
    bare = read_image(encode_image(source.replace(metadata=metadata), format, strip=True)).metadata
    assert (bare.icc, bare.exif, dict(bare.text)) == (None, None, {})


def test_a_comment_that_is_not_utf8_is_latin1() -> None:
    file = saved(Pillow.new("L", (8, 8)), "JPEG", comment="café".encode("latin-1"))
    assert read_image(file).metadata.text["Comment"] == "café"


def test_what_is_too_long_for_jpeg_is_left_out_with_a_warning() -> None:
    exif = b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\x04\0\0\0abc\0" + bytes(70_000)
    image = Image(np.zeros((8, 8, 3), np.uint8), "RGB", metadata=Metadata(exif=exif))
    with pytest.warns(ImageWarning, match=r"jpg holds no exif of 70,0\d\d bytes"):
        back = read_image(encode_image(image, "jpg"))
    assert back.metadata.exif is None


def test_xmp_does_not_turn_the_picture_again() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    xmp = b'<rdf:Description tiff:Orientation="6" tiff:Make="me"/>'
    image = read_image(saved(Pillow.new("L", (8, 4)), "JPEG", exif=exif, xmp=xmp))
    assert image.pixels.shape == (8, 4, 1)
    assert image.metadata.text["XML:com.adobe.xmp"] == '<rdf:Description tiff:Make="me"/>'


# --- animations ---------------------------------------------------------------------------------------


def moving(mode: str = "RGB") -> Image:
    """Four frames of few colours: a block that moves over a ground."""
    frames = []
    for step in range(4):
        pixels = np.full((16, 20, MODES[mode]), 40, np.uint8)
        pixels[:, :, -1] = 255 if mode.endswith("A") else 90
        pixels[4:9, 3 * step : 3 * step + 5] = [250, 10, 10, 255][: MODES[mode]]
        if mode.endswith("A"):
            pixels[12:] = 0
        frames.append(pixels)
    return Image(frames[0], mode, frames=tuple(frames), durations=(100, 40, 500, 70), loop=2)


@pytest.mark.parametrize("format", ["gif", "webp", "png"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_animations_round_trip(format: str, mode: str) -> None:
    image = moving(mode)
    back = read_image(encode_image(image, format))
    assert back.durations == image.durations
    assert back.loop == 2
    assert back.mode == mode
    assert len(back.frames) == 4
    for ours, theirs in zip(back.frames, image.frames, strict=True):
        if mode == "RGBA":
            np.testing.assert_array_equal(ours[:, :, 3], theirs[:, :, 3])
        difference = np.abs(ours.astype(int) - theirs)
        assert difference.max() == 0 if format != "webp" else difference.mean() < 12


@pytest.mark.parametrize("format", ["gif", "webp", "png"])
@pytest.mark.parametrize("loop", [None, 0, 1, 7])
def test_repetitions_mean_the_same_in_every_format(format: str, loop: int | None) -> None:
    assert read_image(encode_image(moving().replace(loop=loop), format)).loop == loop


def test_map_goes_over_every_frame() -> None:
    image = moving().map(lambda pixels: 255 - pixels)
    back = read_image(encode_image(image, "png"))
    for ours, theirs in zip(back.frames, moving().frames, strict=True):
        np.testing.assert_array_equal(ours, 255 - theirs)


@pytest.mark.parametrize("format", ["jpg", "bmp", "npy", "ppm"])
def test_one_frame_where_there_is_room_for_one(format: str) -> None:
    with pytest.warns(ImageWarning, match=f"{format} holds one frame: the first of 4 is written"):
        back = read_image(encode_image(moving(), format))
    assert back.frames == ()


def test_frames_become_pages_and_pages_no_animation() -> None:
    with pytest.warns(ImageWarning, match="without their timing"):
        pages = read_image(encode_image(moving(), "tiff"))
    assert len(pages.frames) == 4
    with pytest.warns(ImageWarning, match="gif holds one page: .* tiff would keep all"):
        assert read_image(encode_image(pages, "gif")).frames == ()


def test_the_limit_counts_all_frames() -> None:
    for format in ("gif", "webp"):
        file = encode_image(moving(), format)
        with pytest.raises(ImageError, match="4 frames of 20x16 is 1,280 pixels"):
            read_image(file, max_pixels=1279)
        assert len(read_image(file, max_pixels=1280).frames) == 4
        with pytest.raises(ImageError, match="4 frames of 20x16"):
            encode_image(moving(), format, max_pixels=1279)


def test_gif_frames_are_complete_pictures() -> None:
    image = read_image("samples/coins.gif")
    with Pillow.open("samples/coins.gif") as theirs:
        assert len(image.frames) == theirs.n_frames == 16
        assert image.loop == 0
        for index, frame in enumerate(image.frames):
            theirs.seek(index)
            np.testing.assert_array_equal(frame, np.asarray(theirs.convert("RGB")))
            assert image.durations[index] == theirs.info["duration"]


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"\0" * 5000, "not a picture that can be read"),
        (b"hello, world\n" * 10, "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "this is PostScript"),
        (b"\xc5\xd0\xd3\xc6" + bytes(99), "this is PostScript"),
        (b"%PDF-1.7\n", "this is a PDF document"),
        (b"<?xml version='1.0'?><svg/>", "SVG"),
        (b"\n <svg xmlns='http://www.w3.org/2000/svg'/>", "this is SVG"),
        (b"PK\3\4" + bytes(60), "npz"),
        (b"8BPS\0\1" + bytes(60), "Photoshop"),
        (b"\xff\x0a" + bytes(60), "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\xd8\xff", "cannot be decoded as jpg"),
        (b"BM", "cannot be decoded as bmp"),
        (b"GIF89a", "cannot be decoded as gif"),
        (b"II*\0", "cannot be decoded as tiff"),
        (b"RIFF\0\0\0\0WEBP", "cannot be decoded as webp"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "cannot be decoded as avif"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "cannot be decoded as avif"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "this is HEIC"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "this is HEIC"),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0msf1hevc", "this is HEIC"),
        (b"\0\0\0\x14ftypmif1\0\0\0\0mif1avif", "this is HEIF"),
        (b"\0\0\0\x18ftypisom\0\0\x02\0isommp41", r"this is a film \(MP4\)"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", r"this is a film \(QuickTime\)"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", r"this is a raw photo \(CR3\)"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(90), r"this is a raw photo \(CR2\)"),
        (b"FUJIFILMCCD-RAW 0201FF389501", r"this is a raw photo \(RAF\)"),
        (b"IIU\0\x18\0\0\0", r"this is a raw photo \(RW2\)"),
        (b"IIRO\x08\0\0\0", r"this is a raw photo \(ORF\)"),
        (b"\x89HDF\r\n\x1a\n", "this is HDF5"),
        (b"SIMPLE  =                    T", "this is FITS"),
    ],
)
def test_what_is_no_picture(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(data)


def test_no_such_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot be read: Is a directory"):
        read_image(tmp_path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no endless file here")
def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(ImageError, match="not a picture"):
        read_image("/dev/zero")


def test_a_message_is_one_line_and_names_no_file(tmp_path: Path) -> None:
    for path in ("x.png", "x.tif"):
        (tmp_path / path).write_bytes(encode_image(np.zeros((30, 30, 3), np.uint8), path[-3:])[:70])
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / path)
        assert "\n" not in str(caught.value)
        assert "x." not in str(caught.value)
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("format", ["jpg", "webp", "gif", "bmp", "avif", "tga"])
def test_every_cut_is_an_error(photo: Image, format: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole = encode_image(photo, format)
    for length in range(3, len(whole) * 4 // 5, max(1, len(whole) // 40)):
        with pytest.raises(ImageError):
            read_image(whole[:length])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "gif", "bmp", "avif", "tga", "tiff", "ppm", "npy"])
def test_flipped_bytes_give_a_picture_or_an_image_error(
    rng: np.random.Generator, format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = encode_image(in_mode("RGB"), format)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(0, min(len(whole), 400), 3):
            damaged[at] = rng.integers(0, 256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read_image(bytes(damaged), max_pixels=100_000)
            except ImageError:
                refused += 1
    assert refused > 0
    assert capfd.readouterr().err == ""


def test_no_other_program_is_started_whatever_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr("os.system", refuse)
    path = tmp_path / "photo.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(ImageError, match="PostScript"):
        read_image(path)


@pytest.mark.parametrize(
    "header",
    [
        b"BM" + bytes(12) + b"\x28\0\0\0\x00\x00\x01\x00\x00\x00\x01\x00\x01\0\x18\0" + bytes(24),
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
        b"\0\0\x02" + bytes(9) + b"\xff\xff\xff\xff\x18\0" + bytes(100),
    ],
)
def test_headers_that_claim_too_much(header: bytes) -> None:
    with pytest.raises(ImageError, match="the limit is 89,478,485"):
        read_image(header)


@pytest.mark.parametrize("format", ["jpg", "webp", "tiff", "gif", "bmp", "avif", "tga"])
def test_a_higher_limit_is_not_held_back_by_pillows_own(
    photo: Image, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = encode_image(photo, format)
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 100)
    assert read_image(file).pixels.shape == photo.pixels.shape
    assert Pillow.MAX_IMAGE_PIXELS == 100


def test_pillows_limit_is_as_it_was_after_many_threads() -> None:
    from cnnfilter.images.formats import pillow

    before = Pillow.MAX_IMAGE_PIXELS

    def work(limit: int) -> None:
        for _ in range(200):
            with pillow.pillow_limit.at_least(limit):
                assert Pillow.MAX_IMAGE_PIXELS is not None
                assert limit <= Pillow.MAX_IMAGE_PIXELS

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, [10, 10**9, 10**8, 10**9]))
    assert before == Pillow.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("format", "longest"),
    [("webp", 16_383), ("jpg", 65_500), ("gif", 65_535), ("tga", 65_535), ("avif", 65_536)],
)
def test_sides_that_a_format_does_not_have(format: str, longest: int) -> None:
    with pytest.raises(ImageError, match=f"too large for {format}, which ends at {longest:,} pixels a side"):
        encode_image(np.zeros((1, longest + 1, 3), np.uint8), format)


def test_what_cannot_be_written() -> None:
    with pytest.raises(ImageError, match="'xyz' is not a format that can be written; png jpg"):
        encode_image(np.zeros((2, 2), np.uint8), "xyz")
    with pytest.raises(ImageError, match="float64"):
        encode_image(np.zeros((2, 2)), "png")
    with pytest.raises(ImageError, match=r"\(H, W, C\)"):
        encode_image(np.zeros((0, 2), np.uint8), "png")
    with pytest.raises(ImageError, match="the limit is 3"):
        encode_image(np.zeros((2, 2), np.uint8), "png", max_pixels=3)
    with pytest.raises(ValueError, match="compression"):
        encode_image(np.zeros((2, 2), np.uint8), "png", compression="best")


# --- the picture itself -------------------------------------------------------------------------------


def test_colour_and_alpha_are_views() -> None:
    image = in_mode("LA")
    assert image.has_alpha
    assert image.alpha is not None
    assert image.colour.base is image.pixels
    assert (image.colour.shape[2], image.alpha.shape[2]) == (1, 1)
    assert not in_mode("RGB").has_alpha
    assert in_mode("RGB").alpha is None
    assert not in_mode("CMYK").has_alpha


def test_modes_are_checked() -> None:
    with pytest.raises(ImageError, match="mode 'RGB' does not have 4 channels"):
        in_mode("RGBA").replace(mode="RGB")
    with pytest.raises(ImageError, match="uint8, uint16 or float32"):
        Image(np.zeros((2, 2, 1)), "L")


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA"), (5, "maps")])
def test_map_finds_the_mode_of_other_channels(channels: int, mode: str) -> None:
    image = in_mode("RGB").map(lambda pixels: np.zeros((4, 4, channels), np.uint8))
    assert image.mode == mode
    assert in_mode("CMYK").map(lambda pixels: pixels[::2]).mode == "CMYK"
    assert in_mode("RGB").map(lambda pixels: pixels[:, :, 0]).mode == "L"


def test_importing_images_imports_no_pillow() -> None:
    heavy = {"PIL", "tifffile", "numba", "scipy"}
    code = f"import sys, cnnfilter.images.files; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_refused_file_is_let_go_at_once() -> None:
    """An error that held itself would keep the pixels that were decoded, until the garbage collector comes."""
    file = saved(Pillow.new("RGB", (200, 200)), "BMP")[:-1000]
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ImageError):
            read_image(file)
        assert gc.collect() == 0
    finally:
        gc.enable()
