"""Tags of GeoTIFF: kept, and right for the pixels of the result.

A picture of map coordinates tests it: each sample is the coordinate of its pixel's centre, so each mean of a window is
the coordinate of the result's pixel, which its tags must give too.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from cnnfilter.cli import main
from cnnfilter.images import mapped_files
from cnnfilter.images.files import encode_image, read_image
from cnnfilter.images.image import ImageWarning
from cnnfilter.images.tags.georeference import Georeference, georeference_of
from cnnfilter.jobs import job

SCALE, POINTS, MATRIX, KEYS, DOUBLES, TEXTS, RPC = 33550, 33922, 34264, 34735, 34736, 34737, 50844
METADATA, NODATA = 42112, 42113
EAST, NORTH, WIDE, HIGH = 5000.0, 4000.0, 10.0, 20.0
HEIGHT, WIDTH = 32, 28

AREA = (1, 1, 0, 1, 1025, 0, 1, 1)
POINT = (1, 1, 0, 1, 1025, 0, 1, 2)

Tags = dict[int, Any]


def matrix_of_place(east: float = EAST, north: float = NORTH) -> tuple[float, ...]:
    return (WIDE, 0, 0, east, 0, -HIGH, 0, north, 0, 0, 0, 0, 0, 0, 0, 1)


PLACES: dict[str, Tags] = {
    "scale": {SCALE: (WIDE, HIGH, 0.0), POINTS: (0.0, 0.0, 0.0, EAST, NORTH, 0.0), KEYS: AREA},
    "scale at a point": {
        SCALE: (WIDE, HIGH, 0.0),
        POINTS: (4.0, 6.0, 0.0, EAST + 4 * WIDE, NORTH - 6 * HIGH, 0.0),
        KEYS: AREA,
    },
    "matrix": {MATRIX: matrix_of_place(), KEYS: AREA},
    "points": {
        POINTS: tuple(
            number
            for x, y in ((0, 0), (20, 0), (0, 30))
            for number in (x, y, 0.0, EAST + x * WIDE, NORTH - y * HIGH, 0.0)
        ),
        KEYS: AREA,
    },
    "centres": {
        SCALE: (WIDE, HIGH, 0.0),
        POINTS: (0.0, 0.0, 0.0, EAST + WIDE / 2, NORTH - HIGH / 2, 0.0),
        KEYS: POINT,
    },
    "matrix of centres": {MATRIX: matrix_of_place(EAST + WIDE / 2, NORTH - HIGH / 2), KEYS: POINT},
}


def write(path: str, pixels: np.ndarray, tags: Tags, **options: Any) -> None:
    kinds = {KEYS: "H", TEXTS: "s", METADATA: "s", NODATA: "s"}
    extra = [(number, kinds.get(number, "d"), 0 if isinstance(v, str) else len(v), v) for number, v in tags.items()]
    tifffile.imwrite(path, pixels, metadata=None, extratags=extra, **options)


def tags_of(path: str, page: int = 0) -> Tags:
    with tifffile.TiffFile(path) as file:
        tags = file.pages[page].tags  # type: ignore[union-attr]
        return {tag.code: tag.value for tag in tags.values() if tag.code in (*kinds_of_tags(), NODATA, METADATA)}


def kinds_of_tags() -> tuple[int, ...]:
    return SCALE, POINTS, MATRIX, KEYS, DOUBLES, TEXTS, RPC


def coordinates() -> np.ndarray:
    """Return easting and northing of each pixel's centre, as two pages."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([EAST + (columns + 0.5) * WIDE, NORTH - (rows + 0.5) * HIGH]).astype(np.float32)


