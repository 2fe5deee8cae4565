"""Answers of a network: its last numbers as probabilities of classes, and the loss of a label.

A softmax at the end of the layers, or nothing, makes one answer of all numbers: their probabilities sum to 1. A sigmoid
makes an answer of each number by itself. A single number with a sigmoid stands for two classes; it is the probability
of the second one.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.layers.activations import activate, log_softmax
from cnnfilter.layers.layer import Shape
from cnnfilter.layers.stack import Layers

Values = NDArray[Any]


class Losses(NamedTuple):
    """The loss (N,) of each picture, and its gradients (N, numbers) for the numbers before the last function."""

    values: Values
    gradients: Values


class Answers(NamedTuple):
    """The numbers that a network gives before its last function; with a sigmoid, each is an answer by itself."""

    numbers: int
    independent: bool = False

    @classmethod
    def of(cls, layers: Layers, input_shape: Shape) -> Answers:
        """Return the answers of layers for an input (H, W, C)."""
        return cls(math.prod(layers.output_shape(input_shape)), str(layers[-1]) == "sigmoid")

    @property
    def is_binary(self) -> bool:
        """Return whether one number stands for two classes."""
        return self.independent and self.numbers == 1

    @property
    def classes(self) -> int:
        """The number of classes."""
        return 2 if self.is_binary else self.numbers

    def scores(self, logits: Values) -> Values:
        """Return a number for each class (N, classes), the largest for the best one; `logits` is (N, numbers).

        >>> Answers(1, True).scores(np.array([[-2.0], [3.0]]))
        array([[ 0., -2.],
               [ 0.,  3.]])
        """
        # The sigmoid of z is the softmax of 0 and z.
        return np.concatenate([np.zeros_like(logits), logits], axis=1) if self.is_binary else logits

    def probabilities(self, logits: Values) -> Values:
        """Return the probability of each class (N, classes).

        >>> Answers(2, True).probabilities(np.array([[0.0, 0.0]])), Answers(1, True).probabilities(np.array([[0.0]]))
        (array([[0.5, 0.5]]), array([[0.5, 0.5]]))
        """
        if self.is_binary:
            return activate(np.concatenate([-logits, logits], axis=1), "sigmoid")
        return activate(logits, "sigmoid" if self.independent else "softmax")

    def losses(self, logits: Values, labels: NDArray[np.int64], smoothing: float = 0.0) -> Losses:
        """Return the losses of pictures that have one label each.

        It is the cross-entropy; of independent answers, the mean of the binary cross-entropies of all labels, of which
        one is there and the others are not.

        Parameters
        ----------
        logits : (N, numbers) float array
        labels : (N,) int array
        smoothing : float
            The share of each label that is spread evenly: over all classes or, for independent answers, over yes and
            no, as PyTorch and Keras do.
        """
        at, share = np.arange(len(labels)), logits.dtype.type(smoothing)
        if not self.independent:
            wanted = np.full(logits.shape, share / self.classes, logits.dtype)
            wanted[at, labels] += 1 - share
            logs = log_softmax(logits)
            return Losses(-(wanted * logs).sum(axis=1), np.exp(logs) - wanted)
        wanted = np.full(logits.shape, share / 2, logits.dtype)
        if self.is_binary:
            wanted[:, 0] += (1 - share) * labels
        else:
            wanted[at, labels] += 1 - share
        # log(1 + exp(z)) - wanted * z, with exp of negative numbers only, so that it cannot overflow.
        each = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits))) - wanted * logits
        return Losses(each.mean(axis=1), (activate(logits, "sigmoid") - wanted) / logits.dtype.type(self.numbers))


def without_last_function(layers: Layers) -> Layers:
    """Return layers without a softmax or sigmoid at the end, whose numbers the loss takes."""
    return layers[: len(layers) - (str(layers[-1]) in ("softmax", "sigmoid"))]
