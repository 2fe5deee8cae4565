"""``cnnfilter classify`` and ``features`` as a shell sees them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner

import cnnfilter
from cnnfilter import load_model, read_image
from cnnfilter.cli import main
from cnnfilter.cli.commands.classify import HELP
from cnnfilter.cli.commands.features import HELP as FEATURES_HELP
from tests.networks.test_model_file import save, small_model

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("CNNFILTER_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        shutil.copy(SAMPLES / name, name)


def run(*arguments, input=None, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=input)
    assert result.exit_code == code, (result.exit_code, result.stderr, result.exception)
    return result


def classify(*arguments, **more):
    return run("classify", *arguments, **more)


# --- what is printed -----------------------------------------------------------------------------------


def test_one_input_gets_its_five_likeliest_labels():
    lines = classify("chelsea.png").stdout.splitlines()
    assert len(lines) == 5
    assert lines[0] == " 40.9%  tiger cat"
    assert [line[8:] for line in lines[1:3]] == ["Egyptian cat", "tabby"]


def test_several_inputs_get_a_line_each_in_their_order():
    assert classify("coffee.png", "chelsea.png").stdout.splitlines() == [
        "coffee.png: espresso 95.2%",
        "chelsea.png: tiger cat 40.9%",
    ]
    two = classify("coffee.png", "chelsea.png", "--top", 2).stdout.splitlines()
    assert two[1] == "chelsea.png: tiger cat 40.9%; Egyptian cat 34.0%"


def test_stdin_alone_and_among_files():
    data = Path("coffee.png").read_bytes()
    assert classify(input=data).stdout.splitlines()[0] == " 95.2%  espresso"
    assert classify("-", "chelsea.png", input=data).stdout.startswith("-: espresso")


def test_json_is_one_object_a_line():
    objects = [
        json.loads(line) for line in classify("coffee.png", "rocket.jpg", "--format", "json").stdout.splitlines()
    ]
    assert [entry["path"] for entry in objects] == ["coffee.png", "rocket.jpg"]
    assert {entry["model"] for entry in objects} == {"efficientnet-lite0"}
    best = objects[0]["top"][0]
    assert (best["label"], best["index"]) == ("espresso", 967)
    assert best["probability"] == pytest.approx(0.9515, abs=0.001)
    assert len(json.loads(classify("coffee.png", "--format", "json").stdout)["top"]) == 5


def test_json_as_in_the_other_commands_is_the_labels():
    by_format = classify("coffee.png", "rocket.jpg", "--format", "json").stdout
    result = classify("coffee.png", "rocket.jpg", "--json")
    assert (result.stdout, result.stderr) == (by_format, "")
    assert classify("coffee.png", "--json", "--format", "json", "--top", 2).stdout.count('"label"') == 2
    assert "contradict" in classify("coffee.png", "--json", "--format", "csv", code=2).stderr


def test_json_of_a_question_is_the_labels_too():
    pictures = ("coffee.png", "chelsea.png")
    result = classify(*pictures, "--json", "--is", "espresso", code=4)
    assert [json.loads(line)["path"] for line in result.stdout.splitlines()] == [*pictures]
    (chosen,) = classify(*pictures, "--json", "--not", "espresso").stdout.splitlines()
    assert json.loads(chosen)["top"][0]["label"] == "tiger cat"
    for more in (["--dry-run"], []):
        result = classify("coffee.png", "--json", "--sort-into", "sorted", *more)
        assert json.loads(result.stdout)["sorted_to"] == "sorted/espresso/coffee.png"
    assert os.path.exists("sorted/espresso/coffee.png")


def test_json_of_a_dry_run_is_the_plan():
    planned = {"input": "coffee.png", "status": "planned"}
    result = classify("coffee.png", "--json", "--dry-run")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [planned]


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [("a.gif", "frames", {"duration": 100}), ("a.webp", "frames", {}), ("a.tif", "pages", {})],
)
def test_that_only_the_first_frame_is_used_is_said(name, kind, options):
    frames = [PIL.Image.fromarray(np.full((32, 32, 3), 60 * number, np.uint8)) for number in (1, 2, 3)]
    frames[0].save(name, save_all=True, append_images=frames[1:], **options)
    result = classify(name, "-m", "digits")
    assert result.stderr == f"Warning: {name}: only the first of 3 {kind} is classified\n"
    first = json.loads(classify(name, "-m", "digits", "--json", "-q").stdout)["top"]
    frames[0].save("first.png")
    if name != "a.webp":  # which is lossy
        assert json.loads(classify("first.png", "-m", "digits", "--json").stdout)["top"] == first
    result = run("features", name, "-m", "digits", "-o", f"{name}.npy")
    assert result.stderr == f"Warning: {name}: only the first of 3 {kind} is used\n"


def test_csv_has_a_row_for_each_label():
    rows = list(csv.DictReader(io.StringIO(classify("coffee.png", "--format", "csv", "--top", 2).stdout)))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert (rows[0]["path"], rows[0]["label"], rows[0]["index"]) == ("coffee.png", "espresso", "967")
    assert float(rows[0]["probability"]) == pytest.approx(0.9515, abs=0.001)


def test_below_the_threshold_it_is_unknown():
    assert classify("chelsea.png", "--threshold", 0.5).stdout == " 40.9%  unknown\n"
    entry = json.loads(classify("chelsea.png", "--threshold", 0.5, "--format", "json").stdout)
    assert entry["top"] == [{"label": "unknown", "index": None, "probability": pytest.approx(0.409, abs=0.001)}]
    assert "tiger cat" in classify("chelsea.png", "--threshold", 0.4).stdout


def test_a_bad_file_does_not_stop_the_others():
    Path("bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    result = classify("bad.png", "coffee.png", "none.png", code=1)
    assert result.stdout == "coffee.png: espresso 95.2%\n"
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == ["bad.png", "none.png"]


def test_folders_are_read_with_r_only():
    os.mkdir("more")
    shutil.copy("coffee.png", "more/a.png")
    assert "is a folder" in classify("more", code=1).stderr
    assert classify("-r", "more", "chelsea.png").stdout.splitlines()[0] == "more/a.png: espresso 95.2%"


def test_a_name_of_control_characters_or_bytes_stays_itself_in_a_pipe():
    name = os.fsdecode(b"a\xff\n.png")
    shutil.copy("coffee.png", name)
    assert classify(name, "chelsea.png").stdout_bytes.startswith(b"a\xff\n.png: espresso")
    assert json.loads(classify(name, "--format", "json").stdout)["path"] == name


# --- questions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["chelsea.png", "--is", "tiger cat"], 0),
        (["chelsea.png", "--is", "TIGER CAT"], 0),
        (["chelsea.png", "--is", "*cat"], 0),
        (["chelsea.png", "--is", "espresso"], 4),
        (["chelsea.png", "--is", "espresso", "--is", "tiger cat"], 0),
        (["chelsea.png", "--is", "tabby"], 4),
        (["chelsea.png", "--is", "tabby", "--top", "3"], 0),
        (["chelsea.png", "--is", "unknown"], 4),
        (["chelsea.png", "--is", "unknown", "--threshold", "0.9"], 0),
        (["chelsea.png", "coffee.png", "--is", "*cat"], 4),
        (["none.png", "--is", "*cat"], 1),
    ],
)
def test_is_answers_by_exit_code(arguments, code):
    assert classify(*arguments, code=code).stdout == ""


def test_only_and_not_print_paths():
    photos = ["coffee.png", "chelsea.png", "rocket.jpg"]
    assert classify(*photos, "--only", "*cat", "--only", "missile").stdout == "chelsea.png\nrocket.jpg\n"
    assert classify(*photos, "--not", "*cat").stdout == "coffee.png\nrocket.jpg\n"
    assert classify(*photos, "--not", "*cat", "-0").stdout == "coffee.png\0rocket.jpg\0"
    assert classify("coffee.png", "--only", "*cat").stdout == ""


# --- sorting -------------------------------------------------------------------------------------------


def test_sort_into_copies_unless_told_otherwise():
    result = classify("coffee.png", "chelsea.png", "--sort-into", "sorted")
    assert result.stdout.splitlines() == [
        "coffee.png -> sorted/espresso/coffee.png",
        "chelsea.png -> sorted/tiger cat/chelsea.png",
    ]
    assert Path("sorted/espresso/coffee.png").read_bytes() == Path("coffee.png").read_bytes()
    classify("coffee.png", "--sort-into", "sorted", "--link", "--quiet")
    assert os.listdir("sorted/espresso") == ["coffee.png"]
    classify("rocket.jpg", "--sort-into", "sorted", "--move", "--threshold", 0.5)
    assert not Path("rocket.jpg").exists()
    assert Path("sorted/unknown/rocket.jpg").exists()


def test_a_dry_run_changes_no_file():
    result = classify("coffee.png", "--sort-into", "sorted", "--move", "--dry-run", "--quiet")
    assert result.stdout == "coffee.png -> sorted/espresso/coffee.png\n"
    assert not Path("sorted").exists()
    assert Path("coffee.png").exists()


def test_two_files_of_one_name_are_both_kept():
    os.mkdir("more")
    shutil.copy("coffee.png", "more/coffee.png")
    with open("more/coffee.png", "ab") as file:
        file.write(b"\0")  # the same picture, another file
    classify("coffee.png", "more/coffee.png", "--sort-into", "sorted")
    assert sorted(os.listdir("sorted/espresso")) == ["coffee-2.png", "coffee.png"]


def test_the_folder_of_the_results_is_not_read_again():
    classify("-r", ".", "--sort-into", "sorted")
    again = classify("-r", ".", "--sort-into", "sorted")
    assert len(again.stdout.splitlines()) == 3
    assert sum(len(files) for _, _, files in os.walk("sorted")) == 3


def test_a_file_that_cannot_be_sorted_is_reported_and_stays():
    Path("sorted").mkdir()
    Path("sorted/espresso").write_text("a file where the folder should be")
    result = classify("coffee.png", "chelsea.png", "--sort-into", "sorted", "--move", code=1)
    assert result.stderr.startswith("Error: ")
    assert Path("coffee.png").exists()
    assert Path("sorted/tiger cat/chelsea.png").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has none")
def test_a_full_disk_behind_stdout_is_reported():
    command = [sys.executable, "-m", "cnnfilter", "classify", "coffee.png"]
    environment = os.environ | {"PYTHONPATH": str(Path(cnnfilter.__file__).parents[1])}
    with open("/dev/full", "w") as full:
        told = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert (told.returncode, told.stderr) == (1, "Error: stdout: no space left on device\n")


# --- heat maps -----------------------------------------------------------------------------------------


def test_heatmaps_to_a_file_or_a_folder():
    assert classify("chelsea.png", "--heatmap", "why.png").stdout.startswith(" 40.9%  tiger cat")
    assert read_image("why.png").pixels.shape == read_image("chelsea.png").pixels.shape
    classify("chelsea.png", "rocket.jpg", "--heatmap", "maps/")
    assert sorted(os.listdir("maps")) == ["chelsea.png", "rocket.jpg"]


def test_a_heatmap_replaces_nothing_unless_forced():
    Path("why.png").write_text("mine")
    assert "--force" in classify("chelsea.png", "--heatmap", "why.png", code=1).stderr
    assert Path("why.png").read_text() == "mine"
    classify("chelsea.png", "--heatmap", "why.png", "--force")
    again = classify("chelsea.png", "--heatmap", "why.png", code=1).stderr
    assert again == "Error: why.png: exists already; --force replaces it\n"
    assert read_image("why.png").mode == "RGB"


# --- models --------------------------------------------------------------------------------------------


def test_a_line_break_in_a_path_tears_no_list():
    os.makedirs("odd")
    shutil.copy("coffee.png", "odd/a\nb.png")
    shutil.copy("coffee.png", "odd/c.png")
    said = "Warning: a path holds a line break, which is written as \\n; -0 writes paths as they are\n"
    done = classify("-r", "odd", "--not", "tench")
    assert (done.stdout, done.stderr) == ("odd/a\\nb.png\nodd/c.png\n", said)
    assert classify("-r", "odd", "--not", "tench", "-q").stderr == ""
    done = classify("-r", "odd", "--sort-into", "sorted", "--dry-run")
    assert (done.stdout.count("\n"), done.stderr) == (2, said)
    done = classify("-r", "odd", "--not", "tench", "-0")
    assert (done.stdout, done.stderr) == ("odd/a\nb.png\0odd/c.png\0", "")


def test_another_model_by_option_or_environment(rng, monkeypatch):
    path = str(save("pets.safetensors", small_model(rng)))
    by_option = classify("coffee.png", "-m", path, "--format", "json").stdout
    monkeypatch.setenv("CNNFILTER_MODEL", path)
    assert classify("coffee.png", "--format", "json").stdout == by_option
    monkeypatch.setenv("CNNFILTER_MODEL", "pest")
    assert "Invalid value for the variable CNNFILTER_MODEL: no model" in classify("coffee.png", code=2).stderr
    monkeypatch.setenv("CNNFILTER_MODEL", path)
    entry = json.loads(by_option)
    assert entry["model"] == "pets.safetensors"
    assert {label["label"] for label in entry["top"]} == {"cat", "dog", "eel"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "lite9", "coffee.png"], "Invalid value for '-m' / '--model': no model 'lite9'"),
        (["-m", "coffee.png", "coffee.png"], "is a picture; a model is a safetensors file"),
        (
            ["coffee.png", "--is", "dog"],
            "Invalid value for '--is': efficientnet-lite0 has no label 'dog'; did you mean",
        ),
        (["coffee.png", "--is", "tabby", "--only", "tabby"], "--is and --only cannot be asked together"),
        (["coffee.png", "--is", "tabby", "--format", "json"], "--format has no meaning beside --is"),
        (["coffee.png", "-0"], "-0 belongs to --files-from, --only, --not or --sort-into"),
        (["coffee.png", "--move"], "--move belongs to --sort-into"),
        (["coffee.png", "--threshold", "2"], "'--threshold'"),
        (["coffee.png", "--top", "0"], "'--top'"),
        (["coffee.png", "--heatmap", "-"], "'--heatmap'"),
        (["coffee.png", "--heatmap", "a.xcf"], "Invalid value for '--heatmap': no picture format has the suffix"),
        (["coffee.png", "--heatmap", "no/a.png"], "Invalid value for '--heatmap': there is no folder 'no'"),
        (["coffee.png", "--heatmap", "{foo}.png"], "Invalid value for '--heatmap': there is no {foo}"),
        (["coffee.png", "rocket.jpg", "--heatmap", "a.png"], "Invalid value for '--heatmap': 'coffee.png' and"),
        (["-", "--sort-into", "x"], "stdin has no name"),
    ],
)
def test_wrong_command_lines(arguments, message):
    assert message in classify(*arguments, input=b"", code=2).stderr


ODD_NAMES = ("new\nline.png", "a\rb.png", 'say "x", y.png')


def test_odd_names_stay_whole_in_csv():
    os.mkdir("in")
    for name in ODD_NAMES:
        shutil.copy("coffee.png", f"in/{name}")
    text = classify("-r", "in", "--format", "csv").stdout_bytes.decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert {len(row) for row in rows} == {5}
    assert {row[0] for row in rows[1:]} == {f"in/{name}" for name in ODD_NAMES}
    text = run("features", "-r", "in", "-o", "-", "--format", "csv").stdout_bytes.decode()
    assert {row[0] for row in csv.reader(io.StringIO(text, newline=""))} == {f"in/{name}" for name in ODD_NAMES}


@pytest.mark.parametrize("name", ODD_NAMES[:2])
def test_a_line_break_is_refused_where_paths_are_lines(name):
    shutil.copy("coffee.png", name)
    message = run("features", "rocket.jpg", name, "-o", "f.npy", code=1).stderr
    assert "a name with a line break has no place in f.paths.txt" in message
    assert message.startswith("Error: ")
    assert message.count("\n") == 1
    assert not os.path.exists("f.npy")
    run("features", "rocket.jpg", name, "-o", "f.npz")
    assert np.load("f.npz")["paths"].tolist() == ["rocket.jpg", name]


def test_labels_that_differ_in_forbidden_characters_get_folders_of_their_own(rng):
    model = small_model(rng, classes=("A/B", "A:B", "A?B"))
    path = save("m.safetensors", model)
    lines = classify("-m", path, "-r", ".", "--sort-into", "sorted", "--dry-run").stdout.splitlines()
    labels = {
        row["path"]: row["label"]
        for row in csv.DictReader(io.StringIO(classify("-m", path, "-r", ".", "--format", "csv").stdout))
    }
    folders = {"A/B": "A_B", "A:B": "A_B-2", "A?B": "A_B-3"}
    assert sorted(lines) == sorted(
        f"{path} -> sorted/{folders[labels[path]]}/{os.path.basename(path)}" for path in labels
    )


# --- features ------------------------------------------------------------------------------------------


def test_features_to_npy_with_the_paths_beside():
    run("features", "coffee.png", "chelsea.png", "-o", "f.npy")
    made = np.load("f.npy")
    assert made.dtype == np.float32
    photos = [read_image(name) for name in ("coffee.png", "chelsea.png")]
    np.testing.assert_array_equal(made, load_model().features(photos))
    assert Path("f.paths.txt").read_text() == "coffee.png\nchelsea.png\n"


def test_features_to_npz_and_csv():
    run("features", "coffee.png", "rocket.jpg", "-o", "f.npz")
    with np.load("f.npz") as archive:
        held = dict(archive)
    assert list(held["paths"]) == ["coffee.png", "rocket.jpg"]
    text = run("features", "coffee.png", "rocket.jpg", "-o", "-", "--format", "csv").stdout
    rows = list(csv.reader(io.StringIO(text)))
    assert [row[0] for row in rows] == ["coffee.png", "rocket.jpg"]
    np.testing.assert_allclose(np.array([row[1:] for row in rows], float), held["features"], rtol=1e-5)


def test_maps_of_any_layer():
    run("features", "coffee.png", "--layer", 3, "-o", "maps.npy")
    assert np.load("maps.npy").shape == (1, 112, 112, 16)
    result = run("features", "coffee.png", "--layer", 23, "-o", "more.npy", code=2)
    assert "Invalid value for '--layer': efficientnet-lite0 has 22 layers, not 23" in result.stderr


def test_features_leave_out_what_cannot_be_read():
    Path("bad.png").write_bytes(b"nothing")
    result = run("features", "bad.png", "coffee.png", "-o", "f.npy", code=1)
    assert result.stderr.startswith("Error: bad.png: ")
    assert Path("f.paths.txt").read_text() == "coffee.png\n"
    run("features", "bad.png", "-o", "g.npy", code=1)
    assert not Path("g.npy").exists()


def test_features_replace_nothing_unless_forced():
    Path("f.paths.txt").write_text("mine")
    assert "f.paths.txt: exists already; --force" in run("features", "coffee.png", "-o", "f.npy", code=1).stderr
    assert not Path("f.npy").exists()
    run("features", "coffee.png", "-o", "f.npy", "--force")
    assert Path("f.paths.txt").read_text() == "coffee.png\n"
    assert "does not end in .npy, .npz or .csv" in run("features", "coffee.png", "-o", "f.txt", code=2).stderr


# --- help ----------------------------------------------------------------------------------------------

EXAMPLES = re.findall(r"^  cnnfilter (.+)$", HELP + "\n" + FEATURES_HELP, re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_of_the_help_run(example):
    os.mkdir("photos")
    shutil.copy("coffee.png", "photos/a.png")
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        shutil.copy("rocket.jpg", name)
    command = re.split(r" (?:&&|\||>) ", example)[0]
    run(*shlex.split(command), code=4 if "--is" in command else 0)


def test_how_a_heatmap_is_compressed():
    classify("rocket.jpg", "--heatmap", "why.jpg", "--quality", "30", "--subsampling", "420")
    with PIL.Image.open("why.jpg") as picture:
        assert picture.layer[0][1:3] == (2, 2)
    assert "png has no quality" in classify("rocket.jpg", "--heatmap", "why.png", "--quality", "30", code=2).stderr
    assert "--quality belongs to --heatmap" in classify("rocket.jpg", "--quality", "30", code=2).stderr
