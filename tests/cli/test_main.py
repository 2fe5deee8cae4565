"""The command line as a shell sees it: streams, exit codes, signals, start-up, completion, help."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

import cnnfilter
from cnnfilter.cli import COMMANDS, main
from cnnfilter.images.files import encode_image, read_image, write_image
from cnnfilter.images.image import Image

PYTHON = [sys.executable, "-m", "cnnfilter"]
COPY = ["convolve", "-k", "identity"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(cnnfilter.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photo(rng):
    """A small picture in the current folder."""
    write_image("photo.png", rng.integers(100, 140, (12, 16, 3), np.uint8))
    return "photo.png"


def run(*args, input=None, **more):
    """Run a command in a process of its own."""
    return subprocess.run([*PYTHON, *args], input=input, capture_output=True, timeout=60, **more)


def invoke(*args, input=None):
    return CliRunner().invoke(main, args, input=input)


def on_terminal(*args, start=("-m", "cnnfilter")):
    """Run a command on a terminal and return what it shows and its exit code."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, *start, *args])
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def litter():
    return [name for name in os.listdir() if name.startswith(".") or name.endswith(".tmp")]


# --- streams


def test_a_file_to_a_pipe(photo):
    done = run(*COPY, photo)
    assert (done.returncode, done.stderr) == (0, b"")
    np.testing.assert_array_equal(read_image(done.stdout).pixels, read_image(photo).pixels)
    assert os.listdir() == [photo]


