"""Evaluate a network on labelled pictures: accuracy and its interval, figures of each class, mistakes, calibration.

Writing an evaluation as text and as JSON is left to `cnnfilter.cli.reports.evaluation`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import DataError
from cnnfilter.layers.answers import Answers
from cnnfilter.networks.model_file import Calibration
from cnnfilter.networks.network import Network
from cnnfilter.networks.preparation import fit, scale
from cnnfilter.training.data.dataset import Dataset, load_folder
from cnnfilter.training.data.examples import Examples, Picture, Skipped, read_each
from cnnfilter.weights.trained_pictures import TrainedPictures

RIGHT_ANSWERS_KEPT_SHARE = 0.95
"""Share of the right answers that the threshold of 'unknown' lets through.

The usual point at which unknown pictures are told from known ones: Liang, Li & Srikant 2018, "Enhancing the Reliability
of Out-of-distribution Image Detection in Neural Networks", reports the errors at a true positive rate of 95 %.
"""

_TEMPERATURE_RANGE = (0.05, 20.0)
"""Temperatures among which the best one is sought: probabilities 20 times as sharp, or as flat, as the network's."""

_TEMPERATURE_STEPS = 40
"""Golden-section steps: 40 narrow the logarithm of that range, which is 6 wide, to 3e-8."""


@dataclass(frozen=True)
class ClassFigures:
    """Pictures, precision, recall and F1 of one class; NaN where the divisor is 0."""

    label: str
    count: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Mistake:
    """A picture with a wrong answer: its number and name, its label, the answer, and the probability of the answer."""

    index: int
    name: str
    truth: str
    answer: str
    probability: float


@dataclass(frozen=True)
class Evaluation:
    """The answers of a network to labelled pictures, and the figures that follow from them.

    Attributes
    ----------
    classes : tuple of str
    labels : (N,) int array
        The number of the class of each picture.
    logits : (N, classes) float array
        The numbers before the softmax or sigmoid; 0 and the number if one number stands for two classes.
    samples : Examples
        The labelled pictures, without those that could not be read.
    calibration : Calibration
        The temperature and threshold of the network.
    skipped : tuple of Skipped
        The files that were left out of the data, and the pictures that could not be read.
    independent : bool
        Each class has a probability by itself (a sigmoid); otherwise they sum to 1.
    trained_on, checked : int
        The number of pictures that the network was trained on, of so many for which its file tells that. A model keeps
        digests of 4096 training pictures at most; of more it is a sample.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    samples: Examples
    calibration: Calibration = field(default_factory=Calibration)
    skipped: tuple[Skipped, ...] = ()
    independent: bool = False
    trained_on: int = 0
    checked: int = 0

    @classmethod
    def of(
        cls,
        network: Network,
        labels: NDArray[np.int64],
        logits: NDArray[np.float32],
        samples: Examples,
        skipped: tuple[Skipped, ...] = (),
    ) -> Evaluation:
        """Return the evaluation of what a network gave for pictures: `logits` is (N, numbers)."""
        answers = network.answers
        independent = answers.independent and not answers.is_binary
        scores = answers.scores(logits)
        return cls(network.labels, labels, scores, samples, network.calibration, skipped, independent)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def answers(self) -> NDArray[np.int64]:
        """The most probable class of each picture."""
        return cast(NDArray[np.int64], self.logits.argmax(axis=1))

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """The probability of each class for each picture."""
        return self._kind.probabilities(self.logits / np.float32(self.calibration.temperature))

    @property
    def _kind(self) -> Answers:
        return Answers(len(self.classes), self.independent)

    @property
    def right(self) -> int:
        """The number of right answers."""
        return int(np.count_nonzero(self.answers == self.labels))

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return self.right / len(self)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy."""
        return wilson_interval(self.right, len(self))

    @property
    def majority(self) -> tuple[str, float]:
        """The most frequent class and its share of the pictures: the accuracy of answering always that."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return self.classes[int(counts.argmax())], float(counts.max() / len(self))

    @property
    def loss(self) -> float:
        """The mean cross-entropy: for a softmax, the negative logarithm of the right class's probability."""
        logits = self.logits.astype(np.float64) / self.calibration.temperature
        return float(self._kind.losses(logits, self.labels).values.mean())

    @property
    def confusion(self) -> NDArray[np.int64]:
        """The number of pictures of each class (rows) that got each answer (columns)."""
        size = len(self.classes)
        return np.bincount(self.labels * size + self.answers, minlength=size * size).reshape(size, size)

    @property
    def per_class(self) -> list[ClassFigures]:
        """Precision, recall and F1 of every class."""
        confusion = self.confusion
        hits, said, there = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
        return [
            ClassFigures(label, int(n), _share(hit, m), _share(hit, n), _share(2 * hit, n + m))
            for label, hit, m, n in zip(self.classes, hits, said, there, strict=True)
        ]

    def mistakes(self) -> list[Mistake]:
        """Return the wrong answers, those with the highest probability first."""
        answers, probabilities = self.answers, self.probabilities
        wrong = np.flatnonzero(answers != self.labels)
        sureness = probabilities[wrong, answers[wrong]]
        return [
            Mistake(
                int(index),
                self.samples.name(int(index)),
                self.classes[self.labels[index]],
                self.classes[answers[index]],
                float(probabilities[index, answers[index]]),
            )
            for index in wrong[np.argsort(-sureness, kind="stable")]
        ]

    def calibrated(self) -> Calibration:
        """Return the temperature of the least loss, and the threshold that 95 % of the right answers reach.

        With temperature 1 and threshold 0 if no answer is right.

        References
        ----------
        Guo et al. 2017, "On Calibration of Modern Neural Networks".
        """
        temperature = _best_temperature(self._kind, self.logits, self.labels)
        probabilities = self._kind.probabilities(self.logits / np.float32(temperature))
        best = probabilities.max(axis=1)[self.answers == self.labels]
        if not best.size:
            return Calibration()
        threshold = float(np.quantile(best, 1 - RIGHT_ANSWERS_KEPT_SHARE))
        return Calibration(round(temperature, 4), math.floor(threshold * 1e4) / 1e4)


