"""``--scale``: the values of float pictures that are black and white, for every command that asks a network."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cnnfilter import write_image
from cnnfilter.cli import main


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def picture(tmp_path, monkeypatch, rng):
    """One picture as bytes, and as floats on other scales."""
    monkeypatch.chdir(tmp_path)
    pixels = (rng.integers(0, 2, (9, 9, 3)) * 180 + 30).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    write_image("bytes.png", pixels)
    unit = (pixels / 255).astype(np.float32)
    for suffix in ("npy", "tif"):
        write_image(f"unit.{suffix}", unit)
        write_image(f"centred.{suffix}", unit - np.float32(0.5))
    np.save("ints.npy", pixels.astype(np.int32))
    return pixels


def labels_of(*arguments):
    return list(csv.DictReader(run("classify", *arguments, "--top", 1, "--format", "csv", "-q").stdout.splitlines()))


def test_the_answer_does_not_depend_on_the_kind_of_file(picture):
    rows = labels_of("bytes.png", "unit.npy", "unit.tif", "ints.npy")
    rows += labels_of("--scale", "-0.5,0.5", "bytes.png", "centred.npy", "centred.tif")
    assert len({(row["label"], row["probability"]) for row in rows}) == 1


def test_floats_of_no_scale_are_refused_with_the_way_out(picture):
    low, high = f"{30 / 255 - 0.5:.6g}", f"{210 / 255 - 0.5:.6g}"
    for command in (["classify"], ["features", "-o", "f.npy"], ["apply", "efficientnet-lite0[:1]", "-o", "a.npy"]):
        error = run(*command, "centred.npy", code=1).stderr
        assert f"Error: centred.npy: floats from {low} to {high} fit neither 0…1 nor 0…255" in error
        assert f"--scale {low},{high}" in error


def test_a_model_keeps_the_scale_for_every_command(picture, rng):
    labels = np.arange(40) % 2
    images = rng.uniform(-0.5, 0, (40, 8, 8)).astype(np.float32)
    images[labels == 1, :4] += 0.5
    np.savez("d.npz", images=images, labels=labels)
    layers = ["--layers", "flatten | dense 2", "--epochs", 8, "--batch", 8]
    assert "Error: d.npz: floats from " in run("train", "d.npz", "-o", "m.safetensors", *layers, code=1).stderr
    told = run("train", "d.npz", "-o", "m.safetensors", *layers, "--scale", "-0.5,0.5", "--dry-run").stderr
    assert told.splitlines()[0].startswith("scale: floats from -0.4")
    assert told.splitlines()[0].endswith(" are on -0.5…0.5, black to white")
    run("train", "d.npz", "-o", "m.safetensors", *layers, "--scale", "-0.5,0.5")
    judged = run("evaluate", "m.safetensors", "d.npz")
    assert "accuracy 100.0% of 40 pictures" in judged.stdout
    assert "are on -0.5…0.5, black to white" in judged.stderr
    assert "floats         -0.5 is black, 0.5 white" in run("describe", "m.safetensors").stdout
    np.save("one.npy", images[1])
    write_image("one.png", ((images[1] + 0.5) * 255 + 0.5).astype(np.uint8))
    rows = labels_of("-m", "m.safetensors", "one.npy", "one.png")
    assert [row["label"] for row in rows] == ["1", "1"]
    assert rows[0]["probability"] == rows[1]["probability"]
    for name in ("one.npy", "one.png"):
        run("features", "-m", "m.safetensors", name, "-o", f"{name}.csv")
        run("apply", "m.safetensors[:1]", name, "-o", f"{name}.out.npy")
    assert np.array_equal(np.load("one.npy.out.npy"), np.load("one.png.out.npy"))
    numbers = [Path(f"{name}.csv").read_text().partition(",")[2] for name in ("one.npy", "one.png")]
    assert numbers[0] == numbers[1]
    np.save("over.npy", images[1] * 1.5)
    assert "Warning: over.npy: " in run("classify", "-m", "m.safetensors", "over.npy").stderr
    np.save("far.npy", images[1] * 9)
    assert "are not on the scale -0.5…0.5" in run("classify", "-m", "m.safetensors", "far.npy", code=1).stderr
    assert not run("classify", "-m", "m.safetensors", "far.npy", "--scale", "-5,5").stderr


def test_a_scale_without_floats_is_a_usage_error(picture, rng):
    np.savez("d.npz", images=rng.integers(0, 17, (8, 4, 4)).astype(np.uint8), labels=np.arange(8) % 2)
    error = run("train", "d.npz", "-o", "m.safetensors", "--scale", "0,16", code=2).stderr
    assert "--scale belongs to float pictures, and d.npz has none: bytes are on 0…255" in error
    assert "'16,0' is not two numbers" in run("classify", "bytes.png", "--scale", "16,0", code=2).stderr
    error = run("apply", "conv sobel-h", "bytes.png", "--scale", "0,1", "-o", "x.png", code=2).stderr
    assert "--scale belongs to a network, such as MODEL[:3]" in error
