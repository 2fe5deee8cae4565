"""How the last numbers of a network become probabilities, and their losses, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter import parse_layers
from cnnfilter.layers.answers import Answers, without_last_function

KINDS = [Answers(1, True), Answers(3, True), Answers(3)]


@pytest.mark.parametrize(
    ("text", "answers", "classes"),
    [
        ("flatten | dense 1 | sigmoid", Answers(1, True), 2),
        ("flatten | dense 3 | sigmoid", Answers(3, True), 3),
        ("flatten | dense 3 | softmax", Answers(3), 3),
        ("flatten | dense 3", Answers(3), 3),
        ("flatten | sigmoid | dense 1", Answers(1), 1),
    ],
)
def test_the_last_function_decides(text, answers, classes):
    layers = parse_layers(text)
    found = Answers.of(layers, (4, 4, 1))
    assert found == answers
    assert found.classes == classes
    assert str(without_last_function(layers)) == text.removesuffix(" | sigmoid").removesuffix(" | softmax")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("answers", KINDS)
def test_losses_and_gradients_are_those_of_pytorch(answers, smoothing, dtype, rng):
    torch = pytest.importorskip("torch")
    logits = rng.normal(0, 4, (7, answers.numbers)).astype(dtype)
    logits[0] *= 100
    labels = rng.integers(0, answers.classes, 7)
    tensor = torch.tensor(logits, requires_grad=True)
    if answers.independent:
        one_hot = labels[:, None] if answers.is_binary else np.eye(answers.numbers)[labels]
        wanted = torch.tensor(one_hot * (1 - smoothing) + smoothing / 2, dtype=tensor.dtype)
        each = torch.nn.functional.binary_cross_entropy_with_logits(tensor, wanted, reduction="none").mean(dim=1)
        probabilities = torch.sigmoid(tensor).detach().numpy()
    else:
        smooth = {"label_smoothing": smoothing, "reduction": "none"}
        each = torch.nn.functional.cross_entropy(tensor, torch.tensor(labels), **smooth)
        probabilities = torch.softmax(tensor, dim=1).detach().numpy()
    each.sum().backward()
    losses = answers.losses(logits, labels, smoothing)
    assert losses.values.dtype == losses.gradients.dtype == dtype
    np.testing.assert_allclose(losses.values, each.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(losses.gradients, tensor.grad.numpy(), atol=1e-6)
    np.testing.assert_allclose(answers.probabilities(logits)[:, -answers.numbers :], probabilities, atol=1e-6)


def test_one_number_is_the_softmax_of_it_and_zero(rng):
    logits = rng.normal(0, 30, (50, 1))
    binary, pair = Answers(1, True), Answers(2)
    labels = rng.integers(0, 2, 50)
    scores = binary.scores(logits)
    np.testing.assert_allclose(binary.probabilities(logits), pair.probabilities(scores), atol=1e-12)
    np.testing.assert_allclose(binary.losses(logits, labels).values, pair.losses(scores, labels).values, atol=1e-9)
    assert np.isfinite(binary.losses(np.array([[1e4], [-1e4]]), np.array([0, 1])).values).all()
