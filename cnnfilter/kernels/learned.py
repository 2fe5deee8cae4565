"""A learned filter as a kernel: ``MODEL#LAYER[FILTER]`` or ``MODEL#LAYER[FILTER,MAP]``.

Layers are counted from 1, as `describe` counts them, filters and maps from 0. Without MAP, a filter across several maps
is summed over them, which is its result for an image whose channels are equal. In an inverted bottleneck the filter is
the depthwise one. Only one tensor of the file is read; checking the whole model is left to `cnnfilter.networks`.
"""

from __future__ import annotations

import json
import os
import re

import numpy as np
from numpy.typing import NDArray

from cnnfilter import weights
from cnnfilter.errors import KernelError, ModelError
from cnnfilter.kernels.kernel import Kernel, KernelSet
from cnnfilter.weights.safetensors import TensorFile

_SPEC_PATTERN = re.compile(r"(.+)#(\d+)\[(\d+)(?:,\s*(\d+))?\]")
_SPEC_EXAMPLE = "efficientnet-lite0#1[3]"


def find_learned(text: str) -> KernelSet:
    """Return the kernel of a learned filter.

    Raises
    ------
    KernelError
        If the text is not of this form, or the model, layer, filter or map does not exist.
    """
    match = _SPEC_PATTERN.fullmatch(text)
    if match is None:
        raise KernelError(f"{text!r}: a learned filter is written MODEL#LAYER[FILTER], as in {_SPEC_EXAMPLE}")
    model, layer, filter, source = match[1], int(match[2]), int(match[3]), match[4]
    try:
        filters = _read_filters(model, layer)
    except (KernelError, ModelError) as error:
        raise KernelError(f"{text!r}: {error}") from error
    if filter >= filters.shape[3]:
        raise KernelError(f"{text!r}: layer {layer} has the filters 0 to {filters.shape[3] - 1}")
    chosen = filters[:, :, :, filter]
    if source is not None:
        if int(source) >= chosen.shape[2]:
            raise KernelError(f"{text!r}: its filters have the maps 0 to {chosen.shape[2] - 1}")
        chosen = chosen[:, :, int(source), None]
    return KernelSet([Kernel(chosen.sum(axis=2, dtype=np.float64), text)])


def _read_filters(model: str, layer: int) -> NDArray[np.float32]:
    """Read the filters of a layer as (kH, kW, I, O); I is 1 where each map has its own filter.

    Raises
    ------
    ModelError
        If the model cannot be read.
    KernelError
        If there is no such layer, or it has no filters.
    """
    name = model if model in weights.NAMES else os.path.basename(model)
    with weights.naming(model), TensorFile(weights.find(model)) as file:
        stages, backbone = _stages(file), _backbone(file)
        if backbone is None:
            return _filters(file, stages, layer, layer, name)
        path, first = backbone
        with TensorFile(path) as body:
            stages = _stages(body)[:first] + stages
            if layer <= first:
                return _filters(body, stages, layer, layer, name)
        return _filters(file, stages, layer, layer - first, name)


def _backbone(file: TensorFile) -> tuple[str, int] | None:
    """Return the path of the model whose layers stand before those of a head, and the number of those layers."""
    if "backbone" not in file.metadata:
        return None
    try:
        backbone = json.loads(file.metadata["backbone"])
        name, sha256, layers = (backbone[field] for field in ("name", "sha256", "layers"))
        return weights.find_backbone(str(name), str(sha256)), int(layers)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError("does not say which model it is a head for: its backbone is damaged") from error


def _stages(file: TensorFile) -> list[str]:
    """Return the text of each layer. In a model, no kernel's text contains the separator of layers."""
    return [stage.strip() for stage in file.metadata.get("layers", "").split("|")]


def _filters(file: TensorFile, stages: list[str], layer: int, number: int, name: str) -> NDArray[np.float32]:
    """Return the filters of a layer: it has `number` in the file, and is the `layer`th of the network's `stages`."""
    if not 1 <= layer <= len(stages):
        raise KernelError(f"{name} has the layers 1 to {len(stages)}, not {layer}")
    for tensor in (f"{number}.depthwise.kernel", f"{number}.kernel"):
        if tensor in file.entries and len(file.entries[tensor].shape) == 4:
            kernel = file.read(tensor)
            each_map = stages[layer - 1].split()[0] in ("depthwise", "mbconv")
            return kernel.transpose(0, 1, 3, 2) if each_map else kernel
    raise KernelError(f"layer {layer} of {name}, '{stages[layer - 1]}', has no filters to learn")
