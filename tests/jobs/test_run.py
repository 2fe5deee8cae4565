"""Runs of many jobs: order, failures, warnings, threads, memory."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
import weakref

import numpy as np
import pytest

from cnnfilter.errors import ImageError
from cnnfilter.images.files import read_image, write_image
from cnnfilter.jobs import worker_pool
from cnnfilter.jobs.job import Job, describe
from cnnfilter.jobs.run import SPARE_WORKERS, run
from cnnfilter.jobs.source_target import Source, Target
from cnnfilter.jobs.worker_pool import in_order


@pytest.fixture
def pictures(tmp_path, rng):
    """Ten small PNG files."""
    paths = [tmp_path / f"{index}.png" for index in range(10)]
    for path in paths:
        write_image(path, rng.integers(0, 256, (5, 7, 3), np.uint8))
    return paths


def jobs_for(paths, folder):
    return [Job(Source(str(path)), Target(str(folder / path.name), "png")) for path in paths]


def _caused_by_memory():
    error = ImageError("cannot be decoded")
    error.__cause__ = MemoryError()
    return error


def copy(job):
    job.write(job.read())


@pytest.mark.parametrize("jobs", [1, 2, 3, 20])
def test_results_come_in_the_order_of_the_items(jobs):
    def late_at_first(number):
        time.sleep(0.02 if number < 2 else 0)
        return number

    assert list(in_order(late_at_first, range(8), workers=jobs)) == list(range(8))


def test_nothing_to_do_yields_nothing():
    assert list(in_order(str, [], workers=4)) == []


def test_two_jobs_work_at_the_same_time():
    meeting = threading.Barrier(2, timeout=10)
    assert len(list(in_order(lambda item: meeting.wait(), range(2), workers=2))) == 2


def test_one_job_uses_the_calling_thread():
    assert set(in_order(lambda item: threading.current_thread(), range(3), workers=1)) == {threading.main_thread()}


def test_a_bug_is_raised_at_its_place_and_stops_the_rest():
    begun = []

    def work(number):
        begun.append(number)
        if number == 1:
            raise ZeroDivisionError
        time.sleep(0.01)
        return number

    results = in_order(work, range(1000), workers=2)
    assert next(results) == 0
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(begun) < 1000


def test_closing_lets_the_threads_end_what_they_have_begun():
    ended = []

    def work(number):
        time.sleep(0.05)
        ended.append(number)

    results = in_order(work, range(100), workers=2)
    next(results)
    results.close()
    count = len(ended)
    assert 1 <= count <= 4
    time.sleep(0.15)
    assert len(ended) == count


def test_the_threads_do_not_run_far_ahead(monkeypatch):
    monkeypatch.setattr(worker_pool, "WAITING_RESULTS_PER_WORKER", 2)
    begun = []
    results = in_order(begun.append, range(100), workers=2)
    next(results)
    time.sleep(0.1)
    assert len(begun) == 1 + 2 * 2
    assert len(list(results)) == 99


def test_a_result_that_was_used_is_let_go(pictures):
    job_list = [Job(Source(str(path))) for path in pictures]
    for job in run(job_list, lambda job: bytes(10), max_jobs=2):
        assert job.result == bytes(10)
    assert {job.result for job in job_list} == {None}


def test_after_an_interruption_nothing_more_is_written(pictures, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    reading = threading.Event()

    def work(job):
        image = job.read()
        if job is job_list[1]:
            reading.set()
            job.stopping.wait(10)
        job.write(image)

    job_list = jobs_for(pictures, out)
    results = run(job_list, work, max_jobs=2)
    assert next(results) is job_list[0]
    reading.wait(10)
    results.close()
    assert isinstance(job_list[1].error, InterruptedError)
    assert "1.png" not in {path.name for path in out.iterdir()}


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_bug_in_finishing_comes_out(pictures, tmp_path, monkeypatch, jobs):
    def fail(descriptor):
        raise ZeroDivisionError

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / "new").mkdir()
    with pytest.raises(ZeroDivisionError):
        list(run(jobs_for(pictures, tmp_path / "new"), copy, max_jobs=jobs))
    assert not any((tmp_path / "new" / path.name).exists() for path in pictures)


def test_without_threads_the_caller_does_the_work(monkeypatch):
    def refuse(*given):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    assert list(in_order(str, range(3), workers=2)) == ["0", "1", "2"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_bad_file_does_not_stop_the_others(pictures, tmp_path, jobs):
    pictures[3].write_bytes(b"no picture")
    pictures[5].unlink()
    out = tmp_path / "out"
    out.mkdir()
    done = list(run(jobs_for(pictures, out), copy, max_jobs=jobs))
    assert [job.source.path for job in done] == [str(path) for path in pictures]
    assert [index for index, job in enumerate(done) if job.error] == [3, 5]
    assert done[3].failed_at == str(pictures[3])
    assert isinstance(done[5].error, FileNotFoundError)
    assert len(list(out.iterdir())) == 8


def test_a_failure_while_writing_is_about_the_output(pictures, tmp_path):
    target = str(tmp_path / "missing" / "a.png")
    job = Job(Source(str(pictures[0])), Target(target, "png"))
    list(run([job], copy))
    assert job.failed_at == target


def test_the_result_of_the_work_is_kept(pictures):
    job_list = [Job(Source(str(path))) for path in pictures]
    assert [job.result for job in run(job_list, lambda job: job.read().pixels.shape)] == [(5, 7, 3)] * 10


@pytest.mark.parametrize("jobs", [1, 4])
def test_each_warning_belongs_to_its_input(pictures, jobs):
    def work(job):
        time.sleep(0.001)
        warnings.warn(f"about {job.source.path}", UserWarning, stacklevel=1)
        warnings.warn(f"about {job.source.path}", UserWarning, stacklevel=1)

    job_list = [Job(Source(str(path))) for path in pictures]
    for job in run(job_list, work, max_jobs=jobs):
        assert job.warnings == [f"about {job.source.path}"]


def test_warnings_are_as_before_afterwards(pictures):
    show, filters = warnings.showwarning, list(warnings.filters)
    list(run([Job(Source(str(pictures[0])))], lambda job: None))
    assert warnings.showwarning is show
    assert warnings.filters == filters


def test_never_more_pictures_are_alive_than_jobs(pictures, tmp_path):
    alive, most = weakref.WeakSet(), []
    lock = threading.Lock()

    def work(job):
        image = job.read()
        with lock:
            alive.add(image)
            most.append(len(alive))
        if len(most) % 3 == 0:
            raise ImageError("some fail; their picture must go too")
        time.sleep(0.002)

    job_list = [Job(Source(str(path))) for path in pictures * 4]
    list(run(job_list, work, max_jobs=2))
    gc.collect()
    assert max(most) <= 3
    assert not alive


@pytest.mark.parametrize(("jobs", "threads", "expected"), [(4, None, 2), (1, None, 8), (8, None, 1), (4, 3, 3)])
def test_the_cores_are_shared_among_the_jobs(pictures, monkeypatch, jobs, threads, expected):
    monkeypatch.setattr("cnnfilter.runtime.parallel.default_threads", lambda: 8)
    job_list = [Job(Source(str(path))) for path in pictures]
    assert {job.threads for job in run(job_list, lambda job: None, max_jobs=jobs, threads=threads)} == {expected}


def test_one_input_needs_no_thread_and_no_futures(tmp_path, pictures):
    code = f"""
