"""Train a network from nothing: the settings, and the loop over epochs and batches.

Forward and backward passes are in `cnnfilter.training.gradients`, the optimisers in `cnnfilter.training.optimisers`.
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import DataError
from cnnfilter.layers.answers import Answers
from cnnfilter.layers.layer import Shape, show_shape
from cnnfilter.layers.stack import Layers
from cnnfilter.networks.model_file import Model, Preparation, Weights
from cnnfilter.runtime.blas import one_thread
from cnnfilter.runtime.parallel import default_threads, split_rows
from cnnfilter.training.augmentation import NO_AUGMENTATION, Augmentation, Changes, apply_changes
from cnnfilter.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from cnnfilter.training.data.dataset import Dataset
from cnnfilter.training.data.decoded import Pixels, measure, read_pixels
from cnnfilter.training.data.examples import Skipped
from cnnfilter.training.gradients.stack import Fill, Stack, Targets
from cnnfilter.training.initial_kernels import start_from_kernels
from cnnfilter.training.logistic_regression import class_weights
from cnnfilter.training.optimisers import Learning
from cnnfilter.training.progress import Epoch, Watcher
from cnnfilter.weights.trained_pictures import TrainedPictures

Floats = NDArray[np.float32]

PREDICTION_BATCH_PICTURES = 256
"""Pictures of a batch that is only predicted. Chosen by hand; it bounds the memory of the maps."""


@dataclass(frozen=True)
class Settings:
    """The settings of a training; `cnnfilter.training.train` explains each."""

    layers: Layers
    input_shape: Shape
    epochs: int = 10
    batch: int = 128
    learning: Learning = field(default_factory=Learning)
    smoothing: float = 0.0
    augmentation: Augmentation = NO_AUGMENTATION
    weights: str = "auto"
    init: str = "random"
    patience: int | None = None
    time_limit: float | None = None
    seed: int = 0

    def as_texts(self) -> dict[str, str]:
        """Return the settings as text, by name, so that a checkpoint can tell whether they are the same."""
        return {
            "layers": self.layers.text_with_borders(),
            "input": show_shape(self.input_shape),
            "epochs": str(self.epochs),
            "batch": str(self.batch),
            "learning": str(tuple(self.learning)),
            "label smoothing": str(self.smoothing),
            "augmentation": str(self.augmentation),
            "class weights": self.weights,
            "init": self.init,
            "patience": str(self.patience),
            "time limit": str(self.time_limit),
            "seed": str(self.seed),
        }


class NotFiniteError(DataError):
    """The loss became NaN or infinite in the epoch `epoch`, counted from 1."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"the loss is no longer a number in epoch {epoch}; a smaller --rate would do")
        self.epoch = epoch


@dataclass(frozen=True)
class NetworkTraining:
    """A trained network, the pictures that could be read, the epochs, and the number of the best one.

    If the loss became NaN or infinite, `failure` is the error, and the model is that of the best epoch before it.
    """

    model: Model
    dataset: Dataset
    pixels: dict[str, Pixels]
    history: list[Epoch]
    best: int
    failure: NotFiniteError | None = None


def check_settings(settings: Settings, classes: int) -> None:
    """Refuse layers that do not fit the input or the classes.

    Raises
    ------
    ShapeError, ModelError
        Where the layers do not fit each other, or cannot be trained.
    DataError
        If their output is not one number for each class, or one number and a sigmoid for two classes.
    """
    given = Answers.of(settings.layers, settings.input_shape)
    if given.classes != classes:
        numbers = "1 number" if given.numbers == 1 else f"{given.numbers:,} numbers"
        binary = " or 'dense 1 | sigmoid'" if classes == 2 else ""
        raise DataError(f"the layers give {numbers} for {classes} classes; let them end with 'dense {classes}'{binary}")
    Stack(settings.layers, settings.input_shape, np.random.default_rng(0), 1)


