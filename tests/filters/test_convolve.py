"""convolve and filter_picture against the slow oracle, SciPy, OpenCV and laws."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from cnnfilter.errors import KernelError, ShapeError
from cnnfilter.filters.convolution import regions
from cnnfilter.filters.convolution.choice import ALGORITHMS
from cnnfilter.filters.convolution.convolve import convolve, filter_picture
from cnnfilter.filters.images import filter_image
from cnnfilter.filters.windows import same_padding
from cnnfilter.images.image import Image
from cnnfilter.kernels.kernel import Kernel
from cnnfilter.kernels.lookup import find_kernel, find_kernels, kernel_names
from tests import naive

BORDERS = ["replicate", "reflect", "symmetric", "wrap", "zero", "constant:7.5"]
TYPES = [np.uint8, np.uint16, np.float32]
SHAPES = [(1, 1, 1), (1, 7, 1), (6, 1, 3), (5, 8, 3), (9, 4, 2), (7, 7, 4)]
KERNELS = [(1, 1), (1, 3), (3, 1), (2, 2), (3, 3), (4, 3), (5, 5), (7, 2), (9, 9)]


def picture(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    if dtype == np.float32:
        return rng.normal(0, 100, shape).astype(np.float32)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def close(result: np.ndarray, expected: np.ndarray, algorithm: str = "direct") -> None:
    """Compare with the contract's bounds: float32 rounding, or 1e-4 of the largest output for the FFT."""
    assert result.shape == expected.shape
    scale = max(float(np.abs(expected).max()), 1.0)
    np.testing.assert_allclose(result, expected, rtol=0, atol=scale * (1e-4 if algorithm == "fft" else 4e-6))


def same_pads(shape, taps, stride, dilation):
    return tuple(same_padding(*axis) for axis in zip(shape[:2], taps, stride, dilation, strict=True))


@pytest.mark.parametrize("algorithm", ["auto", "direct", "separable", "fft"])
@pytest.mark.parametrize("taps", KERNELS)
def test_every_border_stride_and_dilation(rng, taps, algorithm):
    weights = rng.normal(0, 1, taps)
    cases = itertools.product(SHAPES, [(1, 1), (2, 1), (3, 2)], [(1, 1), (2, 3)])
    for case, (shape, stride, dilation) in enumerate(cases):
        border = BORDERS[case % len(BORDERS)]
        pixels = picture(rng, shape, TYPES[case % 3])
        pads = same_pads(shape, taps, stride, dilation)
        expected = naive.convolve(pixels, weights, stride, pads, dilation, border)
        result = convolve(pixels, weights, stride=stride, dilation=dilation, border=border, algorithm=algorithm)
        close(result, expected, algorithm)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("padding", [0, 2, (1, 3), (0, 1, 2, 3), "valid", "same"])
def test_every_padding(rng, padding, border):
    pixels = picture(rng, (6, 7, 3), np.uint8)
    weights = rng.normal(0, 1, (3, 4))
    pads = {
        0: ((0, 0), (0, 0)),
        2: ((2, 2), (2, 2)),
        (1, 3): ((1, 1), (3, 3)),
        (0, 1, 2, 3): ((0, 2), (3, 1)),
        "valid": ((0, 0), (0, 0)),
        "same": ((1, 1), (1, 2)),
    }[padding]
    result = convolve(pixels, weights, padding=padding, border=border)
    close(result, naive.convolve(pixels, weights, pads=pads, border=border))


@pytest.mark.parametrize("name", kernel_names())
@pytest.mark.parametrize("dtype", TYPES)
def test_every_named_kernel_by_every_algorithm(rng, name, dtype):
    if len(find_kernels(name)) > 1:
        with pytest.raises(KernelError, match="stands for"):
            find_kernel(name)
        return
    kernel = find_kernel(name)
    pixels = picture(rng, (19, 23, 1), dtype)
    pads = same_pads(pixels.shape, kernel.weights.shape, (1, 1), (1, 1))
    expected = naive.convolve(pixels, kernel.weights, pads=pads, border="replicate")
    for algorithm in ALGORITHMS:
        close(convolve(pixels, kernel, algorithm=algorithm), expected, algorithm)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("taps", [(3, 3), (5, 5), (7, 7), (13, 13)])
