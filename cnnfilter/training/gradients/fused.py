"""Clipping activations (relu, relu6) computed together with the layers beside them, and `fuse`, which finds them.

A separate activation takes one pass over the maps forward and another one backward. A convolution with a bias and batch
norm clip their outputs while they write them. Behind the activation, a max pool passes each gradient to one input of
its window, so the gradients of clipped values can be set to 0 before the pool, where there are fewer of them.
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
    """A layer that clips its outputs, the clipping activation after it, and an optional max pool after that."""

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
        """Return the gradients of the outputs of `before`."""
        _stop_clipped(gradients, context.saved["output"], self.activation)
        return gradients if self.pool is None else self.pool.backward(gradients, context.part("pool"))


class FusedConvolution(_FusedActivation):
    """A convolution, the clipping activation after it, and an optional max pool after that."""

    def backward(self, gradients: Floats, context: Context) -> Floats:
        return self.before.backward(self._backward_to_before(gradients, context), context)


class FusedBatchNorm(_FusedActivation):
    """Batch norm, the clipping activation after it, and an optional max pool after that."""

    before: TrainableBatchNorm

    def measure_backward(self, gradients: Floats, context: Context) -> tuple[Floats, NDArray[np.float64]]:
        """Return the gradients of the outputs of the batch norm, and their sums as in `TrainableBatchNorm`."""
        return self.before.measure_backward(self._backward_to_before(gradients, context), context)

    def backward(self, gradients: Floats, context: Context) -> Floats:
        """Return the gradients of the inputs, from those that `measure_backward` returned."""
        return self.before.backward(gradients, context)


def _stop_clipped(gradients: Floats, outputs: Floats, activation: TrainableActivation) -> None:
    """Set the gradients of the outputs that the activation has clipped to 0."""
    loops.clip_backward(gradients.reshape(-1), outputs.reshape(-1), *(activation.clip or LINEAR))


def fuse(layers: Sequence[TrainableLayer]) -> list[Pass]:
    """Return the steps that compute the layers, in their order.

    A clipping activation is fused with the layer before it, if that clips without an extra pass (see `ClippingLayer`),
    with a max pool after it, or with both. Every other layer is a step by itself. The results are the same to the bit.
    """
    steps: list[Pass] = []
    rest = list(layers)
    while rest:
        step = _first_step(rest)
        steps.append(step)
        del rest[: len(step.members)]
    return steps


def _first_step(layers: Sequence[TrainableLayer]) -> Pass:
    """Return the step that the first of the layers belongs to."""
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
