"""An evaluation on pictures that the network was trained on, which the model knows by their digests."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cnnfilter import evaluate, load_folder, load_model, train
from cnnfilter.cli import main
from cnnfilter.cli.reports.evaluation import trained_text
from cnnfilter.errors import ModelError
from cnnfilter.networks.model_file import read_model, write_model
from cnnfilter.weights.trained_pictures import TrainedPictures

LAYERS = "flatten | dense 2"


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """40 pictures of two classes, of which 8 are held back from a training; and a model."""
    monkeypatch.chdir(tmp_path)
    for number in range(40):
        path = Path("d", "ab"[number % 2], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)).save(path)
    train("d", layers=LAYERS, epochs=1).save("m.safetensors")


def test_how_many_pictures_were_trained_on_is_said(folder):
    told = run("evaluate", "m.safetensors", "d")
    assert "Warning: 32 of 40 pictures were trained on, which flatters the accuracy\n" in told.stderr
    told = run("evaluate", "m.safetensors", "d", "-q")
    assert told.stderr == ""
    assert told.stdout.endswith("\n(32 of 40 pictures were trained on, which flatters the accuracy)\n")
    record = json.loads(run("evaluate", "m.safetensors", "d", "--json", "-q").stdout)
    assert (record["trained_on"], record["checked"]) == (32, 40)
    assert "trained on" not in run("evaluate", "m.safetensors", "d", "--split", "validation").stderr
    assert "Warning: 32 of 32" in run("evaluate", "m.safetensors", "d", "--split", "train").stderr


def test_copies_in_other_files_are_known(folder):
    """The same pixels under other names, in another format and with other metadata are the same picture."""
    shutil.rmtree("e", ignore_errors=True)
    images = []
    dataset = load_folder("d")
    for index in range(len(dataset.train)):
        with Image.open(dataset.train.name(index)) as picture:
            images.append(np.asarray(picture))
            path = Path("e", "ab"[dataset.train.labels[index]], f"new{index}.webp")
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, lossless=True)
    assert evaluate(load_model("m.safetensors"), "e").trained_on == 32
    np.savez("f.npz", images=np.stack(images), labels=np.array(["a", "b"])[dataset.train.labels])
    assert evaluate(load_model("m.safetensors"), "f.npz").trained_on == 32


def test_a_head_knows_its_pictures_and_keeps_them_when_calibrated(folder):
    train("d").save("head.safetensors")
    for _ in range(2):
        assert "Warning: 32 of 40 pictures" in run("evaluate", "head.safetensors", "d", "--calibrate").stderr
    assert "trained on" not in run("evaluate", "head.safetensors", "d", "--split", "validation").stderr


def test_a_model_of_many_pictures_keeps_a_sample(tmp_path, rng):
    digests = [rng.bytes(6) for _ in range(20_000)]
    kept = TrainedPictures.of(digests)
    assert (kept.count, len(kept.digests)) == (20_000, 4096)
    assert len(json.dumps(kept.as_record())) < 33_000
    assert TrainedPictures.from_text(json.dumps(kept.as_record())) == kept
    others = [rng.bytes(6) for _ in range(1000)]
    hits, known = kept.find([*digests[:3000], *others])
    assert hits / known == pytest.approx(0.75, abs=0.05)
    assert known == pytest.approx(4000 * 4096 / 20_000, rel=0.1)
    assert kept.find(others)[0] == 0


def test_the_text_says_when_it_is_an_estimate(folder):
    found = evaluate(load_model("m.safetensors"), "d")
    sample = dataclasses.replace(found, trained_on=3, checked=4)
    wanted = "about 30 of 40 pictures were trained on (of 4 that the model can tell), which flatters the accuracy"
    assert trained_text(sample) == wanted
    assert trained_text(dataclasses.replace(found, trained_on=0)) == ""


@pytest.mark.parametrize(
    "text",
    [
        '{"count": 1}',
        '{"count": 1, "digests": "x"}',
        '{"count": 1, "digests": "AAAA"}',
        '{"count": 0, "digests": ""}',
        '{"count": "1", "digests": "AAAAAAAA"}',
        '{"count": 1, "digests": 5}',
        "[]",
        "{",
    ],
)
def test_broken_digests_are_refused(text):
    with pytest.raises(ModelError, match="its trained"):
        TrainedPictures.from_text(text)


def test_models_without_digests_are_read(folder):
    with open("old.safetensors", "wb") as file:
        write_model(file, dataclasses.replace(read_model("m.safetensors"), trained=None))
    assert evaluate(load_model("old.safetensors"), "d").trained_on == 0
