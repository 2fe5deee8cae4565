"""One scale for all float pictures of a data set, in every kind of file, kept in the model."""

from __future__ import annotations

import os

import numpy as np
import pytest

from cnnfilter import evaluate, load_folder, load_model, train, write_image
from cnnfilter.errors import DataError

LAYERS = "flatten | dense 2"


@pytest.fixture
def pictures(rng):
    """Stripes across (0) and down (1), as bytes."""
    ramp = np.linspace(30, 220, 12)[:, None] + rng.normal(0, 9, (80, 12, 12))
    labels = np.arange(80) % 2
    return np.where(labels[:, None, None] == 1, ramp, ramp.transpose(0, 2, 1)).clip(0, 255).astype(np.uint8), labels


def save(path, pixels, labels, test=None):
    test = pixels[60:] if test is None else test
    np.savez(path, x_train=pixels[:60], y_train=labels[:60], x_test=test, y_test=labels[60:])
    return path


def folder_of(path, pixels, labels, suffix):
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        split = "train" if number < 60 else "test"
        os.makedirs(path / split / str(label), exist_ok=True)
        write_image(path / split / str(label) / f"{number:02}.{suffix}", picture)
    return path


def bytes_of(found):
    return [np.asarray(getattr(picture, "pixels", picture)).squeeze() for picture in map(found.train.read, range(60))]


@pytest.mark.parametrize(
    ("factor", "offset", "given", "scale"),
    [
        (1 / 255, 0, None, (0, 1)),
        (1, 0, None, (0, 255)),
        (1 / 255, -0.5, (-0.5, 0.5), (-0.5, 0.5)),
        (257, 0, None, (0, 65535)),
    ],
)
def test_every_kind_of_file_has_the_same_scale(tmp_path, pictures, factor, offset, given, scale):
    pixels, labels = pictures
    floats = (pixels * np.float64(factor) + offset).astype(np.float32)
    order = np.concatenate([np.flatnonzero(labels[:60] == label) for label in (0, 1)])
    for found, rows in [
        (load_folder(save(tmp_path / "d.npz", floats, labels), scale=given, validation=0), range(60)),
        (load_folder(folder_of(tmp_path / "npy", floats, labels, "npy"), scale=given, validation=0), order),
        (load_folder(folder_of(tmp_path / "tif", floats, labels, "tif"), scale=given, validation=0), order),
    ]:
        assert found.scale == scale
        assert found.scale_note.startswith(f"scale: floats from {floats.min():.6g} to {floats.max():.6g} are on ")
        np.testing.assert_array_equal(bytes_of(found), pixels[list(rows)])


def test_the_scale_stays_in_the_model(tmp_path, pictures):
    pixels, labels = pictures
    save(tmp_path / "bytes.npz", pixels, labels)
    centred = (pixels / 255 - 0.5).astype(np.float32)
    save(tmp_path / "centred.npz", centred, labels)
    plain = train(load_folder(tmp_path / "bytes.npz"), layers=LAYERS, epochs=8, batch=8)
    trained = train(load_folder(tmp_path / "centred.npz", scale=(-0.5, 0.5)), layers=LAYERS, epochs=8, batch=8)
    trained.save(tmp_path / "m.safetensors")
    network = load_model(tmp_path / "m.safetensors")
    assert network.preparation.scale == (-0.5, 0.5)
    assert evaluate(network, tmp_path / "centred.npz").accuracy == plain.evaluation.accuracy > 0.9
    np.testing.assert_array_equal(network.predict(list(centred)), plain.network.predict(list(pixels)))
    np.testing.assert_array_equal(network.predict(list(pixels)), plain.network.predict(list(pixels)))


def test_a_head_keeps_the_scale(tmp_path, rng):
    pixels = rng.uniform(0, 16, (8, 9, 9)).astype(np.float32)
    np.savez(tmp_path / "d.npz", images=pixels, labels=np.arange(8) % 2)
    trained = train(load_folder(tmp_path / "d.npz", scale=(0, 16)))
    trained.save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").preparation.scale == (0, 16)


