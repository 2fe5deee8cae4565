"""The gradients of every layer: by differences, and as PyTorch finds them."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter import parse_layers
from cnnfilter.errors import ModelError
from cnnfilter.runtime.blas import one_thread
from cnnfilter.training.gradients.convolutions import TrainableWinogradConvolution
from cnnfilter.training.gradients.fused import fuse
from cnnfilter.training.gradients.layer import Context, TrainableLayer
from cnnfilter.training.gradients.layers import make_trainable
from cnnfilter.training.gradients.stack import Stack, Targets

STEP = 1e-2  # of a difference; float32 gives about five digits


def trainable(text: str, shape: tuple[int, ...], rng: np.random.Generator) -> TrainableLayer:
    (layer,) = parse_layers(text)
    made = make_trainable(layer, shape)
    initial_values = {
        name: np.ascontiguousarray(start + rng.normal(0, 0.3, start.shape), np.float32)
        for name, start in made.initial_values(rng).items()
    }
    made.bind(initial_values)
    return made


def context_of(layer: TrainableLayer) -> Context:
    context = Context({name: np.zeros_like(values) for name, values in layer.values.items()})
    context.draw = lambda: np.random.default_rng(7)
    return context


def run(layer: TrainableLayer, inputs: np.ndarray, context: Context) -> np.ndarray:
    """Send inputs forward; a copy goes in, because activations work in place."""
    inputs = inputs.copy()
    if hasattr(layer, "measure"):
        layer.take_sums(layer.measure(inputs), inputs.size // layer.channels)
    return layer.forward(inputs, context).copy()


def gradients_of(layer: TrainableLayer, inputs: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, dict]:
    """Return the gradients of ``(output * weights).sum()`` by the input and by the layer's parameters."""
    context = context_of(layer)
    run(layer, inputs, context)
    back = weights.copy()
    if hasattr(layer, "measure_backward"):
        back, sums = layer.measure_backward(back, context)
        layer.take_backward_sums(sums, inputs.size // layer.channels)
    return layer.backward(back, context).copy(), dict(context.gradients)


def differences(layer: TrainableLayer, inputs: np.ndarray, weights: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return the same gradients by `of` (the inputs themselves, or one of the layer's arrays), from steps both ways."""

    def value() -> float:
        if hasattr(layer, "bind"):
            layer.bind(layer.values)
        return float((run(layer, inputs, context_of(layer)).astype(np.float64) * weights).sum())

    found = np.empty(of.shape)
    for index in np.ndindex(of.shape):
        middle = of[index]
        of[index] = middle + STEP
        above = value()
        of[index] = middle - STEP
        found[index] = (above - value()) / (2 * STEP)
        of[index] = middle
    return found


def spread(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return numbers of which no two are near each other or near 0: no step crosses a kink."""
    size = int(np.prod(shape))
    return ((rng.permutation(size) - size / 2 + 0.5) * 0.06).reshape(shape).astype(np.float32)


def agree(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(found - wanted).max() < 5e-3 * max(1.0, np.abs(wanted).max()))


LAYERS = [
    ("conv 3x3x3", (5, 4, 2)),
    ("conv 3x3x2 stride=2 pad=1,0,2,1", (5, 6, 2)),
    ("conv 2x3x3 dilation=2 bias=no", (6, 5, 2)),
    ("conv 4x1x1", (3, 3, 5)),
    ("conv 2x2x2 pad=valid", (3, 4, 1)),
    ("conv 2x5x5", (2, 3, 2)),
    ("conv 16x3x3", (3, 2, 16)),
    ("depthwise 3x3", (4, 5, 3)),
    ("depthwise 3x2 stride=2 bias=no dilation=2", (6, 6, 2)),
    ("mbconv 3x3x3 expand=2", (4, 4, 3)),
    ("mbconv 2x3x3 expand=1 stride=2", (5, 4, 3)),
    ("dense 4", (7,)),
    ("dense 3 bias=no", (1, 1, 5)),
    ("maxpool 2", (4, 6, 3)),
    ("maxpool 3 stride=2 pad=1", (5, 5, 2)),
    ("maxpool 2 dilation=2 stride=1", (4, 4, 2)),
    ("minpool 2 ceil", (5, 3, 2)),
    ("avgpool 2", (4, 6, 3)),
    ("avgpool 3 stride=2 pad=1 ceil", (6, 6, 2)),
    ("globalpool avg", (3, 4, 2)),
    ("globalpool max", (3, 4, 2)),
    ("relu", (3, 3, 2)),
    ("relu6", (3, 3, 2)),
    ("leaky:0.2", (3, 3, 2)),
    ("sigmoid", (3, 3, 2)),
    ("tanh", (6,)),
    ("abs", (3, 3, 2)),
    ("softmax", (5,)),
    ("batchnorm", (3, 2, 4)),
    ("batchnorm", (5,)),
    ("dropout 0.4", (4, 3, 2)),
    ("flatten", (2, 3, 2)),
]


@pytest.mark.parametrize(("text", "shape"), LAYERS)
def test_gradients_are_those_of_differences(text, shape, rng):
    layer = trainable(text, shape, rng)
    inputs = spread((3, *shape), rng)
    if text.startswith("mbconv"):  # its relu6 in the middle of where it is straight
        inputs *= np.float32(0.1)
        layer.values["depthwise.kernel"][...] *= np.float32(0.2)
        for name in ("expand.bias", "depthwise.bias"):
            layer.values.get(name, inputs[:0])[...] = 3
    weights = rng.normal(size=(3, *layer.output)).astype(np.float32)
    by_input, by_values = gradients_of(layer, inputs, weights)
    assert by_input.shape == inputs.shape
    assert agree(by_input, differences(layer, inputs, weights, inputs))
    for name, values in layer.values.items():
        assert agree(by_values[name], differences(layer, inputs, weights, values)), name


TILED = [
    ("conv 32x3x3", (14, 14, 16)),
    ("conv 16x3x3 bias=no", (7, 6, 32)),
    ("conv 16x3x3 pad=0", (5, 8, 48)),
    ("conv 16x3x3 pad=2,1,0,3", (3, 4, 16)),
    ("conv 16x3x3", (1, 1, 16)),
]


@pytest.mark.parametrize(("text", "shape"), TILED)
@pytest.mark.parametrize("per_piece", [1, 3, 1000])
def test_tiles_give_what_pytorch_gives(text, shape, per_piece, rng):
    torch = pytest.importorskip("torch")
    layer = trainable(text, shape, rng)
    assert isinstance(layer, TrainableWinogradConvolution)
    layer.tile_rows_per_piece = per_piece
    inputs = rng.normal(size=(3, *shape)).astype(np.float32)
    weights = rng.normal(size=(3, *layer.output)).astype(np.float32)
    context = context_of(layer)
    out = run(layer, inputs, context)
    back = layer.backward(weights, context)
    (top, bottom), (left, right) = [(axis.before, axis.after) for axis in layer.layer.axes(*shape[:2])]
    batch = torch.from_numpy(inputs.transpose(0, 3, 1, 2).copy()).double().requires_grad_()
    kernel = torch.from_numpy(layer.values["kernel"].transpose(3, 2, 0, 1).copy()).double().requires_grad_()
    padded = torch.nn.functional.pad(batch, (left, right, top, bottom))
    wanted = torch.nn.functional.conv2d(padded, kernel)
    wanted.backward(torch.from_numpy(weights.transpose(0, 3, 1, 2).copy()).double())
    if "bias" in layer.values:
        out -= layer.values["bias"]
        np.testing.assert_allclose(context.gradients["bias"], weights.sum(axis=(0, 1, 2)), rtol=1e-4, atol=1e-4)
    for mine, theirs in [
        (out, wanted.detach().numpy().transpose(0, 2, 3, 1)),
        (back, batch.grad.numpy().transpose(0, 2, 3, 1)),
        (context.gradients["kernel"], kernel.grad.numpy().transpose(2, 3, 1, 0)),
    ]:
        assert np.abs(mine - theirs).max() < 2e-6 * np.abs(theirs).max()


def test_the_check_finds_a_wrong_backward(rng):
    layer = trainable("conv 3x3x3", (5, 4, 2), rng)
    inputs = spread((3, 5, 4, 2), rng)
    weights = rng.normal(size=(3, 5, 4, 3)).astype(np.float32)
    by_input, by_values = gradients_of(layer, inputs, weights)
    assert not agree(by_input[:, ::-1], differences(layer, inputs, weights, inputs))
    assert not agree(by_values["kernel"] * 1.05, differences(layer, inputs, weights, layer.values["kernel"]))


@pytest.mark.parametrize(
    ("text", "shape"),
    [case for case in LAYERS if case[0].split()[0] in ("maxpool", "minpool", "avgpool", "globalpool")],
)
def test_pools_give_what_the_layer_gives(text, shape, rng):
    (layer,) = parse_layers(text)
    inputs = rng.normal(size=(2, *shape)).astype(np.float32)
    np.testing.assert_allclose(
        make_trainable(layer, shape).forward(inputs, Context()), layer.forward(inputs), rtol=1e-5, atol=1e-6
    )


def test_fixed_kernels_come_first(rng):
    def stack(text):
        return Stack(parse_layers(text), (8, 8, 1), rng, 1)

    assert len(stack("conv sobel-h sobel-v | abs | maxpool 2 | flatten | dense 2").values) == 2 * 32 + 2
    with pytest.raises(ModelError, match=r"layer 2 'conv blur' can only stand before the first learned layer"):
        stack("conv 4x3x3 | conv blur | flatten | dense 2")
    with pytest.raises(ModelError, match="has nothing to learn"):
        stack("conv blur | relu")


NETWORK = (
    "conv 6x3x3 | relu | batchnorm | maxpool 2 | depthwise 3x3 stride=2 | conv 8x1x1 bias=no | batchnorm | leaky:0.1 |"
    " avgpool 2 | flatten | dense 5 | softmax"
)


def twin_of(stack, torch):
    """Return the same network in PyTorch, and how its parameters are called and laid out here."""
    nn = torch.nn
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(6),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6),
        nn.Conv2d(6, 8, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.1),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 2 * 2, 5),
    )
    turns = {0: (3, 2, 0, 1), 4: (2, 3, 0, 1), 5: (3, 2, 0, 1)}
    pairs = []
    for index, views in enumerate(stack._views(stack.values)):
        if not views:
            continue
        gradients = stack._views(stack.gradients)[index]
        names = ("kernel", "weight") if "kernel" in views else ("scale", "weight")
        others = ("bias", "bias") if "kernel" in views else ("shift", "bias")
        for mine, theirs in (names, others):
            if mine not in views:
                continue

            def turn(array, mine=mine, index=index):
                if mine != "kernel":
                    return array
                if index == 10:  # flatten goes map by map there, position by position here
                    return array.reshape(2, 2, 8, 5).transpose(3, 2, 0, 1).reshape(5, -1)
                return array.transpose(turns[index])

            pairs.append((getattr(net[index], theirs), views[mine], gradients[mine], turn))
    # SAME at stride 2 on an even size pads after, as TensorFlow does; the twin pads both sides.
    return net, pairs


def test_a_whole_network_has_pytorchs_loss_and_gradients(rng):
    torch = pytest.importorskip("torch")
    stack = Stack(parse_layers(NETWORK.replace("stride=2", "stride=2 pad=1")), (16, 16, 2), rng, 2)
    net, pairs = twin_of(stack, torch)
    with torch.no_grad():
        for parameter, values, _, turn in pairs:
            values += rng.normal(0, 0.1, values.shape).astype(np.float32)
            parameter.copy_(torch.from_numpy(turn(values).copy()))
    pictures = rng.normal(size=(21, 16, 16, 2)).astype(np.float32)
    labels = rng.integers(0, 5, 21)
    importance = rng.uniform(0.5, 2, 5).astype(np.float32)

    def fill(first, end, out):
        out[...] = pictures[first:end]

    with one_thread():
        batch_loss = stack.learn(21, fill, Targets(labels, importance[labels], 0.1), (0,))
    batch = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())
    each = torch.nn.functional.cross_entropy(
        net(batch), torch.from_numpy(labels), label_smoothing=0.1, reduction="none"
    )
    own = torch.from_numpy(importance[labels])
    loss = (each * own).sum() / own.sum()
    loss.backward()
    assert batch_loss.loss / importance[labels].sum() == pytest.approx(loss.item(), rel=1e-5)
    for parameter, _, gradients, turn in pairs:
        wanted = parameter.grad.numpy()
        assert np.abs(turn(gradients) - wanted).max() < 1e-4 * max(np.abs(wanted).max(), 1e-2)
    for norm, index in zip(stack.norms, (2, 6), strict=True):
        mean, variance = norm.running.reshape(2, -1)
        np.testing.assert_allclose(mean, net[index].running_mean.numpy(), atol=1e-5)
        np.testing.assert_allclose(variance, net[index].running_var.numpy(), rtol=1e-4)
    with one_thread():
        after = stack.predict(21, fill)
    np.testing.assert_allclose(after, net.eval()(batch).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("text", "fused"),
    [
        ("conv 3x3x3 | relu", ["conv 3x3x3 | relu"]),
        ("conv 16x3x3 | relu6", ["conv 16x3x3 | relu6"]),
        ("conv 3x3x3 | relu | maxpool 2", ["conv 3x3x3 | relu | maxpool 2"]),
        ("conv 3x3x3 | relu | minpool 2 | relu", ["conv 3x3x3 | relu | minpool 2", "relu"]),
        ("batchnorm | relu | maxpool 2 | conv 3x3x3", ["batchnorm | relu | maxpool 2", "conv 3x3x3"]),
        ("conv 16x3x3 bias=no | batchnorm | relu6", ["conv 16x3x3 bias=no", "batchnorm | relu6"]),
        ("conv 3x3x3 | relu | relu | maxpool 2", ["conv 3x3x3 | relu", "relu | maxpool 2"]),
        # Tiles are clipped in passing even where there is no bias; windows are not.
        ("conv 16x3x3 bias=no | relu", ["conv 16x3x3 bias=no | relu"]),
        ("conv 3x3x3 bias=no | relu", ["conv 3x3x3 bias=no", "relu"]),
        ("conv 3x3x3 bias=no | relu | maxpool 2", ["conv 3x3x3 bias=no", "relu | maxpool 2"]),
        ("depthwise 3x3 | relu6 | maxpool 2", ["depthwise 3x3", "relu6 | maxpool 2"]),
        ("mbconv 3x3x3 expand=2 | relu", ["mbconv 3x3x3 expand=2", "relu"]),
        ("conv 3x3x3 | leaky:0.1 | maxpool 2", ["conv 3x3x3", "leaky:0.1", "maxpool 2"]),
        ("conv 3x3x3 | maxpool 2 | relu", ["conv 3x3x3", "maxpool 2", "relu"]),
        ("conv 3x3x3 | relu | avgpool 2", ["conv 3x3x3 | relu", "avgpool 2"]),
        ("conv 3x3x3 | dropout | relu", ["conv 3x3x3", "dropout 0.5", "relu"]),
        ("relu | globalpool max | dense 4 | relu", ["relu", "globalpool max", "dense 4", "relu"]),
    ],
)
def test_fuse_takes_activations_with_their_neighbours(text, fused):
    shape, layers = (8, 8, 16), []
    for layer in parse_layers(text):
        layers.append(make_trainable(layer, shape))
        shape = layers[-1].output
    steps = fuse(layers)
    assert [" | ".join(str(member.layer) for member in step.members) for step in steps] == fused
    members = [member for step in steps for member in step.members]
    assert len(members) == len(layers)
    assert all(member is layer for member, layer in zip(members, layers, strict=True))


@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.parametrize(
    "text",
    [
        "conv 3x3x3 | relu | maxpool 2",
        "conv 16x3x3 | relu6 | maxpool 3 stride=2 pad=1",
        "conv 16x3x3 | relu6 | conv 16x3x3 | relu | minpool 2",
        "conv 3x3x3 bias=no | batchnorm | relu | maxpool 2 | conv 2x1x1 bias=no | relu",
        "conv 4x3x3 | leaky:0.1 | maxpool 2 | batchnorm | relu6",
        "conv 4x3x3 | relu | dropout 0.3 | relu | maxpool 2 | batchnorm | relu | maxpool 3 stride=1",
    ],
)
def test_fused_and_unfused_layers_give_the_same_bits(text, count, rng, monkeypatch):
    pictures, labels = rng.normal(0, 3, (count, 8, 8, 2)).astype(np.float32), rng.integers(0, 3, count)

    def fill(first: int, end: int, out: np.ndarray) -> None:
        out[...] = pictures[first:end]

    found = []
    for fused in (True, False):
        with monkeypatch.context() as patch:
            if not fused:
                patch.setattr("cnnfilter.training.gradients.stack.fuse", list)
            stack = Stack(parse_layers(f"{text} | flatten | dense 3"), (8, 8, 2), np.random.default_rng(1), 1)
        with one_thread():
            batch_loss = stack.learn(count, fill, Targets(labels, np.ones(count, np.float32)), (0,))
            found.append((batch_loss, stack.gradients.tobytes(), stack.predict(count, fill).tobytes()))
        assert stack.gradients.any()
    assert found[0] == found[1]


def test_dropout_drops_its_share_and_keeps_the_mean(rng):
    layer = trainable("dropout 0.3", (1000,), rng)
    context = context_of(layer)
    out = layer.forward(np.ones((100, 1000), np.float32), context)
    assert np.mean(out == 0) == pytest.approx(0.3, abs=0.01)
    assert out.mean() == pytest.approx(1, abs=0.01)
    assert (layer.backward(np.ones_like(out), context) == out).all()


def test_a_system_without_threads_computes_the_same(monkeypatch, rng):
    pictures = rng.normal(size=(9, 16, 16, 2)).astype(np.float32)

    def gradients() -> np.ndarray:
        stack = Stack(parse_layers(NETWORK), (16, 16, 2), np.random.default_rng(3), 4)
        targets = Targets(np.arange(9) % 5, np.ones(9, np.float32))
        with one_thread():
            stack.learn(9, lambda first, end, out: np.copyto(out, pictures[first:end]), targets, (1,))
        return stack.gradients

    wanted = gradients()

    def refuse(*given: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    assert (gradients() == wanted).all()


@pytest.mark.parametrize("count", [1, 3, 8, 21])
def test_any_number_of_threads_gives_the_same_bits(count, rng):
    pictures = rng.normal(size=(count, 16, 16, 2)).astype(np.float32)
    labels = rng.integers(0, 5, count)
    found = []
    for threads in (1, 2, 5):
        stack = Stack(
            parse_layers(NETWORK.replace("| flatten", "| dropout 0.3 | flatten")),
            (16, 16, 2),
            np.random.default_rng(3),
            threads,
        )
        with one_thread():
            stack.learn(
                count,
                lambda first, end, out: np.copyto(out, pictures[first:end]),
                Targets(labels, np.ones(count, np.float32)),
                (1,),
            )
        found.append(stack.gradients.copy())
    assert found[0].any()
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()
