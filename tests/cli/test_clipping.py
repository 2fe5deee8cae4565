"""The warning about clipped samples: when there is one, and what it advises."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from cnnfilter.cli import main
from cnnfilter.cli.clipping import rule_of_kernels, rule_of_layers
from cnnfilter.images.files import write_image
from cnnfilter.kernels.lookup import find_kernels
from cnnfilter.layers.stack import parse_layers


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def warnings_of(*args: str) -> str:
    done = CliRunner().invoke(main, [*args, "-o", "out.png", "--force"])
    assert done.exit_code == 0, done.stderr
    return done.stderr


def write_rows(rows: int, values: list[int], others: int, dtype: type = np.uint8) -> None:
    """Write a.png of 100x100 samples: the first rows repeat `values`, all others are `others`."""
    pixels = np.full((100, 100), others, dtype)
    pixels[:rows] = np.resize(values, 100)
    write_image("a.png", pixels)


@pytest.mark.parametrize("command", [["convolve", "-k"], ["apply"]])
@pytest.mark.parametrize(
    ("kernel", "values", "rows"),
    [
        ("0 2 -1;", [0, 250], 9),  # sum 1: -250 and 500, but for the last column
        ("2;", [200], 1),
        ("-1 1 0;", [0, 250], 0),  # abs
    ],
)
def test_few_clipped_samples_are_silent(command, kernel, values, rows):
    write_rows(rows, values, 100)
    kernel = kernel if command[0] == "convolve" else f"conv '{kernel}'"
    assert warnings_of(*command, kernel, "a.png") == ""


@pytest.mark.parametrize(
    ("kernel", "values", "rows", "share", "advice"),
    [
        ("0 2 -1;", [0, 250], 12, "12%", "a weaker kernel or -f npy"),
        ("2;", [200], 2, "2%", "--normalize or -f npy"),
    ],
)
def test_more_are_said_with_what_would_help(kernel, values, rows, share, advice):
    write_rows(rows, values, 100)
    said = f"Warning: a.png: {share} of the samples are clipped to the range of the picture; {advice} would help\n"
    assert warnings_of("convolve", "-k", kernel, "a.png") == said


def test_for_a_picture_of_floats_there_is_another_advice():
    write_image("a.tif", np.full((5, 6), 300, np.float32))
    for command in (["convolve", "-k", "identity"], ["apply", "relu"]):
        assert warnings_of(*command, "a.tif").endswith("; --signed stretch, -f tiff or -f npy would help\n")


LIBVIPS = "1 1 1 100\n1\n"


@pytest.mark.parametrize(
    ("kernels", "options", "min_share", "advice"),
    [
        (["sharpen"], {}, 0.1, "a weaker kernel"),
        (["0.11 0.11 0.11; 0.11 0.11 0.11; 0.11 0.11 0.11"], {}, 0.1, "a weaker kernel"),
        (["sharpen"], {"signed": "abs"}, 0.1, "a weaker kernel"),
        (["sharpen"], {"bias": 50}, 0.1, "a smaller --bias"),
        (["1 1 1;"], {"bias": 50}, 0.01, "--normalize, a smaller --bias"),
        (["0.5;"], {}, 0.01, "a weaker kernel"),
        (["-1;"], {}, 0.01, "--normalize"),
        (["sobel-h"], {}, 0.01, "--signed stretch"),
        (["sobel-h"], {"signed": "offset"}, 0.01, "--signed stretch"),
        (["sobel-h"], {"signed": "clip"}, 0.01, "--signed abs, --signed offset"),
        (["sobel-h"], {"bias": 128}, 0.01, "a smaller --bias, --signed offset without it"),
        (["sobel"], {}, 0.01, "--signed stretch"),
        (["kirsch"], {}, 0.01, "--signed stretch"),
        (["blur", "sharpen"], {}, 0.01, "--combine mean"),
        (["blur", "sharpen"], {"combine": "sum"}, 0.01, "--combine mean"),
        (["blur", "sharpen"], {"combine": "mean"}, 0.1, "a weaker kernel"),
        (["blur", "sharpen"], {"combine": "max"}, 0.1, "a weaker kernel"),
        (["blur", "sharpen"], {"combine": "stack"}, 0.1, "a weaker kernel"),
        (["sobel-h", "3;"], {"combine": "sum"}, 0.01, "a weaker kernel"),
        (["vips.mat"], {}, 0.1, "a smaller offset in the file of the kernel"),
    ],
)
def test_the_advice_follows_from_the_kernels(kernels, options, min_share, advice, tmp_path):
    (tmp_path / "vips.mat").write_text(LIBVIPS)
    sets = [find_kernels(kernel) for kernel in kernels]
    rule = rule_of_kernels(sets, options.get("combine"), options.get("bias", 0.0), options.get("signed", "auto"))
    assert rule == (f"{advice} or -f npy would help", min_share)


@pytest.mark.parametrize(
    ("layers", "signed", "min_share", "advice"),
    [
        ("conv sharpen | maxpool 2", "auto", 0.1, "a weaker kernel"),
        ("conv '1 1 1' | conv box:3", "auto", 0.01, "kernels whose weights sum to 1"),
        ("conv sharpen bias=40", "auto", 0.1, "a smaller bias="),
        ("conv sobel-h", "auto", 0.01, "--signed stretch"),
        ("conv sobel-h", "clip", 0.01, "--signed abs, --signed offset"),
        ("conv sobel-h | relu", "auto", 0.01, "--signed stretch"),
        ("conv blur | conv laplacian | maxpool 2", "clip", 0.01, "--signed abs, --signed offset"),
    ],
)
def test_the_advice_follows_from_the_layers(layers, signed, min_share, advice):
    assert rule_of_layers(parse_layers(layers), signed) == (f"{advice} or -f npy would help", min_share)
