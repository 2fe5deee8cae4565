"""The limits of this machine: multiply-adds a second in sgemm, bytes a second in a copy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cnnfilter.runtime.parallel import run_in_bands


@dataclass(frozen=True)
class Roofline:
    """Multiply-adds and bytes (read and written together) a second."""

    multiplies: float
    bytes: float


def measure_roofline(threads: int, *, side: int = 1536, megabytes: int = 64, rounds: int = 5) -> Roofline:
    """Multiply float32 matrices with numpy's BLAS, and copy memory that no cache holds, on `threads` threads.

    BLAS keeps to the number of threads that its environment variable said when numpy was imported.
    """
    matrix = np.random.default_rng(1).normal(size=(side, side)).astype(np.float32)
    product = np.empty_like(matrix)
    source = np.ones((threads * 16, megabytes * 10**6 // (threads * 16)), np.uint8)
    target = np.zeros_like(source)

    def copy(first: int, end: int) -> None:
        np.copyto(target[first:end], source[first:end])

    seconds = _median(lambda: np.matmul(matrix, matrix, out=product), rounds)
    copied = _median(lambda: run_in_bands(copy, len(source), threads=threads), rounds)
    return Roofline(side**3 / seconds, 2 * source.nbytes / copied)


def _median(function: Callable[[], object], rounds: int) -> float:
    function()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