@pytest.mark.parametrize("input", [[], ["-"]])
def test_stdin_to_stdout_is_the_same_as_a_file(photo, input):
    done = run(*COPY, *input, input=Path(photo).read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == run(*COPY, photo, "-o", "-").stdout


def test_a_pipe_of_commands(photo):
    line = f"cat {photo} | {{0}} convolve -k sharpen | {{0}} pool --size 2 --stride 2".format(" ".join(PYTHON))
    piped = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert run("convolve", photo, "-k", "sharpen", "-o", "a.png").returncode == 0
    assert run("pool", "a.png", "--size", "2", "--stride", "2", "-o", "b.png").returncode == 0
    np.testing.assert_array_equal(read_image(piped).pixels, read_image("b.png").pixels)
    assert read_image(piped).pixels.shape == (6, 8, 3)


def test_npy_stays_npy_through_pipes():
    values = np.linspace(-3, 3, 20, dtype=np.float32).reshape(4, 5, 1)
    done = run(*COPY, input=encode_image(values, "npy"))
    np.testing.assert_array_equal(read_image(done.stdout).pixels, values)


def test_on_a_terminal_a_file_is_written_and_its_path_printed(photo):
    run("convolve", photo, "-k", "sobel-h", "-o", "first.png")  # now no loop has to be compiled
    shown, code = on_terminal("convolve", photo, "-k", "sobel-h")
    assert (shown, code) == ("photo-sobel-h.png\r\n", 0)
    assert os.path.exists("photo-sobel-h.png")


def test_a_picture_is_not_written_to_a_terminal(photo):
    shown, code = on_terminal("convolve", photo, "-k", "sobel-h", "-o", "-")
    assert code == 2
    assert "'--output': stdout is a terminal" in shown


def test_a_terminal_is_told_of_a_compilation(monkeypatch):
    monkeypatch.setenv("CNNFILTER_CACHE_DIR", os.path.abspath("cache"))
    write_image("in.npy", np.zeros((4, 4), np.uint8))  # whose reading and writing needs no loop
    shown, code = on_terminal("pool", "in.npy", "-o", "a.npy")
    assert code == 0
    assert shown == "preparing the code for pooling: some seconds, in the first run only …\r\n"
    assert on_terminal("pool", "in.npy", "-o", "b.npy") == ("", 0)


def test_no_program_is_told_of_a_compilation(monkeypatch):
    monkeypatch.setenv("CNNFILTER_CACHE_DIR", os.path.abspath("cache"))
    write_image("in.npy", np.zeros((4, 4), np.uint8))
    assert run("pool", "in.npy", "-o", "a.npy").stderr == b""
    assert os.listdir("cache")


@pytest.mark.parametrize(
    ("kernels", "name"),
    [
        (["gaussian:1.5"], "photo-gaussian-1.5.png"),
        (["sobel"], "photo-sobel.png"),
        (["sobel", "1 2 1"], "photo-sobel-kernel-1x3.png"),
        (["kirsch"], "photo-kirsch.png"),
        (["gaussian:1.5"] * 40, f"photo-{'-'.join(['gaussian-1.5'] * 40)[:100]}.png"),
    ],
)
def test_a_result_is_named_after_its_kernels(photo, kernels, name):
    os.mkdir("out")
    done = run("convolve", f"../{photo}", "nothere", *[word for k in kernels for word in ("-k", k)], cwd="out")
    assert done.stdout.decode() == f"{name}\n"
    assert os.listdir("out") == [name]


def test_quiet_prints_no_path(photo):
    assert on_terminal("convolve", photo, "-k", "sobel-h", "-q") == ("", 0)


@pytest.mark.parametrize("input", [[], ["-"]])
def test_a_terminal_is_not_read(input):
    shown, code = on_terminal(*COPY, *input)
    assert code == 2
    assert "cat photo.jpg | cnnfilter convolve" in shown


def test_several_inputs_are_written_to_files_even_in_a_pipe(photo):
    shutil.copy(photo, "b.png")
    done = run("convolve", photo, "b.png", "-k", "blur")
    assert done.stdout == b"photo-blur.png\nb-blur.png\n"


def test_the_path_of_a_written_file_is_what_the_next_program_needs(photo):
    name = b"new\nline\xff.png"
    shutil.copy(photo, name)
    done = run("convolve", os.fsdecode(name), photo, "-k", "blur")
    assert done.stdout == b"new\nline\xff-blur.png\nphoto-blur.png\n"
    assert os.path.exists(b"new\nline\xff-blur.png")


def test_nothing_on_stdin():
    done = run(*COPY, input=b"")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"Error: stdin: empty: no picture came in\n"


def shell(line):
    script = f'cnnfilter() {{ {" ".join(PYTHON)} "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", script], capture_output=True, timeout=60, text=True)


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("cnnfilter {copy} photo.png > /dev/full", 1, "Error: stdout: no space left on device\n"),
        ("cnnfilter {copy} photo.png >&-", 1, "Error: stdout: bad file descriptor\n"),
        ("cnnfilter --help > /dev/full", 1, "Error: stdout: no space left on device\n"),
        ("cnnfilter --help >&-", 1, "Error: stdout: bad file descriptor\n"),
        ("cnnfilter --version > /dev/full", 1, "Error: stdout: no space left on device\n"),
        ("cnnfilter {copy} photo.png -o a.png >&-", 0, ""),
        ("cnnfilter {copy} <&-", 1, "Error: stdin: closed\n"),
        ("cnnfilter {copy} 0>out.png", 1, "Error: stdin: bad file descriptor\n"),
        ("cnnfilter {copy} photo.png -o a.png 2>&-", 0, ""),
        ("cnnfilter {copy} nothere.png 2>&-", 1, ""),
        ("cnnfilter {copy} photo.png -o /dev/full", 1, "Error: /dev/full: no space left on device\n"),
        ("cnnfilter {copy} photo.png -o /dev/null", 0, ""),
        ("set -o pipefail; cnnfilter {copy} photo.png | true", 141, ""),
        ("set -o pipefail; cnnfilter {copy} photo.png | head -c 1 > /dev/null", None, ""),
        ("cnnfilter {copy} <(cat photo.png) -o a.png", 0, ""),
        ("cat photo.png | cnnfilter {copy} /dev/stdin > a.png", 0, ""),
    ],
)
def test_streams_that_are_closed_full_or_devices(photo, line, code, message):
    done = shell(line.format(copy=" ".join(COPY)))
    assert done.stderr == message
    if code is not None:
        assert done.returncode == code
    assert not litter()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["convolve", "--help"], ["kernels", "list"]])
