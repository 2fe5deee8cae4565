"""PNG: every filter, depth, colour type and interlace against the samples that went in, Pillow and OpenCV."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image as Pillow

from cnnfilter.errors import ImageError
from cnnfilter.images import deflate
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.formats import png, png_chunks, png_loops
from cnnfilter.images.image import Image, ImageWarning
from cnnfilter.images.metadata import Metadata

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [(c, d) for c in CHANNELS for d in (1, 2, 4, 8, 16) if d in png_chunks._DEPTHS[c]]
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

compiled = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"), reason="too slow as plain Python"
)


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def packed_rows(samples: np.ndarray, depth: int) -> list[bytes]:
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    if depth == 8:
        return [row.astype(np.uint8).tobytes() for row in samples]
    bits = (samples[:, :, 0, None] >> np.arange(depth - 1, -1, -1)) & 1
    return [np.packbits(row.astype(np.uint8).ravel()).tobytes() for row in bits]


def paeth(left: int, above: int, corner: int) -> int:
    p = left + above - corner
    distances = [abs(p - left), abs(p - above), abs(p - corner)]
    return (left, above, corner)[distances.index(min(distances))]


def filtered(rows: Sequence[bytes], step: int, kinds: Sequence[int]) -> bytes:
    """Filter rows as the specification says, a byte at a time."""
    out, above = bytearray(), bytes(len(rows[0])) if rows else b""
    for y, row in enumerate(rows):
        kind = kinds[y % len(kinds)]
        out.append(kind)
        for x, value in enumerate(row):
            left = row[x - step] if x >= step else 0
            corner = above[x - step] if x >= step else 0
            guess = (0, left, above[x], (left + above[x]) // 2, paeth(left, above[x], corner))[kind]
            out.append((value - guess) & 255)
        above = row
    return bytes(out)


def make_png(
    samples: np.ndarray,
    colour: int,
    depth: int,
    kinds: Sequence[int] = (0, 1, 2, 3, 4),
    interlaced: bool = False,
    extra: bytes = b"",
) -> bytes:
    """Write samples (H, W, channels) as a PNG file, slowly."""
    height, width = samples.shape[:2]
    step = max(1, CHANNELS[colour] * depth // 8)
    data = b""
    for x, y, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
        part = samples[y::down, x::across]
        if part.size:
            data += filtered(packed_rows(part, depth), step, kinds)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    packed = zlib.compress(data)
    idat = chunk(b"IDAT", packed[:7]) + chunk(b"IDAT", packed[7:])
    return png_chunks.SIGNATURE + chunk(b"IHDR", header) + extra + idat + chunk(b"IEND")


def random_samples(rng: np.random.Generator, height: int, width: int, colour: int, depth: int) -> np.ndarray:
    return rng.integers(0, 2**depth, (height, width, CHANNELS[colour]), dtype=np.uint16)


def expected(samples: np.ndarray, depth: int) -> np.ndarray:
    if depth == 16:
        return samples
    return (samples * (255 // (2**depth - 1))).astype(np.uint8)


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize(("colour", "depth"), [pair for pair in KINDS if pair[0] != 3])
@pytest.mark.parametrize("interlaced", [False, True])
def test_every_filter_depth_and_colour_is_undone(
    rng: np.random.Generator, kind: int, colour: int, depth: int, interlaced: bool
) -> None:
    for height, width in ((1, 1), (5, 1), (1, 9), (9, 13)):
        samples = random_samples(rng, height, width, colour, depth)
        file = make_png(samples, colour, depth, [kind], interlaced)
        np.testing.assert_array_equal(read_image(file).pixels, expected(samples, depth))


@pytest.mark.parametrize(("colour", "depth"), [pair for pair in KINDS if pair[1] <= 8])
@pytest.mark.parametrize("interlaced", [False, True])
def test_reads_as_pillow_does(rng: np.random.Generator, colour: int, depth: int, interlaced: bool) -> None:
    palette = rng.integers(0, 256, 3 * 2**depth, dtype=np.uint8).tobytes() if colour == 3 else b""
    extra = chunk(b"PLTE", palette) if palette else b""
    file = make_png(random_samples(rng, 21, 19, colour, depth), colour, depth, interlaced=interlaced, extra=extra)
    ours = read_image(file)
    theirs = Pillow.open(io.BytesIO(file)).convert(ours.mode)
    np.testing.assert_array_equal(ours.pixels.squeeze(), np.asarray(theirs))


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_16_bits_agree_with_opencv(rng: np.random.Generator, colour: int) -> None:
    cv2 = pytest.importorskip("cv2")
    samples = random_samples(rng, 20, 30, colour, 16)
    pixels = cv2.imdecode(np.frombuffer(encode_image(samples, "png"), np.uint8), cv2.IMREAD_UNCHANGED)
    if colour == 4:  # OpenCV has no grey with alpha
        pixels = pixels[:, :, 2:]
    elif colour == 2:
        pixels = pixels[:, :, ::-1]
    elif colour == 6:
        pixels = pixels[:, :, [2, 1, 0, 3]]
    np.testing.assert_array_equal(pixels.reshape(samples.shape), samples)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("fast", [False, True])
def test_round_trip(rng: np.random.Generator, dtype: type, channels: int, fast: bool) -> None:
    for shape in ((1, 1), (1, 7), (6, 1), (33, 21)):
        pixels = rng.integers(0, np.iinfo(dtype).max + 1, (*shape, channels), dtype=dtype)
        file = encode_image(pixels, "png", compression="fast" if fast else "default")
        back = read_image(file)
        np.testing.assert_array_equal(back.pixels, pixels)
        assert back.pixels.dtype == dtype
        if dtype == np.uint8:
            np.testing.assert_array_equal(
                np.asarray(Pillow.open(io.BytesIO(file))), pixels.squeeze(2) if channels == 1 else pixels
            )


def smooth(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A picture in which each of the filters has rows that suit it."""
    y, x = np.mgrid[:height, :width].astype(float)
    base = 120 + 60 * np.sin(x / 31) * np.cos(y / 17) + 40 * np.sin((x + y) / 11)
    noise = rng.normal(0, 2, (height, width, 3))
    return (base[:, :, None] + noise).clip(0, 255).astype(np.uint8)


