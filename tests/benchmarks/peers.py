"""The Python libraries that we are held against, imported only where a row needs one."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from tests.benchmarks.measure import Call, Contender, Unavailable


@functools.cache
def library(name: str, threads: int) -> Any:
    """Import a peer and tell it how many threads it may use.

    Raises
    ------
    Unavailable
        It is not installed.
    """
    try:
        module = importlib.import_module(name)
    except ImportError as reason:
        raise Unavailable(f"{name} is not installed") from reason
    if name == "cv2":
        module.setNumThreads(threads)
    elif name == "torch":
        module.set_num_threads(threads)
        module.set_grad_enabled(False)
    return module


Prepare = Callable[..., Callable[[], Any]]
"""Takes the libraries it needs and returns the function that is timed."""


def call(prepare: Prepare, *names: str, threads: int) -> Callable[[], Contender]:
    """Return what makes a contender of `prepare`, once its libraries are found to be here."""

    def make() -> Contender:
        function = prepare(*[library(name, threads) for name in names])
        return Call(function)

    return make
