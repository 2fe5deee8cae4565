"""TIFF files through the commands that filter pictures: extra samples, pages, damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from cnnfilter.cli import main
from cnnfilter.images.files import read_image

DOWN_BY_ONE = "0 1 0; 0 0 0; 0 0 0"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*args, input=None, code=0):
    done = CliRunner().invoke(main, args, input=input)
    assert done.exit_code == code, done.output
    return done


def random_pixels(shape, dtype, seed=1):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def moved(pixels):
    """The pixels moved down by one row, with the first row repeated."""
    return pixels[[0, *range(len(pixels) - 1)]]


def pooled(pixels):
    """The largest value of each window of 2x2."""
    height, width = (side // 2 for side in pixels.shape[:2])
    return pixels[: 2 * height, : 2 * width].reshape(height, 2, width, 2, *pixels.shape[2:]).max((1, 3))


# --- extra samples


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("photometric", "channels"), [("rgb", 4), ("rgb", 6), ("minisblack", 2), ("separated", 5)])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_extra_samples_are_filtered_like_the_others(dtype, photometric, channels, planes):
    pixels = random_pixels((9, 11, channels), dtype)
    colours = {"rgb": 3, "minisblack": 1, "separated": 4}[photometric]
    stored = np.moveaxis(pixels, 2, 0) if planes == "separate" else pixels
    options = {"photometric": photometric, "planarconfig": planes, "extrasamples": [0] * (channels - colours)}
    tifffile.imwrite("in.tif", stored, metadata=None, **options)
    run("convolve", "in.tif", "-k", DOWN_BY_ONE, "-o", "moved.tif")
    run("pool", "in.tif", "-o", "pooled.tif")
    run("apply", f"conv '{DOWN_BY_ONE}'", "in.tif", "-o", "applied.tif")
    for name, right in [("moved", moved(pixels)), ("pooled", pooled(pixels)), ("applied", moved(pixels))]:
        result = tifffile.imread(f"{name}.tif")
        assert result.dtype == dtype, name
        np.testing.assert_array_equal(result, right, err_msg=name)


def test_maps_of_several_kernels_keep_extra_samples_and_inks():
    pixels = random_pixels((9, 11, 4), np.uint8)
    for photometric, extra in [("rgb", [0]), ("separated", None)]:
        tifffile.imwrite("in.tif", pixels, photometric=photometric, extrasamples=extra, metadata=None)
        kernels = ["-k", "identity", "-k", DOWN_BY_ONE]
        run("convolve", "in.tif", *kernels, "--combine", "stack", "-o", "out.tif", "--force")
        with tifffile.TiffFile("out.tif") as file:
            for page, right in zip(file.pages, [pixels, moved(pixels)], strict=True):
                assert page.photometric.name == photometric.upper()
                assert page.extrasamples == tuple(extra or ())
                np.testing.assert_array_equal(page.asarray(), right)


@pytest.mark.parametrize("command", [["convolve", "-k", "identity"], ["pool"], ["apply", "relu", "--no-sheet"]])
def test_extra_samples_are_never_alpha_of_a_png(command):
    tifffile.imwrite("in.tif", random_pixels((9, 11, 4), np.uint8), photometric="rgb", extrasamples=[0])
    done = run(*command, "in.tif", "-o", "out.png", code=1)
    assert "png cannot hold 4 channels; npy and tiff can" in done.output


def test_maps_that_are_no_samples_stay_pages():
    pixels = random_pixels((9, 11, 2), np.uint8)
    options = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": [0]}
    tifffile.imwrite("in.tif", pixels, metadata=None, **options)
    run("apply", "conv identity identity", "in.tif", "--no-sheet", "-o", "out.tif")
    assert len(read_image("out.tif").frames) == 4


# --- pages

PAGES = [
    ((20, 30), np.uint8, {"photometric": "minisblack"}),
    ((10, 12, 3), np.uint16, {"photometric": "rgb"}),
    ((10, 12, 3), np.uint8, {"photometric": "rgb"}),
    ((24, 30), np.float32, {"photometric": "minisblack"}),
    ((8, 9, 5), np.uint16, {"photometric": "rgb", "extrasamples": [0, 0], "planarconfig": "contig"}),
]


def write_pages(path, kinds=PAGES):
    arrays = [random_pixels(shape, dtype, seed) for seed, (shape, dtype, _) in enumerate(kinds)]
    with tifffile.TiffWriter(path) as writer:
        for array, (_, _, how) in zip(arrays, kinds, strict=True):
            writer.write(array, metadata=None, **how)
    return arrays


def pages_of(path):
    with tifffile.TiffFile(path) as file:
        return [page.asarray() for page in file.pages]


def are_same(pages, arrays):
    assert len(pages) == len(arrays)
    for page, array in zip(pages, arrays, strict=True):
        assert page.dtype == array.dtype
        np.testing.assert_array_equal(page, array)


def test_every_page_is_filtered_in_its_own_size_depth_and_kind():
    arrays = write_pages("in.tif")
    run("convolve", "in.tif", "-k", DOWN_BY_ONE, "-o", "moved.tif")
    are_same(pages_of("moved.tif"), [moved(array) for array in arrays])
    run("pool", "in.tif", "-o", "pooled.tif")
    are_same(pages_of("pooled.tif"), [pooled(array) for array in arrays])
    run("apply", f"conv '{DOWN_BY_ONE}' | maxpool 2", "in.tif", "-o", "applied.tif")
    are_same(pages_of("applied.tif"), [pooled(moved(array)) for array in arrays])
    run("pool", "in.tif", "--global", "-o", "global.tif")
    are_same(pages_of("global.tif"), [array.max((0, 1), keepdims=True) for array in arrays])


def test_maps_of_several_kernels_are_pages_of_each_page():
    arrays = write_pages("in.tif")
    run("convolve", "in.tif", "-k", "identity", "-k", DOWN_BY_ONE, "--combine", "stack", "-o", "out.tif")
    are_same(pages_of("out.tif"), [page for array in arrays for page in (array, moved(array))])


def test_stretch_takes_one_range_for_pages_of_different_depth():
    wide = np.array([[0, 65535], [13107, 52428]], np.uint16)
    narrow = np.array([[51, 102, 204]], np.uint8)
    with tifffile.TiffWriter("in.tif") as writer:
        for array in (wide, narrow):
            writer.write(array, photometric="minisblack", metadata=None)
    for command in (["convolve", "-k", "identity"], ["apply", "conv identity"]):
        run(*command, "in.tif", "--signed", "stretch", "-o", "out.tif", "--force")
        are_same(pages_of("out.tif"), [wide, narrow])  # black and white of the first page are the ends of the range


def test_a_network_is_applied_to_each_page():
    write_pages("in.tif", PAGES[:3])
    run("apply", "efficientnet-lite0[:1]", "in.tif", "-o", "out.tif")
    pages = read_image("out.tif")
    assert len(pages.frames) == 3  # a contact sheet of each


def test_only_the_first_page_is_read_for_a_format_that_holds_one():
    arrays = write_pages("in.tif")
    done = run("pool", "in.tif", "-o", "out.png")
    assert "in.tif: png holds one page: the first of 5 is written; tiff would keep all" in done.stderr
    np.testing.assert_array_equal(read_image("out.png").pixels[:, :, 0], pooled(arrays[0]))


@pytest.mark.parametrize("command", [["classify"], ["features", "-o", "out.npy"]])
def test_only_the_first_page_is_classified(command):
    write_pages("in.tif")
    first = random_pixels((20, 30), np.uint8, 0)
    tifffile.imwrite("first.tif", first, photometric="minisblack")
    done = run(*command, "in.tif")
    assert "in.tif: only the first of 5 pages is " in done.stderr
    if command == ["classify"]:
        assert done.stdout.replace("in.tif", "first.tif") == run("classify", "first.tif").stdout


# --- the choice of pages


def test_chosen_pages():
    arrays = write_pages("in.tif")
    run("convolve", "in.tif", "-k", DOWN_BY_ONE, "--pages", "2,4-", "-o", "moved.tif")
    are_same(pages_of("moved.tif"), [moved(arrays[index]) for index in (1, 3, 4)])
    run("pool", "in.tif", "--pages", "3", "-o", "pooled.png")
    np.testing.assert_array_equal(read_image("pooled.png").pixels, pooled(arrays[2]))
    run("apply", f"conv '{DOWN_BY_ONE}'", "in.tif", "--pages", "2,1", "-o", "applied.tif")
    are_same(pages_of("applied.tif"), [moved(arrays[1]), moved(arrays[0])])


def test_a_page_that_is_not_there():
    write_pages("in.tif")
    done = run("pool", "in.tif", "--pages", "4-6", "-o", "out.tif", code=1)
    assert done.stderr == "Error: in.tif: there is no page 6; it has 5 pages\n"
    done = run("pool", "in.tif", "--pages", "0", "-o", "out.tif", code=2)
    assert "'0' is not a list of pages, counted from 1, such as 2 or 1,3-5 or 4-." in done.stderr


@pytest.mark.parametrize("source", ["in.tif", "-"])
def test_a_file_for_each_page(source):
    arrays = write_pages("in.tif")
    data = Path("in.tif").read_bytes() if source == "-" else None
    run("pool", source, "-o", "out/{stem}-{page}-{index}.tif", input=data)
    stem = "stdin" if source == "-" else "in"
    for number, array in enumerate(arrays, 1):
        are_same(pages_of(f"out/{stem}-{number}-1.tif"), [pooled(array)])
    run("pool", source, "--pages", "3,2", "-o", "{page:03}.png", input=data)
    np.testing.assert_array_equal(read_image("003.png").pixels, pooled(arrays[2]))
    np.testing.assert_array_equal(read_image("002.png").pixels, pooled(arrays[1]))


def test_a_file_for_each_page_of_several_inputs():
    arrays = write_pages("a.tif", PAGES[:2])
    tifffile.imwrite("b.tif", arrays[0], photometric="minisblack")
    run("convolve", "-k", "identity", "a.tif", "b.tif", "-o", "{index}{stem}{page}.tif")
    for name, array in [("1a1", arrays[0]), ("1a2", arrays[1]), ("2b1", arrays[0])]:
        are_same(pages_of(f"{name}.tif"), [array])
    Path("1a2.tif").unlink()
    run("convolve", "-k", "identity", "a.tif", "-o", "{index}{stem}{page}.tif", "--skip-existing")
    are_same(pages_of("1a2.tif"), [arrays[1]])
    run("pool", "1a1.tif", "-o", "p{page}.png")  # a file with one page


def test_the_report_of_a_file_for_each_page_names_the_page():
    write_pages("in.tif", PAGES[:2])
    done = run("pool", "in.tif", "-o", "{page}.png", "--json")
    reports = [json.loads(line) for line in done.stdout.splitlines()[:2]]
    assert [(report["input"], report["page"], report["output"]) for report in reports] == [
        ("in.tif", 1, "1.png"),
        ("in.tif", 2, "2.png"),
    ]


def test_a_damaged_page_does_not_keep_the_others_from_their_files():
    arrays = write_pages("in.tif", [PAGES[0]] * 3)
    file = bytearray(Path("in.tif").read_bytes())
    with tifffile.TiffFile("in.tif") as opened:
        place = opened.pages[1].tags[259].valueoffset
    file[place : place + 2] = (60416).to_bytes(2, "little")
    Path("in.tif").write_bytes(file)
    done = run("pool", "in.tif", "-o", "out.tif", code=1)
    assert done.stderr.startswith("Error: in.tif: page 2: ")
    done = run("pool", "in.tif", "-o", "{page}.tif", code=1)
    assert "Error: in.tif: page 2: " in done.stderr
    are_same(pages_of("1.tif"), [pooled(arrays[0])])
    are_same(pages_of("3.tif"), [pooled(arrays[2])])


def test_a_file_that_ends_in_a_directory_gives_the_pages_before_it():
    arrays = write_pages("in.tif", [PAGES[0]] * 3)
    with tifffile.TiffFile("in.tif") as opened:
        end = opened.pages[2].offset + 20
    Path("cut.tif").write_bytes(Path("in.tif").read_bytes()[:end])
    done = run("pool", "cut.tif", "-o", "{page}.tif", code=1)
    assert "Error: cut.tif: page 3: " in done.stderr
    are_same(pages_of("1.tif") + pages_of("2.tif"), [pooled(array) for array in arrays[:2]])
    run("pool", "cut.tif", "--pages", "1,2", "-o", "out.tif")
    are_same(pages_of("out.tif"), [pooled(array) for array in arrays[:2]])
    done = run("pool", "cut.tif", "-o", "out.png")
    assert "page 3: its directory begins at byte" in done.stderr


@pytest.mark.parametrize(
    "command", [["pool", "--size", "9"], ["convolve", "-k", "gaussian:1", "--padding", "0"], ["apply", "maxpool 9"]]
)
def test_a_page_that_is_too_small_is_named(command):
    write_pages("in.tif")
    for pages in ([], ["--pages", "1,5"]):
        done = run(*command, "in.tif", *pages, "-o", "out.tif", code=1)
        assert done.stderr.startswith("Error: in.tif: page 5: ")


def test_other_formats_have_one_page():
    tifffile.imwrite("in.tif", random_pixels((9, 11, 3), np.uint8), photometric="rgb")
    run("convolve", "-k", "identity", "in.tif", "-o", "in.png")
    run("pool", "in.png", "--pages", "1", "-o", "out.png")
    done = run("pool", "in.png", "--pages", "2", "-o", "other.png", code=1)
    assert done.stderr == "Error: in.png: there is no page 2; it has 1 page\n"
    run("pool", "in.png", "-o", "p{page}.png")
    assert read_image("p1.png").pixels.shape == (4, 5, 3)
