"""Files sorted into folders of their labels."""

from __future__ import annotations

import os
import unicodedata

import pytest

from cnnfilter.jobs.sorting import copy_file, folder_name, folder_names, link_file, move_file, sort_file, target_path


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