@compiled
def test_large_pictures_are_written_in_bands_that_join(rng: np.random.Generator) -> None:
    pixels = smooth(rng, 900, 800)
    parts = png.encode(Image.from_array(pixels), threads=1)
    file = b"".join(parts)
    assert file.count(b"IDAT") >= 5
    np.testing.assert_array_equal(np.asarray(Pillow.open(io.BytesIO(file))), pixels)
    np.testing.assert_array_equal(read_image(file).pixels, pixels)


@compiled
def test_the_bytes_do_not_depend_on_the_number_of_threads(rng: np.random.Generator) -> None:
    image = Image.from_array(smooth(rng, 900, 800))
    once = png.encode(image, threads=1)
    assert png.encode(image, threads=3) == once
    assert png.encode(image) == once


@compiled
def test_files_are_no_larger_than_those_of_libpngs_first_level() -> None:
    for name in ("chelsea", "coffee", "camera", "coins", "brick", "grass"):
        pixels = read_image(f"samples/{name}.png").pixels
        stream = io.BytesIO()
        Pillow.fromarray(pixels.squeeze()).save(stream, "PNG", compress_level=1)
        assert len(encode_image(pixels, "png")) <= len(stream.getvalue()), name


def test_each_row_gets_the_filter_of_the_smallest_sum(rng: np.random.Generator) -> None:
    pixels = smooth(rng, 40, 50)
    rows = [row.tobytes() for row in pixels.reshape(40, -1)]
    data = zlib.decompress(b"".join(png_chunks.split(memoryview(encode_image(pixels, "png")), 10**6).data))
    written = np.frombuffer(data, np.uint8).reshape(40, 151)

    def magnitudes(kind: int) -> np.ndarray:
        values = np.frombuffer(filtered(rows, 3, [kind]), np.uint8).reshape(40, 151)[:, 4:].astype(int)
        return np.minimum(values, 256 - values).sum(axis=1)

    sums = {kind: magnitudes(kind) for kind in (1, 2, 4)}
    best = np.minimum.reduce(list(sums.values()))
    assert len(set(written[:, 0].tolist())) >= 2
    for y, kind in enumerate(written[:, 0].tolist()):
        assert sums[kind][y] == best[y]