def train_network(
    dataset: Dataset,
    settings: Settings,
    *,
    checkpoint: str | None = None,
    resume: bool = False,
    threads: int | None = None,
    watcher: Watcher,
) -> NetworkTraining:
    """Train a network from nothing.

    Parameters
    ----------
    checkpoint : str, optional
        File that is written after each epoch, from which an interrupted training can go on.
    resume : bool
        Go on from the checkpoint, if the file exists.

    Raises
    ------
    DataError
        If the pictures that can be read are not enough, or the loss is not finite in the first epoch.
    ModelError
        If the checkpoint belongs to another training.
    """
    dataset, pixels = _read_all(dataset, settings.input_shape, threads, watcher)
    dataset.check()
    check_settings(settings, len(dataset.classes))
    with one_thread(), np.errstate(all="ignore"):  # NaN and infinity are found in the loss
        trainer = Trainer(dataset, pixels, settings, threads or default_threads(), watcher)
        return trainer.run(checkpoint, resume)


def _read_all(
    dataset: Dataset, shape: Shape, threads: int | None, watcher: Watcher
) -> tuple[Dataset, dict[str, Pixels]]:
    """Decode the pictures of all splits; return the dataset without unreadable ones, and the pictures of each split."""
    watcher.begin("pictures", len(dataset))
    pixels: dict[str, Pixels] = {}
    unreadable: list[Skipped] = []
    for split, examples in dataset.splits.items():
        pixels[split], missing = read_pixels(examples, shape, Preparation("crop", 1.0, "bicubic"), threads, watcher)
        unreadable += missing
    readable = dataset.without(unreadable)
    watcher.classes_lost(dataset.classes, readable.classes)
    return readable, pixels


