"""The cost of each algorithm of convolution, and the choice of the cheapest.

Costs are nanoseconds for one output sample on one thread, fitted to measurements
(``python -m tests.benchmarks --fit``). Only their ratios matter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ShapeError
from cnnfilter.filters.convolution.algorithms import (
    SIDE_PRODUCTS_MAX,
    Algorithm,
    Box,
    Direct,
    DirectDense,
    DirectIntegers,
    Fourier,
    Separable,
    Sides,
    integer_unit,
)
from cnnfilter.filters.convolution.direct_loops import TILE_ROWS
from cnnfilter.filters.convolution.geometry import Geometry
from cnnfilter.filters.windows import Axis
from cnnfilter.kernels.structure import factor

Samples = NDArray[Any]

ALGORITHMS = ("auto", "direct", "separable", "fft")
"""The names of algorithms that a caller can ask for; auto is the cheapest one."""

_TILE_PAIR_NANOSECONDS = {64: 52e3, 128: 122e3, 256: 330e3, 512: 2.75e6, 1024: 9e6, 2048: 130e6}
"""The cost of two square tiles of the FFT, by their side (measured).

Two tiles of side 2048 cost 54e6 in memory that was used before. A command uses new memory, and takes five times as long
per sample as with tiles of the next smaller side.
"""

_FFT_TAPS_MIN = 50
"""Taps up to which the FFT is never the cheapest (measured), so that its cost is not computed."""

_FACTORED_SIDE_MAX = 256
"""Side of a kernel up to which it is split into several separable terms: the time grows with its third power."""


def tile_size(vertical: Axis, horizontal: Axis) -> int | None:
    """Return the side of the square tile that costs least for all outputs, None if the window is larger than any."""
    reach = max(vertical.reach, horizontal.reach)
    sizes = [size for size in _TILE_PAIR_NANOSECONDS if size >= reach]
    return min(sizes, key=lambda size: _tiles_cost(size, vertical, horizontal), default=None)


def _tiles_cost(size: int, *axes: Axis) -> float:
    """Return the nanoseconds of all tiles of one channel, which are transformed in pairs."""
    tiles = math.prod(-(-axis.outputs // ((size - axis.reach) // axis.stride + 1)) for axis in axes)
    return _TILE_PAIR_NANOSECONDS[size] * tiles / 2


class _Candidate(NamedTuple):
    """An algorithm that can be chosen: its cost, its name, and the function that makes it."""

    cost: float
    name: str
    make: Callable[[], Algorithm]

    def price(self) -> float:
        """Return the cost, as the key of a comparison."""
        return self.cost


def _taps_cost(taps: int, bytes_only: bool) -> float:
    """Return the cost of `Direct`."""
    return (0.15 if bytes_only else 0.3) + 0.03 * taps


def _integers_cost(taps: int) -> float:
    """Return the cost of `DirectIntegers`."""
    return 0.1 + 0.015 * taps


def _dense_cost(weights: int, bytes_only: bool) -> float:
    """Return the cost of `DirectDense`."""
    return 0.13 + 0.023 * weights if bytes_only else 0.28 + 0.0195 * weights


def _separable_cost(terms: Sequence[tuple[Samples, Samples]], geometry: Geometry) -> float:
    """Return the cost of `Separable`."""
    # The columns of the kernel are summed for each column of the padded row, its rows for each output.
    widening = geometry.row_samples / max(geometry.outputs[1] * geometry.channels, 1)
    taps = sum(np.count_nonzero(down) * widening + np.count_nonzero(across) for down, across in terms)
    return float(0.15 + (0.031 if len(terms) == 1 else 0.04) * taps + 0.05 * (len(terms) - 1))


def choose_algorithm(
    weights: Samples, geometry: Geometry, name: str = "auto", *, bytes_only: bool = False
) -> tuple[Algorithm, str]:
    """Return the algorithm for a kernel, and one line that says which it is and why.

    Parameters
    ----------
    weights : (kH, kW)
    name : one of ALGORITHMS
    bytes_only : whether uint8 pixels become a uint8 result, for which some algorithms need no floats

    Raises
    ------
    ShapeError
        `name` is not one of ALGORITHMS.
    """
    if name not in ALGORITHMS:
        raise ShapeError(f"algorithm {name!r} is not one of {', '.join(ALGORITHMS)}")
    return _chosen(np.asarray(weights, np.float64).tobytes(), weights.shape, geometry, name, bytes_only)


@functools.lru_cache(8)
def _chosen(
    numbers: bytes, shape: tuple[int, int], geometry: Geometry, name: str, bytes_only: bool
) -> tuple[Algorithm, str]:
    """Return the result of `choose_algorithm`. It is cached, as a choice takes as long as filtering a small image."""
    weights = np.frombuffer(numbers).reshape(shape)
    with np.errstate(over="ignore", invalid="ignore"):  # weights that float32 does not hold are refused later
        return _cheapest(weights, geometry, name, bytes_only)


def _cheapest(weights: Samples, geometry: Geometry, name: str, bytes_only: bool) -> tuple[Algorithm, str]:
    candidates = _candidates(weights, geometry, name, bytes_only)
    asked = [candidate for candidate in candidates if candidate.name == name]
    best = min(asked or candidates, key=_Candidate.price)
    cheapest = {each.name: each.cost for each in sorted(candidates, key=_Candidate.price, reverse=True)}
    reason = ", ".join(f"{each} {cheapest[each]:.2f}" for each in sorted(cheapest, key=lambda each: cheapest[each]))
    why = "asked for" if asked else f"ns a sample: {reason}"
    algorithm = best.make()
    side = max(geometry.horizontal.before, geometry.horizontal.after)
    if algorithm.inner_band is not None and 0 < side * np.count_nonzero(weights) <= SIDE_PRODUCTS_MAX:
        algorithm.sides, algorithm.min_samples = Sides(weights, geometry), 1
    taps = np.count_nonzero(weights)
    return algorithm, "{}, {}x{} kernel of {} taps ({})".format(best.name, *weights.shape, taps, why)


def _is_box(weights: Samples, geometry: Geometry) -> bool:
    """Return whether all weights are the same positive number, and stride and dilation are 1."""
    steps = {geometry.vertical.stride, geometry.vertical.dilation, geometry.horizontal.stride}
    is_dense = steps == {1} and geometry.horizontal.dilation == 1
    return bool(is_dense and weights.size > 1 and weights[0, 0] > 0 and (weights == weights[0, 0]).all())


def _candidates(weights: Samples, geometry: Geometry, name: str, bytes_only: bool) -> list[_Candidate]:
    """Return the algorithms for a kernel. One that cannot be the cheapest is left out unless `name` asks for it."""
    height, width = weights.shape
    taps = int(np.count_nonzero(weights))
    vertical, horizontal = geometry.vertical, geometry.horizontal
    found = [_Candidate(_taps_cost(taps, bytes_only), "direct", lambda: Direct(weights, geometry))]
    if height >= TILE_ROWS - 1 and vertical.stride == vertical.dilation == 1:
        found.append(
            _Candidate(_dense_cost(weights.size, bytes_only), "direct", lambda: DirectDense(weights, geometry))
        )
    unit = integer_unit(weights) if bytes_only else 0.0
    if unit:
        found.append(_Candidate(_integers_cost(taps), "direct", lambda: DirectIntegers(weights, geometry, unit)))
    if taps > _FFT_TAPS_MIN or name == "fft":
        size = tile_size(vertical, horizontal)
        if size is not None:
            cost = 0.5 + _tiles_cost(size, vertical, horizontal) / math.prod(geometry.outputs)
            found.append(_Candidate(cost, "fft", lambda: Fourier(weights, geometry, size)))
    if bytes_only and _is_box(weights, geometry):
        found.append(_Candidate(0.2, "separable", lambda: Box(weights, geometry)))
    one_term = [(np.ones(height), np.ones(width))]
    if name == "separable" or _separable_cost(one_term, geometry) < min(map(_Candidate.price, found)):
        terms = factor(
            weights, max_terms=None if name == "separable" or max(height, width) <= _FACTORED_SIDE_MAX else 1
        )
        if terms:
            cost = _separable_cost(terms, geometry)
            found.append(_Candidate(cost, "separable", lambda: Separable(terms, geometry)))
    return found
