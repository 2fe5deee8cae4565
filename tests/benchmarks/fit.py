"""``python -m tests.benchmarks --fit``: coefficients for the cost model of `cnnfilter.filters.convolution.choice`,
measured.

Each engine is made to do whole convolutions of kernels of many sizes, on one thread. What a model says of a
kernel is linear in its coefficients, so least squares find them; each row is divided by what was measured,
since a choice between engines is about ratios. Then every choice is played again with what was measured: the
regret is how much longer the chosen engine takes than the best one.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from cnnfilter.filters.convolution import algorithms, choice
from cnnfilter.filters.convolution import convolve as convolution
from cnnfilter.filters.windows import window_axes
from cnnfilter.kernels.structure import factor
from tests.benchmarks import pictures

Weights = NDArray[Any]
Terms = Sequence[tuple[Weights, Weights]]

_TILES = tuple(size for size in choice._TILE_PAIR_NANOSECONDS if size <= 1024)
_TYPES = {"u8": np.uint8, "f32": np.float32}


@dataclass(frozen=True)
class Case:
    """A kernel to be measured: dense without a `rank`, with FFT tiles of side `tile` if that is given."""

    height: int
    width: int
    rank: int | None = None
    tile: int | None = None

    @property
    def name(self) -> str:
        more = f" rank {self.rank}" if self.rank else f" tile {self.tile}" if self.tile else ""
        return f"{self.height}x{self.width}{more}"

    def weights(self) -> Weights:
        """Return a kernel that sums to 1, of the rank, without zeros."""
        random = np.random.default_rng(self.height * 1000 + self.width)
        if self.rank is None:
            weights = random.normal(1, 2, (self.height, self.width))
        else:
            weights = sum(  # type: ignore[assignment]
                np.outer(random.uniform(0.5, 1, self.height), random.uniform(0.5, 1, self.width))
                for _ in range(self.rank)
            )
        normalized: Weights = weights / weights.sum()
        return normalized


@dataclass(frozen=True)
class Model:
    """The cost of one algorithm as a function of the kernel.

    Attributes
    ----------
    engine : makes the engine.
    features : the numbers that the coefficients are multiplied with.
    terms : what each of them stands for, in words.
    cases : the kernels to fit it on.
    """

    engine: Callable[[Weights, algorithms.Geometry], Any]
    features: Callable[[Weights, algorithms.Geometry], list[float]]
    terms: tuple[str, ...]
    cases: tuple[Case, ...]


def _square(*sizes: int, rank: int | None = None) -> tuple[Case, ...]:
    return tuple(Case(size, size, rank) for size in sizes)


def _taps_features(weights: Weights, geometry: algorithms.Geometry) -> list[float]:
    return [1, weights.size]


def _separable_features(weights: Weights, geometry: algorithms.Geometry) -> list[float]:
    terms = len(factor(weights))
    height, width = weights.shape
    taps = terms * (height * geometry.row_samples / (geometry.outputs[1] * geometry.channels) + width)
    return [1, taps, taps if terms > 1 else 0, terms - 1]


def _tile_size(geometry: algorithms.Geometry) -> int:
    size = choice.tile_size(geometry.vertical, geometry.horizontal)
    assert size is not None  # of the kernels here, all fit
    return size


def _fourier_features(weights: Weights, geometry: algorithms.Geometry) -> list[float]:
    """Return how many pairs of tiles of each size there are to an output: of one size only."""
    axes = geometry.vertical, geometry.horizontal
    size = _tile_size(geometry)
    tiles = math.prod(-(-axis.outputs // ((size - axis.reach) // axis.stride + 1)) for axis in axes)
    return [tiles / 2 / math.prod(geometry.outputs) if size == other else 0.0 for other in _TILES]


MODELS = {
    "taps": Model(
        algorithms.Direct,
        _taps_features,
        ("1", "taps"),
        (*_square(1, 2, 3, 4, 5, 7, 9), Case(1, 7), Case(2, 6), Case(3, 5), Case(4, 5)),
    ),
    "tile": Model(
        algorithms.DirectDense,
        lambda weights, geometry: [1, weights.size],
        ("1", "weights"),
        (*_square(3, 4, 5, 7, 9, 11, 15, 21, 31), Case(3, 9), Case(9, 3), Case(5, 15), Case(25, 5)),
    ),
    "separable": Model(
        lambda weights, geometry: algorithms.Separable(factor(weights), geometry),
        _separable_features,
        ("1", "taps", "taps of several terms", "terms after the first"),
        (
            *_square(3, 5, 7, 9, 15, 25, 51, 101, rank=1),
            *_square(5, 9, 15, 31, rank=2),
            *_square(15, 31, rank=4),
        ),
    ),
    "fft": Model(
        lambda weights, geometry: algorithms.Fourier(weights, geometry, _tile_size(geometry)),
        _fourier_features,
        tuple(f"two tiles of {size}x{size}" for size in _TILES),
        tuple(Case(side, side, tile=tile) for tile in _TILES for side in (tile // 8 - 1, tile // 4 - 1)),
    ),
}

_CHOICES = (
    *_square(3, 4, 5, 7, 9, 11, 13, 15, 21, 31, 51, 101),
    *_square(3, 5, 9, 15, 31, 101, rank=1),
    *_square(5, 9, 15, 31, 51, rank=2),
    *(Case(3, 9), Case(9, 3), Case(3, 31), Case(31, 3), Case(15, 51)),
)
_LONGEST = {"taps": 121, "tile": 2601}  # taps; more would take minutes and teach nothing


def _tiles(case: Case) -> contextlib.AbstractContextManager[Any]:
    """Return what makes the FFT take the tiles of a case."""
    if case.tile is None:
        return contextlib.nullcontext()
    return mock.patch.object(choice, "tile_size", return_value=case.tile)


class _Bench:
    """Measures an engine on a picture, and remembers it."""

    def __init__(self, source: NDArray[Any], rounds: int) -> None:
        self.source = source
        self.rounds = rounds
        self._known: dict[tuple[str, Case], float] = {}

    def geometry(self, weights: Weights) -> algorithms.Geometry:
        rows, columns = window_axes(self.source.shape[:2], weights.shape)
        return algorithms.Geometry(rows, columns, channels=1, border="replicate")

    def measure(self, pairs: Iterable[tuple[str, Case]]) -> None:
        """Measure engines on kernels, all in turn, so that the machine's moods meet all alike."""
        waiting = []
        for name, case in pairs:
            if (name, case) not in self._known:
                weights = case.weights()
                with _tiles(case):
                    engine = MODELS[name].engine(weights, self.geometry(weights))
                waiting.append(((name, case), weights, engine))
                self._known[name, case] = math.inf
        for _ in range(self.rounds):
            for pair, weights, engine in waiting:
                with mock.patch.object(convolution, "choose_algorithm", return_value=(engine, "")):
                    self._known[pair] = min(self._known[pair], self._run(weights) * 1e9)

    def cost(self, name: str, case: Case) -> float:
        """Return the nanoseconds that one output takes: the shortest of several runs."""
        self.measure([(name, case)])
        return self._known[name, case]

    def _run(self, weights: Weights) -> float:
        began = time.perf_counter()
        convolution.convolve(self.source, weights, dtype=self.source.dtype, threads=1)
        return (time.perf_counter() - began) / self.source.size