def test_whole_numbers_are_rounded_half_up_and_saturate(rng, dtype, taps):
    pixels = picture(rng, (21, 17, 3), dtype)
    weights = rng.integers(-3, 5, taps) / 8
    exact = naive.convolve(pixels, weights, pads=same_pads(pixels.shape, taps, (1, 1), (1, 1)), border="wrap")
    expected = np.clip(np.floor(exact + 3.25 + 0.5), 0, np.iinfo(dtype).max)
    result = convolve(pixels, weights, border="wrap", bias=3.25, dtype=dtype, algorithm="direct")
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("algorithm", ["separable", "fft"])
def test_bytes_stay_within_one_level(rng, algorithm):
    pixels = picture(rng, (60, 70, 3), np.uint8)
    direct = convolve(pixels, "gaussian:3", dtype=np.uint8, algorithm="direct")
    other = convolve(pixels, "gaussian:3", dtype=np.uint8, algorithm=algorithm)
    assert np.abs(direct.astype(int) - other).max() <= 1


def test_scipy_agrees(rng):
    ndimage = pytest.importorskip("scipy.ndimage")
    pixels = picture(rng, (40, 31, 1), np.float32)
    modes = {"replicate": "nearest", "reflect": "mirror", "symmetric": "reflect", "wrap": "wrap", "zero": "constant"}
    for border, mode in modes.items():
        for name in ("sobel-h", "gaussian:2", "kirsch:ne", "log:1.4"):
            weights = find_kernel(name).weights
            expected = ndimage.correlate(pixels[:, :, 0].astype(np.float64), weights, mode=mode)
            close(convolve(pixels[:, :, 0], weights, border=border), expected)


def test_opencv_agrees(rng):
    cv2 = pytest.importorskip("cv2")
    pixels = picture(rng, (50, 64, 3), np.uint8)
    for name in ("sharpen", "sobel-v", "emboss"):
        weights = find_kernel(name).weights
        expected = cv2.filter2D(pixels, cv2.CV_32F, weights, borderType=cv2.BORDER_REPLICATE)
        close(convolve(pixels, weights), expected)


def test_pytorch_agrees(rng):
    torch = pytest.importorskip("torch")
    pixels = picture(rng, (13, 17, 1), np.float32)
    for stride, dilation, padding in itertools.product([1, 2, 3], [1, 2], [0, 1, 2]):
        weights = rng.normal(0, 1, (3, 4)).astype(np.float32)
        expected = torch.nn.functional.conv2d(
            torch.from_numpy(pixels[None, None, :, :, 0]),
            torch.from_numpy(weights[None, None]),
            stride=stride,
            dilation=dilation,
            padding=padding,
        ).numpy()[0, 0]
        result = convolve(pixels[:, :, 0], weights, stride=stride, dilation=dilation, padding=padding, border="zero")
        close(result, expected)


# Made by onnxruntime 1.32 (SAME_UPPER with a dilation: by the reference evaluator of onnx 1.23), border 0.
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "convolution.json").read_text())


@pytest.mark.parametrize("algorithm", ["auto", "direct", "separable", "fft"])
@pytest.mark.parametrize("case", GOLDEN)
def test_golden_vectors_of_onnx(case, algorithm):
    padding = case["padding"] if isinstance(case["padding"], str) else tuple(case["padding"])
    result = convolve(
        np.array(case["pixels"], np.float32),
        np.array(case["kernel"]),
        stride=tuple(case["stride"]),
        dilation=tuple(case["dilation"]),
        padding=padding,
        border="zero",
        algorithm=algorithm,
    )
    close(result, np.array(case["result"], float), algorithm)


def test_a_hand_worked_case():
    pixels = np.array([[1, 2, 3, 0], [0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 0, 1]], np.uint8)
    result = convolve(pixels, "2 0 1; 0 1 2; 1 0 2", padding="valid", dtype=np.uint8)
    np.testing.assert_array_equal(result, [[15, 16], [6, 15]])


def test_an_impulse_shows_the_kernel_turned(rng):
    weights = rng.normal(0, 1, (3, 5))
    impulse = np.zeros((7, 9), np.float32)
    impulse[3, 4] = 1
    shown = convolve(impulse, weights)[2:5, 2:7]
    close(shown, weights[::-1, ::-1])
    close(convolve(impulse, find_kernel(weights).flip())[2:5, 2:7], weights)


