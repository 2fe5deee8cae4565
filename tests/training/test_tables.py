"""Tables of labels: encodings, delimiters, headers, columns, one-hot tables, and how paths are written."""

from __future__ import annotations

import os
import unicodedata

import pytest
from PIL import Image

from cnnfilter import DataError, load_folder
from cnnfilter.training.data.tables import parse_columns

NAMES = {"a": "cat", "b": "dog", "c": "eel"}


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Return a function that writes a table of three pictures of each class, and loads it."""
    monkeypatch.chdir(tmp_path)
    for folder in NAMES:
        os.mkdir(folder)
        for number in range(3):
            Image.new("L", (4, 4), 80 * number + ord(folder) % 9).save(f"{folder}/{number}.png")

    def write(header, row, *, classes="ab", encoding="utf-8", end="\n", **options):
        lines = [header] * bool(header)
        lines += [row(folder, number) for number in range(3) for folder in classes]
        data = "".join(line + end for line in lines)
        with open("list.csv", "wb") as file:
            file.write(data.encode(encoding))
        return load_folder("list.csv", validation=0, **options)

    return write


def plain(folder, number):
    return f"{folder}/{number}.png,{NAMES[folder]}"


# --- columns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "row", "decisions"),
    [
        ("path,label", plain, "path = path, label = label"),
        ("image_name,class_name", plain, "image_name = path, class_name = label"),
        ("Image Name,Class-Name", plain, "Image Name = path, Class-Name = label"),
        ("id,breed", plain, "id = path, breed = label"),
        (None, plain, "1 = path, 2 = label"),
        (None, lambda k, n: f"{NAMES[k]},{k}/{n}.png", "2 = path, 1 = label"),
        (None, lambda k, n: f"{k}/{n}.png {NAMES[k]}", "1 = path, 2 = label"),
        ("path|label", lambda k, n: f"{k}/{n}.png|{NAMES[k]}", "path = path, label = label"),
        ("sep=;", lambda k, n: f"{k}/{n}.png;{NAMES[k]}", "1 = path, 2 = label"),
        (",image,label", lambda k, n: f"{n},{k}/{n}.png,{NAMES[k]}", "image = path, label = label"),
        ("name,breed,", lambda k, n: f"{k}/{n}.png,{NAMES[k]},{n}", "name = path, breed = label"),
        ("no,target,file", lambda k, n: f"{n},{NAMES[k]},{k}/{n}.png", "file = path, target = label"),
        ("file,w,h,class,x", lambda k, n: f"{k}/{n}.png,4,4,{NAMES[k]},{n}", "file = path, class = label"),
        ("id,file,label", lambda k, n: f"{n},{k}/{n}.png,{NAMES[k]}", "file = path, label = label"),
        ("file,label,label_name", lambda k, n: f"{k}/{n}.png,{ord(k)},{NAMES[k]}", "file = path, label_name = label"),
    ],
)
def test_columns_that_are_clear(table, header, row, decisions):
    found = table(header, row)
    assert found.classes == ("cat", "dog")
    assert found.train.counts(2).tolist() == [3, 3]
    assert found.decisions == f"columns: {decisions}; 2 classes"


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("file,w,h,kind", lambda k, n: f"{k}/{n}.png,4,4,{NAMES[k]}", "'file', 'w', 'h', 'kind'; which of them"),
        ("file,class,category", lambda k, n: f"{k}/{n}.png,{NAMES[k]},{n}", "'class' and 'category' may be the label"),
        ("file,label,label", lambda k, n: f"{k}/{n}.png,{NAMES[k]},{n}", "'label' and 'label' may be the label"),
        ("x,y,label", lambda k, n: f"{k}/{n}.png,{k}/{2 - n}.png,{NAMES[k]}", "'x' and 'y' name files"),
        ("x,y,label", lambda k, n: f"{k}{n},{n},{NAMES[k]}", "none names a file below . .--root DIR"),
        (None, lambda k, n: f"{k}/{n}.png,{NAMES[k]},{n}", "3 columns without names"),
        (None, lambda k, n: f"{k}/{n}.png,train,test", "2 and 3 name splits"),
        (None, lambda k, n: f"{k}/{n}.png,{int(k == 'a')},{int(k == 'b')}", "3 columns without names"),
        ("file,cat,dog", lambda k, n: f"{k}/{n}.png,1,{int(k == 'b')}", "line 3 has not one 1 in 'cat' and 'dog'"),
        ("file,cat,label", lambda k, n: f"{k}/{n}.png,{int(k == 'a')},{int(k == 'b')}", "'label' may be the label, or"),
    ],
)
def test_columns_that_can_mean_two_things_are_refused(table, header, row, message):
    with pytest.raises(DataError, match=f"{message}.*--columns PATH,LABEL"):
        table(header, row)


@pytest.mark.parametrize("columns", ["image,kind", "3,2", (3, 2), ("image", 2), "IMAGE, Kind"])
def test_columns_that_are_given(table, columns):
    found = table("no,kind,image", lambda k, n: f"{n},{NAMES[k]},{k}/{n}.png", columns=columns)
    assert found.classes == ("cat", "dog")
    assert found.decisions == "columns: image = path, kind = label; 2 classes"


def test_given_columns_come_before_known_words(table):
    found = table("path,label,set", lambda k, n: f"{k}/{n}.png,{n},{NAMES[k]}", columns="1,3")
    assert found.classes == ("cat", "dog")
    found = table("path,label,kind,set", lambda k, n: f"{k}/{n}.png,{n},{NAMES[k]},{n}", columns="path,kind")
    assert list(found.splits) == ["train"]
    found = table("path,kind,part", lambda k, n: f"{k}/{n}.png,{NAMES[k]},test", columns="path,kind,part")
    assert list(found.splits) == ["test"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("image", "is not PATH,LABEL"),
        ("image,", "is not PATH,LABEL"),
        ("image,colour", "has no column 'colour', but the columns 'no', 'kind', 'image'"),
        ("1,4", "has no column '4'"),
        ("image,3", "names one column twice"),
    ],
)
def test_given_columns_that_are_refused(table, columns, message):
    with pytest.raises(DataError, match=message):
        table("no,kind,image", lambda k, n: f"{n},{NAMES[k]},{k}/{n}.png", columns=columns)


def test_a_comma_in_the_name_of_a_column():
    assert parse_columns('image,"kind, of it"') == ["image", "kind, of it"]


def test_a_column_of_splits(table):
    for header in ("file,label,subset", "file,label,phase", None):
        found = table(header, lambda k, n: f"{k}/{n}.png,{NAMES[k]},{'Test' if n == 2 else 'train'}")
        assert {split: len(part) for split, part in found.splits.items()} == {"train": 4, "test": 2}
    assert "3 = split" in found.decisions


@pytest.mark.parametrize("marks", [("1", "0"), ("1.0", "0.0"), ("True", "False")])
def test_one_hot_tables(table, marks):
    found = table(
        "image,age,cat,dog,eel",
        lambda k, n: f"{k}/{n}.png,{30 + n}," + ",".join(marks[k != other] for other in NAMES),
        classes="abc",
    )
    assert found.classes == ("cat", "dog", "eel")
    assert all(found.train.name(i)[0] == "abc"[label] for i, label in enumerate(found.train.labels))
    assert found.decisions == "columns: image = path, cat, dog, eel = label (one-hot); 3 classes"


def test_a_class_without_a_picture_is_named(table):
    found = table("image,cat,dog,eel", lambda k, n: f"{k}/{n}.png,{int(k == 'a')},{int(k == 'b')},0")
    assert found.classes == ("cat", "dog")
    assert found.skipped == (("list.csv: eel", "a class without a picture"),)
    found = table("image,label", lambda k, n: plain(k, n) if k != "c" else f"gone/{n}.png,eel", classes="abc")
    assert found.skipped[-1] == ("list.csv: eel", "a class without a picture")


def test_torn_rows_are_refused(table):
    with pytest.raises(DataError, match="line 2 has 3 cells, the first line 2; a cell that holds the delimiter"):
        table("path,label", lambda k, n: f"{k}/{n}.png,{NAMES[k]}, large")


# --- text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "remark"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", ""),
        ("utf-16-le", ""),
        ("utf-16-be", ""),
        ("utf-32", ""),
        ("cp1252", "; read as cp1252, as it is not UTF-8"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_ends_of_lines(table, encoding, remark, end):
    found = table("path;label", lambda k, n: f"{k}/{n}.png;p\xe2t\xe9 {k}", encoding=encoding, end=end)
    assert found.classes == ("p\xe2t\xe9 a", "p\xe2t\xe9 b")
    assert found.decisions == f"columns: path = path, label = label; 2 classes{remark}"


def test_a_file_that_is_no_text_is_refused(tmp_path):
    for data in (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", b"path,label\na.png,\x81\n"):
        (tmp_path / "a.csv").write_bytes(data)
        with pytest.raises(DataError, match="is not a table in UTF-8, UTF-16 or cp1252"):
            load_folder(tmp_path / "a.csv")


def test_the_delimiter_is_the_one_whose_cells_name_files(table):
    found = table(None, lambda k, n: f"{k}/{n}.png;{NAMES[k]}, large")
    assert found.classes == ("cat, large", "dog, large")


def test_names_in_both_unicode_forms_are_one_class(table):
    found = table("path,label", lambda k, n: f"{k}/{n}.png,{unicodedata.normalize('NFD' if n else 'NFC', 'Äpfel')} {k}")
    assert found.classes == ("\xc4pfel a", "\xc4pfel b")


# --- paths -----------------------------------------------------------------------------------------------


def test_backslashes(table):
    found = table("path,label", lambda k, n: f"{k}\\{n}.png,{NAMES[k]}")
    assert len(found) == 6
    assert found.decisions.endswith("; backslashes are taken for slashes")


def test_a_file_whose_name_has_a_backslash_is_found_as_it_is(table):
    for name in "ab":
        for number in range(3):
            Image.new("L", (4, 4), number).save(f"{name}\\{number}.png")
    found = table("path,label", lambda k, n: f"{k}\\{n}.png,{NAMES[k]}")
    assert found.train.name(0) == "a\\0.png"


@pytest.mark.parametrize("header", ["id,label", None])
def test_ids_without_suffix(table, header):
    with pytest.raises(DataError, match=r"0: no such file; 0.png is there, so --suffix .png would do; 5 more"):
        table(header, lambda k, n: f"{k}/{n},{NAMES[k]}")
    for suffix in (".png", "png"):
        assert len(table(header, lambda k, n: f"{k}/{n},{NAMES[k]}", suffix=suffix)) == 6
    assert len(table(header, plain, suffix=".png")) == 6


def test_a_name_in_another_case_is_said(table):
    with pytest.raises(DataError, match=r"0.PNG: no such file; 0.png is there; 5 more"):
        table("id,label", lambda k, n: f"{k}/{n}.PNG,{NAMES[k]}")


def test_the_folder_of_the_paths(table, tmp_path):
    (tmp_path / "more").mkdir()
    os.rename("a", "more/a")
    os.rename("b", "more/b")
    with pytest.raises(DataError, match=r"no such file; 5 more.; --root DIR is the folder that paths start from"):
        table("path,label", plain)
    assert len(table("path,label", plain, root="more")) == 6
    assert len(table("path,label", plain, root=tmp_path / "more")) == 6
    with pytest.raises(DataError, match="there is no folder elsewhere"):
        table("path,label", plain, root="elsewhere")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_paths_in_the_other_unicode_form(table, form):
    os.rename("a", unicodedata.normalize(form, "\xe4"))
    other = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "\xe4")
    assert len(table("path,label", lambda k, n: plain(k, n).replace("a/", f"{other}/"))) == 6


def test_paths_in_the_bytes_of_the_table(table):
    os.rename(b"a", b"\xe4")
    found = table("path,label", lambda k, n: plain(k, n).replace("a/", "\xe4/"), encoding="cp1252")
    assert len(found) == 6


def test_a_picture_that_is_listed_in_two_spellings_is_refused(table):
    with pytest.raises(DataError, match=r"lists a picture twice: a/0.png"):
        table("path,label", lambda k, n: f"{k}/{n}.png,{NAMES[k]}\n./{k}/{n}.png,{NAMES[k]}")


@pytest.mark.parametrize("option", [{"columns": "a,b"}, {"root": "."}, {"suffix": ".png"}])
def test_options_of_tables_need_a_table(tmp_path, option):
    with pytest.raises(DataError, match=f"--{next(iter(option))} belongs to tables of labels"):
        load_folder(tmp_path, **option)


# --- what a spreadsheet writes


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("path\tlabel", lambda folder, number: f"{folder}/{number}.png\t{NAMES[folder]}"),
        ("", lambda folder, number: f"{folder}/{number}.png\t{NAMES[folder]}"),
        ('"path","label"', lambda folder, number: f'"{folder}/{number}.png","{NAMES[folder]}"'),
        ("label,path", lambda folder, number: f"{NAMES[folder]},{folder}/{number}.png"),
        ("path , label", lambda folder, number: f"{folder}/{number}.png , {NAMES[folder]}"),
        ("path,label,", lambda folder, number: f"{folder}/{number}.png,{NAMES[folder]},"),
        ("path,label", lambda folder, number: f"{os.path.abspath(folder)}/{number}.png,{NAMES[folder]}"),
        ("path,label", lambda folder, number: f"./{folder}/../{folder}/{number}.png,{NAMES[folder]}"),
    ],
)
def test_rows_of_every_style_are_the_same_table(table, header, row):
    found = table(header, row)
    assert found.classes == ("cat", "dog")
    assert found.train.counts(2).tolist() == [3, 3]
    assert not found.skipped


def test_a_quoted_path_may_have_the_delimiter_in_it(table):
    Image.new("L", (4, 4), 3).save("a/x, y.png")

    def row(folder, number):
        return '"a/x, y.png",cat' if (folder, number) == ("a", 2) else plain(folder, number)

    found = table("path,label", row)
    assert any(found.train.name(index).endswith("a/x, y.png") for index in range(len(found.train)))


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ("a/0.png,cat", r"lists a picture twice: a/0.png$"),
        ("./a/0.png,cat", r"lists a picture twice: a/0.png$"),
        ("a/0.png,dog", r"lists a picture twice: a/0.png, as 'cat' and as 'dog'$"),
        ("a/0.png,", r"line \d: 'a/0.png' has no label"),
        (",dog", r"line \d: 'dog' has no path"),
    ],
)
def test_rows_that_contradict_or_lack_something_are_refused(table, last, message):
    with pytest.raises(DataError, match=message):
        table("path,label", lambda folder, number: last if (folder, number) == ("b", 2) else plain(folder, number))


def test_a_table_of_one_class_is_refused(table):
    with pytest.raises(DataError, match=r"has one class only \('cat'\); a classifier needs two"):
        table("path,label", plain, classes="a").check()
