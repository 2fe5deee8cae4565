"""The properties of a kernel in words and as data: size, sum, symmetry, rank, response to an impulse and a ramp."""

from __future__ import annotations

import math
import shutil
import sys
from typing import Any

import numpy as np

from cnnfilter.cli.reports.kernel_drawing import draw_blocks, drawing_step, number_texts, wants_colour
from cnnfilter.kernels.kernel import Kernel
from cnnfilter.kernels.structure import integers_over_divisor, scale_to_one, symmetries

_WHOLE_NUMBER_MAX = 10_000
"""Whole numbers over a divisor are shown up to four digits, as many as decimals have; learned filters have more."""

_FLOAT_MAX = f"{sys.float_info.max:.2g}"

_DECIMALS_MIN, _DECIMALS_MAX = 1e-4, 1e16
"""Largest weights between these are written as decimals, others with an exponent: 1e-06, 2.5e+20."""


def kernel_record(kernel: Kernel) -> dict[str, Any]:
    """Return the properties of a kernel as a dictionary for JSON, with every digit.

    A sum or a response to a ramp that no float holds is None.
    """
    down, right = _ramps(kernel)
    found = integers_over_divisor(kernel.weights)
    return {
        "name": kernel.name,
        "weights": kernel.weights.tolist(),
        "whole_numbers": {"numbers": found[0].tolist(), "divisor": found[1]} if found else None,
        "offset": kernel.offset,
        "sum": _finite(kernel.sum),
        "symmetry": symmetries(kernel.weights),
        "rank": kernel.rank,
        "factors": [{"column": column.tolist(), "row": row.tolist()} for column, row in kernel.factors],
        "impulse": kernel.flip().weights.tolist(),
        "ramp_down": _finite(down),
        "ramp_right": _finite(right),
        "purpose": kernel.purpose,
        "source": kernel.source,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _ramps(kernel: Kernel) -> tuple[float, float]:
    """Return the responses to two ramps, downwards and to the right, at the pixel where each is 0.

    The ramps rise by 1 per pixel. A response is infinite if no float holds it.
    """
    weights, exponent = scale_to_one(kernel.weights)  # so that no sum of them overflows
    moments = []
    for axis in (0, 1):
        size = kernel.shape[axis]
        line = weights.sum(axis=1 - axis)
        moment = float(line @ (np.arange(size) - (size - 1) // 2))
        # A moment this small is only the rounding error of terms that cancel.
        if abs(moment) <= 1e-9 * size * np.abs(weights).sum():
            moment = 0.0
        with np.errstate(over="ignore"):
            moments.append(float(np.ldexp(moment, exponent)))
    return moments[0], moments[1]


def kernel_lines(kernel: Kernel) -> list[str]:
    """Return the weights, the drawing and the properties of a kernel as lines of text."""
    height, width = kernel.shape
    lines = [f"{kernel.name}: {kernel.purpose}" if kernel.purpose else kernel.name, ""]
    lines += [f"  {line}" for line in _side_by_side(_weight_lines(kernel), _drawing_lines(kernel))]
    lines += ["", _fact("size", f"{height}x{width} (height x width)"), _fact("sum", _sum_in_words(kernel))]
    if kernel.offset:
        lines.append(_fact("offset", f"{kernel.offset:g} is added to every result"))
    lines.append(_fact("symmetry", kernel.symmetry))
    lines += _rank_lines(kernel)
    lines += _impulse_lines(kernel)
    lines += [
        _fact(f"ramp {direction}", _ramp_in_words(kernel.sum, slope))
        for direction, slope in zip(("down", "right"), _ramps(kernel), strict=True)
    ]
    if kernel.source:
        lines.append(_fact("source", kernel.source))
    return lines


def _fact(name: str, text: str) -> str:
    return f"  {name:<11} {text}"


def _side_by_side(left: list[str], right: list[str]) -> list[str]:
    """Return two blocks of lines side by side if the terminal is wide enough, else one below the other."""
    if not left:
        return right
    width = max(map(len, left))
    if width + 4 + 3 * len(left) > _columns():
        return [*left, "", *right]
    pairs = zip(left, [*right, *[""] * (len(left) - len(right))], strict=False)
    return [f"{a:<{width}}    {b}".rstrip() for a, b in pairs]


def _columns() -> int:
    return shutil.get_terminal_size().columns - 4


def _weight_lines(kernel: Kernel) -> list[str]:
    """Return the weights as a table, if possible as whole numbers over a divisor; [] if it is too large."""
    found = integers_over_divisor(kernel.weights)
    if found and (found[1] == 1 or np.abs(found[0]).max() < _WHOLE_NUMBER_MAX):
        whole, divisor = found
        table, after = [[str(v) for v in row] for row in whole], f"  / {divisor}" if divisor > 1 else ""
    else:
        # The largest weight gets four digits, the others as many decimal places.
        largest = float(np.abs(kernel.weights).max())
        has_decimals = _DECIMALS_MIN <= largest < _DECIMALS_MAX
        form = f".{max(0, 3 - math.floor(math.log10(largest)))}f" if has_decimals else ".4g"
        table, after = [[f"{v:{form}}" for v in row] for row in kernel.weights], ""
    cell = max(len(word) for row in table for word in row)
    lines = ["  ".join(f"{word:>{cell}}" for word in row) for row in table]
    if len(lines[0]) > _columns() or len(lines) > 40:
        return []
    lines[(len(lines) - 1) // 2] += after
    return lines


def _drawing_lines(kernel: Kernel) -> list[str]:
    lines = draw_blocks(
        kernel.weights,
        columns=_columns(),
        colour=wants_colour(sys.stdout),
        encoding=getattr(sys.stdout, "encoding", None) or "ascii",
    )
    step = drawing_step(kernel.shape, _columns())
    return [*lines, f"(one of every {step}x{step} weights is drawn)"] if step > 1 else lines


def _sum_in_words(kernel: Kernel) -> str:
    if kernel.is_zero_sum:
        return "0: an even area becomes 0, what differs remains"
    if abs(kernel.sum - 1) < 1e-9:
        return "1: brightness is kept"
    total = f"{kernel.sum:.6g}"
    if math.isinf(kernel.sum):
        total = f"more than {_FLOAT_MAX}" if kernel.sum > 0 else f"less than -{_FLOAT_MAX}"
    return f"{total}: brightness is multiplied by it (--normalize divides by it)"


def _rank_lines(kernel: Kernel) -> list[str]:
    if kernel.rank > 1:
        return [_fact("rank", f"{kernel.rank}: a sum of {kernel.rank} separable kernels")]
    column, row = kernel.factors[0]
    lines = [_fact("rank", "1: separable, a column times a row")]
    if max(kernel.shape) > 15:
        return lines
    return [*lines, _fact("  column", _factor_text(column)), _fact("  row", _factor_text(row))]


def _factor_text(values: Any) -> str:
    return "  ".join(number_texts(values[None, :])[0])


def _impulse_lines(kernel: Kernel) -> list[str]:
    """Describe the response to one bright pixel: the kernel turned by 180 degrees, since it is applied as drawn."""
    if "half turn" in _even_symmetries(kernel):
        return [_fact("impulse", "one bright pixel becomes the kernel as drawn")]
    turned = _weight_lines(kernel.flip())
    lines = [_fact("impulse", "one bright pixel becomes the kernel turned by 180 degrees" + ":" * bool(turned))]
    return lines + [_fact("", line) for line in turned]


def _even_symmetries(kernel: Kernel) -> set[str]:
    return {name for name, kind in symmetries(kernel.weights).items() if kind == "even"}


def _ramp_in_words(total: float, slope: float) -> str:
    """Describe the response to a pixel v in a picture that rises by 1 per pixel."""
    if math.isinf(total) or math.isinf(slope):
        return f"where it rises by 1 a pixel, the result is beyond {_FLOAT_MAX}, the largest float"
    if total == 0:
        result = f"{slope:.6g}"
    else:
        result = "v" if abs(total - 1) < 1e-9 else f"{total:.6g} v"
        result += f" {'+' if slope > 0 else '-'} {abs(slope):.6g}" if slope else ""
    return f"where it rises by 1 a pixel, v becomes {result}"