def test_identity_linearity_and_shift(rng):
    pixels = picture(rng, (20, 20, 3), np.float32)
    np.testing.assert_array_equal(convolve(pixels, "identity"), pixels)
    a, b = rng.normal(0, 1, (2, 3, 3))
    close(convolve(pixels, a + b), convolve(pixels, a).astype(float) + convolve(pixels, b))
    shifted = np.roll(pixels, 3, axis=1)
    close(convolve(shifted, a, border="wrap"), np.roll(convolve(pixels, a, border="wrap"), 3, axis=1))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    "name",
    [
        "sobel",
        "sharpen",
        "gaussian:1",
        "gaussian:4",
        "box:3",
        "box:31",
        "motion:21,30",
        "kirsch",
        "1 -3 4; 2 -2 1; 1 2 3",
    ],
)
@pytest.mark.parametrize("border", ["replicate", "zero", "reflect"])
def test_threads_do_not_change_a_bit(rng, monkeypatch, dtype, name, border):
    monkeypatch.setattr(regions, "REGION_SAMPLES_MIN", 1 << 12)  # for many bands, even of a small picture
    for shape in ((140, 60, 3), (203, 140, 1)):
        pixels = picture(rng, shape, dtype)
        one, many = (filter_picture(pixels, [name], border=border, threads=threads).pixels for threads in (1, 5))
        np.testing.assert_array_equal(one, many)


def test_one_thread_works_in_few_bands(rng, monkeypatch):
    monkeypatch.setattr(regions, "REGION_SAMPLES_MIN", 1 << 12)
    made = []

    def run_tasks(tasks, threads, run=regions.run_tasks):
        made.append(len(tasks))
        return run(tasks, threads)

    monkeypatch.setattr(regions, "run_tasks", run_tasks)
    for threads in (1, 2):
        filter_picture(picture(rng, (203, 140, 1), np.uint8), ["sharpen"], threads=threads)
    assert made == [3, 12]  # its middle and both sides
    monkeypatch.setattr(regions, "REGION_MULTIPLY_ADDS_MAX", 140 * 9 * 20)  # what 20 rows take
    filter_picture(picture(rng, (203, 140, 1), np.uint8), ["1 2 3; 4 5 6; 7 8 10"], threads=1)
    assert made[2] == 3 * 11


@pytest.mark.parametrize(("kernel", "algorithm"), [("gabor:2,30", "direct"), ("gaussian:4", "separable")])
def test_bands_of_much_work_are_the_same(rng, monkeypatch, kernel, algorithm):
    pixels = picture(rng, (61, 140, 3), np.uint8)
    at_once = filter_picture(pixels, [kernel], algorithm=algorithm).pixels
    monkeypatch.setattr(regions, "REGION_MULTIPLY_ADDS_MAX", 1)
    np.testing.assert_array_equal(filter_picture(pixels, [kernel], algorithm=algorithm, threads=2).pixels, at_once)


@pytest.mark.parametrize("stride", [(1, 1), (1, 3)])
@pytest.mark.parametrize("algorithm", ["auto", "separable", "fft"])
@pytest.mark.parametrize("taps", [(3, 3), (9, 9), (31, 31)])
def test_not_a_number_stays_where_it_is_seen(rng, taps, algorithm, stride):
    pixels = picture(rng, (44, 40, 1), np.float32)
    pixels[30, 31], pixels[5, 6] = np.nan, np.inf
    weights = rng.uniform(0.5, 1, taps)
    weights[0, 0] = 0
    expected = naive.convolve(pixels, weights, stride, same_pads(pixels.shape, taps, stride, (1, 1)), border="wrap")
    result = convolve(pixels, weights, stride=stride, border="wrap", algorithm=algorithm)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(result), np.isinf(expected))


def test_the_input_is_left_alone_and_may_be_read_only_or_strided(rng):
    pixels = picture(rng, (20, 30, 3), np.uint8)
    before = pixels.copy()
    pixels.flags.writeable = False
    result = convolve(pixels, "sharpen")
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(convolve(pixels[:, ::-1], "sharpen")[:, ::-1], result)
    assert convolve(pixels[:, :, 0], "sharpen").shape == (20, 30)
    assert convolve(pixels.astype(np.int64), "sharpen").dtype == np.float32


