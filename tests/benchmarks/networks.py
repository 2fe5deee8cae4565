"""A network of ours as the same network of PyTorch and of onnxruntime, with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cnnfilter.filters.windows import Axis
from cnnfilter.networks.network import Network

Forward = Callable[[np.ndarray], np.ndarray]


class Operation:
    """One operation on (N, C, H, W): ``conv`` with its tensors, ``clip``, ``add`` of an earlier result, …"""

    def __init__(self, kind: str, result: str, *sources: str, **extra: Any) -> None:
        self.kind, self.result, self.sources, self.extra = kind, result, sources, extra


def operations(network: Network) -> Iterator[Operation]:
    """Yield the network's layers as plain operations; only what EfficientNet-Lite0 is made of is known."""
    last = "input"
    shapes = network.layers.shapes(network.input_shape)
    for number, (layer, weights, shape) in enumerate(zip(network.layers, network.weights, shapes, strict=False), 1):
        result = f"layer{number}"
        if layer.name == "conv":
            yield Operation("conv", result, last, **_conv(weights, "", layer.axes(*shape[:2]), groups=1))
        elif str(layer) == "relu6":
            yield Operation("clip", result, last)
        elif layer.name == "mbconv":
            source = last
            wide = layer.stages(shape)["depthwise"].axes(*shape[:2])
            flat = (Axis(1, 1), Axis(1, 1))
            if layer.expand > 1:
                yield Operation("conv", result + "e", last, **_conv(weights, "expand.", flat, groups=1))
                yield Operation("clip", result + "ec", result + "e")
                last = result + "ec"
            groups = weights["depthwise.bias"].size
            yield Operation("conv", result + "d", last, **_conv(weights, "depthwise.", wide, groups=groups))
            yield Operation("clip", result + "dc", result + "d")
            project = result + "p" if layer.residual(shape) else result
            yield Operation("conv", project, result + "dc", **_conv(weights, "project.", flat, groups=1))
            if layer.residual(shape):
                yield Operation("add", result, project, source)
        elif str(layer) == "globalpool avg":
            yield Operation("mean", result, last)
        elif layer.name == "dense":
            yield Operation("dense", result, last, kernel=weights["kernel"].T, bias=weights["bias"])
        else:
            raise ValueError(f"no peer for the layer {layer}")
        last = result


def _conv(weights: Any, part: str, axes: tuple[Axis, Axis], groups: int) -> dict[str, Any]:
    order = (2, 3, 0, 1) if groups > 1 else (3, 2, 0, 1)
    down, across = axes
    return {
        "kernel": np.ascontiguousarray(weights[f"{part}kernel"].transpose(order)),
        "bias": weights[f"{part}bias"],
        "stride": (down.stride, across.stride),
        "pads": (down.before, across.before, down.after, across.after),
        "groups": groups,
    }


def torch_forward(network: Network, threads: int) -> Forward:
    """Return the network in PyTorch eager; it takes and gives (N, H, W, C) arrays."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(threads)
    steps = list(operations(network))
    for step in steps:
        for name in ("kernel", "bias"):
            if name in step.extra:
                step.extra[name] = torch.from_numpy(np.ascontiguousarray(step.extra[name]))
        if step.kind == "conv":
            step.extra["neutral"] = torch.zeros_like(step.extra["bias"]), torch.ones_like(step.extra["bias"])

    def conv(source: Any, kernel: Any, bias: Any, stride: Any, pads: Any, groups: int, neutral: Any) -> Any:
        top, left, bottom, right = pads
        if (top, left) != (bottom, right):
            source = functional.pad(source, (left, right, top, bottom))
            top = left = 0
        mixed = functional.conv2d(source, kernel, None, stride, (top, left), groups=groups)
        # Nothing folds batch norm into the convolutions of an eager model, so it is done here too.
        mean, variance = neutral
        return functional.batch_norm(mixed, mean, variance, variance, bias, eps=0.0)

    kinds: dict[str, Callable[..., Any]] = {
        "conv": conv,
        "clip": lambda source: functional.relu6(source, inplace=True),
        "add": lambda one, two: one + two,
        "mean": lambda source: source.mean((2, 3)),
        "dense": lambda source, kernel, bias: functional.linear(source, kernel, bias),
    }

    def forward(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            values = {"input": torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))}
            for step in steps:
                values[step.result] = kinds[step.kind](*(values[name] for name in step.sources), **step.extra)
            return values[steps[-1].result].numpy()

    return forward


def onnx_bytes(network: Network) -> bytes:
    """Return the network as an ONNX file."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, tensors = [], [numpy_helper.from_array(np.float32(limit), name) for name, limit in _LIMITS]
    for step in operations(network):
        names = [f"{step.result}.{name}" for name in ("kernel", "bias") if name in step.extra]
        tensors += [
            numpy_helper.from_array(np.ascontiguousarray(step.extra[name.rpartition(".")[2]]), name) for name in names
        ]
        inputs = [*step.sources, *names]
        if step.kind == "conv":
            options = {"strides": step.extra["stride"], "pads": step.extra["pads"], "group": step.extra["groups"]}
            nodes.append(helper.make_node("Conv", inputs, [step.result], **options))
        elif step.kind == "clip":
            nodes.append(helper.make_node("Clip", [*inputs, "low", "high"], [step.result]))
        elif step.kind == "add":
            nodes.append(helper.make_node("Add", inputs, [step.result]))
        elif step.kind == "mean":
            nodes.append(helper.make_node("GlobalAveragePool", inputs, [step.result + "m"]))
            nodes.append(helper.make_node("Flatten", [step.result + "m"], [step.result]))
        else:
            nodes.append(helper.make_node("Gemm", inputs, [step.result], transB=1))
    height, width, channels = network.input_shape
    graph = helper.make_graph(
        nodes,
        network.name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", channels, height, width])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ["N", network.outputs])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()  # type: ignore[no-any-return]


_LIMITS = (("low", 0), ("high", 6))


def onnx_forward(network: Network, threads: int) -> Forward:
    """Return the network in onnxruntime; it takes (N, H, W, C) arrays."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(onnx_bytes(network), options, providers=["CPUExecutionProvider"])

    def forward(batch: np.ndarray) -> np.ndarray:
        return session.run(None, {"input": np.ascontiguousarray(batch.transpose(0, 3, 1, 2))})[0]  # type: ignore[no-any-return]

    return forward