def coordinates_by_tags(tags: Tags, shape: tuple[int, int]) -> np.ndarray:
    """Return easting and northing of each pixel's centre as a reader of GeoTIFF finds them."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + (0.0 if tags[KEYS] == POINT else 0.5)
    if MATRIX in tags:
        m = tags[MATRIX]
        return np.stack([m[0] * columns + m[1] * rows + m[3], m[4] * columns + m[5] * rows + m[7]])
    points = np.reshape(tags[POINTS], (-1, 6))
    if SCALE in tags:
        (i, j, _, x, y, _), (wide, high, *_) = points[0], tags[SCALE]
        return np.stack([x + (columns - i) * wide, y - (rows - j) * high])
    known = np.column_stack([points[:, :2], np.ones(len(points))])
    east, north = (np.linalg.lstsq(known, points[:, axis], rcond=None)[0] for axis in (3, 4))
    return np.stack([east[0] * columns + east[1] * rows + east[2], north[0] * columns + north[1] * rows + north[2]])


def run(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.stderr


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


COMMANDS = [
    ["convolve", "-k", "box:3"],
    ["convolve", "-k", "box:3", "--stride", "2"],
    ["convolve", "-k", "box:3", "--stride", "3,2", "--padding", "1"],
    ["convolve", "-k", "box:5", "--padding", "valid"],
    ["convolve", "-k", "box:3", "--padding", "0,1,2,0", "--dilation", "2,1"],
    ["convolve", "-k", "0.25 0.25; 0.25 0.25"],
    ["convolve", "-k", "box:3", "-k", "box:3", "--combine", "mean", "--stride", "2"],
    ["pool", "--op", "avg", "--size", "2,4"],
    ["pool", "--op", "avg", "--size", "3", "--stride", "2", "--padding", "1"],
    ["pool", "--op", "avg", "--size", "2", "--stride", "1"],
    ["pool", "--op", "avg", "--global"],
    ["apply", "conv box:3 stride=2 | avgpool 2,3"],
    ["apply", "avgpool 2 | relu | conv box:3 pad=valid | conv box:3 stride=2"],
    ["apply", "avgpool 2 | globalpool avg"],
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_place_follows_the_pixels(command: list[str], place: str) -> None:
    write("in.tif", coordinates(), PLACES[place], photometric="minisblack")
    assert run(*command, "in.tif", "-q", "-o", "out.tif") == ""
    pixels = tifffile.imread("out.tif")
    for page in (0, 1):
        expected = coordinates_by_tags(tags_of("out.tif", page), pixels.shape[1:])
        inside = np.s_[..., 3:-3, 3:-3] if min(pixels.shape[1:]) > 8 else np.s_[..., 1:-1, 1:-1]
        inside = inside if min(pixels.shape[1:]) > 2 else np.s_[...]
        np.testing.assert_allclose(pixels[page][inside], expected[page][inside], rtol=1e-5)


@pytest.mark.parametrize(("byteorder", "bigtiff"), [("<", False), (">", False), ("<", True)])
def test_all_tags_are_kept_as_they_are(byteorder: str, bigtiff: bool) -> None:
    tags = PLACES["scale"] | {
        DOUBLES: (6378137.0, 298.25),
        TEXTS: "WGS 84 / UTM zone 32N|",
        NODATA: "-9999",
        METADATA: '<GDALMetadata><Item name="AREA">x</Item></GDALMetadata>',
    }
    write("in.tif", coordinates()[0], tags, byteorder=byteorder, bigtiff=bigtiff)
    run("convolve", "in.tif", "-k", "box:3", "-q", "-o", "out.tif")
    assert tags_of("out.tif") == tags_of("in.tif")
    assert {METADATA, NODATA, TEXTS, DOUBLES, *tags} == tags_of("out.tif").keys()


def test_statistics_of_the_input_are_not_those_of_the_result() -> None:
    items = '<Item name="STATISTICS_MEAN" sample="0">7</Item><Item name="AREA">x</Item>'
    write("in.tif", coordinates()[0], {METADATA: f"<GDALMetadata>{items}</GDALMetadata>"})
    run("convolve", "in.tif", "-k", "box:3", "-q", "-o", "out.tif")
    assert tags_of("out.tif")[METADATA] == '<GDALMetadata><Item name="AREA">x</Item></GDALMetadata>'


def test_rational_polynomials_follow_the_pixels() -> None:
    """Offset and scale of rows and columns count from the centre of the first pixel."""
    rpc = (0.0, 0.0, 15.5, 13.5, 48.0, 11.0, 500.0, 16.0, 14.0, *range(83))
    write("in.tif", coordinates()[0], {RPC: rpc})
    run("pool", "in.tif", "--size", "2,4", "-q", "-o", "out.tif")
    moved = tags_of("out.tif")[RPC]
    assert moved[2:4] == ((15.5 + 0.5) / 2 - 0.5, (13.5 + 0.5) / 4 - 0.5)
    assert moved[7:9] == (8.0, 3.5)
    assert moved[:2] + moved[4:7] + moved[9:] == rpc[:2] + rpc[4:7] + rpc[9:]


@pytest.mark.parametrize(
    "command",
    [["apply", "conv sobel-h sobel-v blur"], ["convolve", "-k", "blur", "-k", "sharpen", "--combine", "stack"]],
)
def test_a_contact_sheet_is_nowhere_on_the_earth(command: list[str]) -> None:
    write("in.tif", np.zeros((8, 8), np.uint8), PLACES["scale"] | {NODATA: "0"})
    run(*command, "in.tif", "-q", "-o", "out.tif")
    if command[0] == "apply":
        assert tags_of("out.tif").keys() == {KEYS, NODATA}
    else:  # a page for each kernel
        assert tags_of("out.tif", 1)[SCALE] == (WIDE, HIGH, 0.0)


def test_other_formats_say_what_they_leave_out_and_strip_drops_it() -> None:
    write("in.tif", coordinates()[0].astype(np.uint16), PLACES["scale"])
    message = "png files are written without GeoTIFF tags: they are left out; tiff would keep them"
    assert message in run("pool", "in.tif", "-o", "out.png")
    assert run("pool", "in.tif", "-o", "stripped.png", "--strip") == ""
    run("pool", "in.tif", "-o", "stripped.tif", "--strip")
    assert tags_of("stripped.tif") == {}


def test_a_turned_picture_loses_its_place_with_a_warning() -> None:
    write("in.tif", coordinates()[0], PLACES["scale"] | {274: (6,)})
    with tifffile.TiffFile("in.tif", mode="r+") as file:
        assert 274 in file.pages[0].tags  # type: ignore[union-attr]
    data = bytearray(Path("in.tif").read_bytes())
    at = data.index(b"\x12\x01\x0c\x00")  # the tag that was written as a double
    data[at + 2 : at + 12] = b"\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"
    Path("in.tif").write_bytes(data)
    assert "its georeference is left out" in run("convolve", "in.tif", "-k", "blur", "-o", "out.tif")
    assert tags_of("out.tif").keys() == {KEYS}


@pytest.mark.parametrize("command", COMMANDS[:10], ids=" ".join)
def test_a_mapped_file_has_the_same_tags(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write("in.tif", coordinates()[0], PLACES["scale"] | {NODATA: "-1"})
    run(*command, "in.tif", "-q", "-o", "expected.tif")
    for module, name in ((job, "MIN_MAPPED_BYTES"), (mapped_files, "MIN_MAPPED_BYTES")):
        monkeypatch.setattr(module, name, 0)
    kept = []
    monkeypatch.setattr(mapped_files.NewFile, "replace_frame", _noted(kept, mapped_files.NewFile.replace_frame))
    run(*command, "in.tif", "-q", "-o", "out.tif")
    assert kept
    assert Path("out.tif").read_bytes() == Path("expected.tif").read_bytes()


def _noted(calls: list[Any], method: Any) -> Any:
    def noted(self: Any, *arguments: Any) -> Any:
        calls.append(arguments)
        return method(self, *arguments)

    return noted


def test_in_memory_too() -> None:
    write("in.tif", coordinates()[0], PLACES["scale"])
    image = read_image("in.tif")
    assert isinstance(image.metadata.georeference, Georeference)
    with pytest.warns(ImageWarning, match="GeoTIFF tags"):
        encode_image(image.map(lambda pixels: pixels.astype(np.uint8)), "jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = read_image(io.BytesIO(encode_image(image, "tiff")))
    assert again.metadata.georeference == image.metadata.georeference


@pytest.mark.parametrize(
    "tags",
    [
        {SCALE: (1.0,)},
        {POINTS: (1.0, 2.0)},
        {MATRIX: (1.0,) * 15},
        {SCALE: (1.0, float("nan"), 0.0)},
        {KEYS: (1.5, 2)},
        {KEYS: (70000, 1)},
        {NODATA: 5},
        {TEXTS: ""},
        {RPC: (1.0,) * 91},
        {},
    ],
)
def test_damaged_tags_are_left_out(tags: Tags) -> None:
    assert georeference_of(tags) is None
