"""Multinomial logistic regression on features, with the L2 penalty chosen by cross-validation.

The loss is minimised by L-BFGS (Nocedal & Wright, Numerical Optimization, algorithms 7.4 and 7.5). With two classes it
is the logistic regression with a sigmoid, since the softmax of two numbers is the sigmoid of their difference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.layers.activations import log_softmax
from cnnfilter.runtime.blas import one_thread
from cnnfilter.runtime.parallel import default_threads, run_tasks

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(2, -11, -1))
"""Factors of the squared weights that are added to the mean loss, from strong to weak: 10 … 0.00001.

The weights are those of features that are scaled to a deviation of about 1.
"""

FOLD_COUNT = 5
"""Parts of the cross-validation: five, as Hastie, Tibshirani & Friedman recommend (Statistical Learning, 7.10.1)."""

_CROSS_VALIDATION_ROWS_MAX = 20_000
"""Rows that are used to choose the penalty, at most. It bounds the time, and was not measured."""

_LOSS_TOLERANCE = 0.01
"""Difference of two mean losses (in nats a picture) that counts as none when the penalty is chosen.

Chosen by hand: among penalties that are as good the strongest is taken, since classes that are told apart with ease
would otherwise get the weakest one, and with it probabilities that are too sure.
"""

_DEVIATION_SHARE_MIN = 1e-4
"""Deviation of a feature, as a share of that of all features, up to which it is constant. Chosen by hand."""

UNBALANCED_RATIO = 3.0
"""Classes are weighted if the largest has more than so many times the pictures of the smallest. Chosen by hand."""

_HISTORY_STEPS = 10
"""Steps from which L-BFGS estimates the curvature; Nocedal & Wright, section 7.2, use 3 to 20."""

_ARMIJO_CONSTANT = 1e-4
"""Share of the expected decrease that a step must reach: c1 in Nocedal & Wright, section 3.1."""

_STEP_HALVINGS_MAX = 12
"""Halvings after which the search along a direction ends: 1/4096 of the first step. Chosen by hand."""

_CURVATURE_MIN = 1e-12
"""Curvature along a step, relative to the change of the gradient, below which the step is not remembered.

It keeps the estimate of the inverse Hessian positive definite (Nocedal & Wright, section 7.2); chosen by hand.
"""


class Head(NamedTuple):
    """Weights (F, classes), bias (classes,), the chosen penalty, and the loss of each penalty in cross-validation."""

    kernel: Floats
    bias: Floats
    penalty: float
    losses: dict[float, float]


def _feature_scale(features: Floats) -> NDArray[np.float64]:
    """Return the divisor (F,) of each feature: the geometric mean of its deviation and that of all.

    This is half way between features as they are and features of deviation 1. It was more accurate than either of
    them: by 1 and 3 points on pictures of clothing and of digits, from 300 and 600 training pictures.
    """
    deviation = features.std(axis=0, dtype=np.float64)
    mean_square = float(np.sqrt((deviation**2).mean()))
    # A constant feature tells nothing; dividing by infinity makes it 0, where a small divisor would amplify its noise.
    return (
        np.where(deviation > _DEVIATION_SHARE_MIN * mean_square, np.sqrt(deviation * mean_square), np.inf)
        if mean_square
        else deviation + np.inf
    )


def class_weights(labels: Labels, classes: int, how: str = "auto") -> Floats:
    """Return the weights (classes,) of the pictures of each class in the loss.

    Parameters
    ----------
    how : "auto", "balanced" or "none"
        none: every picture counts 1; balanced: every class counts the same in total; auto: balanced if the largest
        class has more than three times the pictures of the smallest, else none.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    present = counts[counts > 0]
    if how == "none" or (how == "auto" and present.max() <= UNBALANCED_RATIO * present.min()):
        return np.ones(classes, np.float32)
    return (len(labels) / (len(present) * np.maximum(counts, 1))).astype(np.float32)


