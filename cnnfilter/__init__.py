"""The layers of a convolutional network as image filters.

The package has eleven folders. Each may import only from those above it in this list, and only their public modules
(`tests/test_house.py` holds the exact tables):

=============  ==================================================================================================
``runtime``    Threads, memory, limits, files on disk.
``jit``        Compiled loops: Numba compiles each once; later runs load its machine code from a cache.
``weights``    Learned numbers in files, and the three models that ship.
``images``     Pictures in memory, read from files and written to files.
``kernels``    Kernels, the weights of filters: from a name, from numbers, from a file or from a model.
``filters``    Convolution and pooling: a window slides over an array.
``jobs``       Jobs: each reads a picture, works on it and writes it; many run at a time, with one report each.
``layers``     Stacks of layers, as text and as objects: shapes, costs, maps.
``networks``   Networks, which are layers with weights: read from a file, run, explained, exported.
``training``   Learning weights from labelled pictures, and measuring how good they are.
``cli``        The command line: options, commands and the lines they print; no arithmetic, no pixels.
=============  ==================================================================================================

Beside them stand ``errors``, the tree of exceptions, and ``__main__``, which starts the command line.

Each public name is imported on its first use (PEP 562), so that ``import cnnfilter`` alone takes almost no time.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# The module of each public name.
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