def evaluate(
    network: Network,
    data: Dataset | str | os.PathLike[str],
    *,
    split: str | None = None,
    threads: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Compare the answers of a network with the labels of pictures.

    Parameters
    ----------
    data : Dataset or path
        A dataset, or a path that `load_folder` takes.
    split : "train", "validation", "test" or "all", optional
        If not given: test, else validation, else train.
    threads : int, optional
        All cores if not given; the result is the same for any number.
    advance : callable
        Called after each picture, on any thread.

    Raises
    ------
    DataError
        If the network lacks a class of the data, there is no such split, or no picture can be read.
    """
    dataset = data if isinstance(data, Dataset) else load_folder(data, validation=0, scale=network.preparation.scale)
    examples = choose_examples(dataset, split)
    labels = dataset.labels_in(examples, network.labels, network.name)

    def answer(index: int, picture: Picture) -> tuple[NDArray[np.float32], bytes]:
        fitted = fit(picture, network.input_shape, network.preparation)
        logits = network.forward(scale(fitted, network.preparation)[None], threads=1)[0]
        return cast(NDArray[np.float32], logits), TrainedPictures.digest(fitted)

    answers, unreadable = read_each(examples, answer, threads=threads, advance=advance)
    read = np.array([each is not None for each in answers], bool)
    if not read.any():
        first = f" ({unreadable[0].path}: {unreadable[0].reason})" if unreadable else ""
        what = "the only picture" if len(examples) == 1 else f"none of the {len(examples)} pictures"
        raise DataError(f"{what} of {dataset.name} can{'not' if len(examples) == 1 else ''} be read{first}")
    given = [each for each in answers if each is not None]
    rows = np.stack([logits for logits, _ in given])
    skipped = (*dataset.skipped, *unreadable)
    found = Evaluation.of(network, labels[read], rows.reshape(len(rows), -1), examples.take(read), skipped)
    trained = network.model.trained
    trained_on, checked = trained.find([digest for _, digest in given]) if trained else (0, 0)
    return replace(found, trained_on=trained_on, checked=checked)


def choose_examples(dataset: Dataset, split: str | None) -> Examples:
    """Return the examples of a split, or of the first of test, validation and train if `split` is None."""
    if split == "all":
        return dataset.all()
    wanted = split or next(name for name in ("test", "validation", "train") if name in dataset.splits)
    if wanted not in dataset.splits:
        raise DataError(f"{dataset.name} has no split {wanted!r}, only {', '.join(dataset.splits)}")
    return dataset.splits[wanted]


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of the share hits / count, by Wilson's score method.

    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    z = 1.959964
    share = hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else math.nan


def _best_temperature(answers: Answers, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the temperature of the least loss, by golden-section search over its logarithm.

    The loss has one minimum in the range. A share 1 / (N + 2) of each label is spread over all classes, after Platt
    1999, "Probabilistic Outputs for Support Vector Machines": without a mistake among the answers, the least loss would
    otherwise be at temperature 0.
    """
    doubt = 1 / (len(labels) + 2)

    def loss(temperature: float) -> float:
        return float(answers.losses(logits.astype(np.float64) / temperature, labels, doubt).values.mean())

    ratio = (math.sqrt(5) - 1) / 2
    low, high = map(math.log, _TEMPERATURE_RANGE)
    for _ in range(_TEMPERATURE_STEPS):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if loss(math.exp(a)) <= loss(math.exp(b)):
            high = b
        else:
            low = a
    return math.exp((low + high) / 2)
