"""The known bounds of the rows that have missed their targets, by the beginnings of their names."""

from __future__ import annotations

_PIXELS = "the memory that is read and written, and the calls of Python"
_BOUNDS = {
    "named/gaussian": "weights are exact floats, where OpenCV rounds them to 8 bits and sums whole numbers",
    "named/box 3": _PIXELS,
    "named/geometric mean": "the floats of Gaussians; and memory for the small kernels",
    "pooling/max 3x3/1": _PIXELS,
    "pooling/avg 2x2/2": _PIXELS,
    "pooling/avg 3x3/1": _PIXELS,
    "threads/": "little work a byte waits for memory, which threads share: a copy is 1.2 to 1.3 times as fast",
    "start/": "nearly all of it is the import of numpy, Pillow and click",
    "files/sobel-h 12 MP JPEG": "half of the time is the import of numpy, Pillow and click",
    "files/sobel-h 12 MP PNG": "one thread unpacks the one stream of DEFLATE that a file has",
}


def bound_of(name: str) -> str | None:
    """Return what bounds a row, by its section and name, or None.

    >>> bound_of("pooling/avg 3x3/1 u8 grey")
    'the memory that is read and written, and the calls of Python'
    """
    return next((text for start, text in _BOUNDS.items() if name.startswith(start)), None)
