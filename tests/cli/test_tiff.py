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