class Trainer:
    """Runs a training: holds the network, the optimiser, the epochs so far and the parameters of the best one."""

    def __init__(
        self, dataset: Dataset, pixels: dict[str, Pixels], settings: Settings, threads: int, watcher: Watcher
    ) -> None:
        self.dataset, self.pixels, self.settings, self.watcher = dataset, pixels, settings, watcher
        self.train = pixels["train"].array
        self.labels = dataset.train.labels
        self.importance = class_weights(self.labels, len(dataset.classes), settings.weights)
        self.preparation = replace(measure(self.train), scale=dataset.scale)
        self.stack = Stack(settings.layers, settings.input_shape, np.random.default_rng([settings.seed, 5]), threads)
        if settings.init == "kernels":
            start_from_kernels(self.stack)
        self.optimiser = settings.learning.make(self.stack.values, self.stack.weight_decay_mask)
        self.bounds = split_rows(len(self.labels), -(-len(self.labels) // settings.batch))
        self.history: list[Epoch] = []
        self.best = 0
        self.best_vectors = self._vectors()
        self.seconds_before = 0.0
        self.start_time = time.monotonic()

    # --- all epochs --------------------------------------------------------------------------------------

    def run(self, checkpoint: str | None, resume: bool) -> NetworkTraining:
        """Train until the epochs, the time or the patience is over."""
        if checkpoint and resume:
            self._resume(checkpoint)
        failure = None
        while not self._done():
            try:
                self._epoch(len(self.history))
            except NotFiniteError as error:
                if not self.history:
                    raise
                failure = error
                break
            if checkpoint:
                self._write_checkpoint(checkpoint)
        self._restore(self.best_vectors)
        return NetworkTraining(self._model(), self.dataset, self.pixels, self.history, self.best, failure)

    def _done(self) -> bool:
        """Return whether the training is over; it has one epoch at least."""
        if len(self.history) >= self.settings.epochs or self._time_share() >= 1:
            return bool(self.history)
        patience = self.settings.patience
        return patience is not None and len(self.history) - self.best >= patience

    def _time_share(self) -> float:
        """Return the share of the time limit that has passed."""
        limit = self.settings.time_limit
        return 0.0 if limit is None else (self.seconds_before + time.monotonic() - self.start_time) / limit

    # --- one epoch ---------------------------------------------------------------------------------------

    def _epoch(self, number: int) -> None:
        """Train on every batch once, in random order; then validate, and record the epoch."""
        began = time.monotonic()
        rng = np.random.default_rng([self.settings.seed, 6, number])
        order = rng.permutation(len(self.labels))
        height, width, _ = self.settings.input_shape
        changes = self.settings.augmentation.draw(rng, len(order), height, width)
        self.watcher.begin(f"epoch {number + 1}", len(self.bounds))
        loss = counted = 0.0
        right = pictures = 0
        rate = 0.0
        for step, (first, end) in enumerate(self.bounds):
            progress = max((number + step / len(self.bounds)) / self.settings.epochs, self._time_share())
            if progress >= 1 and pictures:
                break
            rate = self.settings.learning.rate_at(progress)
            batch = order[first:end]
            importance = self.importance[self.labels[batch]]
            targets = Targets(self.labels[batch], importance, self.settings.smoothing)
            fill = self._make_fill(self.train, batch, changes.take(first, end))
            batch_loss = self.stack.learn(len(batch), fill, targets, (self.settings.seed, 7, number, step))
            if not math.isfinite(batch_loss.loss) or not np.isfinite(self.stack.gradients.sum(dtype=np.float64)):
                raise NotFiniteError(number + 1)
            self.optimiser.step(self.stack.gradients, rate)
            loss, counted = loss + batch_loss.loss, counted + float(importance.sum(dtype=np.float64))
            right, pictures = right + batch_loss.right, pictures + len(batch)
            self.watcher.advance(loss / counted)
        validated = self._validate()
        if validated is not None and not math.isfinite(validated[0]):
            raise NotFiniteError(number + 1)
        epoch = Epoch(
            number + 1, time.monotonic() - began, rate, loss / counted, right / pictures, *(validated or (None, None))
        )
        self._record(epoch)

    def _make_fill(self, pixels: NDArray[np.uint8], which: NDArray[np.int64], changes: Changes) -> Fill:
        """Return the function that writes the pictures `which`, changed and scaled, to the input of a shard."""

        def fill(first: int, end: int, out: Floats) -> None:
            apply_changes(pixels[which[first:end]], changes.take(first, end), self.preparation, out)

        return fill

    def _validate(self) -> tuple[float, float] | None:
        """Return loss and accuracy on the validation pictures; None if there are none."""
        if self.dataset.validation is None:
            return None
        array, labels, answers = self.pixels["validation"].array, self.dataset.validation.labels, self.stack.answers
        height, width, _ = self.settings.input_shape
        unchanged = NO_AUGMENTATION.draw(np.random.default_rng(0), PREDICTION_BATCH_PICTURES, height, width)
        loss, right = 0.0, 0
        for start in range(0, len(labels), PREDICTION_BATCH_PICTURES):
            batch = np.arange(start, min(start + PREDICTION_BATCH_PICTURES, len(labels)))
            scores = self.stack.predict(len(batch), self._make_fill(array, batch, unchanged)).astype(np.float64)
            loss += float(answers.losses(scores, labels[batch]).values.sum())
            right += int(np.count_nonzero(answers.scores(scores).argmax(axis=1) == labels[batch]))
        return loss / len(labels), right / len(labels)

    def _record(self, epoch: Epoch) -> None:
        """Add an epoch to the history, and copy the parameters if it is the best one so far."""
        self.history.append(epoch)
        if epoch.validation_accuracy is None or epoch.number == 1 or _is_better(epoch, self.history[self.best - 1]):
            self.best, self.best_vectors = epoch.number, self._vectors()
        self.watcher.epoch(epoch, self.settings.epochs)

    # --- checkpoint and model ----------------------------------------------------------------------------

    def _vectors(self) -> dict[str, Floats]:
        """Return copies of the parameters and of the running statistics of the batch norms."""
        running = [norm.running for norm in self.stack.norms]
        vectors = {"values": self.stack.values.copy()}
        return vectors | ({"running": np.concatenate(running)} if running else {})

    def _restore(self, vectors: dict[str, Floats]) -> None:
        """Take the parameters and the running statistics from the result of `_vectors`."""
        self.stack.values[...] = vectors["values"]
        start = 0
        for norm in self.stack.norms:
            norm.running[...] = vectors["running"][start : start + norm.running.size]
            start += norm.running.size

    def _checkpoint_settings(self) -> dict[str, str]:
        """Return the settings and a checksum of the data, which must be the same when a training goes on."""
        digest = hashlib.sha256()
        for part in self.pixels.values():
            digest.update(str(part.array.shape).encode())
            digest.update(part.array[:: max(1, len(part.array) // 64)].tobytes())
        for examples in self.dataset.splits.values():
            digest.update(examples.labels.tobytes())
        return {**self.settings.as_texts(), "data": digest.hexdigest()[:16]}

    def _checkpoint_vectors(self) -> dict[str, Floats]:
        """Return the vectors that a checkpoint stores."""
        vectors = {**self._vectors(), **self.optimiser.state}
        return vectors | {f"best {name}": vector for name, vector in self.best_vectors.items()}

    def _write_checkpoint(self, path: str) -> None:
        """Write a checkpoint; a failure is only a warning, as the training can go on without it."""
        seconds = self.seconds_before + time.monotonic() - self.start_time
        state = Checkpoint(
            self._checkpoint_settings(),
            self._checkpoint_vectors(),
            self.history,
            self.best,
            self.optimiser.steps,
            seconds,
        )
        try:
            write_checkpoint(path, state)
        except OSError as error:
            self.watcher.say(
                f"Warning: {path}: cannot be written ({error.strerror or error}); --resume would begin earlier"
            )

    def _resume(self, path: str) -> None:
        """Take the state of the training from a checkpoint; without one it begins."""
        try:
            sizes = {name: vector.size for name, vector in self._checkpoint_vectors().items()}
            state = read_checkpoint(path, self._checkpoint_settings(), sizes)
        except FileNotFoundError:
            self.watcher.say(f"no checkpoint {path}: the training begins")
            return
        vectors = dict(state.vectors)
        self.best_vectors = {name: vectors.pop(f"best {name}") for name in self._vectors()}
        self._restore(vectors)
        for name, vector in self.optimiser.state.items():
            vector[...] = vectors[name]
        self.optimiser.steps = state.steps
        self.history, self.best, self.seconds_before = state.history, state.best, state.seconds
        self.watcher.went_before(self.history)
        self.watcher.say(f"going on after epoch {len(self.history)}")

    def _model(self) -> Model:
        """Return the model, with its weights rounded as the file stores them."""
        weights = tuple({name: _rounded(values) for name, values in layer.items()} for layer in self.stack.weights())
        layers = self.settings.layers
        more: tuple[Weights, ...] = ({},) * (len(layers) - len(weights))
        return Model(
            layers,
            (*weights, *more),
            self.settings.input_shape,
            self.dataset.classes,
            self.preparation,
            trained=TrainedPictures.of([TrainedPictures.digest(picture) for picture in self.train]),
        )


def _rounded(values: Floats) -> Floats:
    """Round to float16 as the model file does, so that the evaluation holds for the file."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16).astype(np.float32)
    if not np.isfinite(rounded).all():
        raise DataError(f"a learned number has grown to {np.abs(values).max():.3g}; a smaller --rate would do")
    return rounded


def _is_better(epoch: Epoch, best: Epoch) -> bool:
    """Return whether an epoch has a higher validation accuracy or, if it is equal, a lower validation loss."""
    assert epoch.validation_accuracy is not None
    assert epoch.validation_loss is not None
    assert best.validation_accuracy is not None
    assert best.validation_loss is not None
    return (epoch.validation_accuracy, -epoch.validation_loss) > (best.validation_accuracy, -best.validation_loss)


def seconds_for(settings: Settings, pictures: int, threads: int | None) -> float:
    """Estimate the seconds of a training from the time of one step on zeros."""
    stack = Stack(settings.layers, settings.input_shape, np.random.default_rng(0), threads or default_threads())
    count = min(settings.batch, pictures)
    targets = Targets(np.zeros(count, np.int64), np.ones(count, np.float32))

    def step() -> float:
        began = time.monotonic()
        stack.learn(count, lambda first, end, out: out.fill(0), targets, (0,))
        return time.monotonic() - began

    with one_thread():
        step()  # a first step, which loads or compiles the loops
        return min(step(), step()) * -(-pictures // settings.batch) * settings.epochs
