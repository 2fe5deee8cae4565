"""Convolve a picture with one kernel, or with several at once.

The result is computed in regions (`cnnfilter.filters.convolution.regions`). Where the window lies within the picture,
an algorithm reads the picture itself, otherwise a copy of a part of it with the border around. It stores the sums
rounded, or as float32 if they have to be combined first. The result is the same for any number of threads.

Sparse kernels are summed tap by tap, dense ones on four rows at once, kernels of low rank as sums of separable ones,
boxes by running sums, and large dense kernels by the FFT (`cnnfilter.filters.convolution.choice`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from cnnfilter.errors import KernelError, ShapeError
from cnnfilter.filters.convolution.algorithms import Fourier, Separable
from cnnfilter.filters.convolution.choice import choose_algorithm
from cnnfilter.filters.convolution.geometry import Geometry
from cnnfilter.filters.convolution.regions import Plan, PlannedKernel, Samples, run_plan, span_of
from cnnfilter.filters.output import allocate_out
from cnnfilter.filters.windows import Axis, Padding, Pair, window_axes
from cnnfilter.images.dtypes import Range, Span
from cnnfilter.kernels.kernel import Kernel
from cnnfilter.kernels.lookup import find_kernels
from cnnfilter.runtime.parallel import default_threads

COMBINATIONS = ("magnitude", "max", "mean", "sum", "stack")
"""The rules that combine the results of several kernels; see `filter_picture`."""

SIGNED = ("auto", "clip", "abs", "offset", "stretch")
"""The rules for values below 0 in an unsigned picture; see `filter_picture`."""


class Filtered(NamedTuple):
    """The result of `filter_picture`.

    Attributes
    ----------
    pixels : (H', W', C), or (H', W', C·K) for ``combine="stack"`` of K kernels (K maps of each channel).
    clipped : the share of the samples that lay outside the range of an integer picture, 0 to 1.
    algorithms_used : one line for each kernel: the algorithm and the reason.
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
    kernel : a name, text, an array (kH, kW) or a Kernel, as `find_kernel` takes it; a name of several kernels
        (``sobel``) gives their magnitude
    stride : step of the window, one number or (vertical, horizontal)
    padding : "same" (ceil(H / stride) rows, the smaller half before), "valid", N, (H, W) or
        (top, right, bottom, left)
    border : the values of the padding: replicate, reflect, symmetric, wrap, zero, constant:V
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
        There is no such kernel, or its weights are so large that float32 does not hold their sums.
    ShapeError
        The window does not fit into the padded picture, or a parameter has none of the values above.

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
    signed: str | Span = "auto",
    algorithm: str = "auto",
    dtype: DTypeLike | None = None,
    threads: int | None = None,
    allocate: Callable[..., Samples] = np.empty,
) -> Filtered:
    """Convolve with one or several kernels and store the result in a picture's type.

    Parameters
    ----------
    pixels : uint8, uint16 or float32 (H, W) or (H, W, C)
    kernels : each as `find_kernel` takes it, or a name of several kernels (``sobel``, ``kirsch``)
    combine : how several results become one: magnitude (root of the sum of squares), max (the largest signed result),
        mean, sum, stack (a map for each, side by side as channels). None for the combination of a name of several
        kernels, otherwise magnitude.
    signed : how values below 0 enter an unsigned picture: clip, abs, offset (half of the range plus v/2),
        stretch (the smallest to 0, the largest to the top), auto (abs for kernels that sum to 0 and come without a
        bias or an offset of their own, else clip).
        A float picture keeps its signs unless one is named. A `Span` is stretched instead of that of the result.
    dtype : of the result; None for that of `pixels`
    allocate : makes the array of the result from its shape and dtype, as `numpy.empty` does

    The other parameters are those of `convolve`.

    Raises
    ------
    KernelError, ShapeError
        As `convolve`; also kernels whose results differ in size, or no kernel at all.
    """
    request = _check(
        pixels,
        {"stride": stride, "dilation": dilation, "padding": padding},
        border=border,
        bias=bias,
        combine=combine,
        signed=signed,
        algorithm=algorithm,
        dtype=dtype,
        threads=threads,
    )
    resolved = _resolve(kernels, request)
    plan = _plan(request, resolved)
    output_range = _choose_range(request, resolved, plan)
    result = allocate(plan.shape, request.dtype)
    clipped = run_plan(plan, result, output_range)
    return Filtered(result, clipped, tuple(kernel.reason for kernel in plan.kernels))


def find_span(
    pixels: Samples,
    kernels: Sequence[Any],
    *,
    combine: str | None = None,
    border: str = "replicate",
    bias: float = 0.0,
    algorithm: str = "auto",
    dtype: DTypeLike | None = None,
    threads: int | None = None,
    **window: Any,
) -> Span:
    """Return the smallest and the largest result of `filter_picture`; the parameters are those of that function."""
    request = _check(
        pixels,
        {"stride": 1, "dilation": 1, "padding": "same", **window},
        border=border,
        bias=bias,
        combine=combine,
        signed="stretch",
        algorithm=algorithm,
        dtype=dtype,
        threads=threads,
    )
    return span_of(_plan(request, _resolve(kernels, request)))


@dataclass(frozen=True)
class _Request:
    """A convolution that is asked for, checked but for its kernels.

    Attributes
    ----------
    samples : the picture, C-contiguous (H, W, C), of a type that the loops take
    window : stride, dilation and padding, as `window_axes` takes them
    dtype : of the result

    The others are as `filter_picture` takes them.
    """

    samples: Samples
    window: dict[str, Any]
    border: str
    bias: float
    combine: str | None
    signed: str | Span
    algorithm: str
    dtype: np.dtype[Any]
    threads: int