@compiled
def test_without_isal_the_same_picture_is_written_and_read(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = smooth(rng, 300, 700)
    with_isal = encode_image(pixels, "png")
    monkeypatch.setattr(deflate, "_library", zlib)
    monkeypatch.setattr(deflate, "crc32", zlib.crc32)
    monkeypatch.setattr(deflate, "adler32", zlib.adler32)
    without = encode_image(pixels, "png")
    for file in (with_isal, without):
        np.testing.assert_array_equal(read_image(file).pixels, pixels)


def test_pillow_is_not_imported_for_png() -> None:
    code = (
        "import sys; from cnnfilter import read_image, write_image; import io\n"
        "write_image(io.BytesIO(), read_image('samples/chelsea.png'))\n"
        "write_image(io.BytesIO(), read_image('samples/chelsea.png'))\n"
        "print(sorted({'PIL', 'tifffile'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# --- transparency and palettes ------------------------------------------------------------------------


@pytest.mark.parametrize(("colour", "depth"), [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16)])
def test_a_transparent_colour_becomes_alpha(rng: np.random.Generator, colour: int, depth: int) -> None:
    samples = random_samples(rng, 6, 8, colour, depth)
    key = samples[2, 3]
    # Bits above the depth must be ignored (PNG specification, 11.3.1.1).
    noise = 0 if depth == 16 else 1 << depth
    extra = chunk(b"tRNS", struct.pack(f">{len(key)}H", *(int(v) | noise for v in key)))
    image = read_image(make_png(samples, colour, depth, extra=extra))
    assert image.mode == ("LA" if colour == 0 else "RGBA")
    full = 65535 if depth == 16 else 255
    np.testing.assert_array_equal(image.pixels[:, :, -1], np.where((samples == key).all(axis=2), 0, full))
    np.testing.assert_array_equal(image.colour, expected(samples, depth))


def test_16_bit_transparent_colour_differs_in_the_low_byte_only() -> None:
    samples = np.array([[[0x1234], [0x1235]]], np.uint16)
    image = read_image(make_png(samples, 0, 16, extra=chunk(b"tRNS", struct.pack(">H", 0x1234))))
    assert image.pixels[0, :, 1].tolist() == [0, 65535]


@pytest.mark.parametrize(
    ("palette", "opacity", "mode"),
    [
        ([(1, 2, 3), (4, 5, 6)], None, "RGB"),
        ([(9, 9, 9), (200, 200, 200)], None, "L"),
        ([(1, 2, 3), (4, 5, 6)], b"\x80", "RGBA"),
        ([(1, 2, 3), (4, 5, 6)], b"\xff\xff", "RGB"),
        ([(9, 9, 9), (7, 7, 7)], b"\xff\x00", "LA"),
    ],
)
def test_palettes(palette: list[tuple[int, int, int]], opacity: bytes | None, mode: str) -> None:
    samples = np.array([[[0], [1], [1], [0]]], np.uint16)
    extra = chunk(b"PLTE", bytes(value for colour in palette for value in colour))
    if opacity is not None:
        extra += chunk(b"tRNS", opacity)
    file = make_png(samples, 3, 1, extra=extra)
    image = read_image(file)
    assert image.mode == mode
    theirs = Pillow.open(io.BytesIO(file)).convert("RGBA").convert(mode)
    np.testing.assert_array_equal(image.pixels.squeeze(), np.asarray(theirs).squeeze())


def test_an_index_beyond_the_palette_is_black_as_libpng_draws_it() -> None:
    samples = np.array([[[0], [3]]], np.uint16)
    image = read_image(make_png(samples, 3, 2, extra=chunk(b"PLTE", bytes([1, 2, 3]))))
    assert image.pixels.tolist() == [[[1, 2, 3], [0, 0, 0]]]


# --- metadata -----------------------------------------------------------------------------------------


def test_metadata_round_trip() -> None:
    image = read_image("samples/chelsea.png")
    text = {"Title": "café", "Comment": "Ελλάδα", "XML:com.adobe.xmp": "<x:xmpmeta/>", "Long": "x" * 5000}
    metadata = Metadata(image.metadata.icc, b"II*\0\x08\0\0\0\0\0\0\0\0\0", (300.0, 150.0), text)
    back = read_image(encode_image(image.replace(metadata=metadata), "png")).metadata
    assert metadata.icc is not None
    assert back.icc == metadata.icc
    assert back.dpi == pytest.approx((300, 150), abs=0.02)
    assert dict(back.text) == text
    assert read_image(encode_image(image, "png", strip=True)).metadata == Metadata()


def test_pillow_reads_our_metadata() -> None:
    image = read_image("samples/chelsea.png")
    picture = Pillow.open(io.BytesIO(encode_image(image, "png")))
    picture.load()
    assert picture.info["icc_profile"] == image.metadata.icc
    assert picture.info["dpi"] == pytest.approx((72, 72), abs=0.02)
    assert picture.info["XML:com.adobe.xmp"] == image.metadata.text["XML:com.adobe.xmp"]


def test_packed_text_and_colour_chunks_are_read(rng: np.random.Generator) -> None:
    extra = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"sRGB", b"\0")
    extra += chunk(b"zTXt", b"Packed\0\0" + zlib.compress(b"hello"))
    extra += chunk(b"iTXt", b"Wide\0\1\0en\0Weit\0" + zlib.compress("ж".encode()))
    extra += chunk(b"zTXt", b"Broken\0\0nothing")
    with pytest.warns(ImageWarning, match=r"damaged parts of the file are left out: zTXt$"):
        image = read_image(make_png(random_samples(rng, 2, 2, 0, 8), 0, 8, extra=extra))
    assert dict(image.metadata.text) == {"Packed": "hello", "Wide": "ж"}
    again = read_image(encode_image(image, "png"))
    assert dict(again.metadata.colour) == {"gAMA": struct.pack(">I", 45455), "sRGB": b"\0"}