def report(*, quick: bool = False) -> Iterator[str]:
    """Measure, and yield the lines to print."""
    side, rounds = (256, 2) if quick else (2048, 9)
    yield f"{side}x{side} grey, one thread; nanoseconds an output, the shortest of {rounds}"
    for kind, dtype in _TYPES.items():
        bench = _Bench(pictures.pixels(side, side, 1, dtype), rounds)
        bench.measure((name, case) for name, model in MODELS.items() for case in model.cases)
        bench.measure((name, case) for case in _CHOICES for name in MODELS if _is_able(name, case))
        coefficients = {}
        for name, model in MODELS.items():
            coefficients[name], lines = _fit(bench, name, model)
            yield from ("", f"{kind}  {name}", *lines)
        yield from ("", f"{kind}  choices", *_choices(bench, coefficients))


def _fit(bench: _Bench, name: str, model: Model) -> tuple[NDArray[np.float64], list[str]]:
    """Return the coefficients of a model, and lines that tell them and how far off they are."""
    rows, costs = [], []
    for case in model.cases:
        weights = case.weights()
        with _tiles(case):
            rows.append(model.features(weights, bench.geometry(weights)))
        costs.append(bench.cost(name, case))
    features, measured = np.array(rows), np.array(costs)
    found, *_ = np.linalg.lstsq(features / measured[:, None], np.ones(len(measured)), rcond=None)
    errors = features @ found / measured - 1
    lines = [f"    {value:12.4f} · {term}" for value, term in zip(found, model.terms, strict=True)]
    worst = int(np.abs(errors).argmax())
    lines.append(
        f"    off by {np.sqrt((errors**2).mean()):.0%} (root mean square), "
        f"most for {model.cases[worst].name}: {errors[worst]:+.0%}"
    )
    lines += [
        f"      {case.name:<20} {cost:8.3f}  model {cost * (1 + error):8.3f}  {error:+.0%}"
        for case, cost, error in zip(model.cases, measured, errors, strict=True)
    ]
    return found, lines


