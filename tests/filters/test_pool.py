"""Pooling against the slow oracle, PyTorch (golden vectors, and itself) and hand-worked cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cnnfilter import ShapeError, pool
from cnnfilter.filters.pooling import pool as pooling
from cnnfilter.filters.pooling import small_window_loops as loops
from cnnfilter.filters.pooling.pool import global_pool, pool_axes, pool_picture
from cnnfilter.runtime import parallel
from tests import naive

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "pooling.json").read_text())


def same_bits(one, other):
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def odd_floats(rng, shape):
    """Numbers with NaN, infinities and zeros of both signs among them."""
    values = rng.normal(size=shape).astype(np.float32)
    for share, value in ((0.08, np.nan), (0.3, 0.0), (0.3, -0.0), (0.04, np.inf), (0.04, -np.inf)):
        values[rng.random(shape) < share] = value
    return values


def random_case(rng):
    """Sizes, window and flags of one small case, and pixels of some type."""
    height, width, channels = rng.integers(1, 12), rng.integers(1, 12), rng.integers(1, 5)
    size = tuple(map(int, rng.integers(1, 8, 2))) if rng.random() < 0.6 else (int(rng.integers(2, 4)),) * 2
    stride = tuple(map(int, rng.integers(1, 5, 2))) if rng.random() < 0.6 else (int(rng.integers(1, 3)),) * 2
    dilation = tuple(map(int, rng.integers(1, 4, 2))) if rng.random() < 0.5 else (1, 1)
    padding = tuple(int(rng.integers(0, size[side % 2] // 2 + 1)) for side in range(4))
    flags = {"ceil_mode": bool(rng.integers(2)), "count_include_pad": bool(rng.integers(2))}
    dtype = (np.uint8, np.uint16, np.float32)[rng.integers(3)]
    shape = (height, width, channels)
    pixels = odd_floats(rng, shape) if dtype is np.float32 else rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype)
    return pixels, (size, stride, padding, dilation), flags


def fits(pixels, size, stride, padding, dilation, ceil_mode, **_):
    try:
        pool_axes(*pixels.shape[:2], size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
    except ShapeError:
        return False
    return True


def cases(rng, count):
    while count:
        pixels, window, flags = random_case(rng)
        if fits(pixels, *window, **flags):
            count -= 1
            yield pixels, window, flags


@pytest.mark.parametrize("op", ["max", "min"])
def test_max_and_min_are_the_oracles_to_the_bit(rng, op):
    for pixels, (size, stride, padding, dilation), flags in cases(rng, 150):
        got = pool(pixels, op, size=size, stride=stride, padding=padding, dilation=dilation, **flags)
        want = naive.pool(pixels, op, size, stride, padding, dilation, **flags)
        assert same_bits(got, want), (pixels.shape, pixels.dtype, size, stride, padding, dilation, flags)


def test_avg_is_the_oracles_to_float32_rounding(rng):
    for pixels, (size, stride, padding, dilation), flags in cases(rng, 150):
        pixels = np.nan_to_num(pixels, nan=1.5, posinf=7, neginf=-7)
        got = pool(pixels, "avg", size=size, stride=stride, padding=padding, dilation=dilation, **flags)
        want = naive.pool(pixels, "avg", size, stride, padding, dilation, **flags)
        assert got.dtype == np.float32
        largest = float(np.abs(pixels.astype(np.float64)).max())
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=3e-7 * largest)


def test_avg_of_integers_is_rounded_half_up_once(rng):
    for pixels, (size, stride, padding, dilation), flags in cases(rng, 150):
        if pixels.dtype == np.float32:
            continue
        options = {"size": size, "stride": stride, "padding": padding, "dilation": dilation, **flags}
        got = pool(pixels, "avg", dtype=pixels.dtype, **options)
        exact = naive.pool(pixels, "avg", size, stride, padding, dilation, **flags)
        np.testing.assert_array_equal(got, np.floor(exact + 0.5).astype(pixels.dtype))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (3, 1), (2, 1), (4, 4), (5, 2)])
@pytest.mark.parametrize("padding", [0, 1])
def test_common_windows_on_rows_longer_than_a_vector(rng, channels, size, stride, padding):
    for pixels in (odd_floats(rng, (9, 150, channels)), rng.integers(0, 256, (9, 150, channels), np.uint8)):
        for op in ("max", "avg"):
            pixels = pixels if op == "max" else np.nan_to_num(pixels, posinf=9, neginf=-9)
            got = pool(pixels, op, size=size, stride=stride, padding=padding)
            want = naive.pool(pixels, op, (size, size), (stride, stride), (padding,) * 4)
            if op == "max":
                assert same_bits(got, want)
            else:
                np.testing.assert_allclose(got, want, rtol=2e-6, atol=3e-6)


# --- known values ----------------------------------------------------------------------------------------


def test_hand_worked_four_by_four():
    picture = np.array([[1, 3, 2, 4], [5, 6, 1, 2], [7, 2, 9, 1], [0, 1, 3, 8]], np.uint8)
    np.testing.assert_array_equal(pool(picture), [[6, 4], [7, 9]])
    np.testing.assert_array_equal(pool(picture, "min"), [[1, 1], [0, 1]])
    np.testing.assert_array_equal(pool(picture, "avg"), [[3.75, 2.25], [2.5, 5.25]])
    np.testing.assert_array_equal(pool(picture, "avg", dtype=np.uint8), [[4, 2], [3, 5]])
    np.testing.assert_array_equal(pool(picture, size=3, stride=1), [[9, 9], [9, 9]])
    np.testing.assert_array_equal(pool(picture, size=3, stride=2, padding=1), [[6, 6], [7, 9]])
    np.testing.assert_array_equal(pool(picture, size=3, ceil_mode=True), [[9, 4], [3, 8]])
    np.testing.assert_array_equal(pool(picture, size=2, stride=1, dilation=2), [[9, 4], [5, 8]])


def test_divisors_at_the_border():
    ones = np.ones((3, 3), np.float32)
    options = {"size": 2, "stride": 2, "padding": 1}
    np.testing.assert_array_equal(pool(ones, "avg", **options), [[0.25, 0.5], [0.5, 1]])
    np.testing.assert_array_equal(pool(ones, "avg", count_include_pad=False, **options), np.ones((2, 2)))
    # The last window of ceil mode is cut to the picture and its padding before it is counted.
    np.testing.assert_array_equal(pool(ones, "avg", size=2, ceil_mode=True), np.ones((2, 2)))


def test_a_window_that_starts_in_the_padding_after_the_picture_is_dropped():
    row = np.arange(1, 5, dtype=np.float32)[None]
    assert pool(row, size=(1, 2), stride=(1, 3), padding=(0, 1), ceil_mode=True).tolist() == [[1, 4]]
    assert pool(row, size=(1, 2), stride=(1, 4), padding=(0, 1), ceil_mode=True).shape == (1, 2)
    assert pool(row[:, :3], size=(1, 2), stride=(1, 4), padding=(0, 1), ceil_mode=True).shape == (1, 1)


def test_a_window_with_nan_gives_nan():
    row = np.array([[1, np.nan, 3, 4, 5]], np.float32)
    for op in ("max", "min", "avg"):
        assert np.isnan(pool(row, op, size=(1, 2), stride=1)).tolist() == [[True, True, False, False]]


def test_padding_is_never_the_extreme_even_beside_infinity():
    for value, op in ((-np.inf, "max"), (np.inf, "min")):
        picture = np.full((2, 2), value, np.float32)
        np.testing.assert_array_equal(pool(picture, op, size=3, stride=1, padding=1), picture)
    assert pool(np.full((2, 2), 255, np.uint8), "min", size=3, stride=1, padding=1).tolist() == [[255, 255]] * 2


def test_dilated_window_wholly_in_the_padding():
    one = np.full((1, 1), 5, np.float32)
    options = {"size": 2, "stride": 1, "padding": 1, "dilation": 2}
    assert pool(one, **options).tolist() == [[-np.inf]]
    assert pool(one, "avg", count_include_pad=False, **options).tolist() == [[0]]


def test_global_pool():
    picture = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    assert global_pool(picture).tolist() == [[[22, 23]]]
    assert global_pool(picture, "min").tolist() == [[[0, 1]]]
    assert global_pool(picture, "avg").tolist() == [[[11, 12]]]
    assert global_pool(picture[:, :, 0], "avg", dtype=np.uint8).tolist() == [[11]]


def test_global_mean_of_many_large_numbers_does_not_drift():
    picture = np.full((700, 900), 65535, np.uint16)
    assert global_pool(picture, "avg").tolist() == [[65535]]


def test_large_windows(rng):
    picture = rng.integers(0, 256, (40, 300), np.uint8)
    got = pool(picture, size=(31, 101), stride=1)
    want = np.lib.stride_tricks.sliding_window_view(picture, (31, 101)).max(axis=(2, 3))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("op", ["max", "min", "avg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_windows_that_share_many_rows(rng, monkeypatch, dtype, op):
    """In bands of which each begins anew, below, above and beside the picture too."""
    monkeypatch.setattr(pooling, "_BAND_ROWS_MIN", 1)
    monkeypatch.setattr(pooling, "_BAND_SAMPLE_READS_MAX", 1)
    for _ in range(25):
        shape = (int(rng.integers(4, 70)), 5, int(rng.integers(1, 4)))
        pixels = (
            odd_floats(rng, shape) if dtype is np.float32 else rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype)
        )
        size = int(rng.integers(4, 20)), int(rng.integers(1, 4))
        stride = int(rng.integers(1, max(size[0] // 4, 1) + 1)), int(rng.integers(1, 3))
        padding = tuple(int(rng.integers(0, size[side % 2] // 2 + 1)) for side in range(4))
        flags = {"ceil_mode": bool(rng.integers(2))}
        if not fits(pixels, size, stride, padding, (1, 1), **flags):
            continue
        pixels = np.nan_to_num(pixels, nan=np.nan, posinf=7, neginf=-7) if op == "avg" else pixels
        got = pool(pixels, op, size=size, stride=stride, padding=padding, threads=2, **flags)
        want = naive.pool(pixels, op, size, stride, padding, **flags)
        if op == "avg":
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)  # NaN where NaN is
            monkeypatch.setattr(pooling, "_BAND_SAMPLE_READS_MAX", 1 << 28)
            at_once = pool(pixels, op, size=size, stride=stride, padding=padding, threads=1, **flags)
            assert same_bits(got, at_once)
            monkeypatch.setattr(pooling, "_BAND_SAMPLE_READS_MAX", 1)
        else:
            assert same_bits(got, want), (shape, size, stride, padding, flags)


def test_sums_beyond_int32():
    """White of 16 bits under 200x200 samples: 2.6e9."""
    picture = np.full((300, 200), 65535, np.uint16)
    picture[-1] = 0
    got = pool(picture, "avg", size=200, stride=1, dtype=np.uint16)
    assert got[:, 0].tolist() == [65535] * 100 + [65207]  # 199/200 of it, rounded half up


def test_long_work_is_cut_into_bands(monkeypatch):
    """An interruption is heard between two bands."""
    seen = []

    def run_in_bands(task, rows, *, max_rows, threads):
        seen.append(max_rows)
        return parallel.run_in_bands(task, rows, max_rows=max_rows, threads=threads)

    monkeypatch.setattr(pooling, "run_in_bands", run_in_bands)
    monkeypatch.setattr(pooling, "_BAND_SAMPLE_READS_MAX", 70 * 31 * 101)
    pool(np.zeros((1000, 31), np.uint8), "max", size=(101, 1), stride=(101, 1))
    for dtype in (np.uint8, np.float32):
        pool(np.zeros((1000, 31), dtype), "avg", size=(101, 1), stride=(1, 1))
    assert seen == [70, 70 * 101 // 4, 70]


# --- others' truth ----------------------------------------------------------------------------------------


def from_golden(case):
    return np.array([[np.nan if v is None else v for v in row] for row in case], np.float32)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: "-".join(map(str, list(case.values())[:-1])))
def test_golden_vectors_of_pytorch(case):
    options = {name: case[name] for name in ("size", "stride", "padding", "dilation", "ceil_mode") if name in case}
    if "count_include_pad" in case:
        options["count_include_pad"] = case["count_include_pad"]
    got = pool(from_golden(GOLDEN["input"]), case["op"], **options)
    want = from_golden(case["output"])
    if case["op"] == "max":
        np.testing.assert_array_equal(got, want)
    else:
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_pytorch_itself(rng):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    compared = 0
    for _ in range(400):
        pixels, (size, stride, padding, dilation), flags = random_case(rng)
        padding, ceil = padding[:2], flags["ceil_mode"]
        pixels = pixels if pixels.dtype == np.float32 else pixels.astype(np.float32)
        batch = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        try:
            want = functional.max_pool2d(batch, size, stride, padding, dilation, ceil)
        except RuntimeError:
            with pytest.raises(ShapeError):
                pool(pixels, size=size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil)
            continue
        got = pool(pixels, size=size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil)
        assert same_bits(got, np.ascontiguousarray(want[0].numpy().transpose(1, 2, 0)))
        compared += 1
        if dilation == (1, 1) and np.isfinite(pixels).all():
            want = functional.avg_pool2d(batch, size, stride, padding, ceil, flags["count_include_pad"])
            got = pool(pixels, "avg", size=size, stride=stride, padding=padding, **flags)
            np.testing.assert_allclose(got, want[0].numpy().transpose(1, 2, 0), rtol=1e-5, atol=1e-5)
    assert compared > 200


def test_onnx_meaning_of_dilated_average(rng):
    """ONNX's AveragePool has dilations, which PyTorch lacks; asked of onnxruntime, where it is installed."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    helper, compared = onnx.helper, 0
    for _ in range(120):
        pixels, (size, stride, padding, dilation), flags = random_case(rng)
        pixels = np.nan_to_num(pixels[:, :, 0].astype(np.float32), nan=1, posinf=2, neginf=3)
        if not fits(pixels, size, stride, padding, dilation, False):
            continue
        top, right, bottom, left = padding
        node = helper.make_node(
            "AveragePool",
            ["x"],
            ["y"],
            kernel_shape=size,
            strides=stride,
            pads=(top, left, bottom, right),
            dilations=dilation,
            count_include_pad=int(flags["count_include_pad"]),
        )
        given, made = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, 1, None, None)) for name in "xy")
        graph = helper.make_graph([node], "pool", [given], [made])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        want = session.run(None, {"x": pixels[None, None]})[0][0, 0]
        flags["ceil_mode"] = False
        got = pool(pixels, "avg", size=size, stride=stride, padding=padding, dilation=dilation, **flags)
        np.testing.assert_allclose(got[np.isfinite(want)], want[np.isfinite(want)], rtol=1e-5, atol=1e-2)
        compared += 1
    assert compared > 50


