"""A stack of trainable layers on a batch: the loss, and the gradient of every parameter.

The batch is cut into shards. A shard goes through all layers up to the next batch norm on one thread; there, the sums
of all shards are needed. The number of shards depends on the batch alone, and their sums are added in their order, so
that the results are the same for any number of threads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ModelError
from cnnfilter.layers.answers import Answers, without_last_function
from cnnfilter.layers.layer import Shape
from cnnfilter.layers.stack import Layers
from cnnfilter.networks.model_file import Weights
from cnnfilter.runtime.buffers import Scratch
from cnnfilter.runtime.parallel import Workers, split_rows
from cnnfilter.training.gradients.fused import FusedBatchNorm, fuse
from cnnfilter.training.gradients.layer import Context, FixedLayer, Pass, TrainableLayer
from cnnfilter.training.gradients.layers import TrainableBatchNorm, make_trainable

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

SHARDS_PER_BATCH = 8
"""Enough for as many threads, and few enough that a shard of a usual batch (128) has 16 pictures.

It is fixed, because the gradients of the shards are added in their order, and the sums depend on how many there are."""

Fill = Callable[[int, int, Floats], None]
"""Writes the prepared pictures `first`…`end` of the batch into an array (end - first, H, W, C)."""


class BatchLoss(NamedTuple):
    """The sum of the losses of some pictures, and the number of right answers."""

    loss: float
    right: int


class Targets(NamedTuple):
    """The labels (N,) of a batch, the weight (N,) of each picture in the loss, and the smoothing of labels."""

    labels: Labels
    importance: Floats
    smoothing: float = 0.0


class Stack:
    """Layers whose parameters are learned.

    All parameters are in one vector, `values`, and their gradients in another one, `gradients`; each layer has views.

    Attributes
    ----------
    values, gradients : (P,) float32 arrays
    weight_decay_mask : (P,) bool array
        True for the kernels, to which weight decay applies.
    """

    def __init__(self, layers: Layers, input_shape: Shape, rng: np.random.Generator, threads: int) -> None:
        self.input_shape = input_shape
        self._workers = Workers(min(threads, SHARDS_PER_BATCH))
        self.answers = Answers.of(layers, input_shape)
        # A softmax or sigmoid at the end is part of the loss.
        self.body = without_last_function(layers)
        self.layers = [*_trainables(self.body, input_shape)]
        self._steps = fuse(self.layers)
        self._first_members = [0, *accumulate(len(step.members) for step in self._steps)][:-1]
        self._segments = _between_batch_norms(self._steps)
        initial_values = [layer.initial_values(rng) for layer in self.layers]
        flat = [np.ravel(part) for each in initial_values for part in each.values()]
        self.values = np.concatenate(flat).astype(np.float32)
        self.gradients = np.zeros_like(self.values)
        self.weight_decay_mask = np.concatenate(
            [np.full(part.size, name.endswith("kernel")) for each in initial_values for name, part in each.items()]
        )
        self._shapes = [{name: part.shape for name, part in each.items()} for each in initial_values]
        self._bind()
        self._shard_gradients = np.zeros((SHARDS_PER_BATCH, self.values.size), np.float32)
        self._contexts = [self._make_contexts(row) for row in self._shard_gradients]
        self._inputs = [np.empty((0, *input_shape), np.float32)] * SHARDS_PER_BATCH

    def _bind(self) -> None:
        for layer, views in zip(self.layers, self._views(self.values), strict=True):
            layer.bind(views)

    def _views(self, vector: Floats) -> list[dict[str, Floats]]:
        found, start = [], 0
        for shapes in self._shapes:
            views = {}
            for name, shape in shapes.items():
                size = math.prod(shape)
                views[name] = vector[start : start + size].reshape(shape)
                start += size
            found.append(views)
        return found

    def _make_contexts(self, gradients: Floats) -> list[Context]:
        views = self._views(gradients)
        contexts = [Context(views[first]) for first in self._first_members]
        learned = next((index for index, step in enumerate(self._steps) if not isinstance(step, FixedLayer)), 0)
        contexts[learned].needs_no_input_gradient = True
        return contexts

    @property
    def norms(self) -> list[TrainableBatchNorm]:
        """The batch norms, which have running means and variances."""
        return [layer for layer in self.layers if isinstance(layer, TrainableBatchNorm)]

    def weights(self) -> tuple[Weights, ...]:
        """Return the tensors of each layer, by name, as in a model file."""
        return tuple(layer.weights() for layer in self.layers)

    # --- a step ------------------------------------------------------------------------------------------

    def learn(self, count: int, fill: Fill, targets: Targets, seeds: Sequence[int]) -> BatchLoss:
        """Send a batch forward and backward; afterwards `gradients` holds the gradient of its mean loss.

        Parameters
        ----------
        count : int
            Pictures in the batch.
        fill : callable
            Writes them, see `Fill`.
        targets : Targets
        seeds : sequence of int
            Seeds of the random draws of this step.
        """
        shards = split_rows(count, SHARDS_PER_BATCH)
        self._shard_gradients[: len(shards)] = 0
        self._bind()
        self._prepare_contexts(len(shards), training=True, seeds=seeds)
        total = float(targets.importance.sum(dtype=np.float64))
        outputs = self._forward(shards, fill, training=True)
        parts = [
            _loss(self.answers, out, targets, first, end, total)
            for out, (first, end) in zip(outputs, shards, strict=True)
        ]
        self._backward([part[1] for part in parts], shards)
        np.add.reduce(self._shard_gradients[: len(shards)], axis=0, out=self.gradients)
        return BatchLoss(sum(part[0].loss for part in parts), sum(part[0].right for part in parts))

    def predict(self, count: int, fill: Fill) -> Floats:
        """Return the logits (N, classes) of a batch, computed as after training."""
        shards = split_rows(count, SHARDS_PER_BATCH)
        self._bind()
        self._prepare_contexts(len(shards), training=False, seeds=())
        for norm in self.norms:
            norm.use_running()
        outputs = self._forward(shards, fill, training=False)
        return np.concatenate([out.reshape(len(out), -1) for out in outputs])

    def _prepare_contexts(self, shards: int, *, training: bool, seeds: Sequence[int]) -> None:
        """Set the contexts for a step; the random draws of a layer depend on the seeds, the shard and its index."""
        for shard in range(shards):
            for first, context in zip(self._first_members, self._contexts[shard], strict=True):
                context.training = training
                context.draw = functools.partial(np.random.default_rng, [*seeds, shard, first])

    def _run(self, task: Callable[[int], NDArray[np.float64] | None], shards: int) -> NDArray[np.float64] | None:
        """Run a task for every shard; return the sum of the results, added in the order of the shards."""
        parts: list[NDArray[np.float64] | None] = [None] * shards

        def piece(temporary: Scratch, shard: int) -> None:
            for context in self._contexts[shard]:
                context.temporary = temporary
            with np.errstate(all="ignore"):  # NaN and infinity show in the loss
                parts[shard] = task(shard)

        self._workers.run([functools.partial(piece, shard=shard) for shard in range(shards)])
        return None if parts[0] is None else np.add.reduce([part for part in parts if part is not None])

    def _forward(self, shards: Sequence[tuple[int, int]], fill: Fill, *, training: bool) -> list[Floats]:
        """Return the outputs of every shard; in training, all shards stop before each batch norm."""
        maps: list[Floats] = [np.empty(0, np.float32)] * len(shards)
        segments = self._segments if training else [[index for segment in self._segments for index in segment]]
        for position, segment in enumerate(segments):

            def task(shard: int, position: int = position, segment: list[int] = segment) -> NDArray[np.float64] | None:
                if position == 0:
                    maps[shard] = self._filled(shard, *shards[shard], fill)
                for index in segment:
                    maps[shard] = self._steps[index].forward(maps[shard], self._contexts[shard][index])
                if position + 1 == len(segments):
                    return None
                return self._norm_at(segments[position + 1]).measure(maps[shard])

            sums = self._run(task, len(shards))
            if sums is not None:
                norm = self._norm_at(segments[position + 1])
                norm.take_sums(sums, sum(part.size for part in maps) // norm.channels)
        return maps

    def _backward(self, gradients: list[Floats], shards: Sequence[tuple[int, int]]) -> None:
        """Send the gradients of the outputs of every shard back; replace them in the list by those of the inputs."""
        for position in reversed(range(len(self._segments))):
            segment = self._segments[position]
            # The backward pass of the batch norm at the start of a segment waits for the sums of all shards.
            own = segment[1:] if position else segment
            after = self._segments[position + 1] if position + 1 < len(self._segments) else None

            def task(
                shard: int, own: list[int] = own, after: list[int] | None = after, position: int = position
            ) -> NDArray[np.float64] | None:
                contexts, back = self._contexts[shard], gradients[shard]
                if after is not None:
                    back = self._steps[after[0]].backward(back, contexts[after[0]])
                for index in reversed(own):
                    back = self._steps[index].backward(back, contexts[index])
                if not position:
                    gradients[shard] = back
                    return None
                first = self._segments[position][0]
                step = self._steps[first]
                assert isinstance(step, TrainableBatchNorm | FusedBatchNorm)
                gradients[shard], sums = step.measure_backward(back, contexts[first])
                return sums

            sums = self._run(task, len(shards))
            if sums is not None:
                norm = self._norm_at(segment)
                norm.take_backward_sums(sums, sum(part.size for part in gradients) // norm.channels)

    def _norm_at(self, segment: list[int]) -> TrainableBatchNorm:
        """Return the batch norm at the start of a segment."""
        norm = self._steps[segment[0]].members[0]
        assert isinstance(norm, TrainableBatchNorm)
        return norm

    def _filled(self, shard: int, first: int, end: int, fill: Fill) -> Floats:
        """Return the prepared pictures of a shard, in memory that is used again."""
        if len(self._inputs[shard]) < end - first:
            self._inputs[shard] = np.empty((end - first, *self.input_shape), np.float32)
        maps = self._inputs[shard][: end - first]
        fill(first, end, maps)
        return maps


def _trainables(layers: Layers, input_shape: Shape) -> Sequence[TrainableLayer]:
    """Return the trainable layers; those before the first layer with parameters are fixed."""
    shapes = list(layers.shapes(input_shape))
    learned = next((index for index, layer in enumerate(layers) if layer.learned), None)
    if learned is None:
        raise ModelError(f"'{layers}' has nothing to learn: no conv 32x3x3, dense 10 or the like")
    made = []
    for index, (layer, shape) in enumerate(zip(layers, shapes, strict=False)):
        try:
            made.append(FixedLayer(layer, shape) if index < learned else make_trainable(layer, shape))
        except ModelError as error:
            raise ModelError(f"layer {index + 1} {error}") from error
    return made


def _between_batch_norms(steps: Sequence[Pass]) -> list[list[int]]:
    """Return the indices of the steps in segments, each of which but the first begins with a batch norm."""
    segments: list[list[int]] = [[]]
    for index, step in enumerate(steps):
        if isinstance(step.members[0], TrainableBatchNorm):
            segments.append([])
        segments[-1].append(index)
    return segments


def _loss(
    answers: Answers, out: Floats, targets: Targets, first: int, end: int, total: float
) -> tuple[BatchLoss, Floats]:
    """Return the loss of a shard, and the gradients of its outputs for the mean loss of the batch."""
    labels, importance = targets.labels[first:end], targets.importance[first:end]
    scores = out.reshape(len(out), -1)
    losses = answers.losses(scores, labels, targets.smoothing)
    gradients = losses.gradients * (importance / np.float32(total))[:, None]
    right = int(np.count_nonzero(answers.scores(scores).argmax(axis=1) == labels))
    loss = float((losses.values * importance).sum(dtype=np.float64))
    return BatchLoss(loss, right), gradients.reshape(out.shape)
