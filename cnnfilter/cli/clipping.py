"""The warning that samples are clipped: from which share on, and what would help, by the kind of the kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cnnfilter.jobs.job import MIN_CLIPPED_SHARE_WARNED

if TYPE_CHECKING:
    from cnnfilter.images.image import Image
    from cnnfilter.kernels.kernel import KernelSet
    from cnnfilter.layers.stack import Layers

MIN_CLIPPED_SHARE_OF_SUM_ONE = 0.1
"""Share of clipped samples above which there is a warning for kernels that sum to 1.

Photos that are sharpened have up to some percent, at edges, where nothing is seen of it.
"""

_ONE_TOLERANCE = 0.02
"""Distance from 1 of a sum that counts as 1: nine times 0.11 is 0.99."""


class ClippingRule(NamedTuple):
    """The advice against clipping, and the share of clipped samples above which there is a warning."""

    advice: str
    min_share: float = MIN_CLIPPED_SHARE_WARNED

    def of(self, image: Image) -> ClippingRule:
        """Return the rule for results of a picture: in one of floats, the values may have any range."""
        return self._replace(advice=_FLOAT_ADVICE) if image.pixels.dtype.kind == "f" else self


class _Words(NamedTuple):
    """The remedies, as the options of a command are called."""

    normalize: str
    bias: str


_CONVOLVE = _Words("--normalize", "a smaller --bias")
_APPLY = _Words("kernels whose weights sum to 1", "a smaller bias=")

_FLOAT_ADVICE = "--signed stretch, -f tiff or -f npy would help"

NETWORK_RULE = ClippingRule("--signed stretch or -f npy would help")
"""The rule for maps of networks, which are not in the units of the picture."""


def rule_of_kernels(chosen: Sequence[KernelSet], combine: str | None, bias: float, signed: str) -> ClippingRule:
    """Return the rule for ``convolve``; `combine`, `bias` and `signed` are its options.

    Examples
    --------
    >>> from cnnfilter.kernels.lookup import find_kernels
    >>> rule_of_kernels([find_kernels("sharpen")], None, 0.0, "auto").advice
    'a weaker kernel or -f npy would help'
    >>> rule_of_kernels([find_kernels("1 1 1")], None, 0.0, "auto").advice
    '--normalize or -f npy would help'
    >>> rule_of_kernels([find_kernels("laplacian")], None, 0.0, "clip").advice
    '--signed abs, --signed offset or -f npy would help'
    """
    found = [kernel for several in chosen for kernel in several]
    combine = combine or (chosen[0].combine if len(chosen) == 1 else "magnitude")
    sums = [kernel.sum for kernel in found]
    gains = _gains(sums, combine)
    offset = any(kernel.offset for kernel in found)
    if signed == "auto":
        signed = "clip" if bias or not all(kernel.finds_differences for kernel in found) else "abs"
    words = _CONVOLVE
    if offset:
        words = words._replace(bias="a smaller offset in the file of the kernel")
    if len(found) > 1 and combine in ("sum", "magnitude") and _is_one(_gains(sums, "mean")[0]):
        words = words._replace(normalize="--combine mean")
    elif 0 in sums:  # which cannot be divided by
        words = words._replace(normalize="a weaker kernel")
    return _rule(gains, bool(bias or offset), signed, words)


def rule_of_layers(layers: Layers, signed: str) -> ClippingRule:
    """Return the rule for ``apply``; `signed` is its option.

    Examples
    --------
    >>> from cnnfilter.layers.stack import parse_layers
    >>> rule_of_layers(parse_layers("conv sobel-h | relu"), "auto").advice
    '--signed stretch or -f npy would help'
    >>> rule_of_layers(parse_layers("conv '1 2 1' bias=3"), "auto").advice
    'kernels whose weights sum to 1, a smaller bias= or -f npy would help'
    """
    from cnnfilter.layers.fixed import FixedConvolution
    from cnnfilter.layers.images import ends_nonnegative, signed_rule

    gains, has_bias = [1.0], False
    for layer in layers:
        if isinstance(layer, FixedConvolution):
            found = [
                gain for several in layer.kernel_sets for gain in _gains([k.sum for k in several], several.combine)
            ]
            gains = [before * gain for before in gains for gain in found]
            has_bias = has_bias or layer.bias != 0 or any(k.offset for several in layer.kernel_sets for k in several)
    signed = signed_rule(layers) if signed == "auto" else signed
    if signed == "clip" and ends_nonnegative(layers):
        signed = "abs"  # which changes nothing then
    return _rule(gains, has_bias, signed, _APPLY)


def _gains(sums: Sequence[float], combine: str) -> list[float]:
    """Return the factor by which kernels of these sums, combined, change the brightness of a plain picture.

    There is one factor for each kernel if they are stacked.
    """
    if len(sums) < 2 or combine == "stack":
        return list(sums)
    if combine == "magnitude":
        return [math.hypot(*sums)]
    return [max(sums) if combine == "max" else math.fsum(sums) / (len(sums) if combine == "mean" else 1)]


def _is_one(gain: float) -> bool:
    return abs(gain - 1) <= _ONE_TOLERANCE


def _rule(gains: Sequence[float], has_bias: bool, signed: str, words: _Words) -> ClippingRule:
    ways = []
    if any(gain > 1 + _ONE_TOLERANCE or gain < 0 for gain in gains):
        ways.append(words.normalize)
    if has_bias:
        ways.append(words.bias)
    if 0 in gains:
        if signed != "clip":
            ways.append("--signed stretch")
        elif not has_bias:
            ways += ["--signed abs", "--signed offset"]
        else:
            ways.append("--signed offset without it")
    ways = ways or ["a weaker kernel"]
    min_share = MIN_CLIPPED_SHARE_OF_SUM_ONE if all(map(_is_one, gains)) else MIN_CLIPPED_SHARE_WARNED
    return ClippingRule(f"{', '.join(ways)} or -f npy would help", min_share)
