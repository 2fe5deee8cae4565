"""Rows that run in this process, from array to array: convolution and pooling beside the Python libraries.

All of them do the same work: kernels as drawn, the edge repeated beyond the border, bytes rounded and
saturated. OpenCV, Pillow and scikit-image take (H, W, C) as we do; PyTorch gets its tensors made beforehand,
and for bytes pays for the way to float and back, since it convolves no bytes. SciPy is spared the rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import pictures
from tests.benchmarks.measure import OURS, Call, Contender, Row, Target, Unavailable
from tests.benchmarks.peers import call

DENSE = (3, 5, 7, 9, 11, 15, 21, 31, 51, 101)
_COLOURS = {1: "grey", 3: "RGB"}
_TYPES: dict[Any, str] = {np.uint8: "u8", np.float32: "f32"}


@dataclass(frozen=True)
class Setting:
    """The `side` of the square pictures, the (height, width) of the `large` one, and the threads of all."""

    side: int = 2048
    large: tuple[int, int] = (3000, 4000)
    threads: int = 1

    def picture(self, channels: int, dtype: Any) -> NDArray[Any]:
        return pictures.pixels(self.side, self.side, channels, dtype)

    def row(self, section: str, name: str, channels: int, dtype: Any, taps: int, stride: int = 1, **rest: Any) -> Row:
        """Return a row with the multiply-adds and bytes of `taps` taps at every `stride`-th place."""
        samples = self.side**2 * channels
        outputs = samples // stride**2
        moved = (samples + outputs) * np.dtype(dtype).itemsize
        return Row(section, name, multiplies=taps * outputs, moved=moved, **rest)


def dense_kernel(size: int) -> NDArray[Any]:
    """Return a kernel of full rank without zeros, that sums to 1: nothing about it can be taken apart."""
    weights = np.random.default_rng(size).normal(1.0, 2.0, (size, size)).astype(np.float32)
    normalized: NDArray[Any] = weights / weights.sum()
    return normalized


def agreement(margin: int, levels: float = 1.0) -> Callable[[Any, Any], bool]:
    """Return a comparison inside of `margin` pixels: to `levels` for bytes, else to 1e-4 of the largest."""

    def agree(ours: Any, theirs: Any) -> bool:
        theirs = np.asarray(theirs)
        if ours.shape != theirs.shape:
            return False
        inside = (slice(margin, -margin or None),) * 2
        a, b = ours[inside].astype(np.float32), theirs[inside].astype(np.float32)
        if ours.dtype == np.uint8:
            b = b.clip(0, 255)  # SciPy's floats
        bound = levels if ours.dtype == np.uint8 else 1e-4 * np.abs(a).max()
        return bool(np.abs(a - b).max() <= bound + 1e-6)

    return agree


# --- dense kernels ------------------------------------------------------------------------------------


def dense_rows(setting: Setting) -> Iterator[Row]:
    for dtype, section, faster in ((np.uint8, "dense-u8", 1.2), (np.float32, "dense-f32", 1.0)):
        for channels, colour in _COLOURS.items():
            for size in DENSE:
                yield setting.row(
                    section,
                    f"{size}x{size} {colour}",
                    channels,
                    dtype,
                    size * size,
                    contenders=partial(_dense_contenders, setting, channels, dtype, size),
                    targets=(Target(("OpenCV",), faster=faster),),
                    agree=agreement(size),
                )


def _dense_contenders(setting: Setting, channels: int, dtype: Any, size: int) -> dict[str, Callable[[], Contender]]:
    work = (setting.picture(channels, dtype), dense_kernel(size))
    peer = partial(call, threads=setting.threads)
    contenders = {
        OURS: _convolve(*work, setting.threads),
        "OpenCV": peer(partial(_opencv_filter, *work), "cv2"),
        "SciPy": peer(partial(_scipy_filter, *work), "scipy.ndimage", "scipy.signal"),
    }
    if dtype == np.uint8 and size in (3, 5):  # all that Pillow's Kernel takes
        contenders["Pillow"] = peer(partial(_pillow_kernel, *work), "PIL.Image", "PIL.ImageFilter")
    if size <= 31:  # seconds a run beyond
        contenders["PyTorch"] = peer(partial(_torch_filter, *work), "torch", "torch.nn.functional")
    return contenders


def _convolve(source: NDArray[Any], kernel: Any, threads: int) -> Callable[[], Contender]:
    from cnnfilter import convolve

    return lambda: Call(lambda: convolve(source, kernel, dtype=source.dtype, threads=threads))


def _opencv_filter(source: NDArray[Any], weights: NDArray[Any], cv2: Any) -> Callable[[], Any]:
    return lambda: cv2.filter2D(source, -1, weights, borderType=cv2.BORDER_REPLICATE)


def _scipy_filter(source: NDArray[Any], weights: NDArray[Any], ndimage: Any, signal: Any) -> Callable[[], Any]:
    """Correlate up to 9x9, else multiply spectra in tiles; float32 out."""
    size = len(weights)
    kernel = weights if source.ndim == 2 else weights[:, :, None]
    if size <= 9:
        unrounded = lambda: ndimage.correlate(source, kernel, np.float32, mode="nearest")  # noqa: E731
    else:
        pad = [(size // 2, size // 2)] * 2 + [(0, 0)] * (source.ndim - 2)
        turned = kernel[::-1, ::-1]
        unrounded = lambda: signal.oaconvolve(  # noqa: E731
            np.pad(source, pad, mode="edge").astype(np.float32), turned, mode="valid", axes=(0, 1)
        )
    return unrounded


def _pillow_kernel(source: NDArray[Any], weights: NDArray[Any], images: Any, filters: Any) -> Callable[[], Any]:
    picture = images.fromarray(source)
    turned = weights[::-1]  # Pillow's rows run from the bottom
    kernel = filters.Kernel(weights.shape, turned.ravel().tolist(), scale=1)
    return lambda: picture.filter(kernel)


def _tensor(torch: Any, source: NDArray[Any]) -> Any:
    """Return (1, C, H, W) over the same memory."""
    return torch.from_numpy(source if source.ndim == 3 else source[:, :, None]).permute(2, 0, 1)[None]


def _picture(torch: Any, tensor: Any, source: NDArray[Any]) -> Any:
    """Return (1, C, H, W) as (H, W, C) or (H, W) in the type of `source`."""
    if source.dtype == np.uint8 and tensor.dtype != torch.uint8:
        tensor = tensor.round_().clamp_(0, 255).to(torch.uint8)
    array = tensor[0].permute(1, 2, 0).numpy()
    return array if source.ndim == 3 else array[:, :, 0]


def _torch_filter(source: NDArray[Any], weights: NDArray[Any], torch: Any, functional: Any) -> Callable[[], Any]:
    tensor = _tensor(torch, source)
    channels, margin = tensor.shape[1], len(weights) // 2
    kernel = torch.from_numpy(weights)[None, None].repeat(channels, 1, 1, 1)

    def run() -> Any:
        padded = functional.pad(tensor.float(), (margin,) * 4, mode="replicate")
        return _picture(torch, functional.conv2d(padded, kernel, groups=channels), source)

    return run


# --- kernels with a name ------------------------------------------------------------------------------


def named_rows(setting: Setting) -> Iterator[Row]:
    """Each against OpenCV's own function for it, with the window that OpenCV takes by itself."""
    for channels, colour in _COLOURS.items():
        for name, (kernel, side, taps, peers) in _NAMED.items():
            yield setting.row(
                "named",
                f"{name} {colour}",
                channels,
                np.uint8,
                taps,
                contenders=partial(_named_contenders, setting, channels, kernel, peers),
                targets=(Target(("OpenCV",), faster=1.0),),
                agree=agreement(side),
            )


