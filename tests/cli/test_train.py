"""``train``, ``evaluate`` and ``export`` as a shell sees them."""

from __future__ import annotations

import csv
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cnnfilter.cli import main, reporter
from cnnfilter.cli.reports.training import ProgressBar
from cnnfilter.networks.model_file import read_model
from cnnfilter.training.progress import Epoch

LAYERS = "conv 4x3x3 | batchnorm | relu | maxpool 2 | flatten | dense 2"


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def bars(count, rng):
    pictures = rng.integers(0, 90, (count, 8, 8)).astype(np.uint8)
    labels = np.arange(count) % 2
    for picture, label in zip(pictures, labels, strict=True):
        view = picture.T if label else picture
        view[rng.integers(0, 8), 1:7] += 150
    return pictures, labels


@pytest.fixture
def data(tmp_path, rng, monkeypatch):
    """Bars as an .npz, and as folders with something wrong in them."""
    monkeypatch.chdir(tmp_path)
    pictures, labels = bars(80, rng)
    np.savez("bars.npz", images=pictures, labels=labels)
    for number, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        path = Path("bars", ("lying", "standing")[label], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    Path("bars/lying/.DS_Store").write_bytes(b"x")
    return tmp_path


def test_a_network_from_nothing_is_a_model_for_every_command(data):
    result = run(
        "train",
        "bars",
        "-o",
        "m.safetensors",
        "--layers",
        LAYERS,
        "--epochs",
        8,
        "--batch",
        8,
        "--rate",
        0.01,
        "--log",
        "log.csv",
        "--augment",
        "shift:0.1",
    )
    assert result.stdout.startswith("accuracy ")
    assert "class     pictures  precision  recall" in result.stdout
    assert "Skipped: bars/lying/.DS_Store: hidden" in result.stderr
    assert "bars: 80 pictures of 2 classes: 64 train, 16 validation (held back)" in result.stderr
    assert "parameters     178" in result.stderr
    assert "8 epochs of 8 batches, augmented by shift:0.1: about 1 s" in result.stderr
    assert "epoch 8/8  loss" in result.stderr
    rows = list(csv.DictReader(Path("log.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == [str(number) for number in range(1, 9)]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert not os.path.exists("m.safetensors.checkpoint")
    assert run("classify", "-m", "m.safetensors", "bars/lying/0.png").stdout.endswith("\n")
    described = run("describe", "m.safetensors").stdout
    assert "conv 4x3x3" in described
    assert "which is the sigmoid of their difference" in described
    run("convolve", "bars/lying/0.png", "-k", "m.safetensors#1[3]", "-o", "k.png")
    run("features", "-m", "m.safetensors", "bars/lying/0.png", "-o", "f.npy")
    assert np.load("f.npy").shape == (1, 64)
    judged = json.loads(run("evaluate", "m.safetensors", "bars", "--split", "validation", "--json").stdout)
    assert f"accuracy {judged['accuracy']:.1%} of {judged['count']} validation pictures" in result.stdout


def test_a_dry_run_only_prints_the_plan(data):
    result = run("train", "bars.npz", "-o", "m.safetensors", "--layers", LAYERS, "--dry-run")
    assert result.stdout == ""
    assert "80 pictures of 2 classes" in result.stderr
    assert "about" in result.stderr
    assert sorted(os.listdir()) == ["bars", "bars.npz"]
    assert (
        "a head on efficientnet-lite0: dense 2 on 1,280 features, 2,562 parameters"
        in run("train", "bars", "-o", "m.safetensors", "--dry-run").stderr
    )


def test_an_interrupted_training_is_not_begun_anew_by_mistake(data):
    Path("m.safetensors.checkpoint").write_bytes(b"hours of work")
    how = ("train", "bars.npz", "-o", "m.safetensors", "--layers", LAYERS, "--epochs", 1)
    assert "--resume goes on with it, --force begins anew" in run(*how, code=1).stderr
    assert Path("m.safetensors.checkpoint").read_bytes() == b"hours of work"
    assert "without --resume the training begins anew" in run(*how, "--resume", code=1).stderr
    run(*how, "--force")
    assert not os.path.exists("m.safetensors.checkpoint")


def test_the_last_good_model_is_written_and_the_exit_code_says_so(data, monkeypatch):
    from cnnfilter.training.gradients import gradient_loops as loops

    calls = []
    right = loops.combine

    def wrong_later(rows, slopes, *others):
        calls.append(1)
        right(rows, slopes, *others)
        if len(calls) > 8:  # of the second batch on: eight shards a batch
            slopes[:] = np.nan

    monkeypatch.setattr(loops, "combine", wrong_later)
    result = run("train", "bars.npz", "-o", "m.safetensors", "--layers", LAYERS, "--epochs", 3, "-q", code=1)
    assert "the loss is no longer a number in epoch 2; a smaller --rate would do" in result.stderr
    assert "m.safetensors is the model of epoch 1, the best before" in result.stderr
    run("classify", "-m", "m.safetensors", "bars/lying/0.png")


def test_ctrl_c_says_how_to_go_on(data, monkeypatch):
    import cnnfilter.training.network as training

    right = training.Trainer._epoch

    def interrupted(self, number):
        if number == 2:
            raise KeyboardInterrupt
        right(self, number)

    monkeypatch.setattr(training.Trainer, "_epoch", interrupted)
    result = run("train", "bars.npz", "-o", "m.safetensors", "--layers", LAYERS, code=130)
    assert "the same command with --resume goes on from m.safetensors.checkpoint" in result.stderr
    assert "begins again" not in result.stderr
    assert not os.path.exists("m.safetensors")


@pytest.mark.parametrize(("begun", "steps"), [("features", "pictures"), ("epoch 1", "batches of epoch 1")])
def test_ctrl_c_says_how_far_a_run_without_a_checkpoint_came(begun, steps):
    stop = KeyboardInterrupt()
    bar = ProgressBar()
    bar.begin(begun, 1234)
    bar.advance()
    bar.__exit__(KeyboardInterrupt, stop, None)
    said = f"Interrupted after 1 of 1,234 {steps}; nothing is written, and the same command begins again"
    assert stop.__notes__ == [said]


def test_an_evaluation_says_at_ctrl_c_how_far_it_came(data, monkeypatch):
    def interrupted(*args, advance, **more):
        advance()
        raise KeyboardInterrupt

    run("train", "bars.npz", "-o", "m.safetensors", "--layers", LAYERS, "--epochs", 1, "-q")
    monkeypatch.setattr("cnnfilter.training.evaluation.evaluate", interrupted)
    said = run("evaluate", "m.safetensors", "bars.npz", code=130).stderr
    assert "Interrupted after 1 of 80 pictures; nothing is written, and the same command begins again\n" in said
    assert run("evaluate", "m.safetensors", "bars.npz", "-q", code=130).stderr == ""


def test_options_are_the_parameters_with_the_same_defaults():
    from cnnfilter import evaluate, load_folder, train
    from cnnfilter.cli.commands.evaluate import command as evaluating
    from cnnfilter.cli.commands.train import command as training

    found = set()
    for command, typed, functions in (
        (training, ["data", "-o", "m.safetensors"], (train, load_folder)),
        (evaluating, ["m.safetensors", "data"], (evaluate,)),
    ):
        options = {option.name: option for option in command.params}
        values = command.make_context(command.name, typed).params
        for function in functions:
            for name, parameter in inspect.signature(function).parameters.items():
                default = parameter.default
                if name not in options or default is inspect.Parameter.empty or name == "max_pixels":
                    continue
                option = options[name]
                assert option.opts == [f"--{name.replace('_', '-')}"], name
                assert values[name] == default, name
                found.add(name)
    assert found >= {"input", "epochs", "rate", "label_smoothing", "class_weights", "validation", "seed", "split"}


def test_quiet_prints_only_the_result(data):
    result = run("train", "bars", "-o", "m.safetensors", "--layers", LAYERS, "--epochs", 1, "-q")
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epochs", "3"), "--epochs belongs to --layers, which is not given."),
        (("--resume",), "--resume belongs to --layers"),
        (("--layers", "flaten"), "no layer 'flaten'; did you mean 'flatten'?"),
        (("--augment", "flop"), "no augmentation 'flop'"),
        (("--layers", LAYERS, "--time-limit", "soon"), "'soon' is not a time, such as 90s, 10m or 1.5h."),
        (("--layers", LAYERS, "--rate", "-1"), "'-1' is not a number above 0."),
        (("--layers", LAYERS, "--label-smoothing", "1"), "'1' is not a number from 0 up and below 1."),
        (("--validation", "2"), "'2' is not a share, such as 0.9 or 90%."),
        (("-o", "m.pt"), "'m.pt' does not end in .safetensors"),
        (("--classes", "a,b,c"), "3 names ('a', 'b', 'c') for 2 classes"),
    ],
)
def test_wrong_command_lines(data, arguments, message):
    assert message in run("train", "bars.npz", "-o", "m.safetensors", *arguments, code=2).stderr


def test_files_are_refused_before_any_work(data):
    Path("m.safetensors").write_bytes(b"mine")
    assert (
        "m.safetensors: exists already; --force replaces it"
        in run("train", "bars", "-o", "m.safetensors", code=1).stderr
    )
    assert "there is no folder 'no'" in run("train", "bars", "-o", "no/m.safetensors", code=1).stderr
    assert Path("m.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "Error: pets: no such file or directory"),
        (lambda: os.makedirs("pets/cat"), "has no pictures in class folders"),
        (lambda: one_class(), "has one class only ('cat'); a classifier needs two"),
        (lambda: Path("pets").write_text("x"), "pets is not a folder of class folders"),
    ],
)
def test_data_that_cannot_teach(data, make, message):
    make()
    result = run("train", "pets", "-o", "m.safetensors", code=1)
    assert message in result.stderr
    assert result.stderr.count("Error") == 1
    assert not os.path.exists("m.safetensors")


def one_class():
    os.makedirs("pets/cat")
    for number in range(3):
        Image.new("L", (4, 4), number).save(f"pets/cat/{number}.png")


def test_numbered_classes_get_names(data):
    run(
        "train",
        "bars.npz",
        "-o",
        "m.safetensors",
        "--layers",
        LAYERS,
        "--epochs",
        1,
        "--classes",
        "lying, standing",
        "-q",
    )
    assert read_model("m.safetensors").classes == ("lying", "standing")
    judged = json.loads(run("evaluate", "m.safetensors", "bars.npz", "--json").stdout)
    assert judged["classes"] == ["lying", "standing"]
    assert judged["count"] == 80


@pytest.fixture
def model(data):
    run(
        "train",
        "bars.npz",
        "-o",
        "m.safetensors",
        "--layers",
        LAYERS,
        "--epochs",
        6,
        "--batch",
        8,
        "--rate",
        0.01,
        "-q",
    )
    return data


def test_evaluate(model):
    text = run("evaluate", "m.safetensors", "bars.npz").stdout
    judged = json.loads(run("evaluate", "m.safetensors", "bars.npz", "--json").stdout)
    assert text.startswith(f"accuracy {judged['accuracy']:.1%} of 80 pictures (95 % interval")
    assert "\nconfusion matrix (a row for each true class, a column for each answer):\ntrue class" in text
    assert np.sum(judged["confusion"]) == 80
    assert run("evaluate", "m.safetensors", "bars.npz", "--min-accuracy", "0.2").exit_code == 0
    assert run(
        "evaluate", "m.safetensors", "bars.npz", "--min-accuracy", "100.0%", code=4 if judged["accuracy"] < 1 else 0
    ).stdout


def test_min_accuracy_sets_the_exit_code(model, rng):
    np.savez("turned.npz", images=np.load("bars.npz")["images"], labels=1 - np.load("bars.npz")["labels"])
    run("evaluate", "m.safetensors", "turned.npz", "--min-accuracy", "60%", code=4)


def test_errors_are_drawn(model):
    np.savez("turned.npz", images=np.load("bars.npz")["images"], labels=1 - np.load("bars.npz")["labels"])
    result = run("evaluate", "m.safetensors", "turned.npz", "--errors", "wrong")
    assert "wrong/errors.png: 60 of" in result.stderr
    with Image.open("wrong/errors.png") as sheet:
        assert sheet.mode == "RGB"
        assert sheet.width > 500
    assert "exists already" in run("evaluate", "m.safetensors", "turned.npz", "--errors", "wrong", code=1).stderr
    run("evaluate", "m.safetensors", "turned.npz", "--errors", "wrong", "--force")


def test_calibrate_writes_into_the_model(model):
    before = read_model("m.safetensors")
    result = run("evaluate", "m.safetensors", "bars.npz", "--calibrate")
    after = read_model("m.safetensors")
    assert after.calibration != before.calibration
    assert 0 < after.calibration.threshold < 1
    assert f"temperature {after.calibration.temperature:.3g}, unknown below" in result.stderr
    assert all((a[name] == b[name]).all() for a, b in zip(before.weights, after.weights, strict=True) for name in a)
    run("evaluate", "m.safetensors", "bars.npz", "--calibrate", "-o", "copy.safetensors")
    assert read_model("copy.safetensors").calibration == after.calibration
    assert (
        "-o belongs to --calibrate"
        in run("evaluate", "m.safetensors", "bars.npz", "-o", "x.safetensors", code=2).stderr
    )
    refused = run("evaluate", "efficientnet-lite0", "bars", "--calibrate", code=2).stderr
    assert "comes with cnnfilter and stays as it is" in refused


def test_classes_that_the_model_does_not_know_are_refused(model):
    message = run("evaluate", "m.safetensors", "bars", code=1).stderr
    assert (
        "bars has the classes 'lying', 'standing', m.safetensors knows '0', '1'; not among these: 'lying', 'standing'"
        in message
    )


def test_plots(model):
    pytest.importorskip("matplotlib")
    run("evaluate", "m.safetensors", "bars.npz", "--plot", "e.png")
    run("train", "bars.npz", "-o", "n.safetensors", "--layers", LAYERS, "--epochs", 2, "--plot", "t.png", "-q")
    with Image.open("t.png") as curves, Image.open("e.png") as confusion:
        assert curves.width > confusion.width > 300


def test_export(model):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    run("export", "m.safetensors", "-o", "m.onnx")
    from cnnfilter import load_model

    network = load_model("m.safetensors")
    batch = network.prepare(list(np.load("bars.npz")["images"][:5]))
    session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["logits"], {"pictures": batch})[0], network.forward(batch), atol=1e-4)
    assert "exists already" in run("export", "m.safetensors", "-o", "m.onnx", code=1).stderr
    assert "does not end in .onnx" in run("export", "m.safetensors", "-o", "m.pb", code=2).stderr


