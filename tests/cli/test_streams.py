"""Several pictures one after another on stdin, and matrices as text, through the commands."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner

import cnnfilter
from cnnfilter.cli import main
from cnnfilter.images.files import encode_image, read_image, write_image
from cnnfilter.images.streams.pictures import PictureStream

PYTHON = [sys.executable, "-m", "cnnfilter"]
COPY = ["convolve", "-k", "identity"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(cnnfilter.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)


def run(*args, input=None, code=0):
    done = CliRunner().invoke(main, args, input=input)
    assert done.exit_code == code, done.output
    return done


def values(seed, height=6, width=8, channels=3, dtype=np.uint8):
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top + 1, (height, width, channels), dtype)


def pooled(pixels):
    """Return the largest value of each window of 2x2."""
    height, width, channels = pixels.shape
    return pixels.reshape(height // 2, 2, width // 2, 2, channels).max((1, 3))


def pictures_in(data: bytes):
    """Return the pixels and formats of the pictures in a stream, read by Pillow or numpy where it is one."""
    found, stream = [], io.BytesIO(data)
    reader = PictureStream(stream.read)
    found.append(read_image(reader.take()))
    while reader.has_more():
        found.append(read_image(reader.take_following()))
    return [image.format for image in found], [image.pixels for image in found]


COMMANDS = {
    "convolve": [*COPY],
    "pool": ["pool", "--size", "1"],
    "apply": ["apply", "conv identity"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_picture_on_stdin_leaves_in_its_order(command):
    sent = [values(seed, 4 + 2 * seed) for seed in range(5)]
    stream = b"".join(encode_image(pixels, format) for pixels, format in zip(sent, ["png", "bmp"] * 3, strict=False))
    formats, found = pictures_in(run(*COMMANDS[command], input=stream).stdout_bytes)
    assert formats == ["png"] * 5
    for after, before in zip(found, sent, strict=True):
        np.testing.assert_array_equal(after, before)


def test_a_stream_of_pnm_stays_one():
    sent = [values(1), values(2, 4, 4), values(3, 8, 2, 1), values(4, 2, 2, 1, np.uint16), values(5, 4, 4, 4)]
    out = run("pool", input=b"".join(encode_image(pixels, "ppm") for pixels in sent)).stdout_bytes
    assert out == b"".join(encode_image(pooled(pixels), "ppm") for pixels in sent)
    with PIL.Image.open(io.BytesIO(out)) as first:  # another reader
        np.testing.assert_array_equal(np.asarray(first), pooled(sent[0]))


def test_a_single_pnm_becomes_png_and_arrays_stay_arrays():
    assert run("pool", input=encode_image(values(1), "ppm")).stdout_bytes[:4] == b"\x89PNG"
    arrays = [values(seed).astype(np.float32) - 100 for seed in range(3)]
    out = io.BytesIO(run(*COPY, input=b"".join(encode_image(array, "npy") for array in arrays)).stdout_bytes)
    for array in arrays:
        np.testing.assert_array_equal(np.load(out), array)
    assert not out.read()


def test_pictures_of_several_formats_are_written_by_their_index():
    jpeg, png = io.BytesIO(), encode_image(values(1, channels=1), "png")
    PIL.Image.fromarray(values(2)).save(jpeg, "jpeg")
    deep = encode_image(values(3, channels=1, dtype=np.uint16), "ppm")
    run(*COPY, "-f", "npy", "-o", "o/{index}.npy", input=jpeg.getvalue() + png + deep)
    assert sorted(os.listdir("o")) == ["1.npy", "2.npy", "3.npy"]
    for number, data in enumerate([jpeg.getvalue(), png, deep], 1):
        np.testing.assert_array_equal(np.load(f"o/{number}.npy").squeeze(), read_image(data).pixels.squeeze())


def test_the_name_of_a_result_is_stdin_for_every_picture():
    run(*COPY, "-o", "{stem}-{index}.png", input=TWO)
    assert sorted(os.listdir()) == ["stdin-1.png", "stdin-2.png"]


def test_a_heat_map_of_a_matrix_is_a_picture():
    Path("m.txt").write_text("0 9\n" * 8)
    run("classify", "m.txt", "--heatmap", "{stem}-map.{ext}")
    assert read_image("m-map.png").mode == "RGB"


def test_a_stream_among_files_counts_on():
    write_image("a.png", values(1))
    write_image("z.png", values(2))
    stream = encode_image(values(3), "png") + encode_image(values(4), "png")
    run(*COPY, "a.png", "-", "z.png", "-o", "o/{index}.png", input=stream)
    assert sorted(os.listdir("o")) == ["1.png", "2.png", "3.png", "4.png"]
    for number, seed in enumerate([1, 3, 4, 2], 1):
        np.testing.assert_array_equal(read_image(f"o/{number}.png").pixels, values(seed))


def test_a_named_pipe_may_hold_several_pictures():
    os.mkfifo("pipe")
    stream = encode_image(values(1), "ppm") + encode_image(values(2), "ppm")
    writer = threading.Thread(target=Path("pipe").write_bytes, args=(stream,))
    writer.start()
    out = run("pool", "pipe").stdout_bytes
    writer.join()
    assert out == encode_image(pooled(values(1)), "ppm") + encode_image(pooled(values(2)), "ppm")


TWO = encode_image(values(1), "png") + encode_image(values(2), "png")


@pytest.mark.parametrize("output", ["out.png", "out/", "{stem}.{ext}"])
def test_one_name_for_several_pictures_is_refused_before_any_is_written(output):
    done = run(*COPY, "-o", output, input=TWO, code=2)
    assert "'stdin' holds several pictures, and all of them would be written to" in done.stderr
    assert "'out/{index}.{ext}' keeps them apart" in done.stderr
    assert os.listdir() == []


def test_one_name_is_enough_for_one_picture_and_for_a_device():
    run(*COPY, "-o", "out.png", input=encode_image(values(1), "png"))
    assert os.listdir() == ["out.png"]
    run(*COPY, "-f", "png", "-o", os.devnull, input=TWO)


def test_files_of_later_pictures_that_exist_are_kept():
    os.mkdir("o")
    Path("o/2.png").write_bytes(b"mine")
    stream = TWO + encode_image(values(3), "png")
    done = run(*COPY, "-o", "o/{index}.png", input=stream, code=1)
    assert done.stderr.startswith("Error: stdin (picture 2): o/2.png: exists already; --force replaces it")
    assert Path("o/2.png").read_bytes() == b"mine"
    assert sorted(os.listdir("o")) == ["1.png", "2.png", "3.png"]
    run(*COPY, "-o", "o/{index}.png", "--skip-existing", input=stream)
    assert Path("o/2.png").read_bytes() == b"mine"
    run(*COPY, "-o", "o/{index}.png", "--force", input=stream)
    np.testing.assert_array_equal(read_image("o/2.png").pixels, values(2))


def test_a_damaged_picture_does_not_stop_the_others():
    png = encode_image(values(1), "png")
    done = run(*COPY, input=png + png[:60] + png, code=1)
    assert done.stderr == "Error: stdin (picture 2): the file is cut off\n"
    assert len(pictures_in(done.stdout_bytes)[0]) == 2


def test_bytes_after_the_last_picture_are_an_error_and_padding_is_none():
    png = encode_image(values(1), "png")
    done = run(*COPY, input=png + b"hello", code=1)
    assert done.stderr.startswith("Error: stdin: after picture 1 come bytes that are no picture ('hello')")
    assert done.stdout_bytes == run(*COPY, input=png).stdout_bytes
    assert run(*COPY, input=png + bytes(512) + b"\n").stderr == ""


def test_reports_name_each_picture():
    done = run(*COPY, "-o", "{index}.png", "--json", input=TWO)
    *reports, summary = map(json.loads, done.stdout.splitlines())
    assert [(report["input"], report["output"]) for report in reports] == [("-", "1.png"), ("-#2", "2.png")]
    assert (summary["done"], summary["left"]) == (2, 0)
    assert run(*COPY, "--dry-run", input=TWO).stdout == "- -> stdout\n-#2 -> stdout\n"


def digits(count):
    """A stream of grey pictures that the model `digits` takes."""
    return b"".join(encode_image(values(seed, 8, 8, 1), "png") for seed in range(count))


def test_classify_prints_a_line_for_each_picture_and_features_a_row():
    alone = run("classify", "-m", "digits", input=digits(1)).stdout.splitlines()
    assert len(alone) == 5
    lines = run("classify", "-m", "digits", input=digits(3)).stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["-", "-#2", "-#3"]
    assert lines[0].split(": ")[1].split()[0] == alone[0].split()[1]
    rows = run("features", "-m", "digits", "-o", "-", "-f", "csv", input=digits(3)).stdout.splitlines()
    assert [row.split(",")[0] for row in rows] == ["-", "-#2", "-#3"]
    assert len(set(rows)) == 3


@pytest.mark.parametrize("format", ["png", "ppm"])
def test_a_picture_leaves_before_the_next_one_comes(format):
    """The writer sends a picture only when the result of the one before has come."""
    command = [*PYTHON, *COPY, "-f", format]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        came = PictureStream(lambda size: os.read(process.stdout.fileno(), size))
        for seed in range(4):
            process.stdin.write(encode_image(values(seed), format))
            data = came.take() if seed == 0 else came.has_more() and came.take_following()
            np.testing.assert_array_equal(read_image(data).pixels, values(seed))
        process.stdin.close()
        assert not came.has_more()
        watchdog.cancel()
    assert process.returncode == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory is read from /proc")
def test_memory_does_not_hold_a_long_stream():
    """Frames of 3 MB, in a process whose memory would not hold a third of them."""
    frame = encode_image(np.zeros((1000, 1000, 3), np.uint8), "ppm")
    script = (
        "import sys\n"
        "from cnnfilter.cli import main\n"
        "try:\n"
        f"    main({['pool', '-j', '2']!r}, prog_name='cnnfilter')\n"
        "finally:\n"
        "    print(*[line for line in open('/proc/self/status') if line.startswith('VmHWM')], file=sys.stderr)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )

    def send():
        for _ in range(200):
            process.stdin.write(frame)
        process.stdin.close()

    sender = threading.Thread(target=send)
    sender.start()
    got = 0
    while piece := process.stdout.read(1 << 20):
        got += len(piece)
    sender.join()
    assert process.wait() == 0
    assert got == 200 * len(encode_image(np.zeros((500, 500, 3), np.uint8), "ppm"))
    assert int(process.stderr.read().split()[-2]) < 300_000  # KiB, and the frames have 600 MB
    process.stdout.close()
    process.stderr.close()


# --- matrices as text


@pytest.fixture
def matrix():
    Path("m.txt").write_text("1 1 2 4\n5 6 7 8\n3 2 1 0\n1 2 3 4\n")
    return "m.txt"


def test_a_matrix_goes_in_and_comes_out_as_text(matrix):
    assert run("pool", matrix).stdout == "6 8\n3 4\n"
    assert run("pool", input=Path(matrix).read_bytes()).stdout == "6 8\n3 4\n"
    assert run("pool", matrix, "-f", "csv").stdout == "6,8\n3,4\n"
    assert run("pool", matrix, "--op", "avg").stdout == "3.25 5.25\n   2    2\n"
    run("pool", matrix, "-o", "out.csv")
    assert Path("out.csv").read_text() == "6,8\n3,4\n"
    run("pool", matrix, "-o", "out/")
    assert Path("out/m.txt").read_text() == "6 8\n3 4\n"


def test_results_as_text_keep_their_signs(matrix):
    assert run("convolve", matrix, "-k", "1 0 -1;").stdout.splitlines()[0].split() == ["0", "-1", "-3", "-2"]
    assert run("apply", "conv sobel-h | relu | maxpool 2", matrix).stdout == "19 19\n 0 14\n"
    write_image("grey.png", np.array([[0, 200], [0, 0]], np.uint8))
    assert run("convolve", "grey.png", "-k", "1 0 -1;", "-f", "txt").stdout == "-200 -200\n   0    0\n"


def test_matrices_one_after_another_are_separated_by_a_blank_line():
    assert run("pool", input=b"1 2\n3 4\n\n5 6\n7 8\n").stdout == "4\n\n8\n"
    grey = b"".join(encode_image(np.full((2, 2), value, np.uint8), "png") for value in (1, 2, 3))
    assert run("pool", "-f", "csv", input=grey).stdout == "1\n\n2\n\n3\n"


def test_colours_are_not_written_as_a_matrix(matrix):
    write_image("colour.png", values(1))
    done = run("pool", "colour.png", "-f", "txt", code=1)
    assert done.stderr == (
        "Error: stdout: txt holds one channel, and there are 3; npy holds them all, "
        "and the layer gray makes one of three\n"
    )
    assert run("apply", "gray | globalpool max", "colour.png", "-f", "txt").stdout.count("\n") == 1


def test_an_error_names_file_and_line():
    Path("ragged.csv").write_text("1,2\n3\n")
    done = run("pool", "ragged.csv", code=1)
    assert done.stderr == "Error: ragged.csv: line 2 has 1 number, and line 1 has 2: every row needs as many\n"


def test_texts_beside_pictures_are_left_out_unless_they_are_asked_for(matrix):
    os.mkdir("in")
    write_image("in/1.png", values(1))
    Path("in/1.txt").write_text("0 0.5 0.5 0.1 0.2\n")  # the boxes of a data set
    Path("in/numbers").write_text("1 2 3\n")
    assert run("pool", "-r", "in", "--dry-run", "-o", "o/").stdout == f"{'in/1.png'} -> o/1.png\n"
    assert run("pool", "-r", "in", "--include", "*.txt", "--dry-run", "-o", "o/").stdout == "in/1.txt -> o/1.txt\n"


def test_a_terminal_shows_text_when_it_is_asked_for(matrix):
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [*PYTHON, "pool", matrix, "-f", "txt"])
    shown = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.waitpid(process, 0)
    assert shown.endswith(b"6 8\r\n3 4\r\n")
    assert os.listdir() == ["m.txt"]
