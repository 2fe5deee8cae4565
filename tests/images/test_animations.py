"""Frames of GIF and WebP files: each is what the standards draw, composed here by hand, pixel by pixel."""

from __future__ import annotations

import io
import struct
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image as Pillow

from cnnfilter.errors import ImageError
from cnnfilter.images import gif
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.image import Image

RED, YELLOW, BLUE, CYAN = (255, 0, 0), (255, 255, 0), (0, 0, 255), (0, 255, 255)
CLEAR = (0, 0, 0, 0)


class Frame(NamedTuple):
    """A frame: its palette indices (h, w), its place, and how it is drawn and left."""

    indices: np.ndarray
    left: int = 0
    top: int = 0
    palette: tuple[tuple[int, int, int], ...] = ()
    transparent: int | None = None
    disposal: int = 0
    interlaced: bool = False
    delay: int = 10


def square(size: tuple[int, int], index: int) -> np.ndarray:
    return np.full(size, index, np.uint8)


def gif_file(
    frames: list[Frame], screen: tuple[int, int] = (12, 8), palette: tuple[tuple[int, int, int], ...] = (RED, YELLOW)
) -> bytes:
    """Return a GIF file; its width and height are `screen`."""
    parts = [b"GIF89a", struct.pack("<HHBBB", *screen, 0x80 if palette else 0, 0, 0)]
    parts.append(b"".join(map(bytes, palette)))
    for frame in frames:
        height, width = frame.indices.shape
        flags = frame.disposal << 2 | (frame.transparent is not None)
        parts.append(b"\x21\xf9\x04" + struct.pack("<BHBB", flags, frame.delay, frame.transparent or 0, 0))
        bits = max(len(frame.palette) - 1, 1).bit_length()
        local = 0x80 | (bits - 1) if frame.palette else 0
        place = struct.pack("<HHHHB", frame.left, frame.top, width, height, local | 0x40 * frame.interlaced)
        colours = b"".join(map(bytes, frame.palette)).ljust(3 << bits if frame.palette else 0, b"\0")
        order = [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]
        rows = frame.indices[order] if frame.interlaced else frame.indices
        codes = gif.pack(rows.tobytes(), 8)[:-1]
        parts.append(b"\x2c" + place + colours + b"\x08" + codes)
    return b"".join([*parts, b";"])


def drawn_by_hand(frames: list[Frame], screen: tuple[int, int], palette: tuple[Any, ...]) -> list[np.ndarray]:
    """Return the screen after each frame (GIF89a specification, section 23; the background is transparent)."""
    width, height = screen
    pixels = {(x, y): CLEAR for x in range(width) for y in range(height)}
    shown = []
    for frame in frames:
        before = dict(pixels)
        places = [(x, y) for y in range(frame.indices.shape[0]) for x in range(frame.indices.shape[1])]
        for x, y in places:
            index = int(frame.indices[y, x])
            if index != frame.transparent and (frame.left + x, frame.top + y) in pixels:
                pixels[frame.left + x, frame.top + y] = (*(frame.palette or palette)[index], 255)
        shown.append(np.array([[pixels[x, y] for x in range(width)] for y in range(height)], np.uint8))
        for x, y in places:
            if (place := (frame.left + x, frame.top + y)) in pixels and frame.disposal in (2, 3):
                pixels[place] = CLEAR if frame.disposal == 2 else before[place]
    return shown


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[2] == 4:
        return pixels
    return np.concatenate([pixels, np.full_like(pixels[:, :, :1], 255)], axis=2)


# --- GIF ----------------------------------------------------------------------------------------------


def test_a_square_with_a_palette_of_its_own_is_cleared() -> None:
    blue = Frame(square((4, 4), 0), 4, 2, (BLUE, CYAN), disposal=2)
    file = gif_file([Frame(square((8, 12), 1), disposal=1), blue, Frame(square((2, 2), 0), disposal=1)])
    image = read_image(file)
    assert image.mode == "RGBA"
    assert tuple(image.frames[1][3, 5]) == (*BLUE, 255)
    assert tuple(image.frames[2][3, 5]) == CLEAR
    assert tuple(image.frames[2][6, 10]) == (*YELLOW, 255)
    assert tuple(image.frames[2][0, 0]) == (*RED, 255)