def test_a_closed_pipe_ends_the_command_quietly(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "cnnfilter", *arguments], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_closed_streams_do_not_end_up_in_the_picture(photo):
    assert shell(f"cnnfilter {' '.join(COPY)} photo.png -v -o a.png <&- >&- 2>&-").returncode == 0
    np.testing.assert_array_equal(read_image("a.png").pixels, read_image(photo).pixels)


# --- failures


def test_one_bad_file_does_not_stop_the_others(photo):
    Path("bad.jpg").write_bytes(b"no picture at all")
    done = run(*COPY, "nothere.png", photo, "bad.jpg", "-o", "out/")
    assert done.returncode == 1
    first, second = done.stderr.decode().splitlines()
    assert first == "Error: nothere.png: no such file or directory"
    assert second.startswith("Error: bad.jpg: not a picture that can be read")
    assert os.listdir("out") == ["photo.png"]


def test_a_folder_without_recursive(photo):
    os.mkdir("d")
    done = run(*COPY, "d", photo, "-o", "out/")
    assert (done.returncode, done.stderr) == (1, b"Error: d: is a folder; -r reads the pictures in it\n")
    assert os.listdir("out") == ["photo.png"]


@pytest.mark.skipif(not shutil.which("setpriv"), reason="root may read everything")
def test_a_file_that_may_not_be_read(photo):
    shutil.copy(photo, "locked.png")
    os.chmod("locked.png", 0)
    os.mkdir("d")
    shutil.copy(photo, "d")
    os.mkdir("d/locked")
    os.chmod("d/locked", 0)
    free = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run([*free, *PYTHON, *COPY, "-r", "locked.png", "d", "-o", "out/"], capture_output=True)
    os.chmod("d/locked", 0o700)
    assert done.returncode == 1
    assert done.stderr.lower() == (
        b"error: locked.png: cannot be read: permission denied\nerror: d/locked: permission denied\n"
    )
    assert os.listdir("out") == ["photo.png"]


def test_control_characters_are_written_out():
    done = run(*COPY, "a\x1b[31m\n.png")
    assert done.stderr == b"Error: a\\x1b[31m\\n.png: no such file or directory\n"
    done = run("a\x1b[31m")
    assert b"\x1b" not in done.stderr


def test_existing_output_is_refused_before_anything_is_done(photo):
    Path("a.png").write_bytes(b"precious")
    done = run(*COPY, photo, "-o", "a.png")
    said = (
        "Error: a.png: exists already; --force replaces it, --skip-existing leaves it out, "
        "--if-newer replaces it if it is older than its input\n"
    )
    assert (done.returncode, done.stderr.decode()) == (1, said)
    assert Path("a.png").read_bytes() == b"precious"
    assert run(*COPY, photo, "-o", "a.png", "--force").returncode == 0
    assert read_image("a.png").pixels.shape == (12, 16, 3)


