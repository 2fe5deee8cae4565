"""Learned layers before they have weights: tensors, parameters, multiply-adds."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter import parse_layers
from cnnfilter.layers.summary import summarize


@pytest.mark.parametrize(
    ("text", "given", "tensors"),
    [
        ("conv 8x3x5", (9, 8, 4), {"kernel": (3, 5, 4, 8), "bias": (8,)}),
        ("conv 8x3x5 bias=no", (9, 8, 4), {"kernel": (3, 5, 4, 8)}),
        ("depthwise 3x3", (9, 8, 4), {"kernel": (3, 3, 4, 1), "bias": (4,)}),
        ("depthwise 3x3 bias=no", (9, 8, 4), {"kernel": (3, 3, 4, 1)}),
        ("dense 10", (20,), {"kernel": (20, 10), "bias": (10,)}),
        ("dense 10 bias=no", (1, 1, 20), {"kernel": (20, 10)}),
        ("batchnorm", (9, 8, 4), {"scale": (4,), "shift": (4,)}),
        ("batchnorm", (20,), {"scale": (20,), "shift": (20,)}),
        (
            "mbconv 6x3x3 expand=2 stride=2",
            (9, 8, 4),
            {
                "expand.kernel": (1, 1, 4, 8),
                "expand.bias": (8,),
                "depthwise.kernel": (3, 3, 8, 1),
                "depthwise.bias": (8,),
                "project.kernel": (1, 1, 8, 6),
                "project.bias": (6,),
            },
        ),
        (
            "mbconv 6x3x3 expand=1",
            (9, 8, 4),
            {
                "depthwise.kernel": (3, 3, 4, 1),
                "depthwise.bias": (4,),
                "project.kernel": (1, 1, 4, 6),
                "project.bias": (6,),
            },
        ),
        ("dropout 0.5", (9, 8, 4), {}),
    ],
)
def test_tensors_and_parameters(text, given, tensors):
    (layer,) = parse_layers(text)
    assert layer.weights(given) == tensors
    assert layer.parameters(given) == sum(int(np.prod(size)) for size in tensors.values())


@pytest.mark.parametrize(
    ("text", "given", "count"),
    [
        ("conv 32x3x3", (28, 28, 1), 28 * 28 * 32 * 9),
        ("conv 32x3x3 pad=valid stride=2", (28, 28, 3), 13 * 13 * 32 * 27),
        ("depthwise 5x3", (10, 10, 4), 10 * 10 * 4 * 15),
        ("mbconv 6x3x3 expand=2 stride=2", (10, 8, 4), 80 * 4 * 8 + 20 * 8 * 9 + 20 * 8 * 6),
        ("batchnorm", (10, 8, 4), 320),
        ("dense 10", (320,), 3200),
        ("dropout 0.5", (10, 8, 4), 0),
    ],
)
def test_multiply_adds(text, given, count):
    (layer,) = parse_layers(text)
    assert layer.multiply_adds(given) == count


@pytest.mark.parametrize(
    ("text", "given", "residual"),
    [
        ("mbconv 4x3x3 expand=6", (9, 8, 4), True),
        ("mbconv 5x3x3 expand=6", (9, 8, 4), False),
        ("mbconv 4x3x3 expand=6 stride=2", (9, 8, 4), False),
        ("mbconv 4x3x3 expand=6 stride=2", (1, 1, 4), False),
        ("mbconv 4x3x3 expand=6 pad=valid", (9, 8, 4), False),
    ],
)
def test_the_input_is_added_where_shapes_allow(text, given, residual):
    (layer,) = parse_layers(text)
    assert layer.residual(given) is residual


# Tan & Le's EfficientNet-Lite0 (2020), in this grammar.
LITE0 = (
    "conv 32x3x3 stride=2 | relu6 | mbconv 16x3x3 expand=1 | mbconv 24x3x3 expand=6 stride=2"
    " | mbconv 24x3x3 expand=6 | mbconv 40x5x5 expand=6 stride=2 | mbconv 40x5x5 expand=6"
    " | mbconv 80x3x3 expand=6 stride=2 | mbconv 80x3x3 expand=6 | mbconv 80x3x3 expand=6"
    " | mbconv 112x5x5 expand=6 | mbconv 112x5x5 expand=6 | mbconv 112x5x5 expand=6"
    " | mbconv 192x5x5 expand=6 stride=2 | mbconv 192x5x5 expand=6 | mbconv 192x5x5 expand=6"
    " | mbconv 192x5x5 expand=6 | mbconv 320x3x3 expand=6 | conv 1280x1x1 | relu6 | globalpool avg"
    " | dropout 0.2 | dense 1000"
)


def test_efficientnet_lite0():
    """4,652,008 parameters as published; with batch norm folded each of its 21,008 maps has one less."""
    layers = parse_layers(LITE0)
    assert str(layers) == LITE0
    summary = summarize(layers, (224, 224, 3))
    assert summary.rows[-1].output == (1000,)
    assert summary.parameters == 4_652_008 - 21_008
    assert summary.multiply_adds == 385_187_552
    residuals = [number for number, row in enumerate(summary.rows[2:18]) if "plus its input" in row.formula]
    assert residuals == [2, 4, 6, 7, 9, 10, 12, 13, 14]


def test_pytorch_counts_the_same():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, (3, 5), padding=(1, 2), groups=8, bias=False),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(8 * 5 * 4, 10),
    )
    text = "conv 8x3x3 stride=2 pad=1 | batchnorm | depthwise 3x5 bias=no | maxpool 2 ceil | flatten | dense 10"
    summary = summarize(parse_layers(text), (18, 15, 3))
    shapes = []
    values = torch.zeros(1, 3, 18, 15)
    for layer in model.eval():
        values = layer(values)
        shapes.append((*values.shape[2:], values.shape[1]))
    assert [row.output for row in summary.rows] == shapes
    assert summary.parameters == sum(parameter.numel() for parameter in model.parameters())
