"""Train a classifier on labelled pictures: a head on the shipped network, or a network from nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np

from cnnfilter import __version__
from cnnfilter.errors import DataError
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
    """What came of a training.

    Attributes
    ----------
    model : Model
        What a model file holds.
    dataset : Dataset
        The pictures that could be read.
    evaluation : Evaluation, optional
        On `judged_by`: the test pictures, else the validation pictures; None without either.
    duplicates : list of Duplicate
        Pictures that are in two splits.
    history : tuple of Epoch
        Of a network from nothing.
    best : int
        The epoch that the model is of.
    failure : DataError, optional
        Why the training ended early, although it should not have; the model is that of the best epoch before.
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
        """The network, ready to predict."""
        return make_network(self.model)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the model file; the same training gives the same bytes.

        Raises
        ------
        FileExistsError
            If it exists and `force` is false.
        OSError
            If it cannot be written; then there is no such file, or still the old one.
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
    """Train a classifier: a head on the shipped network, or with `layers` a network from nothing.

    Parameters
    ----------
    data : Dataset or path
        As `load_folder` takes it.
    layers : Layers or str, optional
        The network, such as ``conv 32x3x3 | relu | maxpool 2 | flatten | dense 10``. What follows up to `init` is for
        it.
    input : (H, W, C), optional
        What pictures are fitted to; if not given, their own size where they are small and all of one size, else 64x64.
    epochs, batch : int
        How often every picture is seen, and how many at once.
    optimizer : "adamw" or "sgd"
    rate, weight_decay : float, optional
        The highest rate, and how strongly kernels are drawn to 0; if not given, 0.003 and 0.02 for adamw, 0.05 and
        0.0005 for sgd.
    schedule : "one-cycle", "cosine" or "constant"
        The rate over the time of the training.
    label_smoothing : float
        The share of a label that goes to all classes alike.
    patience : int, optional
        Stop when so many epochs in a row have not been better on the validation pictures.
    time_limit : float, optional
        Seconds by which the schedule is to be through. Where it bites, the result depends on the machine's speed.
    init : "random" or "kernels"
        Whether the first layer starts from named kernels.
    augment : str
        How training pictures are changed, such as ``flip,shift:0.1``; nothing for not at all.
    class_weights : "auto", "balanced" or "none"
        Whether every class counts the same, however many pictures it has; auto: if they are more than 3:1.
    seed : int
        Of all that is drawn: the same for the same number.
    checkpoint : str, optional
        A file that keeps what is needed to go on after an interruption, from epoch to epoch.
    resume : bool
        Go on from there.
    threads : int, optional
        All cores if not given; the result is the same for any number.
    watcher : Watcher, optional
        Told what is going on.

    Raises
    ------
    DataError
        If the pictures cannot teach what was asked, or the loss is soon no number.
    ShapeError, ModelError
        If the layers do not fit each other or cannot be trained, or the checkpoint is of another training.
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
    """Return the split by which a training is judged; nothing if there is none."""
    return next((split for split in ("test", "validation") if split in dataset.splits), "")


def _evaluate_head(done: HeadTraining, augment: str, seed: int) -> Trained:
    dataset, split = done.dataset, evaluation_split(done.dataset)
    evaluation = None
    if split:
        examples = dataset.splits[split]
        evaluation = Evaluation(dataset.classes, examples.labels, done.logits(split), examples)
    prints = {name: part.fingerprints for name, part in done.features.items() if name in dataset.splits}
    how = f"a head on {done.model.backbone.name}, penalty {done.head.penalty:g}"  # type: ignore[union-attr]
    how += f", augmented by {parse_augmentation(augment)}" if augment else ""
    model = replace(done.model, provenance=provenance(dataset, how, seed, evaluation, split))
    duplicates = find_duplicates({name: dataset.splits[name] for name in prints}, prints)
    return Trained(model, dataset, evaluation, split, tuple(duplicates))


def _evaluate_network(done: NetworkTraining, settings: Settings, threads: int | None) -> Trained:
    dataset, split = done.dataset, evaluation_split(done.dataset)
    evaluation = None
    if split:
        examples, network = dataset.splits[split], Network(done.model)
        logits = np.empty((len(examples), network.outputs), np.float32)
        for start in range(0, len(examples), PREDICTION_BATCH_PICTURES):
            part = scale(done.pixels[split].array[start : start + PREDICTION_BATCH_PICTURES], done.model.preparation)
            logits[start : start + len(part)] = network.forward(part, threads=threads).reshape(len(part), -1)
        evaluation = Evaluation(dataset.classes, examples.labels, logits, examples)
    how = f"a network from nothing, {len(done.history)} epochs"
    if done.best != len(done.history):
        how += f", the best of them {done.best}"
    model = replace(done.model, provenance=provenance(dataset, how, settings.seed, evaluation, split))
    prints = {name: pixels.fingerprints for name, pixels in done.pixels.items() if name in dataset.splits}
    duplicates = find_duplicates({name: dataset.splits[name] for name in prints}, prints)
    return Trained(model, dataset, evaluation, split, tuple(duplicates), tuple(done.history), done.best, done.failure)


def provenance(dataset: Dataset, how: str, seed: int, evaluation: Evaluation | None, split: str) -> str:
    """Say in words where weights come from."""
    name = os.path.basename(os.path.abspath(dataset.name))
    text = (
        f"Trained by cnnfilter {__version__} on {name}: {len(dataset.train):,} pictures of "
        f"{len(dataset.classes)} classes; {how}; seed {seed}."
    )
    if evaluation is not None:
        text += f" Right: {evaluation.accuracy:.1%} of {len(evaluation):,} {split} pictures."
    return text
