"""The names of layers, and the errors in a text of layers that can be found without importing numpy.

Errors in words and options are left to the classes of the layers, see `cnnfilter.layers.stack`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cnnfilter.errors import CnnfilterError, KernelError, ModelError
from cnnfilter.kernels import text as kernel_grammar
from cnnfilter.kernels.catalogue import ENTRIES
from cnnfilter.layers.grammar import Stage, split_stages, suggestion, unquoted_words


class LayerName(NamedTuple):
    """A name of a layer, the class that reads its stages, and its names in other programs."""

    name: str
    layer: str
    """The class of the layer, as ``module.Class`` within `cnnfilter.layers`."""
    other_names: Mapping[str, str] = {}
    """Names in other programs, each with the text that is suggested instead."""
    learned_layer: str = ""
    """The class of the layer with learned kernels, where the same name stands for both."""


def _other_names(text: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, text)


LAYER_NAMES = (
    LayerName("conv", "fixed.FixedConvolution", {"conv2d": "conv 32x3x3", "convolve": "conv"}, "learned.Convolution"),
    LayerName("maxpool", "fixed.MaxPool", _other_names("maxpool", "maxpool2d", "max", "max-pool", "pool")),
    LayerName("avgpool", "fixed.AvgPool", _other_names("avgpool", "avgpool2d", "avg", "mean")),
    LayerName("minpool", "fixed.MinPool"),
    LayerName("globalpool", "fixed.GlobalPool", _other_names("globalpool avg", "gap")),
    LayerName("gray", "fixed.Gray", _other_names("gray", "grey", "grayscale")),
    LayerName("flatten", "fixed.Flatten"),
    LayerName("dropout", "learned.Dropout"),
    LayerName("depthwise", "learned.Depthwise"),
    LayerName("mbconv", "learned.InvertedBottleneck"),
    LayerName("batchnorm", "learned.BatchNorm", _other_names("batchnorm", "bn")),
    LayerName("dense", "learned.Dense", _other_names("dense", "linear", "fc")),
    LayerName("relu", "fixed.Activation"),
    LayerName("relu6", "fixed.Activation"),
    LayerName("leaky", "fixed.Activation", _other_names("leaky:0.01", "leakyrelu")),
    LayerName("sigmoid", "fixed.Activation"),
    LayerName("tanh", "fixed.Activation"),
    LayerName("softmax", "fixed.Activation"),
    LayerName("abs", "fixed.Activation"),
)
"""All layers, in the order in which errors list them. A new layer is one row here and its class."""

NAMES = tuple(row.name for row in LAYER_NAMES)
_BY_NAME = {row.name: row for row in LAYER_NAMES}
_SUGGESTIONS = {other: text for row in LAYER_NAMES for other, text in row.other_names.items()}


_SHOWN_WORDS_MAX = 12
"""Words of a kernel that a message repeats: those of 3x3 numbers and of their separators fit into a line."""


def check(text: str) -> None:
    """Refuse unknown layers, and kernels of ``conv`` that are not kernels.

    Raises
    ------
    ModelError, KernelError
        As `cnnfilter.layers.stack.parse_layers`, which also finds all other errors.
    """
    for number, stage in enumerate(split_stages(text), 1):
        try:
            name = name_of(stage)
            if name == "conv":
                refuse_unquoted_numbers(stage)
            if name == "conv" and not is_learned(stage):
                for word in stage.words[1:]:
                    kernel_grammar.check(word)
        except CnnfilterError as error:
            raise in_layer(number, stage, error) from error


def name_of(stage: Stage) -> str:
    """Return the name of a stage's layer; ModelError if there is no such layer."""
    name = stage.words[0].partition(":")[0]
    if name not in _BY_NAME:
        raise ModelError(_unknown(stage.words[0]))
    return name


def class_of(stage: Stage) -> str:
    """Return the class that reads a stage, as ``module.Class`` within `cnnfilter.layers`."""
    row = _BY_NAME[name_of(stage)]
    if row.name == "conv":
        refuse_unquoted_numbers(stage)
    return row.learned_layer if row.learned_layer and is_learned(stage) else row.layer


def refuse_unquoted_numbers(stage: Stage) -> None:
    """Refuse a ``conv`` with several numbers that are not quoted: they can be one kernel, or a kernel each.

    Raises
    ------
    ModelError
        The message shows the quoted forms.
    """
    words = unquoted_words(stage)
    numbers = [word for word in words if kernel_grammar.kind_of(word) == "numbers"]
    if len(numbers) < 2:
        return
    if re.search(r"[][{};:]|,(\s|$)", " ".join(words)):  # a mark of a row or of a matrix: it is one kernel
        raise ModelError(
            f"a kernel typed as numbers is quoted: write conv '{_shortened(words[words.index(numbers[0]) :])}'"
        )
    try:
        kernel_grammar.check(" ".join(numbers))
    except KernelError as error:
        raise ModelError(f"a kernel typed as numbers is quoted, and {error}") from error
    shown, each = _shortened(numbers), _shortened([f"'{number}'" for number in numbers])
    raise ModelError(
        f"the numbers {shown} can be one kernel or {len(numbers)} kernels: "
        f"write conv '{shown}' for one, conv {each} for {len(numbers)}{_learned_form(numbers)}"
    )


def _learned_form(numbers: Sequence[str]) -> str:
    """Return a hint at learned kernels where three numbers can be their count, height and width."""
    if len(numbers) != 3 or not all(re.fullmatch(r"[1-9][0-9]*", number) for number in numbers):
        return ""
    return f", or conv {'x'.join(numbers)} for learned kernels"


def _shortened(words: Sequence[str]) -> str:
    return " ".join(words if len(words) <= _SHOWN_WORDS_MAX else [*words[:_SHOWN_WORDS_MAX], "…"])


def is_learned(stage: Stage) -> bool:
    """Return whether a ``conv`` asks for learned kernels, as in ``conv 32x3x3``; quoted words are fixed kernels."""
    first = stage.words[1] if len(stage.words) > 1 else ""
    if re.match(r"\S+\s+['\"]", stage.text):
        return False
    if re.fullmatch(r"[0-9]+(x[0-9]+)?", first):
        raise ModelError(f"conv {first} lacks maps or size: maps x height x width, as in 'conv 32x3x3'")
    return bool(re.fullmatch(r"[0-9]+x[0-9]+x[0-9]+", first))


def in_layer(number: int, stage: Stage, error: CnnfilterError) -> CnnfilterError:
    """Return an error with the number and the text of its layer before its message."""
    return type(error)(f"layer {number} '{stage.text}': {error}")


def _unknown(word: str) -> str:
    if word.lower() in _SUGGESTIONS:
        return f"no layer {word!r}; did you mean {_SUGGESTIONS[word.lower()]!r}?"
    if word.partition(":")[0] in ENTRIES:
        return f"{word!r} is a kernel; did you mean 'conv {word}'?"
    if near := suggestion(word.lower(), NAMES):
        return f"no layer {word!r}{near}?"
    if near_kernel := difflib.get_close_matches(word, ENTRIES, 1, 0.8):
        return f"no layer {word!r}; did you mean 'conv {near_kernel[0]}'?"
    return f"no layer {word!r}; there are {', '.join(NAMES)}"
