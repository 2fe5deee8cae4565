"""``cnnfilter kernels``: list, show and fit."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from cnnfilter.cli import main
from cnnfilter.cli.commands.kernels import command
from cnnfilter.cli.reports.kernel_drawing import draw_blocks, draw_picture, drawing_step, number_texts, wants_colour
from cnnfilter.images.files import read_image, write_image
from cnnfilter.kernels.catalogue import ENTRIES, FAMILIES
from cnnfilter.kernels.lookup import find_kernel, find_kernels


def run(*args: str, code: int = 0, **how):
    result = CliRunner().invoke(main, ["kernels", *args], **how)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def same(picture: np.ndarray, weights: np.ndarray) -> np.ndarray:
    height, width = weights.shape
    pad = ((height - 1) // 2, height // 2), ((width - 1) // 2, width // 2), (0, 0)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(picture, pad, mode="edge"), weights.shape, axis=(0, 1))
    return np.einsum("...ij,ij->...", windows.astype(float), weights)


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """A folder with photo.png, and filtered.png made from it by sharpening."""
    monkeypatch.chdir(tmp_path)
    photo = rng.integers(60, 190, (40, 50, 3), dtype=np.uint8)
    write_image("photo.png", photo)
    write_image("filtered.png", same(photo, find_kernel("sharpen").weights).clip(0, 255).astype(np.uint8))
    return tmp_path


# ---------------------------------------------------------------- list


def test_list_has_a_line_on_every_name_in_its_family():
    lines = run("list").stdout.splitlines()
    family = None
    found = []
    for line in lines:
        if line in FAMILIES.values():
            family = line
        elif line.startswith("  "):
            usage, purpose = line.split(maxsplit=1)
            entry = ENTRIES[re.split(r"[:\[]", usage)[0]]
            assert (entry.usage, entry.purpose, FAMILIES[entry.family]) == (usage, purpose, family)
            found.append(entry.name)
    assert sorted(found) == sorted(ENTRIES)


def test_list_is_aligned():
    lines = [line for line in run("list").stdout.splitlines() if line.startswith("  ")]
    assert len({re.search(r"(?<=\S)  +(?=\S)", line[2:]).end() for line in lines}) == 1


def test_a_bare_kernels_lists():
    assert run().stdout == run("list").stdout


def test_list_as_json():
    records = json.loads(run("list", "--json").stdout)
    assert [record["name"] for record in records] == list(ENTRIES)
    gaussian = next(record for record in records if record["name"] == "gaussian")
    assert gaussian["parameters"][0] == {
        "name": "sigma",
        "default": 1.0,
        "least": 0.01,
        "most": 1000,
        "whole": False,
    }
    kirsch = next(record for record in records if record["name"] == "kirsch")
    assert kirsch["parameters"][0]["choices"] == ["n", "ne", "e", "se", "s", "sw", "w", "nw"]
    assert len(kirsch["members"]) == 8


@pytest.mark.parametrize(
    "args",
    [
        ["kernels"],
        ["kernels", "list", "--json"],
        ["kernels", "show"],
        ["kernels", "fit", "--help"],
        ["kernels", "x"],
    ],
)
def test_list_help_and_usage_errors_need_neither_numpy_nor_numba(args):
    code = (
        "import sys\nfrom cnnfilter.cli import main\n"
        f"try:\n    main({args!r})\nexcept SystemExit:\n    pass\n"
        "print(sorted({'numpy', 'numba', 'PIL'} & set(sys.modules)), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines()[-1] == "[]"


# ---------------------------------------------------------------- show


@pytest.mark.parametrize("numbers", ["-1 0 1", "1 2 1", "0 -1 0, -1 5 -1, 0 -1 0", "1/9 .5"])
def test_a_kernel_of_numbers_without_quotes_is_refused_with_them(numbers):
    told = run("show", *numbers.split(), code=2).stderr
    assert f"A kernel typed as numbers is quoted: cnnfilter kernels show '{numbers}'." in told
    assert run("show", numbers).stdout


def test_show_says_everything_about_a_kernel():
    text = run("show", "sobel-h").stdout
    assert text == (
        "sobel-h: horizontal edges\n"
        "\n"
        "  -1  -2  -1    -▒ -█ -▒\n"
        "   0   0   0     ·  ·  ·\n"
        "   1   2   1    +▒ +█ +▒\n"
        "\n"
        "  size        3x3 (height x width)\n"
        "  sum         0: an even area becomes 0, what differs remains\n"
        "  symmetry    the same under left-right; negated under top-bottom, half turn\n"
        "  rank        1: separable, a column times a row\n"
        "    column    -1  0  1\n"
        "    row       1  2  1\n"
        "  impulse     one bright pixel becomes the kernel turned by 180 degrees:\n"
        "               1   2   1\n"
        "               0   0   0\n"
        "              -1  -2  -1\n"
        "  ramp down   where it rises by 1 a pixel, v becomes 8\n"
        "  ramp right  where it rises by 1 a pixel, v becomes 0\n"
        "  source      Sobel & Feldman (1968), An isotropic 3x3 image gradient operator\n"
    )


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ("blur", "  2  4  2  / 16    "),
        ("blur", "  sum         1: brightness is kept"),
        ("blur", "  impulse     one bright pixel becomes the kernel as drawn"),
        ("blur", "  ramp down   where it rises by 1 a pixel, v becomes v"),
        ("blur", "    column    1/16  2/16  1/16"),
        ("1 2 1", "  sum         4: brightness is multiplied by it (--normalize divides by it)"),
        ("1 2 1", "  ramp right  where it rises by 1 a pixel, v becomes 4 v"),
        ("emboss", "  ramp right  where it rises by 1 a pixel, v becomes v + 6"),
        ("1 0 0", "  ramp right  where it rises by 1 a pixel, v becomes v - 1"),
        ("laplacian", "  rank        2: a sum of 2 separable kernels"),
        ("gaussian:1,3", "  0.0751  0.1238  0.0751    +▒ +▓ +▒"),
        ("frei-chen-v", "  -1.414   0.000   1.414"),
        ("gabor:12,30", "  (one of every 2x2 weights is drawn)"),
        ("1 2; 3 5", "  symmetry    none"),
    ],
)
def test_show_has_the_line(spec, line):
    assert line in run("show", spec).stdout


@pytest.mark.parametrize("name", ENTRIES)
def test_every_name_can_be_shown(name):
    assert f"{name}" in run("show", name).stdout
    json.loads(run("show", name, "--json").stdout)


@pytest.mark.parametrize("spec", ["-1 0 1", "-1", "-.5 1", "[[1, 0]]", "0 0", "1e300", "1e-300", "1e300 -1e300"])
def test_numbers_can_be_shown_even_negative_ones(spec):
    assert "size" in run("show", spec).stdout
    assert "size" in run("show", "--", spec).stdout


def test_a_pair_is_shown_whole():
    text = run("show", "sobel").stdout
    assert text.startswith("sobel: 2 kernels, whose results are combined by magnitude\n\nsobel-h: ")
    assert "\n\nsobel-v: " in text


def test_a_file_with_an_offset_says_so(folder):
    (folder / "k.mat").write_text("3 1 2 128\n-1 0 1\n")
    assert "  offset      128 is added to every result\n" in run("show", "k.mat").stdout


def test_json_has_whole_numbers_where_there_are_some():
    [blur] = json.loads(run("show", "blur", "--json").stdout)["kernels"]
    assert blur["whole_numbers"] == {"numbers": [[1, 2, 1], [2, 4, 2], [1, 2, 1]], "divisor": 16}
    [gaussian] = json.loads(run("show", "gaussian", "--json").stdout)["kernels"]
    assert gaussian["whole_numbers"] is None


def test_what_fit_gives_as_json_is_a_kernel(folder):
    photo = read_image("photo.png").pixels
    write_image("after.png", np.floor(same(photo, find_kernel("box:3").weights) + 0.5).astype(np.uint8))
    text = run("fit", "photo.png", "after.png", "--json").stdout
    assert find_kernel(text) == find_kernel("box:3")


def test_show_as_json_has_every_digit():
    record = json.loads(run("show", "roberts", "--json").stdout)
    assert (record["name"], record["combine"], len(record["kernels"])) == ("roberts", "magnitude", 2)
    record = json.loads(run("show", "1/3 0; 0 2", "--json").stdout)
    assert record["combine"] is None
    [kernel] = record["kernels"]
    assert kernel["weights"] == [[1 / 3, 0], [0, 2]]
    assert kernel["impulse"] == [[2, 0], [0, 1 / 3]]
    assert (kernel["sum"], kernel["rank"], kernel["offset"]) == (7 / 3, 2, 0)
    assert (kernel["ramp_down"], kernel["ramp_right"]) == (2, 2)
    composed = sum(np.outer(term["column"], term["row"]) for term in kernel["factors"])
    np.testing.assert_allclose(composed, kernel["weights"], atol=1e-15)


def test_what_impulse_and_ramps_say_is_true(rng):
    weights = rng.integers(-5, 6, (3, 5)).astype(float)
    [kernel] = json.loads(run("show", json.dumps(weights.tolist()), "--json").stdout)["kernels"]
    spot = np.zeros((3, 5, 1))
    spot[1, 2] = 1
    np.testing.assert_allclose(same(spot, weights)[:, :, 0], kernel["impulse"])
    y, x = np.mgrid[-3:4, -4:5]
    assert same(y[:, :, None], weights)[3, 4, 0] == pytest.approx(kernel["ramp_down"])
    assert same(x[:, :, None], weights)[3, 4, 0] == pytest.approx(kernel["ramp_right"])


@pytest.mark.parametrize("columns", ["20", "80", "200"])
def test_no_line_of_numbers_is_wider_than_the_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    for spec in ("gaussian:3", "motion:40,10", "sobel-h"):
        drawing = run("show", spec).stdout.split("\n\n")[1]
        assert all(len(line) <= int(columns) for line in drawing.splitlines() if not line.startswith("  ("))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_encoding_of_stdout_can_show_a_kernel(encoding):
    ended = subprocess.run(
        [sys.executable, "-m", "cnnfilter", "kernels", "show", "sobel-h"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=True,
    )
    text = ended.stdout.decode(encoding)
    assert ("█" in text) == (encoding == "utf-8")
    assert "-1  -2  -1" in text


# ---------------------------------------------------------------- drawing


def test_blocks_show_sign_and_size():
    weights = np.array([[-1.0, 0, 0.5, 1], [0.001, -0.25, 0.26, 0.75]])
    assert draw_blocks(weights, columns=80, colour=False) == ["-█  · +▒ +█", " · -░ +▒ +▓"]
    assert draw_blocks(weights, columns=80, colour=False, encoding="ascii") == ["-#  . +: +#", " . -. +: +*"]


def test_colours_go_from_blue_to_red():
    [line] = draw_blocks(np.array([[-1.0, 1e-3, 1]]), columns=80, colour=True)
    assert line == "\x1b[48;5;21m  \x1b[48;5;231m  \x1b[48;5;196m  \x1b[0m"


def test_a_wide_kernel_is_drawn_with_its_middle():
    weights = np.zeros((101, 101))
    weights[50, 50] = 1
    step = drawing_step(weights.shape, 60)
    lines = draw_blocks(weights, columns=60, colour=False)
    assert step == 6
    assert max(map(len, lines)) <= 60
    assert sum(line.count("█") for line in lines) == 1


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_colour(_Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(_Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(_Terminal())


def test_numbers_are_fractions_where_the_divisor_is_small():
    assert number_texts(np.array([[1 / 9, -2 / 9, 0]])) == [["1/9", "-2/9", "0"]]
    assert number_texts(np.array([[3.0, -1]])) == [["3", "-1"]]
    assert number_texts(np.array([[0.1234567, np.pi]])) == [["0.1235", "3.142"]]


def test_a_picture_of_a_kernel_is_red_white_and_blue():
    picture = draw_picture(find_kernels("1 0 -1"))
    height, width = picture.shape[:2]
    assert picture.dtype == np.uint8
    places = [picture[height // 4, int(width * share)].astype(int) for share in (0.15, 0.4, 0.9)]
    assert places[0][0] > places[0][2] + 50
    assert (places[1] == 255).all()
    assert places[2][2] > places[2][0] + 50


def test_small_kernels_have_their_numbers_in_the_picture():
    plain, one = draw_picture(find_kernels("1")), draw_picture(find_kernels("8"))
    assert (plain != one).any()
    assert draw_picture(find_kernels("gaussian:50")).shape == (425, 425, 3)


def test_several_kernels_stand_beside_each_other():
    one, pair, eight = (draw_picture(find_kernels(name)).shape for name in ("sobel-h", "sobel", "kirsch"))
    assert pair[1] == 2 * one[1]
    assert (eight[0], eight[1]) == (2 * pair[0], 2 * pair[1])


def test_png_is_written_beside_the_text(folder):
    text = run("show", "sobel-h", "--png", "k.png").stdout
    assert text == run("show", "sobel-h").stdout
    np.testing.assert_array_equal(read_image("k.png").pixels, draw_picture(find_kernels("sobel-h")))


def test_png_to_stdout_is_nothing_but_the_picture():
    result = run("show", "sobel-h", "--png", "-")
    assert result.stdout_bytes.endswith(b"IEND\xaeB`\x82")
    np.testing.assert_array_equal(read_image(result.stdout_bytes).pixels, draw_picture(find_kernels("sobel-h")))


def test_png_replaces_nothing_unless_forced(folder):
    (folder / "k.png").write_text("mine")
    result = run("show", "blur", "--png", "k.png", code=1)
    assert result.stderr == "Error: k.png: exists already; --force replaces it\n"
    assert (folder / "k.png").read_text() == "mine"
    run("show", "blur", "--png", "k.png", "--force")
    assert read_image("k.png").format == "png"


# ---------------------------------------------------------------- fit


def test_fit_prints_the_kernel_and_nothing_else_on_stdout(folder):
    result = run("fit", "photo.png", "filtered.png", "--size", "3x3")
    assert result.stdout == "0 -1 0; -1 5 -1; 0 -1 0\n"
    assert "residual: " in result.stderr
    assert "explains 100 % of AFTER" in result.stderr
    assert "at the ends of the range left out" in result.stderr
    assert "this is sharpen\n" in result.stderr


def test_what_fit_prints_is_a_kernel(folder):
    photo = read_image("photo.png").pixels
    for spec in ("gaussian:0.7", "box:3", "1 2 3; 4 5 6; 7 8 10"):
        weights = find_kernel(spec).normalized().weights
        weights = weights[1:-1, 1:-1] if weights.shape == (7, 7) else weights
        write_image("after.png", np.floor(same(photo, weights) + 0.5).astype(np.uint8))
        text = run("fit", "photo.png", "after.png", "-q", "-s", f"{weights.shape[0]}").stdout
        np.testing.assert_allclose(find_kernel(text).weights, weights, atol=2e-3)


def test_exact_keeps_every_digit(folder):
    rough, exact = (run("fit", "photo.png", "filtered.png", *more, "-q").stdout for more in ([], ["--exact"]))
    assert rough == "0 -1 0; -1 5 -1; 0 -1 0\n"
    assert exact != rough
    np.testing.assert_allclose(find_kernel(exact).weights, find_kernel(rough).weights, atol=1e-9)


@pytest.mark.parametrize("suffix", ["txt", "csv", "json", "npy", "mat"])
def test_fit_writes_files_that_are_kernels(folder, suffix):
    result = run("fit", "photo.png", "filtered.png", "-o", f"k.{suffix}", "-q")
    assert result.stdout == result.stderr == ""
    assert find_kernel(f"@k.{suffix}") == find_kernel("sharpen")
    result = run("fit", "photo.png", "filtered.png", "-o", f"k.{suffix}", code=1)
    assert result.stderr == f"Error: k.{suffix}: exists already; --force replaces it\n"
    run("fit", "photo.png", "filtered.png", "-o", f"k.{suffix}", "--force")


def test_a_bias_goes_into_the_file(folder):
    photo = read_image("photo.png").pixels
    write_image("after.png", (same(photo, find_kernel("1 0 -1").weights) / 2 + 128.5).astype(np.uint8))
    result = run("fit", "photo.png", "after.png", "-s", "1x3", "--bias", "-o", "k.mat")
    assert "bias: 128" in result.stderr
    kernel = find_kernel("@k.mat")
    assert kernel.offset == pytest.approx(128.25, abs=0.3)
    np.testing.assert_array_equal(kernel.weights, [[0.5, 0, -0.5]])
    result = run("fit", "photo.png", "after.png", "-s", "1x3", "--bias", "-o", "k.csv", code=2)
    assert ".csv files cannot hold the offset" in result.stderr
    assert not (folder / "k.csv").exists()


def test_fit_as_json(folder):
    result = run("fit", "photo.png", "filtered.png", "--json")
    record = json.loads(result.stdout)
    assert record["weights"] == [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
    assert record["known_as"] == "sharpen"
    assert find_kernel(result.stdout) == find_kernel("sharpen")
    assert record["residual"]["rms"] < 1e-6
    assert np.shape(record["residual"]["error"]) == (3, 3)
    assert result.stderr == ""


def test_two_pictures_from_stdin_are_refused(folder):
    result = run("fit", "-", "filtered.png", input=(folder / "photo.png").read_bytes() * 2, code=1)
    assert result.stderr == "Error: -: another picture follows the first: send one by itself\n"


def test_one_picture_may_come_from_stdin(folder):
    result = run("fit", "-", "filtered.png", "-q", input=(folder / "photo.png").read_bytes())
    assert result.stdout == "0 -1 0; -1 5 -1; 0 -1 0\n"


def test_alpha_takes_no_part(folder, rng):
    photo, after = (read_image(name).pixels for name in ("photo.png", "filtered.png"))
    alpha = rng.integers(0, 256, (40, 50, 1), dtype=np.uint8)
    write_image("photo.png", np.concatenate([photo, alpha], axis=2))
    write_image("filtered.png", np.concatenate([after, alpha[::-1]], axis=2))
    assert run("fit", "photo.png", "filtered.png", "-q").stdout == "0 -1 0; -1 5 -1; 0 -1 0\n"


def test_pictures_that_no_kernel_explains_are_a_poor_fit(folder):
    photo = read_image("photo.png").pixels
    write_image("after.png", np.abs(same(photo, find_kernel("sobel-h").weights)).clip(0, 255).astype(np.uint8))
    assert "that is a poor fit" in run("fit", "photo.png", "after.png").stderr
    assert "that is a poor fit" not in run("fit", "photo.png", "filtered.png").stderr


def test_different_depths_are_said(folder):
    write_image("deep.png", read_image("photo.png").pixels.astype(np.uint16) * 257)
    result = run("fit", "photo.png", "deep.png", "-s", "1")
    assert result.stdout == "257\n"
    assert "BEFORE is uint8 and AFTER uint16" in result.stderr


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["sobel-h"], 2, "No such command 'sobel-h'. To see a kernel: cnnfilter kernels show sobel-h"),
        (["show"], 2, "Missing argument 'KERNEL'"),
        (
            ["show", "sobl-h"],
            2,
            "Invalid value for 'KERNEL': no kernel is called 'sobl-h': did you mean sobel-h",
        ),
        (["show", "1 2; 3"], 2, "row 2 has 1 number (3), row 1 has 2"),
        (["show", "blur", "--bogus"], 2, "No such option"),
        (["show", "blur", "--png", "k.xyz"], 2, "Invalid value for '--png'"),
        (["show", "blur", "--png", "no/k.png"], 1, "Error: no/k.png: no such file or directory"),
        (["fit", "photo.png"], 2, "Missing argument 'AFTER'"),
        (["fit", "photo.png", "filtered.png", "-s", "0"], 2, "'0' is not a size such as 5, 5x5 or 3x7"),
        (["fit", "photo.png", "filtered.png", "-s", "3x0"], 2, "'3x0' is not a size"),
        (["fit", "photo.png", "filtered.png", "-s", "3x3x3"], 2, "'3x3x3' is not a size"),
        (["fit", "photo.png", "filtered.png", "-s", "99"], 1, "a kernel of 99x99 has 9801 weights"),
        (
            ["fit", "photo.png", "filtered.png", "-s", "1x60"],
            1,
            "a kernel of 1x60 does not fit into a picture of 40x50",
        ),
        (
            ["fit", "photo.png", "filtered.png", "-o", "k.png"],
            2,
            "kernels are written as .txt, .csv, .json, .npy and",
        ),
        (
            ["fit", "photo.png", "filtered.png", "-o", "no/k.txt"],
            1,
            "Error: no/k.txt: no such file or directory",
        ),
        (["fit", "photo.png", "none.png"], 1, "Error: none.png: "),
        (["fit", "photo.png", "text.png"], 1, "Error: text.png: "),
        (["fit", "-", "-"], 2, "'-' (stdin) can be read only once"),
    ],
)
def test_refuses_in_one_line(folder, args, code, says):
    (folder / "text.png").write_text("not a picture")
    before = sorted(os.listdir(folder))
    result = run(*args, code=code)
    assert says in result.stderr
    assert result.stdout == ""
    assert sorted(os.listdir(folder)) == before


# ---------------------------------------------------------------- help


@pytest.mark.parametrize("name", [None, *command.commands])
def test_the_examples_in_the_help_run(name, folder):
    write_image("photo.jpg", read_image("photo.png").pixels)
    photo = read_image("photo.jpg").pixels
    write_image("filtered.png", same(photo, find_kernel("sharpen").weights).clip(0, 255).astype(np.uint8))
    text = (command if name is None else command.commands[name]).help
    examples = [line.strip() for line in text.partition("Examples:")[2].splitlines() if line.strip()]
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert words[0] == "cnnfilter"
        if words[1] == "kernels":
            run(*words[2:])


def test_help_speaks_in_prose_first():
    for name in command.commands:
        text = run(name, "--help").stdout
        assert text.index("Usage:") < text.index("Examples:") < text.index("Options:")
