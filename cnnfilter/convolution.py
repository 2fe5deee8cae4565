"""Convolve a picture with one kernel, or with several at once.

The way of the samples: an engine reads a band of rows where it stands, or, where the border is in sight, in a
scratch that it is copied into with its border around it, and stores the sums: rounded at once, or as float32 that
are combined and rounded then. The picture itself is never copied as a whole, and each row's result is the same for
any number of threads.

Which engine: sparse kernels go tap by tap, dense ones on four rows at once, kernels of low rank as sums of separable
ones, boxes by running sums, large dense ones through the FFT (`cnnfilter.engine_choice`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cnnfilter import results
from cnnfilter.bands import default_threads, run_tasks
from cnnfilter.depth import Scale, store_band
from cnnfilter.engine_choice import choose_engine
from cnnfilter.engines import DirectTaps, Engine, Finish
from cnnfilter.errors import ShapeError
from cnnfilter.kernels import Kernel, find_kernels
from cnnfilter.loops.convolution import largest_bits
from cnnfilter.scratch import Geometry, Memory, Region, Rows
from cnnfilter.windows import Padding, Pair, border_constant, window_axes

_MOST = 1 << 22  # samples of a region, so that those of an array larger than memory fit in it
_ENOUGH = 1 << 21  # samples of a region that make what its call costs small
_INFINITY = 0x7F800000  # the bits of float32 infinity; those of NaN are larger

COMBINATIONS = ("magnitude", "max", "mean", "sum", "stack")
SIGNED = ("auto", "clip", "abs", "offset", "stretch")

Samples = NDArray[Any]


@dataclass(frozen=True)
class Filtered:
    """What `filter_picture` gives.

    Attributes
    ----------
    pixels : (H', W', C), or (H', W', C·K) for ``combine="stack"`` of K kernels (K maps of each channel).
    clipped : share of the samples that lay outside the range of an integer picture, 0 to 1.
    ways : one line a kernel: the algorithm and why.
    """

    pixels: Samples
    clipped: float
    ways: tuple[str, ...]


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

    Returns
    -------
    (H', W') or (H', W', C) with H' = floor((H + pad − dilation·(kH − 1) − 1) / stride) + 1

    Raises
    ------
    KernelError
        There is no such kernel.
    ShapeError
        The window does not fit into the padded picture, or a parameter is not what is said above.

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
    )
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
    empty: Callable[..., Samples] = results.empty,
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
    empty : makes the array that the result is stored in, from its shape and dtype

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
        choose_engine(kernel.weights, geometry, algorithm, bytes_only=bytes_only)
        for kernel, geometry in zip(found, geometries, strict=True)
    ]
    work = _Work(
        samples,
        [kernel.weights for kernel in found],
        [engine for engine, _ in chosen],
        combine if len(found) > 1 else "",
        threads=default_threads() if threads is None else threads,
    )
    offsets = [bias + getattr(kernel, "offset", 0.0) for kernel in found]
    work.biases = offsets if combine == "stack" or len(found) == 1 else [bias] * len(found)
    scale = Scale.of(signed_rule(signed, found, target), target)
    if scale.stretch:
        scale = scale.stretched(*work.extremes())
    work.fold = scale.fold
    pixels_out, clipped = work.store(target, scale, empty)
    return Filtered(pixels_out, clipped, tuple(why for _, why in chosen))


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


class _Work:
    """One run of some engines over a picture."""

    def __init__(
        self, samples: Samples, weights: list[Samples], engines: list[Engine], combine: str, threads: int
    ) -> None:
        self.source = samples.reshape(samples.shape[0], -1)
        self.weights = weights
        self.engines = engines
        self.combine = combine
        self.threads = threads
        self.biases = [0.0] * len(engines)
        self.fold = False
        self.rows, self.columns = engines[0].geometry.outputs
        self.channels = engines[0].geometry.channels
        maps = len(engines) if combine == "stack" else 1
        self.shape = (self.rows, self.columns, self.channels * maps)
        self.memory = Memory()

    def store(
        self, dtype: np.dtype[Any], scale: Scale, empty: Callable[..., Samples] = results.empty
    ) -> tuple[Samples, float]:
        """Return the stored picture and the share of its samples that was clipped."""
        out = empty(self.shape, dtype)
        rows = out.reshape(self.rows, -1)
        if self.source.dtype == dtype != np.float32 and not self.combine and self._reads(self.engines[0]) == dtype:
            return out, self._store_rounded(rows, self.engines[0], scale)
        in_place = dtype == np.float32 and not self.combine  # the sums are made where they stay
        maps = self.shape[2]

        def part(region: Region) -> int:
            left, right = region.left * maps, region.right * maps
            here = rows[region.top : region.bottom]
            sums = self._sums(region, here if in_place else None)
            return store_band(sums, here, scale, left, right - left)

        return out, sum(self._in_regions(part)) / max(out.size, 1)

    def extremes(self) -> tuple[float, float]:
        """Return the smallest and the largest finite result."""

        def part(region: Region) -> tuple[float, float]:
            sums = self._sums(region)
            finite = sums if np.isfinite(sums.sum()) else sums[np.isfinite(sums)]
            return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)

        found = self._in_regions(part)
        return min(low for low, _ in found), max(high for _, high in found)

    def _store_rounded(self, rows: Samples, engine: Engine, scale: Scale) -> float:
        # Of a larger picture each fourth row tells what is clipped as well as all of them.
        every = 4 if rows.size > 1 << 18 else 1
        shift = self.biases[0] * scale.gain + scale.shift
        finish = Finish(scale.gain, shift, scale.fold, scale.top, every)

        def part(region: Region) -> tuple[int, int]:
            count = (region.right - region.left) * self.channels
            here = rows[region.top : region.bottom]
            clipped = self._run(engine, region, here, region.left * self.channels, finish)
            return clipped, -(-len(here) // every) * count

        counts = self._in_regions(part)
        clipped, counted = (sum(count) for count in zip(*counts, strict=True))
        return float(clipped / max(counted, 1))

    def _sums(self, region: Region, out: Samples | None = None) -> Samples:
        """Return the float32 sums of all engines in a region, with their biases, combined.

        They are an array of their own, or stand in their place in `out`, the region's rows.
        """
        height, count = region.bottom - region.top, (region.right - region.left) * self.channels
        first = 0 if out is None else region.left * self.channels
        maps = (
            [out]
            if out is not None
            else [self.memory.array(f"map {index}", (height, count), np.float32) for index in range(len(self.engines))]
        )
        finish = Finish(shift=0.0 if out is None else self.biases[0])
        for engine, own, weights in zip(self.engines, maps, self.weights, strict=True):
            self._run(engine, region, own, first, finish)
            is_float = self.source.dtype == np.float32
            if is_float and not engine.exact and largest_bits(own.view(np.int32), first, count) >= _INFINITY:
                # Only tap by tap does a NaN or an infinity reach no further than the taps that see it.
                exact = DirectTaps(weights, replace(engine.geometry, phased=True))
                exact.run(self._seen(exact, region), own, first, count, finish)
        return combine_maps(maps, self.combine, self.biases, self.fold) if out is None else out

    def _reads(self, engine: Engine) -> np.dtype[Any]:
        """Return the type of the samples that an engine gets: the picture's own, if it can hold the border's too."""
        border = border_constant(engine.geometry.border)
        own = self.source.dtype
        is_held = border is None or own.kind == "f" or border in range(np.iinfo(own).max + 1)
        return own if engine.rounds and is_held else np.dtype(np.float32)

    def _run(self, engine: Engine, region: Region, out: Samples, first: int, finish: Finish) -> int:
        """Make an engine store its sums of a region in the columns from `first` on of `out`, as its `run` does."""
        sides = engine.sides
        if sides and self._reads(engine) == self.source.dtype and sides.suit(region):
            return sides.run(self.source, region, out, first, finish)
        count = (region.right - region.left) * self.channels
        return engine.run(self._seen(engine, region), out, first, count, finish)

    def _seen(self, engine: Engine, region: Region) -> Rows:
        """Return what `region` sees: in the picture itself where that is possible, else in a scratch."""
        geometry, dtype = engine.geometry, self._reads(engine)
        if self.source.dtype == dtype and geometry.is_inner(region):
            return geometry.window(self.source, region)
        return geometry.fill(self.source, region, dtype, self.memory)

    def _in_regions(self, part: Callable[[Region], Any]) -> list[Any]:
        """Call `part` for regions that make up the result and depend on the picture alone.

        Where the engines read the picture's own type, what reaches beyond it is cut off: the columns left and right,
        and the rows above and below if a constant stands there. All else is filtered where it stands.
        """
        size = (
            min(engine.band for engine in self.engines),
            min((engine.columns for engine in self.engines if engine.columns is not None), default=self.columns),
        )
        if any(engine.geometry.phased and engine.geometry.horizontal.stride > 1 for engine in self.engines):
            size = size[0], self.columns
        inner = Region(self.rows, self.rows, 0, 0)
        inner_bands = [engine.inner_band for engine in self.engines if engine.inner_band is not None]
        if len(inner_bands) == len(self.engines) and all(
            self._reads(each) == self.source.dtype for each in self.engines
        ):
            inner = functools.reduce(Region.overlap, (engine.geometry.inner for engine in self.engines))
            inner = inner.beside(-(-max(engine.least for engine in self.engines) // self.channels), self.columns)
        if inner.is_empty:
            regions = _cut(Region(0, self.rows, 0, self.columns), *size)
        else:
            line = self.columns * self.channels
            pieces = min(max(self.rows * line // _ENOUGH, 1), 16)
            high = max(min(inner_bands), min(-(-self.rows // pieces), _MOST // line))
            high = -(-self.rows // -(-self.rows // high)) + 3 & ~3  # about as many each, in fours
            regions = [
                *_cut(Region(0, inner.top, 0, self.columns), *size),
                *_cut(inner, high, self.columns),
                *_cut(Region(inner.top, inner.bottom, 0, inner.left), high, self.columns),
                *_cut(Region(inner.top, inner.bottom, inner.right, self.columns), high, self.columns),
                *_cut(Region(inner.bottom, self.rows, 0, self.columns), *size),
            ]
            # What is near in a file that is mapped comes at about the same time, the widest first: the system clears
            # new memory as it is written, which is better done as it is filled.
            regions.sort(key=lambda region: (region.top, region.left - region.right))

        def quietly(region: Region) -> Any:
            with np.errstate(all="ignore"):  # NaN and infinity are data; each thread has its own setting
                return part(region)

        wanted = [region for region in regions if not region.is_empty]
        return run_tasks([functools.partial(quietly, region) for region in wanted], self.threads)


def _cut(region: Region, height: int, width: int) -> list[Region]:
    """Return `region` in parts of at most `height` rows and `width` columns."""
    return [
        Region(top, min(top + height, region.bottom), left, min(left + width, region.right))
        for top in range(region.top, region.bottom, height)
        for left in range(region.left, region.right, width)
    ]


def combine_maps(maps: list[Samples], combine: str, biases: Sequence[float], fold: bool) -> Samples:
    """Return float32 `maps`, all (…, C) of one shape, as one; their memory is used up.

    `combine` is one of COMBINATIONS, or "" for a single map. The biases of a stack are added to its maps, else
    the first one is added to the result. With `fold`, ``max`` takes the largest absolute value.
    """
    if combine == "stack":
        for values, bias in zip(maps, biases, strict=True):
            values += np.float32(bias)
        return np.stack(maps, axis=-1).reshape(*maps[0].shape[:-1], -1)
    total, *others = maps
    if combine == "magnitude":
        for values in maps:
            np.multiply(values, values, out=values)
    elif combine == "max" and fold:
        for values in maps:
            np.abs(values, out=values)
    add = np.maximum if combine == "max" else np.add
    for values in others:
        add(total, values, out=total)
    if combine == "magnitude":
        np.sqrt(total, out=total)
    elif combine == "mean":
        total /= np.float32(len(maps))
    if biases[0]:
        total += np.float32(biases[0])
    return total
