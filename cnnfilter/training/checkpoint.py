"""A training that was interrupted: all that is needed to go on as if it had not been.

A checkpoint is a safetensors file beside the model that is to come. It is written after each epoch, and what is drawn
in an epoch depends on the seed and the epoch's number alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ModelError
from cnnfilter.runtime.atomic_files import replace_file
from cnnfilter.training.progress import Epoch
from cnnfilter.weights.safetensors import TensorFile, write_tensors

FORMAT = "cnnfilter-checkpoint-1"

Vectors = Mapping[str, NDArray[np.float32]]


class Checkpoint(NamedTuple):
    """Where a training is.

    Attributes
    ----------
    settings : all that the numbers depend on, by name; a training with others cannot go on from here.
    vectors : the learned numbers, the optimiser's state, the running statistics, and those of the best epoch.
    history : the epochs so far.
    best : the number of the best of them.
    seconds : how long it took so far.
    """

    settings: Mapping[str, str]
    vectors: Vectors
    history: list[Epoch]
    best: int
    steps: int
    seconds: float


def path_of(model: str | os.PathLike[str]) -> str:
    """Return the checkpoint of a model to come."""
    return os.fspath(model) + ".checkpoint"


def write_checkpoint(path: str, point: Checkpoint) -> None:
    """Write a checkpoint in place of the last one; OSError leaves that as it was."""
    state = {"history": point.history, "best": point.best, "steps": point.steps, "seconds": point.seconds}
    metadata = {"format": FORMAT, "settings": json.dumps(dict(point.settings)), "state": json.dumps(state)}
    with replace_file(path, force=True) as file:
        write_tensors(file, point.vectors, metadata)


def read_checkpoint(path: str, settings: Mapping[str, str], sizes: Mapping[str, int]) -> Checkpoint:
    """Read a checkpoint of a training with these settings, and vectors of these sizes.

    Raises
    ------
    ModelError
        If it is none, is damaged, or of another training; it says what differs.
    FileNotFoundError
        If there is none.
    """
    try:
        with TensorFile(path) as file:
            if file.metadata.get("format") != FORMAT:
                raise ModelError("is not a checkpoint of this cnnfilter")
            then = json.loads(file.metadata["settings"])
            state = json.loads(file.metadata["state"])
            _compare(then, settings)
            if {name: entry.shape for name, entry in file.entries.items()} != {n: (s,) for n, s in sizes.items()}:
                raise ModelError("does not fit this training")
            vectors = {name: file.read(name) for name in file.entries}
        history = [Epoch(*epoch) for epoch in state["history"]]
        return Checkpoint(settings, vectors, history, int(state["best"]), int(state["steps"]), float(state["seconds"]))
    except ModelError as error:
        raise ModelError(f"checkpoint {path!r} {error}; without --resume the training begins anew") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"checkpoint {path!r} is damaged; without --resume the training begins anew") from error


def _compare(then: Any, now: Mapping[str, str]) -> None:
    for name in {*then, *now}:
        if then.get(name) != now.get(name):
            raise ModelError(f"is of a training with {name} {then.get(name)!r}, not {now.get(name)!r}")
