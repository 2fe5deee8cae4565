"""The positions of a kernel's window in an image, or in a padded copy of a region of it.

The loops need an offset for each row and each tap. Summing is left to the algorithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.filters.convolution.border_loops import fill
from cnnfilter.filters.convolution.direct_loops import BLOCK_SAMPLES, OVERREAD_SAMPLES
from cnnfilter.filters.windows import Axis, border_constant, source_positions
from cnnfilter.runtime.buffers import Memory

Samples = NDArray[Any]

_SCRATCH_SAMPLES_MAX = 3 << 16
"""Samples of a padded copy that stay in the second-level cache: 768 KiB of float32."""


@dataclass(frozen=True)
class Geometry:
    """The positions of a kernel's window, in the image and in a padded copy of it.

    A row of the copy holds the padded row. If it is `phased`, its columns are sorted into as many phases as the
    horizontal stride `s` (all columns 0, s, 2s…, then 1, s + 1, …). Then the samples that one tap needs for
    neighbouring outputs are neighbours, and a tap is one offset for all outputs of a row.

    Attributes
    ----------
    vertical, horizontal : the windows down and across the image
    channels : samples of a pixel
    border : the values of the padding, as in `convolve`
    phased : whether the copy has its columns sorted into phases
    """

    vertical: Axis
    horizontal: Axis
    channels: int
    border: str
    phased: bool = True

    @property
    def outputs(self) -> tuple[int, int]:
        """Return the height and width of the result."""
        return self.vertical.outputs, self.horizontal.outputs

    @property
    def row_step(self) -> int:
        """Return the distance between the windows of two neighbouring output rows, in rows of the copy."""
        return self.vertical.stride

    @property
    def _phases(self) -> int:
        return self.horizontal.stride if self.phased else 1

    @cached_property
    def _phase_columns(self) -> int:
        """Return the number of columns of one phase."""
        axis = self.horizontal
        return -(-((axis.outputs - 1) * axis.stride + axis.reach) // self._phases)

    def column_offsets(self) -> NDArray[np.int64]:
        """Return the offset of each column of the kernel from its column 0, in samples."""
        axis = self.horizontal
        columns = np.arange(axis.taps) * axis.dilation
        return (columns % self._phases * self._phase_columns + columns // self._phases) * self.channels

    def row_numbers(self) -> NDArray[np.int64]:
        """Return the offset of each row of the kernel from its row 0, in rows."""
        return np.arange(self.vertical.taps) * self.vertical.dilation

    @cached_property
    def inner(self) -> Region:
        """Return the outputs that can be computed from the image itself, without a padded copy.

        The window of such an output lies within the columns of the image. Above and below the image, the rows of the
        border are rows of the image, unless the border is a constant. The region is empty if its rows are too short
        for the loops, which may read beyond the end of a short row.
        """
        if self.horizontal.stride > 1:
            return Region(0, 0, 0, 0)
        edges = []
        for axis in (self.vertical, self.horizontal):
            first = min(-(-axis.before // axis.stride), axis.outputs)
            end = (axis.size + axis.before - axis.reach) // axis.stride + 1
            edges += [first, max(min(end, axis.outputs), first)]
        if border_constant(self.border) is None:
            edges[:2] = 0, self.vertical.outputs
        inner = Region(*edges)
        return inner if self._is_long(inner) else Region(0, 0, 0, 0)

    def is_inner(self, region: Region) -> bool:
        """Return whether `region` lies in the inner region, and its rows are long enough for the loops."""
        return self._is_long(region) and region.overlap(self.inner) == region

    def _is_long(self, region: Region) -> bool:
        return (region.right - region.left) * self.channels >= BLOCK_SAMPLES

    @property
    def row_samples(self) -> int:
        """Return the samples of one row of the copy, for a whole row of output."""
        return self._phase_columns * self._phases * self.channels

    def window(self, source: Samples, region: Region) -> RowOffsets:
        """Return the rows of `source` (H, W·C) that an inner region needs, from its first column on."""
        left = (region.left - self.horizontal.before) * self.channels
        return RowOffsets(source.reshape(-1), self._needed(region) * source.shape[1] + left)

    def _needed(self, region: Region) -> NDArray[np.int64]:
        """Return the rows of the image that `region` needs, −1 for a row of the border's constant."""
        top = region.top * self.row_step
        rows, *_ = self._sources
        return rows[top : top + (region.bottom - region.top - 1) * self.row_step + self.vertical.reach]

    def source_offsets(self, source: Samples, region: Region) -> tuple[RowOffsets, NDArray[np.int64]]:
        """Return the rows of `source` (H, W·C) that `region` needs, and the columns; −1 for the border's constant.

        The horizontal stride has to be 1.
        """
        _, columns, _, _ = self._sources
        rows = np.maximum(self._needed(region) * source.shape[1], -1)
        seen = columns[region.left : region.right - 1 + self.horizontal.reach]
        return RowOffsets(source.reshape(-1), rows), seen

    def fill(self, source: Samples, region: Region, dtype: Any, memory: Memory) -> RowOffsets:
        """Return a padded copy of the part of `source` (H, W·C) that `region` needs.

        The next copy with the same `memory` overwrites it. With more than one phase, `region` has to have all columns.
        """
        _, columns, left, right = self._sources
        if self._phases == 1:
            step = self.horizontal.stride
            first, end = region.left * step, (region.right - 1) * step + self.horizontal.reach
            columns = columns[first:end]
            left, right = max(min(left, end) - first, 0), max(min(right, end) - first, 0)
        needed = self._needed(region)
        line = len(columns) * self.channels
        samples = memory.array("padded copy", (len(needed) * line + OVERREAD_SAMPLES,), dtype)
        copy = samples[: len(needed) * line].reshape(-1, line)
        constant = border_constant(self.border) or 0.0
        fill(source, copy, needed, columns, self.channels, left, right, constant)
        return RowOffsets(samples, np.arange(len(needed)) * line)

    @cached_property
    def _sources(self) -> tuple[NDArray[np.int64], NDArray[np.int64], int, int]:
        """Return the source rows, the source columns in the copy's order, and the ends of their unbroken run."""
        axis = self.horizontal
        rows = source_positions(self.vertical, self.border)
        columns = source_positions(axis, self.border)
        if self._phases == 1:
            columns = columns[: self._phase_columns]
            left = min(axis.before, len(columns))
            return rows, columns, left, max(left, min(len(columns), axis.before + axis.size))
        padded = np.full(self._phase_columns * self._phases, columns[-1])
        count = min(len(padded), len(columns))
        padded[:count] = columns[:count]
        columns = padded.reshape(self._phase_columns, self._phases).T.ravel()
        return rows, np.ascontiguousarray(columns), len(columns), len(columns)


