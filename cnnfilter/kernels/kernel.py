"""`Kernel`, the weights of a filter with their name and source, and `KernelSet`, several kernels under one name."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import KernelError
from cnnfilter.kernels.files import from_array
from cnnfilter.kernels.structure import clear_sum, factor, normalized, symmetries, symmetry_in_words

Weights = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """The weights of a filter, as they are multiplied with the picture (cross-correlation).

    Attributes
    ----------
    weights : float64 (kH, kW), read-only
    name : the text that was typed, or ``kernel-3x3`` for numbers and arrays.
    divisor : the number by which the written numbers were divided to give `weights`.
    offset : added to every result, in the picture's units; a kernel file can give it.
    purpose, source : one line each for a named kernel, else empty.

    Examples
    --------
    >>> from cnnfilter import find_kernel
    >>> kernel = find_kernel("sobel-h")
    >>> kernel.weights
    array([[-1., -2., -1.],
           [ 0.,  0.,  0.],
           [ 1.,  2.,  1.]])
    >>> kernel.rank, kernel.is_zero_sum, kernel.tag
    (1, True, 'sobel-h')
    """

    weights: Weights
    name: str = ""
    divisor: float = 1.0
    offset: float = 0.0
    purpose: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        weights = from_array(self.weights)
        weights.flags.writeable = False
        object.__setattr__(self, "weights", weights)
        if not self.name:
            object.__setattr__(self, "name", "kernel-{}x{}".format(*weights.shape))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Kernel):
            return NotImplemented
        return self.offset == other.offset and np.array_equal(self.weights, other.weights)

    def __hash__(self) -> int:
        # + 0.0 gives -0.0 the hash of 0.0, which equals it.
        return hash((self.weights.shape, (self.weights + 0.0).tobytes(), self.offset))

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.weights.shape
        return height, width

    @property
    def tag(self) -> str:
        """The name in characters that are allowed in file names everywhere: ``gaussian-1.4``."""
        return _tag(self.name) or "kernel-{}x{}".format(*self.shape)

    @functools.cached_property
    def sum(self) -> float:
        """The sum of the weights; exactly 0 if it is only rounding (1e-9 of the sum of their sizes).

        Infinity if no float holds it.
        """
        return clear_sum(self.weights.ravel())

    @property
    def is_zero_sum(self) -> bool:
        """Return whether the weights sum to 0: such a kernel finds differences and removes the mean brightness."""
        return self.sum == 0

    @property
    def finds_differences(self) -> bool:
        """Return whether results are differences, whose sign is a direction: the weights sum to 0, with no offset."""
        return self.is_zero_sum and self.offset == 0

    @functools.cached_property
    def factors(self) -> list[tuple[Weights, Weights]]:
        """The separable terms of `factor`."""
        return factor(self.weights)

    @property
    def rank(self) -> int:
        """The number of separable terms of the kernel."""
        return len(self.factors)

    @property
    def symmetry(self) -> str:
        """The effect of mirrors and turns on the kernel, in words."""
        return symmetry_in_words(symmetries(self.weights))

    def flip(self) -> Kernel:
        """Return the kernel turned by 180°: cross-correlation with it is convolution with the original."""
        return dataclasses.replace(self, weights=self.weights[::-1, ::-1])

    def transpose(self) -> Kernel:
        """Return the kernel with y and x exchanged."""
        return dataclasses.replace(self, weights=self.weights.T)

    def normalized(self) -> Kernel:
        """Return the kernel divided by its sum, so that it preserves the mean brightness.

        Raises
        ------
        KernelError
            If the weights sum to 0.

        Examples
        --------
        >>> from cnnfilter import find_kernel
        >>> find_kernel("1 2 1").normalized().weights
        array([[0.25, 0.5 , 0.25]])
        """
        if self.is_zero_sum:
            raise KernelError(f"{self.name} sums to 0 and cannot be divided by it: leave normalize away")
        return dataclasses.replace(self, weights=normalized(self.weights), divisor=self.divisor * self.sum)


class KernelSet(tuple[Kernel, ...]):
    """The kernels that one name stands for, and how their results are combined.

    `combine` is "magnitude" for the pairs of derivatives (``sobel``), "max" for the eight directions of ``kirsch`` and
    ``robinson``. For a single kernel it is "magnitude" too, and has no effect.
    """

    name: str
    combine: str

    def __new__(cls, kernels: Iterable[Kernel], combine: str = "magnitude", name: str = "") -> KernelSet:
        made = super().__new__(cls, kernels)
        made.combine = combine
        made.name = name or made[0].name
        return made

    @property
    def tag(self) -> str:
        """The name in characters that are allowed in file names everywhere."""
        return _tag(self.name) or self[0].tag


def _tag(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:60]
