"""Work on bands of rows."""

from __future__ import annotations

import sys
import threading

import pytest

from cnnfilter.runtime.parallel import Workers, default_threads, run_in_bands, run_tasks, split_rows


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
@pytest.mark.parametrize("pieces", [1, 2, 3, 50, 2000])
def test_bands_cover_every_row_once(rows, pieces):
    bands = split_rows(rows, pieces)
    assert [row for first, end in bands for row in range(first, end)] == list(range(rows))
    assert len(bands) == min(rows, pieces)


def test_results_come_back_in_order():
    assert run_in_bands(lambda first, end: (first, end), 100, threads=3, min_rows=10) == [(0, 33), (33, 66), (66, 100)]
    assert run_in_bands(lambda first, end: end - first, 100, threads=1, max_rows=30) == [25, 25, 25, 25]
    assert run_tasks([lambda index=index: index for index in range(50)], 4) == list(range(50))


def test_one_band_runs_in_the_calling_thread():
    here = threading.get_ident()
    assert run_in_bands(lambda first, end: threading.get_ident(), 30, threads=8, min_rows=16) == [here]


@pytest.mark.parametrize("order", [1, -1])
def test_an_interruption_is_told_before_what_failed_because_of_it(order):
    meeting = threading.Barrier(2, timeout=10)

    def ended_by(failure):
        meeting.wait()
        raise failure

    tasks = [lambda: ended_by(StopIteration()), lambda: ended_by(KeyboardInterrupt())]
    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks[::order], 2)


def test_work_is_shared_among_threads():
    meeting = threading.Barrier(3, timeout=10)
    run_tasks([meeting.wait] * 3, 3)  # ends only if three threads are in it at once


def test_each_task_runs_once_when_threads_take_tasks_at_the_same_time():
    runs = [0] * 20_000
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        run_tasks([lambda index=index: runs.__setitem__(index, runs[index] + 1) for index in range(len(runs))], 4)
    finally:
        sys.setswitchinterval(interval)
    assert runs == [1] * len(runs)


def test_the_first_failure_is_raised():
    def fail(index):
        raise ValueError(index)

    tasks = [lambda index=index: fail(index) for index in range(4)]
    with pytest.raises(ValueError, match="0"):
        run_tasks(tasks, 1)
    with pytest.raises(ValueError, match=r"^[0-3]$"):
        run_tasks(tasks, 4)


def test_there_is_at_least_one_thread():
    assert default_threads() >= 1


def test_workers_compute_every_piece_and_raise_what_one_raises():
    workers = Workers(3)
    done: list[int] = []
    workers.run([lambda scratch, number=number: done.append(number) for number in range(20)])
    assert sorted(done) == list(range(20))

    def fail(scratch):
        raise ValueError("broken")

    for _ in range(3):  # and go on afterwards
        with pytest.raises(ValueError, match="broken"):
            workers.run([fail] * 3)
    workers.run([lambda scratch: done.append(-1)] * 2)
    assert done[20:] == [-1, -1]
