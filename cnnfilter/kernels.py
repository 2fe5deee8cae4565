"""A kernel from a name, from text, from a file or an array; its sum, symmetry and separable terms.

The grammar, the same everywhere:

========================  ==========================================================================
``sobel-h``               a name of the catalogue
``gaussian:1.4,9``        a name with arguments
``'0 -1 0; -1 5 -1; …'``  rows of numbers; commas, fractions like ``1/9`` and line ends work too
``'[[0, -1, 0], …]'``     JSON
``@my.txt``, ``my.npy``   a file: .txt .csv .json .npy .mat (the @ may be left out where it exists)
``MODEL#1[3]``            filter 3 of layer 1 of a network
========================  ==========================================================================

What is done with a kernel is left to `cnnfilter.convolution`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnfilter.catalogue import ALSO_CALLED, ENTRIES, Entry, Parameter
from cnnfilter.errors import KernelError
from cnnfilter.kernel_files import (
    Table,
    from_array,
    looks_like_rows,
    parse_json,
    parse_rows,
    read_kernel_file,
    rectangle,
)
from cnnfilter.kernel_formulas import FORMULAS
from cnnfilter.kernel_structure import clear_sum, symmetries, symmetry_in_words
from cnnfilter.kernel_structure import factor as factor

Weights = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """The weights of a filter, as they are multiplied with the picture.

    Attributes
    ----------
    weights : float64 (kH, kW), read-only
    name : what was typed, or a short stand-in for numbers and arrays (``kernel-3x3``).
    divisor : what the drawn numbers were divided by to give `weights`.
    offset : what the kernel's file wants added to every result, in the picture's units.
    purpose, source : one line each for a kernel of the catalogue, else empty.

    Examples
    --------
    >>> kernel = find_kernel("sobel-h")
    >>> kernel.weights
    array([[-1., -2., -1.],
           [ 0.,  0.,  0.],
           [ 1.,  2.,  1.]])
    >>> kernel.rank, kernel.is_zero_sum, kernel.tag
    (1, True, 'sobel-h')
    """

    weights: Weights
    name: str = ""
    divisor: float = 1.0
    offset: float = 0.0
    purpose: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        weights = from_array(self.weights)
        weights.flags.writeable = False
        object.__setattr__(self, "weights", weights)
        if not self.name:
            object.__setattr__(self, "name", "kernel-{}x{}".format(*weights.shape))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Kernel):
            return NotImplemented
        return self.offset == other.offset and np.array_equal(self.weights, other.weights)

    def __hash__(self) -> int:
        # + 0.0 makes -0.0 hash as the 0.0 that it equals.
        return hash((self.weights.shape, (self.weights + 0.0).tobytes(), self.offset))

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.weights.shape
        return height, width

    @property
    def tag(self) -> str:
        """The name in letters that every file system takes: ``gaussian-1.4``."""
        return _tag(self.name) or "kernel-{}x{}".format(*self.shape)

    @functools.cached_property
    def sum(self) -> float:
        """The sum of the weights; exactly 0 where they cancel but for rounding (1e-9 of their sizes' sum)."""
        return clear_sum(self.weights.ravel())

    @property
    def is_zero_sum(self) -> bool:
        """Whether the weights cancel: such a kernel finds differences, and takes the brightness away."""
        return self.sum == 0

    @functools.cached_property
    def factors(self) -> list[tuple[Weights, Weights]]:
        """The separable terms of `factor`."""
        return factor(self.weights)

    @property
    def rank(self) -> int:
        """How many separable terms make up the kernel."""
        return len(self.factors)

    @property
    def symmetry(self) -> str:
        """What mirrors and turns do to it, in words."""
        return symmetry_in_words(symmetries(self.weights))

    def flip(self) -> Kernel:
        """The kernel turned by 180°: with it, cross-correlation becomes the mathematician's convolution."""
        return dataclasses.replace(self, weights=self.weights[::-1, ::-1])

    def transpose(self) -> Kernel:
        """The kernel with y and x exchanged."""
        return dataclasses.replace(self, weights=self.weights.T)

    def normalized(self) -> Kernel:
        """The kernel divided by its sum, so that it keeps the brightness.

        Raises
        ------
        KernelError
            If the weights sum to 0.

        Examples
        --------
        >>> find_kernel("1 2 1").normalized().weights
        array([[0.25, 0.5 , 0.25]])
        """
        if self.is_zero_sum:
            raise KernelError(f"{self.name} sums to 0 and cannot be divided by it: leave normalize away")
        return dataclasses.replace(self, weights=self.weights / self.sum, divisor=self.divisor * self.sum)


class KernelSet(tuple[Kernel, ...]):
    """The kernels that one name stands for, and how their results become one picture.

    `combine` is "magnitude" for the pairs of derivatives (``sobel``), "max" for the eight directions of
    ``kirsch`` and ``robinson``, and "magnitude" for a single kernel, where nothing is to be combined.
    """

    name: str
    combine: str

    def __new__(cls, kernels: Iterable[Kernel], combine: str = "magnitude", name: str = "") -> KernelSet:
        made = super().__new__(cls, kernels)
        made.combine = combine
        made.name = name or made[0].name
        return made

    @property
    def tag(self) -> str:
        """The name in letters that every file system takes."""
        return _tag(self.name) or self[0].tag


def _tag(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:60]


Spec = str | os.PathLike[str] | Kernel | ArrayLike


def kernel_names() -> list[str]:
    """The names of all kernels, in the order of the catalogue.

    Examples
    --------
    >>> kernel_names()[:4]
    ['identity', 'blur', 'box', 'gaussian']
    """
    return list(ENTRIES)


def find_kernel(spec: Spec) -> Kernel:
    """The kernel that a name, a text, a file or an array means.

    Parameters
    ----------
    spec : str, path, Kernel, or array (kH, kW); a flat array is one row.

    Raises
    ------
    KernelError
        If there is no such name, an argument is out of its range, the numbers are not a rectangle of finite
        numbers, a file cannot be read, or the name stands for several kernels (then see `find_kernels`).

    Examples
    --------
    >>> find_kernel("box:3").weights.sum().round(12)
    np.float64(1.0)
    >>> find_kernel("0 -1 0; -1 5 -1; 0 -1 0") == find_kernel("sharpen")
    True
    >>> find_kernel("sharpn")
    Traceback (most recent call last):
    cnnfilter.errors.KernelError: no kernel is called 'sharpn': did you mean sharpen ...
    """
    found = find_kernels(spec)
    if len(found) > 1:
        members = ", ".join(kernel.name for kernel in found)
        raise KernelError(f"{found.name} stands for {len(found)} kernels ({members}): name one of them")
    return found[0]


def find_kernels(spec: Spec) -> KernelSet:
    """The kernel or kernels that a spec means, as `find_kernel`, with how to combine several.

    Examples
    --------
    >>> pair = find_kernels("sobel")
    >>> [kernel.name for kernel in pair], pair.combine
    (['sobel-h', 'sobel-v'], 'magnitude')
    >>> len(find_kernels("kirsch")), find_kernels("kirsch").combine
    (8, 'max')
    """
    if isinstance(spec, KernelSet):
        return spec
    if isinstance(spec, Kernel):
        return KernelSet([spec])
    if isinstance(spec, str):
        return _find_text(spec.strip())
    if isinstance(spec, os.PathLike):
        return _find_file(os.fspath(spec))
    if isinstance(spec, list | tuple):
        nested = any(isinstance(row, list | tuple | np.ndarray) for row in spec)
        return _from_table(Table(rectangle(spec if nested else [spec])))
    return KernelSet([Kernel(np.asarray(spec))])


def _find_text(text: str) -> KernelSet:
    for is_meant, find in _GRAMMAR:
        if is_meant(text):
            return find(text)
    raise _unknown(text)


def _from_table(table: Table, name: str = "") -> KernelSet:
    return KernelSet([Kernel(table.weights, name, table.divisor, table.offset)])


def _find_empty(text: str) -> KernelSet:
    raise KernelError(
        "the kernel is empty: give a name (sharpen), numbers ('0 -1 0; -1 5 -1; 0 -1 0') or a file"
    )


def _find_file(path: str) -> KernelSet:
    if not path:
        raise KernelError("after @ comes the name of a file, as in @kernel.txt")
    stem = os.path.splitext(os.path.basename(path))[0]
    return _from_table(read_kernel_file(path), stem)


def _is_path(text: str) -> bool:
    # A text too long or with a NUL is no path; os.path.exists says so without raising.
    return (
        "/" in text
        or os.path.exists(text)
        or bool(re.search(r"\.(txt|csv|json|npy|mat)$", text, re.IGNORECASE))
    )


def _canonical(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def _is_name(text: str) -> bool:
    return _canonical(text.partition(":")[0]) in ENTRIES


def _find_name(text: str) -> KernelSet:
    name, colon, arguments = text.partition(":")
    entry = ENTRIES[_canonical(name)]
    if entry.members and not colon:
        kernels = [find_kernel(member) for member in entry.members]
        return KernelSet(kernels, entry.combine, entry.name)
    if colon and not entry.parameters:
        raise KernelError(f"{entry.name} takes no arguments, {text!r} has some")
    return KernelSet([_build(entry, _values(entry, arguments if colon else None), text)])


def _find_learned(text: str) -> KernelSet:
    # A network stands on floors above this one, and is looked for only when somebody names it.
    learned: KernelSet = importlib.import_module("cnnfilter.learned_kernels").find_learned(text)
    return learned


# Each way to write a kernel: how it is recognised, and what is then done. The first that fits decides, so
# a name is never taken for a file, nor a number.
_GRAMMAR: list[tuple[Callable[[str], bool], Callable[[str], KernelSet]]] = [
    (lambda text: not text, _find_empty),
    (lambda text: text.startswith("@"), lambda text: _find_file(text[1:])),
    (lambda text: text.startswith(("[", "{")), lambda text: _from_table(parse_json(text))),
    (_is_name, _find_name),
    (lambda text: bool(re.search(r"#\d+(\[|$)", text)), _find_learned),
    (looks_like_rows, lambda text: _from_table(parse_rows(text))),
    (_is_path, _find_file),
]


def _unknown(text: str) -> KernelError:
    import difflib

    name = _canonical(text.partition(":")[0]).replace(" ", "-")
    # A name from elsewhere must nearly be it: a median is not a mean.
    elsewhere = difflib.get_close_matches(name, ALSO_CALLED, 1, 0.85)
    near = [ALSO_CALLED[word] for word in elsewhere] or difflib.get_close_matches(name, ENTRIES, 3, 0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    if re.match(r"\d+x\d+", text):
        # ImageMagick's way to write one; whether it would be turned there depends on the operator.
        hint = "rows of numbers are written '0 -1 0; -1 5 -1; 0 -1 0'; "
    shown = text if len(text) <= 60 else text[:57] + "..."
    return KernelError(f"no kernel is called {shown!r}: {hint}`cnnfilter kernels list` shows all")


def _build(entry: Entry, values: list[Any], text: str) -> Kernel:
    if entry.formula:
        weights = FORMULAS[entry.formula](*values)
    elif entry.rows:
        weights = parse_rows(entry.rows).weights / entry.divisor
    else:
        column, row = parse_rows(entry.column).weights[0], parse_rows(entry.row).weights[0]
        weights = np.outer(column, row) / entry.divisor
    return Kernel(weights, _canonical(text).replace(" ", ""), entry.divisor, 0.0, entry.purpose, entry.source)


def _values(entry: Entry, arguments: str | None) -> list[Any]:
    """The checked arguments, completed by the defaults; those without a default are not passed."""
    given = [] if arguments is None else [word.strip() for word in arguments.split(",")]
    if len(given) > len(entry.parameters):
        raise KernelError(
            f"{entry.name} takes {entry.usage}, as in {entry.example}; {len(given)} arguments are too many"
        )
    values = [
        _value(entry, parameter, word) for parameter, word in zip(entry.parameters, given, strict=False)
    ]
    rest = [p.default for p in entry.parameters[len(given) :] if p.default is not None]
    return values + [int(d) if isinstance(d, int) else d for d in rest]


def _value(entry: Entry, parameter: Parameter, word: str) -> Any:
    if parameter.choices:
        if word.lower() in parameter.choices:
            return word.lower()
        expected = f"one of {' '.join(parameter.choices)}"
    else:
        kind = "a whole number" if parameter.whole else "a number"
        expected = f"{kind} from {parameter.least:g} to {parameter.largest:g}"
        try:
            value: float = int(word) if parameter.whole else float(word)
        except ValueError:
            value = math.nan
        if parameter.least <= value <= parameter.largest:
            return value
    raise KernelError(
        f"the {parameter.name} of {entry.name} is {expected}, as in {entry.example}; "
        f"given was {word or 'nothing'!r}"
    )
