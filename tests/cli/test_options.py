"""Options: the values that they accept and refuse, and the parameters of the library that they are."""

from __future__ import annotations

import inspect

import click
import pytest

from cnnfilter import load_folder
from cnnfilter.cli import options
from cnnfilter.cli.commands.convolve import command as convolve
from cnnfilter.cli.commands.evaluate import command as evaluate
from cnnfilter.cli.commands.pool import command as pool
from cnnfilter.cli.commands.train import command as train
from cnnfilter.filters.convolution import convolve as convolution
from cnnfilter.filters.pooling import pool as pooling

# --- types


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (options.Pair(1), "3", 3),
        (options.Pair(1), "3,2", (3, 2)),
        (options.Pair(1), "3x2", (3, 2)),
        (options.Pair(1), " 3 , 2 ", (3, 2)),
        (options.Pair(0), "0", 0),
        (options.Count(), "90000000000", 90_000_000_000),
        (options.Pixels(), "200M", 200_000_000),
        (options.Pixels(), "1.5g", 1_500_000_000),
        (options.Pixels(), "640k", 640_000),
        (options.Pixels(), "200e6", 200_000_000),
        (options.Pixels(), "200 MP", 200_000_000),
        (options.Pixels(), "89,478,485", 89_478_485),
        (options.Pixels(), "4611686018427387903", 2**62 - 1),
        (options.Padding(), "same", "same"),
        (options.Padding(), "valid", "valid"),
        (options.Padding(), "0", 0),
        (options.Padding(), "1,2", (1, 2)),
        (options.Padding(), "1,2,3,4", (1, 2, 3, 4)),
        (options.Border(), "reflect", "reflect"),
        (options.Border(), "constant:-1.5", "constant:-1.5"),
        (options.Number(), "-1e2", -100.0),
        (options.Format(), "JPEG", "jpg"),
        (options.Format(), ".tif", "tiff"),
    ],
)
def test_what_is_understood(kind, text, value):
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (options.Pair(1), "0", "whole number from 1 up"),
        (options.Pair(1), "-2", "'-2' is neither"),
        (options.Pair(1), "1.5", "'1.5'"),
        (options.Pair(1), "1,2,3", "height,width"),
        (options.Pair(1), "", "''"),
        (options.Pair(1), "2,", "'2,'"),
        (options.Pair(1), "99999999999999999999", "whole number"),
        (options.Pair(1), "٣" * 400 + "9" * 5000, "whole number"),
        (options.Count(), "0", "'0' is not a whole number from 1 up"),
        (options.Count(), "1,2", "'1,2'"),
        (options.Count(), "many", "'many'"),
        (options.Pixels(), "0", "'0' is not a number of pixels, such as 200000000 or 200M (million)"),
        (options.Pixels(), "1.5", "'1.5'"),
        (options.Pixels(), "-3", "'-3'"),
        (options.Pixels(), "200MB", "'200MB'"),
        (options.Pixels(), "4611686018427387904", "not a number of pixels"),
        (options.Pixels(), "1e99", "not a number of pixels"),
        (options.Pixels(), "12,34", "not a number of pixels"),
        (options.Pixels(), "nan", "not a number of pixels"),
        (options.Padding(), "1,2,3", "T,R,B,L"),
        (options.Padding(), "-1", "from 0 up"),
        (options.Padding(), "full", "none of same, valid"),
        (options.Border(), "mirror", "replicate, reflect, symmetric, wrap, zero or constant:V"),
        (options.Border(), "constant", "constant:255"),
        (options.Border(), "constant:nan", "constant:255"),
        (options.Border(), "zero:3", "none of"),
        (options.Number(), "nan", "'nan' is not a finite number"),
        (options.Number(), "inf", "finite"),
        (options.Number(), "ten", "finite"),
        (options.Format(), "xcf", "png"),
    ],
)
def test_what_is_refused(kind, text, message):
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(text, None, None)
    assert message in caught.value.message


def test_completion_offers_what_begins_so():
    def offered(kind, text):
        return [item.value for item in kind.shell_complete(None, None, text)]

    assert offered(options.KernelText(), "sobel") == ["sobel", "sobel-h", "sobel-v"]
    assert offered(options.Border(), "re") == ["replicate", "reflect"]
    assert offered(options.Padding(), "v") == ["valid"]
    assert [item.type for item in options.KernelText().shell_complete(None, None, "my/ker")] == ["file"]


# --- an option is its parameter


def defaults_of(function):
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


def options_of(command):
    return {option.name: option for option in command.params if isinstance(option, click.Option)}


@pytest.mark.parametrize(
    ("command", "function", "not_options"),
    [
        # dtype, out and allocate follow from the formats; pixels and kernels are the arguments.
        (convolve, convolution.convolve, {"pixels", "kernel", "dtype", "out"}),
        # combine: what the kernel's name means, which is magnitude if it means nothing else.
        (convolve, convolution.filter_picture, {"pixels", "kernels", "dtype", "combine", "allocate"}),
        (pool, pooling.pool, {"pixels", "dtype", "out"}),
        (train, load_folder, {"path"}),
    ],
)
def test_an_option_is_its_parameter(command, function, not_options):
    known = options_of(command)
    required = ["-k", "blur"] if "kernels" in known else ["-o", "x.safetensors"] if command is train else []
    without_options = command.make_context("x", ["file.png", *required]).params
    for name, default in defaults_of(function).items():
        if name not in not_options:
            assert f"--{name.replace('_', '-')}" in known[name].opts
            assert without_options[name] == default, name


def test_evaluate_reads_data_as_train_does():
    parameters = defaults_of(load_folder).keys() - {"path"}
    assert parameters <= options_of(evaluate).keys()
    for name in parameters - {"validation", "seed"}:
        assert options_of(evaluate)[name].help == options_of(train)[name].help


def test_the_choices_are_the_library_s():
    known = options_of(convolve)
    assert tuple(known["combine"].type.choices) == convolution.COMBINATIONS
    assert tuple(known["signed"].type.choices) == convolution.SIGNED


def test_the_borders_are_the_library_s():
    from cnnfilter.filters.windows import BORDERS

    assert {border.partition(":")[0] for border in BORDERS} == {*options.Border.names, "constant"}


def test_the_documented_limit_is_the_library_s():
    from cnnfilter.images.image import MAX_PIXELS

    assert f"[default: {MAX_PIXELS}]" in options_of(pool)["max_pixels"].help


def test_every_option_has_a_help_text():
    for command in (convolve, pool):
        for option in options_of(command).values():
            assert option.help, option.name
