"""The benchmarks still run: one row, small and quick, as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import fit, whole_process
from tests.benchmarks.measure import OURS, Constant, Row, Target, Unavailable, measure
from tests.benchmarks.table import render, summary

REPOSITORY = Path(__file__).resolve().parents[2]


def test_one_row_runs_as_json() -> None:
    pytest.importorskip("cv2")
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--json", "--only", "named/sobel-h grey"]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 0, told.stderr
    (row,) = json.loads(told.stdout)["rows"]
    assert row["samples"][OURS]
    assert row["samples"]["OpenCV"]
    assert row["differing"] == []
    assert row["targets"][0]["wanted"] == "≥ 1x OpenCV"


def test_unknown_row_is_refused() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "--only", "no such row"]
    told = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 2
    assert "no such row" in told.stdout


def _absent() -> Constant:
    raise Unavailable("it is not installed")


def _broken() -> Constant:
    raise RuntimeError("it fell over")


def test_ratios_targets_and_what_is_left_out() -> None:
    row = Row(
        "section",
        "row",
        lambda: {
            OURS: lambda: Constant(0.002),
            "peer": lambda: Constant(0.003),
            "slower peer": lambda: Constant(0.008),
            "absent": _absent,
            "broken": _broken,
        },
        targets=(
            Target(("slower peer", "peer", "absent"), faster=1.4),
            Target(("peer",), within=0.5),
            Target(("absent",), within=0.5),
        ),
    )
    result = measure(row, rounds=3, budget=1.0)
    assert result.samples["peer"] == [0.003] * 3
    wanted, reached, met = zip(*result.verdicts(), strict=True)
    assert wanted == ("≥ 1.4x peer", "≤ 0.5 of peer", "≤ 0.5 of absent")
    assert reached == (pytest.approx(1.5), pytest.approx(2 / 3), None)
    assert met == (True, False, None)
    assert set(result.left_out) == {"absent", "broken"}
    table = "\n".join(render("section", [result], None))
    assert "8.00 ms 4.00x" in table
    assert "broken: failed: RuntimeError: it fell over" in table
    assert summary([result])[1:] == [
        "1 of 2 targets met.",
        "  missed: section/row: ≤ 0.5 of peer, reached 0.67",
    ]


def test_what_bounds_a_row_that_misses_is_said() -> None:
    contenders = {OURS: lambda: Constant(0.002), "peer": lambda: Constant(0.003)}
    row = Row("pooling", "avg 2x2/2 u8 grey", lambda: contenders, targets=(Target(("peer",), faster=2),))
    line = summary([measure(row, rounds=1, budget=1.0)])[-1]
    assert line.startswith("  missed: pooling/avg 2x2/2 u8 grey: ≥ 2x peer, reached 1.50; bound by: ")


def test_another_result_is_marked() -> None:
    class Shows(Constant):
        def first(self) -> float:
            return self.value

    row = Row(
        "section",
        "row",
        lambda: {OURS: lambda: Shows(1), "same": lambda: Shows(1), "other": lambda: Shows(2)},
        agree=lambda ours, theirs: bool(ours == theirs),
    )
    result = measure(row, rounds=1, budget=1.0)
    assert result.differing == {"other"}
    assert any("other gives another result" in line for line in render("section", [result], None))


@pytest.mark.parametrize("when", ["first", "sample"])
def test_failure_of_ours_is_shown(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Constant(1.0)
    monkeypatch.setattr(failing, when, _broken)
    row = Row("section", "row", lambda: {OURS: lambda: failing}, targets=(Target(("peer",), within=1),))
    result = measure(row, rounds=2, budget=1)
    assert any("FAILED" in line for line in render("section", [result], None))
    assert "  failed: section/row: failed: RuntimeError: it fell over" in summary([result])


def test_programs_may_keep_their_bytecode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    environment = whole_process.Setting(tmp_path, threads=3).environment()
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert environment["OMP_NUM_THREADS"] == environment["VIPS_CONCURRENCY"] == "3"


def test_programs_are_timed_and_weighed(tmp_path: Path) -> None:
    setting = whole_process.Setting(tmp_path, threads=1)
    try:
        hungry = [sys.executable, "-c", "held = bytearray(200_000_000)"]
        assert 0 < whole_process.Program([sys.executable, "-c", "pass"], setting).sample() < 10
        assert whole_process.run(hungry, setting)["peak"] > 200_000_000
        assert whole_process.run([sys.executable, "-c", "pass"], setting)["peak"] < 100_000_000
        with pytest.raises(RuntimeError, match="no room"):
            whole_process.run([sys.executable, "-c", "raise SystemExit('no room')"], setting)
    finally:
        whole_process.stop()


def test_fit_finds_coefficients_that_the_costs_were_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = fit._Bench(np.zeros((16, 16), np.uint8), rounds=1)
    monkeypatch.setattr(bench, "cost", lambda name, case: 0.5 + 0.25 * case.height * case.width)
    found, lines = fit._fit(bench, "taps", fit.MODELS["taps"])
    assert found == pytest.approx([0.5, 0.25], abs=1e-9)
    assert any("off by 0%" in line for line in lines)


def test_fit_measures_each_engine() -> None:
    bench = fit._Bench(np.zeros((16, 16), np.uint8), rounds=1)
    for name in fit.MODELS:
        assert bench.cost(name, fit.Case(4, 4)) > 0


def test_fit_plays_the_choices_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = fit._Bench(np.zeros((16, 16), np.uint8), rounds=1)
    costs = {"taps": 3.0, "tile": 2.0, "separable": 4.0, "fft": 9.0}
    monkeypatch.setattr(bench, "cost", lambda name, case: costs[name])
    monkeypatch.setattr(fit, "_chosen_now", lambda weights, geometry, bytes_only: "fft")
    nothing = {name: np.zeros(len(model.terms)) for name, model in fit.MODELS.items()}
    best = {**nothing, "tile": nothing["tile"] - 1}
    first, *_, last = fit._choices(bench, best)[1:]
    assert first.split() == ["3x3", "3.000", "2.000", "4.000", "9.000", "tile", "fft", "+350%"]
    assert last.endswith("fitted 0.0%")