class Region(NamedTuple):
    """A rectangle of outputs."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def is_empty(self) -> bool:
        """Return whether the region has no outputs."""
        return self.top >= self.bottom or self.left >= self.right

    def with_side_strips(self, min_columns: int, columns: int) -> Region:
        """Return the region, narrowed where a strip beside it, in a result of `columns`, is below `min_columns`."""
        left = max(self.left, min_columns) if self.left > 0 else 0
        right = min(self.right, columns - min_columns) if self.right < columns else columns
        return Region(self.top, self.bottom, left, right)

    def overlap(self, other: Region) -> Region:
        """Return the outputs that are in both regions."""
        return Region(
            max(self.top, other.top),
            min(self.bottom, other.bottom),
            max(self.left, other.left),
            min(self.right, other.right),
        )


class RowOffsets(NamedTuple):
    """Rows of samples: row `r` begins at ``samples[starts[r]]``."""

    samples: Samples
    starts: NDArray[np.int64]


def rows_per_copy(geometry: Geometry) -> int:
    """Return the output rows of a padded copy: it stays in the cache, and shares few of its rows with the next copy."""
    rows = (_SCRATCH_SAMPLES_MAX // max(geometry.row_samples, 1) - geometry.vertical.reach) // geometry.row_step + 1
    return max(rows, geometry.vertical.reach // geometry.row_step, 8) & ~1
