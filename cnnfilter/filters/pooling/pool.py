"""Pooling: the largest, the smallest or the mean of each window.

This module follows the rules of PyTorch (MaxPool2d, AvgPool2d) in all corner cases, and plans each axis. The loops
over the samples are in `cnnfilter.filters.pooling.any_window_loops` and `small_window_loops`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cnnfilter.errors import ShapeError, count_text
from cnnfilter.filters.output import allocate_out
from cnnfilter.filters.pooling import any_window_loops as loops
from cnnfilter.filters.pooling import small_window_loops
from cnnfilter.filters.windows import Axis, Padding, Pair, pair, whole_numbers
from cnnfilter.runtime.parallel import run_in_bands

OPERATIONS = ("max", "avg", "min")
"""The operations of `pool`: the largest value, the mean and the smallest value of a window."""

_BAND_ROWS_MIN = 64
"""Rows of a band at the least: its first row combines all rows of its window, which other rows share."""

_SHARED_ROWS_MIN = 4
"""Rows of a window, divided by its stride, from which on it pays to combine shared rows once (measured)."""

_BAND_SAMPLE_READS_MAX = 1 << 28
"""Samples of a band times rows of its windows at the most: some tenths of a second.

A run can be interrupted between bands."""

Pixels = NDArray[Any]


def pool(
    pixels: Pixels,
    op: str = "max",
    *,
    size: Pair = 2,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    dtype: DTypeLike | None = None,
    threads: int | None = None,
    out: Pixels | None = None,
) -> Pixels:
    """Pool each channel of a picture by itself, by PyTorch's rules.

    Parameters
    ----------
    pixels : (H, W) or (H, W, C) array
        uint8, uint16 and float32 stay as they are, any other type is converted to float32.
    op : "max", "avg" or "min"
    size : int or (height, width)
        The window, in samples.
    stride : int or (down, across), optional
        The step from window to window; the window's size if not given.
    padding : int, (H, W) or (top, right, bottom, left)
        Rows and columns around the picture, at most half the window. They are never the maximum or minimum, and
        count as 0 in the mean.
    dilation : int or (down, across)
        The distance between the samples of a window.
    ceil_mode : bool
        Whether there is a last window that only partly fits. A window that would start in the padding after the
        picture is left out.
    count_include_pad : bool
        Whether the mean divides by the padding's samples too. Positions outside the padding never count.
    dtype : dtype, optional
        Of the result: uint8, uint16 (rounded half up, then saturated) or float32. By default max and min keep the
        type of the input, and avg gives float32.
    threads : int, optional
        All cores if not given; the result is the same for any number.
    out : array, optional
        Filled with the result and returned: C-contiguous and writeable, of the result's shape and type, in memory of
        its own.

    Returns
    -------
    (H', W') or (H', W', C) array
        With ``H' = floor((H + top + bottom - dilation * (size - 1) - 1) / stride) + 1``; ceil for
        `ceil_mode`.

    Raises
    ------
    ShapeError
        The window does not fit, the padding is more than half of the window, a size, stride or dilation is below 1,
        or `out` is not such an array.

    Examples
    --------
    >>> import numpy as np
    >>> picture = np.array([[1, 2, 0, 0], [3, 4, 0, 8], [0, 0, 5, 5], [0, 0, 5, 6]], np.uint8)
    >>> pool(picture, size=2)
    array([[4, 8],
           [0, 6]], dtype=uint8)
    >>> pool(picture, "avg", size=2)
    array([[2.5 , 2.  ],
           [0.  , 5.25]], dtype=float32)
    >>> pool(picture, "avg", size=2, dtype=np.uint8)
    array([[3, 2],
           [0, 5]], dtype=uint8)
    >>> out = np.empty((2, 2), np.uint8)
    >>> pool(picture, out=out) is out
    True

    References
    ----------
    PyTorch: torch.nn.MaxPool2d, torch.nn.AvgPool2d; for an average with dilation, which PyTorch lacks, ONNX's
    AveragePool (opset 19).
    """
    pooled = pool_picture(
        pixels,
        op,
        size=size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        dtype=dtype,
        threads=threads,
        allocate=allocate_out(out, pixels),
    )
    if out is not None:
        return out
    return pooled[:, :, 0] if np.ndim(pixels) == 2 else pooled


def pool_picture(
    pixels: Pixels,
    op: str = "max",
    *,
    size: Pair = 2,
    count_include_pad: bool = True,
    dtype: DTypeLike | None = None,
    threads: int | None = None,
    allocate: Callable[..., Pixels] = np.empty,
    **window: Any,
) -> Pixels:
    """Pool a picture into an array (H', W', C) that `allocate` makes from its shape and dtype.

    The other parameters are those of `pool`; `window` holds its stride, padding, dilation and ceil_mode.
    """
    if op not in OPERATIONS:
        raise ShapeError(f"no pooling {op!r}: max, avg or min would do")
    source = _three_axes(pixels)
    height, width, _ = source.shape
    rows, columns = pool_axes(height, width, size, **window)
    wanted = np.dtype(dtype or (np.float32 if op == "avg" else source.dtype))
    if wanted.kind != "f" and wanted not in (np.uint8, np.uint16):
        raise ShapeError(f"dtype {wanted}: uint8, uint16 or float32 would do")
    # 8 and 16 bits are rounded once, from the exact sum.
    direct = source.dtype if op != "avg" or wanted == source.dtype else np.dtype(np.float32)
    shape = rows.outputs, columns.outputs, source.shape[2]
    result = allocate(shape, wanted)
    pooled = result if direct == wanted else np.empty(shape, direct)
    small = _small(source, op, rows, columns, direct, count_include_pad)
    if small:
        _pool_small_windows(small, source, pooled, rows, columns, threads)
    elif op == "avg":
        _pool_means(source, pooled, rows, columns, count_include_pad, threads)
    else:
        _pool_extremes(source, op, pooled, rows, columns, threads)
    if direct != wanted:
        _convert(pooled, result)
    return result


def global_pool(
    pixels: Pixels, op: str = "max", *, dtype: DTypeLike | None = None, threads: int | None = None
) -> Pixels:
    """Return one number for each channel: the maximum, minimum or mean of the whole picture.

    Parameters
    ----------
    pixels : (H, W) or (H, W, C) array
    op, dtype, threads
        As for `pool`.

    Returns
    -------
    (1, 1) or (1, 1, C) array

    Examples
    --------
    >>> import numpy as np
    >>> global_pool(np.array([[1, 2], [3, 5]], np.float32), "avg")
    array([[2.75]], dtype=float32)
    """
    return pool(pixels, op, size=np.shape(pixels)[:2], dtype=dtype, threads=threads)


@dataclass(frozen=True)
class PoolAxis(Axis):
    """The windows along one axis, by PyTorch's rules: their number, and the number of samples in each."""

    ceil_mode: bool = False

    @functools.cached_property
    def outputs(self) -> int:
        """Return the number of windows; in ceil mode the last one may fit only partly."""
        span = self.size + self.before + self.after - self.reach
        if not self.ceil_mode:
            return span // self.stride + 1
        count = -(-span // self.stride) + 1
        # The last window must start in the picture or in the padding before it.
        return count - 1 if (count - 1) * self.stride >= self.size + self.before else count

    def are_whole(self, *, include_pad: bool) -> bool:
        """Return whether every window counts all of its samples."""
        low, high = (-self.before, self.size + self.after) if include_pad else (0, self.size)
        end = (self.outputs - 1) * self.stride - self.before + self.reach
        return low <= -self.before and end <= high

    def counts(self, *, include_pad: bool) -> NDArray[np.int64]:
        """Return the number of samples of each window along this axis that the mean divides by."""
        starts = np.arange(self.outputs) * self.stride - self.before
        taps = starts[:, None] + np.arange(self.taps) * self.dilation
        low, high = (-self.before, self.size + self.after) if include_pad else (0, self.size)
        counted: NDArray[np.int64] = np.count_nonzero((taps >= low) & (taps < high), axis=1)
        return counted


def pool_axes(
    height: int,
    width: int,
    size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> tuple[PoolAxis, PoolAxis]:
    """Return the windows of `pool` down and across a picture. The parameters are those of `pool`.

    Raises
    ------
    ShapeError
        As `pool`.
    """
    taps = pair(size, "size")
    steps = taps if stride is None else pair(stride, "stride")
    return _axes(height, width, taps, steps, pair(dilation, "dilation"), _sides(padding), ceil_mode)


@functools.lru_cache
def _axes(
    height: int,
    width: int,
    taps: tuple[int, int],
    steps: tuple[int, int],
    spread: tuple[int, int],
    sides: tuple[int, int, int, int],
    ceil_mode: bool,
) -> tuple[PoolAxis, PoolAxis]:
    """Return the windows; they are cached for the next picture of a batch."""
    top, right, bottom, left = sides
    _refuse_wide_padding(sides, taps)
    down = PoolAxis(height, taps[0], steps[0], spread[0], top, bottom, ceil_mode)
    across = PoolAxis(width, taps[1], steps[1], spread[1], left, right, ceil_mode)
    if min(down.outputs, across.outputs) < 1:
        padded = f"{height + top + bottom}x{width + left + right}"
        raise ShapeError(
            f"a window of {down.reach}x{across.reach} does not fit into {padded} samples"
            f" (a picture of {height}x{width} and its padding); a smaller size would do"
        )
    return down, across


def _sides(padding: Padding) -> tuple[int, int, int, int]:
    """Return (top, right, bottom, left) from one number, from (H, W), or from all four."""
    numbers = whole_numbers(padding)
    if len(numbers) not in (1, 2, 4) or min(numbers) < 0:
        raise ShapeError(f"padding {padding} is not one, two or four whole numbers of at least 0")
    if len(numbers) == 4:
        top, right, bottom, left = numbers
        return top, right, bottom, left
    down, across = numbers[0], numbers[-1]
    return down, across, down, across


def _refuse_wide_padding(sides: tuple[int, int, int, int], taps: tuple[int, int]) -> None:
    for padding, size in ((max(sides[::2]), taps[0]), (max(sides[1::2]), taps[1])):
        if 2 * padding > size:
            raise ShapeError(
                f"padding {padding} is more than half of the window's {count_text(size, 'sample')}; "
                f"at most {size // 2} would do"
            )


def _three_axes(pixels: Pixels) -> Pixels:
    array = np.asarray(pixels)
    if array.dtype not in (np.uint8, np.uint16, np.float32):
        array = array.astype(np.float32)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or 0 in array.shape:
        raise ShapeError(f"pixels of shape {np.shape(pixels)}: must be (H, W) or (H, W, C), none of them 0")
    return np.ascontiguousarray(array)


def _small(
    source: Pixels, op: str, rows: PoolAxis, columns: PoolAxis, target: np.dtype[Any], include_pad: bool
) -> tuple[Any, ...] | None:
    """Return the arguments of `small_windows`, or None where it has no loop for these windows and types."""
    window = rows.taps, rows.stride, 0 if rows.stride == 1 else source.shape[2]
    alike = (columns.taps, columns.stride, rows.dilation, columns.dilation) == (rows.taps, rows.stride, 1, 1)
    if not alike or window not in small_window_loops.SMALL_WINDOWS:
        return None
    if op == "avg" and not (rows.are_whole(include_pad=include_pad) and columns.are_whole(include_pad=include_pad)):
        return None
    asked = (op, source.dtype.str[1:], target.str[1:], *window)
    return asked if asked[:3] in small_window_loops.VECTOR_INSTRUCTIONS else None


def _pool_small_windows(
    asked: tuple[Any, ...], source: Pixels, pooled: Pixels, rows: PoolAxis, columns: PoolAxis, threads: int | None
) -> None:
    """Pool by a loop that is made for the window and the types.

    The loop computes a fixed number of rows at once. A result of fewer rows is computed with more of them, whose
    windows lie in padding below the picture: the loops of other windows would round the sums differently.
    """
    channels = source.shape[2]
    flat, target = source.reshape(source.shape[0], -1), pooled.reshape(rows.outputs, -1)
    if rows.outputs < small_window_loops.TILE_ROWS:
        target = np.empty((small_window_loops.TILE_ROWS, target.shape[1]), target.dtype)
    loop = small_window_loops.small_windows(*asked)
    blank = np.full(flat.shape[1], _neutral(asked[0], source.dtype), source.dtype)
    parts, spares = small_window_loops.scratch_shapes(asked, channels)

    def band(y0: int, y1: int) -> None:
        part, spare = np.empty(parts, source.dtype), np.empty(spares, pooled.dtype)
        loop(flat, blank, part, spare, target, channels, rows.before, columns.before, y0, y1)

    run_in_bands(band, len(target), threads=threads)
    if rows.outputs < small_window_loops.TILE_ROWS:
        pooled.reshape(rows.outputs, -1)[...] = target[: rows.outputs]


def _neutral(op: str, dtype: np.dtype[Any]) -> float:
    """Return the value of the padding: one that is never the maximum or minimum, or adds nothing to a sum."""
    if op == "avg":
        return 0
    lowest, highest = (-np.inf, np.inf) if dtype.kind == "f" else (0, np.iinfo(dtype).max)
    return lowest if op == "max" else highest


def _pool_extremes(
    source: Pixels, op: str, pooled: Pixels, rows: PoolAxis, columns: PoolAxis, threads: int | None
) -> None:
    flat, target = source.reshape(source.shape[0], -1), pooled.reshape(rows.outputs, -1)
    window = _window(source.shape[2], rows, columns)
    neutral, shares_rows = _neutral(op, source.dtype), _shares_rows(rows)

    def band(y0: int, y1: int) -> None:
        work = _lines(source.shape[2], columns, source.dtype)
        if source.dtype.kind == "u" and not shares_rows:
            loops.extremes(op)(flat, work, target, window, y0, y1, int(neutral))
            return
        ring = np.empty((min(rows.reach, rows.size) + 1, target.shape[1]), source.dtype)
        loops.ring_extremes(op)(flat, work, ring, target, window, y0, y1, neutral, int(shares_rows))

    run_in_bands(band, rows.outputs, threads=threads, max_rows=_band_rows_max(rows, target.shape[1], shares_rows))


def _pool_means(
    source: Pixels, pooled: Pixels, rows: PoolAxis, columns: PoolAxis, include_pad: bool, threads: int | None
) -> None:
    channels = source.shape[2]
    flat, target = source.reshape(source.shape[0], -1), pooled.reshape(rows.outputs, -1)
    window = _window(channels, rows, columns)
    # A dilated window can lie wholly in the padding. Its mean is 0, as that of an empty window in PyTorch.
    high, wide = (np.maximum(axis.counts(include_pad=include_pad), 1.0) for axis in (rows, columns))
    is_integer = pooled.dtype.kind == "u"
    high, wide = (np.reciprocal(high), np.reciprocal(wide)) if is_integer else (high, wide)
    wide = np.repeat(wide, channels)
    moves = source.dtype.kind == "u" and _shares_rows(rows)
    sums: np.dtype[Any] = np.dtype(np.float64)
    if source.dtype.kind == "u" and np.iinfo(source.dtype).max * rows.taps * columns.taps <= np.iinfo(np.int32).max:
        sums = np.dtype(np.int32)

    def band(y0: int, y1: int) -> None:
        work = _lines(channels, columns, sums)
        loops.means()(flat, work, target, high, wide, window, y0, y1, int(moves), int(is_integer))

    run_in_bands(band, rows.outputs, threads=threads, max_rows=_band_rows_max(rows, target.shape[1], moves))


def _shares_rows(rows: PoolAxis) -> bool:
    """Return whether neighbouring windows share so many rows that it pays to combine these once."""
    return rows.dilation == 1 and rows.taps >= _SHARED_ROWS_MIN * rows.stride


def _band_rows_max(rows: PoolAxis, samples: int, shares_rows: bool) -> int:
    """Return the rows of a band at the most, for output rows of `samples` samples.

    A run can be interrupted between bands. If `shares_rows`, the rows that windows share are combined once.
    """
    if shares_rows:
        return max(_BAND_ROWS_MIN, rows.taps, _BAND_SAMPLE_READS_MAX // (samples * _SHARED_ROWS_MIN * rows.stride))
    return max(_BAND_ROWS_MIN, _BAND_SAMPLE_READS_MAX // (samples * rows.taps))


def _window(channels: int, rows: PoolAxis, columns: PoolAxis) -> NDArray[np.int64]:
    """Return the window as the loops take it."""
    pairs = [(axis.taps, axis.stride, axis.dilation, axis.before) for axis in (rows, columns)]
    return np.array([channels, *(number for both in zip(*pairs, strict=True) for number in both)], np.int64)


def _lines(channels: int, columns: PoolAxis, dtype: np.dtype[Any]) -> Pixels:
    """Return memory for rows as wide as all windows of a row together."""
    reach = (columns.outputs - 1) * columns.stride + columns.reach
    return np.empty((loops.WORK_ROWS, reach * channels), dtype)


def _convert(pooled: Pixels, result: Pixels) -> None:
    """Store a pooled picture as another type; integers are rounded half up and saturate."""
    if result.dtype.kind == "u":
        rounded: NDArray[np.float64] = np.nan_to_num(np.floor(pooled.astype(np.float64) + 0.5))
        pooled = rounded.clip(0, np.iinfo(result.dtype).max)
    np.copyto(result, pooled, casting="unsafe")
