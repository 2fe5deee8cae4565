"""The kernels that are computed: parameters in, weights out.

Each function gives a float64 array ``(kH, kW)`` and trusts its parameters; `cnnfilter.kernels.lookup` has checked
their ranges against the catalogue. Angles are in degrees, counter-clockwise from the right.
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
    """Samples of a Gaussian at whole distances from the middle, summing to 1."""
    size = 2 * _reach(sigma) + 1 if size is None else size
    line = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / sigma) ** 2)
    total = line.sum()
    # An even size has no sample in the middle, and all its samples may vanish.
    if total == 0:
        raise KernelError(f"gaussian:{sigma:g},{size}: sigma is too small for an even size; take {size + 1}")
    weights: Weights = line / total
    return weights


def _reach(sigma: float) -> int:
    """How many pixels a Gaussian reaches to each side: 4 sigma, as in SciPy."""
    reach = int(4 * sigma + 0.5)
    if 2 * reach + 1 > limits.kernel_side:
        most = (limits.kernel_side - 1) / 8
        raise KernelError(
            f"sigma {sigma:g} needs {2 * reach + 1}x{2 * reach + 1} weights, and {limits.kernel_side} a side is "
            f"the most: take a sigma up to {most:g}, or --max-kernel {2 * reach + 1}"
        )
    return reach


def binomial(n: int) -> Weights:
    # Whole numbers divide with one rounding, however large they are.
    line = np.array([math.comb(n - 1, k) / 2 ** (n - 1) for k in range(n)])
    return np.outer(line, line)


def motion(length: float, angle: float = 0.0) -> Weights:
    """A line through the middle, one pixel wide with soft sides."""
    half = (length - 1) / 2
    y, x = _coordinates(math.ceil(half) + 1)
    cos, sin = _direction(angle)
    along, across = x * cos - y * sin, x * sin + y * cos
    beyond = np.maximum(np.abs(along) - half, 0)
    weights = np.maximum(1 - np.hypot(beyond, across), 0)
    # What is left of a right angle's rounding is no weight.
    weights[weights < 1e-12] = 0
    weights = _trimmed(weights)
    total: Weights = weights / weights.sum()
    return total


def _direction(angle: float) -> tuple[float, float]:
    """Cosine and sine, without rounding at the right angles."""
    quarters, rest = divmod(angle % 360, 90)
    if rest == 0:
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarters) % 4]
    return math.cos(math.radians(angle)), math.sin(math.radians(angle))


def _coordinates(reach: int) -> tuple[Weights, Weights]:
    """y (downwards) as a column and x as a row, zero in the middle."""
    steps = np.arange(-reach, reach + 1, dtype=np.float64)
    return steps[:, None], steps[None, :]


def _trimmed(weights: Weights) -> Weights:
    """Without the rows and columns of zeros around a kernel that is symmetric under a half turn."""
    rows, columns = np.flatnonzero(weights.any(axis=1)), np.flatnonzero(weights.any(axis=0))
    return weights[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def disk(radius: float) -> Weights:
    """Each pixel weighs as much of the disk as lies in its square."""
    reach = math.ceil(radius - 0.5)
    corners = np.arange(-reach - 0.5, reach + 1)
    quadrants = _quarter_area(np.abs(corners)[None, :], np.abs(corners)[:, None], radius)
    signed = quadrants * np.sign(corners)[None, :] * np.sign(corners)[:, None]
    areas = np.diff(np.diff(signed, axis=0), axis=1)
    weights: Weights = areas / areas.sum()
    return weights


def _quarter_area(x: Weights, y: Weights, radius: float) -> Weights:
    """The disk's area within ``[0, x] x [0, y]``: the integral of min(y, sqrt(r² - t²)) over t to x."""
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
    """Laplacian of Gaussian.

    The second derivative of a Gaussian is (x² - sigma²) / sigma⁴ times it. The variance of the samples stands
    here in the place of sigma², which makes the sum 0 without touching the shape.
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
    """A cosine wave that travels in the direction of the angle, under a round Gaussian, without its mean."""
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
    """The same weights with a sum of exactly 0, in whatever order they are added.

    They are rounded to a common binary step, so coarse that every sum of them is exact in 53 bits, and the
    middle one takes the rest.
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


# The border of a 3x3 kernel, clockwise from the middle of its top.
_BORDER_POSITIONS = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))


def _compass(north: list[int], direction: str) -> Weights:
    """The kernel for north, turned clockwise by eighths."""
    turn = COMPASS.index(direction)
    weights = np.zeros((3, 3))
    for place, (i, j) in enumerate(_BORDER_POSITIONS):
        weights[i, j] = north[(place - turn) % 8]
    return weights


FORMULAS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (box, gaussian, binomial, motion, disk, unsharp, high_boost, log, dog, gabor, kirsch, robinson)
}
