"""Make the pictures of this folder from those of the scikit-image 0.26 wheel (which must be installed).

    python samples/make.py

README.md says what each is and under which licence.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

from cnnfilter import read_image, write_image

HERE = Path(__file__).parent
DATA = Path(skimage.__file__).parent / "data"


def copy() -> None:
    """Take the photos as they are."""
    for name in ("chelsea", "camera", "coffee", "brick", "grass", "coins"):
        shutil.copyfile(DATA / f"{name}.png", HERE / f"{name}.png")
    shutil.copyfile(DATA / "rocket.jpg", HERE / "rocket.jpg")


def photo(name: str) -> Image.Image:
    """Open a photo of the wheel."""
    return Image.open(DATA / name)


def sixteen_bits() -> None:
    """Average blocks of 2x2 pixels: the sums of four bytes fill ten bits, all of which are kept."""
    for name, target in (("coffee.png", "coffee-16bit.png"), ("coins.png", "coins-16bit.png")):
        pixels = np.asarray(photo(name)).astype(np.uint32)
        height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
        blocks = pixels[:height, :width].reshape(height // 2, 2, width // 2, 2, -1).sum(axis=(1, 3))
        write_image(HERE / target, (blocks * 65535 // 1020).astype(np.uint16))


def palette() -> None:
    """The rocket in 64 colours."""
    small = photo("rocket.jpg").resize((320, 214), Image.Resampling.LANCZOS)
    small.quantize(64).save(HERE / "rocket-palette.png", optimize=True)


def alpha() -> None:
    """The cat's head cut out with a soft edge; beneath lies a hidden colour that must not bleed."""
    pixels = np.asarray(photo("chelsea.png"))[:240, 110:350]
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    distance = np.hypot((y - 120) / 115, (x - 120) / 115)
    opacity = (np.clip((1 - distance) * 12, 0, 1) * 255).astype(np.uint8)[:, :, None]
    colour = np.where(opacity > 0, pixels, np.array([255, 0, 255], np.uint8))
    write_image(HERE / "chelsea-alpha.png", np.concatenate([colour, opacity], axis=2))


def inks() -> None:
    """Coffee in four inks, with grey replaced by black."""
    pixels = np.asarray(photo("coffee.png").resize((300, 200), Image.Resampling.LANCZOS)).astype(float) / 255
    black = 1 - pixels.max(axis=2, keepdims=True)
    colours = (1 - pixels - black) / np.maximum(1 - black, 1e-6)
    inks = np.concatenate([colours, black], axis=2)
    Image.frombytes("CMYK", (300, 200), (inks * 255 + 0.5).astype(np.uint8).tobytes()).save(
        HERE / "coffee-cmyk.jpg", quality=90
    )


def turned() -> None:
    """The rocket as a camera held upright writes it: lying, with EXIF orientation 6."""
    upright = photo("rocket.jpg").crop((220, 0, 505, 427))
    exif = Image.Exif()
    exif[0x010E] = "Falcon 9 carrying DSCOVR, stored lying, shown upright"
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(HERE / "rocket-rotated.jpg", quality=90, exif=exif)


def animation() -> None:
    """A window that moves along the coins and back, and waits at both ends."""
    coins = photo("coins.png").resize((256, 202), Image.Resampling.LANCZOS)
    steps = [*range(0, 121, 15), *range(105, 0, -15)]
    frames = [coins.crop((step, 40, step + 120, 160)).quantize(32) for step in steps]
    durations = [400 if step in (0, 120) else 80 for step in steps]
    frames[0].save(HERE / "coins.gif", save_all=True, append_images=frames[1:], duration=durations, loop=0, disposal=1)


def main() -> None:
    """Make all of them."""
    for make in (copy, sixteen_bits, palette, alpha, inks, turned, animation):
        make()
    for path in sorted(HERE.glob("*.*g*")):
        image = read_image(path)
        print(
            path.name,
            path.stat().st_size,
            image.mode,
            image.pixels.dtype,
            image.pixels.shape,
            len(image.frames),
        )


if __name__ == "__main__":
    main()
