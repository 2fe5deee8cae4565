"""The models that ship: where they are, and how each is rebuilt from its source (`cnnfilter.models.rebuild`)."""

from __future__ import annotations

import os

DEFAULT = "efficientnet-lite0"
NAMES = (DEFAULT,)


def path_of(name: str) -> str:
    """Return the file of a shipped model."""
    return os.path.join(os.path.dirname(__file__), f"{name}.safetensors")
