"""Train a classifier on labelled pictures, evaluate it, and put its model together.

The two kinds of training are in `cnnfilter.training.head` and `cnnfilter.training.network`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np

from cnnfilter import __version__
from cnnfilter.errors import DataError, count_text
from cnnfilter.layers.layer import Shape
from cnnfilter.layers.stack import Layers, parse_layers
from cnnfilter.networks.model_file import Model, write_model
from cnnfilter.networks.network import Network, make_network
from cnnfilter.networks.preparation import scale
from cnnfilter.runtime.atomic_files import replace_file
from cnnfilter.training.augmentation import parse_augmentation
from cnnfilter.training.data.dataset import Dataset, load_folder
from cnnfilter.training.data.decoded import find_shape
from cnnfilter.training.data.duplicates import Duplicate, find_duplicates
from cnnfilter.training.evaluation import Evaluation
from cnnfilter.training.head import HeadTraining, train_head
from cnnfilter.training.network import PREDICTION_BATCH_PICTURES, NetworkTraining, Settings, train_network
from cnnfilter.training.optimisers import Learning
from cnnfilter.training.progress import Epoch, Watcher


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes
    ----------
    model : Model
        The content of the model file.
    dataset : Dataset
        The pictures that could be read.
    evaluation : Evaluation, optional
        On the pictures of the split `judged_by`; None if there is no such split.
    judged_by : str
        "test", else "validation"; empty if there is neither split.
    duplicates : tuple of Duplicate
        Pictures that are in two splits, or in two classes of one split.
    history : tuple of Epoch
        The epochs of a network from nothing; empty for a head.
    best : int
        The number of the epoch whose parameters the model has, counted from 1; 0 for a head.
    failure : DataError, optional
        The error that ended the training early; the model is that of the best epoch before it.
    """

    model: Model
    dataset: Dataset
    evaluation: Evaluation | None = None
    judged_by: str = ""
    duplicates: tuple[Duplicate, ...] = ()
    history: tuple[Epoch, ...] = ()
    best: int = 0
    failure: DataError | None = None

    @property
    def network(self) -> Network:
        """The trained network, ready to predict."""
        return make_network(self.model)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the model file; the same training gives the same bytes.

        Raises
        ------
        FileExistsError
            If the file exists and `force` is false.
        OSError
            If it cannot be written; an older file is then still there.
        """
        with replace_file(path, force=force) as file:
            write_model(file, self.model)


def train(
    data: Dataset | str | os.PathLike[str],
    *,
    layers: Layers | str | None = None,
    input: Shape | None = None,
    epochs: int = 10,
    batch: int = 128,
    optimizer: str = "adamw",
    rate: float | None = None,
    weight_decay: float | None = None,
    schedule: str = "one-cycle",
    label_smoothing: float = 0.0,
    patience: int | None = None,
    time_limit: float | None = None,
    init: str = "random",
    augment: str = "",
    class_weights: str = "auto",
    seed: int = 0,
    checkpoint: str | None = None,
    resume: bool = False,
    threads: int | None = None,
    watcher: Watcher | None = None,
) -> Trained:
    """Train a classifier: a head on the shipped network or, with `layers`, a network from nothing.

    Parameters
    ----------
    data : Dataset or path
        A dataset, or a path that `load_folder` takes.
    layers : Layers or str, optional
        The network, such as ``conv 32x3x3 | relu | maxpool 2 | flatten | dense 10``. The parameters from `input` to
        `init` apply to it only.
    input : (H, W, C), optional
        Shape to which pictures are fitted; if not given, their own size if they are small and all of one size, else
        64x64.
    epochs, batch : int
        Passes over the training pictures, and pictures of one step.
    optimizer : "adamw" or "sgd"
    rate, weight_decay : float, optional
        The highest learning rate, and the weight decay of the kernels; if not given, 0.003 and 0.02 for adamw, 0.05
        and 0.0005 for sgd.
    schedule : "one-cycle", "cosine" or "constant"
        The learning rate over the time of the training.
    label_smoothing : float
        The share of each label that is spread evenly over all classes.
    patience : int, optional
        Stop after so many epochs in a row without improvement on the validation pictures.
    time_limit : float, optional
        Seconds in which the schedule runs to its end. If they end before the epochs do, the result depends on the
        speed of the machine.
    init : "random" or "kernels"
        kernels: the first layer starts from named kernels.
    augment : str
        Random changes of the training pictures, such as ``flip,shift:0.1``; empty for none.
    class_weights : "auto", "balanced" or "none"
        balanced: every class counts the same, whatever its number of pictures; auto: balanced if the largest class
        has more than three times the pictures of the smallest.
    seed : int
        All random numbers follow from it: the same seed gives the same model.
    checkpoint : str, optional
        File that is written after each epoch, from which an interrupted training can go on.
    resume : bool
        Go on from the checkpoint, if the file exists.
    threads : int, optional
        Number of threads; all cores if not given. The result is the same for any number.
    watcher : Watcher, optional
        Progress callbacks.

    Raises
    ------
    DataError
        If the pictures do not suffice (see `Dataset.check`), or the loss is not finite in the first epoch.
    ShapeError, ModelError
        If the layers do not fit each other or cannot be trained, or the checkpoint belongs to another training.
    """
    dataset = data if isinstance(data, Dataset) else load_folder(data, seed=seed)
    dataset.check()
    watcher = watcher or Watcher()
    augmentation = parse_augmentation(augment)
    if layers is None:
        head = train_head(
            dataset, augmentation=augmentation, weights=class_weights, seed=seed, threads=threads, watcher=watcher
        )
        return _evaluate_head(head, augment, seed)
    settings = Settings(
        layers=parse_layers(layers) if isinstance(layers, str) else layers,
        input_shape=input or find_shape(dataset.train),
        epochs=epochs,
        batch=batch,
        learning=Learning(optimizer, rate, weight_decay, schedule),
        smoothing=label_smoothing,
        augmentation=augmentation,
        weights=class_weights,
        init=init,
        patience=patience,
        time_limit=time_limit,
        seed=seed,
    )
    network = train_network(dataset, settings, checkpoint=checkpoint, resume=resume, threads=threads, watcher=watcher)
    return _evaluate_network(network, settings, threads)


def evaluation_split(dataset: Dataset) -> str:
    """Return the split on which a training is evaluated: test, else validation; empty if there is neither."""
    return next((split for split in ("test", "validation") if split in dataset.splits), "")


def _evaluate_head(training: HeadTraining, augment: str, seed: int) -> Trained:
    """Evaluate a head on features that are computed already, and put the result together."""
    dataset, split = training.dataset, evaluation_split(training.dataset)
    evaluation = None
    if split:
        examples = dataset.splits[split]
        evaluation = Evaluation(dataset.classes, examples.labels, training.logits(split), examples)
    prints = {name: part.fingerprints for name, part in training.features.items() if name in dataset.splits}
    how = f"a head on {training.model.backbone.name}, penalty {training.head.penalty:g}"  # type: ignore[union-attr]
    how += f", augmented by {parse_augmentation(augment)}" if augment else ""
    model = replace(training.model, provenance=provenance(dataset, how, seed, evaluation, split))
    duplicates = find_duplicates({name: dataset.splits[name] for name in prints}, prints)
    return Trained(model, dataset, evaluation, split, tuple(duplicates))


def _evaluate_network(training: NetworkTraining, settings: Settings, threads: int | None) -> Trained:
    """Evaluate a network on pictures that are decoded already, and put the result together."""
    dataset, split = training.dataset, evaluation_split(training.dataset)
    evaluation = None
    if split:
        examples, network = dataset.splits[split], Network(training.model)
        logits = np.empty((len(examples), network.outputs), np.float32)
        for start in range(0, len(examples), PREDICTION_BATCH_PICTURES):
            part = scale(
                training.pixels[split].array[start : start + PREDICTION_BATCH_PICTURES], training.model.preparation
            )
            logits[start : start + len(part)] = network.forward(part, threads=threads).reshape(len(part), -1)
        evaluation = Evaluation.of(network, examples.labels, logits, examples)
    how = f"a network from nothing, {count_text(len(training.history), 'epoch')}"
    if training.best != len(training.history):
        how += f", the best of them {training.best}"
    model = replace(training.model, provenance=provenance(dataset, how, settings.seed, evaluation, split))
    prints = {name: pixels.fingerprints for name, pixels in training.pixels.items() if name in dataset.splits}
    duplicates = find_duplicates({name: dataset.splits[name] for name in prints}, prints)
    return Trained(
        model, dataset, evaluation, split, tuple(duplicates), tuple(training.history), training.best, training.failure
    )


def provenance(dataset: Dataset, how: str, seed: int, evaluation: Evaluation | None, split: str) -> str:
    """Return a sentence that says where the weights come from."""
    # Bytes of a path that are not UTF-8 cannot be written into a model.
    name = os.fsencode(os.path.basename(os.path.abspath(dataset.name))).decode(errors="replace")
    text = (
        f"Trained by cnnfilter {__version__} on {name}: {count_text(len(dataset.train), 'picture')} of "
        f"{len(dataset.classes)} classes; {how}; seed {seed}."
    )
    if evaluation is not None:
        text += f" Right: {evaluation.accuracy:.1%} of {count_text(len(evaluation), split + ' picture')}."
    return text