def test_a_profile_for_other_colours_is_left_out() -> None:
    image = read_image("samples/chelsea.png")
    grey = image.map(lambda pixels: pixels[:, :, :1])
    assert read_image(encode_image(grey, "png")).metadata.icc is None


# --- damaged files ------------------------------------------------------------------------------------


@pytest.fixture
def whole(rng: np.random.Generator) -> bytes:
    return make_png(random_samples(rng, 40, 30, 2, 8), 2, 8, extra=chunk(b"tEXt", b"a\0b"))


def test_every_cut_is_an_error(whole: bytes) -> None:
    for length in [*range(1, 60), *range(60, len(whole), 97), len(whole) - 1]:
        with pytest.raises(ImageError):
            read_image(whole[:length])


def test_every_flipped_byte_is_an_error_or_harmless(whole: bytes) -> None:
    good = read_image(whole).pixels
    for at in [*range(8, 80), *range(80, len(whole) - 12, 53)]:
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        try:
            image = read_image(bytes(damaged))
        except ImageError:
            continue
        np.testing.assert_array_equal(image.pixels, good)


def test_a_wrong_checksum_is_named(whole: bytes) -> None:
    at = whole.index(b"IDAT") + 6
    with pytest.raises(ImageError, match="IDAT part of the file is damaged"):
        read_image(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


def test_a_part_without_a_name_is_an_error(whole: bytes) -> None:
    at = whole.index(b"IDAT")
    with pytest.raises(ImageError, match="no valid name"):
        read_image(whole[:at] + b"ID\nT" + whole[at + 4 :])


def bomb(width: int, height: int, data: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return png_chunks.SIGNATURE + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND")


def test_too_many_pixels_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(ImageError, match=r"100000x100000 is 10,000,000,000 pixels; the limit is 89,478,485"):
        read_image(bomb(100_000, 100_000, b""))


def test_a_small_limit_is_a_limit() -> None:
    with pytest.raises(ImageError, match="--max-pixels 135300"):
        read_image("samples/chelsea.png", max_pixels=135_299)
    assert read_image("samples/chelsea.png", max_pixels=135_300).pixels.shape == (300, 451, 3)


def test_data_beyond_the_picture_are_not_unpacked() -> None:
    inflater = deflate.Inflater([zlib.compress(bytes(50_000_000))])
    target = bytearray(10)
    inflater.fill(memoryview(target))
    inflater.finish()  # asks for one byte more, and is satisfied
    image = read_image(bomb(1, 1, bytes(50_000_000)))
    assert image.pixels.tolist() == [[[0, 0, 0]]]


def test_too_little_data_is_an_error() -> None:
    with pytest.raises(ImageError, match="end too early"):
        read_image(bomb(10, 10, bytes(100)))


def test_compressed_data_that_end_too_early_are_an_error(rng: np.random.Generator) -> None:
    file = encode_image(rng.integers(0, 256, (90, 80, 3), np.uint8), "png")
    data = b"".join(png_chunks.split(memoryview(file), 1 << 20).data)
    with pytest.raises(ImageError, match="cut off"):
        read_image(file[:33] + chunk(b"IDAT", data[: len(data) // 2]) + chunk(b"IEND"))


def test_an_unknown_filter_is_an_error() -> None:
    with pytest.raises(ImageError, match="filter that does not exist"):
        read_image(bomb(1, 1, b"\5\0\0\0"))


@pytest.mark.parametrize(
    ("colour", "depth", "message"),
    [(5, 8, "colour type 5"), (2, 4, "4 bits"), (0, 3, "3 bits"), (3, 16, "16 bits")],
)
def test_impossible_headers(colour: int, depth: int, message: str) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, depth, colour, 0, 0, 0))
    with pytest.raises(ImageError, match=message):
        read_image(png_chunks.SIGNATURE + header + chunk(b"IEND"))


def test_no_size_no_data_no_palette() -> None:
    with pytest.raises(ImageError, match="0x4"):
        read_image(bomb(0, 4, b""))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 3, 0, 0, 0))
    with pytest.raises(ImageError, match="no image data"):
        read_image(png_chunks.SIGNATURE + header + chunk(b"IEND"))
    with pytest.raises(ImageError, match="palette"):
        read_image(png_chunks.SIGNATURE + header + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND"))


def test_damage_where_it_does_not_matter_is_passed_over(rng: np.random.Generator) -> None:
    samples = random_samples(rng, 3, 3, 0, 8)
    broken = bytearray(chunk(b"tEXt", b"a\0b"))
    broken[-1] ^= 1
    with pytest.warns(ImageWarning, match=r"damaged parts of the file are left out: tEXt$"):
        image = read_image(make_png(samples, 0, 8, extra=bytes(broken)))
    np.testing.assert_array_equal(image.pixels, samples.astype(np.uint8))
    assert not image.metadata.text


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"gAMA", b"\0\0"),
        (b"gAMA", bytes(4)),
        (b"cHRM", bytes(31)),
        (b"sRGB", b"\x09"),
        (b"cICP", b"\1"),
        (b"pHYs", b"\0\0"),
        (b"eXIf", b"no structure of tags"),
        (b"iCCP", b"name\0\0not packed"),
        (b"zTXt", b"Title\0\0not packed"),
        (b"tEXt", b"\0no keyword"),
        (b"qqQq", b"unknown"),
    ],
)
@pytest.mark.parametrize("checksum_is_wrong", [False, True])
def test_damaged_chunks_are_not_written(
    rng: np.random.Generator, kind: bytes, content: bytes, checksum_is_wrong: bool
) -> None:
    damaged = bytearray(chunk(kind, content))
    damaged[-1] ^= checksum_is_wrong
    good = chunk(b"tEXt", b"Author\0me") + chunk(b"pHYs", struct.pack(">IIB", 3937, 3937, 1)) * (kind != b"pHYs")
    file = make_png(random_samples(rng, 3, 3, 0, 8), 0, 8, extra=bytes(damaged) + good)
    if kind == b"qqQq" and not checksum_is_wrong:  # a kind of another program, which may hold anything
        image = read_image(file)
    else:
        with pytest.warns(ImageWarning, match=rf"damaged parts of the file are left out: {kind.decode()}$"):
            image = read_image(file)
    written = encode_image(image, "png")
    assert kind == b"tEXt" or kind == b"pHYs" or kind not in written
    with Pillow.open(io.BytesIO(written)) as picture:
        picture.load()
        assert picture.info["Author"] == "me"
        assert ("dpi" in picture.info) == (kind != b"pHYs")


