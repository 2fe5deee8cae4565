"""Training: it learns, gives the same bits however it is run, goes on where it stopped, and keeps only numbers."""

from __future__ import annotations

import dataclasses
import errno
import os
import tempfile

import numpy as np
import pytest
from PIL import Image

from cnnfilter import DataError, ModelError, evaluate, load_folder, load_model, train
from cnnfilter.networks.model_file import Preparation
from cnnfilter.training.augmentation import Augmentation, apply_changes, parse_augmentation
from cnnfilter.training.checkpoint import read_checkpoint
from cnnfilter.training.gradients import gradient_loops as loops
from cnnfilter.training.optimisers import OPTIMISERS, SCHEDULES
from cnnfilter.training.progress import Watcher

BARS = "conv 6x3x3 | batchnorm | relu | maxpool 2 | flatten | dropout 0.1 | dense 2"


def bars(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw lying (0) and standing (1) bars with noise."""
    pictures = rng.integers(0, 90, (count, 8, 8)).astype(np.uint8)
    labels = np.arange(count) % 2
    for picture, label in zip(pictures, labels, strict=True):
        view = picture.T if label else picture
        view[rng.integers(0, 8), 1:7] += 150
    return pictures, labels


@pytest.fixture
def data(tmp_path, rng):
    pictures, labels = bars(160, rng)
    np.savez(tmp_path / "bars.npz", images=pictures, labels=labels)
    return tmp_path / "bars.npz"


class Stop(Watcher):
    """Interrupts a training after an epoch, as Ctrl-C would in the middle of the next one."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.seen: list[int] = []

    def epoch(self, epoch, epochs):
        self.seen.append(epoch.number)

    def advance(self, loss=None):
        if len(self.seen) == self.after:
            raise KeyboardInterrupt


def save(trained, path) -> bytes:
    trained.save(path, force=True)
    return path.read_bytes()


def test_it_learns_and_the_file_says_the_same(data, tmp_path):
    trained = train(data, layers=BARS, epochs=6, rate=0.01, batch=16)
    assert trained.evaluation.accuracy > 0.9
    assert trained.judged_by == "validation"
    assert trained.history[-1].loss < trained.history[0].loss / 2
    trained.save(tmp_path / "m.safetensors")
    network = load_model(tmp_path / "m.safetensors")
    again = evaluate(network, load_folder(data), split="validation")
    np.testing.assert_allclose(again.logits, trained.evaluation.logits, atol=1e-5)
    assert "160" not in network.provenance
    assert "128 pictures of 2 classes; a network from nothing, 6 epochs" in network.provenance
    assert str(tmp_path) not in network.provenance


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_same_seed_gives_the_same_bytes_for_any_number_of_threads(data, tmp_path, optimizer):
    how = {"layers": BARS, "epochs": 2, "optimizer": optimizer, "augment": "flip,shift,rotate,crop,brightness,erase"}
    files = [save(train(data, threads=threads, **how), tmp_path / "m.safetensors") for threads in (1, 3)]
    assert files[0] == files[1]
    assert save(train(data, seed=1, **how), tmp_path / "m.safetensors") != files[0]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_interrupted_training_goes_on_to_the_bit(data, tmp_path, optimizer):
    how = {"layers": BARS, "epochs": 4, "optimizer": optimizer, "augment": "shift", "batch": 50}
    whole = train(data, **how)
    point = str(tmp_path / "m.checkpoint")
    with pytest.raises(KeyboardInterrupt):
        train(data, **how, checkpoint=point, watcher=Stop(2))
    watcher = Stop(99)
    rest = train(data, **how, checkpoint=point, resume=True, threads=1, watcher=watcher)
    assert watcher.seen == [3, 4]
    assert save(rest, tmp_path / "a.safetensors") == save(whole, tmp_path / "b.safetensors")
    assert [epoch[2:] for epoch in rest.history] == [epoch[2:] for epoch in whole.history]


def test_a_checkpoint_of_another_training_is_refused(data, tmp_path):
    point = str(tmp_path / "m.checkpoint")
    train(data, layers=BARS, epochs=1, checkpoint=point)
    for change, message in [
        ({"seed": 3}, "with seed '0', not '3'|with data"),
        ({"epochs": 2}, "with epochs '1', not '2'"),
        ({"layers": BARS.replace("6x3x3", "7x3x3")}, "with layers '.*', not '.*7x3x3"),
    ]:
        with pytest.raises(ModelError, match=message):
            train(data, **{"layers": BARS, "epochs": 1, **change}, checkpoint=point, resume=True)
    with open(point, "r+b") as file:
        file.truncate(os.path.getsize(point) - 3)
    with pytest.raises(ModelError, match=r"cut or damaged; without --resume the training begins anew"):
        train(data, layers=BARS, epochs=1, checkpoint=point, resume=True)
    with pytest.raises(FileNotFoundError):
        read_checkpoint(str(tmp_path / "none"), {}, {})


def test_without_a_checkpoint_resume_begins(data, tmp_path):
    said = []
    watcher = Watcher()
    watcher.say = said.append
    train(data, layers=BARS, epochs=1, checkpoint=str(tmp_path / "m.checkpoint"), resume=True, watcher=watcher)
    assert "the training begins" in said[0]


def test_a_checkpoint_that_cannot_be_written_is_said_and_the_training_goes_on(data, tmp_path):
    said = []
    watcher = Watcher()
    watcher.say = said.append
    trained = train(data, layers=BARS, epochs=2, checkpoint=str(tmp_path / "no/folder.checkpoint"), watcher=watcher)
    assert len(trained.history) == 2
    assert "cannot be written" in said[0]


def test_a_loss_that_is_no_number_ends_the_training(data):
    with pytest.raises(DataError, match=r"the loss is no longer a number in epoch 1; a smaller --rate would do"):
        train(
            data,
            layers=BARS.replace("| batchnorm ", ""),
            optimizer="sgd",
            rate=1e12,
            schedule="constant",
            epochs=2,
            batch=16,
        )
    with pytest.raises(DataError, match=r"a learned number has grown to .*; a smaller --rate would do"):
        train(data, layers=BARS, optimizer="sgd", rate=1e9, schedule="constant", epochs=1)


def test_the_last_good_model_is_kept(data, monkeypatch):
    good = train(data, layers=BARS, epochs=3, schedule="constant")
    calls = []
    right = loops.combine

    def wrong_later(rows, gradients, *others):
        calls.append(1)
        right(rows, gradients, *others)
        if len(calls) > 8 * 2:  # of the second epoch on: eight shards a batch
            gradients[:] = np.nan

    monkeypatch.setattr(loops, "combine", wrong_later)
    kept = train(data, layers=BARS, epochs=3, schedule="constant", batch=64)
    assert kept.failure is not None
    assert kept.failure.epoch == 2
    assert len(kept.history) == 1
    assert all(np.isfinite(values).all() for layer in kept.model.weights for values in layer.values())
    assert good.failure is None


def test_the_best_epoch_is_kept(data):
    trained = train(data, layers=BARS, epochs=8, rate=0.05, schedule="constant")
    best = max(trained.history, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss))
    assert trained.best == best.number
    assert trained.evaluation.accuracy == pytest.approx(best.validation_accuracy, abs=0.04)


