"""Weights in files: the models that ship, by name and path; the file format is in `safetensors`.

EfficientNet-Lite0 can be rebuilt by ``python -m cnnfilter.networks.rebuild``; ``NOTICE.txt`` has the commands that
trained the other two.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from cnnfilter.errors import ModelError

DEFAULT_MODEL = "efficientnet-lite0"
NAMES = (DEFAULT_MODEL, "fashion", "digits")


def path_of(name: str) -> str:
    """Return the path of a model that ships."""
    return os.path.join(os.path.dirname(__file__), f"{name}.safetensors")


def is_model(text: str) -> bool:
    """Return whether a text is the name of a model that ships or the path of a file, and not a stack of layers.

    >>> is_model("efficientnet-lite0"), is_model("my.safetensors"), is_model("relu | maxpool 2")
    (True, True, False)
    """
    return text in NAMES or text.endswith(".safetensors") or (os.sep in text and os.path.isfile(text))


def find(model: str) -> str:
    """Return the path of a model: that of a model that ships for its name, or the given path."""
    return path_of(model) if model in NAMES else model


@contextlib.contextmanager
def naming(model: str) -> Iterator[None]:
    """Turn each error of reading a model into a ModelError whose message names the model."""
    try:
        yield
    except FileNotFoundError:
        raise ModelError(f"no model {model!r}: there are {', '.join(NAMES)}, or a file's path") from None
    except OSError as error:
        raise ModelError(f"model {model!r} cannot be read: {error.strerror or error}") from error
    except ModelError as error:
        raise ModelError(f"model {model!r} {error}") from error


def checksum(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_backbone(name: str, sha256: str) -> str:
    """Return the path of the model that a head was trained on.

    Raises
    ------
    ModelError
        If no model of this name ships, or it has another checksum.
    """
    if name not in NAMES:
        raise ModelError(f"is a head for {name!r}, which this cnnfilter does not have")
    found = checksum(path_of(name))
    if found != sha256:
        raise ModelError(f"is a head for another {name} (sha256 {sha256[:12]}…, not {found[:12]}…)")
    return path_of(name)
