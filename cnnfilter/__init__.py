"""The layers of a convolutional network as image filters.

The package has eleven wings. Each may import only from those above it in this list (`tests/test_house.py` holds the
exact table), and only their public modules, the doors:

=============  ==================================================================================================
``runtime``    The machine below: threads, memory, limits, files on disk.
``jit``        From a Python loop to machine code: Numba compiles it once, afterwards it is loaded from a cache.
``weights``    Learned numbers in files, and the three models that ship.
``images``     A picture in memory, and its way from and to files.
``kernels``    What slides over a picture: a kernel from a name, numbers, a file or a model.
``filters``    A window slides over an array: convolution and pooling.
``jobs``       One picture is one job: read, worked on, written; many at a time, one report each.
``layers``     A stack of layers as text and as objects: shapes, costs, maps.
``networks``   Layers with weights: read from a file, run, explained, exported.
``training``   Learn weights from labelled pictures, and judge what was learned.
``cli``        What is typed, and what is printed: no arithmetic, no pixels.
=============  ==================================================================================================

Beside them stand ``errors``, the tree of exceptions, and ``__main__``, which starts the command line.

Each public name is imported on its first use (PEP 562), so that ``import cnnfilter`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "CnnfilterError": "errors",
    "ImageError": "errors",
    "KernelError": "errors",
    "ShapeError": "errors",
    "ModelError": "errors",
    "DataError": "errors",
    "Image": "images.image",
    "read_image": "images.files",
    "write_image": "images.files",
    "Kernel": "kernels.kernel",
    "find_kernel": "kernels.lookup",
    "kernel_names": "kernels.lookup",
    "convolve": "filters.convolution.convolve",
    "pool": "filters.pooling.pool",
    "activate": "layers.activations",
    "parse_layers": "layers.stack",
    "Network": "networks.network",
    "load_model": "networks.network",
    "load_folder": "training.data.dataset",
    "train": "training.train",
    "evaluate": "training.evaluation",
    "contact_sheet": "images.contact_sheets",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