class _Resolved(NamedTuple):
    """The kernels of a request, and how their results are combined: one of COMBINATIONS."""

    kernels: list[Kernel]
    combine: str


def _check(
    pixels: Samples,
    window: dict[str, Any],
    *,
    combine: str | None,
    signed: str | Span,
    dtype: DTypeLike | None,
    threads: int | None,
    **others: Any,
) -> _Request:
    """Return the request of `filter_picture`, or refuse it with a ShapeError."""
    samples = _samples(np.asarray(pixels))
    if threads is not None and threads < 1:
        raise ShapeError(f"threads {threads} is not a whole number from 1 up, or None for all cores")
    for name, value, known in (("combine", combine, (None, *COMBINATIONS)), ("signed", signed, SIGNED)):
        if value not in known and not isinstance(value, Span):
            raise ShapeError(f"{name} {value!r} is not one of {', '.join(filter(None, known))}")
    target = samples.dtype if dtype is None else np.dtype(dtype)
    if target not in (np.uint8, np.uint16, np.float32):
        raise ShapeError(f"dtype {target} is not uint8, uint16 or float32")
    return _Request(
        samples=samples,
        window=window,
        combine=combine,
        signed=signed,
        dtype=target,
        threads=default_threads() if threads is None else threads,
        **others,
    )


def _resolve(kernels: Sequence[Any], request: _Request) -> _Resolved:
    """Return the kernels of all names, and how their results are combined."""
    sets = [find_kernels(kernel) for kernel in kernels]
    found = [kernel for several in sets for kernel in several]
    if not found:
        raise ShapeError("no kernel was given")
    for kernel in found:
        refuse_overflow(kernel, request.samples.dtype)
    combine = sets[0].combine if len(sets) == 1 else "magnitude"
    return _Resolved(found, combine if request.combine is None else request.combine)


def refuse_overflow(kernel: Kernel, dtype: np.dtype[Any]) -> None:
    """Refuse a kernel whose products with a picture of this type can pass the range of float32."""
    top = float(np.finfo(np.float32).max) / (np.iinfo(dtype).max if dtype.kind == "u" else 1)
    with np.errstate(over="ignore"):
        sizes = float(np.abs(kernel.weights).sum())
    if sizes > top:
        total = f"{sizes:.3g}" if math.isfinite(sizes) else f"more than {sys.float_info.max:.2g}"
        raise KernelError(
            f"{kernel.name}: its weights add up to {total} without their signs, and sums are float32, which allows "
            f"{top:.3g} for this picture: divide the weights"
        )


def _plan(request: _Request, resolved: _Resolved) -> Plan:
    """Choose an algorithm for each kernel, and return the plan of the convolution."""
    samples, kernels, combine = request.samples, resolved.kernels, resolved.combine
    geometries = [
        Geometry(
            *window_axes(samples.shape[:2], kernel.weights.shape, **request.window),
            channels=samples.shape[2],
            border=request.border,
        )
        for kernel in kernels
    ]
    if len({geometry.outputs for geometry in geometries}) > 1:
        sizes = ", ".join("{}x{}".format(*geometry.outputs) for geometry in geometries)
        raise ShapeError(f"the kernels give results of different sizes ({sizes}); use padding same")
    bytes_only = samples.dtype == request.dtype == np.uint8 and len(kernels) == 1
    is_combined = combine != "stack" and len(kernels) > 1
    planned = []
    for kernel, geometry in zip(kernels, geometries, strict=True):
        algorithm, reason = choose_algorithm(kernel.weights, geometry, request.algorithm, bytes_only=bytes_only)
        bias = kernel.offset + (0.0 if is_combined else request.bias)
        planned.append(PlannedKernel(kernel.weights, algorithm, bias, reason))
    source = samples.reshape(samples.shape[0], -1)
    return Plan(
        source,
        tuple(planned),
        combine if len(kernels) > 1 else "",
        request.bias if is_combined else 0.0,
        request.threads,
    )


def _choose_range(request: _Request, resolved: _Resolved, plan: Plan) -> Range:
    """Return the range that turns sums into samples of the result; to stretch them, their span is computed first."""
    rule = signed_rule(request.signed, resolved.kernels, request.dtype, request.bias)
    return Range.of(span_of(plan) if rule == "stretch" else rule, request.dtype)


def row_wise_algorithm(weights: Samples, axes: tuple[Axis, Axis], channels: int, border: str) -> str | None:
    """Return the algorithm that `convolve` chooses for a float32 result, if it computes each row by itself.

    None if the result depends on the rows at which a band begins, as that of the FFT does.
    """
    chosen, _ = choose_algorithm(weights, Geometry(*axes, channels=channels, border=border))
    if isinstance(chosen, Fourier):
        return None
    return "separable" if isinstance(chosen, Separable) else "direct"


def _samples(pixels: Samples) -> Samples:
    """Return `pixels` as a C-contiguous (H, W, C) array of a type that the loops take."""
    if pixels.ndim not in (2, 3) or 0 in pixels.shape:
        raise ShapeError(f"pixels of shape {pixels.shape} are not (H, W) or (H, W, C) with at least one sample")
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        if pixels.dtype.kind not in "buif":
            raise ShapeError(f"pixels of type {pixels.dtype} are not numbers that can be filtered")
        pixels = pixels.astype(np.float32)
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[:, :, None])


def signed_rule(signed: str | Span, kernels: Sequence[Kernel], target: np.dtype[Any], bias: float) -> str | Span:
    """Return the rule that `signed` means for these kernels, a result of dtype `target` and a `bias`."""
    if signed != "auto":
        return signed
    if target == np.float32:
        return "keep"
    return "abs" if bias == 0 and all(kernel.finds_differences for kernel in kernels) else "clip"