# --- form -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_types(dtype):
    picture = np.arange(16).reshape(4, 4).astype(dtype)
    assert pool(picture).dtype == pool(picture, "min").dtype == dtype
    assert pool(picture, "avg").dtype == np.float32
    for wanted in (np.uint8, np.uint16, np.float32):
        assert pool(picture, dtype=wanted).dtype == pool(picture, "avg", dtype=wanted).dtype == wanted
    assert pool(picture).shape == (2, 2)
    assert pool(picture[:, :, None]).shape == (2, 2, 1)


def test_other_types_become_float32_and_rounding_saturates():
    assert pool(np.array([[-3.0, 2.4], [300.0, 1]])).dtype == np.float32
    assert pool(np.array([[-3, 2], [300, 1]]), dtype=np.uint8).tolist() == [[255]]
    assert pool(np.array([[-3.0, -2.0]]), size=1, dtype=np.uint8).tolist() == [[0, 0]]
    assert pool(np.array([[2.5, 1.49]]), size=1, dtype=np.uint16).tolist() == [[3, 1]]


def test_the_input_stays_as_it_is_whatever_its_layout(rng):
    picture = rng.integers(0, 256, (8, 9, 6), np.uint8)
    view = picture[::-1, 1::2, ::2]
    view.flags.writeable = False
    before = picture.copy()
    np.testing.assert_array_equal(pool(view), pool(view.copy()))
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("op", ["max", "avg"])
def test_threads_do_not_change_the_result(rng, op):
    picture = rng.normal(size=(200, 31, 3)).astype(np.float32)
    for options in (
        {"size": 3, "stride": 1, "padding": 1},
        {"size": (40, 5), "stride": (3, 2), "padding": (20, 1)},
    ):
        one = pool(picture, op, threads=1, **options)
        assert same_bits(pool(picture, op, threads=3, **options), one)