def test_patience_stops_early(data):
    trained = train(data, layers=BARS, epochs=60, rate=0.02, patience=3)
    assert len(trained.history) - trained.best == 3


def test_a_time_limit_brings_the_schedule_to_its_end(data):
    trained = train(data, layers=BARS, epochs=1_000_000, time_limit=0.4)
    assert 1 <= len(trained.history) < 1000
    assert trained.history[-1].rate < 0.003 * 0.3


def test_without_validation_pictures_the_last_epoch_counts(data):
    trained = train(load_folder(data, validation=0), layers=BARS, epochs=2)
    assert trained.evaluation is None
    assert trained.best == 2
    assert trained.history[0].validation_loss is None


def test_pictures_count_by_their_class(tmp_path, rng):
    pictures, labels = bars(200, rng)
    keep = (labels == 0) | (np.arange(200) < 20)
    np.savez(tmp_path / "d.npz", images=pictures[keep], labels=labels[keep])
    how = {"layers": "conv 2x3x3 | relu | globalpool max | dense 2", "epochs": 4, "batch": 16}
    plain, balanced = (train(tmp_path / "d.npz", class_weights=kind, **how) for kind in ("none", "balanced"))
    assert plain.model.weights[-1]["bias"][0] > balanced.model.weights[-1]["bias"][0]


