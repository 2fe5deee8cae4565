"""Checkpoints, from which an interrupted training goes on to the same model.

A checkpoint is a safetensors file that lies beside the future model file and is written after each epoch. The random
numbers of an epoch depend on the seed and the number of the epoch alone, so a checkpoint holds no generator.
"""

from __future__ import annotations

import json
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
    """The state of a training after an epoch.

    Attributes
    ----------
    settings : everything that the learned parameters depend on, by name; a training with other settings is refused.
    vectors : the parameters, the state of the optimiser and the running statistics; and the same of the best epoch.
    history : the epochs so far.
    best : number of the best epoch, counted from 1.
    steps : steps of the optimiser so far.
    seconds : duration of the training so far.
    """

    settings: Mapping[str, str]
    vectors: Vectors
    history: list[Epoch]
    best: int
    steps: int
    seconds: float


def write_checkpoint(path: str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the previous one, which stays as it was if there is an OSError."""
    state = {
        "history": checkpoint.history,
        "best": checkpoint.best,
        "steps": checkpoint.steps,
        "seconds": checkpoint.seconds,
    }
    metadata = {"format": FORMAT, "settings": json.dumps(dict(checkpoint.settings)), "state": json.dumps(state)}
    with replace_file(path, force=True) as file:
        write_tensors(file, checkpoint.vectors, metadata)


def read_checkpoint(path: str, settings: Mapping[str, str], sizes: Mapping[str, int]) -> Checkpoint:
    """Read a checkpoint, and check that it belongs to a training with these settings and these sizes of its vectors.

    Raises
    ------
    ModelError
        If the file is not a checkpoint, is damaged, or belongs to another training; the message says what differs.
    FileNotFoundError
        If there is no such file.
    """
    try:
        with TensorFile(path) as file:
            if file.metadata.get("format") != FORMAT:
                raise ModelError("is not a checkpoint of this cnnfilter")
            stored = json.loads(file.metadata["settings"])
            state = json.loads(file.metadata["state"])
            _refuse_other_settings(stored, settings)
            if {name: entry.shape for name, entry in file.entries.items()} != {n: (s,) for n, s in sizes.items()}:
                raise ModelError("does not fit this training")
            vectors = {name: file.read(name) for name in file.entries}
        history = [Epoch(*epoch) for epoch in state["history"]]
        return Checkpoint(settings, vectors, history, int(state["best"]), int(state["steps"]), float(state["seconds"]))
    except ModelError as error:
        raise ModelError(f"checkpoint {path!r} {error}; without --resume the training begins anew") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"checkpoint {path!r} is damaged; without --resume the training begins anew") from error


def _refuse_other_settings(stored: Any, settings: Mapping[str, str]) -> None:
    """Raise ModelError for the first setting that differs."""
    for name in {*stored, *settings}:
        if stored.get(name) != settings.get(name):
            raise ModelError(f"is of a training with {name} {stored.get(name)!r}, not {settings.get(name)!r}")