@pytest.mark.parametrize("window", sorted(loops.SMALL_WINDOWS))
def test_small_windows_keep_to_their_rows(rng, window):
    """Widths around that of a vector, with and without padding, where all but the picture is out of bounds."""
    size, stride, channels = window
    for width in (3, 30, 63, 64, 65, 127, 128, 129, 130, 257):
        for padding in ((0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 1, 0)):
            for dtype in (np.uint8, np.float32):
                shape = (14, width, channels or 2)
                pixels = rng.integers(1, 256, shape, np.uint8) if dtype == np.uint8 else odd_floats(rng, shape)
                options = {"size": size, "stride": stride, "padding": padding}
                largest = pool(pixels, **options)
                assert same_bits(largest, naive.pool(pixels, "max", (size,) * 2, (stride,) * 2, padding))
                pixels = np.nan_to_num(pixels, posinf=9, neginf=-9)
                exact = naive.pool(pixels, "avg", (size,) * 2, (stride,) * 2, padding)
                np.testing.assert_allclose(pool(pixels, "avg", **options), exact, rtol=1e-6, atol=1e-6)
                if dtype == np.uint8:
                    got = pool(pixels, "avg", dtype=np.uint8, **options)
                    np.testing.assert_array_equal(got, np.floor(exact + 0.5))


