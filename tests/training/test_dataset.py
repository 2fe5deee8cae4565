"""Labelled pictures: what is found, what is skipped, how they are parted, and what is refused."""

from __future__ import annotations

import gzip
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from cnnfilter import DataError, load_folder
from cnnfilter.training.data.array_files import read_idx
from cnnfilter.training.data.examples import Skipped, read_each


def picture(path, value=0, size=(8, 6)):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.new("L", size, value).save(path)


def folder(root, **counts):
    """Make class folders with so many pictures each, all different."""
    value = 0
    for label, count in counts.items():
        for number in range(count):
            value += 1
            picture(f"{root}/{label}/{number}.png", value % 256)
    return str(root)


def listing(root):
    return sorted(
        (path, os.path.getmtime(path))
        for parent, _, files in os.walk(root)
        for path in [parent, *(f"{parent}/{f}" for f in files)]
    )


def test_a_folder_of_class_folders(tmp_path):
    root = folder(tmp_path / "data", dogs=5, cats=10)
    before = listing(root)
    found = load_folder(root)
    assert found.classes == ("cats", "dogs")
    assert found.held_back
    assert found.train.counts(2).tolist() == [8, 4]
    assert found.validation.counts(2).tolist() == [2, 1]
    assert all((found.classes[label] in found.train.name(index)) for index, label in enumerate(found.train.labels))
    assert listing(root) == before


def test_the_seed_decides_what_is_held_back(tmp_path):
    root = folder(tmp_path, a=20, b=20)
    chosen = [load_folder(root, seed=seed).validation.places.tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(load_folder(root, validation=0).splits) == 1
    assert len(load_folder(root, validation=0.5).validation) == 20


def test_junk_is_skipped_and_listed(tmp_path):
    root = folder(tmp_path, a=3, b=3)
    picture(f"{root}/.hidden/1.png")
    picture(f"{root}/a/.thumbs/1.png")
    picture(f"{root}/loose.png")
    (tmp_path / "empty").mkdir()
    for name in ("a/.DS_Store", "a/Thumbs.db", "a/notes.txt", "b/fake.jpg"):
        (tmp_path / name).write_bytes(b"not a picture")
    (tmp_path / "b/zero.png").write_bytes(b"")
    (tmp_path / "b/gone.png").symlink_to("nowhere.png")
    found = load_folder(root)
    assert found.classes == ("a", "b")
    assert len(found) == 6
    reasons = {os.path.relpath(path, root): reason for path, reason in found.skipped}
    names = "a/.DS_Store a/.thumbs a/Thumbs.db a/notes.txt b/fake.jpg b/gone.png b/zero.png"
    assert sorted(reasons) == sorted([".hidden", "empty", "loose.png", *names.split()])
    assert reasons["empty"] == "a class without a picture"
    assert reasons["loose.png"] == "not in a class folder"
    assert "not a picture" in reasons["b/fake.jpg"]
    assert reasons["b/zero.png"] == "it is empty"


def test_pictures_may_lie_deeper(tmp_path):
    root = folder(tmp_path, a=2, b=2)
    picture(f"{root}/a/more/deep/9.png", 99)
    assert load_folder(root, validation=0).train.counts(2).tolist() == [3, 2]


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("training", "validation", "testing"), ("Train", "valid", "TEST")]
)
def test_split_folders(tmp_path, names):
    for name, count in zip(names, (4, 2, 3), strict=True):
        folder(tmp_path / name, a=count, b=count)
    found = load_folder(tmp_path)
    assert {split: len(part) for split, part in found.splits.items()} == {"train": 8, "validation": 4, "test": 6}
    assert not found.held_back
    assert found.classes == ("a", "b")


def test_other_folders_beside_splits_are_skipped(tmp_path):
    folder(tmp_path / "train", a=4, b=4)
    folder(tmp_path / "annotations", x=1)
    found = load_folder(tmp_path)
    assert found.classes == ("a", "b")
    assert [os.path.basename(path) for path, _ in found.skipped] == ["annotations"]


def test_a_class_may_be_called_train(tmp_path):
    found = load_folder(folder(tmp_path, bus=3, train=3))
    assert found.classes == ("bus", "train")


@pytest.mark.parametrize("beside", ["bus", "car"])
def test_a_class_called_train_with_folders_inside_is_refused(tmp_path, beside):
    for label in (beside, "train"):
        folder(tmp_path / label, day1=3, day2=3)
    with pytest.raises(DataError, match=rf"'train' may be a split, with the classes 'day1', 'day2', or .*'{beside}'"):
        load_folder(tmp_path)


