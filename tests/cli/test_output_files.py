"""The inputs of a command, and the names of its results."""

from __future__ import annotations

import os

import click
import numpy as np
import pytest
from click.testing import CliRunner

from cnnfilter.cli import main
from cnnfilter.cli.input_files import find_sources
from cnnfilter.cli.options import FORMATS
from cnnfilter.cli.output_files import Naming, plan_targets
from cnnfilter.images.files import write_image
from cnnfilter.images.formats.detect import SUFFIXES
from cnnfilter.jobs.source_target import Source


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def picture(path, format="png"):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    write_image(path, np.zeros((2, 3), np.uint8), format=format)
    return path


def names(inputs, output=None, format=None, tag="sharpen", to_stdout=False, **more):
    sources = [Source(path) for path in inputs]
    return [
        (target.path, target.format)
        for target in plan_targets(sources, Naming(output, format, tag, to_stdout=to_stdout), **more)
    ]


# --- naming


@pytest.mark.parametrize(
    ("source", "content", "output", "format", "expected"),
    [
        ("photo.jpg", "jpg", None, None, ("photo-sharpen.jpg", "jpg")),
        ("photo.jpeg", "jpg", None, None, ("photo-sharpen.jpg", "jpg")),
        ("photo.webp", "webp", None, None, ("photo-sharpen.webp", "webp")),
        ("photo.avif", "avif", None, None, ("photo-sharpen.avif", "avif")),
        ("photo.tif", "tiff", None, None, ("photo-sharpen.tiff", "tiff")),
        ("photo.jpg", "bmp", None, None, ("photo-sharpen.bmp", "bmp")),  # content decides, never the name
        ("photo.npy", "npy", None, None, ("photo-sharpen.npy", "npy")),
        ("deep/photo.png", "png", None, None, ("photo-sharpen.png", "png")),
        ("photo.jpg", "jpg", None, "jpg", ("photo-sharpen.jpg", "jpg")),
        ("photo.png", "png", "out.jpg", None, ("out.jpg", "jpg")),
        ("photo.png", "png", "out.JPEG", None, ("out.JPEG", "jpg")),
        ("photo.png", "png", "out.jpg", "webp", ("out.jpg", "webp")),
        ("photo.jpg", "jpg", "out", None, ("out", "jpg")),
        ("photo.bmp", "bmp", "out", None, ("out", "bmp")),
        ("photo.jpg", "jpg", "out/", None, ("out/photo.jpg", "jpg")),
        ("photo.JPEG", "jpg", "out/", None, ("out/photo.JPEG", "jpg")),
        ("photo.tif", "tiff", "out/", None, ("out/photo.tif", "tiff")),
        ("photo.jpeg", "png", "out/", None, ("out/photo.png", "png")),  # the name must say what is in it
        ("photo.pgm", "ppm", "out/", None, ("out/photo.ppm", "ppm")),
        ("photo.jpg", "jpg", "out/", "jpg", ("out/photo.jpg", "jpg")),
        ("photo.jpg", "jpg", "{stem}-x.{ext}", None, ("photo-x.jpg", "jpg")),
        ("photo.jpg", "jpg", "x-{name}", None, ("x-photo.jpg", "jpg")),
        ("deep/photo.png", "png", "out/{dir}/{stem}.webp", None, ("out/deep/photo.webp", "webp")),
        ("photo.png", "png", "new/{stem}.webp", None, ("new/photo.webp", "webp")),
        ("photo.png", "png", "{index:03}.png", None, ("001.png", "png")),
        ("photo.png", "png", "{{x}}.png", None, ("{x}.png", "png")),
        ("a.b.png", "png", "{stem}-x.{ext}", None, ("a.b-x.png", "png")),
    ],
)
def test_names_of_results(source, content, output, format, expected):
    picture(source, content)
    assert names([source], output, format) == [expected]


def test_a_folder_that_exists_needs_no_slash():
    os.mkdir("out.d")
    assert names([picture("a.png")], "out.d") == [("out.d/a.png", "png")]


def test_a_folder_with_braces_in_its_name():
    os.mkdir("{x}")
    assert names([picture("a.png")], "{x}/") == [("{x}/a.png", "png")]


@pytest.mark.parametrize(("content", "expected"), [("jpg", "png"), ("bmp", "png"), ("npy", "npy")])
def test_stdout_gets_png_or_npy(content, expected):
    source = picture("a.x", content)
    assert names([source], to_stdout=True) == [("-", expected)]
    assert names([source], "-") == [("-", expected)]
    assert names([source], "-", "webp") == [("-", "webp")]


def test_an_input_that_cannot_be_read_is_named_all_the_same():
    assert names(["nothere.jpg"]) == [("nothere-sharpen.png", "png")]


def test_a_tag_with_braces_is_no_template():
    assert names([picture("a.png")], tag="{x}") == [("a-{x}.png", "png")]


# --- refusals, all before any work


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("x.foo", "no picture format has the suffix '.foo'"),
        ("{foo}.png", "there is no {foo}; there are {stem} {name} {ext} {dir} {index} {page}"),
        ("{stem.__class__}.png", "there is no {stem.__class__}"),
        ("{}.png", "there is no {}"),
        ("{stem", "a brace that is meant is doubled"),
        ("{stem:d}.png", "cannot be filled in"),
        ("missing/x.png", "there is no folder 'missing'"),
        ("", "an empty name is no output"),
        ("a.png/", "is a file, not a folder"),
    ],
)
def test_an_output_that_cannot_be(output, message):
    with pytest.raises(click.BadParameter) as caught:
        names([picture("a.png")], output)
    assert message in str(caught.value)
    assert "--output" in caught.value.param_hint