def test_nothing_but_the_result_is_written():
    """The vectors of the last row end with it."""
    for size, stride, channels in sorted(loops.SMALL_WINDOWS):
        for width in (64, 65, 131):
            pixels = np.full((11, width, channels or 1), 7, np.uint8)
            memory = np.zeros(pixels.size + 200, np.uint8)

            def allocate(shape, dtype, memory=memory):
                return memory[100 : 100 + np.prod(shape)].reshape(shape)

            pooled = pool_picture(pixels, size=size, stride=stride, allocate=allocate, threads=1)
            assert (pooled == 7).all()
            assert not memory[:100].any()
            assert not memory[100 + pooled.size :].any()


@pytest.mark.parametrize("size", [2, 3])
def test_every_mean_of_a_small_window_of_bytes(size):
    """Each sum that a window can have, between zeros, is rounded half up."""
    count = size * size
    sums = np.arange(255 * count + 1)
    planes = np.clip(sums - 255 * np.arange(count)[:, None], 0, 255).astype(np.uint8).reshape(size, size, -1)
    row = np.zeros((size, len(sums) * 2 * size), np.uint8)
    for column in range(size):
        row[:, column :: 2 * size] = planes[:, column]
    picture = np.tile(row, (2 * loops.TILE_ROWS, 1))
    got = pool(picture, "avg", size=size, stride=1 if size == 3 else 2, dtype=np.uint8)
    want = (2 * sums + count) // (2 * count)
    np.testing.assert_array_equal(got[0, :: 2 * size if size == 3 else size], want)


