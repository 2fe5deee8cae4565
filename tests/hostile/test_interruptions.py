"""Runs that end before they are done: what is there is whole, and the next run goes on from it."""

from __future__ import annotations

import contextlib
import glob
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cnnfilter.images.files import read_image, write_image

CNNFILTER = [sys.executable, "-m", "cnnfilter"]
KILLS = 50
MANY = 30


def visible(folder="."):
    """Return the names that a shell's ``*``, or a listing without names that begin with a dot, would find."""
    return sorted(glob.glob(os.path.join(folder, "**"), recursive=True))


# --- kill -9

KILLING = """
import itertools, os, random, signal, sys, time
import numpy as np
from cnnfilter.images.files import read_image, write_image
from cnnfilter.jit import cache

pictures = [np.full((200, 300, 3), value, np.uint8) for value in (10, 200)]
noise = np.random.default_rng(1).integers(0, 9, (200, 300, 3), np.uint8)
moments = random.Random(6)
write_image("picture.png", pictures[0] + noise)  # so that no loop has to be compiled any more
os.environ["CNNFILTER_CACHE_DIR"] = os.path.abspath("cache")
kept, kills = None, int(sys.argv[1])
for kill in range(100 * kills):  # a busy machine needs more time to write something
    if kill >= kills and kept is not None:
        break
    child = os.fork()
    if not child:
        for number in itertools.count():
            write_image("picture.png", pictures[number % 2] + noise)
            cache.write_entry("entry", bytes([number % 2]) * 300_000)
    time.sleep(moments.uniform(0, 0.05) * max(1, kill / kills))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if os.path.exists("picture.png"):
        values = read_image("picture.png").pixels
        assert values.shape == (200, 300, 3)
        assert values.min() // 10 in (1, 20)
    kept = cache.read_entry("entry")
    assert kept is None or kept in (bytes(300_000), b"\\1" * 300_000)
assert kept is not None
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed processes are forks")
def test_killed_at_any_moment_of_writing():
    """Pictures and kept machine code: the old one or the new one, and no litter that a glob would pick up."""
    subprocess.run([sys.executable, "-c", KILLING, str(KILLS)], check=True)
    seen = [path for path in visible() if not path.startswith("./cache")]
    assert seen == ["./", "./picture.png"]
    assert [path for path in visible("cache") if path.endswith(".tmp")] == []
    subprocess.run([*CNNFILTER, "convolve", "-k", "identity", "picture.png", "-o", "out.png"], check=True)


KILLING_MODELS = """
import itertools, os, random, signal, sys, time
import numpy as np
from cnnfilter.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from cnnfilter.networks.model_file import Backbone, read_model
from cnnfilter.training.train import Trained
from tests.networks.test_model_file import small_model

rng = np.random.default_rng(1)
network = "conv 64x5x5 | relu | conv 64x3x3 | globalpool avg | dense 3"
networks = [Trained(small_model(rng, network), None) for _ in range(2)]
backbone = Backbone("efficientnet-lite0", "0" * 64, 21)
heads = [Trained(small_model(rng, "dense 3", (4000,), backbone=backbone), None) for _ in range(2)]
points = [Checkpoint({"seed": "1"}, {"weights": np.full(100_000, n, np.float32)}, [], n, n, 0.0) for n in range(2)]
moments = random.Random(7)
seen = {"network": set(), "head": set(), "checkpoint": set()}


def stored(model):
    return model.weights[-1]["kernel"].astype("f2").tobytes()  # as a model file holds them


kills = int(sys.argv[1])
for kill in range(100 * kills):  # a busy machine needs more time to write each of the files
    if kill >= kills and all(numbers == {0, 1} for numbers in seen.values()):
        break
    child = os.fork()
    if not child:
        for number in itertools.count(kill):
            networks[number % 2].save("network.safetensors", force=True)
            heads[number % 2].save("head.safetensors", force=True)
            write_checkpoint("network.safetensors.checkpoint", points[number % 2])
    time.sleep(moments.uniform(0, 0.05) * max(1, kill / kills))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for name, written in (("network", networks), ("head", heads)):
        if os.path.exists(name + ".safetensors"):
            found = stored(read_model(name + ".safetensors"))
            seen[name].add([stored(one.model) for one in written].index(found))
    if os.path.exists("network.safetensors.checkpoint"):
        point = read_checkpoint("network.safetensors.checkpoint", {"seed": "1"}, {"weights": 100_000})
        assert set(point.vectors["weights"]) == {point.best}
        seen["checkpoint"].add(point.best)
