"""Model files: their content, writing them, and reading and checking them.

A model file is a safetensors file whose tensors are named ``LAYER.NAME`` (layers counted from 1, names as in
`cnnfilter.layers.learned`), and whose metadata are

====================  ==================================================================================
``format``            ``cnnfilter-model``
``version``           ``1``
``layers``            the layers as text; a ``conv`` of fixed kernels without ``border=`` has a border of zeros
``input``             the shape that they take: ``224x224x3``
``classes``           the names of the outputs, a JSON list (empty: the outputs have no names); two names for one
                      number and a sigmoid
``preparation``       how a picture becomes numbers, a JSON object: the fields of `Preparation`
``provenance``        where the weights come from, in words
``backbone``          optional, a JSON object: the name and the checksum of the model whose first layers stand
                      before these, and how many of them
``calibration``       optional, a JSON object: ``temperature`` and ``threshold``
``trained``           optional, a JSON object: the number of training pictures, and digests of them (`TrainedPictures`)
====================  ==================================================================================
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import CnnfilterError, ModelError
from cnnfilter.kernels.catalogue import ENTRIES
from cnnfilter.layers.answers import Answers
from cnnfilter.layers.fixed import FixedConvolution
from cnnfilter.layers.grammar import Stage, split_stages
from cnnfilter.layers.layer import Layer, Shape, show_shape
from cnnfilter.layers.stack import Layers, parse_layers
from cnnfilter.weights.safetensors import TensorFile, write_tensors
from cnnfilter.weights.trained_pictures import TrainedPictures

FORMAT, VERSION = "cnnfilter-model", "1"
_REQUIRED_FIELDS = ("format", "version", "layers", "input", "classes", "preparation", "provenance")
_OPTIONAL_FIELDS = ("backbone", "calibration", "trained")

# Limits of what a file may describe, far above the networks in use: ResNet-152 has fewer than 500 layers (with batch
# norm and activations), ImageNet-21k has 21,841 classes, and classifiers take pictures of less than 1000 pixels a side.
_LAYERS_MAX = 1000
_LAYERS_TEXT_CHARACTERS_MAX = 1 << 16
_CLASSES_MAX = 100_000
_SIDE_MAX = 4096
"""Of each side and of the channels of the input."""
_LAYER_VALUES_MAX = 1 << 28
"""Of the output of one layer: 1 GiB of float32."""

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Preparation:
    """The steps that turn a picture into the input of a network.

    Attributes
    ----------
    fit : ``crop`` takes the middle of the picture, in the proportions of the input; ``squash`` takes all of it.
    share : the share of the sides of that crop that is used; the rest is margin.
    resample : ``bicubic`` or ``bilinear``.
    mean, std : for each channel; the input is (sample - mean) / std, with samples of 0…255.
    scale : the samples of float pictures that are black and white, which become 0 and 255; None if the network was
        trained without float pictures. A model file has it only if there is one.
    """

    fit: str = "crop"
    share: float = 1.0
    resample: str = "bicubic"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    scale: tuple[float, float] | None = None

    def as_record(self) -> dict[str, Any]:
        """Return the fields for a JSON object, without `scale` if there is none."""
        record = dataclasses.asdict(self)
        return record if self.scale is not None else {key: record[key] for key in record if key != "scale"}


@dataclass(frozen=True)
class Backbone:
    """The model whose first `layers` layers come before a head: its name and the checksum of its file."""

    name: str
    sha256: str
    layers: int


@dataclass(frozen=True)
class Calibration:
    """The divisor of the logits, and the probability below which a label is unknown."""

    temperature: float = 1.0
    threshold: float = 0.0


@dataclass(frozen=True)
class Model:
    """The content of a model file."""

    layers: Layers
    weights: tuple[Weights, ...]
    input_shape: Shape
    classes: tuple[str, ...] = ()
    preparation: Preparation = field(default_factory=Preparation)
    provenance: str = ""
    backbone: Backbone | None = None
    calibration: Calibration = field(default_factory=Calibration)
    trained: TrainedPictures | None = None


# --- writing -------------------------------------------------------------------------------------------


def write_model(file: BinaryIO, model: Model, *, dtype: str = "float16") -> None:
    """Write a model; the same model gives the same bytes.

    Parameters
    ----------
    dtype : "float16" or "float32"
        The precision of the weights.
    """
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "layers": model.layers.text_with_borders(),
        "input": show_shape(model.input_shape),
        "classes": _json(model.classes),
        "preparation": _json(model.preparation.as_record()),
        "provenance": model.provenance,
    }
    if model.backbone is not None:
        metadata["backbone"] = _json(dataclasses.asdict(model.backbone))
    if model.calibration != Calibration():
        metadata["calibration"] = _json(dataclasses.asdict(model.calibration))
    if model.trained is not None:
        metadata["trained"] = _json(model.trained.as_record())
    tensors = {
        f"{number}.{name}": tensor.astype(dtype)
        for number, tensors in enumerate(model.weights, 1)
        for name, tensor in tensors.items()
    }
    write_tensors(file, tensors, metadata)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# --- reading -------------------------------------------------------------------------------------------


def read_model(path: str | os.PathLike[str]) -> Model:
    """Read a model and check it; its weights become float32.

    Raises
    ------
    ModelError
        If the file is no safetensors file, if a part is missing or unknown, or if the parts do not fit each other.
    OSError
        If it cannot be opened.
    """
    with TensorFile(path) as file:
        described = _described(file.metadata)
        shapes = _tensor_shapes(described)
        _compare(shapes, {name: entry.shape for name, entry in file.entries.items()})
        weights: list[dict[str, NDArray[np.float32]]] = [{} for _ in described.layers]
        for name in shapes:
            number, _, tensor = name.partition(".")
            weights[int(number) - 1][tensor] = file.read(name)
    return dataclasses.replace(described, weights=tuple(weights))


def stored_dtype(path: str | os.PathLike[str]) -> str:
    """Return the precision of the weights in a file; raises the errors of `read_model`."""
    with TensorFile(path) as file:
        return "float32" if any(entry.dtype.itemsize == 4 for entry in file.entries.values()) else "float16"


def _described(metadata: Mapping[str, str]) -> Model:
    """Return the model that the metadata describe, without its weights."""
    if metadata.get("format") != FORMAT:
        raise ModelError("is a safetensors file, but not a model of cnnfilter (its metadata do not say so)")
    if metadata.get("version") != VERSION:
        raise ModelError(f"is of version {metadata.get('version', 'none')!r}; this cnnfilter reads version {VERSION}")
    for name in _REQUIRED_FIELDS:
        if name not in metadata:
            raise ModelError(f"lacks {name!r} in its metadata")
    for name in metadata:
        if name not in (*_REQUIRED_FIELDS, *_OPTIONAL_FIELDS):
            raise ModelError(f"has {name!r} in its metadata, which version {VERSION} does not know")
    backbone = _backbone(metadata["backbone"]) if "backbone" in metadata else None
    model = Model(
        layers=_layers(metadata["layers"]),
        weights=(),
        input_shape=_input_shape(metadata["input"], flat=backbone is not None),
        classes=_classes(metadata["classes"]),
        preparation=_preparation(metadata["preparation"]),
        provenance=metadata["provenance"],
        backbone=backbone,
        calibration=_calibration(metadata["calibration"]) if "calibration" in metadata else Calibration(),
        trained=TrainedPictures.from_text(metadata["trained"]) if "trained" in metadata else None,
    )
    _check_fit(model)
    return model


def _layers(text: str) -> Layers:
    if text.count("|") >= _LAYERS_MAX:
        raise ModelError(f"has more than {_LAYERS_MAX} layers")
    if len(text) > _LAYERS_TEXT_CHARACTERS_MAX:
        raise ModelError(f"its layers are {len(text):,} characters long; {_LAYERS_TEXT_CHARACTERS_MAX:,} is the limit")
    try:
        stages = split_stages(text)
        for stage in stages:
            _refuse_other_files(stage.words)
        return Layers(map(_with_own_border, parse_layers(text), stages))
    except CnnfilterError as error:
        raise ModelError(f"its layers cannot be read: {error}") from error


def _with_own_border(layer: Layer, stage: Stage) -> Layer:
    """Return a layer as it was trained: fixed kernels without a border in the text had zeros around the maps."""
    if isinstance(layer, FixedConvolution) and "border" not in stage.options:
        return dataclasses.replace(layer, border="zero")
    return layer


def _refuse_other_files(words: Sequence[str]) -> None:
    """Refuse kernels from files and other models, because a model must not depend on other files on the disk."""
    for word in words[1:] if words[0] == "conv" else ():
        numbers = re.fullmatch(r"[\d\s.,;/eE+-]+", word)
        name = re.fullmatch(r"([\w-]+)(:[\w.,+-]*)?", word)
        known = name and name[1].lower().replace("_", "-") in ENTRIES
        learned = re.fullmatch(r"\d+(x\d+)*", word)
        if not (numbers or known or learned):
            raise ModelError(f"conv {word[:40]!r} is neither a kernel's name nor numbers")


def _input_shape(text: str, *, flat: bool) -> Shape:
    if not re.fullmatch(r"\d{1,5}(x\d{1,5}x\d{1,4})?", text):
        raise ModelError(f"its input {text[:40]!r} is not HxWxC, as in 224x224x3")
    shape = tuple(map(int, text.split("x")))
    if min(shape) < 1 or max(shape) > _SIDE_MAX or (len(shape) == 1 and not flat):
        raise ModelError(f"its input {text!r} is not HxWxC of 1 to {_SIDE_MAX} each")
    return shape


def _classes(text: str) -> tuple[str, ...]:
    classes = _from_json("classes", text)
    if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
        raise ModelError("its classes are not a list of names")
    if len(classes) > _CLASSES_MAX:
        raise ModelError(f"has {len(classes):,} classes; {_CLASSES_MAX:,} is the limit")
    if len(set(classes)) != len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise ModelError(f"has two classes {twice!r}")
    return tuple(classes)


def _preparation(text: str) -> Preparation:
    fields = _fields("preparation", text, Preparation, optional=("scale",))
    for name in ("mean", "std"):
        values = fields[name]
        if not isinstance(values, list) or not all(map(_is_number, values)) or not 1 <= len(values) <= _SIDE_MAX:
            raise ModelError(f"its preparation's {name} is not a list of numbers")
        fields[name] = tuple(map(float, values))
    if "scale" in fields:
        ends = fields["scale"]
        if not isinstance(ends, list) or len(ends) != 2 or not all(map(_is_number, ends)) or ends[0] >= ends[1]:
            raise ModelError("its preparation's scale is not two numbers, of which the first is smaller")
        fields["scale"] = (float(ends[0]), float(ends[1]))
    preparation = Preparation(**fields)
    if preparation.fit not in ("crop", "squash") or preparation.resample not in ("bicubic", "bilinear"):
        raise ModelError("its preparation's fit is crop or squash, its resample bicubic or bilinear; these are not")
    if not _is_number(preparation.share) or not 0.01 <= preparation.share <= 1:
        raise ModelError("its preparation's share is not a number from 0.01 to 1")
    if min(preparation.std) <= 0:
        raise ModelError("its preparation's std is not above 0")
    return preparation


def _backbone(text: str) -> Backbone:
    backbone = Backbone(**_fields("backbone", text, Backbone))
    name_is_text = isinstance(backbone.name, str) and re.fullmatch(r"[\w.-]{1,100}", backbone.name)
    sum_is_hex = isinstance(backbone.sha256, str) and re.fullmatch("[0-9a-f]{64}", backbone.sha256)
    if not name_is_text or not sum_is_hex or type(backbone.layers) is not int or backbone.layers < 1:
        raise ModelError("its backbone is not a name, a sha256 and a number of layers")
    return backbone


def _calibration(text: str) -> Calibration:
    calibration = Calibration(**_fields("calibration", text, Calibration))
    temperature, threshold = calibration.temperature, calibration.threshold
    if not _is_number(temperature) or not _is_number(threshold) or temperature <= 0 or not 0 <= threshold <= 1:
        raise ModelError("its calibration is not a temperature above 0 and a threshold from 0 to 1")
    return calibration


def _fields(what: str, text: str, kind: type[Any], optional: Sequence[str] = ()) -> dict[str, Any]:
    found = _from_json(what, text)
    names = {field.name for field in dataclasses.fields(kind)} - {*optional}
    if not isinstance(found, dict) or found.keys() - {*optional} != names:
        raise ModelError(f"its {what} does not have the fields {', '.join(sorted(names))}")
    return found


def _from_json(what: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ModelError(f"its {what} is not JSON") from None


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e9


def _check_fit(model: Model) -> None:
    """Compare the parts with each other, before memory of the sizes that they name is allocated."""
    try:
        shapes = list(model.layers.shapes(model.input_shape))
    except CnnfilterError as error:
        raise ModelError(f"its layers do not fit together: {error}") from error
    if max(map(math.prod, shapes)) > _LAYER_VALUES_MAX:
        raise ModelError(f"has a layer with more than {_LAYER_VALUES_MAX:,} numbers")
    if model.classes and Answers.of(model.layers, model.input_shape).classes != len(model.classes):
        numbers = "1 number" if math.prod(shapes[-1]) == 1 else f"{show_shape(shapes[-1])} numbers"
        raise ModelError(f"has {len(model.classes)} classes, but its layers give {numbers}")
    for name in ("mean", "std"):
        values = len(getattr(model.preparation, name))
        if model.backbone is None and values not in (1, model.input_shape[-1]):
            raise ModelError(f"its preparation has {values} numbers of {name} for {model.input_shape[-1]} channels")


def tensor_shapes(layers: Layers, input_shape: Shape) -> dict[str, Shape]:
    """Return the shape of each tensor in a model file of these layers, by its name ``LAYER.NAME``."""
    return {
        f"{number}.{name}": tensor
        for number, (layer, shape) in enumerate(zip(layers, layers.shapes(input_shape), strict=False), 1)
        for name, tensor in layer.weights(shape).items()
    }


def _tensor_shapes(model: Model) -> dict[str, Shape]:
    return tensor_shapes(model.layers, model.input_shape)


def _compare(wanted: Mapping[str, Shape], found: Mapping[str, Sequence[int]]) -> None:
    for name, shape in wanted.items():
        if name not in found:
            raise ModelError(f"lacks the tensor {name!r} of shape {show_shape(shape)}")
        if tuple(found[name]) != shape:
            raise ModelError(
                f"has the tensor {name!r} in shape {show_shape(tuple(found[name]))}; its layers need "
                f"{show_shape(shape)}"
            )
    for name in found:
        if name not in wanted:
            raise ModelError(f"has a tensor {name!r} that no layer takes")