# --- several kernels, signs ---------------------------------------------------------------------------


def test_every_combination(rng):
    pixels = picture(rng, (12, 15, 3), np.uint8)
    h, v = (convolve(pixels, f"sobel-{way}").astype(np.float64) for way in "hv")
    expected = {
        "magnitude": np.hypot(h, v),
        "max": np.maximum(h, v),
        "mean": (h + v) / 2,
        "sum": h + v,
    }
    for combine, wanted in expected.items():
        result = filter_picture(pixels, ["sobel-h", "sobel-v"], combine=combine, dtype=np.float32, bias=2)
        close(result.pixels, wanted + 2)
    stack = filter_picture(pixels, ["sobel-h", "sobel-v"], combine="stack", dtype=np.float32).pixels
    assert stack.shape == (12, 15, 6)
    close(stack[:, :, 0::2], h)
    close(stack[:, :, 1::2], v)


def test_a_name_of_several_kernels_has_its_combination(rng):
    pixels = picture(rng, (12, 15, 1), np.uint8)
    pair = filter_picture(pixels, ["sobel-h", "sobel-v"]).pixels
    np.testing.assert_array_equal(filter_picture(pixels, ["sobel"]).pixels, pair)
    compass = [convolve(pixels, f"kirsch:{way}") for way in ("n", "ne", "e", "se", "s", "sw", "w", "nw")]
    expected = np.max(compass, axis=0)
    np.testing.assert_array_equal(filter_picture(pixels, ["kirsch"]).pixels, np.minimum(expected, 255))