def test_join_adler32_over_every_split(rng: np.random.Generator) -> None:
    data = rng.integers(0, 256, 70_000, dtype=np.uint8).tobytes()
    for at in (0, 1, 5551, 5552, 65521, 69_999, 70_000):
        joined = deflate.join_adler32(zlib.adler32(data[:at]), zlib.adler32(data[at:]), len(data) - at)
        assert joined == zlib.adler32(data)


def test_the_loops_run_as_plain_python_too() -> None:
    code = (
        "import numpy as np; from cnnfilter.images import files\n"
        "for dtype, channels in ((np.uint8, 3), (np.uint16, 2)):\n"
        "    top = np.iinfo(dtype).max\n"
        "    pixels = np.random.default_rng(1).integers(0, top, (9, 7, channels), dtype=dtype)\n"
        "    file = files.encode_image(pixels, 'png')\n"
        "    assert np.array_equal(files.read_image(file).pixels, pixels)\n"
    )
    environment = {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": ".", "PATH": ""}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment)


def test_paeth_is_the_specifications(rng: np.random.Generator) -> None:
    """The form without distances, against the specification's, over a grid that has every tie."""
    left, above, corner = np.meshgrid(*[np.arange(0, 256, 3)] * 3, indexing="ij")
    guess = left + above - corner
    distances = np.stack([abs(guess - left), abs(guess - above), abs(guess - corner)])
    expected = np.choose(distances.argmin(axis=0), [left, above, corner])
    sample = rng.integers(0, left.size, 3000)
    for index in sample:
        values = [np.int16(plane.flat[index]) for plane in (left, above, corner)]
        assert png_loops.paeth(*values) == expected.flat[index]


# --- metadata in texts ----------------------------------------------------------------------------------------


def raw_profile(kind: str, content: bytes) -> bytes:
    numbers = content.hex()
    lines = "\n".join(numbers[at : at + 72] for at in range(0, len(numbers), 72))
    value = f"\n{kind}\n{len(content):8}\n{lines}\n".encode()
    return chunk(b"zTXt", f"Raw profile type {kind}".encode() + b"\0\0" + zlib.compress(value))


def exif_of_a_turned_photo() -> bytes:
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x0131, 2, 4, 0x00636261)
    preview = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 68, 0x0202, 4, 1, 10, 0)
    head = b"II*\0" + struct.pack("<IH", 8, 2) + entry + struct.pack("<I", 38)
    return (head + preview).ljust(68, b"\0") + b"\xff\xd8\xffpreview"