def test_layers_that_do_not_fit_are_refused(data):
    with pytest.raises(DataError, match=r"the layers give 3 numbers for 2 classes; let them end with 'dense 2'"):
        train(data, layers="flatten | dense 3")
    with pytest.raises(ModelError, match=r"can only stand before the first learned layer"):
        train(data, layers="conv 2x3x3 | conv blur | flatten | dense 2")
    with pytest.raises(ValueError, match=r"needs flat numbers"):
        train(data, layers="conv 2x3x3 | dense 2")


def test_the_first_layer_may_start_from_kernels(data):
    how = {"layers": BARS, "epochs": 1, "rate": 1e-9}
    weights = train(data, init="kernels", **how).model.weights[0]["kernel"]
    sobel = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
    for number, kernel in ((0, sobel), (1, sobel.T)):
        drawn = weights[:, :, 0, number]
        assert abs(float((drawn * kernel).sum())) / np.linalg.norm(drawn) / np.linalg.norm(kernel) == pytest.approx(
            1, abs=1e-3
        )
    other = train(data, **how).model.weights[0]["kernel"]
    assert np.linalg.norm(weights[..., 0]) == pytest.approx(np.linalg.norm(other) / np.sqrt(6), rel=0.3)
    with pytest.raises(ModelError, match=r"needs a first learned layer such as 'conv 32x3x3', not 'dense 2'"):
        train(data, layers="flatten | dense 2", init="kernels")


def test_pictures_beyond_memory_go_to_a_file(data, tmp_path, monkeypatch):
    root = tmp_path / "folder"
    pictures, labels = bars(40, np.random.default_rng(0))
    for number, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        path = root / "ab"[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (root / "a/cut.png").write_bytes((root / "a/0.png").read_bytes()[:50])
    how = {"layers": "conv 3x3x3 | relu | flatten | dense 2", "epochs": 1}
    in_memory = train(root, **how)
    monkeypatch.setattr("cnnfilter.training.data.decoded.MEMORY_BYTES_MAX", 0)
    in_file = train(root, **how)
    assert save(in_file, tmp_path / "a.safetensors") == save(in_memory, tmp_path / "b.safetensors")
    assert in_file.model.input_shape == (8, 8, 1)
    assert [os.path.basename(path) for path, _ in in_file.dataset.skipped] == ["cut.png"]


def test_no_room_for_the_file_of_pictures_beyond_memory(tmp_path, monkeypatch):
    """The error comes before any work, as writing to a mapped file on a full disk would end the process."""
    for label in "ab":
        (tmp_path / "folder" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (8, 8), number).save(tmp_path / "folder" / label / f"{number}.png")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cnnfilter.training.data.decoded.MEMORY_BYTES_MAX", 0)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left") as caught:
        train(tmp_path / "folder", layers="flatten | dense 2", epochs=1)
    assert caught.value.filename == tempfile.gettempdir()


