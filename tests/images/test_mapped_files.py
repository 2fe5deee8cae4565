"""npy and TIFF files that need not fit in memory: mapped, filtered piece by piece, with the same result."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image as Pillow

import cnnfilter
from cnnfilter.cli import main
from cnnfilter.errors import ImageError
from cnnfilter.images import mapped_files
from cnnfilter.images.formats.pillow import to_array
from cnnfilter.images.image import Image
from cnnfilter.images.metadata import Metadata
from cnnfilter.jobs import job


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(cnnfilter.__file__).parents[1]))


@pytest.fixture
def all_are_large(monkeypatch):
    call_all_large(monkeypatch)


def call_all_large(monkeypatch):
    monkeypatch.setattr(job, "MIN_MAPPED_BYTES", 0)
    monkeypatch.setattr(mapped_files, "MIN_MAPPED_BYTES", 0)
    monkeypatch.setattr(mapped_files, "MIN_UNPACKED_FILE_BYTES", 0)


@pytest.fixture
def mapped(monkeypatch):
    """The pictures that were mapped."""
    kept = []

    def noted(*args, map_picture=mapped_files.map_picture):
        image = map_picture(*args)
        if image is not None:
            kept.append(image)
        return image

    monkeypatch.setattr(mapped_files, "map_picture", noted)
    return kept


def invoke(*args, code=0):
    done = CliRunner().invoke(main, args)
    assert done.exit_code == code, done.output
    return done


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64", "int16", ">f4"])
@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,), (5,)])
@pytest.mark.parametrize(
    "command",
    [
        ["convolve", "-k", "gaussian:1.5"],
        ["convolve", "-k", "sobel", "--stride", "2", "--border", "reflect"],
        ["convolve", "-k", "laplacian", "-k", "sharpen", "--combine", "stack", "--padding", "3"],
        ["convolve", "-k", "unsharp:2,1", "--signed", "stretch", "--algorithm", "fft", "--dilation", "2"],
        ["pool", "--size", "3", "--stride", "2", "--padding", "1", "--ceil-mode"],
        ["pool", "--op", "avg", "--size", "4,5"],
        ["pool", "--op", "min", "--global"],
    ],
    ids=" ".join,
)
def test_a_mapped_file_gives_the_same_bytes(command, channels, dtype, rng, monkeypatch):
    np.save("in.npy", (rng.random((37, 41, *channels)) * 250).astype(dtype))
    invoke(*command, "in.npy", "-o", "expected.npy")
    call_all_large(monkeypatch)
    invoke(*command, "in.npy", "-o", "out.npy")
    assert Path("out.npy").read_bytes() == Path("expected.npy").read_bytes()
    assert sorted(os.listdir()) == ["expected.npy", "in.npy", "out.npy"]


def test_the_result_stands_in_the_file_and_nowhere_else(all_are_large, monkeypatch):
    kept = []
    monkeypatch.setattr(
        mapped_files.NewFile, "keep", lambda new, keep=mapped_files.NewFile.keep: (kept.append(new), keep(new))
    )
    np.save("in.npy", np.zeros((20, 20), np.uint8))
    invoke("convolve", "-k", "blur", "in.npy", "-o", "new/{stem}.npy")
    invoke("pool", "in.npy", "-o", "pooled.npy")
    assert len(kept) == 2
    assert np.load("new/in.npy").shape == (20, 20)


def test_the_input_itself_can_be_replaced(all_are_large):
    np.save("in.npy", np.arange(100, dtype=np.uint8).reshape(10, 10))
    invoke("pool", "in.npy", "-o", "in.npy", "--force")
    np.testing.assert_array_equal(np.load("in.npy"), np.arange(100).reshape(10, 10)[1::2, 1::2])
    assert os.listdir() == ["in.npy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in.npy", "--max-pixels", "300"], "400 pixels; the limit is 300"),
        (["cut.npy"], "the file is cut off"),
        (["in.npy", "--padding", "20", "--max-pixels", "400"], "the limit is 400"),
        (["in.npy", "-k", "box:31", "--padding", "valid"], "does not fit"),
    ],
)
def test_what_fails_leaves_nothing(arguments, message, all_are_large):
    np.save("in.npy", np.zeros((20, 20), np.uint8))
    Path("cut.npy").write_bytes(Path("in.npy").read_bytes()[:-5])
    done = invoke("convolve", "-k", "blur", *arguments, "-o", "out.npy", code=1)
    assert message in done.stderr
    assert sorted(os.listdir()) == ["cut.npy", "in.npy"]


def test_a_run_that_fails_while_it_fills_the_file_leaves_nothing(all_are_large, monkeypatch):
    np.save("in.npy", np.zeros((20, 20), np.uint8))
    monkeypatch.setattr(
        "cnnfilter.filters.convolution.regions.store_band", lambda *args: (_ for _ in ()).throw(MemoryError)
    )
    done = invoke("convolve", "-k", "blur", "in.npy", "-o", "out.npy", code=1)
    assert "not enough memory" in done.stderr
    assert os.listdir() == ["in.npy"]


def test_a_disk_without_room_is_told_before_any_work():
    np.save("in.npy", np.zeros((3000, 8000, 3), np.uint8))
    line = [sys.executable, "-m", "cnnfilter", "convolve", "-k", "blur", "in.npy", "-o", "out.npy"]
    done = subprocess.run(["prlimit", "--fsize=100000000", *line], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "Error: out.npy: file too large\n")
    assert os.listdir() == ["in.npy"]


def test_small_files_are_not_mapped():
    np.save("in.npy", np.zeros((20, 20), np.uint8))
    tifffile.imwrite("in.tif", np.zeros((20, 20), np.uint8))
    with ExitStack() as stack:
        assert mapped_files.map_picture("in.npy", 1000, stack, lambda: None) is None
        assert mapped_files.map_picture("in.tif", 1000, stack, lambda: None) is None


def test_a_mapped_picture_is_checked(all_are_large):
    np.save("in.npy", np.zeros((20, 20, 3), np.float32))
    tifffile.imwrite("in.tif", np.zeros((20, 20, 3), np.float32), photometric="rgb")
    for name, format in (("in.npy", "npy"), ("in.tif", "tiff")):
        with ExitStack() as stack:
            image = mapped_files.map_picture(name, 1000, stack, lambda: None)
            assert (image.pixels.shape, image.mode, image.format) == ((20, 20, 3), "RGB", format)
            assert not image.pixels.flags.writeable
            with pytest.raises(ImageError, match="the limit is 399"):
                mapped_files.map_picture(name, 399, stack, lambda: None)


# --- stacks of layers

STACKS = [
    "conv sobel-h | relu | maxpool 2",
    "gray | conv gaussian:1.5 stride=2 border=replicate | abs | avgpool 3 stride=2 pad=1 ceil",
    "conv '1 2 1; 2 4 2; 1 2 1' '0 1 0; 1 -4 1; 0 1 0' pad=0 dilation=2 bias=3 | leaky:0.1 | minpool 2,3 stride=1",
    "conv sobel pad=3,1,0,2 border=constant:7 | maxpool 3 stride=2 pad=1 dilation=2 | sigmoid",
    "gray | conv box:2 box:2 box:2 | tanh | conv sharpen | maxpool 5 stride=3 ceil",
    "gray | conv laplacian border=reflect | relu",
    "conv gaussian:2 border=wrap | avgpool 2 ceil | conv sobel-h border=symmetric",
    "gray | conv blur | globalpool avg",
]


@pytest.mark.parametrize("layers", STACKS)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("alpha", ["keep", "filter", "drop"])
def test_a_stack_goes_over_a_mapped_picture_in_bands(layers, dtype, channels, alpha, rng, monkeypatch, mapped):
    if channels == 3 and alpha != "keep":
        return
    pixels = (rng.random((67, 41, channels)) * 250).astype(dtype)
    tifffile.imwrite("in.tif", pixels, photometric="rgb", extrasamples=["unassalpha"] * (channels - 3), metadata=None)
    for suffix in ("npy", "tif"):
        invoke("apply", layers, "in.tif", "-o", f"expected.{suffix}", "--alpha", alpha)
    call_all_large(monkeypatch)
    monkeypatch.setattr("cnnfilter.layers.bands._BAND_VALUES_MAX", 2000)
    for suffix in ("npy", "tif"):
        invoke("apply", layers, "in.tif", "-o", f"out.{suffix}", "--alpha", alpha)
        if channels == 3:  # how opaque all of a picture is, no band knows: a band may be filtered as if it had no alpha
            assert Path(f"out.{suffix}").read_bytes() == Path(f"expected.{suffix}").read_bytes()
        result, expected = (cnnfilter.read_image(f"{name}.{suffix}") for name in ("out", "expected"))
        assert (result.mode, result.pixels.dtype) == (expected.mode, expected.pixels.dtype)
        whole = result.pixels.dtype.kind == "u"
        difference = np.abs(result.pixels.astype(float) - expected.pixels)
        assert difference.max() <= (1 if whole else 1e-5 * max(1, np.abs(expected.pixels).max()))
    assert len(mapped) == 2


@pytest.mark.parametrize(
    ("layers", "suffix", "signed"),
    [
        ("conv sobel-h | flatten | relu", "npy", "auto"),
        ("conv gaussian:1.5 | flatten | softmax", "npy", "auto"),
        ("conv emboss border=reflect", "tif", "stretch"),
        ("globalpool max | leaky:2", "tif", "auto"),
        ("conv sobel-h blur", "tif", "auto"),
        ("gray | conv sobel-h blur pad=0,2500 | sigmoid", "tif", "auto"),  # wide: the tiles of the sheet shrink
    ],
)
def test_what_comes_of_all_of_a_mapped_picture(layers, suffix, signed, rng, monkeypatch, mapped):
    tifffile.imwrite("in.tif", rng.integers(0, 255, (67, 41, 3), np.uint8), photometric="rgb", metadata=None)
    line = ["apply", layers, "in.tif", "--signed", signed, "-o"]
    invoke(*line, f"expected.{suffix}")
    call_all_large(monkeypatch)
    monkeypatch.setattr("cnnfilter.layers.bands._BAND_VALUES_MAX", 2000)
    monkeypatch.setattr("cnnfilter.images.contact_sheets._BAND_SAMPLES_MAX", 500)
    invoke(*line, f"out.{suffix}")
    assert len(mapped) == 1
    assert Path(f"out.{suffix}").read_bytes() == Path(f"expected.{suffix}").read_bytes()
    assert sorted(os.listdir()) == sorted(["in.tif", f"expected.{suffix}", f"out.{suffix}"])


@pytest.mark.parametrize(
    "command",
    [
        ["convolve", "-k", "gaussian:1.5"],
        ["convolve", "-k", "sobel", "--stride", "2", "--border", "constant:9", "--dilation", "2"],
        ["convolve", "-k", "sobel-h", "-k", "laplacian", "--padding", "2,1,0,1", "--border", "zero"],
        ["convolve", "-k", "unsharp:1,1", "--border", "reflect"],
        ["convolve", "-k", "emboss", "--signed", "stretch"],
        ["pool", "--size", "3", "--stride", "2", "--padding", "1", "--ceil-mode"],
        ["pool", "--op", "avg", "--size", "4,5", "--padding", "2", "--ceil-mode", "--no-count-include-pad"],
        ["pool", "--op", "min", "--global"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("alpha", ["keep", "filter", "drop", "opaque"])
def test_alpha_is_filtered_in_bands(command, dtype, alpha, rng, monkeypatch, mapped):
    pixels = rng.random((67, 41, 4))
    pixels[:30, :, 3] = 1  # opaque
    pixels = (pixels * (1 if dtype == "f4" else np.iinfo(dtype).max)).astype(dtype)
    if alpha == "opaque":
        pixels[:, :, 3] = pixels[0, 0, 3]
    tifffile.imwrite("in.tif", pixels, photometric="rgb", extrasamples=["unassalpha"], metadata=None)
    how = [*command, "in.tif", "--alpha", "keep" if alpha == "opaque" else alpha]
    invoke(*how, "-o", "expected.tif")
    call_all_large(monkeypatch)
    monkeypatch.setattr("cnnfilter.filters.images._BAND_SAMPLES", 2000)
    invoke(*how, "-o", "out.tif")
    result, expected = (cnnfilter.read_image(name) for name in ("out.tif", "expected.tif"))
    assert (result.mode, result.pixels.dtype) == (expected.mode, expected.pixels.dtype)
    difference = np.abs(result.pixels.astype(float) - expected.pixels)
    assert difference.max() <= (1e-5 if dtype == "f4" else 1)
    assert len(mapped) == 1


# --- TIFF

LAYOUTS = [{}, {"rowsperstrip": 5}, {"tile": (16, 32)}, {"planarconfig": "separate", "rowsperstrip": 7}]
KINDS = ["u1", "u2", ">u2", "f4", ">f4", "f8", "i2"]
SOBEL = ["convolve", "-k", "sobel", "--stride", "2", "--border", "reflect"]


def write_tiff(path, pixels, **options):
    order = ">" if pixels.dtype.byteorder == ">" else "<"
    photometric = "rgb" if pixels.ndim == 3 and pixels.shape[2] == 3 else "minisblack"
    if options.get("planarconfig") == "separate":
        pixels = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    tifffile.imwrite(path, pixels, **{"photometric": photometric, "byteorder": order, "metadata": None} | options)


@pytest.mark.parametrize("packing", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", KINDS)
def test_a_mapped_tiff_gives_the_same_bytes(dtype, layout, packing, rng, monkeypatch, mapped):
    if "f" in dtype and "predictor" in packing:
        packing = {"compression": "zlib"}  # tifffile has no other predictor by itself
    write_tiff("in.tif", (rng.random((37, 41, 3)) * 250).astype(dtype), resolution=(30, 20), **layout, **packing)
    for suffix in ("tif", "npy"):
        invoke(*SOBEL, "in.tif", "-o", f"expected.{suffix}")
    assert not mapped
    call_all_large(monkeypatch)
    for suffix in ("tif", "npy"):
        invoke(*SOBEL, "in.tif", "-o", f"out.{suffix}")
        assert Path(f"out.{suffix}").read_bytes() == Path(f"expected.{suffix}").read_bytes()
    assert len(mapped) == 2
    assert not [name for name in os.listdir() if name.startswith(".")]


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "miniswhite"},
        {"bigtiff": True, "software": "of a scanner"},
        {"extratags": [(274, "H", 1, 6, True)], "resolution": (30, 20)},
        {"extratags": [(274, "H", 1, 3, True)], "compression": "zlib"},
        {"extratags": [(274, "H", 1, 7, True)], "tile": (16, 16)},
        {"extratags": [(700, "B", 5, b"<xmp>", True)], "description": "scanned"},
    ],
    ids=str,
)
@pytest.mark.parametrize("command", [["convolve", "-k", "sharpen"], ["pool", "--op", "avg"]], ids=" ".join)
def test_what_a_tiff_says_beside_its_pixels(command, options, rng, monkeypatch, mapped):
    write_tiff("in.tif", rng.integers(0, 60000, (24, 33), np.uint16), **options)
    for more in ([], ["--strip"]):
        invoke(*command, "in.tif", "-o", "expected.tif", *more, "--force")
        with monkeypatch.context() as patches:
            call_all_large(patches)
            invoke(*command, "in.tif", "-o", "out.tif", *more, "--force")
        assert Path("out.tif").read_bytes() == Path("expected.tif").read_bytes()
    assert len(mapped) == 2


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("command", [SOBEL, ["pool"]], ids=" ".join)
def test_a_mapped_tiff_keeps_its_extra_samples(command, layout, rng, monkeypatch, mapped):
    pixels = rng.integers(0, 60000, (37, 41, 5), np.uint16)
    write_tiff("in.tif", pixels, **{"planarconfig": "contig", "extrasamples": [0] * 4} | layout)
    invoke(*command, "in.tif", "-o", "expected.tif")
    call_all_large(monkeypatch)
    invoke(*command, "in.tif", "-o", "out.tif")
    assert Path("out.tif").read_bytes() == Path("expected.tif").read_bytes()
    assert tifffile.imread("out.tif").shape[2] == 5
    assert len(mapped) == 1


@pytest.mark.parametrize("code", [5, 8, 32773], ids=["LZW", "Deflate", "PackBits"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_compressions_of_other_writers(code, dtype, predictor, rng, monkeypatch, mapped):
    cv2 = pytest.importorskip("cv2")
    options = [
        cv2.IMWRITE_TIFF_COMPRESSION,
        code,
        cv2.IMWRITE_TIFF_PREDICTOR,
        predictor,
        cv2.IMWRITE_TIFF_ROWSPERSTRIP,
        8,
    ]
    assert cv2.imwrite("in.tif", (rng.random((61, 35, 3)) * 250).astype(dtype), options)
    invoke(*SOBEL, "in.tif", "-o", "expected.tif")
    call_all_large(monkeypatch)
    monkeypatch.setattr("cnnfilter.images.formats.tiff_segments._READ_BYTES", 3000)
    invoke(*SOBEL, "in.tif", "-o", "out.tif")
    assert Path("out.tif").read_bytes() == Path("expected.tif").read_bytes()
    assert len(mapped) == 1


def test_pages_and_palettes_are_read_as_a_whole(rng, all_are_large, mapped):
    tifffile.imwrite("pages.tif", rng.integers(0, 255, (3, 20, 30), np.uint8), photometric="minisblack")
    Pillow.fromarray(rng.integers(0, 255, (20, 30), np.uint8)).convert("P").save("palette.tif")
    Pillow.fromarray(rng.integers(0, 255, (20, 30, 3), np.uint8)).save("jpeg.tif", compression="jpeg")
    for name in ("pages", "palette", "jpeg"):
        invoke("convolve", "-k", "blur", f"{name}.tif", "-o", f"{name}-out.tif")
    assert not mapped


def test_smaller_copies_of_the_page_are_left_out(rng, all_are_large, mapped):
    pixels = rng.integers(0, 255, (40, 60), np.uint8)
    with tifffile.TiffWriter("in.tif") as writer:
        writer.write(pixels, photometric="minisblack", tile=(16, 16))
        writer.write(pixels[::2, ::2], photometric="minisblack", subfiletype=1)
    invoke("convolve", "-k", "identity", "in.tif", "-o", "out.tif")
    np.testing.assert_array_equal(tifffile.imread("out.tif"), pixels)
    assert len(mapped) == 1


def test_a_segment_that_is_damaged(rng, all_are_large):
    write_tiff("in.tif", rng.integers(0, 255, (40, 60), np.uint8), compression="zlib", rowsperstrip=10)
    with tifffile.TiffFile("in.tif") as file:
        start = file.pages[0].dataoffsets[2]
    data = bytearray(Path("in.tif").read_bytes())
    data[start : start + 20] = b"x" * 20
    Path("in.tif").write_bytes(data)
    done = invoke("convolve", "-k", "blur", "in.tif", "-o", "out.tif", code=1)
    assert done.stderr.startswith("Error: in.tif: cannot be decoded as tiff")
    assert os.listdir() == ["in.tif"]


def test_a_tiff_whose_pixels_are_not_all_there(all_are_large):
    write_tiff("in.tif", np.zeros((40, 60), np.uint16))
    os.truncate("in.tif", os.path.getsize("in.tif") - 100)
    done = invoke("convolve", "-k", "blur", "in.tif", "-o", "out.tif", code=1)
    assert done.stderr.startswith("Error: in.tif: ")
    assert os.listdir() == ["in.tif"]


@pytest.mark.parametrize("command", [["convolve", "-k", "blur"], ["pool"]], ids=" ".join)
@pytest.mark.parametrize("format", ["npy", "tiff"])
def test_a_mapped_picture_goes_to_stdout_too(command, format, rng, monkeypatch, mapped):
    write_tiff("in.tif", rng.integers(0, 255, (40, 60, 3), np.uint8))
    expected = invoke(*command, "in.tif", "-f", format, "-o", "-").stdout_bytes
    call_all_large(monkeypatch)
    assert invoke(*command, "in.tif", "-f", format, "-o", "-").stdout_bytes == expected
    assert len(mapped) == 1


def test_a_file_of_4_gib_has_large_offsets(rng, monkeypatch, mapped):
    pixels = rng.integers(0, 255, (40, 60, 3), np.uint8)
    write_tiff("in.tif", pixels, description="of a scanner", resolution=(30, 20))
    monkeypatch.setattr("cnnfilter.images.formats.tiff_tags.MAX_CLASSIC_BYTES", 6000)
    monkeypatch.setattr("cnnfilter.images.coding.tiff_layout._MAX_STRIP_BYTES", 1000)
    invoke("convolve", "-k", "identity", "in.tif", "-o", "expected.tif")
    assert not mapped
    call_all_large(monkeypatch)
    invoke("convolve", "-k", "identity", "in.tif", "-o", "out.tif")
    assert len(mapped) == 1
    assert Path("out.tif").read_bytes() == Path("expected.tif").read_bytes()
    assert Path("out.tif").read_bytes()[:4] == b"II+\0"
    with tifffile.TiffFile("out.tif") as file:
        (page,) = file.pages
        np.testing.assert_array_equal(page.asarray(), pixels)
        assert page.is_contiguous
        assert (page.rowsperstrip, len(page.dataoffsets)) == (5, 8)
        assert page.description == "of a scanner"
    with Pillow.open("out.tif") as picture:
        np.testing.assert_array_equal(np.array(picture), pixels)
        assert picture.info["dpi"] == (30, 20)
    again = cnnfilter.read_image("out.tif")
    assert again.metadata.exif == cnnfilter.read_image("in.tif").metadata.exif


def test_a_file_of_4_gib_has_no_room_for_what_the_camera_said(monkeypatch):
    exif = Pillow.Exif()
    exif[271] = "Maker"
    exif.get_ifd(0x8769)[33434] = 0.5
    image = Image(
        np.zeros((40, 60, 1), np.uint8), "L", metadata=Metadata(exif=exif.tobytes().removeprefix(b"Exif\0\0"))
    )
    cnnfilter.write_image("in.tif", image)
    monkeypatch.setattr("cnnfilter.images.formats.tiff_tags.MAX_CLASSIC_BYTES", 6000)
    done = invoke("convolve", "-k", "identity", "in.tif", "-o", "out.tif")
    assert done.stderr.count("without what its camera said") == 1
    with Pillow.open("out.tif") as picture:
        assert picture.getexif()[271] == "Maker"


def test_a_disk_without_room_for_the_unpacked_pixels():
    write_tiff("in.tif", np.zeros((9000, 11000, 3), np.uint8), compression="zlib", rowsperstrip=100)
    line = [
        sys.executable,
        "-m",
        "cnnfilter",
        "convolve",
        "-k",
        "blur",
        "in.tif",
        "-o",
        "out.tif",
        "--max-pixels",
        "1000000000",
    ]
    done = subprocess.run(["prlimit", "--fsize=100000000", *line], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "file too large" in done.stderr
    assert os.listdir() == ["in.tif"]


PEAK = """
import re
from cnnfilter.cli import main
from cnnfilter.images.formats.pillow import to_array
try:
    main(prog_name="cnnfilter")