import sys, _thread
from cnnfilter.jobs.run import SPARE_WORKERS, run
from cnnfilter.jobs.job import *
def work(job):
    job.write(job.read())
    assert _thread._count() == 0
list(run([Job(Source({str(pictures[0])!r}), Target({str(tmp_path / "x.png")!r}, "png"))], work))
assert "concurrent.futures" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_is_not_a_picture(tmp_path):
    with pytest.raises(ImageError, match="folder; -r"):
        Source(str(tmp_path)).path_or_data()


def test_a_device_is_not_a_picture():
    with pytest.raises(ImageError, match="device"):
        Source("/dev/zero").path_or_data()


def test_a_named_pipe_is_read_once(tmp_path, pictures):
    import os

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = pictures[0].read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    source = Source(str(pipe))
    assert source.head(4) == b"\x89PNG"
    assert source.path_or_data() == data
    writer.join()


def test_a_folder_that_is_missing_is_made_when_something_is_written(pictures, tmp_path):
    target = Target(str(tmp_path / "a" / "b" / "x.png"), "png", make_folder=True)
    list(run([Job(Source(str(pictures[0])), target)], copy))
    assert read_image(target.path).pixels.shape == (5, 7, 3)


def through_float(pixels, mode, format):
    """Write a float picture in a format and read it again; return it and the warnings."""
    from cnnfilter.images.image import Image

    job = Job(Source("-"), Target(f"x.{format}", format))
    list(run([job], lambda job: job.write(Image(np.float32(pixels), mode))))
    assert job.error is None
    return read_image(f"x.{format}").pixels, job.warnings


