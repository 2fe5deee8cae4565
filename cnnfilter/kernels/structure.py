"""The structure of weights ``(kH, kW)``: separable terms, whole numbers and symmetries.

Names and files of kernels are left to `cnnfilter.kernels.lookup`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnfilter.kernels.files import from_array

Weights = NDArray[np.float64]

# The rounding of a float32, relative to the largest weight.
_RELATIVE_TOLERANCE = float(np.finfo(np.float32).eps) / 2

# OpenBLAS takes a buffer for each thread that decomposes at the same time, and ends the process where memory is short.
_decomposition_lock = Lock()

# Weights beyond these sizes are scaled before they are multiplied, added or divided, which could overflow or underflow.
_SAFE_SIZE_MIN, _SAFE_SIZE_MAX = 1e-150, 1e150


def factor(weights: ArrayLike, max_terms: int | None = None) -> list[tuple[Weights, Weights]]:
    """Return the separable terms of a kernel: columns and rows whose outer products add up to it.

    Parameters
    ----------
    weights : (kH, kW)
    max_terms : 1 to skip the search for more terms, whose time grows with the cube of the side

    Returns
    -------
    list of (column (kH,), row (kW,)), float64
        The fewest that reproduce the kernel to float32 rounding, the strongest first; at least one, or none if
        `max_terms` is 1 and one is not enough. Whole numbers of one term, also over a divisor, are exact.

    Examples
    --------
    >>> factor([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
    [(array([-1.,  0.,  1.]), array([1., 2., 1.]))]
    >>> len(factor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]))
    2
    """
    matrix = from_array(weights)
    largest = float(np.abs(matrix).max())
    if largest == 0:
        return [(np.zeros(matrix.shape[0]), np.zeros(matrix.shape[1]))]
    if not _SAFE_SIZE_MIN < largest < _SAFE_SIZE_MAX:
        scaled, exponent = scale_to_one(matrix)
        half = exponent // 2
        terms = factor(scaled, max_terms)
        return [(np.ldexp(column, half), np.ldexp(row, exponent - half)) for column, row in terms]
    for column, row in filter(None, (_integer_term(matrix), _one_term(matrix))):
        if np.abs(np.outer(column, row) - matrix).max() <= _RELATIVE_TOLERANCE * largest:
            return [(column, row)]
    if max_terms == 1:
        return []
    # Scaled first, so that neither huge nor tiny weights overflow in the decomposition.
    with _decomposition_lock:
        left, values, right = np.linalg.svd(matrix / largest, full_matrices=False)
    rank = _rank(left, values, right, matrix / largest)
    return [
        (left[:, r] * math.sqrt(values[r] * largest), right[r] * math.sqrt(values[r] * largest)) for r in range(rank)
    ]


def _rank(left: Weights, values: Weights, right: Weights, matrix: Weights) -> int:
    """Return the smallest number of terms that reproduce every weight to the rounding of the largest in float32."""
    for rank in range(1, values.size):
        if np.abs((left[:, :rank] * values[:rank]) @ right[:rank] - matrix).max() <= _RELATIVE_TOLERANCE:
            return rank
    return values.size


def _one_term(matrix: Weights) -> tuple[Weights, Weights]:
    """Return the column and the row through the largest weight, scaled so that they multiply to that weight.

    If only one of the two has a sum other than 0 (it smooths), it is scaled to sum to 1; if both have, the scale is
    shared evenly between them.
    """
    i, j = np.unravel_index(np.abs(matrix).argmax(), matrix.shape)
    column, row = matrix[:, j], matrix[i] / matrix[i, j]
    above, beside = clear_sum(column), clear_sum(row)
    scale = above or 1.0
    if beside:
        scale = math.sqrt(abs(above * beside)) / beside if above else 1 / beside
    return column / scale + 0.0, row * scale + 0.0


def scale_to_one(values: Weights) -> tuple[Weights, int]:
    """Return values over the power of two that makes the largest 0.5 to 1, and the exponent of that power.

    Values that are 1e-300 times the largest or less may become 0.
    """
    exponent = math.frexp(float(np.abs(values).max()))[1]
    return np.ldexp(values, -exponent), exponent


def normalized(weights: Weights) -> Weights:
    """Return weights divided by their sum, which is not 0.

    Examples
    --------
    >>> normalized(np.array([[1e308, 1e308]]))
    array([[0.5, 0.5]])
    """
    total = clear_sum(weights.ravel())
    if math.isfinite(total):
        return weights / total
    scaled, _ = scale_to_one(weights)
    return scaled / clear_sum(scaled.ravel())


def clear_sum(values: Weights) -> float:
    """Return the sum, or 0 if it is only rounding (1e-9 of the sum of the sizes); infinity if no float holds it."""
    if float(np.abs(values).max(initial=0)) > _SAFE_SIZE_MAX:
        scaled, exponent = scale_to_one(values)
        with np.errstate(over="ignore"):
            return float(np.ldexp(clear_sum(scaled), exponent))
    total = math.fsum(values)
    return total if abs(total) > 1e-9 * float(np.abs(values).sum()) else 0.0


def _integer_term(matrix: Weights) -> tuple[Weights, Weights] | None:
    """Return the exact factors of a matrix of rank 1 of whole numbers, or of multiples of its smallest weight."""
    for step in (1.0, float(np.abs(matrix[matrix != 0]).min())):
        if float(np.abs(matrix).max()) > step * 2**24:
            continue
        whole = np.round(matrix / step)
        if not np.allclose(whole * step, matrix, rtol=1e-14, atol=0):
            continue
        i, j = np.unravel_index(np.abs(whole).argmax(), whole.shape)
        row = whole[i] / math.gcd(*(int(v) for v in whole[i]))
        column = whole[:, j] / row[j]
        # A factor with a sum smooths, and is written with a positive sum.
        sign = math.copysign(1, row.sum() or column.sum() or row[np.flatnonzero(row)[0]])
        column, row = column * sign, row * sign
        if np.array_equal(np.outer(column, row), whole):
            # Adding 0 turns -0 into 0.
            return column * step + 0.0, row + 0.0
    return None


# Divisors that are tried for weights as whole numbers: small ones, and powers of two.
_DIVISORS = (*range(1, 1025), *(2**power for power in range(11, 53)))


def integers_over_divisor(
    weights: Weights, tolerance: ArrayLike = 0.0, divisors: Sequence[int] = _DIVISORS
) -> tuple[NDArray[np.int64], int] | None:
    """Return weights as whole numbers over the smallest divisor that makes them so, or None.

    Parameters
    ----------
    weights : (kH, kW)
    tolerance : how far each weight may be from its fraction, beside rounding; one number or (kH, kW)
    divisors : the divisors that are tried, in rising order

    Examples
    --------
    >>> integers_over_divisor(np.array([[1 / 4, 1 / 2, 1 / 4]]))
    (array([[1, 2, 1]]), 4)
    >>> integers_over_divisor(np.array([[1, 2**0.5]])) is None
    True
    """
    largest = float(np.abs(weights).max())
    allowed = np.asarray(tolerance) + 1e-13 * largest
    for divisor in divisors:
        # If the tolerance is more than 2 % of the distance between whole numbers, a match may be chance.
        if allowed.max() * divisor > 0.02 or largest * divisor > 2**52:
            return None
        whole = np.round(weights * divisor)
        if (np.abs(whole / divisor - weights) <= allowed).all() and (whole.any() or largest == 0):
            return whole.astype(np.int64), divisor
    return None


# The mirror images and rotations under which a kernel is compared with itself.
_SYMMETRY_OPERATIONS: dict[str, Callable[[Weights], Weights]] = {
    "left-right": lambda w: w[:, ::-1],
    "top-bottom": lambda w: w[::-1],
    "half turn": lambda w: w[::-1, ::-1],
    "diagonal": lambda w: w.T,
    "other diagonal": lambda w: w[::-1, ::-1].T,
}


def symmetries(weights: ArrayLike) -> dict[str, str]:
    """Return the mirrors and turns under which a kernel stays the same ("even") or changes its sign ("odd").

    Examples
    --------
    >>> symmetries([[-1, 0, 1]])
    {'left-right': 'odd', 'top-bottom': 'even', 'half turn': 'odd'}
    """
    matrix, _ = scale_to_one(np.asarray(weights, dtype=np.float64))
    close = 1e-12 * float(np.abs(matrix).max())
    found = {}
    for name, operation in _SYMMETRY_OPERATIONS.items():
        moved = operation(matrix)
        if moved.shape != matrix.shape:
            continue
        if np.abs(moved - matrix).max() <= close:
            found[name] = "even"
        elif np.abs(moved + matrix).max() <= close:
            found[name] = "odd"
    return found


def symmetry_in_words(found: dict[str, str]) -> str:
    """Return the result of `symmetries` as a phrase."""
    if len(found) == len(_SYMMETRY_OPERATIONS) and set(found.values()) == {"even"}:
        return "the same under every mirror and quarter turn"
    same = [name for name, kind in found.items() if kind == "even"]
    negated = [name for name, kind in found.items() if kind == "odd"]
    parts = [f"the same under {', '.join(same)}"] if same else []
    parts += [f"negated under {', '.join(negated)}"] if negated else []
    return "; ".join(parts) or "none"