@pytest.mark.parametrize("name", ["val", "test"])
def test_a_class_called_val_or_test_with_folders_inside(tmp_path, name):
    for label in ("bus", name):
        folder(tmp_path / label, day1=3, day2=3)
    assert load_folder(tmp_path).classes == tuple(sorted(["bus", name]))


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_split_without_class_folders_is_said(tmp_path, name):
    folder(tmp_path / "train", a=4, b=4)
    picture(tmp_path / name / "1.png")
    found = load_folder(tmp_path)
    assert found.classes == ("a", "b")
    assert found.skipped == ((str(tmp_path / name), "has no class folders, so that its pictures have no labels"),)


def test_splits_without_class_folders_are_refused(tmp_path):
    folder(tmp_path, train=3, test=3)
    with pytest.raises(
        DataError, match=r"has the splits 'test', 'train' without class folders, so that their pictures"
    ):
        load_folder(tmp_path)


@pytest.mark.parametrize("inner", ["my-data", "one/two"])
def test_data_further_in_are_said(tmp_path, inner):
    folder(tmp_path / inner / "train", a=2, b=2)
    with pytest.raises(DataError, match=rf"the data are further in: give .*{inner}, which has train$"):
        load_folder(tmp_path)


def test_class_folders_further_in_are_said(tmp_path):
    folder(tmp_path / "my-data", a=2, b=2)
    with pytest.raises(DataError, match=r"one class only .'my-data'.; .* the folders of .*my-data, give that folder$"):
        load_folder(tmp_path)


def test_a_table_in_the_folder_is_said(tmp_path):
    picture(tmp_path / "1.png")
    (tmp_path / "labels.csv").write_text("")
    with pytest.raises(DataError, match=r"if labels.csv has the labels, give .*labels.csv$"):
        load_folder(tmp_path)


def test_folders_in_both_unicode_forms_are_one_class(tmp_path):
    one, other = (unicodedata.normalize(form, "Kn\xf6del") for form in ("NFC", "NFD"))
    folder(tmp_path / "train", **{one: 2, "Nuss": 2})
    folder(tmp_path / "val", **{other: 2, "Nuss": 2})
    found = load_folder(tmp_path)
    assert found.classes == (one, "Nuss")
    found.check()


def test_a_class_that_is_no_text_is_refused(tmp_path):
    folder(tmp_path, a=4, b=4)
    os.rename(os.fsencode(tmp_path / "b"), os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(DataError, match=r"class 'caf\\udce9' cannot be written into a model, as its name is not UTF-8"):
        load_folder(tmp_path)


def test_a_class_that_training_lacks_is_refused_with_both_lists(tmp_path):
    folder(tmp_path / "train", a=4, b=4)
    folder(tmp_path / "val", a=2, c=2)
    with pytest.raises(
        DataError, match=r"train has the classes 'a', 'b', validation has 'a', 'c'; unknown in training is 'c'"
    ):
        load_folder(tmp_path).check()


def test_a_split_may_lack_a_class(tmp_path):
    folder(tmp_path / "train", a=4, b=4, c=4)
    folder(tmp_path / "val", c=2)
    found = load_folder(tmp_path)
    assert set(found.validation.labels) == {2}


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, r"has no pictures in class folders .it is empty."),
        ({"a": 5}, "has one class only .'a'.; a classifier needs two$"),
        ({"a": 1, "b": 1}, "has a single picture of each class"),
    ],
)
def test_what_cannot_teach_is_refused(tmp_path, counts, message):
    with pytest.raises(DataError, match=message):
        load_folder(folder(tmp_path, **counts))


def test_only_junk_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.txt").write_text("x")
    with pytest.raises(DataError, match=r"x.txt: not a picture"):
        load_folder(tmp_path)


def test_no_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="nothing: no such file or directory"):
        load_folder(tmp_path / "nothing")
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"is not a folder of class folders"):
        load_folder(tmp_path / "a.zip")


def test_unreadable_pictures_are_left_out_with_their_class(tmp_path):
    root = folder(tmp_path, a=4, b=4, c=1)
    whole = (tmp_path / "a/0.png").read_bytes()
    (tmp_path / "a/cut.png").write_bytes(whole[:60])
    (tmp_path / "c/0.png").write_bytes(whole[:60])
    found = load_folder(root, validation=0)
    results, unreadable = read_each(found.train, lambda index, image: image.pixels.shape, threads=2)
    assert len(unreadable) == 2
    assert results.count(None) == 2
    fewer = found.without(unreadable)
    assert fewer.classes == ("a", "b")
    assert fewer.train.counts(2).tolist() == [4, 4]
    assert len(fewer.skipped) == 2


