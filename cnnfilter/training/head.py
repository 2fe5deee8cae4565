"""Train a head, which is a dense layer on the features of the shipped network; the network itself is not changed.

The fit is in `cnnfilter.training.logistic_regression`; here features are computed and the model is put together.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ImageError
from cnnfilter.layers.stack import parse_layers
from cnnfilter.networks.model_file import Backbone, Model
from cnnfilter.networks.network import Network, load_model
from cnnfilter.networks.preparation import fit, scale
from cnnfilter.runtime.parallel import default_threads
from cnnfilter.training.augmentation import NO_AUGMENTATION, Augmentation, apply_changes
from cnnfilter.training.data.dataset import Dataset
from cnnfilter.training.data.duplicates import fingerprint
from cnnfilter.training.data.examples import Examples, FileExamples, Picture, Skipped, read_each
from cnnfilter.training.logistic_regression import Head, class_weights, fit_head
from cnnfilter.training.progress import Watcher
from cnnfilter.weights import DEFAULT_MODEL, checksum, path_of
from cnnfilter.weights.trained_pictures import TrainedPictures

CHANGED_COPIES_PER_PICTURE = 3
"""Changed copies that an augmentation makes of each training picture, beside the picture itself.

A compromise that was not measured: features are computed once for every copy, so that time grows with their number.
"""

Floats = NDArray[np.float32]


class ExampleFeatures(NamedTuple):
    """The features (V, F) of a picture and its changed copies, its fingerprint (None for arrays) and its digest."""

    features: Floats
    fingerprint: bytes | None
    digest: bytes


class SplitFeatures(NamedTuple):
    """The features (N, V, F), the fingerprints and the digests of the pictures of a split that could be read."""

    features: Floats
    fingerprints: list[bytes | None]
    digests: list[bytes]


class HeadTraining(NamedTuple):
    """A trained head as a model, the dataset without unreadable pictures, and the features of each split."""

    model: Model
    head: Head
    dataset: Dataset
    features: dict[str, SplitFeatures]

    def logits(self, split: str) -> Floats:
        """Return the logits (N, classes) of the pictures of a split, by the weights as a file stores them."""
        weights = self.model.weights[0]
        return self.features[split].features[:, 0] @ weights["kernel"] + weights["bias"]


def train_head(
    dataset: Dataset,
    *,
    augmentation: Augmentation = NO_AUGMENTATION,
    weights: str = "auto",
    seed: int = 0,
    threads: int | None = None,
    watcher: Watcher,
) -> HeadTraining:
    """Train a head on the features of the shipped network.

    Raises
    ------
    DataError
        If the pictures that can be read are not enough: see `Dataset.check`.
    """
    body = load_model()
    watcher.begin("features", len(dataset))
    features, unreadable = {}, []
    for number, (split, examples) in enumerate(dataset.splits.items()):
        changed = augmentation if split == "train" else NO_AUGMENTATION
        features[split], missing = _split_features(
            examples, body, changed, np.random.SeedSequence([seed, 3, number]), threads, watcher
        )
        unreadable += missing
    classes = dataset.classes
    dataset = dataset.without(unreadable)
    watcher.classes_lost(classes, dataset.classes)
    dataset.check()
    train = features["train"].features
    versions = train.shape[1]
    labels = np.repeat(dataset.train.labels, versions)
    importance = class_weights(dataset.train.labels, len(dataset.classes), weights)
    watcher.begin("head", 0)
    head = fit_head(
        train.reshape(len(labels), -1),
        labels,
        len(dataset.classes),
        groups=np.repeat(np.arange(len(dataset.train)), versions) if versions > 1 else None,
        weights=importance,
        seed=seed,
        threads=threads,
    )
    model = replace(_as_model(head, dataset, body), trained=TrainedPictures.of(features["train"].digests))
    return HeadTraining(model, head, dataset, features)


def _split_features(
    examples: Examples,
    body: Network,
    augmentation: Augmentation,
    seeds: np.random.SeedSequence,
    threads: int | None,
    watcher: Watcher,
) -> tuple[SplitFeatures, list[Skipped]]:
    """Compute the features of every picture of a split that can be read."""
    height, width, channels = body.input_shape
    count = 0 if augmentation == NO_AUGMENTATION else CHANGED_COPIES_PER_PICTURE
    drawn = augmentation.draw(np.random.default_rng(seeds), count * len(examples), height, width)
    with_prints = isinstance(examples.source, FileExamples)

    def example_features(index: int, picture: Picture) -> ExampleFeatures:
        pixels = fit(picture, body.input_shape, body.preparation)
        batch = np.empty((1 + count, height, width, channels), np.float32)
        batch[0] = scale(pixels, body.preparation)
        if count:
            copies = np.repeat(pixels[None], count, axis=0)
            apply_changes(copies, drawn.take(index * count, (index + 1) * count), body.preparation, batch[1:])
        features = body.forward(batch, until=body.head, threads=1).reshape(len(batch), -1)
        look = fingerprint(pixels) if with_prints else None
        return ExampleFeatures(features, look, TrainedPictures.digest(pixels))

    found, unreadable = read_each(examples, example_features, threads=threads, advance=watcher.advance)
    readable = [each for each in found if each is not None]
    size = (1 + count, int(np.prod(list(body.layers.shapes(body.input_shape))[body.head])))
    features = np.stack([each.features for each in readable]) if readable else np.empty((0, *size), np.float32)
    looks, digests = [each.fingerprint for each in readable], [each.digest for each in readable]
    return SplitFeatures(features, looks, digests), unreadable


def _as_model(head: Head, dataset: Dataset, body: Network) -> Model:
    """Return the model of a head, with its weights rounded as a file stores them."""
    shape = list(body.layers.shapes(body.input_shape))[body.head]
    rounded = {
        name: values.astype(np.float16).astype(np.float32)
        for name, values in (("kernel", head.kernel), ("bias", head.bias))
    }
    return Model(
        layers=parse_layers(f"dense {len(dataset.classes)}"),
        weights=(rounded,),
        input_shape=shape,
        classes=dataset.classes,
        preparation=replace(body.preparation, scale=dataset.scale),
        backbone=Backbone(DEFAULT_MODEL, checksum(path_of(DEFAULT_MODEL)), body.head),
    )


def seconds_for(body: Network, dataset: Dataset, forward_passes: int, threads: int | None) -> float:
    """Estimate the seconds that so many forward passes take, from one pass of the first picture that can be read."""
    for index in range(min(len(dataset.train), 8)):
        began = time.monotonic()
        try:
            picture = dataset.train.read(index)
        except ImageError:
            continue
        read = time.monotonic() - began
        batch = body.prepare(picture)
        body.forward(batch, until=body.head, threads=1)  # a first pass, which loads or compiles the loops
        began = time.monotonic()
        body.forward(body.prepare(picture), until=body.head, threads=1)
        once = time.monotonic() - began
        return (read * len(dataset) + once * forward_passes) / (threads or default_threads()) + 1
    return 1.0