# --- laws -------------------------------------------------------------------------------------------------


def test_max_of_max_is_max_of_the_larger_window(rng):
    picture = rng.normal(size=(20, 20)).astype(np.float32)
    np.testing.assert_array_equal(pool(pool(picture, size=2), size=2), pool(picture, size=4))


def test_min_is_max_of_the_negative(rng):
    picture = rng.normal(size=(13, 17, 2)).astype(np.float32)
    np.testing.assert_array_equal(pool(picture, "min", size=3, stride=2), -pool(-picture, size=3, stride=2))


def test_window_of_one_changes_nothing(rng):
    picture = rng.normal(size=(5, 7)).astype(np.float32)
    for op in ("max", "min", "avg"):
        np.testing.assert_array_equal(pool(picture, op, size=1), picture)


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 5}, "5x5 does not fit into 4x4"),
        ({"size": 3, "dilation": 2}, "5x5 does not fit"),
        ({"size": 3, "padding": 2}, "padding 2 is more than half of the window's 3 samples; at most 1"),
        ({"size": (3, 1), "padding": (0, 1)}, "padding 1 is more than half of the window's 1 sample; at most 0"),
        ({"size": 0}, "size 0"),
        ({"stride": 0}, "stride 0"),
        ({"dilation": 0}, "dilation 0"),
        ({"padding": -1}, "padding -1"),
        ({"padding": (1, 1, 1)}, "padding"),
        ({"padding": "same"}, "padding same"),
        ({"size": (2, 2, 2)}, "size"),
    ],
)
def test_windows_that_do_not_fit(options, message):
    with pytest.raises(ShapeError, match=message):
        pool(np.zeros((4, 4)), **options)


def test_pixels_that_are_no_picture():
    for shape in ((4,), (2, 2, 2, 2), (0, 4), (4, 4, 0)):
        with pytest.raises(ShapeError, match=r"pixels of shape"):
            pool(np.zeros(shape))


def test_unknown_operation_and_type():
    with pytest.raises(ShapeError, match="median"):
        pool(np.zeros((4, 4)), "median")
    with pytest.raises(ShapeError, match="int32"):
        pool(np.zeros((4, 4)), dtype=np.int32)


def test_means_that_end_in_a_half_go_up_and_no_others():
    """Every sum that a small window of bytes can have at the border of a picture, where it counts 2, 3, 4, 6 or 9."""
    for rows, columns in ((1, 2), (1, 3), (2, 2), (2, 3), (3, 3)):
        count = rows * columns
        sums = np.arange(255 * count + 1)
        tiles = np.zeros((rows, len(sums) * columns), np.uint8)
        for index in range(count):
            row, column = divmod(index, columns)
            tiles[row, column::columns] = np.clip(sums - 255 * index, 0, 255)
        want = (2 * sums + count) // (2 * count)
        general = pool(tiles, "avg", size=(rows, columns), dtype=np.uint8)[0]
        np.testing.assert_array_equal(general, want)
        for total in range(0, len(sums), 7):
            tile = np.ascontiguousarray(tiles[:, total * columns : (total + 1) * columns])
            options = {"size": 3, "stride": 2, "padding": 1, "count_include_pad": False, "dtype": np.uint8}
            assert pool(tile[:2, :2], "avg", **options)[0, 0] == int(tile[:2, :2].mean() + 0.5)