def test_floats_become_bytes_where_the_format_holds_no_floats(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = [[[-3.0], [1.5], [99.25], [300.0]]]
    pixels, warned = through_float(values, "L", "png")
    assert pixels.ravel().tolist() == [0, 2, 99, 255]
    assert len(warned) == 1
    assert warned[0].startswith("50% of the samples are clipped")
    pixels, warned = through_float(values, "L", "npy")
    assert (pixels.tolist(), warned) == (values, [])


def test_the_alpha_of_floats_is_opaque_at_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels, warned = through_float([[[7.0, 8.0, 9.0, 1.0], [7.0, 8.0, 9.0, 0.5]]], "RGBA", "png")
    assert (pixels.tolist(), warned) == ([[[7, 8, 9, 255], [7, 8, 9, 128]]], [])


def test_floats_that_would_come_out_black_are_warned_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, warned = through_float([[[0.1], [0.9]]], "L", "png")
    assert len(warned) == 1
    assert "reach 0.9 and those of png 255" in warned[0]


def test_an_image_is_described_by_its_size():
    from cnnfilter.images.image import Image

    assert describe(Image.from_array(np.zeros((2, 3, 4), np.uint16))) == "3x2 RGBA uint16"
    assert describe(Image.from_array(np.zeros((2, 3, 7), np.uint8))) == "3x2 7 maps uint8"


# --- disk and memory


def test_while_files_wait_for_the_disk_others_are_worked_on(pictures, tmp_path, monkeypatch):
    all_written = threading.Event()
    written = []
    real = os.fsync

    def slow(descriptor):
        assert all_written.wait(10)
        real(descriptor)

    def work(job):
        copy(job)
        written.append(job)
        if len(written) == 2 + SPARE_WORKERS:
            all_written.set()

    monkeypatch.setattr(os, "fsync", slow)
    (tmp_path / "new").mkdir()
    ended = list(run(jobs_for(pictures, tmp_path / "new"), work, max_jobs=2))
    assert [job.error for job in ended] == [None] * len(pictures)


def test_only_so_many_files_wait_for_the_disk(pictures, tmp_path, monkeypatch):
    waiting = []
    most = []
    real = os.fsync

    def slow(descriptor):
        time.sleep(0.02)
        most.append(len(waiting))
        waiting.pop()
        real(descriptor)

    def work(job):
        copy(job)
        waiting.append(job)

    monkeypatch.setattr(os, "fsync", slow)
    (tmp_path / "new").mkdir()
    job_list = jobs_for(pictures * 5, tmp_path / "new")
    for index, job in enumerate(job_list):
        job.target.path = str(tmp_path / "new" / f"{index}.png")
    list(run(job_list, work, max_jobs=2))
    assert max(most) <= 2 + SPARE_WORKERS


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_file_that_the_disk_does_not_take_is_an_error_of_its_own(pictures, tmp_path, monkeypatch, jobs):
    out = tmp_path / "new"
    out.mkdir()
    real = os.fsync
    flushed = []

    def fail_once(descriptor):
        flushed.append(descriptor)
        if len(flushed) == 3:
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    ended = [(job.error, job.failed_at) for job in run(jobs_for(pictures, out), copy, max_jobs=jobs)]
    failed = [(error.errno, name) for error, name in ended if error]
    assert [number for number, _ in failed] == [errno.EIO]
    lost = os.path.basename(failed[0][1])
    assert {path.name for path in out.iterdir()} == {path.name for path in pictures} - {lost}


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "too many"), _caused_by_memory()])
def test_a_job_without_memory_runs_again_alone(pictures, error):
    working = []
    most = []

    def work(job):
        working.append(job)
        most.append(len(working))
        time.sleep(0.01)
        alone = len(working) == 1
        working.remove(job)
        if not alone:
            raise error
        return "done"

    ended = [(job.result, job.error) for job in run([Job(Source(str(path))) for path in pictures], work, max_jobs=3)]
    assert max(most) > 1
    assert ended == [("done", None)] * len(pictures)


def test_a_job_runs_again_when_no_file_waits_for_the_disk(pictures, tmp_path, monkeypatch):
    """Files that wait for the disk take memory and descriptors."""
    kept = set()
    real = Job.finish

    def slow(job):
        time.sleep(0.02)
        kept.discard(job)
        real(job)

    def work(job):
        copy(job)
        if len(kept) >= 2:
            raise OSError(errno.EMFILE, "too many open files")
        kept.add(job)

    monkeypatch.setattr(Job, "finish", slow)
    (tmp_path / "new").mkdir()
    ended = list(run(jobs_for(pictures, tmp_path / "new"), work, max_jobs=3))
    assert [job.error for job in ended] == [None] * len(pictures)


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_job_that_fails_after_writing_leaves_no_file(pictures, tmp_path, jobs):
    def work(job):
        copy(job)
        raise MemoryError

    (tmp_path / "new").mkdir()
    ended = list(run(jobs_for(pictures, tmp_path / "new"), work, max_jobs=jobs))
    assert {type(job.error) for job in ended} == {MemoryError}
    assert list((tmp_path / "new").iterdir()) == []


def test_a_job_without_memory_that_fails_again_has_failed(pictures):
    def work(job):
        raise MemoryError

    job_list = list(run([Job(Source(str(path))) for path in pictures], work, max_jobs=2))
    assert {type(job.error) for job in job_list} == {MemoryError}


def test_a_million_jobs_do_not_fill_the_memory():
    tracemalloc.start()
    try:
        job_list = [Job(Source(f"in/{number}.png"), Target(f"out/{number}.png", "png")) for number in range(1000)]
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken / len(job_list) < 1500


@pytest.mark.parametrize("format", ["png", "jpg"])
def test_a_picture_is_encoded_by_the_threads_of_its_job(pictures, tmp_path, monkeypatch, format):
    from cnnfilter.images.formats import jpeg, png

    module = {"png": png, "jpg": jpeg}[format]
    real, used = module.encode, []

    def encode(image, **options):
        used.append(options["threads"])
        return real(image, **options)

    monkeypatch.setattr(module, "encode", encode)
    job = Job(Source(str(pictures[0])), Target(str(tmp_path / "out"), format))
    list(run([job], copy, threads=3))
    assert used == [3]
    assert job.error is None
