"""The formulas of kernels that are computed from parameters.

Each function returns a float64 array ``(kH, kW)``. It does not check its parameters, whose ranges
`cnnfilter.kernels.text` has checked against the catalogue. Angles are in degrees, counter-clockwise from the right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import KernelError
from cnnfilter.kernels.catalogue import COMPASS
from cnnfilter.runtime import limits

Weights = NDArray[np.float64]


def box(n: int, w: int | None = None) -> Weights:
    height, width = n, n if w is None else w
    return np.full((height, width), 1 / (height * width))


def gaussian(sigma: float, size: int | None = None) -> Weights:
    line = gaussian_line(sigma, size)
    return np.outer(line, line)


def gaussian_line(sigma: float, size: int | None = None) -> Weights:
    """Return samples of a Gaussian at whole distances from the middle, which sum to 1."""
    size = 2 * _reach(sigma) + 1 if size is None else size
    line = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / sigma) ** 2)
    total = line.sum()
    # An even size has no sample in the middle, so that all of its samples may be rounded to 0.
    if total == 0:
        raise KernelError(f"gaussian:{sigma:g},{size}: sigma is too small for an even size; take {size + 1}")
    weights: Weights = line / total
    return weights


def _reach(sigma: float) -> int:
    """Return the number of pixels on each side of a Gaussian's middle: 4 sigma, as in SciPy."""
    reach = int(4 * sigma + 0.5)
    if 2 * reach + 1 > limits.kernel_side:
        sigma_max = (limits.kernel_side - 1) / 8
        raise KernelError(
            f"sigma {sigma:g} needs {2 * reach + 1}x{2 * reach + 1} weights, and {limits.kernel_side} a side is "
            f"the most: take a sigma up to {sigma_max:g}, or --max-kernel {2 * reach + 1}"
        )
    return reach


def binomial(n: int) -> Weights:
    # Python's whole numbers are exact, and dividing them rounds once.
    line = np.array([math.comb(n - 1, k) / 2 ** (n - 1) for k in range(n)])
    return np.outer(line, line)


def motion(length: float, angle: float = 0.0) -> Weights:
    """Return a line through the middle, one pixel wide with soft sides."""
    half = (length - 1) / 2
    y, x = _coordinates(math.ceil(half) + 1)
    cos, sin = _direction(angle)
    along, across = x * cos - y * sin, x * sin + y * cos
    beyond = np.maximum(np.abs(along) - half, 0)
    weights = np.maximum(1 - np.hypot(beyond, across), 0)
    # Rounding can leave tiny weights beside the line, where the exact weight is 0.
    weights[weights < 1e-12] = 0
    weights = _trimmed(weights)
    total: Weights = weights / weights.sum()
    return total


def _direction(angle: float) -> tuple[float, float]:
    """Return cosine and sine, exact at multiples of 90°."""
    quarters, rest = divmod(angle % 360, 90)
    if rest == 0:
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarters) % 4]
    return math.cos(math.radians(angle)), math.sin(math.radians(angle))


def _coordinates(reach: int) -> tuple[Weights, Weights]:
    """Return y (downwards) as a column and x as a row, both 0 in the middle."""
    steps = np.arange(-reach, reach + 1, dtype=np.float64)
    return steps[:, None], steps[None, :]