def test_a_full_disk_leaves_no_model(data):
    """Every write beyond a limit fails, as on a full disk: RLIMIT_FSIZE does that to one process."""
    resource = pytest.importorskip("resource")
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)); from cnnfilter.cli import main; main()"
    )
    assert resource
    layers = "flatten | dense 60 | relu | dense 2"
    command = [
        sys.executable,
        "-c",
        code,
        "train",
        "bars.npz",
        "-o",
        "m.safetensors",
        "--layers",
        layers,
        "--epochs",
        "1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "m.safetensors.checkpoint: cannot be written (File too large)" in done.stderr
    assert done.stderr.splitlines()[-1] == "Error: m.safetensors: file too large"
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir()) == ["bars", "bars.npz"]


def test_a_bar_shows_the_loss_and_the_last_validation_accuracy(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(reporter, "PROGRESS_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(reporter, "REDRAW_SECONDS", 0.0)
    with ProgressBar() as bar:
        bar.begin("epoch 1", 469)
        bar.advance(2.30259)
        bar.epoch(Epoch(1, 21.0, 0.003, 0.51, 0.82, 0.4, 0.871), 20)
        bar.begin("epoch 12", 469)
        for _ in range(468):
            bar.advance(0.31416)
    drawn = [line.removesuffix("\x1b[K") for line in capsys.readouterr().err.split("\r") if line.startswith("[")]
    assert drawn[0].endswith("left  epoch 1  loss 2.303")
    assert drawn[-1].endswith("left  epoch 12  loss 0.314  valid 87.1%")
    assert max(map(len, drawn)) < 80


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_log_that_cannot_be_written_does_not_end_the_training(data):
    told = run(
        *("train", "bars.npz", "-o", "m.safetensors", "--layers", LAYERS, "--epochs", 2),
        *("--log", "/dev/full", "--force"),
    ).stderr
    assert told.count("Warning: /dev/full: cannot be written (no space left on device)") == 2
    assert os.path.exists("m.safetensors")


def test_a_killed_training_goes_on_to_the_same_file(data):
    command = [
        sys.executable,
        "-m",
        "cnnfilter",
        "train",
        "bars.npz",
        "--layers",
        LAYERS,
        "--epochs",
        "30",
        "--batch",
        "8",
        "--augment",
        "shift",
        "-q",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([*command, "-o", "a.safetensors"], env=environment)
    waited = time.monotonic() + 60
    while not os.path.exists("a.safetensors.checkpoint") and time.monotonic() < waited:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not os.path.exists("a.safetensors")
    subprocess.run([*command, "-o", "a.safetensors", "--resume"], env=environment, check=True, capture_output=True)
    subprocess.run([*command, "-o", "b.safetensors"], env=environment, check=True, capture_output=True)
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
    assert not os.path.exists("a.safetensors.checkpoint")


# --- labels ----------------------------------------------------------------------------------------------


def test_a_table_is_read_by_both_commands_and_its_columns_are_printed(data):
    lines = [
        f"{path.stem},{path.parent.name},{number}" for number, path in enumerate(sorted(Path("bars").glob("*/*.png")))
    ]
    Path("list.csv").write_text("\n".join(["no,kind,rank", *lines, ""]))
    for name in ("lying", "standing"):
        for path in Path("bars", name).glob("*.png"):
            path.rename(Path("bars", path.name))
    options = ("--columns", "no,kind", "--root", "bars", "--suffix", ".png")
    result = run("train", "list.csv", "-o", "m.safetensors", "--layers", LAYERS, "--epochs", 1, *options)
    assert result.stderr.startswith("columns: no = path, kind = label; 2 classes\nlist.csv: 80 pictures of 2 classes")
    result = run("evaluate", "m.safetensors", "list.csv", "--json", *options)
    flattered = "Warning: 64 of 80 pictures were trained on, which flatters the accuracy\n"
    assert result.stderr == f"columns: no = path, kind = label; 2 classes\n{flattered}"
    assert json.loads(result.stdout)["count"] == 80
    assert run("evaluate", "m.safetensors", "list.csv", "--json", "-q", *options).stderr == ""
    assert "'--columns'" in run("train", "list.csv", "-o", "m.safetensors", "--columns", "no", code=2).stderr


def test_classes_without_a_picture_are_named_before_hidden_files(data):
    for number in range(12):
        Path("bars", f"empty{number}").mkdir()
        Path("bars", f"empty{number}", ".DS_Store").touch()
    lines = run("train", "bars", "-o", "m.safetensors", "--dry-run").stderr.splitlines()
    skipped = [line for line in lines if line.startswith("Skipped")]
    assert sorted(skipped[:12]) == sorted(f"Skipped: bars/empty{n}: a class without a picture" for n in range(12))
    assert skipped[-1] == "Skipped: 12 more that are hidden, or junk of another program"
    assert sum(".DS_Store" in line for line in skipped) == 1


def test_what_was_left_out_is_in_json(data):
    run("train", "bars.npz", "-o", "m.safetensors", "--layers", LAYERS, "--epochs", 1, "--classes", "lying,standing")
    cut = Path("bars/lying/cut.png")
    cut.write_bytes(next(Path("bars/lying").glob("*.png")).read_bytes()[:60])
    Path("bars/lying/page\udce9.jpg").write_text("<html>")
    result = run("evaluate", "m.safetensors", "bars", "--json", "-q")
    paths = {entry["path"] for entry in json.loads(result.stdout)["skipped"]}
    assert paths >= {"bars/lying/cut.png", "bars/lying/page\udce9.jpg"}


def test_numbers_that_stand_for_classes_are_printed(data):
    run("train", "bars.npz", "-o", "m.safetensors", "--layers", LAYERS, "--epochs", 1, "--classes", "lying,standing")
    result = run("evaluate", "m.safetensors", "bars.npz")
    assert "labels are numbers of the model's classes: 0 = lying, 1 = standing" in result.stderr


def test_numbered_folders_are_matched_by_name(data):
    os.rename("bars/lying", "bars/0")
    os.rename("bars/standing", "bars/1")
    names = ("--classes", "lying,standing")
    run("train", "bars", "-o", "m.safetensors", "--layers", LAYERS, "--epochs", 1, *names)
    message = run("evaluate", "m.safetensors", "bars", code=1).stderr
    assert (
        "m.safetensors knows 'lying', 'standing'; not among these: '0', '1'; --classes gives numbers their names"
        in message
    )
    assert run("evaluate", "m.safetensors", "bars", *names).stdout.startswith("accuracy")


def test_a_class_of_which_no_picture_can_be_read_is_named(data):
    Path("bars/torn").mkdir()
    for number in range(3):
        Path(f"bars/torn/{number}.png").write_bytes(next(Path("bars/lying").glob("*.png")).read_bytes()[:60])
    words = "the class 'torn' is left out: none of its pictures can be read\n"
    layers = LAYERS.replace("dense 2", "dense 3")
    message = run("train", "bars", "-o", "m.safetensors", "--layers", layers, "--epochs", 1, code=1).stderr
    assert f"{words}Error: the layers give 3 numbers for 2 classes" in message
    assert words in run("train", "bars", "-o", "m.safetensors").stderr


def test_a_class_that_no_model_can_hold_is_refused_before_the_training(data):
    for options in ([], ["--layers", LAYERS, "--epochs", 1]):
        result = run("train", "bars.npz", "-o", "m.safetensors", "--classes", "a,b\udce9", *options, code=1)
        assert "cannot be written into a model, as its name is not UTF-8" in result.stderr
        assert "epoch" not in result.stderr


def test_a_folder_whose_name_is_not_text_is_trained_on(data):
    os.rename("bars", "bars\udce9")
    run("train", "bars\udce9", "-o", "m.safetensors", "--layers", LAYERS, "--epochs", 1, "-q")
    assert "on bars\ufffd:" in read_model("m.safetensors").provenance