# --- optimisers, schedules, augmentation -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_optimisers_as_pytorchs(name, rng):
    torch = pytest.importorskip("torch")
    values = rng.normal(size=50).astype(np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(values.copy()))
    mine = OPTIMISERS[name](values, np.ones(50, bool), 0.1)
    more = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    other = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[name]([theirs], lr=0.01, weight_decay=0.1, **more)
    for _ in range(20):
        gradients = rng.normal(size=50).astype(np.float32)
        theirs.grad = torch.from_numpy(gradients.copy())
        other.step()
        mine.step(gradients, 0.01)
    np.testing.assert_allclose(values, theirs.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_decay_is_for_kernels_alone():
    values = np.ones(2, np.float32)
    OPTIMISERS["adamw"](values, np.array([True, False]), 0.5).step(np.zeros(2, np.float32), 0.1)
    assert values.tolist() == pytest.approx([0.95, 1])


def test_schedules_stay_between_0_and_1_and_end_low():
    for name, schedule in SCHEDULES.items():
        rates = [schedule(progress) for progress in np.linspace(0, 1, 50)]
        assert max(rates) <= 1
        assert min(rates) >= 0
        assert name == "constant" or rates[-1] < 1e-4


IDENTITY = Preparation(mean=(0.0,), std=(1.0,))


def changed(pixels, text, seed=0):
    out = np.empty(pixels.shape, np.float32)
    changes = parse_augmentation(text).draw(np.random.default_rng(seed), *pixels.shape[:3])
    apply_changes(pixels, changes, IDENTITY, out)
    return out, changes


def test_no_augmentation_changes_nothing_but_the_scale(rng):
    pixels = rng.integers(0, 256, (4, 5, 6, 3)).astype(np.uint8)
    assert (changed(pixels, "none")[0] == pixels).all()
    out = np.empty(pixels.shape, np.float32)
    how = Preparation(mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 5.0))
    apply_changes(pixels, Augmentation().draw(rng, 4, 5, 6), how, out)
    np.testing.assert_allclose(out, (pixels - np.array(how.mean)) / np.array(how.std), rtol=1e-5, atol=1e-5)


def test_flip_mirrors_some(rng):
    pixels = rng.integers(0, 256, (40, 5, 6, 2)).astype(np.uint8)
    out, _ = changed(pixels, "flip")
    mirrored = [(after == before[:, ::-1]).all() for before, after in zip(pixels, out, strict=True)]
    same = [(after == before).all() for before, after in zip(pixels, out, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 8 < sum(mirrored) < 32
    assert (
        sum(
            (after == before[:, ::-1]).all() for before, after in zip(pixels, changed(pixels, "flip:1")[0], strict=True)
        )
        == 40
    )


def test_shift_moves_by_whole_samples_and_the_edge_goes_on(rng):
    pixels = rng.integers(0, 256, (30, 8, 10, 1)).astype(np.uint8)
    out, changes = changed(pixels, "shift:0.25")
    moves = {(int(y), int(x)) for y, x in zip(changes.matrices[:, 2], changes.matrices[:, 5], strict=True)}
    assert max(abs(y) for y, _ in moves) == 2
    assert len(moves) > 8
    for before, after, matrix in zip(pixels, out, changes.matrices, strict=True):
        y, x = int(matrix[2]), int(matrix[5])
        rows, columns = np.clip(np.arange(8) + y, 0, 7), np.clip(np.arange(10) + x, 0, 9)
        assert (after == before[rows][:, columns]).all()


def test_rotation_and_crop_sample_where_they_say():
    ramp = np.add.outer(10 * np.arange(9), np.arange(9)).astype(np.uint8)[None, :, :, None]
    out, changes = changed(np.repeat(ramp, 20, axis=0), "rotate:20,crop:0.7")
    y, x = np.mgrid[:9, :9]
    for picture, m in zip(out, changes.matrices, strict=True):
        wanted = np.clip(m[0] * y + m[1] * x + m[2], 0, 8) * 10 + np.clip(m[3] * y + m[4] * x + m[5], 0, 8)
        np.testing.assert_allclose(picture[:, :, 0], wanted, atol=1e-3)
    size = np.hypot(changes.matrices[:, 0], changes.matrices[:, 3])
    assert 0.69 < size.min() < 0.8
    assert size.max() <= 1
    turned = np.degrees(np.arctan2(changes.matrices[:, 3], changes.matrices[:, 0]))
    assert 12 < np.abs(turned).max() <= 20


def test_brightness_and_erase():
    pixels = np.full((50, 10, 10, 1), 100, np.uint8)
    bright, _ = changed(pixels, "brightness:0.3")
    assert 70 <= bright.min() < 80
    assert 120 < bright.max() <= 130.001
    assert changed(np.full((50, 3, 3, 1), 250, np.uint8), "brightness:0.3")[0].max() == 255
    erased, changes = changed(pixels, "erase:0.5")
    sizes = (changes.holes[:, 2] - changes.holes[:, 0]) * (changes.holes[:, 3] - changes.holes[:, 1])
    assert ((erased == 0).sum(axis=(1, 2, 3)) == sizes).all()
    assert 15 < np.count_nonzero(sizes) < 35
    assert sizes.max() <= 25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("twist", "no augmentation 'twist'; there are flip:0.5, shift:0.1"),
        ("flip:2", "'flip:2': flip takes a share up to 1, as in flip:0.5"),
        ("rotate:x", "rotate takes degrees up to 180"),
        ("crop:0", "crop takes a share"),
    ],
)
def test_augmentation_refusals(text, message):
    with pytest.raises(DataError, match=message):
        parse_augmentation(text)


