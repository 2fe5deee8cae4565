"""Networks: stacks of layers with weights, which classify pictures.

`load_model` finds a network and reads it. The format of model files is in `cnnfilter.networks.model_file`; layers are
computed in `cnnfilter.networks.plan`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnfilter import weights
from cnnfilter.errors import ModelError, ShapeError, count_text
from cnnfilter.images.image import Image
from cnnfilter.layers.answers import Answers, without_last_function
from cnnfilter.layers.layer import Shape, show_shape
from cnnfilter.layers.stack import Layers
from cnnfilter.networks.float_scales import Scale, check_scale
from cnnfilter.networks.model_file import Calibration, Model, Preparation, Weights, read_model
from cnnfilter.networks.plan import Step, make_steps, run_steps
from cnnfilter.networks.preparation import prepare
from cnnfilter.runtime.blas import one_thread
from cnnfilter.runtime.buffers import Scratch
from cnnfilter.runtime.parallel import Workers, default_threads, run_tasks

Batch = NDArray[np.float32]
Picture = Image | ArrayLike


class Network:
    """A stack of layers with weights.

    Attributes
    ----------
    layers : Layers
    classes : tuple of str
        The names of the outputs; empty if they have no names.
    input_shape : (H, W, C)
        The shape of the input for each picture.
    preparation : Preparation
        The steps that turn a picture into that input.
    name : str
        The name of the model, or of its file.
    """

    def __init__(self, model: Model, name: str = "network") -> None:
        self.name = name
        self.model = model
        self._steps: dict[int, list[Step]] = {}
        self._free_spaces: dict[int, list[ScratchSpace]] = {}

    def __repr__(self) -> str:
        return f"<Network {self.name}: {len(self.layers)} layers, {len(self.classes)} classes>"

    @property
    def layers(self) -> Layers:
        return self.model.layers

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @property
    def input_shape(self) -> Shape:
        return self.model.input_shape

    @property
    def preparation(self) -> Preparation:
        return self.model.preparation

    @property
    def weights(self) -> Sequence[Weights]:
        """The tensors of each layer, by name."""
        return self.model.weights

    @property
    def provenance(self) -> str:
        """The origin of the weights, in words."""
        return self.model.provenance

    @property
    def calibration(self) -> Calibration:
        return self.model.calibration

    def forward(self, batch: ArrayLike, *, until: int | None = None, threads: int | None = None) -> Batch:
        """Compute the outputs of the layers for prepared pictures.

        Parameters
        ----------
        batch : (N, H, W, C) array
            The result of `prepare`.
        until : int, optional
            Number of layers that are computed; all by default, but for a softmax or sigmoid at the end (see
            `predict`).
        threads : int, optional
            All cores by default. The result is the same for any number, and for any other pictures in the batch.

        Returns
        -------
        (N, classes) float32 array
            The logits, one for two classes if a sigmoid follows a single number; with `until` the maps
            (N, H', W', C').

        Raises
        ------
        ShapeError
            If the batch does not have the input shape of the network.
        """
        pictures = np.ascontiguousarray(batch, np.float32)
        if pictures.ndim != 4 or pictures.shape[1:] != self.input_shape or not len(pictures):
            raise ShapeError(
                f"a batch of shape {pictures.shape}: this network takes (N, {', '.join(map(str, self.input_shape))})"
            )
        steps = self._steps_until(len(without_last_function(self.layers)) if until is None else until)
        out = np.empty((len(pictures), *(steps[-1].shape if steps else self.input_shape)), np.float32)
        if not steps:
            out[...] = pictures
        else:
            with one_thread():
                self._run_all(steps, pictures, out, threads or default_threads())
        return out

    def predict(self, images: Sequence[Picture] | Picture, *, threads: int | None = None) -> Batch:
        """Return the probability of each class for each picture.

        Parameters
        ----------
        images : sequence of Image or (H, W), (H, W, C) arrays, or one of them
            Pictures in the units of their files: uint8 0…255, uint16 0…65535; floats on the scale of the network
            (``preparation.scale``) or, if it has none, on 0…1, 0…255 or 0…65535, whichever their range fits.

        Returns
        -------
        (N, classes) float32 array
            Each row sums to 1, unless the layers end with several numbers and a sigmoid: then each class has a
            probability by itself.
        """
        logits = self.forward(self.prepare(images), threads=threads)
        return self.answers.probabilities(logits.reshape(len(logits), -1) / np.float32(self.calibration.temperature))

    def features(self, images: Sequence[Picture] | Picture, *, threads: int | None = None) -> Batch:
        """Return the input of the last `dense` layer for each picture, (N, F): the pooled vectors."""
        maps = self.forward(self.prepare(images), until=self.head, threads=threads)
        return maps.reshape(len(maps), -1)

    def prepare(self, images: Sequence[Picture] | Picture) -> Batch:
        """Return the batch (N, H, W, C) of pictures that `forward` takes."""
        pictures: Any = [images] if _is_one(images) else images
        if not len(pictures):
            raise ShapeError("there is no picture in the batch")
        return np.stack([prepare(picture, self.input_shape, self.preparation) for picture in pictures])

    def with_scale(self, scale: Scale | None) -> Network:
        """Return the network with another scale of float pictures; the same network if `scale` is None.

        Raises
        ------
        DataError
            If it is not two finite numbers, of which the first is smaller.
        """
        if scale is None:
            return self
        preparation = replace(self.preparation, scale=check_scale(scale))
        return Network(replace(self.model, preparation=preparation), self.name)

    @property
    def head(self) -> int:
        """The number of layers before the last `dense`."""
        for index in range(len(self.layers) - 1, -1, -1):
            if self.layers[index].name == "dense":
                return index
        raise ModelError(f"{self.name} has no dense layer")

    @property
    def answers(self) -> Answers:
        """The rule that turns the outputs into probabilities of classes."""
        return Answers.of(self.layers, self.input_shape)

    @property
    def outputs(self) -> int:
        """The number of outputs."""
        return self.answers.numbers

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers if they have no names."""
        return self.classes or tuple(map(str, range(self.answers.classes)))

    def label(self, index: int) -> str:
        """Return the name of a class, or its index if it has no name."""
        return self.classes[index] if self.classes else str(index)

    def _steps_until(self, until: int) -> list[Step]:
        if not 0 <= until <= len(self.layers):
            raise ModelError(f"{self.name} has {count_text(len(self.layers), 'layer')}, not {until}")
        if until not in self._steps:
            self._steps[until] = make_steps(self.layers[:until], self.weights, self.input_shape)
        return self._steps[until]

    def _run_all(self, steps: list[Step], pictures: Batch, out: Batch, threads: int) -> None:
        """Compute the pictures on several threads; a single picture is cut into pieces for all threads."""
        inner = threads if len(pictures) == 1 else 1
        free = self._free_spaces.setdefault(inner, [])

        def run(index: int) -> None:
            try:
                space = free.pop()
            except IndexError:
                space = ScratchSpace(Workers(inner), Scratch())
            run_steps(steps, pictures[index], out[index], *space)
            free.append(space)

        run_tasks([functools.partial(run, index) for index in range(len(pictures))], threads)


class ScratchSpace(NamedTuple):
    """Threads and memory for one picture, used again for the next picture."""

    workers: Workers
    scratch: Scratch


def _is_one(images: Any) -> bool:
    return isinstance(images, Image) or (isinstance(images, np.ndarray) and images.ndim < 4)


# --- finding and loading -------------------------------------------------------------------------------


@dataclass(frozen=True)
class FirstLayers:
    """The first `count` layers of a network."""

    network: Network
    count: int

    def maps(self, picture: Picture, threads: int | None = None) -> Batch:
        """Return the maps of a picture, (H', W', C'); a vector comes as (1, 1, F)."""
        batch = self.network.prepare(picture)
        maps: Batch = self.network.forward(batch, until=self.count, threads=threads)[0]
        return maps.reshape(1, 1, -1) if maps.ndim == 1 else maps

    def filter_name(self, number: int) -> str:
        """Return the name of one of the maps: ``MODEL#3[5]``."""
        return f"{self.network.name}#{self.count}[{number}]"


def load_first_layers(text: str) -> FirstLayers | None:
    """Load the first layers of a model for ``MODEL[:N]``, or all of them for ``MODEL``; None for any other text.

    Raises
    ------
    ModelError
        As in `load_model`, and if the network has fewer layers.
    """
    name, bracket, count = text.removesuffix("]").partition("[:")
    if not (bracket and count.isdecimal() and text.endswith("]")):
        return FirstLayers(network := load_model(text), len(network.layers)) if weights.is_model(text) else None
    network = load_model(name)
    if not 1 <= int(count) <= len(network.layers):
        raise ModelError(f"{text!r}: {network.name} has {count_text(len(network.layers), 'layer')}, not {count}")
    return FirstLayers(network, int(count))


def load_model(model: str | os.PathLike[str] = weights.DEFAULT_MODEL) -> Network:
    """Load a network by the name of a model that ships, or from a model file.

    Parameters
    ----------
    model : str or path
        ``efficientnet-lite0``, or the path of a file that `train` wrote.

    Raises
    ------
    ModelError
        If there is no such model, or the file is no model file or damaged.

    Examples
    --------
    >>> network = load_model()
    >>> network.classes[:2], network.input_shape
    (('tench', 'goldfish'), (224, 224, 3))
    >>> grey = np.full((300, 400), 128, np.uint8)
    >>> network.predict(grey).shape, network.features([grey, grey]).shape
    ((1, 1000), (2, 1280))
    """
    given = os.fspath(model)
    with weights.naming(given):
        loaded = read_model(weights.find(given))
    return make_network(loaded, given)


def make_network(model: Model, given: str = "network") -> Network:
    """Make a network from a model; a head gets the layers of the backbone that it names.

    Raises
    ------
    ModelError
        If the backbone does not ship, or is another one than the head was trained on.
    """
    if model.backbone is not None:
        model = _on_backbone(model, given)
    name = given if given in weights.NAMES else os.path.basename(given)
    return Network(model, name)


def _on_backbone(head: Model, given: str) -> Model:
    """Return a model with the layers of a head behind those of the model that it was trained on."""
    backbone = head.backbone
    assert backbone is not None
    with weights.naming(given):
        path = weights.find_backbone(backbone.name, backbone.sha256)
    body = read_model(path)
    if backbone.layers > len(body.layers):
        raise ModelError(
            f"model {given!r}: its backbone has {count_text(len(body.layers), 'layer')}, not {backbone.layers}"
        )
    layers = Layers((*body.layers[: backbone.layers], *head.layers))
    first = list(body.layers[: backbone.layers].shapes(body.input_shape))[-1]
    if head.input_shape != first:
        raise ModelError(
            f"model {given!r} takes {show_shape(head.input_shape)} numbers; its backbone gives {show_shape(first)}"
        )
    tensors = (*body.weights[: backbone.layers], *head.weights)
    return Model(
        layers,
        tensors,
        body.input_shape,
        head.classes,
        replace(body.preparation, scale=head.preparation.scale),
        head.provenance,
        backbone,
        head.calibration,
        head.trained,
    )
