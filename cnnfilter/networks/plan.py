"""A network's layers as the steps of one picture's way through them, with what belongs together done together.

The activation after a filter is done where the filter's numbers are still in the cache, and batch norm becomes part of
the filter before it. Two arrays in turn hold what goes from step to step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np

from cnnfilter.layers.fixed import Activation, GlobalPool
from cnnfilter.layers.layer import Layer, Shape
from cnnfilter.layers.learned import BatchNorm, Convolution, Dense, Depthwise, Dropout, InvertedBottleneck
from cnnfilter.layers.stack import Layers
from cnnfilter.networks import layer_loops as loops
from cnnfilter.networks.map_convolutions import (
    CLIPPING,
    RELU6,
    Bottleneck,
    Filter,
    convolve_across,
    convolve_each,
    squeeze,
)
from cnnfilter.networks.model_file import Weights
from cnnfilter.runtime.buffers import Maps, Scratch
from cnnfilter.runtime.parallel import Workers

Run = Callable[[Maps, Maps, Workers], None]


class Step(NamedTuple):
    """One step: from the maps (H, W, C) or numbers (F,) of a picture, into an array of `shape`."""

    run: Run
    shape: Shape


class Given(NamedTuple):
    """A layer, its weights, and the shape that goes into it."""

    layer: Layer
    weights: Weights
    shape: Shape


def make_steps(layers: Layers, weights: Sequence[Weights], input_shape: Shape) -> list[Step]:
    """Make the steps of layers, which are at most as many."""
    shapes = list(layers.shapes(input_shape))
    rest = [Given(*parts) for parts in zip(layers, weights, shapes, strict=False)]
    steps = []
    while rest:
        given = rest.pop(0)
        run = _MAKERS.get(type(given.layer), _any_layer)(given, rest)
        steps.append(Step(run, shapes[len(layers) - len(rest)]))
    return steps


def run_steps(steps: Sequence[Step], numbers: Maps, out: Maps, workers: Workers, scratch: Scratch) -> None:
    """Send one picture through the steps, into `out`."""
    for turn, step in enumerate(steps):
        last = turn == len(steps) - 1
        target = out.reshape(step.shape) if last else scratch.array(f"maps {turn % 2}", *step.shape)
        step.run(numbers, target, workers)
        numbers = target


# --- how each kind of layer becomes a step; what it takes from `rest` is done with it -----------------------


def _filter(weights: Weights, part: str = "") -> Filter:
    kernel = weights[f"{part}kernel"]
    # One kernel a map is (kH, kW, C, 1): its maps are the last axis but one.
    maps = kernel.shape[-1] if kernel.shape[-1] > 1 or kernel.ndim < 4 else kernel.shape[-2]
    return Filter(kernel, weights.get(f"{part}bias", np.zeros(maps, np.float32)))


def _followed(filter: Filter, rest: list[Given]) -> Filter:
    """Take batch norm and a clipping activation out of the rest, into the filter."""
    while rest:
        layer, weights, _ = rest[0]
        if isinstance(layer, BatchNorm):
            scale, shift = weights["scale"], weights["shift"]
            by_map = scale if filter.kernel.shape[-1] == scale.size else scale[:, None]
            filter = Filter(filter.kernel * by_map, filter.bias * scale + shift)
        elif isinstance(layer, Activation) and layer.function in CLIPPING:
            rest.pop(0)
            return replace(filter, range=CLIPPING[layer.function])
        elif not isinstance(layer, Dropout):
            break
        rest.pop(0)
    return filter


def _convolution(given: Given, rest: list[Given]) -> Run:
    filter = _followed(_filter(given.weights), rest)
    axes = cast(Convolution, given.layer).axes(*given.shape[:2])
    return lambda numbers, out, workers: convolve_across(numbers, filter, axes, out, workers)


def _depthwise(given: Given, rest: list[Given]) -> Run:
    filter = _followed(_filter(given.weights), rest)
    axes = cast(Depthwise, given.layer).axes(*given.shape[:2])
    return lambda numbers, out, workers: convolve_each(numbers, filter, axes, out, workers)


def _bottleneck(given: Given, rest: list[Given]) -> Run:
    layer, weights, shape = cast(InvertedBottleneck, given.layer), given.weights, given.shape
    expand = replace(_filter(weights, "expand."), range=RELU6) if layer.expand > 1 else None
    depthwise = replace(_filter(weights, "depthwise."), range=RELU6)
    axes, residual = layer.axes(*shape[:2]), layer.residual(shape)
    bottleneck = Bottleneck(expand, depthwise, _filter(weights, "project."), axes, residual)
    return lambda numbers, out, workers: squeeze(numbers, bottleneck, out, workers)


def _dense(given: Given, rest: list[Given]) -> Run:
    filter = _followed(_filter(given.weights), rest)

    def run(numbers: Maps, out: Maps, workers: Workers) -> None:
        np.matmul(numbers.reshape(1, -1), filter.matrix, out=out.reshape(1, -1))
        filter.finish(out)

    return run


def _global_pool(given: Given, rest: list[Given]) -> Run:
    if cast(GlobalPool, given.layer).op != "avg":
        return _any_layer(given, rest)
    return lambda numbers, out, workers: loops.mean(numbers.reshape(-1, out.size), out.reshape(-1))


def _batch_norm(given: Given, rest: list[Given]) -> Run:
    scale, shift = given.weights["scale"], given.weights["shift"]

    def run(numbers: Maps, out: Maps, workers: Workers) -> None:
        np.multiply(numbers, scale, out=out)
        out += shift

    return run


def _any_layer(given: Given, rest: list[Given]) -> Run:
    forward = given.layer.forward  # type: ignore[attr-defined]  # every layer without weights has it

    def run(numbers: Maps, out: Maps, workers: Workers) -> None:
        out[...] = forward(numbers[None])[0]

    return run


_MAKERS: dict[type[Layer], Callable[[Given, list[Given]], Run]] = {
    Convolution: _convolution,
    Depthwise: _depthwise,
    InvertedBottleneck: _bottleneck,
    Dense: _dense,
    GlobalPool: _global_pool,
    BatchNorm: _batch_norm,
}
