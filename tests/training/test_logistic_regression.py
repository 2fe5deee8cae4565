"""The head: the least penalised loss, the penalty by cross-validation, class weights."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter.training.logistic_regression import PENALTIES, _fit, class_weights, fit_head, minimise


def blobs(rng, count, classes=3, features=12, apart=1.5):
    centres = rng.normal(0, apart, (classes, features))
    labels = np.arange(count) % classes
    return (centres[labels] + rng.normal(size=(count, features))).astype(np.float32), labels


def test_minimise_rosenbrocks_valley_from_afar():
    def value(x):
        gradient = np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)])
        return float(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2), gradient

    assert minimise(value, np.array([-1.2, 1.0]), tolerance=0).round(3).tolist() == [1, 1]


def test_the_gradient_vanishes_at_the_solution(rng):
    rows, labels = blobs(rng, 90)
    importance = rng.uniform(0.5, 2, 90).astype(np.float32)
    parameters = _fit(rows, labels, 3, importance, 0.05)
    scores = rows @ parameters[:-1] + parameters[-1]
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    wrong = (powers / powers.sum(axis=1, keepdims=True) - np.eye(3)[labels]) * (importance / importance.sum())[:, None]
    assert np.abs(rows.T @ wrong + 0.05 * parameters[:-1]).max() < 2e-3
    assert np.abs(wrong.sum(axis=0)).max() < 2e-3


def test_it_finds_what_scikit_learn_finds(rng):
    linear = pytest.importorskip("sklearn.linear_model")
    rows, labels = blobs(rng, 120, apart=0.5)
    parameters = _fit(rows, labels, 3, np.ones(120, np.float32), 0.1)
    other = linear.LogisticRegression(C=1 / (0.1 * 120), tol=1e-8, max_iter=1000).fit(rows, labels)
    np.testing.assert_allclose(parameters[:-1].T, other.coef_, atol=3e-3)


def test_a_head_tells_new_rows_apart(rng):
    rows, labels = blobs(rng, 400)
    head = fit_head(rows[:200] * 5 + 3, labels[:200], 3)
    said = ((rows[200:] * 5 + 3) @ head.kernel + head.bias).argmax(axis=1)
    assert (said == labels[200:]).mean() > 0.95
    least = min(head.losses.values())
    assert head.losses[head.penalty] <= least + 0.01
    assert all(loss > least + 0.01 for penalty, loss in head.losses.items() if penalty > head.penalty)


def test_noise_gets_a_strong_penalty(rng):
    rows = rng.normal(size=(60, 40)).astype(np.float32)
    labels = rng.integers(0, 2, 60)
    clear, own = blobs(rng, 60, classes=2, features=40)
    assert fit_head(rows, labels, 2).penalty > 10 * fit_head(clear, own, 2).penalty


def test_threads_and_reruns_change_nothing(rng):
    rows, labels = blobs(rng, 100)
    heads = [fit_head(rows, labels, 3, threads=threads) for threads in (1, 4)]
    assert (heads[0].kernel == heads[1].kernel).all()
    assert heads[0].losses == heads[1].losses
    assert fit_head(rows, labels, 3, seed=1).losses != heads[0].losses


def test_versions_of_a_picture_stay_together(rng):
    """If a picture's copy may stand on both sides, cross-validation takes noise for knowledge."""
    rows = np.repeat(rng.normal(size=(40, 30)).astype(np.float32), 5, axis=0)
    labels = np.repeat(rng.integers(0, 2, 40), 5)
    apart = fit_head(rows, labels, 2)
    together = fit_head(rows, labels, 2, groups=np.repeat(np.arange(40), 5))
    assert min(together.losses.values()) > 2 * min(apart.losses.values())
    assert together.penalty > apart.penalty


def test_features_that_stay_the_same_do_no_harm(rng):
    rows, labels = blobs(rng, 60)
    rows = np.hstack([rows, np.full((60, 3), 7, np.float32)])
    head = fit_head(rows, labels, 3)
    assert np.isfinite(head.kernel).all()
    assert (head.kernel[-3:] == 0).all()
    assert np.isfinite(fit_head(np.ones((6, 4), np.float32), np.arange(6) % 2, 2).bias).all()


def test_two_pictures_are_enough():
    head = fit_head(np.array([[0, 1], [1, 0]], np.float32), np.array([0, 1]), 2)
    assert (np.array([[0, 1], [1, 0]]) @ head.kernel + head.bias).argmax(axis=1).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("counts", "how", "weights"),
    [
        ((30, 10), "auto", (1, 1)),
        ((31, 10), "auto", (41 / 62, 41 / 20)),
        ((31, 10), "none", (1, 1)),
        ((20, 10), "balanced", (0.75, 1.5)),
    ],
)
def test_class_weights(counts, how, weights):
    labels = np.repeat(np.arange(2), counts)
    np.testing.assert_allclose(class_weights(labels, 2, how), weights, rtol=1e-6)


def test_penalties_go_from_strong_to_weak():
    assert list(PENALTIES) == sorted(PENALTIES, reverse=True)
