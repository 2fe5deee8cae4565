"""The promises to users: names, options, defaults, meanings and exit codes, one by one.

Each test uses the command line or the public names, as a user does, and compares with numbers that are
worked out here or by the slow oracle.
"""

from __future__ import annotations

import inspect
import io
import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as PillowImage

import cnnfilter
from cnnfilter.cli import main
from tests import naive

SOBEL_H = np.array([[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]])


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photo(rng):
    """A small picture in colours: a step, a ramp and noise."""
    pixels = rng.integers(0, 40, (14, 17, 3), np.uint8)
    pixels[7:] += np.uint8(120)
    pixels += np.arange(17, dtype=np.uint8)[:, None] * 4
    PillowImage.fromarray(pixels).save("img.png")
    return pixels


def run(*args, input=None):
    return CliRunner().invoke(main, [str(arg) for arg in args], input=input)


def done(*args, input=None):
    """Run a command that must succeed; return what it writes to stdout."""
    result = run(*args, input=input)
    assert result.exit_code == 0, result.stderr
    return result.stdout_bytes


def numbers(data):
    return np.load(io.BytesIO(data))


def picture(data):
    return np.asarray(PillowImage.open(io.BytesIO(data)))


def opened(path):
    """A file's pixels, as Pillow sees them."""
    return picture(Path(path).read_bytes())


