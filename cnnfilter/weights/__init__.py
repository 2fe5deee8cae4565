"""The models that ship: where they are, and how each is made again.

EfficientNet-Lite0 is rebuilt from its source by `cnnfilter.networks.rebuild`, fashion and digits by the commands in the
notice.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from cnnfilter.errors import ModelError

DEFAULT_MODEL = "efficientnet-lite0"
NAMES = (DEFAULT_MODEL, "fashion", "digits")


def path_of(name: str) -> str:
    """Return the file of a shipped model."""
    return os.path.join(os.path.dirname(__file__), f"{name}.safetensors")


def is_model(text: str) -> bool:
    """Whether a text means a model rather than layers: the name of one that ships, or a file's path.

    >>> is_model("efficientnet-lite0"), is_model("my.safetensors"), is_model("relu | maxpool 2")
    (True, True, False)
    """
    return text in NAMES or text.endswith(".safetensors") or (os.sep in text and os.path.isfile(text))


def find(model: str) -> str:
    """Return the file of a model that ships, by its name, or of any other by its path."""
    return path_of(model) if model in NAMES else model


@contextlib.contextmanager
def naming(model: str) -> Iterator[None]:
    """Let each error of reading a model be a ModelError that says which model it is."""
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
    """Return the file of the model that a head was trained on.

    Raises
    ------
    ModelError
        If it does not ship, or has another checksum.
    """
    if name not in NAMES:
        raise ModelError(f"is a head for {name!r}, which this cnnfilter does not have")
    found = checksum(path_of(name))
    if found != sha256:
        raise ModelError(f"is a head for another {name} (sha256 {sha256[:12]}…, not {found[:12]}…)")
    return path_of(name)
