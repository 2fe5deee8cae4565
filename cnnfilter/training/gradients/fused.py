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
from cnnfilter.training.gradients.layer import ClippingLayer, Context, Floats, Pass, TrainableLayer
from cnnfilter.training.gradients.layers import TrainableActivation, TrainableBatchNorm, TrainableMaxPool


class FusedMaxPool(Pass):
    """A clipping activation and the max pool after it."""

    def __init__(self, activation: TrainableActivation, pool: TrainableMaxPool) -> None:
        self.activation = activation
        self.pool = pool

    @property
    def members(self) -> tuple[TrainableLayer, ...]:
        return self.activation, self.pool

    def forward(self, inputs: Floats, context: Context) -> Floats:
        clipped = self.activation.forward(inputs, context)
        context.saved["pooled"] = pooled = self.pool.forward(clipped, context.part("pool"))
        return pooled

    def backward(self, gradients: Floats, context: Context) -> Floats:
        _stop_clipped(gradients, context.saved["pooled"], self.activation)
        return self.pool.backward(gradients, context.part("pool"))


class _FusedActivation(Pass):
    """A layer that clips its outputs, the clipping activation after it, and the max pool after that if there is one."""

    def __init__(
        self, before: ClippingLayer, activation: TrainableActivation, pool: TrainableMaxPool | None = None
    ) -> None:
        self.before = before
        self.activation = activation
        self.pool = pool

    @property
    def members(self) -> tuple[TrainableLayer, ...]:
        return (self.before, self.activation, *(() if self.pool is None else (self.pool,)))

    def forward(self, inputs: Floats, context: Context) -> Floats:
        out = self.before.forward(inputs, context, self.activation.clip or LINEAR)
        if self.pool is not None:
            out = self.pool.forward(out, context.part("pool"))
        context.saved["output"] = out
        return out

    def _backward_to_before(self, gradients: Floats, context: Context) -> Floats:
        _stop_clipped(gradients, context.saved["output"], self.activation)
        return gradients if self.pool is None else self.pool.backward(gradients, context.part("pool"))


class FusedConvolution(_FusedActivation):
    """A convolution, the clipping activation after it, and the max pool after that if there is one."""

    def backward(self, gradients: Floats, context: Context) -> Floats:
        return self.before.backward(self._backward_to_before(gradients, context), context)


class FusedBatchNorm(_FusedActivation):
    """Batch norm, the clipping activation after it, and the max pool after that if there is one."""

    before: TrainableBatchNorm

    def measure_backward(self, gradients: Floats, context: Context) -> tuple[Floats, NDArray[np.float64]]:
        """Return the gradients that `backward` takes, and their sums by shift and scale (2, C)."""
        return self.before.measure_backward(self._backward_to_before(gradients, context), context)

    def backward(self, gradients: Floats, context: Context) -> Floats:
        return self.before.backward(gradients, context)


def _stop_clipped(gradients: Floats, outputs: Floats, activation: TrainableActivation) -> None:
    """Set to 0 the gradients of the outputs that the activation has clipped."""
    loops.clip_backward(gradients.reshape(-1), outputs.reshape(-1), *(activation.clip or LINEAR))


def fuse(layers: Sequence[TrainableLayer]) -> list[Pass]:
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


def _first_step(layers: Sequence[TrainableLayer]) -> Pass:
    first, second, third = (*layers, None, None)[:3]
    assert first is not None
    if isinstance(first, ClippingLayer) and first.clips and _is_clip(second):
        kind = FusedBatchNorm if isinstance(first, TrainableBatchNorm) else FusedConvolution
        return kind(first, second, third if isinstance(third, TrainableMaxPool) else None)
    if _is_clip(first) and isinstance(second, TrainableMaxPool):
        return FusedMaxPool(first, second)
    return first


def _is_clip(layer: TrainableLayer | None) -> TypeGuard[TrainableActivation]:
    return isinstance(layer, TrainableActivation) and layer.clip is not None
