"""Layers that are computed together with the clipping activation (relu, relu6) beside them.

An activation alone costs a pass over the maps forward and another backward. A convolution with a bias and batch norm
write each output once anyway, and clip it there. A max pool hands a gradient to one number of each window, so that
its own outputs, which are fewer, tell which gradients the activation stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from cnnfilter.networks.map_convolutions import LINEAR
from cnnfilter.training.gradients import gradient_loops as loops
from cnnfilter.training.gradients.layer import ClippingTrainable, Floats, Pass, Place, Trainable
from cnnfilter.training.gradients.layers import Activating, BatchNorming, MostPooling


class FusedMaxPool(Pass):
    """A clipping activation and the max pool after it."""

    def __init__(self, activation: Activating, pool: MostPooling) -> None:
        self.activation = activation
        self.pool = pool

    @property
    def members(self) -> tuple[Trainable, ...]:
        return self.activation, self.pool

    def forward(self, numbers: Floats, place: Place) -> Floats:
        clipped = self.activation.forward(numbers, place)
        place.kept["pooled"] = pooled = self.pool.forward(clipped, place.part("pool"))
        return pooled

    def backward(self, slopes: Floats, place: Place) -> Floats:
        _stop_clipped(slopes, place.kept["pooled"], self.activation)
        return self.pool.backward(slopes, place.part("pool"))


class _FusedActivation(Pass):
    """A layer that clips its outputs, the clipping activation after it, and the max pool after that if there is one."""

    def __init__(self, before: ClippingTrainable, activation: Activating, pool: MostPooling | None = None) -> None:
        self.before = before
        self.activation = activation
        self.pool = pool

    @property
    def members(self) -> tuple[Trainable, ...]:
        return (self.before, self.activation, *(() if self.pool is None else (self.pool,)))

    def forward(self, numbers: Floats, place: Place) -> Floats:
        out = self.before.forward(numbers, place, self.activation.clip or LINEAR)
        if self.pool is not None:
            out = self.pool.forward(out, place.part("pool"))
        place.kept["output"] = out
        return out

    def _backward_to_before(self, slopes: Floats, place: Place) -> Floats:
        _stop_clipped(slopes, place.kept["output"], self.activation)
        return slopes if self.pool is None else self.pool.backward(slopes, place.part("pool"))


class FusedConvolution(_FusedActivation):
    """A convolution, the clipping activation after it, and the max pool after that if there is one."""

    def backward(self, slopes: Floats, place: Place) -> Floats:
        return self.before.backward(self._backward_to_before(slopes, place), place)


class FusedBatchNorm(_FusedActivation):
    """Batch norm, the clipping activation after it, and the max pool after that if there is one."""

    before: BatchNorming

    def measure_back(self, slopes: Floats, place: Place) -> tuple[Floats, NDArray[np.float64]]:
        """Return the slopes that `backward` takes, and their sums by shift and scale (2, C)."""
        return self.before.measure_back(self._backward_to_before(slopes, place), place)

    def backward(self, slopes: Floats, place: Place) -> Floats:
        return self.before.backward(slopes, place)


def _stop_clipped(slopes: Floats, outputs: Floats, activation: Activating) -> None:
    """Set to 0 the slopes of the outputs that the activation has clipped."""
    loops.clip_backward(slopes.reshape(-1), outputs.reshape(-1), *(activation.clip or LINEAR))


def fuse(layers: Sequence[Trainable]) -> list[Pass]:
    """Return the steps that compute the layers, in their order.

    A clipping activation is computed together with a convolution or batch norm before it that clips in passing,
    with a max pool after it, or with both. Every other layer is a step of its own.
    """
    steps: list[Pass] = []
    rest = list(layers)
    while rest:
        step = _first_step(rest)
        steps.append(step)
        del rest[: len(step.members)]
    return steps


def _first_step(layers: Sequence[Trainable]) -> Pass:
    first, second, third = (*layers, None, None)[:3]
    assert first is not None
    if isinstance(first, ClippingTrainable) and first.clips and _is_clip(second):
        kind = FusedBatchNorm if isinstance(first, BatchNorming) else FusedConvolution
        return kind(first, second, third if isinstance(third, MostPooling) else None)
    if _is_clip(first) and isinstance(second, MostPooling):
        return FusedMaxPool(first, second)
    return first


def _is_clip(layer: Trainable | None) -> TypeGuard[Activating]:
    return isinstance(layer, Activating) and layer.clip is not None
