"""Pictures that are there twice: in two splits, or in two classes of one split."""

from __future__ import annotations

import io
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from cnnfilter import load_folder
from cnnfilter.cli import main
from cnnfilter.networks.model_file import Preparation
from cnnfilter.networks.preparation import fit
from cnnfilter.training.data.duplicates import find_duplicates, fingerprint
from cnnfilter.training.data.examples import read_each

SAMPLES = Path(__file__).parents[2] / "samples"


def test_duplicates_across_splits(tmp_path, rng):
    pictures = [rng.integers(0, 256, (8, 8, 3)).astype(np.uint8) for _ in range(12)]
    for number, pixels in enumerate(pictures):
        path = tmp_path / ("train" if number < 6 else "val") / "ab"[number % 2] / f"{number}.png"
        os.makedirs(path.parent, exist_ok=True)
        Image.fromarray(pixels).resize((120, 90), Image.Resampling.BICUBIC).save(path)
    same, near = tmp_path / "val/a/same.png", tmp_path / "val/b/near.jpg"
    same.write_bytes((tmp_path / "train/a/0.png").read_bytes())
    Image.open(tmp_path / "train/b/1.png").resize((60, 45)).save(near, quality=80)
    found = load_folder(tmp_path)
    prints = {
        split: read_each(part, lambda index, image: fingerprint(image.pixels))[0]
        for split, part in found.splits.items()
    }
    pairs = {
        (os.path.basename(pair.one), os.path.basename(pair.other), pair.exact)
        for pair in find_duplicates(found.splits, prints)
    }
    assert pairs == {("0.png", "same.png", True), ("1.png", "near.jpg", False)}


def test_even_pictures_are_no_near_duplicates():
    assert not any(fingerprint(np.full((20, 20, 1), 7, np.uint8)))


# --- the measurement of the thresholds -------------------------------------------------------------------


