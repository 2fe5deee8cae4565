"""What can go wrong, as a tree.

    CnnfilterError(Exception)
    ├── ImageError(…, ValueError)    cannot be read, or not be written as asked
    ├── KernelError(…, ValueError)   no such name; not a rectangle of finite numbers
    ├── ShapeError(…, ValueError)    parts do not fit: window and image, layer and layer
    ├── ModelError(…, ValueError)    a model file lacks a part, is damaged, or does not fit its network
    ├── DataError(…, ValueError)     the training images cannot teach what was asked
    └── CompileMemoryError(…, MemoryError)   the limits of memory are too low to compile a loop

A message is one line that says what was given and what would do. The command line prints it after
``Error: `` and exits with 1; the file or layer it belongs to is added by the level that knows it.
"""


class CnnfilterError(Exception):
    """Anything that this package refuses to do."""


class ImageError(CnnfilterError, ValueError):
    """A picture that cannot be read, or not be written as asked."""


class KernelError(CnnfilterError, ValueError):
    """A kernel that has no such name, or is not a rectangle of finite numbers."""


class ShapeError(CnnfilterError, ValueError):
    """Parts that do not fit: a window and an image, a layer and the next."""


class ModelError(CnnfilterError, ValueError):
    """A model file that lacks a part, is damaged, or does not fit its network."""


class DataError(CnnfilterError, ValueError):
    """Training images that cannot teach what was asked."""


class CompileMemoryError(CnnfilterError, MemoryError):
    """The limits of memory leave no room for something that says how much it needs."""
