"""Kernels of special numbers: zeros, the smallest and the largest floats, shown and applied without a nan."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cnnfilter.cli import main
from cnnfilter.cli.reports.kernel import kernel_record
from cnnfilter.cli.reports.kernel_drawing import draw_picture
from cnnfilter.errors import KernelError
from cnnfilter.filters.convolution.convolve import filter_picture
from cnnfilter.filters.images import filter_image
from cnnfilter.images.image import Image
from cnnfilter.kernels.lookup import find_kernel

SPECIAL = (
    "0",
    "-0.0",
    "1",
    "-1",
    "1/3",
    "16777217",  # the first whole number that float32 does not hold
    "9007199254740993",  # and float64
    "5e-324",  # the smallest subnormal float64
    "-5e-324",
    "1e-310",
    "2.2250738585072014e-308",  # the smallest normal float64
    "1e-46",  # less than half of the smallest float32
    "1e-45",
    "1e36",
    "-1e36",
    "3.4e38",  # near the largest float32
    "3.5e38",
    "1e150",
    "1e308",
    "-1e308",
    "1.7976931348623157e308",  # the largest float64
    "-1.7976931348623157e308",
)

RULES = ("auto", "clip", "abs", "offset", "stretch")


@st.composite
def kernels(draw: st.DrawFn) -> str:
    """Return a kernel as text: of any special numbers, or of one or two of them many times."""
    height, width = draw(st.sampled_from([(1, 1), (1, 2), (1, 3), (2, 2), (3, 3), (5, 1), (3, 2), (1, 40)]))
    numbers = draw(st.lists(st.sampled_from(SPECIAL), min_size=1, max_size=4))
    words = st.sampled_from(numbers)
    return "; ".join(" ".join(draw(words) for _ in range(width)) for _ in range(height))


def show(*args: str) -> str:
    result = CliRunner().invoke(main, ["kernels", "show", *args])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(kernels())
@example("1e308 1e308")
@example("1e-310 1e308 -1.7976931348623157e308; 3.4e38 1.7976931348623157e308 1.7976931348623157e308; 0 0 0")
def test_every_kernel_is_shown_in_numbers(kernel):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = show("--", kernel)
        record = json.loads(show("--json", "--", kernel), parse_constant=refuse_constant)
        draw_picture([find_kernel(kernel)])
    assert not re.search(r"\b(nan|inf|infinity)\b", text, re.IGNORECASE)
    assert record["kernels"][0]["weights"] == find_kernel(kernel).weights.tolist()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    kernels(),
    st.sampled_from(RULES),
    st.sampled_from(["auto", "direct", "separable", "fft"]),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
)
@example("1e-310", "auto", "auto", np.uint8, np.uint8)
@example("-1 3.4e38", "stretch", "auto", np.float32, np.float32)
@example("1e-46 1e-46; -5e-324 -5e-324", "stretch", "separable", np.uint8, np.float32)
def test_every_kernel_is_applied_or_refused(kernel, signed, algorithm, source, target):
    pixels = np.arange(7 * 8 * 2).reshape(7, 8, 2).astype(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = filter_picture(pixels, [kernel], signed=signed, algorithm=algorithm, dtype=target).pixels
        except KernelError as error:
            refused = str(error)
            assert "add up to" in refused
            assert not re.search(r"\b(nan|inf)\b", refused)
            return
        layer = CliRunner().invoke(main, ["describe", f"conv '{kernel}'", "--input", "9x9x1"])
    assert not np.isnan(result).any()
    assert layer.exit_code == 0, layer.output


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_weights_too_small_for_float32_give_nothing(dtype):
    pixels = np.full((6, 70), 200, dtype)
    for kernel in ("1e-310", "5e-324 5e-324", "0 2.2250738585072014e-308 0"):
        result = filter_picture(pixels[:, :, None], [kernel])
        assert not result.pixels.any(), kernel


def test_weights_whose_sums_pass_float32_are_refused_with_alpha_too():
    picture = np.full((5, 6, 4), 65535, np.uint16)
    picture[2:, :, 3] = 30000
    with pytest.raises(KernelError, match=r"add up to 1e\+36 without their signs"):
        filter_image(Image(picture, "RGBA"), ["1e36"])


def test_a_sum_that_no_float_holds_is_said_in_words():
    text = show("1e308 1e308")
    assert "  sum         more than 1.8e+308: brightness is multiplied by it (--normalize divides by it)\n" in text
    beyond = "where it rises by 1 a pixel, the result is beyond 1.8e+308, the largest float\n"
    assert f"  ramp down   {beyond}  ramp right  {beyond}" in text
    assert "  1e+308  1e+308    +█ +█\n" in text
    assert "  sum         less than -1.8e+308: " in show("--", "-1e308 -1e308")


def test_a_sum_that_no_float_holds_is_null_in_json():
    record = kernel_record(find_kernel("1e308 1e308 1e308"))
    assert (record["sum"], record["ramp_down"], record["ramp_right"]) == (None, 0.0, 0.0)
    record = kernel_record(find_kernel("1e308 0 -1e308"))
    assert (record["sum"], record["ramp_down"], record["ramp_right"]) == (0.0, 0.0, None)
    record = kernel_record(find_kernel("1e300 0 -1e300"))
    assert record["ramp_right"] == -2e300
