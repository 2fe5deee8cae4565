"""A kernel from a spec; its sum, symmetry and separable terms."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnfilter.errors import KernelError
from cnnfilter.kernels.catalogue import COMPASS, ENTRIES
from cnnfilter.kernels.kernel import Kernel, KernelSet
from cnnfilter.kernels.lookup import find_kernel, find_kernels, kernel_names
from cnnfilter.kernels.text import check
from cnnfilter.runtime import limits

SINGLE = [
    *(name for name, entry in ENTRIES.items() if not entry.members),
    *(f"{name}:{side}" for name in ("kirsch", "robinson") for side in COMPASS),
]
ZERO_SUM = {"blob", "edge", "compass", "line"}

# What is drawn, and what it is divided by.
GOLDEN = {
    "identity": ("0 0 0; 0 1 0; 0 0 0", 1),
    "blur": ("1 2 1; 2 4 2; 1 2 1", 16),
    "box": ("1 1 1; 1 1 1; 1 1 1", 9),
    "box:1,4": ("1 1 1 1", 4),
    "binomial": ("1 4 6 4 1; 4 16 24 16 4; 6 24 36 24 6; 4 16 24 16 4; 1 4 6 4 1", 256),
    "binomial:2": ("1 1; 1 1", 4),
    "motion": ("1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", 15),
    "motion:3,90": ("1; 1; 1", 3),
    "motion:4": ("0.5 1 1 1 0.5", 4),
    "sharpen": ("0 -1 0; -1 5 -1; 0 -1 0", 1),
    "sharpen-more": ("-1 -1 -1; -1 9 -1; -1 -1 -1", 1),
    "high-boost": ("-1 -1 -1; -1 17 -1; -1 -1 -1", 9),
    "high-boost:1": ("-1 -1 -1; -1 8 -1; -1 -1 -1", 9),
    "low-pass": ("1 1 1; 1 1 1; 1 1 1", 9),
    "high-pass": ("-1 -1 -1; -1 8 -1; -1 -1 -1", 9),
    "high-pass-5": (
        "-1 -1 -1 -1 -1; -1 -1 -1 -1 -1; -1 -1 24 -1 -1; -1 -1 -1 -1 -1; -1 -1 -1 -1 -1",
        25,
    ),
    "laplacian": ("0 1 0; 1 -4 1; 0 1 0", 1),
    "laplacian-8": ("1 1 1; 1 -8 1; 1 1 1", 1),
    "outline": ("-1 -1 -1; -1 8 -1; -1 -1 -1", 1),
    "sobel-h": ("-1 -2 -1; 0 0 0; 1 2 1", 1),
    "sobel-v": ("-1 0 1; -2 0 2; -1 0 1", 1),
    "scharr-h": ("-3 -10 -3; 0 0 0; 3 10 3", 1),
    "scharr-v": ("-3 0 3; -10 0 10; -3 0 3", 1),
    "prewitt-h": ("-1 -1 -1; 0 0 0; 1 1 1", 1),
    "prewitt-v": ("-1 0 1; -1 0 1; -1 0 1", 1),
    "frei-chen-h": ("-1 -1.4142135623730951 -1; 0 0 0; 1 1.4142135623730951 1", 1),
    "frei-chen-v": ("-1 0 1; -1.4142135623730951 0 1.4142135623730951; -1 0 1", 1),
    "roberts-1": ("-1 0; 0 1", 1),
    "roberts-2": ("0 -1; 1 0", 1),
    "kirsch:n": ("5 5 5; -3 0 -3; -3 -3 -3", 1),
    "kirsch:ne": ("-3 5 5; -3 0 5; -3 -3 -3", 1),
    "kirsch:e": ("-3 -3 5; -3 0 5; -3 -3 5", 1),
    "kirsch:se": ("-3 -3 -3; -3 0 5; -3 5 5", 1),
    "kirsch:s": ("-3 -3 -3; -3 0 -3; 5 5 5", 1),
    "kirsch:sw": ("-3 -3 -3; 5 0 -3; 5 5 -3", 1),
    "kirsch:w": ("5 -3 -3; 5 0 -3; 5 -3 -3", 1),
    "kirsch:nw": ("5 5 -3; 5 0 -3; -3 -3 -3", 1),
    "robinson:n": ("1 2 1; 0 0 0; -1 -2 -1", 1),
    "robinson:ne": ("0 1 2; -1 0 1; -2 -1 0", 1),
    "robinson:e": ("-1 0 1; -2 0 2; -1 0 1", 1),
    "robinson:se": ("-2 -1 0; -1 0 1; 0 1 2", 1),
    "robinson:s": ("-1 -2 -1; 0 0 0; 1 2 1", 1),
    "robinson:sw": ("0 -1 -2; 1 0 -1; 2 1 0", 1),
    "robinson:w": ("1 0 -1; 2 0 -2; 1 0 -1", 1),
    "robinson:nw": ("2 1 0; 1 0 -1; 0 -1 -2", 1),
    "line-h": ("-1 -1 -1; 2 2 2; -1 -1 -1", 1),
    "line-v": ("-1 2 -1; -1 2 -1; -1 2 -1", 1),
    "line-45": ("-1 -1 2; -1 2 -1; 2 -1 -1", 1),
    "line-135": ("2 -1 -1; -1 2 -1; -1 -1 2", 1),
    "emboss": ("-2 -1 0; -1 1 1; 0 1 2", 1),
}
# These have no simple numbers; test_kernel_formulas.py holds their truths.
COMPUTED = {"gaussian", "disk", "unsharp", "log", "dog", "gabor", "farid-h", "farid-v"}


def drawn(text: str) -> np.ndarray:
    return np.array([[float(word) for word in row.split()] for row in text.split(";")])


# ---------------------------------------------------------------- known values


@pytest.mark.parametrize("name", GOLDEN)
def test_weights_are_as_published(name):
    text, divisor = GOLDEN[name]
    np.testing.assert_allclose(find_kernel(name).weights, drawn(text) / divisor, rtol=1e-15, atol=0)


def test_every_name_is_checked_by_a_literal_or_a_truth_of_its_own():
    covered = {name.partition(":")[0] for name in GOLDEN} | COMPUTED
    pairs = {name for name, entry in ENTRIES.items() if entry.members}
    assert covered | pairs == set(kernel_names())


def test_farid_has_the_published_taps():
    smooth = [0.037659, 0.249153, 0.426375, 0.249153, 0.037659]
    edge = [-0.109604, -0.276691, 0, 0.276691, 0.109604]
    np.testing.assert_allclose(find_kernel("farid-h").weights, np.outer(edge, smooth), atol=1e-6)
    np.testing.assert_allclose(find_kernel("farid-v").weights, np.outer(smooth, edge), atol=1e-6)


@pytest.mark.parametrize("name", ["sobel", "scharr", "prewitt", "farid", "frei-chen"])
def test_h_finds_horizontal_edges_and_rises_where_it_gets_brighter_downwards(name):
    step = np.repeat([0.0, 0, 1, 1, 1], 5).reshape(5, 5)
    horizontal, vertical = find_kernels(name)
    window = tuple(slice(0, side) for side in horizontal.shape)
    assert (horizontal.weights * step[window]).sum() > 0
    assert (vertical.weights * step[window]).sum() == pytest.approx(0, abs=1e-15)
    np.testing.assert_array_equal(vertical.weights, horizontal.weights.T)


@pytest.mark.parametrize("name", ["kirsch", "robinson"])
@pytest.mark.parametrize("side", COMPASS)
def test_a_compass_kernel_is_strongest_where_its_side_is_brighter(name, side):
    y, x = np.mgrid[-1:2, -1:2]
    south = ("s" in side) - ("n" in side)
    east = ("e" in side) - ("w" in side)
    brighter = (y * south + x * east > 0).astype(float)
    strongest = max(find_kernels(name), key=lambda kernel: (kernel.weights * brighter).sum())
    assert strongest.name == f"{name}:{side}"


@pytest.mark.parametrize("name", SINGLE)
def test_edge_finders_sum_to_zero_and_blurs_to_one(name):
    kernel = find_kernel(name)
    family = ENTRIES[name.partition(":")[0]].family
    if family in ZERO_SUM or name.startswith("high-pass"):
        assert kernel.is_zero_sum
        assert kernel.sum == 0
    else:
        assert kernel.sum == pytest.approx(1, abs=1e-14)


# ---------------------------------------------------------------- oracles: what other tools hold


@pytest.mark.parametrize(
    ("name", "function", "scale"),
    [
        ("sobel-h", "sobel_h", 4),
        ("sobel-v", "sobel_v", 4),
        ("scharr-h", "scharr_h", 16),
        ("scharr-v", "scharr_v", 16),
        ("prewitt-h", "prewitt_h", 3),
        ("prewitt-v", "prewitt_v", 3),
        ("farid-h", "farid_h", 1),
        ("farid-v", "farid_v", 1),
        ("roberts-1", "roberts_pos_diag", 1),
        ("roberts-2", "roberts_neg_diag", 1),
    ],
)
def test_same_as_scikit_image(name, function, scale, rng):
    filters = pytest.importorskip("skimage.filters")
    picture = rng.random((12, 13))
    theirs = getattr(filters, function)(picture) * scale
    np.testing.assert_allclose(same(picture, find_kernel(name))[3:-3, 3:-3], theirs[3:-3, 3:-3], atol=1e-14)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("sobel-h", lambda cv2, p: cv2.Sobel(p, -1, 0, 1)),
        ("sobel-v", lambda cv2, p: cv2.Sobel(p, -1, 1, 0)),
        ("scharr-h", lambda cv2, p: cv2.Scharr(p, -1, 0, 1)),
        ("scharr-v", lambda cv2, p: cv2.Scharr(p, -1, 1, 0)),
        ("laplacian", lambda cv2, p: cv2.Laplacian(p, -1, ksize=1)),
        ("box:5", lambda cv2, p: cv2.blur(p, (5, 5))),
        ("box:3,5", lambda cv2, p: cv2.blur(p, (5, 3))),
        ("blur", lambda cv2, p: cv2.GaussianBlur(p, (3, 3), 0)),  # the fixed kernel 1 2 1
        ("gaussian:1.4,9", lambda cv2, p: cv2.GaussianBlur(p, (9, 9), 1.4)),
    ],
)
def test_same_as_opencv(name, call, rng):
    cv2 = pytest.importorskip("cv2")
    picture = rng.random((14, 15))
    theirs = call(cv2, picture)
    np.testing.assert_allclose(same(picture, find_kernel(name))[4:-4, 4:-4], theirs[4:-4, 4:-4], atol=1e-12)


def same(picture: np.ndarray, kernel: Kernel) -> np.ndarray:
    """Cross-correlation, the smaller half of an even kernel before."""
    height, width = kernel.shape
    padded = np.pad(picture, (((height - 1) // 2, height // 2), ((width - 1) // 2, width // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)
    return np.einsum("yxij,ij->yx", windows, kernel.weights)


# ---------------------------------------------------------------- laws


def test_low_pass_and_high_pass_make_up_the_picture():
    identity = find_kernel("identity").weights
    np.testing.assert_allclose(find_kernel("low-pass").weights + find_kernel("high-pass").weights, identity)
    five = find_kernel("box:5").weights + find_kernel("high-pass-5").weights
    np.testing.assert_allclose(five, np.pad(identity, 1), atol=1e-16)


def test_sharpen_is_identity_minus_laplacian():
    identity = find_kernel("identity").weights
    np.testing.assert_array_equal(find_kernel("sharpen").weights, identity - find_kernel("laplacian").weights)
    np.testing.assert_array_equal(find_kernel("sharpen-more").weights, identity - find_kernel("laplacian-8").weights)
    np.testing.assert_array_equal(find_kernel("outline").weights, -find_kernel("laplacian-8").weights)


def test_flip_twice_and_transpose_twice_change_nothing():
    kernel = find_kernel("1 2 3; 4 5 6")
    assert kernel.flip().flip() == kernel
    assert kernel.transpose().transpose() == kernel
    np.testing.assert_array_equal(kernel.flip().weights, [[6, 5, 4], [3, 2, 1]])
    np.testing.assert_array_equal(kernel.transpose().weights, [[1, 4], [2, 5], [3, 6]])


# ---------------------------------------------------------------- the grammar


@pytest.mark.parametrize(
    "spec",
    [
        "1 2 3; 4 5 6",
        " 1 2 3 ;4 5 6; ",
        "1,2,3;4,5,6",
        "1, 2, 3; 4, 5, 6",
        "1 2 3\n4 5 6\n",
        "1 2 3;\n4 5 6;\n",
        "1 2/1 6/2; 4 +5 6e0",
        "1 2 3, 4 5 6",
        "1 2 3 ,4 5 6",
        "1,2,3 4,5,6",
        "1, 2, 3  4, 5, 6",
        "1, 2, 3,\n4, 5, 6,\n",
        "1 2 3; 4 5 6 # a comment",
        "# a comment\n1 2 3 // of C\n% of Octave\n4 5 6",
        "[1 2 3; 4 5 6]",
        "[1, 2, 3; 4, 5, 6];",
        "[1 2 3\n 4 5 6]",
        "[[1 2 3]\n [4 5 6]]",
        "[[1, 4/2, 3], [4, 5, +6]]",
        "[[1, 2, 3],  # a comment\n [4, 5, 6]]",
        "{{1,2,3},{4,5,6}}",
        "{ { 1, 2, 3, }, { 4, 5, 6 }, };",
        "[[1, 2, 3], [4, 5, 6]]",
        '[["1", "4/2", 3], [4, 5, 6]]',
        '{"weights": [[2, 4, 6], [8, 10, 12]], "divisor": 2}',
        [[1, 2, 3], [4, 5, 6]],
        ((1, 2, 3), (4, 5, 6)),
        [np.array([1, 2, 3]), np.array([4, 5, 6])],
        np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8),
        np.array([[1, 2, 3], [4, 5, 6]], dtype=">f4")[::1],
        Kernel(np.array([[1, 2, 3], [4, 5, 6]])),
    ],
    ids=repr,
)
def test_notations_of_the_same_numbers(spec):
    kernel = find_kernel(spec)
    np.testing.assert_array_equal(kernel.weights, [[1, 2, 3], [4, 5, 6]])
    assert kernel.weights.dtype == np.float64
    assert kernel.tag == "kernel-2x3"


def test_a_path_is_a_file_under_any_name(tmp_path):
    path = tmp_path / "@blur"
    path.write_text("1 2 1")
    assert find_kernel(path).shape == (1, 3)
    with pytest.raises(KernelError, match=r"none\.txt: [Nn]o such file"):
        find_kernel(tmp_path / "none.txt")


@pytest.mark.parametrize(
    "spec",
    [
        "3x3: 0,1,2,3,4,5,6,7,8",
        "3x3:0,1,2,3,4,5,6,7,8",
        "3X3 : 0 1 2 3 4 5 6 7 8",
        "3x3: 0,1,2 3,4,5 6,7,8",
        "3x3:\n 0, 1, 2,\n 3, 4, 5,\n 6, 7, 8\n",
        "3x3: 0 1 2; 3 4 5; 6 7 8",
        "3: 0,1,2,3,4,5,6,7,8",
        "3x3+1+1: 0,1,2,3,4,5,6,7,8",
    ],
)
def test_imagemagick_writes_a_size_before_the_numbers(spec):
    np.testing.assert_array_equal(find_kernel(spec).weights, np.arange(9).reshape(3, 3))


def test_square_sizes_of_imagemagick_may_be_even():
    np.testing.assert_array_equal(find_kernel("2x2: 1,2,3,4").weights, [[1, 2], [3, 4]])


@pytest.mark.parametrize("count", [9, 25, 49])
@pytest.mark.parametrize(
    ("before", "between", "after"),
    [
        ("", " ", ""),
        ("", ",", ""),
        ("", ", ", ""),
        ("[", " ", "]"),
        ("[", ", ", "]"),
        ("{", ",", "}"),
        ('{"weights": [', ",", "]}"),
        ("", " ", "\n"),
        ("# a comment\n", " ", " # and another"),
    ],
)
def test_a_row_that_could_be_a_square_is_refused_and_both_are_shown(before, between, after, count):
    side = math.isqrt(count)
    words = [str(n % 10) for n in range(count)]
    for check_or_find in (check, find_kernels):
        with pytest.raises(KernelError) as caught:
            check_or_find(before + between.join(words) + after)
        message = str(caught.value)
        assert f"{count} numbers in a row can be a kernel of {side}x{side} or one row" in message
        assert f"'{side}x{side}: 0,1,2,3" in message
        assert message.endswith(";'")


@pytest.mark.parametrize("count", [9, 25])
def test_both_ways_that_the_refusal_shows_are_kernels(count):
    side = math.isqrt(count)
    words = [str(n % 10) for n in range(count)]
    with pytest.raises(KernelError) as caught:
        find_kernel(" ".join(words))
    square, row = re.findall(r"'([^']*)'", str(caught.value))
    np.testing.assert_array_equal(find_kernel(square).weights, (np.arange(count) % 10).reshape(side, side))
    np.testing.assert_array_equal(find_kernel(row).weights, (np.arange(count) % 10)[None, :])


@pytest.mark.parametrize(
    "spec",
    [
        "0 1 2 3 4 5 6 7 8;",
        "0,1,2,3,4,5,6,7,8;",
        "0,1,2 3,4,5 6,7,8;",
        "[0 1 2 3 4 5 6 7 8;]",
        "[0, 1, 2, 3, 4, 5, 6, 7, 8];",
        "[[0, 1, 2, 3, 4, 5, 6, 7, 8]]",
        "{{0,1,2,3,4,5,6,7,8}}",
        [list(range(9))],
        np.arange(9)[None, :],
    ],
    ids=repr,
)
def test_one_row_of_nine_is_written_with_a_semicolon_or_two_pairs_of_brackets(spec):
    np.testing.assert_array_equal(find_kernel(spec).weights, [range(9)])


@pytest.mark.parametrize("spec", [list(range(9)), tuple(range(25)), np.arange(9), np.arange(49.0)], ids=repr)
def test_a_flat_array_that_could_be_a_square_is_refused(spec):
    side = math.isqrt(len(spec))
    with pytest.raises(KernelError, match=rf"give them the shape \({side}, {side}\) or \(1, {len(spec)}\)"):
        find_kernel(spec)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 7, 8, 10, 15, 16, 27])
def test_a_row_of_another_length_is_one_row(count):
    for text in (" ".join(["1"] * count), ",".join(["1"] * count), f"[{', '.join(['1'] * count)}]"):
        assert find_kernel(text).shape == (1, count)
    assert find_kernel([1] * count).shape == (1, count)


@pytest.mark.parametrize("spec", ["1 2 1", "[1, 2, 1]", [1, 2, 1], np.array([1, 2, 1])], ids=repr)
def test_a_flat_list_is_one_row(spec):
    assert find_kernel(spec).shape == (1, 3)


@pytest.mark.parametrize(
    ("spec", "value"),
    [("-1", -1), ("\N{MINUS SIGN}1", -1), ("1/9", 1 / 9), ("-1/3", -1 / 3), (".5", 0.5), ("1e-3", 0.001)],
)
def test_a_single_number_is_a_kernel(spec, value):
    assert find_kernel(spec).weights == np.array([[value]])


@pytest.mark.parametrize("spec", ["Sobel-H", "sobel_h", " sobel-h "])
def test_names_forgive_case_and_underscores(spec):
    assert find_kernel(spec) == find_kernel("sobel-h")


@pytest.mark.parametrize(
    ("spec", "tag"),
    [
        ("sobel-h", "sobel-h"),
        ("Gaussian:1.4", "gaussian-1.4"),
        ("gaussian: 1.4, 9", "gaussian-1.4-9"),
        ("kirsch:ne", "kirsch-ne"),
        ("motion:15,-30", "motion-15-30"),
        ("1 0 -1", "kernel-1x3"),
    ],
)
def test_a_tag_can_be_part_of_a_file_name(spec, tag):
    assert find_kernel(spec).tag == tag
    assert find_kernels(spec).tag == tag


def test_pairs_and_compass_names_are_several_kernels():
    assert [kernel.name for kernel in find_kernels("sobel")] == ["sobel-h", "sobel-v"]
    assert find_kernels("sobel").combine == "magnitude"
    assert [kernel.name for kernel in find_kernels("roberts")] == ["roberts-1", "roberts-2"]
    assert [kernel.name for kernel in find_kernels("kirsch")] == [f"kirsch:{side}" for side in COMPASS]
    assert find_kernels("kirsch").combine == find_kernels("robinson").combine == "max"
    assert find_kernels("kirsch").tag == "kirsch"


def test_the_strongest_compass_direction_is_never_negative(rng):
    windows = rng.normal(size=(50, 3, 3))
    for name in ("kirsch", "robinson"):
        results = [(windows * kernel.weights).sum(axis=(1, 2)) for kernel in find_kernels(name)]
        assert (np.max(results, axis=0) >= 0).all()


def test_a_single_kernel_is_a_set_of_one():
    assert find_kernels("blur") == (find_kernel("blur"),)
    assert find_kernels(find_kernels("sobel")) == find_kernels("sobel")
    assert isinstance(find_kernels(find_kernel("blur")), KernelSet)


def test_a_name_wins_over_a_file_and_numbers_do_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("blur", "1"):
        (tmp_path / name).write_text("7 7 7")
    assert find_kernel("blur").shape == (3, 3)
    assert find_kernel("1").shape == (1, 1)
    assert find_kernel("@blur").shape == (1, 3)


def test_a_file_is_found_with_and_without_the_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my kernel.txt").write_text("1 2\n3 4\n")
    for spec in ("@my kernel.txt", "my kernel.txt", str(tmp_path / "my kernel.txt")):
        kernel = find_kernel(spec)
        np.testing.assert_array_equal(kernel.weights, [[1, 2], [3, 4]])
        assert (kernel.name, kernel.tag) == ("my kernel", "my-kernel")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "the kernel is empty"),
        ("  ", "the kernel is empty"),
        ("sobell-h", "'sobell-h': did you mean sobel-h"),
        ("sobel h", "did you mean sobel-h"),
        ("sobel-x", "did you mean sobel-v? `cnnfilter kernels list` shows all"),
        ("Gaussian_Blur:3", "did you mean gaussian?"),
        ("gausian-blur", "did you mean gaussian?"),
        ("median", "no kernel is called 'median': `cnnfilter kernels list` shows all"),
        ("zzz", "no kernel is called 'zzz': `cnnfilter kernels list` shows all"),
        ("3x3 0,-1,0", "numbers are written '0 -1 0; -1 5 -1; 0 -1 0' or '3x3: 0,-1,0,-1,5,-1,0,-1,0'"),
        ("3x3: 1,2,3", "'3x3:' needs 9 numbers, and there are 3"),
        ("3x3:", "'3x3:' needs 9 numbers, and there are 0"),
        ("3x3: 1 2; 3 4", "'3x3:' needs 3 rows of 3 numbers, and there are 2 rows"),
        ("3x3: nan,0,0,0,0,0,0,0,0", "row 1, column 1: nan is not a finite number"),
        ("1x3: 1,2,3", "only square sizes mean one thing: write '1; 2; 3' or '1 2 3;'"),
        ("3x1: 1,2,3", "'3x1:' is width x height in ImageMagick, and every size here is height x width"),
        ("3x2: 1,2,3,4,5,6", "write '1 2 3; 4 5 6' or '1 2; 3 4; 5 6'"),
        ("1x9: 1", "write rows, as in '0 -1 0; -1 5 -1; 0 -1 0'"),
        ("3x3+0+0: 1,2,3,4,5,6,7,8,9", "the middle of a kernel cannot be moved; write '3x3:'"),
        ("1x1: 1; 1x1: 2", "holds several kernels; give each one by itself"),
        ("5000x5000: 1", "a kernel of 5000x5000 is too large"),
        ("9" * 5000 + ": 1", "no kernel is called '999"),
        ("0 -1 0, -1 5 -1, 0 -1", "row 3 has 2 numbers (0 -1), row 1 has 3"),
        ("0,-1,0 -1,5", "row 2 has 2 numbers (-1 5), row 1 has 3"),
        ("[0 -1 0; -1 5 -1", "a bracket is not closed: write [0 -1 0; -1 5 -1; 0 -1 0]"),
        ("[1 2; 3 4]/9", "'/9' stands after the last bracket"),
        ("[1 2, 3 4]", "commas and spaces in one pair of brackets can mean 2 rows or one"),
        ("[1, 2,\n 3, 4]", "4 numbers on 2 lines of one list can be 2 rows or one"),
        ("{1, 2,\n 3, 4}", "4 numbers on 2 lines of one list can be 2 rows or one"),
        ("[0 x 0; 1 1 1]", "row 1, column 2: 'x' is not a number"),
        ("{{1,2},{3}}", "row 2 has 1 number (3), row 1 has 2"),
        ("[[1; 2]]", "brackets hold one row each"),
        ("x" * 500, "no kernel is called 'xxx"),
        ("a\0b", "no kernel is called"),
        ("sharpen:2", "sharpen takes no arguments, 'sharpen:2' has some"),
        ("box:1,2,3", "box takes box:N[,W], as in box:5; 3 arguments are too many"),
        ("box:0", "the n of box is a whole number from 1 to 1023, as in box:5; given was '0'"),
        ("box:2.5", "given was '2.5'"),
        ("box:5,1024", "the w of box is a whole number from 1 to 1023"),
        (
            "gaussian:0",
            "the sigma of gaussian is a number from 0.01 to 1000, as in gaussian:1.4; given was '0'",
        ),
        ("gaussian:nan", "given was 'nan'"),
        ("gaussian:-1", "given was '-1'"),
        ("gaussian:", "given was 'nothing'"),
        ("gaussian:big", "given was 'big'"),
        (
            "gaussian:200",
            "sigma 200 needs 1601x1601 weights, and 1023 a side is the most: take a sigma up to 127.75",
        ),
        ("gaussian:0.01,4", "sigma is too small for an even size; take 5"),
        ("dog:1,1", "dog:1,1 is zero everywhere"),
        ("gabor:1,0", "the wavelength of gabor is a number from 2 to 1000"),
        ("gabor:500,0", "take a wavelength up to 302"),
        ("motion:0", "the length of motion is a number from 1 to 1023"),
        ("motion:inf", "the length of motion is a number from 1 to 1023, as in"),
        ("motion:1023.5", "from 1 to 1023 (--max-kernel 1024 allows it), as in"),
        (
            "kirsch:up",
            "the direction of kirsch is one of n ne e se s sw w nw, as in kirsch:ne; given was 'up'",
        ),
        ("1 2 3; 4 5", "row 2 has 2 numbers (4 5), row 1 has 3: every row needs as many"),
        ("1 2; 3", "row 2 has 1 number (3)"),
        ("1 2;; 3 4", "row 2 is empty"),
        (";", "row 1 is empty"),
        ("1,,2", "row 1, column 2: nothing is not a number"),
        ("1 2; 3 x", "row 2, column 2: 'x' is not a number"),
        ("1 nan", "row 1, column 2: nan is not a finite number"),
        ("1 2; inf 3", "row 2, column 1: inf is not a finite number"),
        ("1e999", "1e999 is not a finite number"),
        ("1/0 1", "1/0 divides by zero"),
        ("1/2/3 1; 0 0", "'1/2/3' is not a number"),
        ("[[1, 2], [3]]", "row 2 has 1 number (3)"),
        ("[[1, 2], 3]", "a list of rows"),
        ("[", "not JSON"),
        ("[]", "at least one number"),
        ("[[]]", "at least one number"),
        ("[[1, true]]", "row 1, column 2: True is not a number"),
        ("[[1, null]]", "row 1, column 2: None is not a number"),
        ("[[NaN]]", "nan is not a finite number"),
        ("[[[1]]]", "is not a number"),
        ('{"weights": [[1]], "divisor": 0}', "the divisor is 0"),
        ('{"weights": [[1]], "divisor": "x"}', "the divisor x is not a finite number"),
        ('{"kernel": 1}', "a list of rows"),
        ("[" * 100_000, "nested too deeply"),
        ("1 " * 1024, "a kernel of 1x1024 is too large: 1023 a side is the most"),
        ("1;" * 1024, "a kernel of 1024x1 is too large"),
        ("@", "after @ comes the name of a file, as in @kernel.txt"),
        ("@no.txt", "no.txt: no such file"),
        ("no/such.csv", "no/such.csv: no such file"),
        ([], "at least one number"),
        ([[1], [2, 3]], "row 2 has 2 numbers (2 3), row 1 has 1"),
        (["a"], "'a' is not a number"),
        (np.zeros((2, 2, 2)), "this array has (2, 2, 2)"),
        (np.zeros((0, 3)), "a kernel of 0x3 has no numbers"),
        (np.zeros((1, 1024)), "too large"),
        (np.array([["a"]]), "this array holds <U1"),
        (np.array([[1j]]), "this array holds complex128"),
        (np.array([[1, np.nan]]), "row 1, column 2: nan is not a finite number"),
        (None, "a kernel holds real numbers"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_error_has_the_given_text_and_a_remedy(spec, says):
    with pytest.raises(KernelError) as caught:
        find_kernels(spec)
    message = str(caught.value)
    assert says.lower() in message.lower()
    assert "\n" not in message
    assert len(message) < 300


def test_a_name_of_several_is_refused_where_one_is_asked_for():
    with pytest.raises(KernelError, match=r"sobel stands for 2 kernels \(sobel-h, sobel-v\): name one of them"):
        find_kernel("sobel")


def test_a_zero_sum_kernel_cannot_be_normalized():
    with pytest.raises(KernelError, match="sobel-h sums to 0"):
        find_kernel("sobel-h").normalized()


@given(st.text(max_size=30))
def test_any_text_is_a_kernel_or_refused(text):
    if text.startswith("@") or "/" in text:
        return
    try:
        found = find_kernels(text)
    except KernelError as error:
        assert str(error)  # noqa: PT017 - the message is what is tested
    else:
        assert all(np.isfinite(kernel.weights).all() for kernel in found)


# ---------------------------------------------------------------- form


def test_a_kernel_cannot_be_changed(rng):
    given_weights = rng.random((3, 3))
    kernel = Kernel(given_weights)
    given_weights[0, 0] = 99
    assert kernel.weights[0, 0] != 99
    with pytest.raises(ValueError, match="read-only"):
        kernel.weights[0, 0] = 1
    with pytest.raises(AttributeError):
        kernel.name = "other"


def test_equal_kernels_have_equal_hashes_under_any_name():
    first, second = Kernel(np.array([[0.0, 1.0]]), "a"), Kernel(np.array([[-0.0, 1.0]]), "b")
    assert first == second
    assert hash(first) == hash(second)
    assert first != Kernel(np.array([[0.0, 1.0]]), offset=1.0)
    assert first != "a"


def test_normalizing_updates_the_divisor():
    kernel = find_kernel("1 2 1; 2 4 2; 1 2 1").normalized()
    assert kernel == find_kernel("blur")
    assert kernel.divisor == 16


@pytest.mark.parametrize("name", SINGLE)
def test_found_kernels_carry_purpose_and_source(name):
    kernel = find_kernel(name)
    assert (kernel.name, kernel.purpose, kernel.source) == (
        name,
        ENTRIES[name.partition(":")[0]].purpose,
        ENTRIES[name.partition(":")[0]].source,
    )


def test_a_sum_that_is_only_rounding_is_zero():
    assert find_kernel("0.1 0.2 -0.3").sum == 0
    assert find_kernel("1e-12 1").sum == math.fsum([1e-12, 1])
    assert find_kernel("1 -0.9999999999").is_zero_sum
    assert not find_kernel("1 -0.99999").is_zero_sum
    assert not find_kernel("1e-8 -1e-8; 1e-8 1e-8").is_zero_sum


def test_a_kernel_that_is_remembered_is_refused_by_a_lower_limit(monkeypatch):
    find_kernel("gaussian:2.25")
    monkeypatch.setattr(limits, "kernel_side", 8)
    with pytest.raises(KernelError, match="8 a side is the most"):
        find_kernel("gaussian:2.25")