def around(pixels, weights, border="replicate"):
    """The slow convolution with padding same, for odd kernels."""
    pads = tuple((size // 2, size // 2) for size in weights.shape)
    return naive.convolve(pixels, weights, pads=pads, border=border)


def to_bytes(values):
    """Rounded half up, once."""
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


# --- names and defaults


def test_the_signatures():
    empty = inspect.Parameter.empty
    expected = {
        cnnfilter.convolve: {
            "pixels": empty,
            "kernel": empty,
            "stride": 1,
            "padding": "same",
            "border": "replicate",
            "dilation": 1,
            "bias": 0.0,
            "algorithm": "auto",
            "dtype": np.float32,
            "threads": None,
        },
        cnnfilter.pool: {
            "pixels": empty,
            "op": "max",
            "size": 2,
            "stride": None,
            "padding": 0,
            "dilation": 1,
            "ceil_mode": False,
            "count_include_pad": True,
            "dtype": None,
        },
    }
    for function, parameters in expected.items():
        found = inspect.signature(function).parameters
        assert {name: found[name].default for name in parameters} == parameters
        assert list(found)[: len(parameters)] == list(parameters)
        by_position = [name for name, parameter in found.items() if parameter.kind is not parameter.KEYWORD_ONLY]
        assert by_position == list(parameters)[:2]


def test_the_public_names():
    names = """read_image write_image Image find_kernel kernel_names Kernel convolve pool activate parse_layers Network
    load_model load_folder train evaluate contact_sheet CnnfilterError ImageError KernelError ShapeError ModelError
    DataError"""
    assert set(names.split()) <= set(cnnfilter.__all__)
    assert all(getattr(cnnfilter, name).__doc__ for name in names.split())


@pytest.mark.parametrize("name", ["ImageError", "KernelError", "ShapeError", "ModelError", "DataError"])
def test_every_error_is_ours_and_a_value_error(name):
    error = getattr(cnnfilter, name)
    assert issubclass(error, cnnfilter.CnnfilterError)
    assert issubclass(error, ValueError)
    assert not issubclass(cnnfilter.CnnfilterError, ValueError)


OPTIONS = {
    "convolve": {
        "kernel": None,
        "flip": False,
        "stride": 1,
        "dilation": 1,
        "padding": "same",
        "border": "replicate",
        "bias": 0.0,
        "normalize": False,
        "signed": "auto",
        "combine": None,
        "algorithm": "auto",
        "alpha": "keep",
    },
    "pool": {
        "op": "max",
        "size": 2,
        "stride": None,
        "padding": 0,
        "dilation": 1,
        "ceil-mode": False,
        "count-include-pad": True,
        "global": False,
        "alpha": "keep",
    },
}
SHARED = ["output", "format", "force", "strip", "recursive", "max-pixels", "verbose", "quiet"]


@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_and_their_defaults(name):
    command = main.get_command(click.Context(main), name)
    options = {spelling: option for option in command.params for spelling in option.opts}
    chosen = command.make_context(name, ["x.png", *(["-k", "blur"] if name == "convolve" else [])]).params
    for option, default in OPTIONS[name].items():
        if option != "kernel":
            assert chosen[options[f"--{option}"].name] == default, option
    assert all(f"--{option}" in options for option in SHARED)
    assert {"-o", "-f", "-r", "-v", "-q"} <= set(options)


# --- kernels

NAMES = """identity box blur gaussian binomial motion disk sharpen sharpen-more unsharp high-boost high-pass high-pass-5
low-pass laplacian laplacian-8 log dog outline sobel-h sobel-v scharr-h scharr-v prewitt-h prewitt-v roberts-1 roberts-2
farid-h farid-v frei-chen-h frei-chen-v kirsch robinson emboss line-h line-v line-45 line-135 gabor sobel scharr prewitt
roberts"""
SPELLINGS = """gaussian:1.4 gaussian:1.4,5 box:5 log:1.4 dog:1,1.6 gabor:8,45 motion:15,30 kirsch:ne robinson:sw disk:3
binomial:5 unsharp:2,0.8 high-boost:1.5"""


def test_the_names_of_the_kernels():
    assert set(NAMES.split()) <= set(cnnfilter.kernel_names())
    listed = json.loads(done("kernels", "list", "--json"))
    assert [entry["name"] for entry in listed] == cnnfilter.kernel_names()
    assert all(entry["purpose"] and entry["source"] for entry in listed)


@pytest.mark.parametrize("spec", SPELLINGS.split())
def test_names_with_numbers(spec, photo):
    weights = cnnfilter.find_kernel(spec).weights
    assert np.abs(numbers(done("convolve", "img.png", "-k", spec, "-f", "npy")) - around(photo, weights)).max() < 1e-2


@pytest.mark.parametrize("family", ["sobel", "scharr", "prewitt", "farid", "frei-chen"])
def test_h_finds_horizontal_edges(family):
    brighter_below = np.repeat(np.repeat([0, 100], 8)[:, None], 16, axis=1).astype(np.float32)
    assert cnnfilter.convolve(brighter_below, f"{family}-h").max() > 30
    assert np.abs(cnnfilter.convolve(brighter_below, f"{family}-v")).max() < 1e-3
    weights = {direction: cnnfilter.find_kernel(f"{family}-{direction}").weights for direction in "hv"}
    np.testing.assert_allclose(weights["h"], weights["v"].T, atol=1e-15)


def test_sobel_as_it_is_written():
    np.testing.assert_array_equal(cnnfilter.find_kernel("sobel-h").weights, SOBEL_H)


LAPLACIAN = np.array([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
FILES = {
    "k.txt": "0 1 0\n1 -4 1\n0 1 0\n",
    "k.csv": "0,1,0\n1,-4,1\n0,1,0\n",
    "k.json": "[[0, 1, 0], [1, -4, 1], [0, 1, 0]]",
    "k.mat": "3 3 2 0\n0 2 0\n2 -8 2\n0 2 0\n",
}


@pytest.mark.parametrize("name", [*FILES, "k.npy"])
def test_kernels_from_files(name, photo):
    if name == "k.npy":
        np.save(name, LAPLACIAN)
    else:
        Path(name).write_text(FILES[name], encoding="utf-8")
    for spec in (name, f"@{name}"):
        found = numbers(done("convolve", "img.png", "-k", spec, "-f", "npy"))
        np.testing.assert_array_equal(found, around(photo, LAPLACIAN))


@pytest.mark.parametrize("text", ["1/4 2/4 1/4; 0,-1/2,0; 0 0 0", "[[0.25, 0.5, 0.25], [0, -0.5, 0], [0, 0, 0]]"])
def test_kernels_as_text(text, photo):
    weights = np.array([[1, 2, 1], [0, -2, 0], [0, 0, 0]]) / 4
    np.testing.assert_array_equal(numbers(done("convolve", "img.png", "-k", text, "-f", "npy")), around(photo, weights))


# --- convolve

UNEVEN = np.array([[1.0, 2, -1], [0, 3, 1], [4, -5, 2]])
UNEVEN_TEXT = "1 2 -1; 0 3 1; 4 -5 2"


@pytest.mark.parametrize("border", ["replicate", "reflect", "symmetric", "wrap", "zero", "constant:77.5"])
def test_borders(border, photo):
    found = numbers(done("convolve", "img.png", "-k", UNEVEN_TEXT, "--border", border, "-f", "npy"))
    np.testing.assert_array_equal(found, around(photo, UNEVEN, border))


# What SAME_UPPER adds before and after 14 rows and 17 columns, worked out by hand.
@pytest.mark.parametrize(
    ("stride", "dilation", "padding", "pads"),
    [
        ((1, 1), (1, 1), "same", ((1, 1), (1, 1))),
        ((2, 2), (1, 1), "same", ((0, 1), (1, 1))),
        ((3, 2), (2, 3), "same", ((1, 2), (3, 3))),
        ((2, 3), (1, 1), "valid", ((0, 0), (0, 0))),
        ((1, 1), (1, 1), "2", ((2, 2), (2, 2))),
        ((1, 2), (1, 1), "1,3", ((1, 1), (3, 3))),
        ((1, 1), (2, 1), "1,2,3,4", ((1, 3), (4, 2))),
    ],
)
def test_stride_dilation_and_padding(stride, dilation, padding, pads, photo):
    how = ["--stride", "{},{}".format(*stride), "--dilation", "{},{}".format(*dilation), "--padding", padding]
    found = numbers(done("convolve", "img.png", "-k", UNEVEN_TEXT, "-f", "npy", "--border", "zero", *how))
    np.testing.assert_array_equal(found, naive.convolve(photo, UNEVEN, stride, pads, dilation))


def test_an_even_kernel_has_the_smaller_half_before(photo):
    weights = np.array([[1.0, 2], [3, 4]])
    expected = naive.convolve(photo, weights, pads=((0, 1), (0, 1)), border="replicate")
    np.testing.assert_array_equal(numbers(done("convolve", "img.png", "-k", "1 2; 3 4", "-f", "npy")), expected)


def test_it_is_applied_as_drawn_and_flip_turns_it(photo):
    found = numbers(done("convolve", "img.png", "-k", UNEVEN_TEXT, "--flip", "-f", "npy"))
    np.testing.assert_array_equal(found, around(photo, UNEVEN[::-1, ::-1]))


def test_bias_is_in_the_units_of_the_file(photo):
    found = picture(done("convolve", "img.png", "-k", "identity", "--bias", "-7.5"))
    np.testing.assert_array_equal(found, to_bytes(photo - 7.5))


def test_normalize_divides_by_the_sum(photo):
    found = picture(done("convolve", "img.png", "-k", UNEVEN_TEXT, "--normalize"))
    assert np.abs(found - to_bytes(around(photo, UNEVEN / 7)).astype(int)).max() == 0
    refused = run("convolve", "img.png", "-k", "sobel-h", "--normalize")
    assert refused.exit_code == 2
    assert "sums to 0" in refused.stderr


@pytest.mark.parametrize("kernel", ["sobel-h", "sharpen"])
@pytest.mark.parametrize("signed", ["auto", "clip", "abs", "offset", "stretch"])
def test_signed(signed, kernel, photo):
    values = around(photo, cnnfilter.find_kernel(kernel).weights)
    low, high = values.min(), values.max()
    expected = {
        "auto": np.abs(values) if kernel == "sobel-h" else values,
        "clip": values,
        "abs": np.abs(values),
        "offset": 127.5 + values / 2,
        "stretch": (values - low) * 255 / (high - low),
    }[signed]
    found = picture(done("convolve", "img.png", "-k", kernel, "--signed", signed))
    if signed == "stretch":  # its scale is no power of two: a half may fall to either side
        assert np.abs(found - expected).max() <= 0.5 + 1e-3
    else:
        np.testing.assert_array_equal(found, to_bytes(expected))


@pytest.mark.parametrize("spelling", ["--bias", "json", "mat", "layer", "alpha"])
def test_a_bias_or_an_offset_is_never_folded(spelling, photo):
    kernel = "-1 0 0; 0 1 0; 0 0 0"
    Path("k.json").write_text('{"weights": [[-1, 0, 0], [0, 1, 0], [0, 0, 0]], "offset": 128}')
    Path("k.mat").write_text("3 3 1 128\n-1 0 0\n0 1 0\n0 0 0\n")
    PillowImage.fromarray(np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])).save("alpha.png")
    args = {
        "--bias": ["convolve", "img.png", "-k", kernel, "--bias", "128"],
        "json": ["convolve", "img.png", "-k", "@k.json"],
        "mat": ["convolve", "img.png", "-k", "k.mat"],
        "layer": ["apply", f"conv '{kernel}' bias=128", "img.png"],
        "alpha": ["convolve", "alpha.png", "-k", kernel, "--bias", "128"],
    }[spelling]
    expected = to_bytes(around(photo, np.array([[-1, 0, 0], [0, 1, 0], [0, 0, 0]])) + 128)
    np.testing.assert_array_equal(picture(done(*args))[:, :, :3], expected)


@pytest.mark.parametrize("kernels", [["-k", "sobel-h", "-k", "sobel-v"], ["-k", "sobel"]])
@pytest.mark.parametrize("combine", [None, "magnitude", "max", "mean", "sum", "stack"])
def test_combine(combine, kernels, photo):
    down, across = around(photo, SOBEL_H), around(photo, SOBEL_H.T)
    expected = {
        None: np.hypot(down, across),
        "magnitude": np.hypot(down, across),
        "max": np.maximum(down, across),
        "mean": (down + across) / 2,
        "sum": down + across,
        "stack": np.stack([down, across], axis=-1).reshape(14, 17, 6),
    }[combine]
    found = numbers(done("convolve", "img.png", *kernels, *(["--combine", combine] if combine else []), "-f", "npy"))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)


def test_a_stack_is_pages_of_a_tiff_and_else_a_sheet(photo):
    done("convolve", "img.png", "-k", "sobel", "--combine", "stack", "-o", "a.tiff")
    with PillowImage.open("a.tiff") as pages:
        assert (pages.n_frames, pages.size) == (2, (17, 14))
    assert picture(done("convolve", "img.png", "-k", "sobel", "--combine", "stack")).shape[0] > 2 * 14


@pytest.mark.parametrize("algorithm", ["auto", "direct", "separable", "fft"])
def test_algorithms_agree(algorithm, photo):
    weights = cnnfilter.find_kernel("binomial:5").weights
    result = run("convolve", "img.png", "-k", "binomial:5", "--algorithm", algorithm, "-v", "-o", "out.png")
    assert algorithm in result.stderr or algorithm == "auto"
    assert "5x5 kernel of 25 taps" in result.stderr
    found = opened("out.png").astype(int)
    assert np.abs(found - to_bytes(around(photo, weights))).max() <= (1 if algorithm == "fft" else 0)


def test_much_clipping_is_said_once(photo):
    result = run("convolve", "img.png", "-k", "0 0 0; 0 9 0; 0 0 0", "-o", "out.png")
    assert result.stderr.count("\n") == 1
    assert "Warning: img.png: " in result.stderr
    assert "--normalize" in result.stderr


# --- pool


@pytest.mark.parametrize("op", ["max", "min", "avg"])
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("include", [False, True])
def test_pooling(op, ceil, include, photo):
    how = ["--size", "3,2", "--stride", "2,3", "--padding", "1", "--op", op]
    how += ["--ceil-mode"] * ceil + ["--count-include-pad" if include else "--no-count-include-pad"]
    expected = naive.pool(photo, op, (3, 2), (2, 3), (1, 1, 1, 1), ceil_mode=ceil, count_include_pad=include)
    np.testing.assert_array_equal(picture(done("pool", "img.png", *how)), to_bytes(expected))


def test_pooling_by_default_is_the_largest_of_two_by_two(photo):
    np.testing.assert_array_equal(picture(done("pool", "img.png")), naive.pool(photo, "max", (2, 2), (2, 2), (0,) * 4))
    found = picture(done("pool", "img.png", "--dilation", "2"))
    np.testing.assert_array_equal(found, naive.pool(photo, "max", (2, 2), (2, 2), (0,) * 4, (2, 2)))


@pytest.mark.parametrize("source", ["png", "npy", "tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("window", [["--size", "2"], ["--global"]])
def test_means_in_npy_are_not_rounded(source, dtype, window, rng):
    pixels = rng.integers(0, np.iinfo(dtype).max, (6, 8, 3)).astype(dtype)
    cnnfilter.write_image(f"a.{source}", pixels)
    size = (2, 2) if window[0] == "--size" else (6, 8)
    expected = naive.pool(pixels, "avg", size, size, (0,) * 4)
    found = numbers(done("pool", f"a.{source}", "--op", "avg", *window, "-f", "npy"))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    done("pool", f"a.{source}", "--op", "avg", *window, "-o", "b.tiff")
    np.testing.assert_array_equal(cnnfilter.read_image("b.tiff").pixels, np.floor(expected + 0.5).astype(dtype))
    assert numbers(done("pool", f"a.{source}", *window, "-f", "npy")).dtype == dtype
    if dtype == np.uint8:  # means of floats stay floats in TIFF
        np.save("f.npy", pixels[:, :, 0].astype(np.float32))
        done("pool", "f.npy", "--op", "avg", *window, "-o", "f.tiff")
        np.testing.assert_allclose(cnnfilter.read_image("f.tiff").pixels[:, :, 0], expected[:, :, 0], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    "command",
    [
        ("convolve", "-k", "identity"),
        ("convolve", "-k", "identity", "--signed", "clip"),
        ("pool", "--size", "1"),
        ("pool", "--size", "1", "--op", "avg"),
        ("apply", "conv identity"),
        ("apply", "avgpool 1"),
    ],
)
def test_alpha_in_npy_is_in_the_units_of_the_file(command, dtype, rng):
    pixels = np.full((5, 6, 4), (200, 190, 180, 128), dtype)
    cnnfilter.write_image("a.png", pixels)
    np.testing.assert_allclose(numbers(done(*command, "a.png", "-f", "npy")), pixels, rtol=1e-5)


def test_global_pooling(photo):
    found = picture(done("pool", "img.png", "--global", "--op", "min"))
    np.testing.assert_array_equal(found, photo.min((0, 1), keepdims=True))


# --- layers


def test_describe_counts():
    text = "conv 32x3x3 | relu | maxpool 2 | flatten | dense 10"
    found = json.loads(done("describe", text, "--input", "28x28x1", "--json"))
    shapes = [layer["output"] for layer in found["layers"]]
    assert shapes == [[28, 28, 32], [28, 28, 32], [14, 14, 32], [6272], [10]]
    assert [layer["parameters"] for layer in found["layers"]] == [320, 0, 0, 0, 62_730]
    assert found["multiply_adds"] == 28 * 28 * 9 * 32 + 62_720
    shown = done("describe", text, "--input", "28x28x1").decode()
    assert "floor((28 + 2 - 1*(3-1) - 1) / 1) + 1 = 28" in shown
    assert "63,050" in shown


GRAMMAR = """conv sobel-h blur stride=2 pad=1 dilation=2 border=reflect | conv 32x3x3 stride=2 pad=valid bias=no
depthwise 3x3 | mbconv 24x3x3 expand=6 stride=2 | globalpool max
maxpool 3 stride=2 pad=1 ceil | avgpool 2 | globalpool avg | flatten | dense 10
relu | relu6 | leaky:0.1 | sigmoid | tanh | softmax | abs | gray | batchnorm | dropout 0.3"""


@pytest.mark.parametrize("text", GRAMMAR.splitlines())
def test_the_layers_of_the_grammar(text):
    assert str(cnnfilter.parse_layers(str(cnnfilter.parse_layers(text)))) == str(cnnfilter.parse_layers(text))
    assert run("describe", text, "--input", "64x64x3").exit_code == 0


def test_apply_is_one_layer_after_the_other(photo):
    edges = np.maximum(around(photo, SOBEL_H), 0).astype(np.float32)
    expected = naive.pool(edges, "max", (2, 2), (2, 2), (0,) * 4)
    found = numbers(done("apply", "conv sobel-h | relu | maxpool 2", "img.png", "-f", "npy"))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(
        picture(done("apply", "conv sobel-h | relu | maxpool 2", "img.png")), to_bytes(expected)
    )


@pytest.mark.parametrize("kernel", ["sobel", "sobel-h", "gaussian:3", "sharpen", "kirsch", "0 1; 2 -3"])
@pytest.mark.parametrize("source", ["img.png", "deep.png", "alpha.png", "real.npy"])
@pytest.mark.parametrize("signed", ["auto", "clip", "abs", "offset", "stretch"])
def test_a_fixed_kernel_in_a_layer_is_convolve(kernel, source, signed, photo, rng):
    cnnfilter.write_image("deep.png", rng.integers(0, 65536, (9, 8, 3)).astype(np.uint16))
    cnnfilter.write_image("alpha.png", rng.integers(0, 256, (9, 8, 4)).astype(np.uint8))
    np.save("real.npy", rng.standard_normal((9, 8)).astype(np.float32))
    one = cnnfilter.read_image(done("convolve", source, "-k", kernel, "--signed", signed)).pixels
    other = cnnfilter.read_image(done("apply", f"conv '{kernel}'", source, "--signed", signed)).pixels
    if source in ("alpha.png", "deep.png"):  # alpha as float32; sums of 16 bits have more digits than float32
        np.testing.assert_allclose(other.astype(int), one.astype(int), atol=1)
    else:
        np.testing.assert_array_equal(other, one)


def test_gray_is_pillows(photo):
    expected = np.asarray(PillowImage.fromarray(photo).convert("L"))
    np.testing.assert_array_equal(picture(done("apply", "gray", "img.png")), expected)


def test_other_numbers_of_maps_are_a_sheet(photo):
    assert numbers(done("apply", "gray | conv sobel-h blur", "img.png", "-f", "npy")).shape == (14, 17, 2)
    assert picture(done("apply", "gray | conv sobel-h blur", "img.png")).shape[:2] > (14, 17)


@pytest.mark.parametrize("kernels", [2, 3, 4, 5])
@pytest.mark.parametrize("form", ["png", "jpg", "tiff", "webp"])
def test_maps_that_are_not_the_channels_are_a_sheet_in_every_format(kernels, form, photo):
    text = "gray | conv " + " ".join(["sobel-h", "sobel-v", "laplacian", "emboss", "blur"][:kernels])
    done("apply", text, "img.png", "-o", f"sheet.{form}")
    sheet = cnnfilter.read_image(f"sheet.{form}")
    assert (sheet.mode, len(sheet.frames)) == ("RGB", 0)
    assert sheet.pixels.shape[:2] > (100, 100)
    done("apply", "conv blur", "img.png", "--sheet", "-o", f"more.{form}")
    assert cnnfilter.read_image(f"more.{form}").pixels.shape[:2] > (100, 100)
    refused = run("apply", text, "img.png", "--no-sheet", "-o", f"maps.{form}")
    if form == "tiff":
        assert len(cnnfilter.read_image("maps.tiff").frames) == kernels
    elif kernels == 5:
        assert refused.exit_code == 1
        assert "cannot hold 5 channels" in refused.stderr
    else:
        assert cnnfilter.read_image(f"maps.{form}").pixels.shape[:2] == (14, 17)


@pytest.mark.parametrize("command", [("convolve", "-k", "-1 1"), ("apply", "conv '-1 1'")])
@pytest.mark.parametrize("form", ["tif", "png"])
@pytest.mark.parametrize("alpha", [False, True])
def test_stretch_uses_one_range_for_a_file(command, form, alpha):
    pages = np.zeros((2, 16, 16), np.uint8)
    pages[0, :, 8:], pages[1, :, 8:] = 10, 200
    images = [
        PillowImage.fromarray(page).convert("LA" if alpha else "L").convert("RGBA" if alpha else "RGB")
        for page in pages
    ]
    options = {} if form == "tif" else {"duration": 100}
    images[0].save(f"in.{form}", save_all=True, append_images=images[1:], **options)
    done(*command, f"in.{form}", "--signed", "stretch", "-o", f"out.{form}")
    found = [frame[:, :, :3].max() for frame in cnnfilter.read_image(f"out.{form}").frames]
    assert found == [13, 255]


# --- pictures in and out


def test_sixteen_bits_keep_their_low_byte(rng):
    pixels = rng.integers(0, 65536, (9, 8, 3)).astype(np.uint16)
    cnnfilter.write_image("a.png", pixels)
    for source, target in (("a.png", "b.tif"), ("b.tif", "c.png"), ("c.png", "d.tiff")):
        done("convolve", source, "-k", "identity", "-o", target)
        np.testing.assert_array_equal(cnnfilter.read_image(target).pixels, pixels)
    np.testing.assert_array_equal(cnnfilter.read_image(done("pool", "a.png", "--size", "1")).pixels, pixels)


def test_floats_keep_their_sign(rng):
    values = rng.standard_normal((9, 8)).astype(np.float32)
    np.save("a.npy", values)
    expected = around(values[:, :, None], SOBEL_H)[:, :, 0]
    np.testing.assert_allclose(numbers(done("convolve", "a.npy", "-k", "sobel-h")), expected, atol=1e-5)
    done("convolve", "a.npy", "-k", "sobel-h", "-o", "a.tiff")
    np.testing.assert_allclose(opened("a.tiff"), expected, atol=1e-5)


def test_alpha_keeps_hidden_colours_hidden():
    pixels = np.full((9, 9, 4), (200, 100, 50, 255), np.uint8)
    pixels[:, 4:] = (255, 0, 255, 0)
    PillowImage.fromarray(pixels).save("a.png")
    kept = picture(done("convolve", "a.png", "-k", "box:3"))
    np.testing.assert_array_equal(kept[:, :4, :3], pixels[:, :4, :3])
    np.testing.assert_array_equal(kept[:, :, 3], pixels[:, :, 3])
    filtered = picture(done("convolve", "a.png", "-k", "box:3", "--alpha", "filter"))
    assert filtered[4, 2:6, 3].tolist() == [255, 170, 85, 0]
    assert picture(done("convolve", "a.png", "-k", "box:3", "--alpha", "drop")).shape == (9, 9, 3)
    assert picture(done("pool", "a.png")).shape == (4, 4, 4)


@pytest.mark.parametrize("format", ["png", "jpg", "webp", "tiff", "gif", "bmp", "ppm", "npy"])
def test_formats(format, photo):
    by_name = done("convolve", "img.png", "-k", "identity", "-f", format)
    done("convolve", "img.png", "-k", "identity", "-o", f"out.{format}")
    assert cnnfilter.read_image(by_name).format == format
    found = cnnfilter.read_image(f"out.{format}")
    assert (found.format, found.pixels.shape[:2]) == (format, (14, 17))


@pytest.mark.parametrize(
    ("source", "args", "name"),
    [
        ("img.png", ["-k", "sobel-h"], "img-sobel-h.png"),
        ("img.jpg", ["-k", "sobel-h"], "img-sobel-h.jpg"),
        ("img.bmp", ["-k", "sobel-h"], "img-sobel-h.bmp"),
        ("img.jpg", ["-k", "gaussian:1.4", "-f", "webp"], "img-gaussian-1.4.webp"),
    ],
)
def test_the_name_of_a_result(source, args, name, photo):
    for path in (source, "other.png"):
        PillowImage.fromarray(photo).save(path)
    assert done("convolve", source, "other.png", *args).decode().split()[0] == name
    assert Path(name).is_file()


def test_outputs(photo):
    Path("sub").mkdir()
    Path("sub/b.png").write_bytes(Path("img.png").read_bytes())
    done("pool", "img.png", "sub/b.png", "-o", "out/")
    done("pool", "img.png", "sub/b.png", "-o", "t/{dir}/{index}-{stem}-{name}.{ext}")
    done("pool", "-r", "sub", "-o", "r/{dir}/{stem}.webp")
    found = sorted(str(path) for path in Path().rglob("*/*") if path.is_file())
    templates = ["t/1-img-img.png.png", "t/sub/2-b-b.png.png"]
    assert found == ["out/b.png", "out/img.png", "r/sub/b.webp", "sub/b.png", *templates]


def test_what_exists_is_replaced_only_by_force(photo):
    before = Path("img.png").read_bytes()
    refused = run("pool", "img.png", "-o", "img.png")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: img.png: exists already")
    assert Path("img.png").read_bytes() == before
    done("pool", "img.png", "-o", "img.png", "--force")
    assert opened("img.png").shape == (7, 8, 3)


@pytest.mark.parametrize("output", ["one.png", "out/x.png", "-"])
def test_two_inputs_do_not_share_an_output(output, photo):
    Path("b.png").write_bytes(Path("img.png").read_bytes())
    assert run("pool", "img.png", "b.png", "-o", output).exit_code == 2
    assert sorted(path.name for path in Path().iterdir()) == ["b.png", "img.png"]


def test_one_bad_file_stops_no_other(photo):
    Path("bad.png").write_bytes(Path("img.png").read_bytes()[:80])
    result = run("pool", "bad.png", "missing.png", "img.png", "-o", "out/")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["Error", "bad.png"], ["Error", "missing.png"]]
    assert [path.name for path in Path("out").iterdir()] == ["img.png"]


def test_a_pipe_gives_what_a_file_gives(photo):
    through = done("pool", "--size", "3", input=done("convolve", "-k", "sharpen", input=Path("img.png").read_bytes()))
    done("convolve", "img.png", "-k", "sharpen", "-o", "a.png")
    done("pool", "a.png", "--size", "3", "-o", "b.png")
    np.testing.assert_array_equal(picture(through), opened("b.png"))