def test_in_place_with_force(photo):
    before = read_image(photo).pixels
    assert run("pool", photo, "-o", photo).returncode == 1
    assert run("pool", photo, "-o", photo, "--force").returncode == 0
    assert read_image(photo).pixels.shape == (6, 8, before.shape[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convolve", "photo.png"], "Missing option '-k' / '--kernel', such as -k sharpen (cnnfilter kernels"),
        (
            ["convolve", "photo.png", "-k", "sobl-h"],
            "'--kernel': no kernel is called 'sobl-h': did you mean sobel-h",
        ),
        (["convolve", "photo.png", "-k", "1 2; 3"], "'-k' / '--kernel'"),
        (["convolve", "photo.png", "-k", "1 nan 1"], "'-k' / '--kernel'"),
        (["convolve", "photo.png", "-k", "sobel-h", "--normalize"], "sums to 0"),
        (["convolve", "photo.png", "-k", "blur", "--stride", "0"], "'--stride': '0' is neither"),
        (["convolve", "photo.png", "-k", "blur", "--bias", "nan"], "'--bias': 'nan' is not a finite number"),
        (["convolve", "photo.png", "-k", "blur", "--border", "mirror"], "'--border': 'mirror' is none of"),
        (["convolve", "photo.png", "-k", "blur", "-f", "xcf"], "'-f' / '--format'"),
        (
            ["convolve", "photo.png", "-k", "blur", "-o", "x.foo"],
            "'--output': no picture format has the suffix",
        ),
        (["convolve", "photo.png", "-k", "blur", "--max-pixels", "0"], "'--max-pixels'"),
        (["convolve", "-", "-", "-k", "blur"], "only once"),
        (["convolve", "photo.png", "--kern"], "--kernel"),
        (["pool", "photo.png", "--size", "-1"], "'--size'"),
        (["pool", "photo.png", "--global", "--size", "3"], "leave out --size"),
        (["apply", "conv sobl-h", "photo.png"], "LAYERS"),
        (["convole"], "Did you mean 'convolve'?"),
        (["photo.png"], "cnnfilter convolve photo.png -k sharpen"),
        ([], "Usage:"),
    ],
)
def test_usage_errors(photo, arguments, message):
    done = invoke(*arguments)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert os.listdir() == ["photo.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convolve", "photo.png", "-k", "box:15", "--padding", "valid"], "Error: photo.png: "),
        (["pool", "photo.png", "--size", "13"], "Error: photo.png: "),
        (["convolve", "photo.png", "-k", "blur", "--max-pixels", "100"], "the limit is 100"),
        (["convolve", "photo.png", "-k", "blur", "--padding", "999999"], "2000012x2000008 is 4,000,0"),
        (["apply", "conv blur pad=999999", "photo.png"], "2000012x2000008 is 4,000,0"),
        (["pool", "photo.png", "--size", "3", "--padding", "2"], "Error: photo.png: "),
    ],
)
def test_options_that_do_not_fit_the_picture_are_refused(photo, arguments, message):
    done = invoke(*arguments, "-o", "out.png")
    assert done.exit_code == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert os.listdir() == ["photo.png"]


def test_a_bug_keeps_its_traceback(photo, monkeypatch):
    monkeypatch.setattr("cnnfilter.images.files.read_image", lambda *args, **more: 1 / 0)
    done = invoke(*COPY, photo)
    assert isinstance(done.exception, ZeroDivisionError)


def test_verbose_prints_the_algorithm_and_times(photo):
    done = run("convolve", photo, "-k", "gaussian:2", "-v")
    assert done.returncode == 0
    text = done.stderr.decode()
    assert "photo.png: read 16x12 RGB uint8 in" in text
    assert re.search(r"photo\.png: .*(direct|separable|fft)", text)
    assert re.search(r"photo\.png: computed in \d+ ms", text)
    assert "photo.png: wrote 16x12 RGB uint8 as png in" in text


def test_verbose_sums_up_several(photo):
    done = run(*COPY, photo, "nothere.png", "-v", "-o", "out/")
    assert re.search(r"^1 done, 1 failed in \d+\.\d s$", done.stderr.decode(), re.MULTILINE)
    assert b"done" not in run(*COPY, photo, "-v", "-o", "a.png").stderr


def test_clipping_is_said_once_and_not_with_quiet(photo):
    done = run("convolve", photo, "-k", "identity", "--bias", "200")
    assert re.fullmatch(r"Warning: photo\.png: \d+% of the samples are clipped .*\n", done.stderr.decode())
    assert run("convolve", photo, "-k", "identity", "--bias", "200", "-q").stderr == b""


