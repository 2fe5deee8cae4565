"""One scale for all float pictures of a data set, and the note that says which it is.

Which ranges fit a scale is in `cnnfilter.networks.float_scales`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import CnnfilterError, DataError
from cnnfilter.images.files import read_image
from cnnfilter.images.formats.detect import sniff
from cnnfilter.networks.float_scales import (
    FloatRange,
    Scale,
    count_outside,
    find_scale,
    lies_far_outside,
    refusal,
    show_scale,
)
from cnnfilter.runtime.parallel import default_threads, run_tasks

_UNIT_SHARE_MAX = 0.1
"""Share of the training pictures that may lie within 0…1 while others exceed it: those are dark pictures of 0…255.

Chosen by hand: frames that fade to black are few, while a data set of two scales has many pictures of each.
"""

_DARK_SAMPLE_MAX = 64
"""Highest sample of floats on 0…255 below which the note says how to name another scale: a quarter of the range."""

_HEADER_BYTES = 4096
"""First bytes of a file, by which `sniff` tells its format."""


class PictureRange(NamedTuple):
    """The range of a float picture, its number of samples, and those of them that lie outside a scale that is given."""

    range: FloatRange
    samples: int
    outside: int = 0

    @classmethod
    def of(cls, samples: NDArray[Any], scale: Scale | None) -> PictureRange:
        """Return the range of an array of any shape."""
        found = FloatRange.of(samples)
        exceeds = scale is not None and (found.low < scale[0] or found.high > scale[1])
        return cls(found, samples.size, count_outside(samples, scale) if exceeds and scale is not None else 0)


class Decision(NamedTuple):
    """The scale of the float pictures, and the note about it; None and "" if there are no such pictures."""

    scale: Scale | None = None
    note: str = ""


def has_own_range(dtype: np.dtype[Any]) -> bool:
    """Return whether samples of a type have the range of the type: bytes and unsigned 16-bit numbers."""
    return dtype.kind == "u" and dtype.itemsize <= 2


def array_ranges(pixels: NDArray[Any], scale: Scale | None) -> list[PictureRange]:
    """Return the range of each picture of an array (N, …)."""
    return [PictureRange.of(picture, scale) for picture in pixels]


def file_ranges(
    paths: Sequence[str], max_pixels: int, scale: Scale | None, axes: str | None = None
) -> dict[str, PictureRange]:
    """Return the ranges of the files that hold float pictures, by path; files that cannot be read are left out."""
    found: dict[str, PictureRange] = {}

    def look(path: str) -> None:
        try:
            with open(path, "rb") as file:
                if sniff(file.read(_HEADER_BYTES)) not in ("npy", "tiff"):
                    return
            image = read_image(path, max_pixels=max_pixels, pages="first", axes=axes)
        except (CnnfilterError, OSError):
            return
        if image.pixels.dtype == np.float32:
            found[path] = PictureRange.of(image.colour, scale)

    run_tasks([partial(look, path) for path in paths], default_threads())
    return found


def decide_scale(name: str, splits: Mapping[str, Sequence[PictureRange]], scale: Scale | None = None) -> Decision:
    """Choose the scale of all float pictures of a data set.

    Parameters
    ----------
    name : str
        The data set, for messages.
    splits : mapping
        The ranges of the float pictures of each split.
    scale : (float, float), optional
        The scale that is given; otherwise that which the ranges fit.

    Raises
    ------
    DataError
        If they fit no scale, are on two scales, or lie far outside the one that is given.
    """
    ranges = {split: FloatRange.union(one.range for one in parts) for split, parts in splits.items() if parts}
    whole = FloatRange.union(ranges.values())
    if whole.low > whole.high:
        return Decision()
    if scale is not None:
        if lies_far_outside(whole, scale):
            raise DataError(
                f"{name} has floats from {whole}, far outside the scale {show_scale(scale)}; --scale LO,HI names "
                "another"
            )
        return Decision(scale, _note(ranges, whole, scale) + _clipped_note(splits))
    found = find_scale(whole)
    if found is None:
        raise DataError(refusal(whole, f"{name}: floats"))
    if found != (0.0, 1.0):
        _refuse_two_scales(name, splits, whole)
    dark = f"; if {whole.high:.6g} is white, --scale 0,{whole.high:.6g} says so" if _is_dark(whole, found) else ""
    return Decision(found, _note(ranges, whole, found) + dark)


def _refuse_two_scales(name: str, splits: Mapping[str, Sequence[PictureRange]], whole: FloatRange) -> None:
    split = "train" if splits.get("train") else next(iter(splits))
    unit = sum(1 for one in splits[split] if not one.range.whole and one.range.high <= 1)
    if unit > _UNIT_SHARE_MAX * len(splits[split]):
        raise DataError(
            f"{name} has floats of two scales: {unit:,} of {len(splits[split]):,} pictures of {split} are within 0…1, "
            f"others reach {whole.high:.6g}; --scale LO,HI says which samples are black and white in all of them"
        )


def _is_dark(found: FloatRange, scale: Scale) -> bool:
    return scale == (0.0, 255.0) and found.high < _DARK_SAMPLE_MAX


def _note(ranges: Mapping[str, FloatRange], whole: FloatRange, scale: Scale) -> str:
    text = f"scale: floats from {whole} are on {show_scale(scale)}, black to white"
    middle = (scale[1] - scale[0]) / 4
    # A split on another scale than that of the rest shows in its range.
    others = [f"{split} {found}" for split, found in ranges.items() if found.high - found.low < middle]
    return text + (f" ({', '.join(others)})" if others and len(ranges) > 1 else "")


def _clipped_note(splits: Mapping[str, Sequence[PictureRange]]) -> str:
    outside = sum(one.outside for parts in splits.values() for one in parts)
    samples = sum(one.samples for parts in splits.values() for one in parts)
    return f"; {outside:,} of {samples:,} samples lie outside it and are clipped" if outside else ""


def refuse_black(title: str, pixels: NDArray[Any]) -> None:
    """Refuse pictures of 16 bits that would all be black as bytes, because they hold numbers of a smaller range.

    Raises
    ------
    DataError
    """
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2 and 1 < (high := int(pixels.max())) <= 255:
        raise DataError(
            f"{title}: 16-bit pictures that reach {high} of 65535 are black; stored as bytes (uint8) they are on 0…255"
        )