@pytest.mark.parametrize("kind", ["exif", "APP1"])
def test_exif_in_a_text_turns_the_picture_and_loses_its_preview(rng: np.random.Generator, kind: str) -> None:
    extra = raw_profile(kind, b"Exif\0\0" + exif_of_a_turned_photo())
    image = read_image(make_png(random_samples(rng, 2, 3, 0, 8), 0, 8, extra=extra))
    assert image.pixels.shape == (3, 2, 1)
    written = encode_image(image, "png")
    assert b"preview" not in written
    with Pillow.open(io.BytesIO(written)) as picture:
        assert dict(picture.getexif()) == {0x0131: "abc"}
        assert not any(name.startswith("Raw profile") for name in picture.info)


def test_xmp_in_a_text_is_the_xmp_and_previews_of_photoshop_are_left_out(rng: np.random.Generator) -> None:
    packet = b"<x:xmpmeta><dc:source>a wall</dc:source><xmp:Thumbnails>a preview</xmp:Thumbnails></x:xmpmeta>"
    extra = raw_profile("xmp", packet) + raw_profile("8bim", b"8BIM\x04\x0c\0\0\xff\xd8\xffpreview")
    extra += raw_profile("iptc", b"\x1c\x02\x78\0\3abc") + chunk(b"tEXt", b"Raw profile type qq\0no numbers")
    image = read_image(make_png(random_samples(rng, 2, 3, 0, 8), 0, 8, extra=extra))
    kept = dict(image.metadata.text)
    assert kept.pop("XML:com.adobe.xmp") == "<x:xmpmeta><dc:source>a wall</dc:source></x:xmpmeta>"
    assert kept.keys() == {"Raw profile type iptc", "Raw profile type qq"}
