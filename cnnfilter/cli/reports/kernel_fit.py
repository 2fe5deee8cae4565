"""A fitted kernel as text for ``-k``, and the quality of the fit in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnfilter.cli.reports.kernel_drawing import number_texts
from cnnfilter.kernels.files import kernel_text
from cnnfilter.kernels.structure import integers_over_divisor

if TYPE_CHECKING:
    from cnnfilter.images.image import Image
    from cnnfilter.kernels.fitting import Residual
    from cnnfilter.kernels.kernel import Kernel


def kernel_option_text(kernel: Kernel, exact: bool) -> str:
    """Return the weights as text for -k, as fractions if they are whole numbers over a divisor."""
    if exact or integers_over_divisor(kernel.weights) is None:
        return kernel_text(kernel.weights)
    return "; ".join(" ".join(row) for row in number_texts(kernel.weights))


def residual_record(residual: Residual) -> dict[str, Any]:
    """Return a residual as a dictionary for JSON."""
    return {**residual._asdict(), "error": residual.error.tolist()}


def fit_lines(kernel: Kernel, residual: Residual, name: str | None, pictures: tuple[Image, Image]) -> list[str]:
    """Return lines about the fit: the residual, the name of the kernel, its bias, and reasons for doubt."""
    lines = [
        f"residual: {residual.rms:.4g} (root mean square), {residual.max:.4g} at most; "
        f"explains {100 * max(0.0, residual.explained):.4g} % of AFTER, over {residual.samples:,} samples"
        + (f", {residual.clipped:,} at the ends of the range left out" if residual.clipped else "")
    ]
    if name:
        lines.append(f"this is {name}")
    if kernel.offset:
        lines.append(f"bias: {kernel.offset:.6g} (--bias {kernel.offset:.6g})")
    depths = [image.pixels.dtype.name for image in pictures]
    if depths[0] != depths[1]:
        lines.append(f"BEFORE is {depths[0]} and AFTER {depths[1]}: the kernel is in their own units")
    if residual.explained < 0.9:
        lines.append(
            "that is a poor fit: AFTER may not be a linear filter of BEFORE (absolute values, a curve), or "
            "needs a larger --size or --bias"
        )
    return lines