def fit_head(
    features: Floats,
    labels: Labels,
    classes: int,
    *,
    groups: Labels | None = None,
    weights: Floats | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> Head:
    """Fit a head, with the penalty that cross-validation chooses.

    Parameters
    ----------
    features : (N, F) array
    labels : (N,) array
        Numbers of classes, below `classes`; each occurs at least once.
    groups : (N,) array, optional
        Rows with the same number (a picture and its changed copies) stay in the same part of the cross-validation.
    weights : (classes,) array, optional
        The weight of a row of each class in the loss.
    seed : int
        The parts of the cross-validation are drawn by it.

    Returns
    -------
    Head
        It is the same for any number of threads.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    scale = _feature_scale(features)
    rows = ((features - mean) / scale).astype(np.float32)
    importance = np.ones(len(labels), np.float32) if weights is None else weights[labels]
    with one_thread():
        losses = _cross_validate(rows, labels, classes, importance, groups, seed, threads or default_threads())
        best = _strongest_good_penalty(losses)
        parameters = _fit(rows, labels, classes, importance, best)
    kernel = parameters[:-1] / scale[:, None]
    return Head(kernel.astype(np.float32), (parameters[-1] - mean @ kernel).astype(np.float32), best, losses)


def _cross_validate(
    rows: Floats, labels: Labels, classes: int, importance: Floats, groups: Labels | None, seed: int, threads: int
) -> dict[float, float]:
    """Return the mean loss of each penalty on the part of the rows that was left out of the fit."""
    rng = np.random.default_rng([seed, 2])
    parts = _stratified(labels if groups is None else labels[np.unique(groups, return_index=True)[1]], rng)
    part_of = parts if groups is None else parts[np.unique(groups, return_inverse=True)[1]]
    used = np.sort(rng.permutation(len(labels))[:_CROSS_VALIDATION_ROWS_MAX])
    part_of, rows, labels, importance = part_of[used], rows[used], labels[used], importance[used]
    folds = [number for number in range(FOLD_COUNT) if 0 < np.count_nonzero(part_of == number) < len(labels)]

    if not folds:  # all rows are in one part, so that nothing is left to measure on
        return {1.0: float("nan")}
    parameters: list[NDArray[np.float64] | None] = [None] * len(folds)

    def fit(index: int, penalty: float) -> float:
        fitted, held = part_of != folds[index], part_of == folds[index]
        found = _fit(rows[fitted], labels[fitted], classes, importance[fitted], penalty, parameters[index])
        parameters[index] = found
        return _loss(rows[held], labels[held], importance[held], found)

    losses: dict[float, float] = {}
    for penalty in PENALTIES:
        results = run_tasks([partial(fit, index, penalty) for index in range(len(folds))], threads)
        losses[penalty] = float(np.mean(results))
        if _has_passed_minimum(list(losses.values())):
            break
    return losses


def _strongest_good_penalty(losses: Mapping[float, float]) -> float:
    """Return the strongest penalty whose loss is the least one, up to the tolerance."""
    least = min(losses.values())
    return max(penalty for penalty, loss in losses.items() if not loss > least + _LOSS_TOLERANCE)


def _has_passed_minimum(losses: Sequence[float]) -> bool:
    """Return whether the last two losses are above the least one; those of weaker penalties would be higher still."""
    return len(losses) - 1 - int(np.argmin(losses)) >= 2


def _stratified(labels: Labels, rng: np.random.Generator) -> Labels:
    """Return the number of the part of each row; the rows of each class are spread evenly over the parts."""
    parts = np.empty(len(labels), np.int64)
    start = 0
    for number in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == number))
        parts[own] = (np.arange(len(own)) + start) % FOLD_COUNT
        start += len(own)
    return parts


def _log_probabilities(rows: Floats, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithms of the probabilities (N, classes); the matrix product is in float32."""
    single = parameters.astype(np.float32)
    return log_softmax((rows @ single[:-1]).astype(np.float64) + parameters[-1])


def _loss(rows: Floats, labels: Labels, importance: Floats, parameters: NDArray[np.float64]) -> float:
    """Return the weighted mean of the cross-entropy, without the penalty."""
    losses = -_log_probabilities(rows, parameters)[np.arange(len(labels)), labels]
    return float((losses * importance).sum() / importance.sum())


def _fit(
    rows: Floats,
    labels: Labels,
    classes: int,
    importance: Floats,
    penalty: float,
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the parameters (F + 1, classes) of the least penalised loss: weights and, as the last row, bias."""
    share = (importance / importance.sum()).astype(np.float64)
    shape = (rows.shape[1] + 1, classes)
    each = np.arange(len(labels))

    def value(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = point.reshape(shape)
        logarithms = _log_probabilities(rows, parameters)
        loss = -float(share @ logarithms[each, labels]) + penalty / 2 * float((parameters[:-1] ** 2).sum())
        errors = np.exp(logarithms)
        errors[each, labels] -= 1
        errors *= share[:, None]
        gradient = np.empty(shape)
        gradient[:-1] = rows.T @ errors.astype(np.float32) + penalty * parameters[:-1]
        gradient[-1] = errors.sum(axis=0)
        return loss, gradient.ravel()

    point = np.zeros(shape).ravel() if start is None else start.ravel()
    return minimise(value, point).reshape(shape)


Function = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]


def minimise(
    value: Function, point: NDArray[np.float64], *, steps: int = 200, tolerance: float = 1e-6
) -> NDArray[np.float64]:
    """Return the point at which a smooth convex function is least, by L-BFGS.

    Parameters
    ----------
    value : callable
        Returns the value at a point (P,) and the gradient (P,).
    point : (P,) array
        The point to start from.
    steps : int
        Steps at most.
    tolerance : float
        Stop after a step that decreases the value by no more than this share of it (float32 resolves 1e-7).

    Examples
    --------

    >>> minimise(lambda x: (float(((x - 3) ** 2).sum()), 2 * (x - 3)), np.zeros(2)).round(3)
    array([3., 3.])
    """
    loss, gradient = value(point)
    memory: deque[tuple[NDArray[np.float64], NDArray[np.float64]]] = deque(maxlen=_HISTORY_STEPS)
    for _ in range(steps):
        direction = -_inverse_hessian_product(gradient, memory)
        slope_along = float(direction @ gradient)
        if slope_along == 0:
            break
        length = 1.0 if memory else min(1.0, 1 / float(np.abs(gradient).sum()))
        for _ in range(_STEP_HALVINGS_MAX):
            step = length * direction
            new_loss, new_gradient = value(point + step)
            if new_loss <= loss + _ARMIJO_CONSTANT * length * slope_along:  # Armijo's condition
                break
            length /= 2
        else:
            break
        change = new_gradient - gradient
        if float(change @ step) > _CURVATURE_MIN * float(change @ change):
            memory.append((step, change))
        gain = loss - new_loss
        point, loss, gradient = point + step, new_loss, new_gradient
        if gain <= tolerance * abs(loss):
            break
    return point


def _inverse_hessian_product(
    gradient: NDArray[np.float64], memory: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> NDArray[np.float64]:
    """Return the gradient, multiplied by the inverse Hessian that is estimated from the last steps.

    `memory` holds the steps and the changes of the gradient: the two-loop recursion, algorithm 7.4.
    """
    direction = gradient.copy()
    shares = []
    for step, change in reversed(memory):
        share = float(step @ direction) / float(step @ change)
        shares.append(share)
        direction -= share * change
    if memory:
        step, change = memory[-1]
        direction *= float(step @ change) / float(change @ change)
    for (step, change), share in zip(memory, reversed(shares), strict=True):
        direction += (share - float(change @ direction) / float(step @ change)) * step
    return direction