def _trimmed(weights: Weights) -> Weights:
    """Return a kernel without the rows and columns of zeros at its edges.

    The kernel must be symmetric under a half turn, so that its middle stays the middle.
    """
    rows, columns = np.flatnonzero(weights.any(axis=1)), np.flatnonzero(weights.any(axis=0))
    return weights[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def disk(radius: float) -> Weights:
    """Return the share of the disk's area in the square of each pixel."""
    reach = math.ceil(radius - 0.5)
    corners = np.arange(-reach - 0.5, reach + 1)
    quadrants = _quarter_area(np.abs(corners)[None, :], np.abs(corners)[:, None], radius)
    signed = quadrants * np.sign(corners)[None, :] * np.sign(corners)[:, None]
    areas = np.diff(np.diff(signed, axis=0), axis=1)
    weights: Weights = areas / areas.sum()
    return weights


def _quarter_area(x: Weights, y: Weights, radius: float) -> Weights:
    """Return the disk's area within ``[0, x] x [0, y]``: the integral of min(y, sqrt(r² - t²)) for t from 0 to x."""
    x, y = np.minimum(x, radius), np.minimum(y, radius)
    flat = np.minimum(np.sqrt(radius**2 - y**2), x)  # up to here the rectangle's top is below the circle

    def under_circle(t: Weights) -> Weights:
        return 0.5 * (t * np.sqrt(radius**2 - t**2) + radius**2 * np.arcsin(t / radius))

    area: Weights = flat * y + under_circle(x) - under_circle(flat)
    return area


def unsharp(sigma: float, amount: float) -> Weights:
    weights = -amount * gaussian(sigma)
    weights[weights.shape[0] // 2, weights.shape[1] // 2] += 1 + amount
    return weights


def high_boost(a: float) -> Weights:
    weights = np.full((3, 3), -1 / 9)
    weights[1, 1] = (9 * a - 1) / 9
    return weights


def log(sigma: float) -> Weights:
    """Return the Laplacian of a Gaussian.

    The second derivative of a Gaussian is (x² - sigma²) / sigma⁴ times the Gaussian. Here sigma² in the numerator is
    replaced by the variance of the samples, which makes the sum 0 and hardly changes the shape.
    """
    line = gaussian_line(sigma)
    squares = np.arange(-(line.size // 2), line.size // 2 + 1) ** 2
    second = (squares - (squares * line).sum()) / sigma**4 * line
    return balanced(np.outer(second, line) + np.outer(line, second))


def dog(sigma1: float, sigma2: float) -> Weights:
    if sigma1 == sigma2:
        raise KernelError(f"dog:{sigma1:g},{sigma2:g} is zero everywhere: give two different sigmas, as in dog:1,1.6")
    first, second = gaussian(sigma1), gaussian(sigma2)
    side = max(first.shape[0], second.shape[0])
    return balanced(_padded(first, side) - _padded(second, side))


def _padded(weights: Weights, side: int) -> Weights:
    return np.pad(weights, (side - weights.shape[0]) // 2)


def gabor(wavelength: float, angle: float) -> Weights:
    """Return a cosine wave in the direction of the angle, times a round Gaussian, with its mean removed."""
    # One octave of bandwidth: Daugman (1985); Petkov & Kruizinga (1997), equation 4.
    spread = math.sqrt(math.log(2) / 2) / math.pi * 3
    sigma = wavelength * spread
    reach = math.ceil(3 * sigma)
    if 2 * reach + 1 > limits.kernel_side:
        raise KernelError(
            f"gabor:{wavelength:g} needs {2 * reach + 1}x{2 * reach + 1} weights, and {limits.kernel_side} a side "
            f"is the most: take a wavelength up to {math.floor((limits.kernel_side - 1) / (6 * spread))}, "
            f"or --max-kernel {2 * reach + 1}"
        )
    y, x = _coordinates(reach)
    cos, sin = _direction(angle)
    wave = np.cos(2 * np.pi * (x * cos - y * sin) / wavelength)
    envelope = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    weights = envelope * (wave - (envelope * wave).sum() / envelope.sum())
    return balanced(weights / (weights * wave).sum())


def balanced(weights: Weights) -> Weights:
    """Return weights whose sum is exactly 0 in any order of addition.

    They are rounded to multiples of a power of two that is so large that every sum of them is exact in 53 bits. The
    middle weight takes the remainder.
    """
    bits = 53 - weights.size.bit_length()
    step = 2.0 ** (math.frexp(float(np.abs(weights).max()))[1] - bits)
    steps = np.round(weights / step)
    middle = steps.shape[0] // 2, steps.shape[1] // 2
    steps[middle] -= steps.sum()
    exact: Weights = steps * step
    return exact


def kirsch(direction: str) -> Weights:
    return _compass([5, 5, -3, -3, -3, -3, -3, 5], direction)


def robinson(direction: str) -> Weights:
    return _compass([2, 1, 0, -1, -2, -1, 0, 1], direction)


# The positions on the border of a 3x3 kernel, clockwise from the middle of the top row.
_BORDER_POSITIONS = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))


def _compass(north: list[int], direction: str) -> Weights:
    """Return the kernel for a direction: the border weights for north, turned clockwise by eighths."""
    eighths = COMPASS.index(direction)
    weights = np.zeros((3, 3))
    for number, (i, j) in enumerate(_BORDER_POSITIONS):
        weights[i, j] = north[(number - eighths) % 8]
    return weights


FORMULAS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (box, gaussian, binomial, motion, disk, unsharp, high_boost, log, dog, gabor, kirsch, robinson)
}
