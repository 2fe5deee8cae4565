"""``--axes``: volumes slice by slice, and arrays with their channels first, for every command."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from cnnfilter import convolve, pool
from cnnfilter.cli import main


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def volume(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    slices = rng.integers(0, 256, (5, 30, 40)).astype(np.uint8)
    np.save("volume.npy", slices)
    return slices


def test_a_volume_is_refused_or_filtered_slice_by_slice(volume):
    for command in (["convolve", "-k", "blur"], ["pool"], ["apply", "conv blur"], ["classify"]):
        error = run(*command, "volume.npy", code=1).stderr
        assert "has 40 channels as (H, W, C); --axes hwc takes it so" in error
        assert "zyx takes 5 slices of 30 rows" in error
    run("convolve", "volume.npy", "-k", "sobel-h", "--axes", "zyx", "-o", "edges.npy")
    wanted = [convolve(each, "sobel-h") for each in volume]
    np.testing.assert_array_equal(np.load("edges.npy"), np.stack(wanted).squeeze())
    run("pool", "volume.npy", "--axes", "zyx", "-o", "small.npy")
    np.testing.assert_array_equal(np.load("small.npy"), np.stack([pool(each) for each in volume]).squeeze())
    run("convolve", "volume.npy", "-k", "sobel-h", "--axes", "hwc", "-o", "channels.npy")
    assert np.load("channels.npy").shape == (5, 30, 40)
    assert not np.array_equal(np.load("channels.npy"), np.load("edges.npy"))
    assert "Warning: volume.npy: only the first of 5 pages" in run("classify", "volume.npy", "--axes", "zyx").stderr


def test_channels_first_stay_first(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    pixels = rng.integers(0, 256, (3, 30, 40)).astype(np.uint8)
    np.save("torch.npy", pixels)
    np.save("last.npy", pixels.transpose(1, 2, 0))
    run("convolve", "torch.npy", "-k", "blur", "--axes", "chw", "-o", "a.npy")
    run("convolve", "last.npy", "-k", "blur", "-o", "b.npy")
    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy").transpose(2, 0, 1))
    told = run("classify", "torch.npy", "--axes", "chw", "--top", 1).stdout
    assert told == run("classify", "last.npy", "--top", 1).stdout


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((60, 3, 32, 32), None, "axes: 60x3x32x32 is (N, C, H, W), channels first"),
        ((60, 1, 8, 9), None, "axes: 60x1x8x9 is (N, C, H, W), channels first"),
        ((60, 8, 9, 3), None, ""),
        ((60, 8, 9), None, ""),
        ((60, 3, 9, 3), "nchw", "axes: 60x3x9x3 is (N, C, H, W), channels first"),
        ((60, 3, 9, 3), "nhwc", ""),
    ],
)
def test_training_turns_channels_to_the_end(tmp_path, monkeypatch, rng, shape, axes, message):
    monkeypatch.chdir(tmp_path)
    np.savez("d.npz", images=rng.integers(0, 256, shape).astype(np.uint8), labels=np.arange(60) % 2)
    more = ["--axes", axes] if axes else []
    arguments = ["train", "d.npz", "-o", "m.safetensors", "--layers", "flatten | dense 2", "--epochs", 1, *more]
    assert (message or "d.npz: 60") in run(*arguments, "--dry-run").stderr.splitlines()[0]
    run(*arguments)
    assert "accuracy" in run("evaluate", "m.safetensors", "d.npz", *more).stdout


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((60, 3, 9, 3), "60x3x9x3 may be (N, H, W, C) with 3 channels, or (N, C, H, W) with 3; --axes nhwc or nchw"),
        ((60, 9, 8, 7), "60x9x8x7 has 7 channels as (N, H, W, C), and 9 as (N, C, H, W); 1 (grey) and 3 (RGB)"),
    ],
)
def test_axes_that_are_not_clear_are_refused_before_training(tmp_path, monkeypatch, rng, shape, message):
    monkeypatch.chdir(tmp_path)
    np.savez("d.npz", images=rng.integers(0, 256, shape).astype(np.uint8), labels=np.arange(60) % 2)
    arguments = ["train", "d.npz", "-o", "m.safetensors", "--layers", "flatten | dense 2", "--dry-run"]
    assert message in run(*arguments, code=1).stderr


def test_arrays_in_class_folders(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        folder = tmp_path / "d" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number}.npy", rng.integers(0, 256, (3, 20, 24)).astype(np.uint8))
    arguments = ["train", "d", "-o", "m.safetensors", "--layers", "flatten | dense 2", "--epochs", 1]
    assert "--axes hwc takes it so, chw takes 3 channels of 20 rows" in run(*arguments, code=1).stderr
    assert "input    20x24x3" in run(*arguments, "--axes", "chw", "--dry-run").stderr
    run(*arguments, "--axes", "chw")
