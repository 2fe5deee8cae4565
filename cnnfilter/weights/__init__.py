"""The models that ship: where they are, and how each is made again.

EfficientNet-Lite0 is rebuilt from its source by `cnnfilter.networks.rebuild`, fashion and digits by the commands in the
notice.
"""

from __future__ import annotations

import os

DEFAULT = "efficientnet-lite0"
NAMES = (DEFAULT, "fashion", "digits")


def path_of(name: str) -> str:
    """Return the file of a shipped model."""
    return os.path.join(os.path.dirname(__file__), f"{name}.safetensors")


def is_model(text: str) -> bool:
    """Whether a text means a model rather than layers: the name of one that ships, or a file's path.

    >>> is_model("efficientnet-lite0"), is_model("my.safetensors"), is_model("relu | maxpool 2")
    (True, True, False)
    """
    return text in NAMES or text.endswith(".safetensors") or (os.sep in text and os.path.isfile(text))
