"""Convolve a picture with one kernel, or with several at once.

The way of the samples: an engine reads a band of rows where it stands, or, where the border is in sight, in a
scratch that it is copied into with its border around it, and stores the sums: rounded at once, or as float32 that
are combined and rounded then. The picture itself is never copied as a whole, and each row's result is the same for
any number of threads.

Which engine: sparse kernels go tap by tap, dense ones on four rows at once, kernels of low rank as sums of separable
ones, boxes by running sums, large dense ones through the FFT (`cnnfilter.filters.convolution.choice`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cnnfilter.errors import ShapeError
from cnnfilter.filters.convolution.algorithms import DirectTaps, Engine, Finish
from cnnfilter.filters.convolution.border_loops import largest_bits
from cnnfilter.filters.convolution.choice import choose_engine
from cnnfilter.filters.convolution.direct_loops import ROWS
from cnnfilter.filters.convolution.geometry import Geometry, Region, Rows
from cnnfilter.filters.windows import NEAR_BORDERS, Padding, Pair, border_constant, window_axes
from cnnfilter.images.dtypes import Scale, store_band
from cnnfilter.images.unfinished import Arriving, OnDemand, finished, is_worth_it
from cnnfilter.kernels.lookup import Kernel, find_kernels
from cnnfilter.runtime import buffers
from cnnfilter.runtime.buffers import Memory
from cnnfilter.runtime.parallel import default_threads, run_tasks

_MOST = 1 << 22  # samples of a region, so that those of an array larger than memory fit in it
_ENOUGH = 1 << 21  # samples of a region that make what its call costs small
_LONG = 1 << 32  # multiply-adds of a region: a tenth of a second or a few, which is all that an interruption waits
_HIGH = 64  # rows of a window of which the bands of a result see not much of others again
_INFINITY = 0x7F800000  # the bits of float32 infinity; those of NaN are larger

COMBINATIONS = ("magnitude", "max", "mean", "sum", "stack")
SIGNED = ("auto", "clip", "abs", "offset", "stretch")

Samples = NDArray[Any]


class Filtered(NamedTuple):
    """What `filter_picture` gives.

    Attributes
    ----------
    pixels : (H', W', C), or (H', W', C·K) for ``combine="stack"`` of K kernels (K maps of each channel).
    counts : how many samples were clipped, and how many counted, in each part that was computed.
    ways : one line a kernel: the algorithm and why.
    """

    pixels: Samples
    counts: list[tuple[int, int]]
    ways: tuple[str, ...]

    @property
    def clipped(self) -> float:
        """The share of the samples that lay outside the range of an integer picture, 0 to 1."""
        return sum(clipped for clipped, _ in self.counts) / max(sum(counted for _, counted in self.counts), 1)


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
    empty: Callable[..., Samples] = buffers.empty,
    on_demand: bool = False,
) -> Filtered:
    """Convolve with one or several kernels and store the result in a picture's type.

    Parameters
    ----------
    pixels : uint8, uint16 or float32 (H, W) or (H, W, C); or such that are still arriving
    kernels : each what `find_kernel` takes, or a name that means several (``sobel``, ``kirsch``)
    combine : how several results become one: magnitude (root of the sum of squares), max (of the
        absolute values where `signed` says abs), mean, sum, stack (a map for each, side by side as
        channels). None for what a name that means several asks for, else magnitude.
    signed : how values below 0 enter an unsigned picture: clip, abs, offset (half of the range plus v/2),
        stretch (the smallest to 0, the largest to the top), auto (abs for kernels that sum to 0, else clip).
        A float picture keeps its signs unless one is named.
    dtype : of the result; None for that of `pixels`
    empty : makes the array that the result is stored in, from its shape and dtype
    on_demand : whether the result may be computed when its rows are asked for, and be counted then; a large one is,
        unless its bands would not be quite those of the whole

    The other parameters are those of `convolve`.

    Raises
    ------
    KernelError, ShapeError
        As `convolve`; also kernels whose results differ in size, or no kernel at all.
    """
    arriving = pixels if isinstance(pixels, Arriving) else None
    samples = _samples(np.asarray(finished(pixels)) if arriving is None else arriving.memory)
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
        default_threads() if threads is None else threads,
        None if arriving is None else arriving.wait_for,
    )
    offsets = [bias + getattr(kernel, "offset", 0.0) for kernel in found]
    work.biases = offsets if combine == "stack" or len(found) == 1 else [bias] * len(found)
    scale = Scale.of(signed_rule(signed, found, target), target)
    if scale.stretch:
        scale = scale.stretched(*work.extremes())
    work.fold = scale.fold
    counts: list[tuple[int, int]] = []

    def compute(first: int, end: int, out: Samples) -> None:
        counts.append(work.store(out, first, scale, work.threads if end - first == work.rows else 1))

    out: Any
    if on_demand and work.is_the_same_in_bands and is_worth_it(math.prod(work.shape) * target.itemsize):
        out = OnDemand(work.shape, target, compute)
    else:
        out = empty(work.shape, target)
        compute(0, work.rows, out)
    return Filtered(out, counts, tuple(why for _, why in chosen))


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
        self,
        samples: Samples,
        weights: list[Samples],
        engines: list[Engine],
        combine: str,
        threads: int,
        wait_for: Callable[[int], None] | None,
    ) -> None:
        self.source = samples.reshape(samples.shape[0], -1)
        self.weights = weights
        self.engines = engines
        self.combine = combine
        self.threads = threads
        self.wait_for = wait_for
        self.biases = [0.0] * len(engines)
        self.fold = False
        self.rows, self.columns = engines[0].geometry.outputs
        self.channels = engines[0].geometry.channels
        maps = len(engines) if combine == "stack" else 1
        self.shape = (self.rows, self.columns, self.channels * maps)
        self.memory = Memory()

    @property
    def is_the_same_in_bands(self) -> bool:
        """Whether rows can be made for themselves: not by tiles, nor by what begins with all rows of the window."""
        return self.combine != "stack" and all(
            engine.columns is None and engine.geometry.vertical.reach <= _HIGH for engine in self.engines
        )

    def store(self, out: Samples, first: int, scale: Scale, threads: int) -> tuple[int, int]:
        """Fill `out` with the rows from `first` on; return how many samples were clipped, and of how many."""
        rows = out.reshape(len(out), -1)
        dtype = out.dtype
        is_rounded = self.source.dtype == dtype != np.float32 and not self.combine
        part = self._rounded if is_rounded and self._reads(self.engines[0]) == dtype else self._summed
        # Of a larger picture each fourth row tells what is clipped as well as all of them.
        every = 4 if math.prod(self.shape) > 1 << 18 else 1

        def stored(region: Region) -> tuple[int, int]:
            return part(region, rows[region.top - first : region.bottom - first], scale, every)

        counts = self._in_regions(stored, threads, first, first + len(out))
        clipped, counted = (sum(count) for count in zip(*counts, strict=True))
        return clipped, counted

    def extremes(self) -> tuple[float, float]:
        """Return the smallest and the largest finite result."""

        def part(region: Region) -> tuple[float, float]:
            sums = self._sums(region)
            finite = sums if np.isfinite(sums.sum()) else sums[np.isfinite(sums)]
            return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)

        found = self._in_regions(part, self.threads, 0, self.rows)
        return min(low for low, _ in found), max(high for _, high in found)

    def _rounded(self, region: Region, here: Samples, scale: Scale, every: int) -> tuple[int, int]:
        """Store a region in its rows as an engine rounds it; return how many samples were clipped, and of how many."""
        finish = Finish(scale.gain, self.biases[0] * scale.gain + scale.shift, scale.fold, scale.top, every)
        count = (region.right - region.left) * self.channels
        clipped = self._run(self.engines[0], region, here, region.left * self.channels, finish)
        return clipped, -(-len(here) // every) * count

    def _summed(self, region: Region, here: Samples, scale: Scale, every: int) -> tuple[int, int]:
        """Do the same with sums that are combined, or rounded afterwards."""
        in_place = here.dtype == np.float32 and not self.combine  # the sums are made where they stay
        sums = self._sums(region, here if in_place else None)
        left, right = region.left * self.shape[2], region.right * self.shape[2]
        return store_band(sums, here, scale, left, right - left), len(here) * (right - left)

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

    def _in_regions(self, part: Callable[[Region], Any], threads: int, first: int, end: int) -> list[Any]:
        """Call `part` for regions that make up the rows `first` to `end` of the result.

        Where the engines read the picture's own type, what reaches beyond it is cut off: the columns left and right,
        and the rows above and below if a constant stands there. All else is filtered where it stands, in bands, whose
        height changes no result. Other regions depend on the picture alone.
        """
        columns = self.columns
        inner, size = self._inner
        high = self._high(threads)
        outer = [Region(0, inner.top, 0, columns), Region(inner.bottom, self.rows, 0, columns)]
        sides = [
            Region(inner.top, inner.bottom, 0, inner.left),
            inner,
            Region(inner.top, inner.bottom, inner.right, columns),
        ]
        rows = Region(first, end, 0, columns)
        regions = [piece for region in outer for piece in _cut(region.overlap(rows), *size)]
        regions += [piece for region in sides for piece in _cut(region.overlap(rows), high, columns)]
        # What is near in a file that is mapped comes at about the same time, the widest first: the system clears
        # new memory as it is written, which is better done as it is filled.
        regions.sort(key=lambda region: (region.top, region.left - region.right))

        def quietly(region: Region) -> Any:
            if self.wait_for is not None:
                self.wait_for(self._last_row(region))
            with np.errstate(all="ignore"):  # NaN and infinity are data; each thread has its own setting
                return part(region)

        wanted = [region for region in regions if not region.is_empty]
        return run_tasks([functools.partial(quietly, region) for region in wanted], threads)

    @functools.cached_property
    def _inner(self) -> tuple[Region, tuple[int, int]]:
        """Return what is filtered where it stands, and the size of the pieces of all else."""
        engines = self.engines
        size = (
            min(engine.band for engine in engines),
            min((engine.columns for engine in engines if engine.columns is not None), default=self.columns),
        )
        if any(engine.geometry.phased and engine.geometry.horizontal.stride > 1 for engine in engines):
            size = size[0], self.columns
        inner = Region(self.rows, self.rows, 0, 0)
        if all(each.inner_band is not None and self._reads(each) == self.source.dtype for each in engines):
            inner = functools.reduce(Region.overlap, (engine.geometry.inner for engine in engines))
            inner = inner.beside(-(-max(engine.least for engine in engines) // self.channels), self.columns)
        return Region(self.rows, self.rows, 0, 0) if inner.is_empty else inner, size

    def _high(self, threads: int) -> int:
        """Return how many rows a band of what is filtered where it stands has."""
        line = self.columns * self.channels
        pieces = 1 if threads == 1 else min(max(self.rows * line // _ENOUGH, 1), 16)
        least = min(engine.inner_band or 1 for engine in self.engines)
        high = max(least, min(-(-self.rows // pieces), _MOST // line), 1)
        high = min(high, max(_LONG // (line * max(engine.products for engine in self.engines)), ROWS))
        return -(-self.rows // -(-self.rows // high)) + 3 & ~3  # about as many each, in fours

    def _last_row(self, region: Region) -> int:
        """Return how many rows of the picture, from the top, have to be there for a region."""
        last = 1
        for axis, border in ((engine.geometry.vertical, engine.geometry.border) for engine in self.engines):
            is_near = border.partition(":")[0] in NEAR_BORDERS
            seen = (region.bottom - 1) * axis.stride + axis.reach - axis.before
            last = max(last, min(seen, axis.size) if is_near else axis.size)
        return last


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