@pytest.mark.parametrize("seed", range(12))
def test_frames_are_those_of_the_standard(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(6):
        height, width = rng.integers(1, 9, 2)
        colours = tuple(tuple(colour) for colour in rng.integers(0, 256, (4, 3)).tolist())
        frames.append(
            Frame(
                rng.integers(0, 4, (height, width), dtype=np.uint8),
                int(rng.integers(0, 12)),
                int(rng.integers(0, 9)),
                colours if rng.random() < 0.5 else (),
                int(rng.integers(0, 4)) if rng.random() < 0.5 else None,
                int(rng.integers(0, 4)),
                bool(rng.random() < 0.3),
            )
        )
    frames[0] = frames[0]._replace(left=0, top=0)
    palette = (RED, YELLOW, BLUE, CYAN)
    file = bytearray(gif_file(frames, palette=palette))
    file[10] |= 1  # four colours
    image = read_image(bytes(file))
    for frame, wanted in zip(image.frames, drawn_by_hand(frames, (12, 8), palette), strict=True):
        np.testing.assert_array_equal(with_alpha(frame), wanted)


def test_a_still_picture_that_does_not_fill_the_screen_is_transparent_around() -> None:
    image = read_image(gif_file([Frame(square((4, 4), 1), 4, 2)]))
    assert image.mode == "RGBA"
    assert not image.frames
    assert tuple(image.pixels[3, 5]) == (*YELLOW, 255)
    assert tuple(image.pixels[0, 0]) == CLEAR


def test_the_screen_grows_to_the_first_frame_only() -> None:
    frames = [Frame(square((9, 14), 1), 0, 0), Frame(square((20, 20), 0), 3, 3)]
    image = read_image(gif_file(frames))
    assert [frame.shape for frame in image.frames] == [(9, 14, 3)] * 2
    assert tuple(image.frames[1][8, 13]) == RED
    assert tuple(image.frames[1][2, 13]) == YELLOW


def test_frames_without_any_palette_are_grey() -> None:
    image = read_image(gif_file([Frame(square((8, 12), 7)), Frame(square((2, 2), 9))], palette=()))
    assert image.frames[1][0, 0].tolist() == [9, 9, 9]
    assert image.frames[1][7, 7].tolist() == [7, 7, 7]


def test_delays_and_frames_are_counted() -> None:
    frames = [Frame(square((8, 12), 1), delay=delay) for delay in (5, 0, 200)]
    assert read_image(gif_file(frames)).durations == (50, 0, 2000)
    with pytest.raises(ImageError, match="3 frames of 12x8 is 288 pixels"):
        read_image(gif_file(frames), max_pixels=287)
    before, size, after = gif_file(frames).rpartition(struct.pack("<HHHH", 0, 0, 12, 8))
    with pytest.raises(ImageError, match="65535x65535 is 4,294,836,225 pixels"):
        read_image(before + size[:4] + b"\xff" * 4 + after)


def test_a_frame_whose_data_end_early_is_refused() -> None:
    file = gif_file([Frame(square((8, 12), 1)), Frame(square((8, 12), 0))])
    codes = gif.pack(square((8, 12), 0).tobytes(), 8)[:-1]
    short = gif.pack(square((4, 12), 0).tobytes(), 8)[:-1]
    assert file.count(codes) == 1
    with pytest.raises(ImageError):
        read_image(file.replace(codes, short))


def test_what_is_written_as_gif_is_read_as_it_was() -> None:
    frames = drawn_by_hand(
        [Frame(square((8, 12), 1)), Frame(square((4, 4), 0), 4, 2, (BLUE, CYAN), disposal=2), Frame(square((2, 2), 0))],
        (12, 8),
        (RED, YELLOW),
    )
    image = Image(frames[0], "RGBA", frames=tuple(frames), durations=(40, 50, 60), loop=0)
    back = read_image(encode_image(image, "gif"))
    for frame, wanted in zip(back.frames, frames, strict=True):
        np.testing.assert_array_equal(with_alpha(frame), wanted)
    assert back.durations == (40, 50, 60)


# --- WebP ---------------------------------------------------------------------------------------------


def webp_file(frames: list[tuple[np.ndarray, int, int, bool, bool]], screen: tuple[int, int]) -> bytes:
    """Return an animation of (pixels, left, top, is blended, is cleared afterwards), with even offsets."""

    def three_bytes(value: int) -> bytes:
        return value.to_bytes(3, "little")

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    parts = [chunk(b"VP8X", bytes([0x12, 0, 0, 0]) + three_bytes(screen[0] - 1) + three_bytes(screen[1] - 1))]
    parts.append(chunk(b"ANIM", bytes([0, 0, 255, 255]) + bytes(2)))
    for pixels, left, top, blended, cleared in frames:
        stream = io.BytesIO()
        Pillow.fromarray(pixels).save(stream, "WebP", lossless=True, exact=True)
        still = stream.getvalue()
        body = still[still.index(b"VP8L") :]
        head = three_bytes(left // 2) + three_bytes(top // 2) + three_bytes(pixels.shape[1] - 1)
        head += three_bytes(pixels.shape[0] - 1) + three_bytes(40) + bytes([(not blended) << 1 | cleared])
        parts.append(chunk(b"ANMF", head + body))
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("seed", range(6))
def test_webp_frames_are_those_of_the_standard(seed: int) -> None:
    """The canvas is transparent at first, whatever the colour of the background in the file is (RFC 9649)."""
    rng = np.random.default_rng(seed)
    frames: list[tuple[np.ndarray, int, int, bool, bool]] = []
    for _ in range(6):
        pixels = rng.integers(0, 256, (*rng.integers(1, 7, 2), 4), dtype=np.uint8)
        pixels[:, :, 3] = rng.choice([0, 255], pixels.shape[:2])
        left, top = (2 * rng.integers(0, 3, 2)).tolist()
        frames.append((pixels, left, top, bool(rng.random() < 0.5), bool(rng.random() < 0.5)))
    canvas = np.zeros((10, 12, 4), np.uint8)
    image = read_image(webp_file(frames, (12, 10)))
    for seen, (pixels, left, top, blended, cleared) in zip(image.frames, frames, strict=True):
        region = canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]]
        region[...] = np.where(blended & (pixels[:, :, 3:] == 0), region, pixels)
        seen = with_alpha(seen)
        np.testing.assert_array_equal(seen[:, :, 3], canvas[:, :, 3])
        visible = canvas[:, :, 3] > 0
        np.testing.assert_array_equal(seen[visible], canvas[visible])
        if cleared:
            region[...] = 0
