"""Compare a compiled loop with its twin: a plain function that says what the loop computes.

The twins of a folder are in its ``loop_twins.py``; its ``test_loop_twins.py`` compares them on many shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnnfilter.jit.loop import Loop


def assert_twin(
    loop: Loop,
    twin: Callable[..., Any],
    arguments: Sequence[Any],
    results: Sequence[int],
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
) -> None:
    """Assert that a loop gives what its twin gives, compiled and as plain Python.

    `results` are the positions of the arrays that the loop fills. Without tolerances they must be the same to the
    bit; what the loop returns must be the same in any case.
    """
    expected_value, expected = _called(twin, arguments, results)
    for call in (loop, loop.function):
        value, found = _called(call, arguments, results)
        assert value == expected_value
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            if rtol or atol:
                np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)
            else:
                np.testing.assert_array_equal(_bits(one), _bits(other))


def _called(call: Callable[..., Any], arguments: Sequence[Any], results: Sequence[int]) -> tuple[Any, list[Any]]:
    """Call with copies of the arrays; return the value, and the arrays at `results` afterwards."""
    copies = [one.copy() if isinstance(one, np.ndarray) else one for one in arguments]
    with np.errstate(all="ignore"):  # wrapping around and NaN are part of what loops do
        value = call(*copies)
    return value, [copies[index] for index in results]


def _bits(array: Any) -> Any:
    """Return floats as whole numbers, among which NaN equals itself, and 0 is not -0."""
    return array.view(f"u{array.itemsize}") if array.dtype.kind == "f" else array


def whole_floats(rng: np.random.Generator, shape: tuple[int, ...] | int, dtype: str, top: int = 255) -> Any:
    """Return whole numbers up to `top` of any dtype, so that sums of some of them are exact in float32."""
    low = -top if dtype == "f4" else 0
    return rng.integers(low, top, shape, endpoint=True).astype(dtype)