def _named_contenders(
    setting: Setting, channels: int, kernel: str, peers: dict[str, tuple[Any, ...]]
) -> dict[str, Callable[[], Contender]]:
    source = setting.picture(channels, np.uint8)
    others = {
        peer: call(partial(prepare, source), *names, threads=setting.threads)
        for peer, (prepare, *names) in peers.items()
    }
    return {OURS: _convolve(source, kernel, setting.threads), **others}


def _opencv_gaussian(sigma: int, source: NDArray[Any], cv2: Any) -> Callable[[], Any]:
    return lambda: cv2.GaussianBlur(source, (6 * sigma + 1,) * 2, sigma, borderType=cv2.BORDER_REPLICATE)


def _scipy_gaussian(sigma: int, source: NDArray[Any], ndimage: Any) -> Callable[[], Any]:
    return lambda: ndimage.gaussian_filter(source, sigma, output=np.float32, mode="nearest", truncate=3.0, axes=(0, 1))


def _skimage_gaussian(sigma: int, source: NDArray[Any], filters: Any) -> Callable[[], Any]:
    axis = -1 if source.ndim == 3 else None
    return lambda: filters.gaussian(source, sigma, truncate=3.0, channel_axis=axis, preserve_range=True)


def _opencv_sobel(source: NDArray[Any], cv2: Any) -> Callable[[], Any]:
    return lambda: cv2.Sobel(source, -1, 0, 1, ksize=3, borderType=cv2.BORDER_REPLICATE)


