"""Any text and any bytes: understood, or refused with a message. What fuzzing found stays here as files."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnfilter.cli import options
from cnnfilter.runtime.limits import parse_size
from tests.fuzz import run
from tests.fuzz.targets import TARGETS, seeds

EACH = settings(max_examples=150, deadline=None, derandomize=True)


def findings():
    return [
        pytest.param(path.parent.name, path, id=f"{path.parent.name}-{path.name[:20]}")
        for path in sorted(run.FINDINGS.glob("*/*"))
    ]


@pytest.mark.parametrize(("target", "path"), findings())
def test_what_was_found_once_is_not_found_again(target, path):
    TARGETS[target](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds_are_right_inputs(target):
    for seed in seeds()[target]:
        TARGETS[target](seed)


def changed(target):
    """Right inputs with a piece replaced, doubled or left out."""
    pieces = st.tuples(st.sampled_from(seeds()[target]), st.integers(0, 400), st.integers(0, 40), st.binary(max_size=8))
    return pieces.map(lambda piece: piece[0][: piece[1]] + piece[3] + piece[0][piece[1] + piece[2] :])


@pytest.mark.parametrize("target", TARGETS)
def test_right_inputs_that_were_changed(target):
    @EACH
    @given(changed(target))
    def check(data):
        TARGETS[target](data)

    check()


@EACH
@given(st.text(max_size=30))
@pytest.mark.parametrize("target", ["kernel", "layers"])
def test_any_text(target, text):
    TARGETS[target](text.encode("utf-8", "surrogatepass"))


WORDS = """conv sobel-h relu maxpool 2 3x3 stride=2 pad=1,2 | 'a ' " dense 16x3x3 = , : gray -1 1e9"""
words = st.sampled_from(re.split(" ", WORDS))


@EACH
@given(st.lists(words, max_size=12).map(" ".join))
def test_words_of_the_layer_grammar_in_any_order(text):
    TARGETS["layers"](text.encode())


numbers = st.sampled_from(["0", "-1", "1/3", "1e5", ".5", "nan", "inf", "1/0", "--2", "1e999", "٣", "x"])


@EACH
@given(st.lists(st.lists(numbers, min_size=1, max_size=4).map(" ".join), min_size=1, max_size=4).map("; ".join))
def test_rows_of_numbers_and_what_is_none(text):
    TARGETS["kernel"](text.encode())


TYPES = {
    "pair": options.Pair(1),
    "count": options.Count(),
    "padding": options.Padding(),
    "border": options.Border(),
    "number": options.Number(),
    "size": options.Size(),
    "format": options.Format(),
}
symbols = st.text(alphabet="0123456789,x.-+eE_ :samevlidconstzrkMGiB\u0663\u00b2\n", max_size=12)


@EACH
@given(st.one_of(st.text(max_size=20), symbols))
@pytest.mark.parametrize("kind", TYPES)
def test_options_understand_or_refuse_any_text(kind, text):
    try:
        value = TYPES[kind].convert(text, None, None)
    except click.BadParameter as error:
        message = error.message
        assert message
        return
    if kind in ("count", "size"):
        assert value >= 1
    if kind == "number":
        assert np.isfinite(value)


@EACH
@given(st.integers(1, 2**40), st.sampled_from(["", "k", "K", "M", "G", "MB", "MiB"]))
def test_sizes(number, unit):
    factor = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[unit[:1].lower()]
    if number * factor < 2**52:
        assert parse_size(f"{number}{unit}") == number * factor


@pytest.mark.parametrize(("option", "effort"), [("--seconds", "1 s"), ("--runs", "1 inputs")])
def test_the_fuzzer_runs(option, effort):
    pytest.importorskip("atheris")
    done = subprocess.run([sys.executable, run.__file__, option, "1", "pnm"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"1 targets, {effort} each; found something in: none" in done.stdout


def test_the_fuzzer_names_its_targets():
    done = subprocess.run([sys.executable, run.__file__, "nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "there are png, npy, pnm, tiff, kernel, layers, model" in done.stderr