# --- encodings


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp037", "utf-16", "shift_jis_2004"])
def test_every_encoding_of_the_streams_will_do(encoding):
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for arguments, text in (
        (["describe", "digits"], "conv 16x3x3"),
        (["kernels", "show", "log:1.4"], "(height x width)"),
        (["kernels", "list"], "sobel-h"),
        (["convolve", "--help"], "Filter pictures"),
    ):
        done = run(*arguments, env=env)
        assert (done.returncode, done.stderr) == (0, b"")
        assert text in done.stdout.decode(encoding)
    done = run(*COPY, env=env, input=b"")
    assert (done.returncode, done.stderr.decode(encoding)) == (1, "Error: stdin: empty: no picture came in\n")


def test_a_character_that_the_terminal_lacks_is_written_in_ascii():
    env = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    assert run(*COPY, "日é.png", env=env).stderr == b"Error: \\u65e5\xe9.png: no such file or directory\n"
    shown = run("describe", "digits", env=env).stdout.decode("latin-1")
    assert "classes        10: 0, 1, 2, ..., 8, 9" in shown


# --- signals


def slow_batch(*more):
    """A folder with enough work for seconds."""
    os.mkdir("in")
    for index in range(40):
        write_image(f"in/{index}.png", np.zeros((1000, 1500, 3), np.uint8))
    return subprocess.Popen(
        [*PYTHON, "convolve", "-r", "in", "-k", "gabor:8,30", "--algorithm", "direct", *(more or ["-o", "out/"])],
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_batch_ends_soon_and_whole(number, code):
    process = slow_batch()
    deadline = time.monotonic() + 30
    while not (os.path.isdir("out") and os.listdir("out")) and time.monotonic() < deadline:
        time.sleep(0.02)
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    done = os.listdir("out")
    said = f"Interrupted after {len(done)} of 40 inputs; the same command with --skip-existing goes on\n"
    assert (process.returncode, err.decode()) == (code, said if number == signal.SIGINT else "")
    assert time.monotonic() - began < 2
    assert 0 < len(done) < 40
    assert not [name for name in done if name.startswith(".")]
    for name in done:
        assert read_image(f"out/{name}").pixels.shape == (1000, 1500, 3)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["-o", "out/", "--if-newer"], "; the same command goes on\n"),
        (["-o", "out/", "--force"], "; the same command begins again\n"),
        (["-o", "out/", "-q"], ""),
    ],
)
def test_after_ctrl_c_a_line_says_how_to_go_on(more, said):
    process = slow_batch(*more)
    while not (os.path.isdir("out") and os.listdir("out")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    said = f"Interrupted after {len(os.listdir('out'))} of 40 inputs{said}" if said else ""
    assert (process.returncode, err.decode()) == (130, said)


def test_after_ctrl_c_classify_names_the_next_picture():
    os.mkdir("in")
    for index in range(200):
        write_image(f"in/{index:03}.png", np.zeros((400, 400, 3), np.uint8))
    process = subprocess.Popen(
        [*PYTHON, "classify", "-r", "in"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    said = re.fullmatch(r"Interrupted after (\d+) of 200 inputs; the next is in/(\d+)\.png\n", err.decode())
    assert said is not None
    printed, ended, next_one = out.count(b"\n"), int(said[1]), int(said[2])
    assert next_one == ended
    assert printed - 1 <= ended <= printed  # the signal may come between a line and its count


def test_an_ignored_hangup_stays_ignored(photo):
    copy = f"cnnfilter {' '.join(COPY)} photo.png -o a.png"
    done = shell(f"trap '' HUP; {copy} & sleep 0.05; kill -HUP $!; wait $!")
    assert done.returncode == 0
    assert os.path.exists("a.png")


def test_ctrl_c_while_waiting_for_stdin():
    process = subprocess.Popen([*PYTHON, *COPY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, b"", b"")


HAMMERED = """
import os, signal
from cnnfilter.cli import Stopped, _signals_raise

process, number = os.getpid(), signal.SIGINT
signal.pthread_sigmask(signal.SIG_BLOCK, [number])
child = os.fork()
while not child and os.getppid() == process:
    os.kill(process, number)
if not child:
    os._exit(0)
for _ in range(200):
    signal.signal(number, signal.default_int_handler)
    with _signals_raise():
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
            while True:
                pass
        except Stopped:
            pass
        assert callable(signal.getsignal(number))  # only then does Python not complain of one that comes now
        signal.pthread_sigmask(signal.SIG_BLOCK, [number])
os.kill(child, signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the signals come from a fork")
def test_signals_after_the_first_do_nothing():
    done = subprocess.run([sys.executable, "-c", HAMMERED], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_when_the_command_is_over(photo):
    code = """
import io, signal, sys
from cnnfilter.cli import main

class Slow(io.StringIO):  # as a pipe that is read late, when Ctrl-C has been pressed
    signals = [signal.SIGINT]

    def flush(self):
        while self.signals:
            signal.raise_signal(self.signals.pop())

sys.stdout = Slow()
main(prog_name="cnnfilter")
"""
    done = subprocess.run([sys.executable, "-c", code, *COPY, photo, "-o", "a.png"], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


# --- progress


def test_a_long_run_on_a_terminal_shows_how_far_it_is(photo):
    for index in range(3):
        shutil.copy(photo, f"{index}.png")
    run(*COPY, photo, "-o", "first.png")
    code = """
import itertools, types
from cnnfilter.cli import main
from cnnfilter.cli import reporter
reporter.PROGRESS_AFTER_SECONDS = reporter.REDRAW_SECONDS = 0.0
reporter.time = types.SimpleNamespace(monotonic=itertools.count(0, 2).__next__)  # a job takes two seconds
main(prog_name="cnnfilter")
"""
    shown, ended = on_terminal(*COPY, "0.png", "nothere.png", "1.png", "2.png", "-o", "out/", start=["-c", code])
    assert ended == 1
    parts = shown.split("\r")
    assert parts[1] == "[#######-----------------------] 1/4  0.5/s  0:06 left\x1b[K"
    assert parts[2] == "\x1b[KError: nothere.png: no such file or directory"  # the progress line was removed first
    assert "] 3/4  0.5/s  0:02 left" in shown
    assert "4/4" not in shown
    assert parts[-2] == "\x1b[K3 done, 1 failed in 10.0 s"


def test_a_short_run_shows_no_progress(photo):
    shutil.copy(photo, "b.png")
    run(*COPY, photo, "-o", "first.png")
    shown, code = on_terminal(*COPY, photo, "b.png")
    assert (shown.split(), code) == (["photo-identity.png", "b-identity.png"], 0)


# --- start-up

LIGHT = [
    ["--help"],
    ["--version"],
    ["nonsense"],
    *[[command, "--help"] for command in COMMANDS],
    ["convolve"],
    ["convolve", "photo.png", "-k", "blur", "--stride", "0"],
    ["pool", "-", "-"],
    ["pool", "--size", "0"],
    ["pool", "photo.png", "-o", "x.foo"],
    ["convolve", "photo.png", "-k", "blur", "-o", "{foo}.png"],
    ["apply", "relu", "photo.png", "-o", "x.foo"],
    ["convolve", "photo.png", "-k", "sobl-h"],
    ["convolve", "photo.png", "-k", "gaussian:wide"],
    ["convolve", "photo.png", "-k", "0 1 0; 1 1"],
    ["convolve", "photo.png", "-k", "[[1, 2], [3]]"],
    ["convolve", "photo.png", "-k", "nan 1"],
    ["kernels", "show", "sharpn"],
    ["apply", "", "photo.png"],
    ["apply", "relu | foo", "photo.png"],
    ["apply", "conv sobl-h | relu", "photo.png"],
    ["describe", "conv 32x3 | relu", "--input", "9x9x1"],
    ["describe", "conv 32x3x3 | relu"],
]


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_help_and_usage_errors_import_nothing_heavy(arguments):
    code = f"""
import sys
from cnnfilter.cli import main
try:
    main({arguments!r}, prog_name="cnnfilter")
finally:
    heavy = {{"numpy", "numba", "llvmlite", "PIL", "concurrent.futures"}} & set(sys.modules)
    assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "AssertionError" not in done.stderr


def test_completion_is_light_and_knows_kernels():
    code = """
import sys
from cnnfilter.cli import main
try:
    main(prog_name="cnnfilter")
finally:
    assert not {"numpy", "numba", "PIL"} & set(sys.modules)
"""
    words = {"COMP_WORDS": "cnnfilter convolve -k sobel-", "COMP_CWORD": "3"}
    words["_CNNFILTER_COMPLETE"] = "bash_complete"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **words}, check=True
    )
    assert done.stdout.split() == ["plain,sobel-h", "plain,sobel-v"]


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_the_completion_scripts_of_the_help_exist(shell_name):
    assert f"_CNNFILTER_COMPLETE={shell_name}_source cnnfilter" in invoke("--help").stdout
    code = "from cnnfilter.cli import main; main(prog_name='cnnfilter')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "_CNNFILTER_COMPLETE": f"{shell_name}_source"},
        check=True,
    )
    assert "_CNNFILTER_COMPLETE" in done.stdout


@pytest.mark.skipif("CNNFILTER_TESTS_WITHOUT_LINUX" in os.environ, reason="elsewhere LLVM is asked in each run")
def test_one_picture_needs_neither_numba_nor_pillow(photo):
    assert run(*COPY, photo).returncode == 0  # now the loop is compiled
    code = f"""
import sys
from cnnfilter.cli import main
try:
    main({[*COPY, photo, "-o", "a.png"]!r}, prog_name="cnnfilter")
finally:
    heavy = {{"numba", "llvmlite", "PIL", "concurrent.futures", "logging"}} & set(sys.modules)
    assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- help


def test_the_version_is_the_package_s():
    assert invoke("--version").stdout == f"cnnfilter {cnnfilter.__version__}\n"


def test_the_group_lists_every_command_with_a_line():
    shown = invoke("--help").stdout
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S", shown, re.MULTILINE), name


def examples():
    for name in [None, *COMMANDS]:
        command = main if name is None else main.get_command(click.Context(main), name)
        lines = (command.help or "").partition("Examples:")[2].splitlines()
        for line in lines:
            if re.match(r"\s+\S.*\bcnnfilter\b", line):
                yield pytest.param(line.strip(), id=line.strip())


def test_every_command_has_examples():
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert "Examples:" in command.help, name
        assert command.help.index("Examples:") > 80, f"{name} has no prose"


@pytest.mark.parametrize("line", list(examples()))
def test_the_examples_of_the_help_run(line, rng):
    pixels = rng.integers(100, 110, (64, 96, 3), np.uint8)
    for name in ("photo.jpg", "a.png", "b.png", "before.png", "after.png"):
        write_image(name, pixels)
    os.mkdir("photos")
    shutil.copy("photo.jpg", "photos/one.jpg")
    Path("kernel.txt").write_text("0 -1 0\n-1 5 -1\n0 -1 0\n")
    if "warmup" in line:  # minutes, where nothing is kept
        line = f"NUMBA_DISABLE_JIT=1 {line} --quiet"
    done = shell(f"set -eo pipefail; {line}")
    assert (done.returncode, done.stderr) == (0, "")


def test_warmup_prepares_every_form_of_every_loop(monkeypatch):
    from cnnfilter.jit import loop as loops

    monkeypatch.setattr(loops.Loop, "prepare", lambda loop, dtypes: prepared.append((loop, dtypes)))
    prepared = []
    done = invoke("warmup")
    assert prepared == list(loops.every_loop())
    modules = {loop.function.__module__ for loop, _ in prepared}
    assert modules >= {"cnnfilter.filters.convolution.border_loops", "cnnfilter.filters.pooling.any_window_loops"}
    assert re.fullmatch(rf"{len(prepared)} loops are ready after \S+ s\.\n", done.stderr)
    assert invoke("warmup", "-q").stderr == ""


@pytest.fixture
def few_loops(monkeypatch, tmp_path):
    """An empty cache, and two loops that `warmup` compiles."""
    from cnnfilter.jit import loop as loops

    def first(values):
        values[0] += 1

    def second(values):
        values[0] += 2

    made = [loops.loop("void(i4[::1])")(function) for function in (first, second)]
    del loops._loops[-2:]
    monkeypatch.setattr(loops, "every_loop", lambda: iter([(each, ("i4",)) for each in made]))
    monkeypatch.setattr(loops, "warn_of_cache", loops.warn_of_cache)
    monkeypatch.setenv("CNNFILTER_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "loops"


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled")
def test_warmup_removes_all_other_entries_if_asked(few_loops):
    assert invoke("warmup", "-q").exit_code == 0
    kept = sorted(os.listdir(few_loops))
    assert len(kept) == 2
    (few_loops / ("0" * 40)).write_bytes(b"of another version")
    assert "removed" not in invoke("warmup").stderr
    done = invoke("warmup", "--clean")
    assert re.fullmatch(r"2 loops are ready after \S+ s\.\n1 others were removed\.\n", done.stderr)
    assert sorted(os.listdir(few_loops)) == kept


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled")
def test_warmup_refuses_a_cache_that_cannot_be_used(few_loops):
    few_loops.mkdir(parents=True)
    few_loops.chmod(0o777)
    done = invoke("warmup")
    assert done.exit_code == 1
    assert done.stderr == (
        f"Error: {few_loops}: compiled loops cannot be kept there (others may write it); "
        "CNNFILTER_CACHE_DIR names another folder\n"
    )


def test_several_processes_warm_up_from_both_ends(monkeypatch):
    from cnnfilter.cli.commands import warmup
    from cnnfilter.jit import loop as loops

    class Loop:
        name = "loop"

        def __init__(self, number):
            self.number = number

        def prepare(self, dtypes):
            prepared.append(self.number)

    prepared = []
    monkeypatch.setattr(loops, "entry_keys", lambda: {(Loop(number), ()): str(number) for number in range(7)})
    monkeypatch.setattr(loops, "has_entry", lambda key: key == "3")
    monkeypatch.setattr(loops, "warn_of_cache", loops.warn_of_cache)
    for number in ("0", "1"):
        monkeypatch.setattr(sys, "argv", ["-c", number, "2"])
        warmup.help_from_the_end()
    assert prepared == [6, 4, 2, 0, 5, 1]


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled")
def test_a_cache_that_cannot_be_used_is_one_warning(monkeypatch, tmp_path):
    (tmp_path / "loops").mkdir()
    (tmp_path / "loops").chmod(0o777)
    monkeypatch.setenv("CNNFILTER_CACHE_DIR", str(tmp_path))
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    for name in ("a.npy", "b.npy"):
        write_image(name, pixels)
    done = run("convolve", "a.npy", "b.npy", "-k", "sobel-h", "-o", "out/")
    assert done.stderr.decode() == (
        f"Warning: {tmp_path / 'loops'}: compiled loops cannot be kept there (others may write it), so each run "
        "compiles them anew; CNNFILTER_CACHE_DIR names another folder\n"
    )
    assert run("convolve", "a.npy", "-k", "sobel-h", "-o", "c.npy", "-q").stderr == b""


def test_the_image_class_is_the_one_of_the_api():
    assert cnnfilter.Image is Image