def _scipy_sobel(source: NDArray[Any], ndimage: Any) -> Callable[[], Any]:
    down, across = np.array([-1, 0, 1], np.float32), np.array([1, 2, 1], np.float32)

    def run() -> Any:
        between = ndimage.correlate1d(source, down, 0, np.float32, mode="nearest")
        return ndimage.correlate1d(between, across, 1, mode="nearest").clip(0, 255)

    return run


def _opencv_box(size: int, source: NDArray[Any], cv2: Any) -> Callable[[], Any]:
    return lambda: cv2.blur(source, (size, size), borderType=cv2.BORDER_REPLICATE)


def _scipy_box(size: int, source: NDArray[Any], ndimage: Any) -> Callable[[], Any]:
    return lambda: ndimage.uniform_filter(source, size, np.float32, mode="nearest", axes=(0, 1))


def _pillow_box(size: int, source: NDArray[Any], images: Any, filters: Any) -> Callable[[], Any]:
    picture = images.fromarray(source)
    blur = filters.BoxBlur(size // 2)
    return lambda: picture.filter(blur)


_NAMED: dict[str, tuple[str, int, int, dict[str, tuple[Any, ...]]]] = {
    **{
        f"gaussian {sigma}": (
            f"gaussian:{sigma},{6 * sigma + 1}",
            6 * sigma + 1,
            (6 * sigma + 1) ** 2,
            {
                "OpenCV": (partial(_opencv_gaussian, sigma), "cv2"),
                "SciPy": (partial(_scipy_gaussian, sigma), "scipy.ndimage"),
                "scikit-image": (partial(_skimage_gaussian, sigma), "skimage.filters"),
            },
        )
        for sigma in (1, 3, 10)
    },
    "sobel-h": (
        "sobel-h",
        3,
        6,
        {"OpenCV": (_opencv_sobel, "cv2"), "SciPy": (_scipy_sobel, "scipy.ndimage")},
    ),
    **{
        f"box {size}": (
            f"box:{size}",
            size,
            size**2,
            {
                "OpenCV": (partial(_opencv_box, size), "cv2"),
                "SciPy": (partial(_scipy_box, size), "scipy.ndimage"),
                "Pillow": (partial(_pillow_box, size), "PIL.Image", "PIL.ImageFilter"),
            },
        )
        for size in (3, 15, 51)
    },
}
"""For each name: the kernel as we call it, its side, its taps that are not 0, and the peers' functions."""


# --- pooling ------------------------------------------------------------------------------------------

_LARGE = 9  # sides of a window above which some take time for each of its samples


def pooling_rows(setting: Setting) -> Iterator[Row]:
    """The usual windows, for which there are loops of their own, and others without a target."""
    wanted = (Target(("OpenCV", "PyTorch", "scikit-image"), faster=1.5),)
    for section, windows, targets in (
        ("pooling", ((2, 2), (3, 2), (3, 1)), wanted),
        ("pooling-any", ((4, 4), (8, 8), (31, 1)), ()),
    ):
        for (dtype, kind), (channels, colour) in itertools.product(_TYPES.items(), _COLOURS.items()):
            for op, (size, stride) in itertools.product(("max", "avg"), windows):
                yield setting.row(
                    section,
                    f"{op} {size}x{size}/{stride} {kind} {colour}",
                    channels,
                    dtype,
                    size * size,
                    stride,
                    contenders=partial(_pooling_contenders, setting, channels, dtype, op, size, stride),
                    targets=targets,
                    agree=agreement(1),
                )


def _pooling_contenders(
    setting: Setting, channels: int, dtype: Any, op: str, size: int, stride: int
) -> dict[str, Callable[[], Contender]]:
    from cnnfilter import pool

    source, threads = setting.picture(channels, dtype), setting.threads
    work = (source, op, size, stride)
    peer = partial(call, threads=threads)
    return {
        OURS: lambda: Call(lambda: pool(source, op, size=size, stride=stride, dtype=dtype, threads=threads)),
        "OpenCV": peer(partial(_opencv_pool, *work), "cv2"),
        "PyTorch": peer(partial(_torch_pool, *work), "torch", "torch.nn.functional"),
        "scikit-image": peer(partial(_skimage_pool, *work), "skimage.measure", "skimage.morphology"),
        "Pillow": peer(partial(_pillow_pool, *work), "PIL.Image", "PIL.ImageFilter"),
    }


def _kept(filtered: NDArray[Any], size: int, stride: int) -> NDArray[Any]:
    """Return what pooling keeps of a filter with its anchor in the middle (the lower right, if even)."""
    first, rows, columns = size // 2, *filtered.shape[:2]
    return np.ascontiguousarray(
        filtered[first : rows - size + 1 + first : stride, first : columns - size + 1 + first : stride]
    )


def _opencv_pool(source: NDArray[Any], op: str, size: int, stride: int, cv2: Any) -> Callable[[], Any]:
    """Filter at every place and keep every `stride`-th; the mean of windows side by side is an area resize."""
    if op == "avg" and size == stride:
        smaller = (source.shape[1] // size, source.shape[0] // size)
        return lambda: cv2.resize(source, smaller, interpolation=cv2.INTER_AREA)
    if op == "avg":
        return lambda: _kept(cv2.blur(source, (size, size)), size, stride)
    if size == stride == 2:  # quicker than a dilation
        quarters = [source[i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return lambda: cv2.max(cv2.max(*map(np.ascontiguousarray, quarters[:2])),
                               cv2.max(*map(np.ascontiguousarray, quarters[2:])))  # fmt: skip
    window = np.ones((size, size), np.uint8)
    return lambda: _kept(cv2.dilate(source, window), size, stride)


def _torch_pool(
    source: NDArray[Any], op: str, size: int, stride: int, torch: Any, functional: Any
) -> Callable[[], Any]:
    if size > _LARGE:
        raise Unavailable("PyTorch takes seconds for large windows")
    tensor = _tensor(torch, source)
    pool = functional.max_pool2d if op == "max" else functional.avg_pool2d
    if source.dtype != np.uint8:
        return lambda: _picture(torch, pool(tensor, size, stride), source)
    try:
        pool(tensor, size, stride)
    except RuntimeError:  # no such pooling of bytes
        return lambda: _picture(torch, pool(tensor.float(), size, stride), source)
    return lambda: _picture(torch, pool(tensor, size, stride), source)


def _skimage_pool(
    source: NDArray[Any], op: str, size: int, stride: int, measure: Any, morphology: Any
) -> Callable[[], Any]:
    if size == stride:
        block = (size, size) + (1,) * (source.ndim - 2)
        function = np.max if op == "max" else np.mean
        return lambda: measure.block_reduce(source, block, function)
    if op == "avg" or source.ndim == 3:
        raise Unavailable("scikit-image has no such pooling")
    window = np.ones((size, size), np.uint8)
    return lambda: _kept(morphology.dilation(source, window), size, stride)


def _pillow_pool(source: NDArray[Any], op: str, size: int, stride: int, images: Any, filters: Any) -> Callable[[], Any]:
    if source.dtype != np.uint8:
        raise Unavailable("Pillow filters no floats")
    picture = images.fromarray(source)
    if op == "avg" and size == stride:
        return lambda: picture.reduce(size)
    if size % 2 == 0 or size > _LARGE:
        raise Unavailable("Pillow's windows are odd, and take seconds if they are large")
    filtered = filters.MaxFilter(size) if op == "max" else filters.BoxBlur(size // 2)
    return lambda: _kept(np.asarray(picture.filter(filtered)), size, stride)


# --- threads ------------------------------------------------------------------------------------------


def thread_rows(setting: Setting) -> Iterator[Row]:
    """Two threads, as ours, against one, on 12 MP."""
    for name, kernel in _THREADED.items():
        yield Row(
            "threads",
            f"{name} RGB, two threads",
            partial(_thread_contenders, setting, kernel),
            targets=(Target(("one thread",), faster=1.8),),
            agree=lambda two, one: bool(np.array_equal(two, one)),
        )


_THREADED: dict[str, Any] = {
    "sobel-h": "sobel-h",
    "gaussian 3": "gaussian:3",
    "3x3": 3,
    "9x9": 9,
    "31x31": 31,
    "max 2x2/2": None,
}
"""Kernels: a name, the side of a dense one, or None for pooling."""


def _thread_contenders(setting: Setting, kernel: str | int | None) -> dict[str, Callable[[], Contender]]:
    from cnnfilter import convolve, pool

    source = pictures.pixels(*setting.large, 3, np.uint8)
    weights = dense_kernel(kernel) if isinstance(kernel, int) else kernel

    def work(threads: int) -> Any:
        if weights is None:
            return pool(source, "max", size=2, threads=threads)
        return convolve(source, weights, dtype=np.uint8, threads=threads)

    return {
        OURS: lambda: Call(lambda: work(2), least=0.1),
        "one thread": lambda: Call(lambda: work(1), least=0.1),
    }
