"""Export of networks as ONNX files, for other programs; it needs the package ``onnx`` (the extra ``onnx``).

The input of the graph is ``pictures`` (N, H, W, C), as `Network.prepare` returns them; its outputs are ``logits`` and
``probabilities`` (N, classes); of a single number with a sigmoid, ``logits`` is (N, 1). Inside, maps are (N, C, H, W),
as the operators of ONNX need them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnfilter import __version__
from cnnfilter.errors import ModelError
from cnnfilter.filters.windows import Axis
from cnnfilter.layers.answers import Answers, without_last_function
from cnnfilter.layers.fixed import Activation, AvgPool, FixedConvolution, Flatten, GlobalPool, Gray, MaxPool, MinPool
from cnnfilter.layers.layer import Layer, Shape, WindowLayer
from cnnfilter.layers.learned import BatchNorm, Convolution, Dense, Depthwise, Dropout, InvertedBottleneck
from cnnfilter.networks.network import Network

OPSET, IR_VERSION = 17, 8
"""Those of ONNX 1.12 of June 2022, which every runtime since then reads.

References: https://github.com/onnx/onnx/blob/main/docs/Versioning.md, "Released Versions".
"""

Array = NDArray[Any]


def export_onnx(network: Network) -> bytes:
    """Return a network as the bytes of an ONNX file.

    Raises
    ------
    ModelError
        If a layer has no counterpart in ONNX.
    ImportError
        If the package ``onnx`` is not installed.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = Graph()
    name = graph.add("Transpose", ["pictures"], perm=[0, 3, 1, 2])
    layers = without_last_function(network.layers)
    shapes = list(layers.shapes(network.input_shape))
    for number, (layer, weights) in enumerate(zip(layers, network.weights, strict=False), 1):
        writer = _WRITERS.get(type(layer))
        if writer is None:
            raise ModelError(f"layer {number} '{layer}' has no counterpart in ONNX")
        name = writer(graph, name, cast(Any, layer), weights, shapes[number - 1])
    numbers = math.prod(shapes[-1])
    if len(shapes[-1]) == 3:
        name = graph.add("Transpose", [name], perm=[0, 2, 3, 1])
    logits = graph.add("Reshape", [name, graph.constant(np.array([-1, numbers]))], output="logits")
    if network.calibration.temperature != 1:
        logits = graph.add("Div", [logits, graph.constant(np.float32(network.calibration.temperature))])
    _probabilities(graph, logits, network.answers)
    outputs = [
        helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", size])
        for out, size in (("logits", numbers), ("probabilities", network.answers.classes))
    ]
    pictures = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["N", *network.input_shape])
    made = helper.make_graph(graph.nodes, "cnnfilter", [pictures], outputs, graph.constants)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="cnnfilter", producer_version=__version__
    )
    model.ir_version = IR_VERSION
    helper.set_model_props(model, _properties(network))
    onnx.checker.check_model(model, full_check=True)
    return cast(bytes, model.SerializeToString(deterministic=True))


def _probabilities(graph: Graph, logits: str, answers: Answers) -> None:
    """Write the last function; of one number with a sigmoid, the probabilities of both classes."""
    if answers.is_binary:
        logits = graph.add("Concat", [graph.add("Neg", [logits]), logits], axis=1)
    if answers.independent:
        graph.add("Sigmoid", [logits], output="probabilities")
    else:
        graph.add("Softmax", [logits], output="probabilities", axis=1)


def _properties(network: Network) -> dict[str, str]:
    """Return the metadata of the file: how to prepare pictures, the names of the classes, and the origin."""
    return {
        "layers": network.layers.text_with_borders(),
        "classes": json.dumps(network.classes, ensure_ascii=False),
        "preparation": json.dumps(network.preparation.as_record()),
        "calibration": json.dumps(dataclasses.asdict(network.calibration)),
        "provenance": network.provenance,
    }