def test_two_inputs_on_one_output():
    inputs = [picture("a/x.png"), picture("b/x.png")]
    with pytest.raises(click.BadParameter, match=r"'a/x\.png' and 'b/x\.png' would both be written to 'out/x\.png'"):
        names(inputs, "out/")
    assert not os.path.exists("out")
    with pytest.raises(click.BadParameter, match="stdout"):
        names(inputs, "-")
    assert names(inputs, "out/{dir}/{stem}.png") == [("out/a/x.png", "png"), ("out/b/x.png", "png")]


def test_two_names_of_one_output():
    inputs = [picture("a.png"), picture("b.png")]
    os.mkdir("real")
    os.symlink("real", "a")
    os.symlink("real", "b")
    with pytest.raises(click.BadParameter, match="both"):
        names(inputs, "{stem}/x.png")


def test_an_output_that_is_another_input_is_refused_even_with_force():
    inputs = [picture("a.png"), picture("x-a.png")]
    with pytest.raises(click.BadParameter, match="another input"):
        names(inputs, "x-{stem}.png", existing="force")


def test_existing_outputs_are_refused_without_force():
    inputs = [picture("a.png"), picture("b.png"), picture("c.png")]
    picture("b-x.png")
    picture("c-x.png")
    with pytest.raises(click.ClickException, match=r"b-x\.png: exists already \(and 1 more\); --force"):
        names(inputs, tag="x")
    assert len(names(inputs, tag="x", existing="force")) == 3


def test_a_dangling_link_exists_too():
    os.symlink("nowhere", "a-x.png")
    with pytest.raises(click.ClickException, match="exists already"):
        names([picture("a.png")], tag="x")


def test_the_input_itself_only_with_force():
    with pytest.raises(click.ClickException, match="exists already"):
        names([picture("a.png")], "{name}")
    assert names([picture("a.png")], "{name}", existing="force") == [("a.png", "png")]


def test_a_device_is_written_to_and_not_replaced():
    (target,) = plan_targets([Source(picture("a.png"))], Naming("/dev/null", None, "x", to_stdout=False))
    assert target.force


def test_a_folder_in_the_place_of_the_output():
    os.mkdir("a-x.png")
    with pytest.raises(click.BadParameter, match="is a folder"):
        names([picture("a.png")], tag="x", existing="force")


# --- folders


def found(*inputs, recursive=True, **more):
    return [source.path for source in find_sources(inputs, recursive, **more)]


def test_a_folder_is_walked_sorted_and_without_hidden_entries():
    for path in ("p/b.png", "p/a.png", "p/z/c.png", "p/.hidden.png", "p/.git/d.png", "p/y/d.png"):
        picture(path)
    assert found("p") == ["p/a.png", "p/b.png", "p/y/d.png", "p/z/c.png"]


def test_only_pictures_are_taken_from_a_folder_by_name_or_content():
    picture("p/a.png")
    picture("p/nameless", "bmp")
    with open("p/notes.txt", "w") as file:
        file.write("not a picture")
    with open("p/noise.bin", "wb") as file:
        file.write(bytes([0, 0, 2] + [0] * 9 + [1, 0, 1, 0, 24, 0]))  # what a TGA header would look like
    with open("p/broken.jpg", "w") as file:
        file.write("this is to be reported, not passed over")
    assert found("p") == ["p/a.png", "p/broken.jpg", "p/nameless"]


def test_files_beside_folders_are_taken_as_they_are():
    picture("p/a.png")
    assert found("notes.txt", "p", "-", ".hidden.png") == ["notes.txt", "p/a.png", "-", ".hidden.png"]


def test_without_recursive_a_folder_is_left_for_reading_to_refuse():
    picture("p/a.png")
    assert found("p", recursive=False) == ["p"]


def test_the_folder_of_the_results_is_not_read():
    picture("p/a.png")
    picture("p/out/a.png")
    assert found("p", leave_out="p/out/") == ["p/a.png"]


def test_a_folder_without_pictures_is_refused():
    os.mkdir("p")
    with pytest.raises(click.BadParameter, match="no picture in the folder 'p'"):
        found("p")


def test_a_loop_of_links_ends():
    picture("p/a.png")
    os.symlink(".", "p/loop")
    assert found("p") == ["p/a.png"]


def test_the_formats_of_the_option_can_all_be_written():
    assert set(FORMATS) <= set(SUFFIXES.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["describe", "digits", "--filters", "x.foo"],
            "Invalid value for '--filters': no picture format has the suffix",
        ),
        (["features", "nothere.png", "-o", "no/x.npy"], "Error: no/x.npy: there is no folder 'no'"),
        (["evaluate", "digits", "nothere", "--plot", "no/x.png"], "Error: no/x.png: there is no folder 'no'"),
        (
            ["evaluate", "digits", "nothere", "--calibrate", "-o", "no/m.safetensors"],
            "Error: no/m.safetensors: there is no folder 'no'",
        ),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(arguments, message):
    assert message in CliRunner().invoke(main, arguments).stderr