assert all(numbers == {0, 1} for numbers in seen.values()), seen
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed processes are forks")
def test_killed_at_any_moment_of_writing_a_model():
    """Networks, heads and checkpoints: the old one or the new one, and no litter that a glob would pick up."""
    subprocess.run([sys.executable, "-c", KILLING_MODELS, str(KILLS)], check=True)
    names = ["head.safetensors", "network.safetensors", "network.safetensors.checkpoint"]
    assert visible() == ["./", *(f"./{name}" for name in names)]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 there")
def test_a_training_that_is_killed_again_and_again(rng):
    """With ``--resume`` it comes to the same model, byte by byte."""
    np.savez("in.npz", images=rng.integers(0, 255, (400, 12, 12), np.uint8), labels=np.arange(400) % 2)
    line = [*CNNFILTER, "train", "in.npz", "--layers", "conv 8x3x3 | relu | flatten | dense 2", "--epochs", "90", "-q"]
    began = time.monotonic()
    subprocess.run([*line, "-o", "whole.safetensors"], check=True)
    whole_seconds = time.monotonic() - began
    line += ["-o", "killed.safetensors", "--resume"]
    moments = random.Random(8)
    kills = 0
    while not os.path.exists("killed.safetensors"):
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kills == 0:  # as soon as there is something to resume, however fast the machine is
            while process.poll() is None and not os.path.exists("killed.safetensors.checkpoint"):
                time.sleep(0.002)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                seconds = whole_seconds * moments.uniform(0.3, 0.9) if kills < 4 else 60
                assert process.wait(seconds) == 0
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        assert set(visible()) <= {"./", *(f"./{name}" for name in ("in.npz", "whole.safetensors"))} | {
            "./killed.safetensors",
            "./killed.safetensors.checkpoint",
        }
    assert kills
    assert Path("killed.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()


# --- a batch


@pytest.fixture
def many(rng):
    """A folder of pictures, each of which takes a while."""
    os.mkdir("in")
    pixels = rng.integers(0, 256, (500, 700, 3), np.uint8)
    write_image("in/00.png", pixels)
    for index in range(1, MANY):
        shutil.copy("in/00.png", f"in/{index:02}.png")
    return "in"


def start_batch(*more):
    return subprocess.Popen(
        [*CNNFILTER, "convolve", "-r", "in", "-k", "gabor:8,30", "--algorithm", "direct", "-o", "out/", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_results(least=1):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if os.path.isdir("out") and len(glob.glob("out/*")) >= least:
            return
        time.sleep(0.01)
    pytest.fail("no result came")


def check_what_was_told(code, err, count=MANY):
    """Ctrl-C is answered by one line if there are several inputs; other signals end the run silently."""
    if code == 130 and count > 1:
        line = rf"Interrupted after \d+ of {count} inputs; the same command with --skip-existing goes on\n"
        assert re.fullmatch(line, err)
    else:
        assert err == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
    ids=["Ctrl-C", "TERM", "HUP", "KILL"],
)
def test_a_batch_that_is_stopped_and_started_again(many, number, code):
    process = start_batch()
    wait_for_results(2)
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 2
    assert (process.returncode, out) == (code, "")
    check_what_was_told(code, err)
    done = {path: os.stat(path).st_mtime_ns for path in glob.glob("out/*")}
    assert 2 <= len(done) < MANY
    hidden = [name for name in os.listdir("out") if name.startswith(".")]
    if number == signal.SIGKILL:
        assert all(name.endswith(".tmp") for name in hidden)
    else:
        assert hidden == []
    for path in done:
        assert read_image(path).pixels.shape == (500, 700, 3)

    again = start_batch("--skip-existing", "-v")
    _, err = again.communicate(timeout=60)
    assert again.returncode == 0
    assert err.splitlines()[-1].startswith(f"{MANY - len(done)} done, {len(done)} skipped in ")
    assert len(glob.glob("out/*")) == MANY
    assert all(os.stat(path).st_mtime_ns == moment for path, moment in done.items())
    for path in glob.glob("out/*"):
        assert read_image(path).pixels.shape == (500, 700, 3)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("pause", [0, 0.01, 0.1])
def test_further_signals_do_no_harm(many, number, code, pause):
    process = start_batch()
    wait_for_results()
    for _ in range(5):
        process.send_signal(number)
        time.sleep(pause)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    check_what_was_told(code, err)
    assert [name for name in os.listdir("out") if name.startswith(".")] == []


SLOW_DISK = """
import itertools, os, time
real = os.fsync
def slow(descriptor):
    if next(flushed):
        time.sleep(60)
    real(descriptor)
flushed = itertools.count()
os.fsync = slow
from cnnfilter.__main__ import run
run()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_batch_that_is_stopped_while_files_wait_for_the_disk(rng, number, code, jobs):
    """Files that fit on the disk are whole; of the others, nothing is left."""
    os.mkdir("in")
    for index in range(MANY):
        write_image(f"in/{index:02}.png", rng.integers(0, 256, (40, 60, 3), np.uint8))
    # So that no code is compiled later, which would wait for the disk too.
    subprocess.run([*CNNFILTER, "convolve", "in/00.png", "-k", "blur", "-o", "first.png", "-q"], check=True)
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_DISK, "convolve", "-r", "in", "-k", "blur", "-o", "out/", "-j", jobs],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_results()
    deadline = time.monotonic() + 30
    while not any(name.startswith(".") for name in os.listdir("out")) and time.monotonic() < deadline:
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 2
    assert process.returncode == code
    check_what_was_told(code, err)
    (done,) = os.listdir("out")
    assert read_image(f"out/{done}").pixels.shape == (40, 60, 3)


def test_what_a_thread_is_still_writing_at_the_end_is_removed():
    code = """
import threading, time
from cnnfilter.runtime.atomic_files import replace_file

def slowly():
    with replace_file("target") as file:
        file.write(b"half")
        begun.set()
        time.sleep(60)

begun = threading.Event()
threading.Thread(target=slowly, daemon=True).start()
begun.wait()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
    assert os.listdir() == []


def test_one_large_picture_can_be_interrupted():
    write_image("large.npy", np.zeros((4000, 4000, 3), np.float32))
    write_image("small.npy", np.zeros((50, 50, 3), np.float32))
    how = ["-k", "gabor:30,30", "--algorithm", "direct"]
    subprocess.run([*CNNFILTER, "convolve", "small.npy", *how, "-o", "small.npy", "--force"], check=True)
    process = subprocess.Popen(
        [*CNNFILTER, "convolve", "large.npy", *how, "-o", "out.npy"], stderr=subprocess.PIPE, text=True
    )
    time.sleep(1)
    assert process.poll() is None, "it was too fast to be interrupted"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 2
    assert (process.returncode, err) == (130, "")
    assert sorted(path.name for path in Path().iterdir()) == ["large.npy", "small.npy"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("begun", [b"", b"\xff\xd8\xff"], ids=["nothing", "a JPEG"])
def test_who_waits_for_a_picture_can_be_interrupted(number, code, begun):
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [*CNNFILTER, "convolve", "-k", "blur"], stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    os.close(reading)
    os.write(writing, begun)
    time.sleep(1)  # until it waits
    process.send_signal(number)
    started = time.monotonic()
    out, told = process.communicate(timeout=20)
    os.close(writing)
    assert (process.returncode, out, told) == (code, b"", b"")
    assert time.monotonic() - started < 2


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="whether the compiler is there is read from /proc")
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_first_compilation_can_be_interrupted(number, code, count, monkeypatch):
    """At any moment: while the compiler is imported, while it compiles, while LLVM calls back."""
    monkeypatch.setenv("CNNFILTER_CACHE_DIR", os.path.abspath("cache"))
    os.mkdir("in")
    for index in range(count):
        write_image(f"in/{index}.npy", np.zeros((40, 40, 3), np.uint8))
    for pause in (0, 0.7):
        process = subprocess.Popen(
            [*CNNFILTER, "convolve", "-r", "in", "-k", "unsharp:2,0.8", "-o", "out/"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while "libllvmlite" not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.02)
        time.sleep(pause)
        began = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - began < 2
        assert process.returncode == code
        check_what_was_told(code, err, count)
        kept = os.listdir("cache/loops") if os.path.isdir("cache/loops") else []
        assert [name for name in kept if name.startswith(".")] == []
        shutil.rmtree("cache", ignore_errors=True)


def test_an_interruption_before_the_command_line_minds_it():
    code = """
import builtins, os, signal
imported = builtins.__import__
def interrupted(name, *rest):
    if name == "click":
        os.kill(os.getpid(), signal.SIGINT)
    return imported(name, *rest)
builtins.__import__ = interrupted
from cnnfilter.__main__ import run
run()
"""
    done = subprocess.run([sys.executable, "-c", code, "kernels"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
