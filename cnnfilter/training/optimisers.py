"""Optimisers (SGD with momentum, AdamW) and schedules of the learning rate.

The state of an optimiser is a dict of float32 vectors, each as long as the vector of parameters, so that a checkpoint
can store it. The compiled steps are in `cnnfilter.training.gradients.gradient_loops`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.training.gradients.gradient_loops import step_adamw, step_sgd

Floats = NDArray[np.float32]


class Optimiser:
    """Base class: changes the parameters `values` (P,) in place, by their gradients.

    Weight decay applies where `weight_decay_mask` (P,) is true.
    """

    name: str
    rate: float
    decay: float
    state_names: tuple[str, ...]

    def __init__(self, values: Floats, weight_decay_mask: NDArray[np.bool_], decay: float) -> None:
        self.values = values
        self.decay_factors = weight_decay_mask.astype(np.float32) * np.float32(decay)
        self.state = {name: np.zeros_like(values) for name in self.state_names}
        self.steps = 0

    def step(self, gradients: Floats, rate: float) -> None:
        """Change the parameters by gradients (P,) at a learning rate."""
        raise NotImplementedError


class SGD(Optimiser):
    """SGD with momentum, as ``torch.optim.SGD(momentum=0.9, nesterov=True)``; decay is added to the gradients."""

    name, rate, decay, state_names = "sgd", 0.05, 5e-4, ("velocity",)
    momentum = 0.9

    def step(self, gradients: Floats, rate: float) -> None:
        self.steps += 1
        step_sgd(self.values, gradients, self.state["velocity"], self.decay_factors, self.momentum, rate)


class AdamW(Optimiser):
    """AdamW, as ``torch.optim.AdamW``.

    Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
    """

    name, rate, decay, state_names = "adamw", 0.003, 0.02, ("mean", "square")
    betas, epsilon = (0.9, 0.999), 1e-8

    def step(self, gradients: Floats, rate: float) -> None:
        self.steps += 1
        beta1, beta2 = self.betas
        mean_correction, root_correction = 1 / (1 - beta1**self.steps), 1 / math.sqrt(1 - beta2**self.steps)
        state = self.state["mean"], self.state["square"], self.decay_factors
        step_adamw(self.values, gradients, *state, beta1, beta2, mean_correction, root_correction, self.epsilon, rate)


OPTIMISERS: dict[str, type[Optimiser]] = {"adamw": AdamW, "sgd": SGD}


# --- schedules ---------------------------------------------------------------------------------------------

_WARM_UP_SHARE = 0.3
"""Share of the training in which the rate of `one_cycle` rises: ``pct_start`` of PyTorch's ``OneCycleLR``."""

_FIRST_RATE_SHARE = 0.04
"""First rate of `one_cycle`, as a share of the highest one: 1 / ``div_factor`` of PyTorch's ``OneCycleLR``."""

_LAST_RATE_SHARE = 1e-5
"""Last rate of `one_cycle`, as a share of the highest one (PyTorch: 4e-6)."""


def one_cycle(progress: float) -> float:
    """Rise from 1/25 to 1 in the first 30 % of the training, then fall to almost 0, both by half a cosine wave.

    Smith & Topin 2018, "Super-Convergence", as in PyTorch's ``OneCycleLR``.

    >>> [round(one_cycle(progress), 2) for progress in (0, 0.3, 0.65, 1)]
    [0.04, 1.0, 0.5, 0.0]
    """
    if progress < _WARM_UP_SHARE:
        return _half_cosine(_FIRST_RATE_SHARE, 1.0, progress / _WARM_UP_SHARE)
    return _half_cosine(1.0, _LAST_RATE_SHARE, (progress - _WARM_UP_SHARE) / (1 - _WARM_UP_SHARE))


def cosine(progress: float) -> float:
    """Fall from 1 to 0 by half a cosine wave (Loshchilov & Hutter 2017, "SGDR", without restarts)."""
    return _half_cosine(1.0, 0.0, progress)


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


SCHEDULES: dict[str, Callable[[float], float]] = {
    "one-cycle": one_cycle,
    "cosine": cosine,
    "constant": lambda progress: 1.0,
}


class Learning(NamedTuple):
    """An optimiser and a schedule by name, the highest rate and the weight decay (None: those of the optimiser)."""

    optimiser: str = "adamw"
    rate: float | None = None
    decay: float | None = None
    schedule: str = "one-cycle"

    def make(self, values: Floats, weight_decay_mask: NDArray[np.bool_]) -> Optimiser:
        """Return an optimiser of the parameters `values` (P,)."""
        kind = OPTIMISERS[self.optimiser]
        return kind(values, weight_decay_mask, kind.decay if self.decay is None else self.decay)

    def rate_at(self, progress: float) -> float:
        """Return the learning rate when a share `progress` of the training is done."""
        top = OPTIMISERS[self.optimiser].rate if self.rate is None else self.rate
        return top * SCHEDULES[self.schedule](progress)
