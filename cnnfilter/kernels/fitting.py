"""Fit the kernel that turns one picture into another, by least squares over their samples.

Reading the pictures and printing the result is left to `cnnfilter.cli.commands.kernels`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import KernelError, ShapeError
from cnnfilter.kernels.catalogue import ENTRIES
from cnnfilter.kernels.kernel import Kernel
from cnnfilter.kernels.lookup import find_kernels
from cnnfilter.kernels.structure import integers_over_divisor

WEIGHTS_MAX = 1024
"""Most weights of a kernel that is fitted, as in 32x32: the matrix of the normal equations then takes 8 MiB."""

_SAMPLES_MAX = 2_000_000
"""Most samples of a fit, which bound its time: with them, a 3x3 kernel takes 0.6 s of CPU."""

_PRODUCTS_MAX = 2e11
"""Most products of a fit, samples times unknowns squared, which bound its time: 190,000 samples for a 32x32 kernel."""

_CHUNK_BYTES = 2**26
"""Size of the windows that are in memory together, as float64."""

Floats = NDArray[np.float64]


class Residual(NamedTuple):
    """The distance between the result of a fitted kernel and the second picture, in the units of that picture."""

    rms: float
    """Root of the mean squared deviation."""
    max: float
    """The largest absolute deviation."""
    explained: float
    """The share of the second picture's variance that the kernel explains, at most 1."""
    samples: int
    """The number of samples that were used."""
    clipped: int
    """The number of samples at an end of the range, which were left out as they may have been clipped."""
    error: Floats
    """The standard error of each weight (kH, kW)."""


def fit_kernel(
    before: NDArray[Any], after: NDArray[Any], size: int | tuple[int, int], *, bias: bool = False
) -> tuple[Kernel, Residual]:
    """Find the kernel of a size that turns `before` into `after` with the least squared error.

    All channels are fitted jointly, over the windows that lie wholly inside the picture, so that the border does
    not matter. In 8 and 16-bit pictures, samples at either end of the range are left out, since they may have been
    clipped. In large pictures, evenly spread rows are used.

    Parameters
    ----------
    before : (H, W) or (H, W, C)
    after : the same shape, or that of a convolution of `before` without padding
    size : height and width of the kernel, or one number for both
    bias : whether a constant is fitted beside the weights; it becomes the kernel's `offset`

    Returns
    -------
    (Kernel, Residual)

    Raises
    ------
    ShapeError
        If the shapes do not match, or the kernel does not fit into the picture.
    KernelError
        If the size is not positive or too large, or if the picture does not determine the kernel: it has too few
        samples or too little variety (a constant picture, a ramp).

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> before = rng.random((9, 9))
    >>> after = before[:-2, 1:-1] - before[2:, 1:-1] + 5
    >>> kernel, residual = fit_kernel(before[:, 1:-1], after, (3, 1), bias=True)
    >>> simplify(kernel, residual.error).weights.ravel(), round(kernel.offset, 6), residual.rms < 1e-9
    (array([ 1.,  0., -1.]), 5.0, True)
    """
    height, width = (size, size) if isinstance(size, int) else size
    _check_size(height, width)
    before, after = _aligned(before, after, height, width)
    problem = _LeastSquares(before, after, height, width, bias)
    weights, inverse = _solve(problem)
    residual = problem.residual(weights, inverse)
    drawn = weights[: height * width].reshape(height, width)
    return Kernel(drawn, f"fitted-{height}x{width}", offset=float(weights[-1]) if bias else 0.0), residual


def _check_size(height: int, width: int) -> None:
    if min(height, width) < 1:
        raise KernelError(f"a kernel of {height}x{width} has no weights: the least size is 1x1")
    if height * width > WEIGHTS_MAX:
        raise KernelError(
            f"a kernel of {height}x{width} has {height * width} weights; {WEIGHTS_MAX} are the most that "
            "can be fitted, as in 32x32"
        )


