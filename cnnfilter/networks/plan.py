"""Plan the layers of a network as steps, and run the steps for one picture.

The activation after a convolution is part of its step, so that it is applied while the values are in the cache. Batch
norm becomes part of the kernel and bias before it. The maps between the steps are in two arrays, used alternately.
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
    convolve_depthwise,
    inverted_bottleneck,
)
from cnnfilter.networks.model_file import Weights
from cnnfilter.runtime.buffers import Maps, Scratch
from cnnfilter.runtime.parallel import Workers

Run = Callable[[Maps, Maps, Workers], None]


class Step(NamedTuple):
    """One step: a function from the maps (H, W, C) or vector (F,) of a picture to an array of `shape`."""

    run: Run
    shape: Shape


class WeightedLayer(NamedTuple):
    """A layer, its weights, and the shape of its input."""

    layer: Layer
    weights: Weights
    shape: Shape


def make_steps(layers: Layers, weights: Sequence[Weights], input_shape: Shape) -> list[Step]:
    """Return the steps that compute the layers; a step may compute several layers."""
    shapes = list(layers.shapes(input_shape))
    rest = [WeightedLayer(*parts) for parts in zip(layers, weights, shapes, strict=False)]
    steps = []
    while rest:
        first = rest.pop(0)
        run = _MAKERS.get(type(first.layer), _any_layer)(first, rest)
        steps.append(Step(run, shapes[len(layers) - len(rest)]))
    return steps


def run_steps(steps: Sequence[Step], maps: Maps, out: Maps, workers: Workers, scratch: Scratch) -> None:
    """Run the steps for one picture; write the result to `out`."""
    for index, step in enumerate(steps):
        last = index == len(steps) - 1
        target = out.reshape(step.shape) if last else scratch.array(f"maps {index % 2}", *step.shape)
        step.run(maps, target, workers)
        maps = target


# --- one function for each kind of layer; it removes the layers from `rest` that its step also computes ------


def _filter(weights: Weights, part: str = "") -> Filter:
    kernel = weights[f"{part}kernel"]
    # A depthwise kernel is (kH, kW, C, 1): its maps are the last axis but one.
    maps = kernel.shape[-1] if kernel.shape[-1] > 1 or kernel.ndim < 4 else kernel.shape[-2]
    return Filter(kernel, weights.get(f"{part}bias", np.zeros(maps, np.float32)))


def _absorb_following(filter: Filter, rest: list[WeightedLayer]) -> Filter:
    """Return the filter with the batch norm and clipping activation that follow it, which are removed from `rest`."""
    while rest:
        layer, weights, _ = rest[0]
        if isinstance(layer, BatchNorm):
            scale, shift = weights["scale"], weights["shift"]
            by_map = scale if filter.kernel.shape[-1] == scale.size else scale[:, None]
            filter = Filter(filter.kernel * by_map, filter.bias * scale + shift)
        elif isinstance(layer, Activation) and layer.function in CLIPPING:
            rest.pop(0)
            return replace(filter, clip=CLIPPING[layer.function])
        elif not isinstance(layer, Dropout):
            break
        rest.pop(0)
    return filter


def _convolution(first: WeightedLayer, rest: list[WeightedLayer]) -> Run:
    filter = _absorb_following(_filter(first.weights), rest)
    axes = cast(Convolution, first.layer).axes(*first.shape[:2])
    return lambda maps, out, workers: convolve_across(maps, filter, axes, out, workers)


def _depthwise(first: WeightedLayer, rest: list[WeightedLayer]) -> Run:
    filter = _absorb_following(_filter(first.weights), rest)
    axes = cast(Depthwise, first.layer).axes(*first.shape[:2])
    return lambda maps, out, workers: convolve_depthwise(maps, filter, axes, out, workers)


def _bottleneck(first: WeightedLayer, rest: list[WeightedLayer]) -> Run:
    layer, weights, shape = cast(InvertedBottleneck, first.layer), first.weights, first.shape
    expand = replace(_filter(weights, "expand."), clip=RELU6) if layer.expand > 1 else None
    depthwise = replace(_filter(weights, "depthwise."), clip=RELU6)
    axes, residual = layer.axes(*shape[:2]), layer.residual(shape)
    bottleneck = Bottleneck(expand, depthwise, _filter(weights, "project."), axes, residual)
    return lambda maps, out, workers: inverted_bottleneck(maps, bottleneck, out, workers)


def _dense(first: WeightedLayer, rest: list[WeightedLayer]) -> Run:
    filter = _absorb_following(_filter(first.weights), rest)

    def run(maps: Maps, out: Maps, workers: Workers) -> None:
        np.matmul(maps.reshape(1, -1), filter.matrix, out=out.reshape(1, -1))
        filter.finish(out)

    return run


def _global_pool(first: WeightedLayer, rest: list[WeightedLayer]) -> Run:
    if cast(GlobalPool, first.layer).op != "avg":
        return _any_layer(first, rest)
    return lambda maps, out, workers: loops.mean(maps.reshape(-1, out.size), out.reshape(-1))


def _batch_norm(first: WeightedLayer, rest: list[WeightedLayer]) -> Run:
    scale, shift = first.weights["scale"], first.weights["shift"]

    def run(maps: Maps, out: Maps, workers: Workers) -> None:
        np.multiply(maps, scale, out=out)
        out += shift

    return run


def _any_layer(first: WeightedLayer, rest: list[WeightedLayer]) -> Run:
    forward = first.layer.forward  # type: ignore[attr-defined]  # every layer without weights has it

    def run(maps: Maps, out: Maps, workers: Workers) -> None:
        out[...] = forward(maps[None])[0]

    return run


_MAKERS: dict[type[Layer], Callable[[WeightedLayer, list[WeightedLayer]], Run]] = {
    Convolution: _convolution,
    Depthwise: _depthwise,
    InvertedBottleneck: _bottleneck,
    Dense: _dense,
    GlobalPool: _global_pool,
    BatchNorm: _batch_norm,
}