def _choices(bench: _Bench, coefficients: dict[str, NDArray[np.float64]]) -> list[str]:
    """Return a line for each kernel: what each engine takes, the best, and how the two models choose."""
    lines = ["    kernel        " + "".join(f"{name:>10}" for name in MODELS) + "  best       now        fitted"]
    regrets: dict[str, list[float]] = {"now": [], "fitted": []}
    for case in _CHOICES:
        weights = case.weights()
        geometry = bench.geometry(weights)
        able = [name for name in MODELS if _is_able(name, case)]
        costs = {name: bench.cost(name, case) for name in able}
        best = min(able, key=lambda name: costs[name])
        guesses = {name: float(np.dot(MODELS[name].features(weights, geometry), coefficients[name])) for name in able}
        chosen = {
            "now": _chosen_now(weights, geometry, bench.source.dtype == np.uint8),
            "fitted": min(able, key=lambda name: guesses[name]),
        }
        line = f"    {case.name:<14}" + "".join(
            f"{costs[name]:10.3f}" if name in costs else " " * 10 for name in MODELS
        )
        line += f"  {best:<9}"
        for chooser, name in chosen.items():
            regret = costs.get(name, math.inf) / costs[best] - 1
            regrets[chooser].append(regret)
            line += f"  {'' if name == best else f'{name} {regret:+.0%}':<15}"
        lines.append(line.rstrip())
    means = ", ".join(f"{chooser} {np.mean(values):.1%}" for chooser, values in regrets.items())
    return [*lines, f"    mean regret: {means}"]


def _is_able(name: str, case: Case) -> bool:
    if name == "tile" and case.height < 3:
        return False
    if name == "separable":
        return case.rank is not None or case.height == 1 or case.width == 1 or min(case.height, case.width) <= 4
    return case.height * case.width <= _LONGEST.get(name, 10**9)


def _chosen_now(weights: Weights, geometry: algorithms.Geometry, bytes_only: bool) -> str:
    """Return the name of the engine that `choose_algorithm` takes today."""
    engine, _ = choice.choose_algorithm(weights, geometry, bytes_only=bytes_only)
    return _NAMES[type(engine).__name__]


_NAMES = {
    "DirectIntegers": "taps",
    "Box": "separable",
    "Direct": "taps",
    "DirectDense": "tile",
    "Separable": "separable",
    "Fourier": "fft",
}
