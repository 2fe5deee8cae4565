"""``cnnfilter describe``: the table, JSON, refusals and help."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from click.testing import CliRunner

from cnnfilter.cli import main
from cnnfilter.cli.commands.describe import HELP
from cnnfilter.cli.reports.layer_table import size_text

NETWORK = "conv 32x3x3 | relu | maxpool 2 | flatten | dense 10"


def run(*arguments):
    return CliRunner().invoke(main, ["describe", *arguments])


def test_the_table_of_the_contract():
    result = run(NETWORK, "--input", "28x28x1")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "   layer        output    parameters  multiply-adds    memory  sees  fully connected  size",
        "   input        28x28x1                                3.1 kB",
        "1  conv 32x3x3  28x28x32         320        225,792  100.4 kB   3x3       19,694,080"
        "  floor((28 + 2 - 1*(3-1) - 1) / 1) + 1 = 28",
        "2  relu         28x28x32           0              0  100.4 kB   3x3",
        "3  maxpool 2    14x14x32           0              0   25.1 kB   4x4"
        "                   floor((28 + 0 - 1*(2-1) - 1) / 2) + 1 = 14",
        "4  flatten      6272               0              0   25.1 kB   4x4                   14 * 14 * 32 = 6272",
        "5  dense 10     10            62,730         62,720      40 B   all           62,730  6272 -> 10",
        "",
        "parameters     63,050 (252.2 kB as float32)",
        "multiply-adds  288,512",
        "memory         254.1 kB for the input and all maps; 200.7 kB for the largest input and output of a layer",
        "beside it      fully connected layers of the same outputs: 19,756,810 parameters, 313 times as many",
    ]


def test_two_sizes_take_two_lines():
    lines = run("maxpool 2", "--input", "28x20x1").stdout.splitlines()
    column = lines[0].index("size")
    assert lines[2][column:] == "H: floor((28 + 0 - 1*(2-1) - 1) / 2) + 1 = 14"
    assert lines[3] == " " * column + "W: floor((20 + 0 - 1*(2-1) - 1) / 2) + 1 = 10"


def test_nothing_is_said_of_fully_connected_layers_where_there_is_nothing_to_say():
    assert "fully connected layers" not in run("relu | maxpool 2", "--input", "8x8x1").stdout
    assert "times as many" not in run("conv blur", "--input", "8x8x1").stdout
    assert "parameters, 1.0 times as many" in run("flatten | dense 3", "--input", "8x8x1").stdout


def test_json_is_one_object():
    found = json.loads(run(NETWORK, "--input", "28x28x1", "--json").stdout)
    assert found["input"] == [28, 28, 1]
    assert [row["layer"] for row in found["layers"]] == NETWORK.split(" | ")
    assert found["layers"][0] == {
        "layer": "conv 32x3x3",
        "output": [28, 28, 32],
        "formula": "floor((28 + 2 - 1*(3-1) - 1) / 1) + 1 = 28",
        "parameters": 320,
        "multiply_adds": 225792,
        "memory": 100352,
        "receptive_field": [3, 3],
        "fully_connected": 19694080,
    }
    assert found["layers"][-1]["receptive_field"] is None
    totals = {name: value for name, value in found.items() if name not in ("input", "layers")}
    assert totals == {
        "parameters": 63050,
        "multiply_adds": 288512,
        "memory": 254056,
        "peak_memory": 200704,
        "fully_connected": 19756810,
    }


@pytest.mark.parametrize("typed", ["28x28x1", "28,28,1", "28X28X1"])
def test_ways_to_write_the_input(typed):
    assert run("relu", "--input", typed).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'LAYERS|MODEL'"),
        (["relu"], "give --input HxWxC, such as --input 224x224x3"),
        (
            ["relu", "--input", "28x28"],
            "Invalid value for '--input': '28x28' is not height x width x channels",
        ),
        (["relu", "--input", "28x0x1"], "'28x0x1' is not height x width x channels"),
        (["relu", "--input", "28x28x٣"], "is not height x width x channels"),
        (
            ["relv", "--input", "2x2x1"],
            "Invalid value for 'LAYERS|MODEL': layer 1 'relv': no layer 'relv'; did you mean 'relu'?",
        ),
        (["relv"], "did you mean 'relu'?"),
        (["conv sobl", "--input", "2x2x1"], "did you mean sobel"),
        (["maxpool 9", "--input", "2x2x1"], "layer 1 'maxpool 9': a window of 9x9 does not fit into 2x2"),
        (["relu", "--input", "2x2x1", "-o", "x"], "No such option"),
    ],
)
def test_wrong_command_lines(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


EXAMPLES = re.findall(r"^  cnnfilter describe (.+)$", HELP, re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_the_help_run(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*shlex.split(example))
    assert result.exit_code == 0, result.stderr
    assert result.stdout


def test_help_names_every_layer():
    from cnnfilter.layers.names import NAMES

    assert len(EXAMPLES) >= 3
    for name in NAMES:
        assert re.search(rf"\b{name}\b", HELP), name


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (5 * 10**15, "5,000.0 TB"),
    ],
)
def test_sizes_have_decimal_units(count, text):
    assert size_text(count) == text
