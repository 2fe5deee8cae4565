"""Activation functions: known values, PyTorch's where it is installed, derivatives by finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cnnfilter import ModelError, activate
from cnnfilter.layers.activations import NAMES, derivative, log_softmax

VALUES = np.array([-100, -3, -0.5, 0, 0.25, 2, 6, 7, 100], np.float32)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("relu", [0, 0, 0, 0, 0.25, 2, 6, 7, 100]),
        ("relu6", [0, 0, 0, 0, 0.25, 2, 6, 6, 6]),
        ("leaky:0.1", [-10, -0.3, -0.05, 0, 0.25, 2, 6, 7, 100]),
        ("leaky", [-1, -0.03, -0.005, 0, 0.25, 2, 6, 7, 100]),
        ("abs", [100, 3, 0.5, 0, 0.25, 2, 6, 7, 100]),
        ("tanh", [math.tanh(v) for v in VALUES]),
        ("sigmoid", [1 / (1 + math.exp(-v)) for v in VALUES]),
    ],
)
def test_known_values(name, wanted):
    got = activate(VALUES, name)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-44)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("relu", [0, 0, 0, 0, 1, 1, 1, 1, 1]),
        ("relu6", [0, 0, 0, 0, 1, 1, 0, 0, 0]),
        ("leaky:0.1", [0.1, 0.1, 0.1, 0.1, 1, 1, 1, 1, 1]),
        ("abs", [-1, -1, -1, 0, 1, 1, 1, 1, 1]),
    ],
)
def test_slopes_and_their_kinks(name, wanted):
    np.testing.assert_allclose(derivative(VALUES, name), wanted, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "softmax"])
def test_slope_is_the_difference_quotient(name, rng):
    values = rng.normal(size=200) * 4
    values = values[(np.abs(values) > 1e-3) & (np.abs(values - 6) > 1e-3)]
    step = 1e-5
    quotient = (activate(values + step, name) - activate(values - step, name)) / (2 * step)
    np.testing.assert_allclose(derivative(values, name), quotient, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_pytorch(name, rng):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    theirs = {
        "leaky:0.1": lambda values: functional.leaky_relu(values, 0.1),
        "softmax": lambda values: functional.softmax(values, -1),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "abs": torch.abs,
    }.get(name) or getattr(functional, name)
    values = np.concatenate([rng.normal(size=(40, 5)) * 5, [[0, 6, -0.0, 90, -90]]]).astype(np.float32)
    tensor = torch.from_numpy(values).requires_grad_()
    result = theirs(tensor)
    np.testing.assert_allclose(activate(values, name), result.detach().numpy(), rtol=2e-6, atol=1e-7)
    if name != "softmax":
        result.sum().backward()
        np.testing.assert_allclose(derivative(values, name), tensor.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_softmax_sums_to_one_over_the_last_axis_and_never_overflows(rng):
    values = rng.normal(size=(3, 4, 5)).astype(np.float32) * 1000
    shares = activate(values, "softmax")
    np.testing.assert_allclose(shares.sum(axis=-1), np.ones((3, 4)), rtol=1e-6)
    np.testing.assert_allclose(activate([0, math.log(3)], "softmax"), [0.25, 0.75], rtol=1e-6)


def test_large_numbers_do_not_overflow():
    values = np.array([-1e4, -89, 89, 1e4], np.float32)
    np.testing.assert_allclose(activate(values, "sigmoid"), [0, 2.2e-39, 1, 1], atol=1e-38)
    assert np.isfinite(derivative(values, "sigmoid")).all()
    assert np.isfinite(derivative(values, "tanh")).all()


@pytest.mark.parametrize("name", NAMES)
def test_form(name):
    assert activate(np.array([[1, 2]], np.uint8), name).dtype == np.float32
    assert activate(np.array([[1.0, 2]]), name).dtype == np.float64
    values = np.array([[-1, 2, 9]], np.float32)
    before = values.copy()
    assert activate(values, name).shape == (1, 3)
    np.testing.assert_array_equal(values, before)
    assert np.isnan(activate(np.array([np.nan, 1], np.float32), name)[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rely", "no activation 'rely'; did you mean 'relu'"),
        ("swish", "there are relu, relu6"),
        ("leaky:x", "as in leaky:0.1"),
        ("leaky:nan", "as in leaky:0.1"),
        ("leaky:", "as in leaky:0.1"),
        ("relu:1", "relu takes no number"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ModelError, match=message):
        activate(VALUES, name)
    with pytest.raises(ModelError, match=message):
        derivative(VALUES, name)


def test_softmax_has_no_slope():
    with pytest.raises(ModelError, match="each of its outputs depends on every input"):
        derivative(VALUES, "softmax")


def test_log_softmax_is_the_logarithm_of_softmax_and_does_not_overflow(rng):
    values = rng.normal(0, 3, (5, 4, 7))
    np.testing.assert_allclose(log_softmax(values), np.log(activate(values, "softmax")), rtol=1e-12)
    far = log_softmax(np.array([[1e38, 0, -1e38]], np.float32))
    assert far.dtype == np.float32
    assert far[0, 0] == 0
    assert far[0, 1] == np.float32(-1e38)