def test_digits_of_scikit_learn(tmp_path):
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    for dtype in (np.float64, np.int64):
        np.savez(tmp_path / "d.npz", images=digits.images[:1200].astype(dtype), labels=digits.target[:1200])
        for scale in (None, (0, 16)):
            found = load_folder(tmp_path / "d.npz", scale=scale)
            assert ("; if 16 is white, --scale 0,16 says so" in found.scale_note) == (scale is None)
            trained = train(found, layers="flatten | dense 10", epochs=10, batch=32)
            assert trained.evaluation.accuracy > 0.85


def test_one_pixel_beyond_the_scale_changes_nothing_silently(tmp_path, pictures):
    pixels, labels = pictures
    floats = (pixels / 255).astype(np.float32)
    test = floats[60:].copy()
    test[0, 0, 0] = 1.02
    path = save(tmp_path / "d.npz", floats, labels, test)
    with pytest.raises(DataError, match=r"d.npz: floats from 0.* to 1.02 fit neither .*--scale LO,HI"):
        load_folder(path)
    found = load_folder(path, scale=(0, 1))
    assert found.scale_note.endswith("; 1 of 11,520 samples lie outside it and are clipped")
    with pytest.raises(
        DataError, match=r"has floats from .*, far outside the scale 0…0.1; --scale LO,HI names another"
    ):
        load_folder(path, scale=(0, 0.1))


def test_a_dark_split_stays_dark_and_two_scales_are_refused(tmp_path, pictures):
    pixels, labels = pictures
    floats = pixels.astype(np.float32)
    found = load_folder(save(tmp_path / "dark.npz", floats, labels, floats[60:] / 255))
    assert found.scale == (0, 255)
    assert max(picture.max() for picture in map(found.test.read, range(20))) == 1
    assert f"(test {floats[60:].min() / 255:.6g} to " in found.scale_note
    with pytest.raises(DataError, match="two scales: 60 of 60 pictures of train are within 0…1, others reach 2"):
        load_folder(save(tmp_path / "mixed.npz", floats / 255, labels, floats[60:]))
    folder = folder_of(tmp_path / "npy", floats, labels, "npy")
    for path in sorted((folder / "train" / "1").iterdir())[:20]:
        np.save(path, np.load(path) / 255)
    with pytest.raises(DataError, match="two scales: 20 of 60 pictures of train"):
        load_folder(folder)


def test_bytes_have_no_scale(tmp_path, pictures):
    pixels, labels = pictures
    found = load_folder(save(tmp_path / "d.npz", pixels, labels))
    assert (found.scale, found.scale_note) == (None, "")
    with pytest.raises(DataError, match=r"16-bit pictures that reach .* of 65535 are black; stored as bytes"):
        load_folder(save(tmp_path / "d.npz", pixels.astype(np.uint16), labels))
    assert load_folder(save(tmp_path / "d.npz", pixels > 99, labels)).scale == (0, 1)
    for scale in ((1, 0), (0, np.inf)):
        with pytest.raises(DataError, match="is not a scale LO,HI"):
            load_folder(tmp_path / "d.npz", scale=scale)


def test_splits_of_an_npz_may_have_different_types(tmp_path, pictures):
    """Floats of both sizes and integers: each is on its own range, and the floats of all splits on one."""
    pixels, labels = pictures
    floats = (pixels / 255).astype(np.float32)
    for name, first, test, scale in [
        ("floats", pixels / 255, floats[60:], (0, 1)),
        ("bytes", pixels, floats[60:], (0, 1)),
        ("numbers", pixels, pixels[60:].astype(np.float32), (0, 255)),
        ("deep", pixels, pixels[60:].astype(np.uint16) * 257, None),
    ]:
        found = load_folder(save(tmp_path / f"{name}.npz", first, labels, test), validation=0)
        assert found.scale == scale, name
        for number, shown in enumerate(map(found.test.read, range(20))):
            values = np.asarray(getattr(shown, "pixels", shown)).squeeze()
            top = 65535 if values.dtype == np.uint16 else 255
            assert np.abs(values / top - pixels[60 + number] / 255).max() <= 0.5 / 255, name