def test_too_little_is_explained_by_what_was_left_out(tmp_path):
    root = folder(tmp_path, a=4, b=4)
    for number in range(4):
        (tmp_path / f"b/{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = load_folder(root, validation=0)
    gone = [Skipped(found.train.name(index), "is cut off") for index in range(8)]
    with pytest.raises(DataError, match=r"one class only .'a'.; .* \(4 left out, such as .*3.png: is cut off\)$"):
        found.without(gone[4:]).check()
    with pytest.raises(DataError, match=r"no pictures to train on \(8 left out, such as .*3.png: is cut off\)$"):
        found.without(gone).check()


# --- CSV -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["path,label\n", "", "label;path\n", "image\tclass\tsplit\n"])
def test_csv(tmp_path, text):
    folder(tmp_path / "p", a=2, b=2)
    rows = [(f"p/{label}/{number}.png", label) for label in "ab" for number in (0, 1)]
    if text.startswith("label"):
        lines = [f"{label};{path}" for path, label in rows]
    elif "\t" in text:
        lines = [f"{path}\t{label}\t{'val' if path.endswith('1.png') else 'train'}" for path, label in rows]
    else:
        lines = [f"{path},{label}" for path, label in rows]
    (tmp_path / "list.csv").write_text(text + "\n".join([*lines, ""]))
    found = load_folder(tmp_path / "list.csv", validation=0)
    assert found.classes == ("a", "b")
    assert len(found) == 4
    assert (found.validation is not None) == ("split" in text)


def test_csv_refusals(tmp_path):
    folder(tmp_path, a=2, b=2)
    path = tmp_path / "list.csv"
    path.write_text("path,label\na/0.png,a\na/1.png,\n")
    with pytest.raises(DataError, match=r"line 3: 'a/1.png' has no label"):
        load_folder(path)
    path.write_text("a/0.png\na/1.png\n")
    with pytest.raises(DataError, match=r"line 1: 'a/0.png' has no label"):
        load_folder(path)
    path.write_text("")
    with pytest.raises(DataError, match=r"is empty"):
        load_folder(path)
    path.write_text("path,label,split\na/0.png,a,later\n")
    with pytest.raises(DataError, match=r"split 'later' is not train, validation or test"):
        load_folder(path)
    path.write_text("a/0.png,a\na/0.png,b\n")
    with pytest.raises(DataError, match=r"lists a picture twice: .*a/0.png"):
        load_folder(path)
    path.write_text("x.png,a\ny.png,b\n")
    with pytest.raises(DataError, match=r"lists no picture that can be read .x.png: no such file; 1 more"):
        load_folder(path)


def test_csv_lists_what_is_missing(tmp_path):
    folder(tmp_path, a=2, b=2)
    (tmp_path / "list.csv").write_text("a/0.png,a\na/1.png,a\nb/0.png,b\nb/7.png,b\n")
    found = load_folder(tmp_path / "list.csv", validation=0)
    assert len(found) == 3
    assert found.skipped[0].reason == "no such file"


# --- arrays ----------------------------------------------------------------------------------------------


def write_idx(path, array, *, packed=False):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    data = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if packed else data)


@pytest.mark.parametrize("packed", [False, True])
def test_idx(tmp_path, rng, packed):
    end = ".gz" if packed else ""
    for split, count in (("train", 20), ("t10k", 10)):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte{end}", rng.integers(0, 256, (count, 4, 5)), packed=packed)
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte{end}", np.arange(count) % 2, packed=packed)
    found = load_folder(tmp_path)
    assert {split: len(part) for split, part in found.splits.items()} == {"train": 16, "validation": 4, "test": 10}
    assert found.classes == ("0", "1")
    assert found.numbered
    assert found.test.read(3).shape == (4, 5)
    assert found.test.name(3) == f"t10k-images-idx3-ubyte{end}#3"
    np.savez(tmp_path / "other.npz", images=np.zeros((4, 3, 3), np.uint8), labels=[0, 1, 0, 1])
    assert len(load_folder(tmp_path / "other.npz")) == 4
    one = load_folder(tmp_path / f"train-images-idx3-ubyte{end}", validation=0)
    assert list(one.splits) == ["train"]
    assert len(one) == 20