class Graph:
    """The nodes and constants of a graph, named in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: Array | np.generic) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        name = f"constant{len(self.constants)}"
        self.constants.append(
            numpy_helper.from_array(np.ascontiguousarray(values) if np.ndim(values) else np.asarray(values), name)
        )
        return name

    def add(self, kind: str, inputs: Sequence[str], *, output: str | None = None, **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        from onnx import helper

        name = output or f"maps{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"{kind}{len(self.nodes)}", **attributes))
        return name


Weights = Mapping[str, Array]


def _window(axes: tuple[Axis, Axis], *, ceil: bool = False) -> dict[str, Any]:
    down, across = axes
    found: dict[str, Any] = {
        "kernel_shape": [down.taps, across.taps],
        "strides": [down.stride, across.stride],
        "pads": [down.before, across.before, down.after, across.after],
        "dilations": [down.dilation, across.dilation],
    }
    return found | ({"ceil_mode": 1} if ceil else {})


def _axes(layer: Layer, shape: Shape) -> tuple[Axis, Axis]:
    return cast(WindowLayer, layer).axes(*shape[:2])


def _convolution(graph: Graph, name: str, layer: Convolution, weights: Weights, shape: Shape) -> str:
    inputs = [name, graph.constant(weights["kernel"].transpose(3, 2, 0, 1))]
    inputs += [graph.constant(weights["bias"])] if "bias" in weights else []
    return graph.add("Conv", inputs, **_window(_axes(layer, shape)))


def _depthwise(graph: Graph, name: str, layer: Depthwise, weights: Weights, shape: Shape) -> str:
    inputs = [name, graph.constant(weights["kernel"].transpose(2, 3, 0, 1))]
    inputs += [graph.constant(weights["bias"])] if "bias" in weights else []
    return graph.add("Conv", inputs, group=shape[2], **_window(_axes(layer, shape)))


def _bottleneck(graph: Graph, name: str, layer: InvertedBottleneck, weights: Weights, shape: Shape) -> str:
    residual, given = layer.residual(shape), name
    for part, stage in layer.stages(shape).items():
        own = {key.removeprefix(f"{part}."): array for key, array in weights.items() if key.startswith(f"{part}.")}
        writer: Callable[..., str] = _depthwise if isinstance(stage, Depthwise) else _convolution
        name = writer(graph, name, stage, own, shape)
        shape = stage.output_shape(shape)
        if part != "project":
            name = _clip(graph, name, 6.0)
    return graph.add("Add", [name, given]) if residual else name


def _clip(graph: Graph, name: str, high: float) -> str:
    return graph.add("Clip", [name, graph.constant(np.float32(0)), graph.constant(np.float32(high))])


def _fixed_convolution(graph: Graph, name: str, layer: FixedConvolution, weights: Weights, shape: Shape) -> str:
    """Write every kernel on every map, C maps becoming C·K: a convolution by groups."""
    if layer.border not in ("zero", "replicate") or any(len(group) > 1 for group in layer.kernel_sets):
        raise ModelError(
            f"'{layer}': ONNX has single kernels with zeros around only, or with the edge repeated; border=zero or "
            "border=replicate, and sobel-h sobel-v would do"
        )
    down, across = _axes(layer, shape)
    kernels = np.zeros((len(layer.kernel_sets), 1, down.taps, across.taps), np.float32)
    for number, (kernel,) in enumerate(layer.kernel_sets):
        # A smaller kernel is centred in the window of the largest; if the margin is odd, the smaller half is before.
        top, left = (
            (down.taps - 1) // 2 - (kernel.weights.shape[0] - 1) // 2,
            (across.taps - 1) // 2 - (kernel.weights.shape[1] - 1) // 2,
        )
        kernels[number, 0, top : top + kernel.weights.shape[0], left : left + kernel.weights.shape[1]] = kernel.weights
    window = _window((down, across))
    top, left, bottom, right = window["pads"]
    if layer.border == "replicate" and any(window["pads"]):
        name = graph.add("Pad", [name, graph.constant(np.array([0, 0, top, left, 0, 0, bottom, right]))], mode="edge")
        window["pads"] = [0, 0, 0, 0]
    inputs = [name, graph.constant(np.tile(kernels, (shape[2], 1, 1, 1)))]
    inputs += [graph.constant(np.full(shape[2] * len(kernels), layer.bias, np.float32))] if layer.bias else []
    return graph.add("Conv", inputs, group=shape[2], **window)


def _batch_norm(graph: Graph, name: str, layer: BatchNorm, weights: Weights, shape: Shape) -> str:
    size = (-1, 1, 1) if len(shape) == 3 else (-1,)
    scaled = graph.add("Mul", [name, graph.constant(weights["scale"].reshape(size))])
    return graph.add("Add", [scaled, graph.constant(weights["shift"].reshape(size))])


def _flatten(graph: Graph, name: str, layer: Flatten, weights: Weights, shape: Shape) -> str:
    if len(shape) == 3:  # the values of a position stand side by side, as in `flatten`
        name = graph.add("Transpose", [name], perm=[0, 2, 3, 1])
    return graph.add("Reshape", [name, graph.constant(np.array([-1, math.prod(shape)]))])


def _dense(graph: Graph, name: str, layer: Dense, weights: Weights, shape: Shape) -> str:
    rows = graph.add("Reshape", [name, graph.constant(np.array([-1, math.prod(shape)]))])
    inputs = [rows, graph.constant(weights["kernel"])]
    inputs += [graph.constant(weights["bias"])] if "bias" in weights else []
    return graph.add("Gemm", inputs)


def _max_pool(graph: Graph, name: str, layer: MaxPool, weights: Weights, shape: Shape) -> str:
    return graph.add("MaxPool", [name], **_window(_axes(layer, shape), ceil=layer.ceil))


def _min_pool(graph: Graph, name: str, layer: MinPool, weights: Weights, shape: Shape) -> str:
    turned = graph.add("Neg", [name])
    return graph.add("Neg", [_max_pool(graph, turned, layer, weights, shape)])


def _avg_pool(graph: Graph, name: str, layer: AvgPool, weights: Weights, shape: Shape) -> str:
    """Write the mean as sums times factors, because runtimes count the values of a window at the border differently."""
    from cnnfilter.filters.pooling.pool import PoolAxis

    axes = _axes(layer, shape)
    down, across = axes
    counts = [cast(PoolAxis, axis).counts(include_pad=True) for axis in axes]
    # With `ceil`, zeros beyond the padding complete the last windows.
    more = [
        max(0, (axis.outputs - 1) * axis.stride + axis.reach - (axis.before + axis.size + axis.after)) for axis in axes
    ]
    window = _window(axes)
    window["pads"] = [down.before, across.before, down.after + more[0], across.after + more[1]]
    ones = np.ones((shape[2], 1, down.taps, across.taps), np.float32)
    sums = graph.add("Conv", [name, graph.constant(ones)], group=shape[2], **window)
    shares = (1 / np.outer(*counts)).astype(np.float32)
    return graph.add("Mul", [sums, graph.constant(shares)])


def _global_pool(graph: Graph, name: str, layer: GlobalPool, weights: Weights, shape: Shape) -> str:
    return graph.add("GlobalAveragePool" if layer.op == "avg" else "GlobalMaxPool", [name])


def _gray(graph: Graph, name: str, layer: Gray, weights: Weights, shape: Shape) -> str:
    if shape[2] == 1:
        return name
    luma = layer.forward(np.eye(3, dtype=np.float32)[None])[0, :, 0]
    return graph.add("Conv", [name, graph.constant(luma.reshape(1, 3, 1, 1))])


def _activation(graph: Graph, name: str, layer: Activation, weights: Weights, shape: Shape) -> str:
    function, _, number = layer.function.partition(":")
    simple = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "abs": "Abs"}
    if function in simple:
        return graph.add(simple[function], [name])
    if function == "relu6":
        return _clip(graph, name, 6.0)
    if function == "leaky":
        return graph.add("LeakyRelu", [name], alpha=float(number or 0.01))
    return graph.add("Softmax", [name], axis=1)


def _dropout(graph: Graph, name: str, layer: Dropout, weights: Weights, shape: Shape) -> str:
    return name


_WRITERS: dict[type[Layer], Callable[..., str]] = {
    Convolution: _convolution,
    Depthwise: _depthwise,
    InvertedBottleneck: _bottleneck,
    FixedConvolution: _fixed_convolution,
    BatchNorm: _batch_norm,
    Flatten: _flatten,
    Dense: _dense,
    MaxPool: _max_pool,
    MinPool: _min_pool,
    AvgPool: _avg_pool,
    GlobalPool: _global_pool,
    Gray: _gray,
    Activation: _activation,
    Dropout: _dropout,
}