finally:
    print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) >> 10)
"""


LARGE_SHAPE = (5000, 20_000, 3)


def write_large_npy():
    with open("in.npy", "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": LARGE_SHAPE}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 3 * 100_000_000)  # a hole, which reads as zeros


def write_large_tiff():
    tifffile.imwrite("in.tif", shape=LARGE_SHAPE, dtype=np.uint8, photometric="rgb")


def write_packed_tiff():
    tiles = (np.full((80, 20_000, 3), number, np.uint8) for number in range(63))
    options = {"tile": (80, 20_000), "compression": "zlib", "photometric": "rgb"}
    tifffile.imwrite("in.tif", tiles, shape=LARGE_SHAPE, dtype=np.uint8, **options)


BLUR = ["convolve", "-k", "gaussian:2", "--signed", "clip"]
SOBEL_CLIPPED = ["convolve", "-k", "sobel", "--signed", "clip"]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("write", "command"),
    [
        (write_large_npy, BLUR),
        (write_large_npy, SOBEL_CLIPPED),
        (write_large_npy, ["pool"]),
        (write_large_tiff, BLUR),
        (write_packed_tiff, ["pool"]),
        (write_large_tiff, ["apply", "conv sobel-h | relu | maxpool 2"]),
        (write_packed_tiff, ["apply", "conv sobel-h border=reflect | maxpool 2", "--signed", "stretch"]),
        (write_large_npy, ["apply", "gray | conv gaussian:2 border=wrap | globalpool avg"]),
        (write_large_npy, ["apply", "gray | maxpool 2 | flatten"]),
    ],
)
def test_the_memory_does_not_grow_with_the_picture(write, command):
    """300 MB in and out, in less than 200 MB over what an idle process takes.

    The peak counts the pages of mapped files, which a thread releases every few milliseconds. On a busy machine that
    thread may not run at all, so a peak that is too high is measured again.
    """
    write()
    name = os.listdir()[0]
    line = [*command, name, "-o", "out" + name[2:], "--max-pixels", "400000000", "--force"]
    peaks = []
    while not peaks or (peaks[-1] >= 230 and len(peaks) < 4):
        done = subprocess.run([sys.executable, "-c", PEAK, *line], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[-1] < 230, peaks
    assert len(os.listdir()) == 2


# --- what is read as a whole


@pytest.mark.parametrize("colours", ["grey", "colour", "grey but for the last row"])
@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_is_looked_up_piece_by_piece(colours, transparent, rng, monkeypatch):
    palette = rng.integers(0, 255, (256, 3), np.uint8) if colours == "colour" else np.arange(256).repeat(3)
    picture = Pillow.fromarray(rng.integers(0, 200, (13, 9), np.uint8)).convert("P")
    if colours.startswith("grey but"):
        palette[3 * 255 :] = 1, 2, 3
        picture.putpixel((8, 12), 255)
    picture.putpalette(palette.astype(np.uint8).tobytes())
    picture.save("in.png", **({"transparency": bytes(range(100, 256))} if transparent else {}))
    picture.save("in.bmp")
    monkeypatch.setattr("cnnfilter.images.formats.pillow._PALETTE_BAND_PIXELS", 20)
    for name in ("in.png", "in.bmp"):
        with Pillow.open(name) as saved:
            expected = np.asarray(saved.convert("RGBA" if transparent and name == "in.png" else "RGB"))
            pixels, mode = to_array(saved)
        is_grey = colours == "grey"
        np.testing.assert_array_equal(pixels, expected[:, :, ::3] if is_grey else expected)
        assert mode == ("L" if is_grey else "RGB") + "A" * (expected.shape[2] == 4)


@pytest.mark.parametrize("bad", [(), (np.nan,), (np.nan, np.inf)])
@pytest.mark.parametrize("shape", [(700, 90), (60, 5000, 3)])
def test_a_map_is_drawn_piece_by_piece(shape, bad, rng, monkeypatch):
    values = rng.standard_normal(shape).astype(np.float32)
    for number in bad:
        values[rng.random(shape) < 1e-4] = number
    maps = [("noise", values), ("flat", np.full(shape, 2, np.float32))]
    expected = cnnfilter.contact_sheet(maps)
    monkeypatch.setattr("cnnfilter.images.contact_sheets._BAND_SAMPLES_MAX", 1000)
    np.testing.assert_array_equal(cnnfilter.contact_sheet(maps), expected)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_the_memory_of_a_gif_is_that_of_its_pixels(rng):
    """Just under the limit of pixels: 256 MiB are read, and as much is made of them."""
    picture = Pillow.new("P", (9459, 9459))
    picture.putpalette(rng.integers(0, 255, 768, np.uint8).tobytes())
    picture.save("in.gif")
    line = ["convolve", "-k", "identity", "in.gif", "-o", "out.png"]
    done = subprocess.run([sys.executable, "-c", PEAK, *line], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[-1]) < 512 + 50


@pytest.mark.parametrize("options", [{"compression": "zlib", "predictor": True}, {"tile": (16, 32)}])
def test_a_mapped_file_keeps_its_compression_and_tiles(options, rng, all_are_large, mapped):
    pixels = rng.integers(0, 9, (40, 60), np.uint8)
    tifffile.imwrite("in.tif", pixels, metadata=None, **options)
    invoke("convolve", "-k", "identity", "in.tif", "-o", "out.tif")
    assert mapped
    with tifffile.TiffFile("in.tif") as old, tifffile.TiffFile("out.tif") as new:
        for name in ("compression", "predictor", "tile"):
            assert getattr(new.pages[0], name) == getattr(old.pages[0], name)
        np.testing.assert_array_equal(new.asarray(), pixels)


def test_a_mapped_file_is_compressed_on_request(rng, all_are_large, mapped):
    tifffile.imwrite("in.tif", rng.integers(0, 9, (40, 60), np.uint8), metadata=None)
    invoke("convolve", "-k", "identity", "in.tif", "-o", "out.tif", "--compression", "lzw")
    assert mapped
    with tifffile.TiffFile("out.tif") as new:
        assert new.pages[0].compression == 5
