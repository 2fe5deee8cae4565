"""The BLAS has one thread while a caller needs that, and then as many as before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from threadpoolctl import threadpool_info

from cnnfilter.runtime.blas import one_thread


def _threads():
    """Return the threads of numpy's own BLAS; other tests may have loaded that of another package."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return [pool["num_threads"] for pool in pools if "numpy" in pool["filepath"]]


def test_one_thread_inside_and_as_many_as_before_outside():
    import numpy as np

    assert np.ones((2, 2)) @ np.ones(2) is not None
    before = _threads()
    if not before:
        pytest.skip("numpy's BLAS is none that threadpoolctl knows")
    with one_thread():
        assert set(_threads()) == {1}
        with one_thread():
            assert set(_threads()) == {1}
        assert set(_threads()) == {1}
    assert _threads() == before


def test_the_last_to_leave_restores_also_when_they_overlap():
    before = _threads()
    first, second = one_thread(), one_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(_threads()) <= {1}
    second.__exit__(None, None, None)
    assert _threads() == before


def test_any_thread_limits_and_any_thread_restores():
    before = _threads()
    first, second = one_thread(), one_thread()
    first.__enter__()
    with ThreadPoolExecutor(1) as other:
        other.submit(second.__enter__).result()
        first.__exit__(None, None, None)
        assert set(_threads()) <= {1}
        other.submit(second.__exit__, None, None, None).result()
        assert _threads() == before

    def inside() -> list[int]:
        with one_thread():
            return _threads()

    with ThreadPoolExecutor(1) as other:
        assert set(other.submit(inside).result()) <= {1}
    assert _threads() == before
