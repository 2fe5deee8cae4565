"""The parameter `out`: an array for the result, which the caller gives and which is checked before it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cnnfilter.errors import ShapeError

Array = NDArray[Any]


def check_out(out: Any, shape: tuple[int, ...], dtype: DTypeLike, source: Any, *, in_place: bool = False) -> None:
    """Refuse an array `out` that cannot hold a result of `shape` and `dtype`.

    Parameters
    ----------
    source : the input of the computation, as the caller gave it
    in_place : whether `out` may be the source itself

    Raises
    ------
    ShapeError
        `out` has another shape or type, is not C-contiguous, aligned and writeable, or shares memory with `source`.
    """
    wanted = f"the result needs a C-contiguous, writeable array of shape {shape} and type {np.dtype(dtype)}"
    if not isinstance(out, np.ndarray):
        raise ShapeError(f"out is of type {type(out).__name__}; {wanted}")
    if out.shape != shape or out.dtype != np.dtype(dtype):
        raise ShapeError(f"out of shape {out.shape} and type {out.dtype} does not fit; {wanted}")
    if not out.flags.carray:
        state = "read-only" if not out.flags.writeable else "not C-contiguous" if out.flags.aligned else "not aligned"
        raise ShapeError(f"out is {state}; {wanted}")
    if not isinstance(source, np.ndarray) or (in_place and _is_same(out, source)):
        return
    if np.may_share_memory(out, source):
        raise ShapeError("out shares memory with the input; the result needs an array of its own")


def _is_same(one: Array, other: Array) -> bool:
    """Return whether two arrays are the same elements in the same order."""
    return all(one.__array_interface__[key] == other.__array_interface__[key] for key in ("data", "shape")) and (
        one.dtype == other.dtype and one.strides == other.strides
    )


def allocate_out(out: Array | None, source: Any) -> Callable[..., Array]:
    """Return a function that gives the array for a result (H, W, C): `out`, or without it a new array.

    The function takes a shape and a dtype, as `numpy.empty` does, and raises ShapeError as `check_out`. If `source` has
    the shape (H, W), so has `out`.
    """
    if out is None:
        return np.empty
    given = out

    def allocate(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        check_out(given, shape[: np.ndim(source)], dtype, source)
        return given.reshape(shape)

    return allocate