@pytest.mark.parametrize("kernels", [["kirsch"], ["robinson"], ["sobel-h", "sobel-v"], ["1 -1", "2 -2"]])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("alpha", [None, 0, 255])
def test_the_largest_signed_response_in_every_type(rng, kernels, dtype, alpha):
    pixels = (100 + picture(rng, (12, 15, 1), np.uint8) // 8).astype(dtype)
    responses = [convolve(pixels, kernel) for spec in kernels for kernel in find_kernels(spec)]
    expected = np.max(responses, axis=0)
    if dtype != np.float32:
        expected = np.minimum(np.abs(expected), np.iinfo(dtype).max)  # of kernels that sum to 0
    image = Image.from_array(pixels)
    if alpha is not None and dtype != np.float32:
        image = with_alpha(pixels, alpha)
    found = filter_image(image, kernels, combine="max")[0].colour
    assert np.abs(found.astype(float) - expected)[3:, 3:].max() <= (0 if alpha is None else 1)


def with_alpha(pixels, corner) -> Image:
    """Return an opaque picture, whose first pixel has an alpha of its own."""
    opacity = np.full_like(pixels[:, :, :1], np.iinfo(pixels.dtype).max)
    opacity[0, 0] = corner
    return Image.from_array(np.concatenate([pixels, opacity], axis=2))


@pytest.mark.parametrize("combine", ["max", "mean", "sum", "magnitude", "stack"])
@pytest.mark.parametrize("alpha", [255, 0])
def test_the_offset_of_a_kernel_belongs_to_its_result_and_the_bias_to_all(rng, combine, alpha):
    pixels = picture(rng, (12, 15, 1), np.uint8)
    kernels = [Kernel(np.array([[-1.0, 1.0]]), offset=40), Kernel(np.array([[0.5, 0.25]]), offset=-7)]
    first, second = convolve(pixels, "-1 1") + 40.0, convolve(pixels, "0.5 0.25") - 7.0
    expected = {
        "max": np.maximum(first, second) + 3,
        "mean": (first + second) / 2 + 3,
        "sum": first + second + 3,
        "magnitude": np.hypot(first, second) + 3,
        "stack": np.concatenate([first, second], axis=2) + 3,
    }[combine]
    for image in (Image.from_array(pixels), with_alpha(pixels, alpha)):
        found = filter_image(image, kernels, combine=combine, bias=3, dtype=np.float32, alpha="drop")[0]
        np.testing.assert_allclose(found.pixels[3:, 3:], expected[3:, 3:], atol=1e-2)


def test_every_rule_for_signs():
    ramp = np.array([[0, 100, 0, 200, 200]], np.uint8)
    difference = "-1 0 1"
    exact = np.array([100, 0, 100, 200, 0])
    exact = convolve(ramp, difference)[0]
    np.testing.assert_array_equal(exact, [100, 0, 100, 200, 0])
    falling = ramp[:, ::-1]

    def stored(signed, kernel=difference):
        result = filter_picture(falling, [kernel], signed=signed)
        return result.pixels[0, :, 0].tolist(), result.clipped

    assert stored("clip") == ([0, 0, 0, 0, 0], 0.6)
    assert stored("abs") == ([0, 200, 100, 0, 100], 0)
    assert stored("auto") == stored("abs")
    assert stored("auto", "-1 0 2") == stored("clip", "-1 0 2")
    assert stored("offset") == ([128, 28, 78, 128, 78], 0)
    assert stored("stretch") == ([255, 0, 128, 255, 128], 0)
    assert stored("auto", Kernel(np.array([[-1.0, 0, 1]]), offset=128)) == ([128, 0, 28, 128, 28], 0.2)
    assert filter_picture(falling, [difference], bias=128).pixels[0, :, 0].tolist() == [128, 0, 28, 128, 28]
    assert filter_picture(falling, [difference] * 2, combine="mean", bias=128).pixels[0, 1, 0] == 0
    assert filter_picture(falling, [difference], bias=128, signed="abs").pixels[0, 1, 0] == 72


def test_a_float_picture_keeps_its_signs():
    ramp = np.array([[200, 100, 0]], np.float32)
    assert filter_picture(ramp, ["-1 0 1"]).pixels.ravel().tolist() == [-100, -200, -100]
    assert filter_picture(ramp, ["-1 0 1"], signed="abs").pixels.ravel().tolist() == [100, 200, 100]
    assert convolve(ramp, "-1 0 1").tolist() == [[-100, -200, -100]]


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "stride 0 is not one or two whole numbers of at least 1"),
        ({"dilation": (1, -1)}, r"dilation \(1, -1\)"),
        ({"padding": "full"}, "padding 'full' is not same, valid"),
        ({"padding": -1}, "padding -1"),
        ({"border": "mirror"}, "border 'mirror' is not replicate"),
        ({"border": "constant:x"}, "border 'constant:x'"),
        ({"algorithm": "winograd"}, "algorithm 'winograd' is not one of auto, direct"),
        ({"dtype": np.int8}, "dtype int8 is not uint8"),
        ({"padding": "valid"}, "a window of 5x5 does not fit into 4x4"),
        ({"threads": 0}, "threads 0 is not a whole number from 1 up"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ShapeError, match=message):
        convolve(np.zeros((4, 4), np.uint8), np.ones((5, 5)), **options)


def test_pixels_of_any_numeric_type():
    close(convolve([[1, 2], [3, 4]], "1 1", padding="valid"), np.array([[3.0], [7.0]]))
    for pixels in (np.zeros((3, 3), complex), np.array([["a"]]), np.zeros((3, 3), object)):
        with pytest.raises(ShapeError, match="are not numbers that can be filtered"):
            convolve(pixels, "blur")


def test_kernels_of_different_results_are_refused():
    pixels = np.zeros((9, 9), np.uint8)
    with pytest.raises(ShapeError, match="different sizes \\(7x7, 5x5\\)"):
        filter_picture(pixels, ["box:3", "box:5"], padding="valid")
    with pytest.raises(ShapeError, match="no kernel"):
        filter_picture(pixels, [])
    with pytest.raises(ShapeError, match="combine 'product'"):
        filter_picture(pixels, ["blur"], combine="product")
    with pytest.raises(ShapeError, match="signed 'no'"):
        filter_picture(pixels, ["blur"], signed="no")
    with pytest.raises(ShapeError, match=r"\(0, 3\)"):
        convolve(np.zeros((0, 3), np.uint8), "blur")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("taps", [(1, 1), (3, 3), (4, 2), (15, 15)])
def test_a_kernel_of_zeros_gives_the_bias(rng, taps, algorithm):
    for source, target, shape in itertools.product(TYPES, TYPES, [(8, 8), (60, 70, 3)]):
        pixels = picture(rng, shape, source)
        for bias, stride in itertools.product((0, 100), (1, 2)):
            how = {"dtype": target, "bias": bias, "stride": stride, "algorithm": algorithm}
            assert (convolve(pixels, np.zeros(taps), **how) == bias).all()
            assert (filter_picture(pixels, [np.zeros(taps)], **how).pixels == bias).all()


