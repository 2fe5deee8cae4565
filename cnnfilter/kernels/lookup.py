"""Find a kernel by a name, a text, a file, an array or a model.

The grammar of kernels in every command and function:

========================  ==========================================================================
``sobel-h``               a name of the catalogue
``gaussian:1.4,9``        a name with arguments
``'0 -1 0; -1 5 -1; …'``  rows of numbers; commas, fractions like ``1/9`` and line ends work too
``'[[0, -1, 0], …]'``     JSON and the notations of other tools, see `cnnfilter.kernels.numbers`
``@my.txt``, ``my.npy``   a file: .txt .csv .json .npy .mat (the @ may be left out where it exists)
``MODEL#1[3]``            filter 3 of layer 1 of a network
========================  ==========================================================================

Reading and refusing text is left to `cnnfilter.kernels.text`, files to `cnnfilter.kernels.files`, and the numbers of
named kernels to `cnnfilter.kernels.formulas` and `cnnfilter.kernels.catalogue`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cnnfilter.errors import KernelError
from cnnfilter.kernels.catalogue import ENTRIES, Entry
from cnnfilter.kernels.files import (
    Table,
    parse_numbers,
    read_kernel_file,
    rectangle,
)
from cnnfilter.kernels.formulas import FORMULAS
from cnnfilter.kernels.kernel import Kernel, KernelSet
from cnnfilter.kernels.numbers import refuse_ambiguous_shape
from cnnfilter.kernels.text import canonical, empty_error, entry_and_values, kind_of, unknown_error
from cnnfilter.runtime import limits

Spec = str | os.PathLike[str] | Kernel | ArrayLike


def kernel_names() -> list[str]:
    """Return the names of all kernels, in the order of the catalogue.

    Examples
    --------
    >>> kernel_names()[:4]
    ['identity', 'blur', 'box', 'gaussian']
    """
    return list(ENTRIES)


def find_kernel(spec: Spec) -> Kernel:
    """Return the kernel of a name, a text, a file or an array.

    Parameters
    ----------
    spec : str, path, Kernel, or array (kH, kW); a flat array is one row, and refused if its length is an odd square
        from 9 up, as it could be a square kernel

    Raises
    ------
    KernelError
        If there is no such name, an argument is out of its range, the numbers are not a rectangle of finite
        numbers, a file cannot be read, or the name stands for several kernels (for those see `find_kernels`).

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
    """Return the kernel or kernels of a spec, as `find_kernel`, and how the results of several are combined.

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
        if not nested:
            refuse_ambiguous_shape(len(spec))
        return _from_table(Table(rectangle(spec if nested else [spec])))
    return KernelSet([Kernel(np.asarray(spec))])


def _find_text(text: str) -> KernelSet:
    return _FINDERS[kind_of(text)](text)


def _from_table(table: Table, name: str = "") -> KernelSet:
    return KernelSet([Kernel(table.weights, name, table.divisor, table.offset)])


def _refuse_empty(text: str) -> KernelSet:
    raise empty_error()


def _refuse_unknown(text: str) -> KernelSet:
    raise unknown_error(text)


def _find_file(path: str) -> KernelSet:
    if not path:
        raise KernelError("after @ comes the name of a file, as in @kernel.txt")
    stem = os.path.splitext(os.path.basename(path))[0]
    return _from_table(read_kernel_file(path), stem)


def _find_name(text: str) -> KernelSet:
    return _cached_kernels(text, limits.kernel_side)


@functools.lru_cache(64)
def _cached_kernels(text: str, largest: int) -> KernelSet:
    """Return the kernels of a name. `largest`, the limit on a side, is in the cache's key because it may change."""
    entry, values = entry_and_values(text)
    if entry.members and ":" not in text:
        kernels = [find_kernel(member) for member in entry.members]
        return KernelSet(kernels, entry.combine, entry.name)
    return KernelSet([_build(entry, values, text)])


def _find_learned(text: str) -> KernelSet:
    from cnnfilter.kernels.learned import find_learned

    return find_learned(text)


_FINDERS: dict[str, Callable[[str], KernelSet]] = {
    "empty": _refuse_empty,
    "file": lambda text: _find_file(text[1:]),
    "name": _find_name,
    "learned": _find_learned,
    "numbers": lambda text: _from_table(parse_numbers(text)),
    "path": _find_file,
    "unknown": _refuse_unknown,
}


def _build(entry: Entry, values: list[Any], text: str) -> Kernel:
    if entry.formula:
        weights = FORMULAS[entry.formula](*values)
    elif entry.rows:
        weights = parse_numbers(entry.rows).weights / entry.divisor
    else:
        column, row = parse_numbers(entry.column).weights[0], parse_numbers(entry.row).weights[0]
        weights = np.outer(column, row) / entry.divisor
    return Kernel(weights, canonical(text).replace(" ", ""), entry.divisor, 0.0, entry.purpose, entry.source)
