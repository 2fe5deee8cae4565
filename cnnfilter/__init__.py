"""The layers of a convolutional network as image filters.

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
