"""TIFF files through the commands that filter pictures: extra samples, pages, damage."""

from __future__ import annotations

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
