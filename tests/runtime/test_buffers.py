"""Arrays that a thread uses again."""

from __future__ import annotations

import numpy as np

from cnnfilter.runtime.buffers import Scratch


def test_scratch_gives_the_same_memory_again_and_lets_it_grow():
    scratch = Scratch()
    small = scratch.array("a", 2, 3)
    assert scratch.array("a", 2, 3) is small
    assert np.shares_memory(scratch.array("a", 6), small)
    assert not np.shares_memory(scratch.array("b", 2, 3), small)
    grown = scratch.array("a", 100)
    assert np.shares_memory(scratch.array("a", 2, 3), grown)


def test_memory_begins_with_a_cache_line_and_zeros_stay():
    scratch = Scratch()
    for size in (1, 5, 1000):
        assert scratch.array(f"of {size}", size).ctypes.data % 64 == 0
        zeros = scratch.zeros(size)
        assert zeros.ctypes.data % 64 == 0
        assert zeros.size >= size
        assert not zeros.any()
    assert scratch.zeros(3) is zeros
