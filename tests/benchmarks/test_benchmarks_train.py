"""The benchmark of training runs, and its steps go the same way as PyTorch's."""

from __future__ import annotations

import pytest

from tests.benchmarks import train


def test_steps_run_and_agree(capsys):
    pytest.importorskip("torch")
    train.main(["--only", "step", "--rounds", "1", "--batch", "12"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].endswith(" 1.00x")


@pytest.mark.slow
def test_a_head_is_timed_beside_decoding(capsys):
    train.main(["--only", "head", "--photos", "30"])
    whole, decoding = [float(line.split()[-2]) for line in capsys.readouterr().out.splitlines()]
    assert whole > decoding > 0
