"""Convolve a picture with one kernel, or with several at once.

The way of the samples: an algorithm reads a band of rows where it stands, or, where the border is in sight, in a
scratch that it is copied into with its border around it, and stores the sums: rounded at once, or as float32 that
are combined and rounded then. The picture itself is never copied as a whole, and each row's result is the same for
any number of threads.

Which algorithm: sparse kernels go tap by tap, dense ones on four rows at once, kernels of low rank as sums of separable
ones, boxes by running sums, large dense ones through the FFT (`cnnfilter.filters.convolution.choice`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from cnnfilter.errors import ShapeError
from cnnfilter.filters.convolution.choice import choose_algorithm
from cnnfilter.filters.convolution.geometry import Geometry
from cnnfilter.filters.convolution.regions import Samples, Work
from cnnfilter.filters.output import allocate_out
from cnnfilter.filters.windows import Padding, Pair, window_axes
from cnnfilter.images.dtypes import Range
from cnnfilter.kernels.kernel import Kernel
from cnnfilter.kernels.lookup import find_kernels
from cnnfilter.runtime.parallel import default_threads

COMBINATIONS = ("magnitude", "max", "mean", "sum", "stack")
SIGNED = ("auto", "clip", "abs", "offset", "stretch")


class Filtered(NamedTuple):
    """What `filter_picture` gives.

    Attributes
    ----------
    pixels : (H', W', C), or (H', W', C·K) for ``combine="stack"`` of K kernels (K maps of each channel).
    clipped : the share of the samples that lay outside the range of an integer picture, 0 to 1.
    algorithms_used : one line a kernel: the algorithm and why.
    """

    pixels: Samples
    clipped: float
    algorithms_used: tuple[str, ...]


def convolve(
    pixels: Samples,
    kernel: Any,
    *,
    stride: Pair = 1,
    padding: Padding = "same",
    border: str = "replicate",
    dilation: Pair = 1,
    bias: float = 0.0,
    algorithm: str = "auto",
    dtype: DTypeLike = np.float32,
    threads: int | None = None,
    out: Samples | None = None,
) -> Samples:
    """Slide a kernel over every channel of a picture and sum; the kernel is applied as drawn.

    This is the cross-correlation of PyTorch, ONNX and OpenCV. Turn the kernel by 180° (`Kernel.flip`)
    for the mathematician's convolution.

    Parameters
    ----------
    pixels : uint8, uint16 or float32 (H, W) or (H, W, C)
    kernel : what `find_kernel` takes: a name, text, an array (kH, kW), a Kernel; a name that means several
        kernels (``sobel``) gives their magnitude
    stride : step of the window, one number or (vertical, horizontal)
    padding : "same" (ceil(H / stride) rows, the smaller half before), "valid", N, (H, W) or
        (top, right, bottom, left)
    border : what stands in the padding: replicate, reflect, symmetric, wrap, zero, constant:V
    dilation : distance of the kernel's taps
    bias : added to every result, in the picture's units
    algorithm : "auto", "direct", "separable" or "fft"
    dtype : of the result; uint8 and uint16 round half up and saturate
    threads : None for all cores; the result does not depend on it
    out : array that is filled with the result and returned, C-contiguous and writeable, of the result's shape and
        `dtype`; it must not share memory with `pixels`. Large results are faster in memory that was used before.

    Returns
    -------
    (H', W') or (H', W', C) with H' = floor((H + pad − dilation·(kH − 1) − 1) / stride) + 1

    Raises
    ------
    KernelError
        There is no such kernel.
    ShapeError
        The window does not fit into the padded picture, or a parameter, such as `out`, is not what is said above.

    Examples
    --------
    >>> import numpy as np
    >>> impulse = np.zeros((3, 3), np.uint8)
    >>> impulse[1, 1] = 1
    >>> convolve(impulse, "1 2 3; 4 5 6; 7 8 9", dtype=np.uint8)  # as drawn: the answer is turned
    array([[9, 8, 7],
           [6, 5, 4],
           [3, 2, 1]], dtype=uint8)
    >>> convolve(np.ones((4, 6), np.float32), "box:3", padding="valid", stride=(1, 2)).shape
    (2, 2)
    >>> out = np.empty((3, 3), np.uint8)
    >>> convolve(impulse, "identity", dtype=np.uint8, out=out) is out
    True
    """
    pixels = np.asarray(pixels)
    filtered = filter_picture(
        pixels,
        [kernel],
        stride=stride,
        padding=padding,
        border=border,
        dilation=dilation,
        bias=bias,
        signed="auto" if np.dtype(dtype) == np.float32 else "clip",
        algorithm=algorithm,
        dtype=dtype,
        threads=threads,
        allocate=allocate_out(out, pixels),
    )
    if out is not None:
        return out
    return filtered.pixels if pixels.ndim == 3 else filtered.pixels[:, :, 0]


def filter_picture(
    pixels: Samples,
    kernels: Sequence[Any],
    *,
    combine: str | None = None,
    stride: Pair = 1,
    padding: Padding = "same",
    border: str = "replicate",
    dilation: Pair = 1,
    bias: float = 0.0,
    signed: str = "auto",
    algorithm: str = "auto",
    dtype: DTypeLike | None = None,
    threads: int | None = None,
    allocate: Callable[..., Samples] = np.empty,
) -> Filtered:
    """Convolve with one or several kernels and store the result in a picture's type.

    Parameters
    ----------
    pixels : uint8, uint16 or float32 (H, W) or (H, W, C)
    kernels : each what `find_kernel` takes, or a name that means several (``sobel``, ``kirsch``)
    combine : how several results become one: magnitude (root of the sum of squares), max (of the
        absolute values where `signed` says abs), mean, sum, stack (a map for each, side by side as
        channels). None for what a name that means several asks for, else magnitude.
    signed : how values below 0 enter an unsigned picture: clip, abs, offset (half of the range plus v/2),
        stretch (the smallest to 0, the largest to the top), auto (abs for kernels that sum to 0, else clip).
        A float picture keeps its signs unless one is named.
    dtype : of the result; None for that of `pixels`
    allocate : makes the array of the result from its shape and dtype, as `numpy.empty` does

    The other parameters are those of `convolve`.

    Raises
    ------
    KernelError, ShapeError
        As `convolve`; also kernels whose results differ in size, or no kernel at all.
    """
    samples = _samples(np.asarray(pixels))
    if threads is not None and threads < 1:
        raise ShapeError(f"threads {threads} is not a whole number from 1 up, or None for all cores")
    sets = [find_kernels(kernel) for kernel in kernels]
    found = [kernel for several in sets for kernel in several]
    if not found:
        raise ShapeError("no kernel was given")
    if combine is None:
        combine = sets[0].combine if len(sets) == 1 else "magnitude"
    for name, value, known in (("combine", combine, COMBINATIONS), ("signed", signed, SIGNED)):
        if value not in known:
            raise ShapeError(f"{name} {value!r} is not one of {', '.join(known)}")
    target = samples.dtype if dtype is None else np.dtype(dtype)
    if target not in (np.uint8, np.uint16, np.float32):
        raise ShapeError(f"dtype {target} is not uint8, uint16 or float32")

    geometries = [
        Geometry(
            *window_axes(samples.shape[:2], kernel.weights.shape, stride=stride, dilation=dilation, padding=padding),
            channels=samples.shape[2],
            border=border,
        )
        for kernel in found
    ]
    if len({geometry.outputs for geometry in geometries}) > 1:
        sizes = ", ".join("{}x{}".format(*geometry.outputs) for geometry in geometries)
        raise ShapeError(f"the kernels give results of different sizes ({sizes}); use padding same")
    bytes_only = samples.dtype == target == np.uint8 and len(found) == 1
    chosen = [
        choose_algorithm(kernel.weights, geometry, algorithm, bytes_only=bytes_only)
        for kernel, geometry in zip(found, geometries, strict=True)
    ]
    work = Work(
        samples,
        [kernel.weights for kernel in found],
        [each for each, _ in chosen],
        combine if len(found) > 1 else "",
        default_threads() if threads is None else threads,
    )
    offsets = [bias + getattr(kernel, "offset", 0.0) for kernel in found]
    work.biases = offsets if combine == "stack" or len(found) == 1 else [bias] * len(found)
    scale = Range.of(signed_rule(signed, found, target), target)
    if scale.stretch:
        scale = scale.stretched(*work.extremes())
    work.fold = scale.absolute
    out = allocate(work.shape, target)
    clipped = work.store(out, scale)
    return Filtered(out, clipped, tuple(why for _, why in chosen))


def _samples(pixels: Samples) -> Samples:
    """Return `pixels` as a contiguous (H, W, C) array of a type that the loops take."""
    if pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise ShapeError(f"pixels of shape {pixels.shape} are not (H, W) or (H, W, C) with at least one sample")
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        if pixels.dtype.kind not in "buif":
            raise ShapeError(f"pixels of type {pixels.dtype} are not numbers that can be filtered")
        pixels = pixels.astype(np.float32)
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[:, :, None])


def signed_rule(signed: str, kernels: Sequence[Kernel], target: np.dtype[Any]) -> str:
    """Return the rule that `signed` means for these kernels and a result of dtype `target`."""
    if signed != "auto":
        return signed
    if target == np.float32:
        return "keep"
    return "abs" if all(kernel.is_zero_sum for kernel in kernels) else "clip"
