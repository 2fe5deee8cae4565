"""A result in the format of its input is compressed as the input was, unless something else is asked for."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import JpegImagePlugin

from cnnfilter.errors import ImageError
from cnnfilter.images.coding import avif, tiff_packing
from cnnfilter.images.coding.coding import Coding, Packing
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.formats import jpeg, pillow
from cnnfilter.images.image import Image, ImageWarning


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def photo(height: int = 72, width: int = 96, mode: str = "RGB") -> Pillow.Image:
    small = Pillow.fromarray(noise(12, 16, 3)).resize((width, height), Pillow.Resampling.BICUBIC)
    return small.convert(mode)


def saved(picture: Pillow.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def opened(file: bytes) -> Any:
    return Pillow.open(io.BytesIO(file))


def rewritten(file: bytes, format: str, **options: Any) -> bytes:
    return encode_image(read_image(file), format, **options)


# --- JPEG ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [1, 40, 97])
def test_jpeg_keeps_tables_subsampling_and_mode(subsampling: int, progressive: bool, quality: int) -> None:
    file = saved(photo(), "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    new = opened(rewritten(file, "jpg"))
    assert new.quantization == opened(file).quantization
    assert JpegImagePlugin.get_sampling(new) == subsampling
    assert bool(new.info.get("progressive")) is progressive


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_of_other_modes_keeps_its_tables(mode: str) -> None:
    file = saved(photo(mode=mode), "JPEG", quality=40)
    new = opened(rewritten(file, "jpg"))
    assert new.mode == mode
    assert new.quantization == opened(file).quantization


def test_a_third_table_is_kept() -> None:
    tables = [[number + step for step in range(64)] for number in (3, 5, 9)]
    file = saved(photo(), "JPEG", qtables=tables)
    assert opened(file).quantization == opened(rewritten(file, "jpg")).quantization
    assert len(opened(file).quantization) == 3


def test_other_channels_than_the_input_had_take_the_tables_that_there_are() -> None:
    grey, colour = saved(photo(mode="L"), "JPEG", quality=40), saved(photo(), "JPEG", quality=40, subsampling=2)
    drawn = read_image(grey).map(lambda pixels: pixels.repeat(3, axis=2))
    new = opened(encode_image(drawn, "jpg"))
    assert new.quantization[0] == opened(grey).quantization[0]
    assert JpegImagePlugin.get_sampling(new) == 0
    one = opened(encode_image(read_image(colour).map(lambda pixels: pixels[:, :, :1]), "jpg"))
    assert one.mode == "L"
    assert one.quantization[0] == opened(colour).quantization[0]


def test_a_sampling_that_pillow_cannot_write_becomes_444() -> None:
    file = bytearray(saved(photo(), "JPEG", subsampling=1))
    frame = file.index(b"\xff\xc0")
    assert file[frame + 11] == 0x21
    file[frame + 11] = 0x12  # 4:4:0: half of the rows
    assert read_image(bytes(file)).coding is not None
    assert JpegImagePlugin.get_sampling(opened(encode_image(read_image(bytes(file)), "jpg"))) == 0


@pytest.mark.parametrize("format", ["PNG", "WebP", "TIFF"])
def test_from_another_format_jpeg_has_quality_95_and_444(format: str) -> None:
    new = opened(rewritten(saved(photo(), format), "jpg"))
    assert new.quantization == opened(saved(photo(), "JPEG", quality=95)).quantization
    assert JpegImagePlugin.get_sampling(new) == 0


def test_settings_go_before_those_of_the_input() -> None:
    file = saved(photo(), "JPEG", quality=40, subsampling=1, progressive=True)
    new = opened(rewritten(file, "jpg", quality=80))
    assert new.quantization == opened(saved(photo(), "JPEG", quality=80)).quantization
    assert JpegImagePlugin.get_sampling(new) == 1
    assert new.info.get("progressive")
    new = opened(rewritten(file, "jpg", subsampling="420", progressive=False))
    assert new.quantization == opened(file).quantization
    assert JpegImagePlugin.get_sampling(new) == 2
    assert not new.info.get("progressive")
    assert opened(encode_image(noise(8, 8, 3), "jpg", progressive=True)).info.get("progressive")


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
@pytest.mark.parametrize("quality", [None, 1])
def test_bands_of_each_subsampling_decode_to_what_one_scan_does(
    monkeypatch: pytest.MonkeyPatch, subsampling: str, quality: int | None
) -> None:
    image = Image.from_array(np.asarray(photo(299, 397)))
    whole = encode_image(image, "jpg", subsampling=subsampling, quality=quality)
    monkeypatch.setattr(jpeg, "_BAND_BYTES", 397 * 3 * 40)
    bands = encode_image(image, "jpg", subsampling=subsampling, quality=quality, threads=2)
    assert b"\xff\xd1" in bands
    assert b"\xff\xd1" not in whole
    np.testing.assert_array_equal(np.asarray(opened(bands)), np.asarray(opened(whole)))


def test_tables_of_16_bits_are_kept_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "_BAND_BYTES", 1)
    file = saved(photo(), "JPEG", qtables=[[300] * 64])
    assert opened(rewritten(file, "jpg")).quantization == {0: [300] * 64}


def test_a_progressive_file_of_noise_fits_into_the_encoder_s_buffer(capfd: pytest.CaptureFixture[str]) -> None:
    from PIL import ImageFile

    before = ImageFile.MAXBLOCK
    file = saved(Pillow.fromarray(noise(300, 500, 3)), "JPEG", quality=100, subsampling=0)
    assert opened(rewritten(file, "jpg", progressive=True)).info["progressive"]
    assert before == ImageFile.MAXBLOCK
    assert capfd.readouterr().err == ""


# --- WebP ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 4])
def test_lossless_webp_stays_lossless(channels: int) -> None:
    pixels = noise(24, 36, channels)
    file = rewritten(saved(Pillow.fromarray(pixels), "WebP", lossless=True, exact=True), "webp")
    np.testing.assert_array_equal(read_image(file).pixels, pixels)
    assert b"VP8L" in file[:64]


def test_a_lossless_animation_stays_lossless() -> None:
    frames = [Pillow.fromarray(noise(24, 36, 3)), Pillow.fromarray(255 - noise(24, 36, 3))]
    file = saved(frames[0], "WebP", lossless=True, save_all=True, append_images=frames[1:], duration=[40, 60])
    new = read_image(rewritten(file, "webp"))
    for frame, wanted in zip(new.frames, frames, strict=True):
        np.testing.assert_array_equal(frame, np.asarray(wanted))


@pytest.mark.parametrize("options", [{"lossless": False}, {"lossless": False, "alpha_quality": 100}])
def test_lossy_webp_stays_lossy(options: dict[str, Any]) -> None:
    file = saved(Pillow.fromarray(noise(24, 36, 4)), "WebP", **options)
    assert b"VP8L" not in rewritten(file, "webp")
    assert b"VP8L" not in rewritten(saved(photo(), "PNG"), "webp")


def test_webp_can_be_asked_for_without_loss_and_with_a_quality() -> None:
    lossless = saved(photo(), "WebP", lossless=True)
    np.testing.assert_array_equal(read_image(rewritten(lossless, "webp", lossless=True)).pixels, np.asarray(photo()))
    assert b"VP8L" not in rewritten(lossless, "webp", quality=80)
    assert len(rewritten(lossless, "webp", quality=20)) < len(rewritten(lossless, "webp", quality=80))


# --- AVIF ---------------------------------------------------------------------------------------------


def test_lossless_grey_avif_stays_lossless() -> None:
    pixels = noise(24, 36)
    source = saved(Pillow.fromarray(pixels), "AVIF", quality=100)
    file = rewritten(source, "avif")
    assert opened(file).mode == opened(source).mode
    np.testing.assert_array_equal(read_image(file).pixels[:, :, 0], pixels)


def test_lossless_avif_of_colours_is_as_near_as_pillow_can_write_it() -> None:
    """Pillow stores YCbCr, whose whole numbers do not hold every colour: what is changed is said."""
    image = read_image(saved(Pillow.fromarray(noise(24, 36, 3)), "AVIF", quality=100, subsampling="4:4:4"))
    with pytest.warns(ImageWarning, match="the input is a lossless avif, but colours written as avif are off by up to"):
        new = read_image(encode_image(image, "avif"))
    assert np.abs(new.pixels.astype(int) - image.pixels).max() <= 3
    with pytest.raises(ImageError, match="avif cannot be written without loss in these colours"):
        encode_image(image, "avif", lossless=True)


@pytest.mark.parametrize(
    ("quality", "subsampling", "mode", "described"),
    [
        (100, "4:4:4", "RGB", ("444", True)),
        (100, "4:4:4", "RGBA", ("444", True)),
        (100, "4:2:0", "RGB", ("420", False)),
        (99, "4:4:4", "RGB", ("444", False)),
        (50, "4:2:2", "RGB", ("422", False)),
    ],
)
def test_avif_says_how_it_is_compressed(quality: int, subsampling: str, mode: str, described: Any) -> None:
    file = saved(photo(300, 200, mode), "AVIF", quality=quality, subsampling=subsampling)
    assert avif.describe(file) == described


def test_lossy_avif_keeps_its_subsampling() -> None:
    file = saved(photo(), "AVIF", quality=50, subsampling="4:2:2")
    assert avif.describe(rewritten(file, "avif")) == ("422", False)
    assert avif.describe(rewritten(file, "avif", subsampling="444")) == ("444", False)


def test_damaged_avif_headers_say_nothing() -> None:
    file = saved(photo(), "AVIF", quality=100, subsampling="4:4:4")
    for cut in range(0, len(file), 7):
        assert avif.describe(file[:cut]) in ((None, False), ("444", False), ("444", True))
        changed = bytearray(file)
        changed[cut] ^= 0xFF
        avif.describe(bytes(changed))


# --- TIFF ---------------------------------------------------------------------------------------------

TIFF_NAMES = {"none": 1, "lzw": 5, "deflate": 8, "packbits": 32773, "lzma": 34925, "zstd": 50000}


def packing_in(file: bytes) -> tuple[int, int, tuple[int, ...] | None, int]:
    with tifffile.TiffFile(io.BytesIO(file)) as opened_file:
        page = opened_file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        return int(page.compression), int(page.predictor), page.tile or None, page.rowsperstrip


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize(("compression", "predictor"), [(None, False), ("zlib", False), ("zlib", True), ("lzma", True)])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_keeps_compression_predictor_tiles_and_strips(
    dtype: str, channels: int, tile: Any, compression: str | None, predictor: bool, byteorder: Any
) -> None:
    predictor = predictor and dtype != "f4"  # tifffile does not write that of floats; the next test has it
    pixels = noise(50, 70, channels).astype(dtype)
    stream = io.BytesIO()
    cut = {"tile": tile} if tile else {"rowsperstrip": 13}
    kind = "rgb" if channels in (3, 4) else "minisblack"
    extra = ["unassalpha"] if channels == 4 else ["unspecified"] * 4 if channels == 5 else None
    tifffile.imwrite(
        stream,
        pixels[:, :, 0] if channels == 1 else pixels,
        compression=compression,
        predictor=predictor,
        photometric=kind,
        extrasamples=extra,
        planarconfig="contig",
        byteorder=byteorder,
        metadata=None,
        **cut,
    )
    file = rewritten(stream.getvalue(), "tiff")
    assert packing_in(file) == packing_in(stream.getvalue())
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(file)).reshape(pixels.shape), pixels)
    np.testing.assert_array_equal(read_image(file).pixels, pixels)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("name", TIFF_NAMES)
def test_each_compression_by_its_name(name: str, dtype: str) -> None:
    pixels = (np.asarray(photo(mode="L"))[:, :, None] // 8 * 8).astype(dtype)
    file = encode_image(pixels, "tiff", compression=name)
    assert packing_in(file)[0] == TIFF_NAMES[name]
    np.testing.assert_array_equal(np.asarray(opened(file)), pixels[:, :, 0])  # libtiff's reader
    np.testing.assert_array_equal(read_image(file).pixels, pixels)
    assert name in ("none", "packbits") or len(file) < len(encode_image(pixels, "tiff"))
    again = read_image(file)
    assert packing_in(encode_image(again, "tiff"))[:2] == packing_in(file)[:2]
    assert packing_in(encode_image(again, "tiff", compression="none"))[:2] == (1, 1)


def test_the_level_of_deflate() -> None:
    pixels = np.asarray(photo(300, 400)) // 16 * 16
    sizes = [len(encode_image(pixels, "tiff", compression=level)) for level in ("1", "9", "0")]
    assert sizes[1] < sizes[0] < sizes[2]


def test_the_bytes_of_a_tiff_do_not_depend_on_the_threads() -> None:
    pixels = np.asarray(photo(900, 700))
    files = {encode_image(pixels, "tiff", compression="deflate", threads=threads) for threads in (1, 2, 3)}
    assert len(files) == 1
    assert len(read_image(files.pop()).pixels) == 900


def test_compressed_pages_and_a_large_file_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = tuple(np.asarray(photo(60, 50 + 0 * number)) // (number + 1) for number in range(3))
    image = Image(pages[0], "RGB", frames=pages)
    expected = encode_image(image, "tiff", compression="deflate")
    for frame, page in zip(read_image(expected).frames, pages, strict=True):
        np.testing.assert_array_equal(frame, page)
    monkeypatch.setattr(tiff_packing, "_MEMORY_BYTES", 1000)
    monkeypatch.setattr(tiff_packing, "_BATCH_BYTES", 1)
    assert encode_image(image, "tiff", compression="deflate") == expected


def test_a_compression_that_is_not_written_becomes_deflate_with_a_warning() -> None:
    file = saved(photo(mode="1"), "TIFF", compression="group4")
    with pytest.warns(ImageWarning, match="the input is compressed by CCITT fax 4, which is not written here: deflate"):
        assert packing_in(rewritten(file, "tiff"))[:2] == (8, 2)
    image = read_image(saved(photo(), "TIFF", compression="jpeg"))
    deep = image.map(lambda pixels: pixels.astype(np.uint16) * 257)
    with pytest.warns(ImageWarning, match="by JPEG, which holds grey and RGB of 8 bits only: deflate, without loss"):
        assert packing_in(encode_image(deep, "tiff"))[:2] == (8, 2)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("quality", [40, 90])
def test_jpeg_data_in_tiff_keep_their_tables(mode: str, quality: int) -> None:
    """Pillow stores RGB without YCbCr there, so that the same tables change next to nothing."""
    file = saved(photo(mode=mode), "TIFF", compression="jpeg", quality=quality)
    new = rewritten(file, "tiff")
    assert packing_in(new)[0] == 7
    assert abs(len(new) - len(file)) < 100
    assert read_image(new).coding == read_image(file).coding
    assert np.abs(np.asarray(opened(new)).astype(int) - np.asarray(opened(file))).max() <= 2
    if mode == "L":
        (table,) = tiff_jpeg_tables(new)
        assert [*table] == opened(saved(photo(mode="L"), "JPEG", quality=quality)).quantization[0]


def tiff_jpeg_tables(file: bytes) -> tuple[tuple[int, ...], ...]:
    coding = read_image(file).coding
    assert coding is not None
    return coding.tables


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
@pytest.mark.parametrize("packing", [Packing(7, 1, (32, 48)), Packing(7, 1, None, 10), Packing(7)])
def test_jpeg_data_of_ycbcr_in_strips_and_tiles(subsampling: str, packing: Packing) -> None:
    pixels = np.asarray(photo())
    image = Image(pixels, "RGB", coding=Coding("tiff", (), subsampling, packing=packing))
    file = encode_image(image, "tiff")
    assert packing_in(file)[0] == 7
    assert packing_in(file)[2] == packing.tile
    again = read_image(file)
    np.testing.assert_array_equal(again.pixels, np.asarray(opened(file)))
    by_jpeg = read_image(encode_image(pixels, "jpg", subsampling=subsampling)).pixels
    assert np.abs(again.pixels.astype(int) - by_jpeg).mean() < 1
    assert again.coding is not None
    assert again.coding.subsampling == subsampling
    assert again.coding.packing.tile == packing.tile
    assert [*map(list, again.coding.tables)] == [*opened(saved(photo(), "JPEG", quality=95)).quantization.values()]


def test_tiles_out_of_all_proportion_become_strips() -> None:
    packing = Packing(8, 1, (1 << 20, 1 << 20))
    file = encode_image(Image(noise(8, 8, 3), "RGB", coding=Coding("tiff", packing=packing)), "tiff")
    assert packing_in(file) == (8, 1, None, 8)


def test_compressed_files_keep_their_exif() -> None:
    picture = photo()
    picture.getexif()[270] = "a wall"
    picture.getexif().get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0a long comment"
    file = rewritten(saved(picture, "JPEG", exif=picture.getexif()), "tiff", compression="lzw")
    assert opened(file).getexif()[270] == "a wall"


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "settings", "message"),
    [
        ("png", {"quality": 80}, "png has no quality; jpg, webp and avif have it"),
        ("jpg", {"lossless": True}, "jpg has no lossless mode to choose; webp and avif have it"),
        ("webp", {"subsampling": "444"}, "webp has no chroma subsampling; jpg and avif have it"),
        ("avif", {"progressive": True}, "avif has no progressive mode; jpg has it"),
        ("jpg", {"compression": "9"}, "jpg has no compression to choose; png and tiff have it"),
        ("png", {"compression": "lzw"}, "png has no compression 'lzw'; it has none deflate, and the levels 0 to 9"),
        (
            "tiff",
            {"compression": "jpeg"},
            "compression 'jpeg' is none of deflate lzma lzw none packbits zstd or a level",
        ),
        ("jpg", {"quality": 0}, "a quality of 0 is not between 1 and 100"),
        ("webp", {"quality": 80, "lossless": True}, "lossless and quality contradict each other"),
        ("avif", {"subsampling": "420", "lossless": True}, "lossless and subsampling 420 contradict each other"),
        ("jpg", {"subsampling": "411"}, "subsampling '411' is none of 444 422 420"),
    ],
)
def test_settings_that_a_format_does_not_have(format: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        encode_image(noise(4, 4, 3), format, **settings)


@pytest.mark.parametrize("frames", [1, 2])
def test_levels_of_png(frames: int) -> None:
    pixels = np.asarray(photo(300, 400)) // 16 * 16
    pages = (pixels, 255 - pixels) if frames == 2 else ()
    image = Image(pixels, "RGB", frames=pages, durations=(40,) * len(pages))
    sizes = {}
    for level in ("none", "0", "1", "9", "default", "deflate", "fast"):
        file = encode_image(image, "png", compression=level)
        sizes[level] = len(file)
        np.testing.assert_array_equal(np.asarray(opened(file).convert("RGB")), pixels)
    assert sizes["9"] < sizes["1"] == sizes["default"] == sizes["deflate"] < sizes["0"] == sizes["none"]


def test_limits_of_pillow_are_those_of_the_largest_that_asks() -> None:
    from PIL import ImageFile

    own = ImageFile.MAXBLOCK
    with pillow.block_limit.at_least(own + 1), pillow.block_limit.at_least(own + 5):
        assert own + 5 == ImageFile.MAXBLOCK
    assert own == ImageFile.MAXBLOCK
