"""Stacks of layers: the grammar, shapes and errors, and what the layers without weights compute."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnnfilter import (
    CnnfilterError,
    KernelError,
    ModelError,
    ShapeError,
    convolve,
    kernel_names,
    parse_layers,
    pool,
)
from cnnfilter.layers import fixed, learned
from cnnfilter.layers.activations import NAMES as ACTIVATIONS
from cnnfilter.layers.fixed import Activation
from cnnfilter.layers.layer import Layer
from cnnfilter.layers.names import LAYER_NAMES
from cnnfilter.layers.stack import Layers, run_layers

TEXTS = [
    "conv 32x3x3 | relu | maxpool 2 | flatten | dense 10",
    "conv sobel-h",
    "conv sobel-h blur stride=2 pad=valid dilation=2,1 border=constant:3.5",
    "conv sobel-h gaussian:1.4 stride=3",
    "conv '0 -1 0; -1 5 -1; 0 -1 0' pad=1,2 border=reflect bias=-1.5",
    "conv 8x3x5 stride=2,1 pad=0,1,1,0 dilation=2 bias=no",
    "depthwise 3x3 stride=2 bias=no | batchnorm | relu6",
    "mbconv 24x3x3 expand=6 stride=2 | mbconv 24x3x3 expand=6",
    "maxpool 3 stride=2 pad=1 ceil | avgpool 2,3 dilation=2 | minpool 2",
    "globalpool avg | flatten | dropout 0.3 | dense 5 bias=no | softmax",
    "globalpool max",
    "relu | relu6 | leaky:0.1 | sigmoid | tanh | softmax | abs",
    "gray | conv sobel | abs",
    "conv '100' blur '7'",
]


# --- text ⇄ layers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_as_it_was(text):
    layers = parse_layers(text)
    assert str(layers) == text
    assert parse_layers(str(layers)) == layers


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("maxpool 2,2", "maxpool 2"),
        ("maxpool 2x3", "maxpool 2,3"),
        ("maxpool ceil 2 stride=02", "maxpool 2 stride=2 ceil"),
        ("conv 32x3x3 pad=same stride=1 bias=yes", "conv 32x3x3"),
        ("conv pad=1,1 sobel-h", "conv sobel-h pad=1"),
        ('conv "1 2 1"', "conv '1 2 1'"),
        ("mbconv 24x3x3", "mbconv 24x3x3 expand=6"),
        ("globalpool", "globalpool avg"),
        ("dropout", "dropout 0.5"),
        ("  relu|abs  ", "relu | abs"),
    ],
)
def test_notations_of_the_same_layers(typed, text):
    assert str(parse_layers(typed)) == text


@given(
    st.lists(st.sampled_from([stage for text in TEXTS for stage in text.split(" | ")]), min_size=1, max_size=6).map(
        " | ".join
    )
)
def test_any_stack_reads_back_as_itself(text):
    layers = parse_layers(text)
    assert parse_layers(str(layers)) == layers
    assert hash(parse_layers(str(layers))) == hash(layers)


def test_each_row_of_the_table_has_its_class():
    for row in LAYER_NAMES:
        for path in filter(None, (row.layer, row.learned_layer)):
            module, layer = path.split(".")
            found = getattr(importlib.import_module(f"cnnfilter.layers.{module}"), layer)
            assert issubclass(found, Layer)
            assert found is Activation or found.name == row.name


def test_each_class_with_a_name_has_its_row():
    paths = {path for row in LAYER_NAMES for path in (row.layer, row.learned_layer)}
    for module in (fixed, learned):
        for name, layer in vars(module).items():
            if isinstance(layer, type) and "name" in vars(layer) and layer.__module__ == module.__name__:
                assert f"{module.__name__.rpartition('.')[2]}.{name}" in paths


def test_each_activation_has_its_row():
    rows = [row.name for row in LAYER_NAMES if row.layer == "fixed.Activation"]
    assert rows == [name.partition(":")[0] for name in ACTIVATIONS]


def test_each_other_name_suggests_a_layer():
    for row in LAYER_NAMES:
        for other, text in row.other_names.items():
            assert text.split()[0].partition(":")[0] == row.name
            with pytest.raises(ModelError, match=f"no layer '{other}'; did you mean '{text}'"):
                parse_layers(other)


def test_kernels_of_one_number_are_quoted_in_text():
    layers = parse_layers("conv -1 '0' '1/9' | conv 0.5 | conv '.5,1' sobel-h | conv '{1}'")
    assert str(layers) == "conv '-1' '0' '1/9' | conv '0.5' | conv '.5,1' sobel-h | conv '{1}'"
    assert parse_layers(str(layers)) == layers
    assert parse_layers("conv '-1' '0' '1'").output_shape((4, 5, 2)) == (4, 5, 6)
    assert parse_layers("conv '-1 0 1'").output_shape((4, 5, 2)) == (4, 5, 2)


def test_layers_are_a_tuple():
    layers = parse_layers("relu | abs | tanh")
    assert len(layers) == 3
    assert [str(layer) for layer in layers] == ["relu", "abs", "tanh"]
    assert isinstance(layers[:2], Layers)
    assert str(layers[1:]) == "abs | tanh"
    assert layers[0].text == "relu"


def test_every_named_kernel_is_a_layer():
    for name in kernel_names():
        try:
            layers = parse_layers(f"conv {name}")
        except KernelError:  # a name that asks for numbers, which the tests of kernels know
            continue
        assert layers.output_shape((64, 64, 2)) == (64, 64, 2)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "relu | sharpn | abs",
            ModelError,
            r"layer 2 'sharpn': no layer 'sharpn'; did you mean 'conv sharpen'\?",
        ),
        ("sobel-h", ModelError, r"layer 1 'sobel-h': 'sobel-h' is a kernel; did you mean 'conv sobel-h'\?"),
        ("gaussian:2", ModelError, r"did you mean 'conv gaussian:2'\?"),
        ("relv", ModelError, r"did you mean 'relu'\?"),
        ("ReLU", ModelError, r"did you mean 'relu'\?"),
        ("fc 10", ModelError, r"did you mean 'dense'\?"),
        ("grey", ModelError, r"did you mean 'gray'\?"),
        ("wibble", ModelError, r"no layer 'wibble'; there are conv, maxpool"),
        ("conv", ModelError, r"conv lacks its kernels: a kernel .* as in 32x3x3"),
        ("conv -1 0 1", ModelError, r"one kernel or 3 kernels: write conv '-1 0 1' for one, conv '-1' '0' '1' for 3$"),
        ("conv sobel-h 1/9 .5 stride=2", ModelError, r"write conv '1/9 .5' for one, conv '1/9' '.5' for 2$"),
        ("conv 32 3 3", ModelError, r"conv '32' '3' '3' for 3, or conv 32x3x3 for learned kernels$"),
        ("conv 1 0 1", ModelError, r"write conv '1 0 1' for one, conv '1' '0' '1' for 3$"),
        ("conv 0,-1,0 -1,5,-1 0,-1,0", ModelError, r"write conv '0,-1,0 -1,5,-1 0,-1,0' for one, conv '0,-1,0' "),
        ("conv 0 -1 0, -1 5 -1, 0 -1 0", ModelError, r"is quoted: write conv '0 -1 0, -1 5 -1, 0 -1 0'$"),
        ("conv -1 -2 -1; 0 0 0; 1 2 1", ModelError, r"is quoted: write conv '-1 -2 -1; 0 0 0; 1 2 1'$"),
        ("conv [0 -1 0; -1 5 -1] pad=1", ModelError, r"is quoted: write conv '\[0 -1 0; -1 5 -1\]'$"),
        ("conv 3x3: 0,1,2,3,4,5,6,7,8", ModelError, r"is quoted: write conv '3x3: 0,1,2,3,4,5,6,7,8'$"),
        ("conv 1 2 3 4 5 6 7 8 9", ModelError, r"is quoted, and 9 numbers in a row can be a kernel of 3x3 or one row"),
        ("conv 3x3", ModelError, r"conv 3x3 lacks maps or size: maps x height x width, as in 'conv 32x3x3'"),
        ("conv sobl-h", KernelError, r"layer 1 'conv sobl-h': .*did you mean sobel-h"),
        ("conv '1 2; 3'", KernelError, r"layer 1 'conv '1 2; 3'': "),
        ("conv blur border=zer", ModelError, r"border=zer is not replicate, reflect"),
        ("conv blur bias=yes", ModelError, r"bias=yes is not a number"),
        ("conv 32x3x3 border=zero", ModelError, r"conv has no option border="),
        ("conv 0x3x3", ModelError, r"kernels '0x3x3' is not maps x height x width"),
        ("relu 1", ModelError, r"relu takes nothing more, not '1'"),
        ("relu x=1", ModelError, r"relu takes nothing more, not 'x=1'"),
        ("leaky:x", ModelError, r"leaky takes the slope below 0 as a number"),
        ("globalpool sum", ModelError, r"op 'sum' is not avg or max"),
        ("", ModelError, r"stage 1 is empty"),
    ],
)
def test_an_error_names_the_stage_and_a_remedy(text, error, message):
    with pytest.raises(error, match=message):
        parse_layers(text)


# --- shapes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "given", "wanted"),
    [
        ("conv 32x3x3", (28, 28, 1), (28, 28, 32)),
        ("conv 32x3x3 pad=valid", (28, 28, 1), (26, 26, 32)),
        ("conv 32x3x3 stride=2", (28, 27, 1), (14, 14, 32)),
        ("conv 32x3x3 pad=1 stride=2 dilation=2", (28, 28, 1), (13, 13, 32)),
        ("conv sobel-h sobel-v", (9, 8, 3), (9, 8, 6)),
        ("conv sobel kirsch", (9, 8, 3), (9, 8, 6)),
        ("depthwise 5x5 stride=2", (9, 8, 3), (5, 4, 3)),
        ("mbconv 24x3x3 expand=6 stride=2", (9, 8, 3), (5, 4, 24)),
        ("maxpool 2", (9, 8, 3), (4, 4, 3)),
        ("maxpool 2 ceil", (9, 8, 3), (5, 4, 3)),
        ("avgpool 3 stride=2 pad=1", (9, 8, 3), (5, 4, 3)),
        ("globalpool max", (9, 8, 3), (1, 1, 3)),
        ("gray", (9, 8, 3), (9, 8, 1)),
        ("flatten", (9, 8, 3), (216,)),
        ("flatten | relu | batchnorm | dropout", (9, 8, 3), (216,)),
        ("globalpool avg | dense 7", (9, 8, 3), (7,)),
        ("dense 7 | relu | dense 2 | softmax", (1, 1, 3), (2,)),
    ],
)
def test_output_shapes(text, given, wanted):
    assert parse_layers(text).output_shape(given) == wanted


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        (
            "relu | dense 10",
            (5, 4, 3),
            r"layer 2 'dense 10': needs flat numbers and gets maps of 5x4x3; put 'flatten'",
        ),
        (
            "flatten | conv blur",
            (5, 4, 3),
            r"layer 2 'conv blur': needs maps \(HxWxC\) and gets 60 flat numbers",
        ),
        ("flatten | maxpool 2", (5, 4, 3), r"layer 2 'maxpool 2': needs maps"),
        ("flatten | globalpool avg", (5, 4, 3), r"layer 2 'globalpool avg': needs maps"),
        ("maxpool 2 | maxpool 3", (5, 4, 3), r"layer 2 'maxpool 3': a window of 3x3 does not fit into 2x2"),
        (
            "conv 4x7x7 pad=valid",
            (5, 9, 3),
            r"layer 1 'conv 4x7x7 pad=valid': a window of 7x7 does not fit into 5x9",
        ),
        ("maxpool 2 pad=2", (5, 9, 3), r"layer 1 'maxpool 2 pad=2': padding 2 is more than half"),
        ("conv '1 2' '1 2 1' pad=valid", (5, 9, 3), r"kernels of different sizes \(1x2, 1x3\)"),
        ("gray", (5, 9, 2), r"layer 1 'gray': needs 3 maps \(red, green, blue\) or 1, and gets 2"),
    ],
)
def test_shape_errors_name_the_layer_and_the_numbers(text, given, message):
    with pytest.raises(ShapeError, match=message):
        parse_layers(text).output_shape(given)


# --- what they compute ------------------------------------------------------------------------------------


@pytest.fixture
def picture(rng):
    return rng.integers(0, 256, (12, 11, 3), np.uint8)


def test_layers_equal_the_functions(picture):
    maps = run_layers(picture, "conv sharpen | relu | maxpool 3 stride=2 pad=1 ceil")
    sharp = convolve(picture, "sharpen")
    wanted = pool(np.maximum(sharp, 0), size=3, stride=2, padding=1, ceil_mode=True)
    assert maps.dtype == np.float32
    np.testing.assert_array_equal(maps, wanted)


@pytest.mark.parametrize("op", ["max", "min", "avg"])
def test_pools(picture, op):
    got = run_layers(picture, f"{op}pool 2,3 stride=1,2 pad=1 dilation=2,1")
    options = {"size": (2, 3), "stride": (1, 2), "padding": 1, "dilation": (2, 1)}
    np.testing.assert_array_equal(got, pool(picture.astype(np.float32), op, **options))


def test_options_of_a_fixed_convolution(picture):
    got = run_layers(picture, "conv emboss stride=2 pad=1,0 dilation=2 border=reflect bias=7")
    options = {"stride": 2, "padding": (1, 0), "dilation": 2, "border": "reflect", "bias": 7}
    np.testing.assert_array_equal(got, convolve(picture, "emboss", **options))


def test_maps_come_map_by_map_and_within_by_kernel(picture):
    maps = run_layers(picture, "conv sobel-h identity")
    assert maps.shape == (12, 11, 6)
    np.testing.assert_array_equal(maps[:, :, 1::2], picture)
    np.testing.assert_array_equal(maps[:, :, 0::2], convolve(picture, "sobel-h"))


def test_a_pair_gives_its_magnitude(picture):
    both = run_layers(picture, "conv sobel-h sobel-v")
    magnitude = run_layers(picture, "conv sobel")
    np.testing.assert_allclose(magnitude, np.hypot(both[:, :, 0::2], both[:, :, 1::2]), rtol=1e-5, atol=1e-3)


def test_the_edge_is_repeated_unless_the_border_says_otherwise():
    ones = np.ones((3, 3), np.float32)
    np.testing.assert_allclose(run_layers(ones, "conv box:3")[0, 0, 0], 1, rtol=1e-6)
    np.testing.assert_allclose(run_layers(ones, "conv box:3 border=zero")[0, 0, 0], 4 / 9, rtol=1e-6)


def test_gray_is_pillows_l(rng):
    picture = rng.integers(0, 256, (64, 64, 3), np.uint8)
    luma = np.floor(run_layers(picture, "gray")[:, :, 0] + 0.5)
    np.testing.assert_array_equal(luma, np.asarray(Image.fromarray(picture).convert("L")))
    np.testing.assert_array_equal(run_layers(picture[:, :, :1], "gray"), picture[:, :, :1])


def test_gray_of_grey_is_exact():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(run_layers(grey, "gray")[0, :, 0], np.arange(256))


def test_flatten_and_activations(picture):
    flat = run_layers(picture, "flatten | leaky:0.1")
    np.testing.assert_array_equal(flat, picture.reshape(1, 1, -1))
    shares = run_layers(picture, "softmax")
    np.testing.assert_allclose(shares.sum(axis=2), np.ones((12, 11)), rtol=1e-6)


def test_dropout_does_nothing_outside_training(picture):
    np.testing.assert_array_equal(run_layers(picture, "dropout 0.9"), picture)


@pytest.mark.parametrize("op", ["avg", "max"])
def test_globalpool(picture, op):
    wanted = {"avg": np.mean, "max": np.max}[op](picture.astype(np.float64), axis=(0, 1))
    np.testing.assert_allclose(run_layers(picture, f"globalpool {op}"), wanted[None, None], rtol=1e-6)


@pytest.mark.parametrize("text", [text for text in TEXTS if not any(w in text for w in ("x3", "dense", "depth"))])
def test_a_batch_is_its_pictures_and_shapes_are_as_promised(text, rng):
    start = batch = rng.normal(size=(2, 24, 21, 3)).astype(np.float32)
    before = batch.copy()
    layers = parse_layers(text)
    shapes = list(layers.shapes((24, 21, 3)))
    alone = [batch[:1], batch[1:]]
    for layer, shape in zip(layers, shapes[1:], strict=True):
        batch = layer.forward(batch)
        alone = [layer.forward(one) for one in alone]
        assert batch.shape == (2, *shape)
        assert batch.dtype == np.float32
        np.testing.assert_array_equal(batch, np.concatenate(alone))
    np.testing.assert_array_equal(start, before)


def test_forms_of_pictures():
    flat = np.arange(16, dtype=np.uint16).reshape(4, 4)
    assert run_layers(flat, "maxpool 2").shape == (2, 2, 1)
    assert run_layers(flat, parse_layers("maxpool 2")).flags.c_contiguous
    before = flat.copy()
    run_layers(flat, "relu")
    np.testing.assert_array_equal(flat, before)


def test_learned_layers_need_weights():
    with pytest.raises(ModelError, match=r"layer 2 'conv 32x3x3' has learned weights"):
        run_layers(np.zeros((8, 8)), "relu | conv 32x3x3")
    with pytest.raises(ModelError, match=r"layer 1 'batchnorm' has learned weights"):
        run_layers(np.zeros((8, 8)), "batchnorm")


def test_shapes_that_do_not_fit_are_refused_before_any_work():
    with pytest.raises(ShapeError, match="layer 2 'maxpool 9'"):
        run_layers(np.zeros((8, 8)), "relu | maxpool 9")


@given(st.text(alphabet="conv reluX3x21|='\";:,.-gray maxpool\n", max_size=40))
def test_nonsense_is_refused_with_one_of_our_errors(text):
    try:
        layers = parse_layers(text)
    except CnnfilterError:
        return
    assert parse_layers(str(layers)) == layers