@pytest.mark.parametrize("weights", [[[1e308, 1e308]], [[1e308, -1e308]], [[2e36]]])
def test_weights_whose_sums_pass_float32_are_refused(weights):
    with pytest.raises(KernelError, match=r"its weights add up to .* float32, which allows 1.33e\+36"):
        convolve(np.full((4, 5), 3, np.uint8), weights)


@pytest.mark.parametrize("signed", ["offset", "stretch"])
def test_a_kernel_of_zeros_has_every_rule_for_signs(rng, signed):
    pixels = picture(rng, (60, 70, 3), np.uint8)
    result = filter_picture(pixels, [np.zeros((3, 3))], signed=signed).pixels
    assert len(np.unique(result)) == 1


@pytest.mark.parametrize("taps", [(3, 3), (4, 7), (15, 15), (31, 5), (300, 2), (2, 40)])
@pytest.mark.parametrize("channels", [1, 3, 4, 17])
def test_boxes_of_bytes(rng, taps, channels):
    pixels = picture(rng, (40, 37, channels), np.uint8)
    weights = np.full(taps, 1 / (taps[0] * taps[1]))
    pads = same_pads(pixels.shape, taps, (1, 1), (1, 1))
    exact = naive.convolve(pixels, weights, pads=pads, border="reflect")
    result = filter_picture(pixels, [weights], border="reflect", bias=-3)
    # A sum that is a half to the last bit may fall on either side.
    assert np.abs(result.pixels - np.clip(exact - 3, 0, 255)).max() <= 0.5 + 1e-4
    assert result.clipped == pytest.approx((exact - 3 < -0.5).mean())
    assert result.algorithms_used[0].startswith("separable")
    strided = convolve(pixels, weights, border="reflect", stride=2, dtype=np.uint8)
    assert strided.shape[:2] == (20, 19)


@pytest.mark.parametrize(
    "kernel", ["sobel-h", "sharpen", "box:3", "9 -30 40; 0 -20 1", "129 -127", "0.1 0.3 -0.2", "-1 0.5"]
)
@pytest.mark.parametrize("signed", ["clip", "abs", "offset"])
@pytest.mark.parametrize("bias", [0, 7, -3.25, 40_000])
def test_small_kernels_of_bytes_give_what_floats_give(rng, kernel, signed, bias):
    pixels = picture(rng, (30, 1500, 1), np.uint8)  # more columns than a block has
    weights = find_kernel(kernel).weights
    exact = naive.convolve(pixels, weights, pads=same_pads(pixels.shape, weights.shape, (1, 1), (1, 1)), border="wrap")
    exact = {"clip": exact + bias, "abs": np.abs(exact + bias), "offset": (exact + bias) / 2 + 127.5}[signed]
    result = filter_picture(pixels, [kernel], signed=signed, bias=bias, border="wrap")
    assert np.abs(result.pixels - np.clip(exact, 0, 255)).max() <= 0.5 + 1e-4
    assert result.clipped == pytest.approx(((exact < -0.5) | (exact >= 255.5)).mean(), abs=1e-3)


def test_clipping_of_large_pictures_is_counted_in_a_quarter_of_their_rows(rng):
    pixels = picture(rng, (700, 500, 1), np.uint8)
    exact = convolve(pixels, "sharpen")
    result = filter_picture(pixels, ["sharpen"])
    assert result.clipped == pytest.approx(((exact < -0.5) | (exact >= 255.5)).mean(), rel=0.05)


@pytest.mark.parametrize("algorithm", ["direct", "separable", "fft"])
@pytest.mark.parametrize("dtype", TYPES)
def test_more_padding_than_the_window_reaches(rng, algorithm, dtype):
    pixels = picture(rng, (9, 300, 1), dtype)
    weights = rng.normal(0, 1, (3, 3))
    for border in BORDERS:
        expected = naive.convolve(pixels, weights, pads=((7, 20), (140, 9)), border=border)
        found = convolve(pixels, weights, padding=(7, 9, 20, 140), border=border, algorithm=algorithm)
        close(found, expected, algorithm)