def shapes(count):
    """Return shapes of another form, colour, size and place each, on white."""
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        picture = Image.new("RGB", (160, 160), "white")
        draw = ImageDraw.Draw(picture)
        x, y = map(int, rng.integers(50, 80, 2))
        size = int(rng.integers(16, 32))
        colour = tuple(map(int, rng.integers(20, 200, 3)))
        kind = (draw.ellipse, draw.rectangle, draw.polygon)[number % 3]
        box = (x, y, x + size, y + size)
        kind(box if number % 3 < 2 else [(x + size // 2, y), (x, y + size), (x + size, y + size)], fill=colour)
        found.append(picture)
    return found


def photos():
    names = ("brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "rocket.jpg")
    pictures = []
    for name in names:
        with Image.open(SAMPLES / name) as picture:
            pictures.append(picture.convert("RGB"))
    return pictures


def textures(count):
    y, x = np.mgrid[:32, :32].astype(float)
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        tilt, width, phase = rng.uniform(0, 3), rng.uniform(0.4, 0.8), rng.uniform(0, 6)
        wave = np.sin((x * np.cos(tilt) + y * np.sin(tilt)) * width + phase)[:, :, None] * 0.5 + 0.5
        pixels = wave * rng.uniform(80, 255, 3) + rng.normal(0, 8, (32, 32, 1))
        found.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    return found


def copies(picture):
    """Yield copies that were encoded or resized again."""
    for kind, options in [("JPEG", {"quality": 30}), ("JPEG", {"quality": 75}), ("WEBP", {"quality": 50}), ("GIF", {})]:
        data = io.BytesIO()
        picture.save(data, kind, **options)
        with Image.open(data) as read:
            yield read.convert("RGB")
    if picture.width > 100:
        for factor in (0.3, 0.5, 2):
            size = [round(side * factor) for side in picture.size]
            yield picture.resize(size, Image.Resampling.LANCZOS)
            yield picture.resize(size, Image.Resampling.BILINEAR)


class Given:
    """Examples of which only names, labels and a checksum are asked."""

    def __init__(self, name, labels):
        self.title, self.labels = name, np.array(labels)

    def __len__(self):
        return len(self.labels)

    def name(self, index):
        return f"{self.title}{index}"

    def digest(self, index):
        return self.name(index).encode()


def prints(pictures, shape):
    return [fingerprint(fit(np.asarray(picture), shape, Preparation())) for picture in pictures]


@pytest.mark.parametrize("shape", [(224, 224, 3), (64, 64, 3), (32, 32, 1)])
@pytest.mark.parametrize(("make", "count"), [(shapes, 60), (textures, 60), (lambda count: photos(), 7)])
def test_different_pictures_are_no_duplicates_and_copies_are(make, count, shape):
    pictures = make(count)
    found = prints(pictures, shape)
    pairs = itertools.combinations(range(len(pictures)), 2)
    alarms = tests = 0
    for one, other in pairs:
        tests += 1
        splits = {"train": Given("a", [0]), "test": Given("b", [0])}
        alarms += len(find_duplicates(splits, {"train": [found[one]], "test": [found[other]]}))
    assert alarms * 200 <= tests
    if shape[2] == 3 and make is not textures:
        assert alarms == 0
    for number in range(0, len(pictures), max(1, len(pictures) // 7)):
        again = prints(copies(pictures[number]), shape)
        splits = {"train": Given("a", [0]), "test": Given("b", [0] * len(again))}
        assert len(find_duplicates(splits, {"train": [found[number]], "test": again})) == len(again)


def test_many_pictures_are_compared_in_blocks(rng):
    pictures = rng.integers(0, 256, (1300, 16, 16, 3)).astype(np.uint8)
    found = [fingerprint(picture) for picture in pictures]
    splits = {"train": Given("a", [0] * 700), "test": Given("b", [0] * 601)}
    shared = find_duplicates(splits, {"train": found[:700], "test": [*found[700:], found[3]]})
    assert [(pair.one, pair.other) for pair in shared] == [("a3", "b600")]


# --- one picture in two classes --------------------------------------------------------------------------


def test_the_same_picture_in_two_classes_of_one_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, picture in enumerate(textures(24)):
        path = Path("t", "train" if number < 16 else "val", ("cat", "dog")[number % 2], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    layers = ("--layers", "flatten | dense 2", "--epochs", "1")
    told = CliRunner().invoke(main, ["train", "t", "-o", "m.safetensors", *layers])
    assert "Warning" not in told.stderr
    Path("t/train/cat/same.png").write_bytes(Path("t/train/dog/1.png").read_bytes())
    Path("t/train/cat/again.png").write_bytes(Path("t/train/cat/0.png").read_bytes())  # twice in one class
    with Image.open("t/train/dog/3.png") as picture:
        picture.save("t/train/cat/other.jpg", quality=90)
    told = CliRunner().invoke(main, ["train", "t", "-o", "m.safetensors", "--force", *layers])
    assert told.stderr.splitlines()[-2] == (
        "Warning: pictures in two classes, one of which is wrong: 2, such as t/train/cat/same.png (cat) is the same "
        "bytes as t/train/dog/1.png (dog)"
    )
    assert "in two splits" not in told.stderr


def test_the_same_array_in_two_classes_and_two_splits(tmp_path, rng):
    pixels = rng.integers(0, 256, (8, 6, 6)).astype(np.uint8)
    pixels[5] = pixels[2]
    np.savez(tmp_path / "d.npz", x_train=pixels, y_train=np.arange(8) % 2, x_test=pixels[:1], y_test=[1])
    found = load_folder(tmp_path / "d.npz", validation=0)
    pairs = find_duplicates(found.splits)
    assert [(pair.one, pair.label, pair.other, pair.other_label, pair.exact) for pair in pairs] == [
        ("d.npz:x_train#2", 0, "d.npz:x_train#5", 1, True),
        ("d.npz:x_train#0", 0, "d.npz:x_test#0", 1, True),
    ]
