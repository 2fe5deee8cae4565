"""The keyword `out` of convolve, pool and activate: the array of the result that the caller gives."""

from __future__ import annotations

import numpy as np
import pytest

from cnnfilter import ShapeError, activate, convolve, pool

TYPES = [np.uint8, np.uint16, np.float32]
SHAPES = [(40, 90), (40, 90, 1), (40, 90, 3)]

FILTERS = {
    "tap by tap": lambda pixels, **options: convolve(pixels, "sharpen", **options),
    "separable": lambda pixels, **options: convolve(pixels, "gaussian:2", stride=(2, 1), **options),
    "box": lambda pixels, **options: convolve(pixels, "box:5", padding="valid", **options),
    "fft": lambda pixels, **options: convolve(pixels, "gabor:8,45", algorithm="fft", **options),
    "several kernels": lambda pixels, **options: convolve(pixels, "sobel", border="wrap", **options),
    "max": lambda pixels, **options: pool(pixels, **options),
    "large max": lambda pixels, **options: pool(pixels, size=9, stride=1, padding=4, **options),
    "mean": lambda pixels, **options: pool(pixels, "avg", size=3, ceil_mode=True, **options),
}


def picture(rng: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    if dtype == np.float32:
        return rng.normal(0, 50, shape).astype(np.float32)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_given_array_is_filled_with_the_same_bits_and_returned(rng, name, dtype, shape):
    pixels = picture(rng, shape, dtype)
    for target in TYPES:
        expected = FILTERS[name](pixels, dtype=target)
        memory = np.full(expected.size + 20, 7, target)
        out = memory[10:-10].reshape(expected.shape)
        assert FILTERS[name](pixels, dtype=target, out=out) is out
        np.testing.assert_array_equal(out, expected)
        assert (memory[:10] == 7).all()
        assert (memory[-10:] == 7).all()


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def unaligned(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(4 * int(np.prod(shape)) + 1, np.uint8)[1:].view(np.float32).reshape(shape)


NOT_FITTING = {
    "shape": (lambda: np.zeros((6, 8), np.float32), r"out of shape \(6, 8\) and type float32 does not fit"),
    "an axis more": (lambda: np.zeros((6, 7, 1), np.float32), r"out of shape \(6, 7, 1\)"),
    "type": (lambda: np.zeros((6, 7), np.float64), "and type float64 does not fit"),
    "byte order": (lambda: np.zeros((6, 7), ">f4"), "and type >f4 does not fit"),
    "order": (lambda: np.zeros((7, 6), np.float32).T, "out is not C-contiguous"),
    "steps": (lambda: np.zeros((6, 14), np.float32)[:, ::2], "out is not C-contiguous"),
    "read-only": (lambda: read_only(np.zeros((6, 7), np.float32)), "out is read-only"),
    "alignment": (lambda: unaligned((6, 7)), "out is not aligned"),
    "no array": (lambda: [[0.0] * 7] * 6, "out is of type list"),
}


@pytest.mark.parametrize("name", NOT_FITTING)
@pytest.mark.parametrize(
    "work",
    [
        lambda pixels, out: convolve(pixels, "blur", out=out),
        lambda pixels, out: pool(pixels, "avg", size=1, out=out),
        lambda pixels, out: activate(pixels, "relu", out=out),
    ],
)
def test_an_array_that_does_not_fit_is_refused_and_left_alone(rng, name, work):
    make, message = NOT_FITTING[name]
    out = make()
    with pytest.raises(ShapeError, match=message) as error:
        work(rng.normal(size=(6, 7)).astype(np.float32), out)
    assert "C-contiguous, writeable array of shape (6, 7) and type float32" in str(error.value)
    assert not np.any(out)


@pytest.mark.parametrize("shift", [0, 1])
def test_memory_of_the_input_is_refused(rng, shift):
    memory = rng.normal(size=50).astype(np.float32)
    pixels, out = memory[:42].reshape(6, 7), memory[shift : 42 + shift].reshape(6, 7)
    before = memory.copy()
    for work in (lambda: convolve(pixels, "identity", out=out), lambda: pool(pixels, size=1, out=out)):
        with pytest.raises(ShapeError, match="out shares memory with the input"):
            work()
    if shift:
        with pytest.raises(ShapeError, match="out shares memory with the input"):
            activate(pixels, "relu", out=out)
    np.testing.assert_array_equal(memory, before)


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky:0.1", "sigmoid", "tanh", "softmax", "abs"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(12,), (5, 6), (5, 6, 4)])
def test_activations_fill_an_array_even_in_place(rng, name, dtype, shape):
    values = (rng.normal(size=shape) * 5).astype(dtype)
    values.reshape(-1)[:3] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        expected = activate(values, name)
        out = np.empty(shape, dtype)
        assert activate(values, name, out=out) is out
        np.testing.assert_array_equal(out, expected)
        assert activate(values, name, out=values) is values
        np.testing.assert_array_equal(values, expected)


def test_activations_of_whole_numbers_fill_float32():
    out = np.empty(3, np.float32)
    assert activate([-1, 0, 2], "relu", out=out).tolist() == [0, 0, 2]
    with pytest.raises(ShapeError, match="type float64 does not fit"):
        activate(np.array([-1, 0, 2]), "relu", out=np.empty(3))
