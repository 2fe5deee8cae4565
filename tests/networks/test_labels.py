"""Labels, patterns, and files sorted by them."""

from __future__ import annotations

import os
import unicodedata

import numpy as np
import pytest

from cnnfilter import Network
from cnnfilter.errors import ModelError
from cnnfilter.jobs.sorting import copy_file, folder_name, folder_names, link_file, move_file, sort_file, target_path
from cnnfilter.networks.labels import UNKNOWN_LABEL, Label, best_labels, find_labels
from cnnfilter.networks.model_file import Calibration
from tests.networks.test_model_file import small_model


@pytest.fixture
def network(rng) -> Network:
    return Network(small_model(rng, classes=("tabby cat", "Maltese dog", "eel")), "pets")


def test_the_likeliest_first_and_equal_ones_in_the_models_order(network):
    found = best_labels(network, np.array([0.25, 0.5, 0.25], np.float32))
    assert found == [Label("Maltese dog", 1, 0.5), Label("tabby cat", 0, 0.25), Label("eel", 2, 0.25)]
    assert best_labels(network, np.array([0.25, 0.5, 0.25], np.float32), top=1) == found[:1]


def test_below_the_threshold_a_label_is_unknown(network, rng):
    probabilities = np.array([0.25, 0.5, 0.25], np.float32)
    assert best_labels(network, probabilities, threshold=0.51) == [Label(UNKNOWN_LABEL, None, 0.5)]
    assert best_labels(network, probabilities, threshold=0.5)[0].label == "Maltese dog"
    strict = Network(small_model(rng, calibration=Calibration(threshold=0.6)))
    assert best_labels(strict, probabilities)[0].label == UNKNOWN_LABEL
    assert best_labels(strict, probabilities, threshold=0)[0].label == "dog"


def test_outputs_without_names_are_numbers(rng):
    network = Network(small_model(rng, classes=()))
    assert best_labels(network, np.array([0.1, 0.1, 0.8], np.float32), top=1)[0].label == "2"


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_labels_are_found_in_either_unicode_form(rng, forms):
    label, pattern = (unicodedata.normalize(form, "Kn\xf6del") for form in forms)
    network = Network(small_model(rng, classes=(label, "a", "b")), "food")
    assert find_labels(network, [pattern]) == find_labels(network, [pattern[:2] + "*"]) == {label}


def test_patterns(network):
    assert find_labels(network, ["TABBY CAT"]) == {"tabby cat"}
    assert find_labels(network, ["*dog", "e?l"]) == {"Maltese dog", "eel"}
    assert find_labels(network, ["unknown"]) == {UNKNOWN_LABEL}
    with pytest.raises(ModelError, match="pets has no label 'dog'; did you mean 'Maltese dog'"):
        find_labels(network, ["eel", "dog"])
    with pytest.raises(ModelError, match=r"pets has no label 'xyzzy'$"):
        find_labels(network, ["xyzzy"])


@pytest.mark.parametrize("label", ["a/b", "a\\b", "..", ".", "", "a\nb", 'x"y', "con:", "l" * 300, " . "])
def test_every_label_gives_a_folder_in_the_folder(tmp_path, label):
    folder = tmp_path / folder_name(label)
    folder.mkdir()
    assert folder.resolve().parent == tmp_path.resolve()


def test_no_two_labels_share_a_folder():
    labels = [
        "A/B",
        "A:B",
        "A_B",
        "a_b",
        "x" * 101,
        "x" * 102,
        "Kn\xf6del",
        "Kno\u0308del",
        "a.",
        "a",
        "A_B-2",
        "unknown",
    ]
    folders = folder_names(labels)
    assert list(folders) == labels
    assert len({unicodedata.normalize("NFC", name).casefold() for name in folders.values()}) == len(labels)
    assert [folders[label] for label in ("A_B", "A_B-2", "a", "unknown")] == ["A_B", "A_B-2", "a", "unknown"]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"first")
    os.utime(path, (1e9, 1e9))
    return path


@pytest.mark.parametrize("how", ["copy", "move", "link"])
def test_sorting(tmp_path, photo, how):
    place = sort_file(str(photo), str(tmp_path / "sorted" / "cat"), how)
    assert place == str(tmp_path / "sorted" / "cat" / "photo.jpg")
    with open(place, "rb") as file:
        assert file.read() == b"first"
    assert photo.exists() == (how != "move")
    assert os.path.islink(place) == (how == "link")
    assert os.stat(place).st_mtime == 1e9


@pytest.mark.parametrize("how", ["copy", "move", "link"])
def test_nothing_is_overwritten(tmp_path, photo, how):
    folder = tmp_path / "cat"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"other")
    (folder / "photo-2.jpg").write_bytes(b"third")
    assert sort_file(str(photo), str(folder), how) == str(folder / "photo-3.jpg")
    assert (folder / "photo.jpg").read_bytes() == b"other"
    assert (folder / "photo-2.jpg").read_bytes() == b"third"
    assert (folder / "photo-3.jpg").read_bytes() == b"first"


@pytest.mark.parametrize("how", ["copy", "move", "link"])
def test_a_second_time_changes_nothing(tmp_path, photo, how):
    folder = tmp_path / "cat"
    place = sort_file(str(photo), str(folder), how)
    photo.write_bytes(b"first")
    assert sort_file(str(photo), str(folder), how) == place
    assert os.listdir(folder) == ["photo.jpg"]
    assert photo.exists()


def test_the_name_of_a_broken_link_is_taken_too(tmp_path, photo):
    folder = tmp_path / "cat"
    folder.mkdir()
    (folder / "photo.jpg").symlink_to("nowhere")
    assert target_path(str(photo), str(folder)) == (str(folder / "photo-2.jpg"), False)


def test_a_move_to_another_file_system_copies_first(tmp_path, photo, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    move_file(str(photo), str(tmp_path / "moved.jpg"))
    assert not photo.exists()
    assert (tmp_path / "moved.jpg").read_bytes() == b"first"


def test_the_original_stays_when_the_copy_fails(tmp_path, photo, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr("shutil.copyfileobj", refuse)
    for sort in (move_file, copy_file):
        with pytest.raises(OSError, match="No space"):
            sort(str(photo), str(tmp_path / "moved.jpg"))
    assert photo.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["photo.jpg"]


def test_a_place_that_is_taken_is_refused(tmp_path, photo):
    taken = tmp_path / "taken.jpg"
    taken.write_bytes(b"other")
    for sort in (copy_file, move_file, link_file):
        with pytest.raises(FileExistsError):
            sort(str(photo), str(taken))
    assert photo.exists()
    assert taken.read_bytes() == b"other"


def test_a_symbolic_link_is_not_moved(tmp_path, photo):
    link = tmp_path / "link.jpg"
    link.symlink_to(photo)
    with pytest.raises(OSError, match="symbolic link"):
        move_file(str(link), str(tmp_path / "there.jpg"))
    assert link.is_symlink()
