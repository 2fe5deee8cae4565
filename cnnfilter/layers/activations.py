"""Activation functions, each beside its derivative.

Each takes an array of any shape and returns one of the same shape, float64 for float64 and float32 for all others.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnfilter.errors import ModelError
from cnnfilter.filters.output import check_out

Values = NDArray[Any]


class Activation(NamedTuple):
    """A function and its derivative; both take the values before the function."""

    apply: Callable[[Values, Values | None], Values]
    derivative: Callable[[Values], Values] | None


def activate(values: ArrayLike, name: str, *, out: Values | None = None) -> Values:
    """Apply an activation function.

    Parameters
    ----------
    values : array of any shape
        A float64 array stays float64; anything else is computed as float32.
    name : str
        ``relu``, ``relu6``, ``leaky:0.1`` (``leaky`` alone is 0.01), ``sigmoid``, ``tanh``, ``softmax`` (over
        the last axis: the channels) or ``abs``.
    out : array, optional
        Filled with the result and returned: C-contiguous and writeable, of the result's shape and type. It may be
        `values` itself, or else must not share memory with `values`.

    Raises
    ------
    ModelError
        For a name that is not one of these.
    ShapeError
        For an `out` that is not such an array.

    Examples
    --------
    >>> activate([-2.0, 0.0, 3.0], "relu")
    array([0., 0., 3.], dtype=float32)
    >>> activate([-2.0, 0.0, 3.0], "leaky:0.1")
    array([-0.2,  0. ,  3. ], dtype=float32)
    >>> values = np.array([-2.0, 0.0, 3.0])
    >>> activate(values, "relu", out=values) is values
    True
    """
    function = find_activation(name).apply
    floats = _as_floats(values)
    if out is not None:
        check_out(out, floats.shape, floats.dtype, values, in_place=True)
    return function(floats, out)


def derivative(values: ArrayLike, name: str) -> Values:
    """Return the derivative of an activation function at each value; at a kink, that of PyTorch.

    Parameters
    ----------
    values : array of any shape
        The values before the function.
    name : str
        As for `activate`.

    Raises
    ------
    ModelError
        For an unknown name, and for softmax, each of whose outputs depends on every input.

    Examples
    --------
    >>> derivative([-2.0, 0.0, 3.0], "relu")
    array([0., 0., 1.], dtype=float32)
    """
    found = find_activation(name)
    if found.derivative is None:
        raise ModelError(f"{name} has no slope value by value: each of its outputs depends on every input")
    return found.derivative(_as_floats(values))


def log_softmax(values: Values) -> Values:
    """Return the natural logarithms of the softmax over the last axis.

    They are exact also where the softmax itself is rounded to 0.

    Parameters
    ----------
    values : float array of any shape

    Examples
    --------
    >>> log_softmax(np.array([1000.0, 0.0]))
    array([    0., -1000.])
    """
    # The largest is taken off first, so that exp cannot overflow; the quotient does not change.
    logarithms: Values = values - values.max(axis=-1, keepdims=True)
    logarithms -= np.log(np.exp(logarithms).sum(axis=-1, keepdims=True))
    return logarithms


def find_activation(name: str) -> Activation:
    """Return the function of a name such as ``relu`` or ``leaky:0.1``; ModelError suggests a known name."""
    word, colon, number = name.partition(":")
    if word == "leaky":
        return _leaky(_number(name, number) if colon else 0.01)
    if word not in _FUNCTIONS:
        near = difflib.get_close_matches(word, NAMES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
        raise ModelError(f"no activation {name!r}; {hint}")
    if colon:
        raise ModelError(f"activation {name!r}: {word} takes no number")
    return _FUNCTIONS[word]


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ModelError(f"activation {name!r}: leaky takes the slope below 0 as a number, as in leaky:0.1")
    return value


def _as_floats(values: ArrayLike) -> Values:
    array = np.asarray(values)
    is_float64 = isinstance(values, np.ndarray) and array.dtype == np.float64
    return array if is_float64 else array.astype(np.float32, copy=False)


def _relu(values: Values, out: Values | None) -> Values:
    return np.maximum(values, 0, out=out)


def _relu_derivative(values: Values) -> Values:
    return (values > 0).astype(values.dtype)


def _relu6(values: Values, out: Values | None) -> Values:
    return np.clip(values, 0, 6, out=out)


def _relu6_derivative(values: Values) -> Values:
    return ((values > 0) & (values < 6)).astype(values.dtype)


def _leaky(below: float) -> Activation:
    def apply(values: Values, out: Values | None) -> Values:
        result = np.asarray(np.where(values > 0, values, values * values.dtype.type(below)))
        if out is None:
            return result
        out[...] = result
        return out

    def derivative(values: Values) -> Values:
        return np.where(values > 0, 1, below).astype(values.dtype)

    return Activation(apply, derivative)


def _sigmoid(values: Values, out: Values | None) -> Values:
    # exp of negative values only, so that it cannot overflow.
    small = np.exp(-np.abs(values))
    return np.asarray(np.divide(np.where(values < 0, small, 1), 1 + small, out))


def _sigmoid_derivative(values: Values) -> Values:
    small = np.exp(-np.abs(values))
    return np.asarray(small / (1 + small) ** 2)


def _tanh_derivative(values: Values) -> Values:
    return np.asarray(1 - np.tanh(values) ** 2)


def _softmax(values: Values, out: Values | None) -> Values:
    # The largest value is subtracted first, so that exp cannot overflow; the quotient stays the same.
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(np.divide(powers, powers.sum(axis=-1, keepdims=True), out))


_FUNCTIONS = {
    "relu": Activation(_relu, _relu_derivative),
    "relu6": Activation(_relu6, _relu6_derivative),
    "sigmoid": Activation(_sigmoid, _sigmoid_derivative),
    "tanh": Activation(np.tanh, _tanh_derivative),
    "softmax": Activation(_softmax, None),
    "abs": Activation(np.abs, np.sign),
}

NAMES = ("relu", "relu6", "leaky:0.1", "sigmoid", "tanh", "softmax", "abs")
"""The names in the order in which errors list them."""
