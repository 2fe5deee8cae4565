"""The errors that the package raises, as a tree.

    CnnfilterError(Exception)
    ├── ImageError(…, ValueError)          a picture cannot be read, or cannot be written as asked
    ├── KernelError(…, ValueError)         a kernel has no such name, or is not a rectangle of finite numbers
    ├── ShapeError(…, ValueError)          two shapes do not fit: window and image, layer and layer
    ├── ModelError(…, ValueError)          a text of layers is wrong, or a model is missing, damaged or unfit
    ├── DataError(…, ValueError)           training data are damaged, or do not allow the training
    └── CompileMemoryError(…, MemoryError) a memory limit is too low to compile a loop

A message is one line that says what was given and suggests a remedy. The command line prints it after ``Error: `` and
exits with 1. The caller that has the file or the layer adds its name to the message.
"""


class CnnfilterError(Exception):
    """Base class of the errors of this package."""


class ImageError(CnnfilterError, ValueError):
    """A picture cannot be read, or cannot be written as asked."""


class KernelError(CnnfilterError, ValueError):
    """A kernel has no such name, or is not a rectangle of finite numbers."""


class ShapeError(CnnfilterError, ValueError):
    """Two shapes do not fit: a window and an image, or a layer and the next."""


class ModelError(CnnfilterError, ValueError):
    """A text of layers is wrong, or a model is missing, damaged, or does not fit its layers."""


class DataError(CnnfilterError, ValueError):
    """Training data are damaged, or do not allow the training that was asked for."""


class CompileMemoryError(CnnfilterError, MemoryError):
    """A memory limit is too low to compile a loop."""


def count_text(number: int, one: str, more: str = "") -> str:
    """Return a number with its noun, for a message.

    >>> count_text(1, "layer"), count_text(1000, "layer"), count_text(2, "class", "classes")
    ('1 layer', '1,000 layers', '2 classes')
    """
    return f"{number:,} {one if number == 1 else more or one + 's'}"
