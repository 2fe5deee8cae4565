"""A stack of layers: from text and back, its shapes, and running it on one picture.

The layers themselves are in `cnnfilter.layers.fixed` and `cnnfilter.layers.learned`. A batch is ``(N, H, W, C)``
float32, or ``(N, F)`` after ``flatten``, in the units of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import CnnfilterError, ModelError, ShapeError
from cnnfilter.layers import fixed, learned
from cnnfilter.layers.fixed import Batch
from cnnfilter.layers.grammar import Stage, split_stages
from cnnfilter.layers.layer import Layer, Shape
from cnnfilter.layers.names import class_of, in_layer

_MODULES = {"fixed": fixed, "learned": learned}
"""The modules that hold the classes listed in `cnnfilter.layers.names`."""


class Layers(tuple[Layer, ...]):
    """A stack of layers; ``str()`` gives its text, which reads back as the same stack."""

    def __str__(self) -> str:
        return " | ".join(map(str, self))

    @overload
    def __getitem__(self, index: SupportsIndex) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> Layers: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Layer | Layers:
        found = super().__getitem__(index)
        return Layers(found) if isinstance(index, slice) else found  # type: ignore[arg-type, return-value]

    def text_with_borders(self) -> str:
        """Return the text with the border of every fixed convolution, which a file keeps whatever the default is.

        >>> parse_layers("conv sobel-h | relu").text_with_borders()
        'conv sobel-h border=replicate | relu'
        """
        return " | ".join(
            f"{layer} border={layer.border}"
            if isinstance(layer, fixed.FixedConvolution) and layer.border == fixed.FixedConvolution.border
            else str(layer)
            for layer in self
        )

    def shapes(self, shape: Shape) -> Iterator[Shape]:
        """Yield the input shape of each layer, and at last the output shape of the stack.

        Raises
        ------
        ShapeError
            If a layer cannot take the shape that the layer before gives. The message names the layer and the sizes.
        """
        yield shape
        for number, layer in enumerate(self, 1):
            try:
                shape = layer.output_shape(shape)
            except ShapeError as error:
                raise ShapeError(f"layer {number} '{layer}': {error}") from error
            yield shape

    def keeps_channels(self, shape: Shape) -> bool:
        """Return whether every layer gives each channel one map, for an input of `shape`.

        The maps are then the channels of a picture, filtered; grey made of colours counts as a channel too.

        >>> texts = "conv sobel | maxpool 2", "gray | relu", "conv sobel-h sobel-v", "flatten"
        >>> [parse_layers(text).keeps_channels((8, 8, 3)) for text in texts]
        [True, True, False, False]
        """
        return all(layer.keeps_channels(before) for layer, before in zip(self, self.shapes(shape), strict=False))

    def output_shape(self, shape: Shape) -> Shape:
        """Return the output shape of the stack; ShapeError as in `shapes`."""
        *_, last = self.shapes(shape)
        return last


def parse_layers(text: str) -> Layers:
    """Read a stack of layers from its text.

    Parameters
    ----------
    text : str
        Layers between ``|``; words between spaces; options as ``key=value``; a kernel of numbers in quotes.

    Raises
    ------
    ModelError
        For text that is not of this grammar. The message names the layer and suggests a remedy.
    KernelError
        For a kernel that cannot be found or read.

    Examples
    --------
    >>> layers = parse_layers("conv 32x3x3 | relu | maxpool 2,2 | flatten | dense 10")
    >>> str(layers)
    'conv 32x3x3 | relu | maxpool 2 | flatten | dense 10'
    >>> layers.output_shape((28, 28, 1))
    (10,)
    """
    return Layers(_read(number, stage) for number, stage in enumerate(split_stages(text), 1))


def _read(number: int, stage: Stage) -> Layer:
    try:
        module, layer = class_of(stage).split(".")
        read: Layer = getattr(_MODULES[module], layer).read(stage)
        return read
    except CnnfilterError as error:
        raise in_layer(number, stage, error) from error


def run_layers(pixels: NDArray[Any], layers: Layers | str) -> Batch:
    """Send one picture through layers that need no learned weights.

    Parameters
    ----------
    pixels : (H, W) or (H, W, C) array
    layers : Layers or str

    Returns
    -------
    (H', W', C') float32 array
        The maps; flat numbers have the shape (1, 1, F).

    Raises
    ------
    ShapeError
        If a layer cannot take the shape that the layer before gives.
    ModelError
        If a layer has learned weights.

    Examples
    --------
    >>> import numpy as np
    >>> corner = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]], np.uint8)
    >>> run_layers(corner, "conv '-1 1' pad=valid | maxpool 2,1")[:, :, 0]
    array([[1., 0., 0.],
           [1., 0., 0.]], dtype=float32)
    """
    layers = parse_layers(layers) if isinstance(layers, str) else layers
    refuse_learned(layers)
    batch = np.asarray(pixels, np.float32)[None]
    batch = batch[..., None] if batch.ndim == 3 else batch
    layers.output_shape(batch.shape[1:])  # raises ShapeError before any work
    for layer in layers:
        batch = layer.forward(batch)  # type: ignore[attr-defined]  # every layer without weights has it
    return batch[None] if batch.ndim == 2 else np.ascontiguousarray(batch[0])


def refuse_learned(layers: Layers) -> None:
    """Raise ModelError for the first layer whose weights its text does not give."""
    for number, layer in enumerate(layers, 1):
        if layer.learned:
            raise ModelError(
                f"layer {number} '{layer}' has learned weights, which its text does not give; "
                "a fixed kernel such as 'conv sobel-h' would do"
            )
