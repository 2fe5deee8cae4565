"""Threads, also where the system refuses them or memory is short."""

from __future__ import annotations

import _thread
import contextvars
import re
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue

import pytest

import cnnfilter
from cnnfilter.jobs.worker_pool import in_order
from cnnfilter.runtime import limits
from cnnfilter.runtime.parallel import off_the_main_thread, repeating, run_tasks
from cnnfilter.runtime.prefetch import prefetch
from cnnfilter.runtime.threads import next_item, start_thread

real_start = _thread.start_new_thread


@pytest.fixture
def stillborn(monkeypatch):
    """Every thread dies before it runs anything, as for want of memory."""

    def start(target, arguments):
        return real_start(time.sleep, (0.01,))

    monkeypatch.setattr("_thread.start_new_thread", start)


def test_a_thread_runs_and_is_waited_for():
    said = []
    thread = start_thread(lambda: said.append(time.sleep(0.05)))
    assert thread is not None
    assert thread.is_alive
    thread.join(0.001)
    assert said == []
    thread.join()
    thread.join()
    assert said == [None]
    assert not thread.is_alive


def test_a_thread_that_ends_at_once_was_started():
    for _ in range(200):
        thread = start_thread(int)
        assert thread is not None
        thread.join(10)
        assert not thread.is_alive


def test_a_thread_that_never_runs_is_none(stillborn):
    assert start_thread(int) is None


@pytest.mark.parametrize(
    "work",
    [
        lambda: run_tasks([lambda index=index: index for index in range(5)], 3),
        lambda: list(prefetch(int, 5)),
        lambda: list(in_order(int, range(5), workers=3)),
    ],
)
def test_without_threads_the_caller_runs_all_tasks(stillborn, work):
    assert work() == [0, 1, 2, 3, 4]


def test_want_of_memory_in_a_thread_is_silent(capfd):
    def fail():
        raise MemoryError

    thread = start_thread(fail)
    thread.join(10)
    assert not thread.is_alive
    assert capfd.readouterr() == ("", "")


def test_the_main_thread_only_waits():
    setting = contextvars.ContextVar("setting", default="none")
    setting.set("the caller's")
    here = threading.get_ident()
    there, heard = off_the_main_thread(lambda: (threading.get_ident(), setting.get()))
    assert there != here
    assert heard == "the caller's"
    with pytest.raises(KeyError):
        off_the_main_thread(lambda: {}["nothing"])
    inner = []
    thread = start_thread(lambda: inner.append((threading.get_ident(), off_the_main_thread(threading.get_ident))))
    thread.join(10)
    assert inner[0][0] == inner[0][1]  # no signal is handled there


def test_without_a_thread_the_main_thread_works(stillborn):
    assert off_the_main_thread(threading.get_ident) == threading.get_ident()


def test_a_call_is_repeated_until_the_block_ends():
    calls = []
    enough = threading.Event()

    def call():
        calls.append(threading.get_ident())
        if len(calls) == 3:
            enough.set()

    with repeating(call, 0.001):
        assert enough.wait(10)
    count = len(calls)
    time.sleep(0.01)
    assert len(calls) == count
    assert threading.get_ident() not in calls


def test_without_a_thread_a_call_is_not_repeated(stillborn):
    with repeating(pytest.fail, 0):
        time.sleep(0.01)


def test_an_item_arrives_even_if_its_producer_has_ended():
    made = SimpleQueue()
    maker = start_thread(lambda: made.put(5))
    maker.join()
    assert next_item(made, [maker]) == 5


def test_waiting_for_a_producer_without_memory_fails():
    def fail():
        time.sleep(0.05)
        raise MemoryError

    with pytest.raises(MemoryError):
        next_item(SimpleQueue(), [start_thread(fail)])


def test_a_task_that_was_lost_with_its_thread_is_missed(monkeypatch):
    """A picture without one of its bands would look like one that was filtered."""
    lost = []

    def die_with_a_task(frame, event, argument):
        if event == "line" and "index" in frame.f_locals:  # between taking it and doing it
            lost.append(frame.f_locals["index"])
            raise MemoryError
        return die_with_a_task

    def start_dying(target):
        def run():
            sys.settrace(die_with_a_task)
            target()

        return start_thread(run)

    monkeypatch.setattr("cnnfilter.runtime.parallel.start_thread", start_dying)
    with pytest.raises(MemoryError):
        run_tasks([lambda: time.sleep(0.05)] * 4, 2)
    assert len(lost) == 1


def test_a_worker_pool_does_not_wait_for_a_lost_thread(monkeypatch):
    def lose(pool):
        raise MemoryError

    monkeypatch.setattr("cnnfilter.jobs.worker_pool.WorkerPool._take", lose)
    with pytest.raises(MemoryError):
        list(in_order(int, range(5), workers=2))


def test_threads_are_started_in_few_modules():
    package = Path(cnnfilter.__file__).parent
    allowed = {"runtime/parallel.py", "runtime/prefetch.py", "runtime/threads.py", "jobs/worker_pool.py"}
    starts = re.compile(r"start_thread|start_new_thread|threading\.Thread|ThreadPool|concurrent\.futures")
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if starts.search(path.read_text(encoding="utf-8"))
    }
    assert found == allowed


def test_a_thread_needs_memory(monkeypatch):
    monkeypatch.setattr(limits, "allowed_memory", lambda: (200 << 20, None))
    monkeypatch.setattr(limits, "taken_memory", lambda: (150 << 20, 0))
    assert start_thread(int) is None
    monkeypatch.setattr(limits, "taken_memory", lambda: (50 << 20, 0))
    assert start_thread(int) is not None


def test_jobs_share_the_memory_that_is_allowed(monkeypatch):
    monkeypatch.setattr(limits, "allowed_memory", lambda: (None, None))
    assert limits.max_jobs(7) == 7
    monkeypatch.setattr(limits, "allowed_memory", lambda: (600 << 20, 300 << 20))
    assert limits.max_jobs(7) == 2
