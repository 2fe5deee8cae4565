"""The text of layers: cutting it up, reading words, writing them back."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnfilter import ModelError
from cnnfilter.layers import grammar
from cnnfilter.layers.grammar import LayerText, Stage, quoted, split_stages


def test_stages_words_and_options():
    assert split_stages("  conv  a b  stride=2|relu ") == [
        Stage("conv a b stride=2", ("conv", "a", "b"), {"stride": "2"}),
        Stage("relu", ("relu",), {}),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("conv '1 | 2; 3 | 4'", ("conv", "1 | 2; 3 | 4")),
        ('conv "it\'s.txt"', ("conv", "it's.txt")),
        ("conv 'a'\"b\"c", ("conv", "abc")),
        ("conv 'stride=2'", ("conv", "stride=2")),
        ("conv ''", ("conv", "")),
        ("conv\n0,1\tx", ("conv", "0,1", "x")),
    ],
)
def test_quotes_keep_a_word_together(text, words):
    assert split_stages(text) == [Stage(text.replace("\n", " ").replace("\t", " "), words, {})]


def test_a_quoted_value():
    assert split_stages("conv a border='constant:1 0'")[0].options == {"border": "constant:1 0"}


@given(st.text(min_size=1))
def test_any_word_can_be_quoted(word):
    assert split_stages(f"conv {quoted(word)} | relu")[0].words == ("conv", word)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "stage 1 is empty"),
        ("relu | | abs", "stage 2 is empty"),
        ("relu |", "stage 2 is empty"),
        ("conv '1 2", "the quote '1 2 is not closed"),
        ("conv a pad=1 pad=2", "layer 1 'conv a pad=1 pad=2': pad= is given twice"),
    ],
)
def test_text_that_falls_apart_wrongly(text, message):
    with pytest.raises(ModelError, match=message):
        split_stages(text)


@pytest.mark.parametrize(
    ("kind", "text", "value", "shown"),
    [
        (grammar.INTEGER, "12", 12, "12"),
        (grammar.PAIR, "2", (2, 2), "2"),
        (grammar.PAIR, "2,3", (2, 3), "2,3"),
        (grammar.PAIR, "2x3", (2, 3), "2,3"),
        (grammar.SIZE, "3x5", (3, 5), "3x5"),
        (grammar.KERNELS, "32x3x5", (32, 3, 5), "32x3x5"),
        (grammar.SIDES, "0", (0, 0, 0, 0), "0"),
        (grammar.SIDES, "1,2", (1, 2, 1, 2), "1,2"),
        (grammar.PADDING, "same", "same", "same"),
        (grammar.PADDING, "valid", "valid", "valid"),
        (grammar.PADDING, "0,1,1,0", (0, 1, 1, 0), "0,1,1,0"),
        (grammar.PADDING, "2,2,2,2", (2, 2, 2, 2), "2"),
        (grammar.NUMBER, "-1.50", -1.5, "-1.5"),
        (grammar.NUMBER, "1e3", 1000.0, "1000"),
        (grammar.SHARE, "0", 0.0, "0"),
        (grammar.SHARE, "0.30", 0.3, "0.3"),
        (grammar.YES_NO, "No", False, "no"),
        (grammar.YES_NO, "1", True, "yes"),
    ],
)
def test_kinds_of_words(kind, text, value, shown):
    assert kind.read(text) == value
    assert kind.show(value) == shown
    assert kind.read(shown) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (grammar.INTEGER, "0"),
        (grammar.INTEGER, "-1"),
        (grammar.INTEGER, "1.5"),
        (grammar.INTEGER, "٣"),
        (grammar.INTEGER, "9" * 30),
        (grammar.PAIR, "2,"),
        (grammar.PAIR, "1,2,3"),
        (grammar.SIZE, "3"),
        (grammar.KERNELS, "3x3"),
        (grammar.KERNELS, "3,3,3"),
        (grammar.SIDES, "1,2,3"),
        (grammar.SIDES, "-1"),
        (grammar.PADDING, "full"),
        (grammar.NUMBER, "nan"),
        (grammar.NUMBER, "inf"),
        (grammar.SHARE, "1"),
        (grammar.YES_NO, "maybe"),
    ],
)
def test_words_that_are_not_of_their_kind(kind, text):
    assert kind.read(text) is None


@dataclasses.dataclass(frozen=True)
class Sample(LayerText):
    name = "sample"
    example = "sample 3 wide"

    count: int = grammar.word(grammar.INTEGER)
    step: tuple[int, int] = grammar.option(grammar.PAIR, (1, 1))
    shown: int = grammar.option(grammar.INTEGER, 6, always=True)
    wide: bool = grammar.flag()


def read(text):
    return Sample.read(split_stages(text)[0])


@pytest.mark.parametrize(
    ("text", "wanted", "written"),
    [
        ("sample 3", Sample(3), "sample 3 shown=6"),
        ("sample wide 3 step=2", Sample(3, (2, 2), 6, True), "sample 3 step=2 shown=6 wide"),
        ("sample 3 wide=no step=1", Sample(3), "sample 3 shown=6"),
        ("sample 3 wide=yes", Sample(3, wide=True), "sample 3 shown=6 wide"),
    ],
)
def test_a_layer_is_read_and_written(text, wanted, written):
    assert read(text) == wanted
    assert str(wanted) == wanted.text == written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample", "sample lacks its count: a whole number from 1, as in 'sample 3 wide'"),
        ("sample x", "count 'x' is not a whole number from 1"),
        ("sample 3 4", "sample does not take '4'; it takes step= shown= wide, as in 'sample 3 wide'"),
        ("sample 3 wyde", "sample does not take 'wyde'; did you mean 'wide'"),
        ("sample 3 stop=1", "sample has no option stop=; did you mean 'step'"),
        ("sample 3 step=0", "step=0 is not N or H,W, whole numbers from 1"),
    ],
)
def test_a_layer_that_cannot_be_read(text, message):
    with pytest.raises(ModelError, match=message):
        read(text)
