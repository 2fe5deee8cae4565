"""Animated PNG against Pillow, for each way to draw a frame and to leave it."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from cnnfilter.errors import ImageError
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.image import Image
from tests.images.test_png import chunk


def frames_of(file: bytes, mode: str) -> list[np.ndarray]:
    picture = Pillow.open(io.BytesIO(file))
    frames = []
    for index in range(picture.n_frames):
        picture.seek(index)
        frames.append(np.asarray(picture.convert(mode)))
    return frames


def animation(rng: np.random.Generator, channels: int, dtype: type = np.uint8) -> Image:
    top = np.iinfo(dtype).max
    first = rng.integers(0, top, (12, 10, channels), dtype=dtype)
    second = first.copy()
    second[3:5, 2:9] = 7
    frames = (first, second, second.copy(), rng.integers(0, top, (12, 10, channels), dtype=dtype))
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    return Image(first, mode, frames=frames, durations=(40, 120, 70000, 1), loop=3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_round_trip(rng: np.random.Generator, channels: int, dtype: type) -> None:
    image = animation(rng, channels, dtype)
    back = read_image(encode_image(image, "png"))
    assert back.mode == image.mode
    assert back.durations == image.durations
    assert back.loop == 3
    assert len(back.frames) == 4
    for ours, theirs in zip(back.frames, image.frames, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("loop", [None, 0, 1, 5])
def test_repetitions_round_trip(rng: np.random.Generator, loop: int | None) -> None:
    image = animation(rng, 3).replace(loop=loop)
    file = encode_image(image, "png")
    assert read_image(file).loop == loop
    assert Pillow.open(io.BytesIO(file)).info["loop"] == (0 if loop == 0 else (loop or 0) + 1)


def test_pillow_sees_the_same_frames_and_times(rng: np.random.Generator) -> None:
    image = animation(rng, 4)
    file = encode_image(image, "png")
    for ours, theirs in zip(image.frames, frames_of(file, "RGBA"), strict=True):
        np.testing.assert_array_equal(theirs, ours)
    picture = Pillow.open(io.BytesIO(file))
    picture.seek(1)
    assert picture.info["duration"] == 120


# Not (2, 1): Pillow 13 draws such a frame on the very picture that it restores afterwards.
@pytest.mark.parametrize(("dispose", "blend"), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)])
def test_frames_are_composed_as_pillow_composes_them(rng: np.random.Generator, dispose: int, blend: int) -> None:
    pictures = []
    for index in range(5):
        pixels = rng.integers(0, 256, (9, 9, 4), dtype=np.uint8)
        pixels[:, :, 3] = rng.choice([0, 255], (9, 9))  # between them, roundings differ
        if index:
            pixels[: 2 + index] = np.asarray(pictures[-1])[: 2 + index]
        pictures.append(Pillow.fromarray(pixels))
    stream = io.BytesIO()
    options = {"duration": [10, 20, 30, 40, 50], "disposal": dispose, "blend": blend}
    pictures[0].save(stream, "PNG", save_all=True, append_images=pictures[1:], **options)
    image = read_image(stream.getvalue())
    theirs = frames_of(stream.getvalue(), "RGBA")
    assert len(image.frames) == len(theirs)
    for ours, expected in zip(image.frames, theirs, strict=True):
        np.testing.assert_array_equal(ours[:, :, 3], expected[:, :, 3])
        visible = expected[:, :, 3] > 0
        np.testing.assert_array_equal(ours[visible], expected[visible])


def by_hand(*frames: tuple[tuple[int, int, int, int], int, int]) -> bytes:
    """An animation of one pixel: (colour, dispose, blend) of each frame."""
    parts = [chunk(b"acTL", struct.pack(">II", len(frames), 0))]
    for index, (colour, dispose, blend) in enumerate(frames):
        parts.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 10, dispose, blend)))
        data = zlib.compress(b"\0" + bytes(colour))
        parts.append(chunk(b"fdAT", bytes(4) + data) if index else chunk(b"IDAT", data))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 6, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *parts, chunk(b"IEND")])


def test_restored_after_drawn_over() -> None:
    red, green, nothing = (255, 0, 0, 255), (0, 255, 0, 255), (9, 9, 9, 0)
    image = read_image(by_hand((red, 0, 0), (green, 2, 1), (nothing, 0, 1)))
    assert [frame[0, 0].tolist() for frame in image.frames] == [[255, 0, 0], [0, 255, 0], [255, 0, 0]]
    assert image.durations == (100, 100, 100)


def test_the_first_frame_cannot_be_restored_but_is_cleared() -> None:
    image = read_image(by_hand(((255, 0, 0, 255), 2, 0), ((9, 9, 9, 0), 0, 1)))
    assert image.frames[1].tolist() == [[[0, 0, 0, 0]]]


def test_half_transparent_on_half_transparent() -> None:
    def picture(value: int, alpha: int) -> Pillow.Image:
        return Pillow.new("RGBA", (1, 1), (value, value, value, alpha))

    stream = io.BytesIO()
    picture(0, 128).save(stream, "PNG", save_all=True, append_images=[picture(255, 128)], blend=1, duration=10)
    image = read_image(stream.getvalue())
    # By hand: alpha 1 - (127/255)² = 0.752 -> 191.75; colour 0.502 / 0.752 = 0.6675 -> 170.2
    assert image.frames[1].tolist() == [[[170, 170, 170, 192]]]


def test_a_picture_before_the_animation_is_no_frame_of_it(rng: np.random.Generator) -> None:
    pictures = [Pillow.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in range(3)]
    stream = io.BytesIO()
    pictures[0].save(stream, "PNG", save_all=True, append_images=pictures[1:], default_image=True, duration=[10, 20])
    image = read_image(stream.getvalue())
    assert len(image.frames) == 2
    np.testing.assert_array_equal(image.pixels, np.asarray(pictures[1]))


def test_palette_frames(rng: np.random.Generator) -> None:
    pictures = [Pillow.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).quantize(9) for _ in range(2)]
    stream = io.BytesIO()
    pictures[0].save(stream, "PNG", save_all=True, append_images=[pictures[0].rotate(90)], duration=10)
    image = read_image(stream.getvalue())
    np.testing.assert_array_equal(image.frames[1], np.asarray(pictures[0].rotate(90).convert("RGB")))


def test_the_limit_counts_all_frames(rng: np.random.Generator) -> None:
    file = encode_image(animation(rng, 3), "png")
    with pytest.raises(ImageError, match="4 frames of 10x12 is 480 pixels"):
        read_image(file, max_pixels=479)
    assert len(read_image(file, max_pixels=480).frames) == 4


def test_a_frame_beyond_the_picture_is_an_error(rng: np.random.Generator) -> None:
    file = encode_image(animation(rng, 3), "png")
    at = file.index(b"fcTL", file.index(b"fcTL") + 4)
    content = bytearray(file[at + 4 : at + 30])
    struct.pack_into(">I", content, 12, 9)
    damaged = file[: at - 4] + chunk(b"fcTL", bytes(content)) + file[at + 34 :]
    with pytest.raises(ImageError, match="beyond the picture"):
        read_image(damaged)


def test_only_what_changed_is_written(rng: np.random.Generator) -> None:
    still = rng.integers(0, 256, (100, 100, 3), dtype=np.uint8)
    moved = still.copy()
    moved[50, 50] ^= 255
    image = Image(still, "RGB", frames=(still, moved), durations=(10, 10), loop=0)
    assert len(encode_image(image, "png")) < len(encode_image(still, "png")) + 300
