"""Networks that end with a sigmoid: two classes from one number, and labels that are independent of each other."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

from cnnfilter import evaluate, load_folder, load_model, train, write_image
from cnnfilter.cli import main
from cnnfilter.errors import DataError, ModelError
from cnnfilter.networks.heatmap import activation_map, layers_before_mean
from cnnfilter.networks.model_file import Calibration, read_model, write_model

NAMES = {2: ("across", "down"), 3: ("left", "middle", "right")}


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def pictures(rng, tmp_path, monkeypatch):
    """Return a function that saves pictures of so many classes: a bright band at another place in each."""
    monkeypatch.chdir(tmp_path)

    def make(classes):
        labels = np.arange(120) % classes
        pixels = np.full((120, 9, 9), 40.0) + rng.normal(0, 5, (120, 9, 9))
        for picture, label in zip(pixels, labels, strict=True):
            picture[:, 3 * label : 3 * label + 3] += 180
        np.savez("d.npz", images=pixels.clip(0, 255).astype(np.uint8), labels=labels)
        for number in range(classes):
            write_image(f"{number}.png", pixels[number].clip(0, 255).astype(np.uint8))
        return load_folder("d.npz").renamed(NAMES[classes])

    return make


@pytest.mark.parametrize(("classes", "numbers"), [(2, 1), (2, 2), (3, 3)])
def test_training_and_every_command_agree(pictures, classes, numbers):
    found = pictures(classes)
    trained = train(found, layers=f"flatten | dense {numbers} | sigmoid", epochs=12, batch=8, rate=0.02)
    assert trained.evaluation.accuracy == 1
    trained.save("m.safetensors")
    network = load_model("m.safetensors")
    assert network.classes == NAMES[classes]
    probabilities = network.predict([np.asarray(found.train.read(index)) for index in range(len(found.train))])
    assert probabilities.shape == (len(found.train), classes)
    right = probabilities[np.arange(len(found.train)), found.train.labels]
    assert right.min() > 0.8
    sums = probabilities.sum(axis=1)
    assert (np.abs(sums - 1).max() < 1e-6) == (numbers == 1)

    rows = list(
        csv.DictReader(
            run(
                "classify", "-m", "m.safetensors", "--format", "csv", "-q", *[f"{n}.png" for n in range(classes)]
            ).stdout.splitlines()
        )
    )
    assert [row["label"] for row in rows] == list(NAMES[classes])
    assert all(float(row["probability"]) > 0.8 for row in rows)
    record = json.loads(run("evaluate", "m.safetensors", "d.npz", "--json").stdout)
    assert record["accuracy"] == 1
    assert record["classes"] == list(NAMES[classes])
    assert record["loss"] < 0.3
    run("evaluate", "m.safetensors", "d.npz", "--calibrate")
    calibrated = load_model("m.safetensors")
    assert calibrated.calibration.temperature != 1
    assert evaluate(calibrated, "d.npz").probabilities.max() < probabilities.max()
    run("classify", "-m", "m.safetensors", "1.png", "--is", NAMES[classes][1])
    run("classify", "-m", "m.safetensors", "0.png", "--is", NAMES[classes][1], code=4)
    run("classify", "-m", "m.safetensors", "0.png", "1.png", "--sort-into", "sorted", "-q")
    told = run("describe", "m.safetensors").stdout
    if numbers == 1:
        assert "answers        the sigmoid of one number, which is the probability of down" in told
    else:
        assert "answers        the sigmoid of each number: a probability for each label by itself" in told


def test_the_plan_says_what_a_sigmoid_means(pictures):
    pictures(3)
    layers = "flatten | dense {} | sigmoid"
    told = run("train", "d.npz", "-o", "m.safetensors", "--layers", layers.format(3), "--dry-run").stderr
    assert "3 independent labels (sigmoid): the probabilities of a picture need not sum to 1" in told
    error = run("train", "d.npz", "-o", "m.safetensors", "--layers", layers.format(1), "--dry-run", code=1).stderr
    assert "the layers give 2 classes" not in error
    assert "the layers give 1 number for 3 classes; let them end with 'dense 3'\n" in error
    found = pictures(2)
    told = run("train", "d.npz", "-o", "m.safetensors", "--layers", layers.format(1), "--dry-run").stderr
    assert "two classes from one number: its sigmoid is the probability of '1'" in told
    with pytest.raises(
        DataError, match=r"give 1 number for 2 classes; let them end with 'dense 2' or 'dense 1 \| sigmoid'"
    ):
        train(found, layers="flatten | dense 1")


def test_a_model_of_one_number_has_two_names(pictures):
    train(pictures(2), layers="flatten | dense 1 | sigmoid", epochs=1).save("m.safetensors")
    model = read_model("m.safetensors")
    for classes in (("a",), ("a", "b", "c")):
        with open("broken.safetensors", "wb") as file:
            write_model(file, dataclasses.replace(model, classes=classes))
        with pytest.raises(ModelError, match=f"has {len(classes)} classes, but its layers give 1 number$"):
            read_model("broken.safetensors")


def test_the_heat_map_of_the_first_class_is_the_negative_of_the_second(pictures):
    trained = train(pictures(2), layers="conv 4x3x3 | relu | globalpool avg | dense 1 | sigmoid", epochs=1)
    network = trained.network
    assert layers_before_mean(network) == 2
    maps = np.ones((2, 2, 4), np.float32)
    np.testing.assert_array_equal(activation_map(network, maps, 0), -activation_map(network, maps, 1))


def test_a_temperature_flattens_a_sigmoid(pictures):
    trained = train(pictures(3), layers="flatten | dense 3 | sigmoid", epochs=3)
    flat = dataclasses.replace(trained.model, calibration=Calibration(20.0, 0.0))
    picture = np.zeros((9, 9), np.uint8)
    sharp, blunt = (
        np.abs(type(trained.network)(model).predict(picture) - 0.5).max() for model in (trained.model, flat)
    )
    assert blunt < sharp