def test_augmentation_reads_back_as_itself():
    whole = parse_augmentation("flip,shift,rotate,crop,brightness,erase")
    assert parse_augmentation(str(whole)) == whole
    assert all(getattr(whole, field.name) for field in dataclasses.fields(whole))


# --- a head on the shipped network -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos of a cat and of coffee, each cropped differently, in class folders."""
    root = tmp_path_factory.mktemp("photos")
    samples = os.path.join(os.path.dirname(__file__), "..", "..", "samples")
    rng = np.random.default_rng(5)
    for label in ("chelsea", "coffee"):
        picture = Image.open(os.path.join(samples, f"{label}.png")).convert("RGB")
        (root / label).mkdir()
        for number in range(8):
            left, top = rng.integers(0, 60, 2)
            picture.crop((left, top, left + 240, top + 200)).save(root / label / f"{number}.jpg", quality=90)
    (root / "chelsea/cut.jpg").write_bytes((root / "chelsea/0.jpg").read_bytes()[:900])
    return root


def test_a_head(photos, tmp_path):
    trained = train(photos)
    assert trained.evaluation.accuracy == 1
    assert len(trained.evaluation) == 4
    assert [os.path.basename(path) for path, _ in trained.dataset.skipped] == ["cut.jpg"]
    size = len(save(trained, tmp_path / "m.safetensors"))
    assert size < 8000
    network = load_model(tmp_path / "m.safetensors")
    assert network.classes == ("chelsea", "coffee")
    picture = np.asarray(Image.open(photos / "coffee/3.jpg"))
    assert network.predict(picture)[0, 1] > 0.9
    assert "a head on efficientnet-lite0, penalty" in network.provenance
    again = evaluate(network, load_folder(photos), split="validation")
    np.testing.assert_allclose(again.logits, trained.evaluation.logits, atol=1e-3)


def test_a_head_is_the_same_for_any_number_of_threads(photos, tmp_path):
    files = [save(train(photos, augment="flip", threads=threads), tmp_path / "m.safetensors") for threads in (1, 2)]
    assert files[0] == files[1]
    assert files[0] != save(train(photos), tmp_path / "m.safetensors")


def test_crops_of_one_picture_in_two_splits_are_no_duplicates_but_copies_are(photos, tmp_path):
    assert not any(pair.exact for pair in train(photos).duplicates)
