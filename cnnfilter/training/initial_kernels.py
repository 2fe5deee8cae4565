"""Initial kernels of the first convolution from the named kernels, instead of random numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ModelError
from cnnfilter.kernels.lookup import find_kernel
from cnnfilter.layers.learned import Convolution
from cnnfilter.training.gradients.stack import Stack

KERNEL_NAMES = (
    "sobel-h",
    "sobel-v",
    "laplacian",
    "line-h",
    "line-v",
    "line-45",
    "line-135",
    "kirsch:ne",
    "kirsch:nw",
    "emboss",
    "high-pass",
    "laplacian-8",
    "blur",
    "roberts-1",
    "roberts-2",
    "sharpen",
    "kirsch:n",
    "kirsch:e",
    "identity",
)
"""Named kernels in the order in which they are used. Edges, lines and corners come first, as maps may be fewer."""


def start_from_kernels(stack: Stack) -> None:
    """Replace the first kernels of the first convolution by named ones; the others stay as they were drawn.

    A named kernel is the same for every input channel. It is scaled so that it responds to a grey picture as strongly
    as a drawn kernel does on average.

    Raises
    ------
    ModelError
        If the first learned layer is not a convolution across channels with kernels of at least 3x3.
    """
    layer = next(each for each in stack.layers if each.values)
    convolution = layer.layer
    if not isinstance(convolution, Convolution) or min(convolution.kernels[1:]) < 3:
        raise ModelError(f"--init kernels needs a first learned layer such as 'conv 32x3x3', not '{convolution}'")
    kernel = layer.values["kernel"]
    strength = math.sqrt(2 / kernel.shape[2])
    for number, weights in zip(range(kernel.shape[3]), _fitting(*kernel.shape[:2]), strict=False):
        kernel[:, :, :, number] = (weights * strength / math.sqrt((weights**2).sum()))[:, :, None] / math.sqrt(
            kernel.shape[2]
        )


def _fitting(height: int, width: int) -> Iterator[NDArray[np.float64]]:
    """Yield the named kernels, each in the middle of a window (height, width) of zeros."""
    for name in KERNEL_NAMES:
        small = find_kernel(name).weights
        whole = np.zeros((height, width))
        top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
        whole[top : top + small.shape[0], left : left + small.shape[1]] = small
        yield whole
