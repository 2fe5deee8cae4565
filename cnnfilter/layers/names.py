"""What layers are called, and what can be refused of their text. Without numpy, so at once."""

from __future__ import annotations

import difflib
import re

from cnnfilter.errors import CnnfilterError, ModelError
from cnnfilter.kernels import text as kernel_grammar
from cnnfilter.kernels.catalogue import ENTRIES
from cnnfilter.layers.grammar import Stage, split_stages, suggestion

NAMES = (
    "conv",
    "maxpool",
    "avgpool",
    "minpool",
    "globalpool",
    "gray",
    "flatten",
    "dropout",
    "depthwise",
    "mbconv",
    "batchnorm",
    "dense",
    "relu",
    "relu6",
    "leaky",
    "sigmoid",
    "tanh",
    "softmax",
    "abs",
)

# What other programs call the same layer.
_OTHER_NAMES = {
    "conv2d": "conv 32x3x3",
    "convolve": "conv",
    "maxpool2d": "maxpool",
    "max": "maxpool",
    "max-pool": "maxpool",
    "pool": "maxpool",
    "avgpool2d": "avgpool",
    "avg": "avgpool",
    "mean": "avgpool",
    "gap": "globalpool avg",
    "leakyrelu": "leaky:0.01",
    "bn": "batchnorm",
    "linear": "dense",
    "fc": "dense",
    "grey": "gray",
    "grayscale": "gray",
}


def check(text: str) -> None:
    """Refuse layers that there are not, and kernels of ``conv`` that are none.

    Raises
    ------
    ModelError, KernelError
        As `cnnfilter.layers.stack.parse_layers`, which finds what else is wrong.
    """
    for number, stage in enumerate(split_stages(text), 1):
        try:
            name = name_of(stage)
            if name == "conv" and not is_learned(stage):
                for word in stage.words[1:]:
                    kernel_grammar.check(word)
        except CnnfilterError as error:
            raise in_layer(number, stage, error) from error


def name_of(stage: Stage) -> str:
    """Return the name of a stage's layer, or refuse it."""
    name = stage.words[0].partition(":")[0]
    if name not in NAMES:
        raise ModelError(_unknown(stage.words[0]))
    return name


def is_learned(stage: Stage) -> bool:
    """Whether a ``conv`` asks for learned kernels, as in ``conv 32x3x3``; what is quoted is a kernel as it stands."""
    first = stage.words[1] if len(stage.words) > 1 else ""
    if re.match(r"\S+\s+['\"]", stage.text):
        return False
    if re.fullmatch(r"[0-9]+(x[0-9]+)?", first):
        raise ModelError(f"conv {first} lacks maps or size: maps x height x width, as in 'conv 32x3x3'")
    return bool(re.fullmatch(r"[0-9]+x[0-9]+x[0-9]+", first))


def in_layer(number: int, stage: Stage, error: CnnfilterError) -> CnnfilterError:
    """Return an error that says in which layer it was met."""
    return type(error)(f"layer {number} '{stage.text}': {error}")


def _unknown(word: str) -> str:
    if word.lower() in _OTHER_NAMES:
        return f"no layer {word!r}; did you mean {_OTHER_NAMES[word.lower()]!r}?"
    if word.partition(":")[0] in ENTRIES:
        return f"{word!r} is a kernel; did you mean 'conv {word}'?"
    if near := suggestion(word.lower(), NAMES):
        return f"no layer {word!r}{near}?"
    if near_kernel := difflib.get_close_matches(word, ENTRIES, 1, 0.8):
        return f"no layer {word!r}; did you mean 'conv {near_kernel[0]}'?"
    return f"no layer {word!r}; there are {', '.join(NAMES)}"