def test_idx_refusals(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    write_idx(path, np.zeros((4, 3, 3)))
    with pytest.raises(DataError, match=r"has no labels beside it .such as train-labels-idx1-ubyte."):
        load_folder(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(3))
    with pytest.raises(DataError, match=r"4 pictures and 3 labels do not belong together"):
        load_folder(tmp_path)
    whole = path.read_bytes()
    for data, message in [
        (whole[:-1], "it is cut or damaged"),
        (whole + b"x", "it is cut or damaged"),
        (b"GIF89a", "is not an IDX file: it begins with 47 49 46 38"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "bytes; 17,179,869,184 is the limit"),
        (b"\0\0\x08\x02\x00\x00\xff\xff\x00\x00\xff\xff", "4,294,836,225 bytes; it is cut or damaged"),
        (gzip.compress(whole)[:-9], "is damaged"),
    ]:
        path.write_bytes(data)
        with pytest.raises(DataError, match=message):
            read_idx(str(path))


@pytest.mark.parametrize(
    "keys", [("images", "labels"), ("x", "y"), ("data", "target"), ("x_train", "y_train", "x_test", "y_test")]
)
def test_npz(tmp_path, rng, keys):
    arrays = {
        key: rng.integers(0, 255, (10, 4, 4, 3)).astype(np.uint8) if index % 2 == 0 else np.arange(10) % 2
        for index, key in enumerate(keys)
    }
    np.savez(tmp_path / "d.npz", **arrays)
    found = load_folder(tmp_path / "d.npz", validation=0)
    assert list(found.splits) == (["train", "test"] if len(keys) == 4 else ["train"])
    assert len(found.train) == 10
    assert found.train.read(0).shape == (4, 4, 3)


def test_npz_labels_may_be_names(tmp_path):
    np.savez(tmp_path / "d.npz", images=np.zeros((4, 3, 3), np.uint8), labels=np.array(["dog", "cat", "dog", "cat"]))
    found = load_folder(tmp_path / "d.npz", validation=0)
    assert found.classes == ("cat", "dog")
    assert found.train.labels.tolist() == [1, 0, 1, 0]


def test_npz_refusals(tmp_path):
    path = tmp_path / "d.npz"
    for arrays, message in [
        ({"a": np.zeros(3)}, "has a; 'images' and 'labels' would do"),
        ({"images": np.zeros((2, 3, 3)), "labels": np.array([{}, {}])}, "cannot be read"),
        ({"images": np.zeros((2, 9)), "labels": np.zeros(2, int)}, "pictures of shape 2x9"),
        ({"images": np.zeros((2, 3, 3)), "labels": np.zeros(2)}, "whole numbers are"),
        ({"images": np.full((2, 3, 3), np.nan), "labels": np.zeros(2, int)}, "NaN or infinity"),
    ]:
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message):
            load_folder(path)
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"is not an .npz file"):
        load_folder(path)


def test_numbers_sort_by_value_and_get_names(tmp_path):
    np.savez(tmp_path / "d.npz", images=np.zeros((24, 3, 3), np.uint8), labels=np.arange(24) % 12)
    found = load_folder(tmp_path / "d.npz", validation=0)
    assert found.classes[2] == "2"
    assert found.classes[10] == "10"
    named = found.renamed([f"class {number}" for number in range(12)])
    assert named.classes[10] == "class 10"
    with pytest.raises(DataError, match=r"3 names .'a', 'b', 'c'. for 12 classes"):
        found.renamed("abc")
    with pytest.raises(DataError, match=r"has names for its classes already"):
        named.renamed("abc")


def test_labels_in_another_list(tmp_path):
    found = load_folder(folder(tmp_path, a=2, b=2), validation=0)
    assert found.labels_in(found.train, ("c", "b", "a"), "it").tolist() == [2, 2, 1, 1]
    with pytest.raises(DataError, match=r"has the classes 'a', 'b', it knows 'a', 'c'; not among these: 'b'"):
        found.labels_in(found.train, ("a", "c"), "it")
    np.savez(tmp_path / "d.npz", images=np.zeros((4, 3, 3), np.uint8), labels=[1, 1, 0, 0])
    numbered = load_folder(tmp_path / "d.npz", validation=0)
    assert numbered.labels_in(numbered.train, ("shirt", "boot"), "it").tolist() == [1, 1, 0, 0]
    with pytest.raises(DataError, match=r"not among these: '0', '1'"):
        numbered.labels_in(numbered.train, ("shirt",), "it")


def test_numbers_of_folders_are_names(tmp_path):
    found = load_folder(folder(tmp_path, **{"1": 2, "2": 2}), validation=0)
    assert found.numbered
    with pytest.raises(DataError, match=r"has the classes '1', '2', it knows 'a', 'b', 'c'; not among these: '1', '2'"):
        found.labels_in(found.train, ("a", "b", "c"), "it")
    assert found.labels_in(found.train, ("2", "1"), "it").tolist() == [1, 1, 0, 0]


def test_labels_in_another_list_in_the_other_unicode_form(tmp_path):
    one, other = (unicodedata.normalize(form, "Kn\xf6del") for form in ("NFC", "NFD"))
    found = load_folder(folder(tmp_path, **{one: 2, "a": 2}), validation=0)
    assert found.classes == (one, "a")
    assert found.labels_in(found.train, ("a", other), "it").tolist() == [1, 1, 0, 0]