def _aligned(before: NDArray[Any], after: NDArray[Any], height: int, width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return both as (H, W, C), with `after` cropped to the windows that lie wholly inside `before`."""
    before, after = (a[:, :, None] if a.ndim == 2 else a for a in (np.asarray(before), np.asarray(after)))
    if before.ndim != 3 or after.ndim != 3 or before.shape[2] != after.shape[2]:
        raise ShapeError(
            f"pictures of {_show_shape(before.shape)} and {_show_shape(after.shape)} (height x width x channels) "
            "do not have the same channels: make both grey, or both coloured"
        )
    rows, columns = before.shape[0] - height + 1, before.shape[1] - width + 1
    if min(rows, columns) < 1:
        raise ShapeError(f"a kernel of {height}x{width} does not fit into a picture of {_show_shape(before.shape[:2])}")
    if after.shape[:2] == before.shape[:2]:
        top, left = (height - 1) // 2, (width - 1) // 2
        after = after[top : top + rows, left : left + columns]
    if after.shape[:2] != (rows, columns):
        raise ShapeError(
            f"the second picture is {_show_shape(after.shape[:2])} (height x width); beside one of "
            f"{_show_shape(before.shape[:2])} it must have the same size, or {rows}x{columns} "
            f"(a {height}x{width} kernel without padding)"
        )
    return before, after


def _show_shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


class _LeastSquares:
    """The equations windows · weights = samples, in chunks of rows."""

    def __init__(self, before: NDArray[Any], after: NDArray[Any], height: int, width: int, bias: bool) -> None:
        self.windows = np.lib.stride_tricks.sliding_window_view(before, (height, width), axis=(0, 1))
        self.after = after
        self.taps = height * width
        self.shape = height, width
        self.unknowns = self.taps + bias
        rows, per_row = after.shape[0], after.shape[1] * after.shape[2]
        samples_max = min(_SAMPLES_MAX, max(_PRODUCTS_MAX / self.unknowns**2, 50 * self.unknowns))
        count = min(rows, max(1, math.ceil(samples_max / per_row)))
        self.rows = np.unique(np.linspace(0, rows - 1, count).round().astype(int))
        self.rows_at_once = max(1, _CHUNK_BYTES // (8 * self.unknowns * per_row))
        self.dtype = after.dtype

    def chunks(self) -> Iterator[tuple[Floats, Floats]]:
        """Yield windows (N, unknowns) and samples (N,), without the samples that may have been clipped."""
        for start in range(0, self.rows.size, self.rows_at_once):
            rows = self.rows[start : start + self.rows_at_once]
            samples = self.after[rows].reshape(-1)
            free = self._is_unclipped(samples)
            windows = np.ones((int(free.sum()), self.unknowns))
            windows[:, : self.taps] = self.windows[rows].reshape(-1, self.taps)[free]
            yield windows, samples[free].astype(np.float64)

    def _is_unclipped(self, samples: NDArray[Any]) -> NDArray[np.bool_]:
        if self.dtype.kind != "u":
            return np.ones(samples.shape, bool)
        free: NDArray[np.bool_] = (samples > 0) & (samples < np.iinfo(self.dtype).max)
        return free

    def normal_equations(self) -> tuple[Floats, Floats]:
        """Return the matrix (unknowns, unknowns) and the right side (unknowns,) of the normal equations."""
        products, right = np.zeros((self.unknowns, self.unknowns)), np.zeros(self.unknowns)
        # NaN and infinity are found in the sums, which is faster than searching the pictures.
        with np.errstate(invalid="ignore", over="ignore"):
            for windows, samples in self.chunks():
                products += windows.T @ windows
                right += windows.T @ samples
        return products, right

    def residual(self, weights: Floats, inverse: Floats) -> Residual:
        """Return the residual of `weights`; `inverse` is that of the normal equations' matrix."""
        count, squares, largest, total, total_squares = 0, 0.0, 0.0, 0.0, 0.0
        for windows, samples in self.chunks():
            left = samples - windows @ weights
            count += left.size
            squares += float(left @ left)
            largest = max(largest, float(np.abs(left).max(initial=0)))
            total += float(samples.sum())
            total_squares += float(samples @ samples)
        variance = total_squares - total**2 / count
        noise = squares / max(1, count - self.unknowns)
        error = np.sqrt(noise * np.maximum(np.diag(inverse), 0))[: self.taps].reshape(self.shape)
        everything = self.rows.size * self.after.shape[1] * self.after.shape[2]
        return Residual(
            math.sqrt(squares / count),
            largest,
            1 - squares / variance if variance > 0 else float(squares == 0),
            count,
            everything - count,
            error,
        )


def _solve(problem: _LeastSquares) -> tuple[Floats, Floats]:
    """Return the weights, and the inverse of the normal equations' matrix."""
    products, right = problem.normal_equations()
    if not np.isfinite(products).all() or not np.isfinite(right).all():
        raise KernelError("the pictures hold NaN or infinity: no kernel can be fitted to them")
    # Each unknown is scaled to its own size, so that the bias does not seem negligible beside bright pixels.
    scale = 1 / np.sqrt(np.maximum(np.diag(products), np.finfo(float).tiny))
    values, vectors = np.linalg.eigh(products * np.outer(scale, scale))
    rank = int((values > values.max() * 1e-13).sum()) if products.any() else 0
    if rank < problem.unknowns:
        raise KernelError(
            f"the first picture determines only {rank} of {problem.unknowns} unknowns (it is too small or "
            "plain, or the second is clipped nearly everywhere): take one with more detail, or a smaller size"
        )
    inverse = (vectors / values) @ vectors.T * np.outer(scale, scale)
    return inverse @ right, inverse


# Divisors with which kernels are usually written. With all divisors, the root of 2 would become 239/169.
_USUAL_DIVISORS = sorted({*range(1, 33), *(n * n for n in range(6, 13)), 48, 96, *(2**power for power in range(6, 17))})


def simplify(kernel: Kernel, error: Floats) -> Kernel | None:
    """Return the kernel as whole numbers over a usual divisor, or None if none lie within the error of the fit.

    Parameters
    ----------
    error : standard error of each weight (kH, kW), as `Residual.error`

    Examples
    --------
    >>> simplify(Kernel(np.array([[0.25004, 0.49999, 0.25001]])), np.full((1, 3), 2e-5)).weights
    array([[0.25, 0.5 , 0.25]])
    """
    found = integers_over_divisor(kernel.weights, _tolerance(kernel, error), _USUAL_DIVISORS)
    if found is None or not found[0].any():
        return None
    whole, divisor = found
    return dataclasses.replace(kernel, weights=whole / divisor + 0.0, divisor=float(divisor))


def rounded(kernel: Kernel, error: Floats) -> Kernel:
    """Return the kernel rounded to the digits that the pictures determine.

    Examples
    --------
    >>> rounded(Kernel(np.array([[0.123456789]])), np.array([[2e-4]])).weights
    array([[0.1235]])
    """
    smallest_error = float(error.min())
    if smallest_error == 0:
        return kernel
    digits = min(15, -math.floor(math.log10(smallest_error)))
    return dataclasses.replace(kernel, weights=np.round(kernel.weights, digits) + 0.0)


def known_name(kernel: Kernel, error: Floats) -> str | None:
    """Return the name of a named kernel that lies within the error of the fit, or None."""
    tolerance = _tolerance(kernel, error)
    for spec in [*ENTRIES, *_of_size(kernel)]:
        for known in find_kernels(spec):
            if known.shape == kernel.shape and (np.abs(known.weights - kernel.weights) <= tolerance).all():
                return known.name
    return None


def _of_size(kernel: Kernel) -> list[str]:
    """Return names with arguments for kernels of the same size, among them a Gaussian of the same variance."""
    height, width = kernel.shape
    if height != width:
        return [f"box:{height},{width}"]
    names = [f"box:{height}", f"binomial:{height}"]
    distances = np.arange(height) - (height - 1) / 2
    variance = float(distances**2 @ kernel.weights.sum(axis=1))
    if 0.01 < variance < height**2:
        names.append(f"gaussian:{math.sqrt(variance):.2g},{height}")
    return names


def _tolerance(kernel: Kernel, error: Floats) -> Floats:
    """Return the distance by which each weight may miss the true one.

    4 standard errors, since the rounding errors of neighbouring samples in flat areas are equal, not independent.
    """
    tolerance: Floats = 4 * error + 1e-9 * np.abs(kernel.weights).max()
    return tolerance
