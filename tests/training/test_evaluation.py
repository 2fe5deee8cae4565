"""Evaluation: figures by hand and by scikit-learn, calibration, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from cnnfilter import DataError, evaluate, load_folder
from cnnfilter.cli.reports.evaluation import evaluation_lines, evaluation_record
from cnnfilter.training.data.examples import ArrayExamples, Examples
from cnnfilter.training.evaluation import Evaluation, wilson_interval


def evaluation(labels, answers, classes, *, sureness=4.0, **more):
    logits = np.full((len(labels), len(classes)), 0, np.float32)
    logits[np.arange(len(labels)), answers] = sureness
    samples = Examples(
        ArrayExamples([("rows", np.zeros((len(labels), 2, 2), np.uint8))]), np.arange(len(labels)), np.array(labels)
    )
    return Evaluation(tuple(classes), np.array(labels), logits, samples, **more)


def test_by_hand():
    found = evaluation([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 1], "abcd")
    assert found.confusion.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert found.accuracy == 0.5
    assert found.majority == ("a", 0.5)
    a, b, c, d = found.per_class
    assert (a.count, a.precision, a.recall, a.f1) == (3, 2 / 3, 2 / 3, pytest.approx(2 / 3))
    assert (b.count, b.precision, b.recall, b.f1) == (2, 1 / 3, 1 / 2, pytest.approx(0.4))
    assert c.count == 1
    assert math.isnan(c.precision)
    assert (c.recall, c.f1) == (0, 0)
    assert math.isnan(d.recall)


def test_as_scikit_learn(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, answers = rng.integers(0, 4, 50), rng.integers(0, 4, 50)
    found = evaluation(labels, answers, "abcd")
    theirs = metrics.precision_recall_fscore_support(labels, answers)
    for mine, wanted in zip(
        zip(*((row.count, row.precision, row.recall, row.f1) for row in found.per_class), strict=True),
        [theirs[3], *theirs[:3]],
        strict=True,
    ):
        np.testing.assert_allclose(mine, wanted)
    assert (found.confusion == metrics.confusion_matrix(labels, answers)).all()
    sure = found.probabilities.astype(float)
    assert found.loss == pytest.approx(metrics.log_loss(labels, sure / sure.sum(axis=1, keepdims=True)), rel=1e-5)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_as_published(hits, count, low, high):
    assert wilson_interval(hits, count) == pytest.approx((low, high), abs=5e-5)


def test_mistakes_come_surest_first():
    found = evaluation([0, 1, 1], [1, 1, 0], "ab")
    found.logits[2, 0] = 9
    assert [(mistake.index, mistake.truth, mistake.answer) for mistake in found.mistakes()] == [
        (2, "b", "a"),
        (0, "a", "b"),
    ]
    assert found.mistakes()[0].probability > 0.99
    text = "\n".join(evaluation_lines(found, "test"))
    assert "surest mistakes (2 of 2):" in text
    assert "'a' instead of 'b': rows#2" in text


def test_json_holds_what_is_promised():
    found = evaluation_record(evaluation([0, 1, 1], [1, 1, 1], "ab"))
    assert {"accuracy", "count", "interval", "classes", "confusion", "per_class"} <= found.keys()
    assert json.loads(json.dumps(found, allow_nan=False))["per_class"][0]["precision"] is None


def test_calibration_undoes_a_known_sharpening(rng):
    logits = rng.normal(0, 2, (4000, 3))
    powers = np.exp(logits)
    labels = np.array([rng.choice(3, p=row / row.sum()) for row in powers])
    found = evaluation(labels, labels, "abc")
    found.logits[...] = logits * 3
    calibration = found.calibrated()
    assert calibration.temperature == pytest.approx(3, rel=0.07)
    scaled = np.exp(logits * 3 / calibration.temperature)
    best = (scaled / scaled.sum(axis=1, keepdims=True)).max(axis=1)[logits.argmax(axis=1) == labels]
    assert (best >= calibration.threshold).mean() == pytest.approx(0.95, abs=0.01)


def test_calibration_without_a_mistake_stays_sensible():
    calibration = evaluation([0, 1] * 20, [0, 1] * 20, "ab", sureness=12).calibrated()
    assert calibration.temperature > 1
    assert 0.5 < calibration.threshold < 1


def test_many_classes_list_confusions_instead_of_a_matrix():
    names = [f"class {number}" for number in range(30)]
    lines = evaluation_lines(evaluation(list(range(30)), [1, *range(1, 30)], names), "")
    assert "  1 times 'class 1' instead of 'class 0'" in lines


def test_evaluate_refuses(tmp_path):
    from cnnfilter import load_model

    np.savez(tmp_path / "d.npz", images=np.zeros((4, 3, 3), np.uint8), labels=["cat", "dog", "cat", "dog"])
    network = load_model()
    with pytest.raises(
        DataError,
        match=r"has the classes 'cat', 'dog', efficientnet-lite0 knows .*; not among these: 'cat', 'dog'",
    ):
        evaluate(network, tmp_path / "d.npz")
    with pytest.raises(DataError, match="has no split 'test', only train"):
        evaluate(network, load_folder(tmp_path / "d.npz", validation=0), split="test")
