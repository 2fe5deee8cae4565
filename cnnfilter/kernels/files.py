"""Read and write kernels as text and as files: rows, JSON, and .txt .csv .json .npy .mat.

Text that is not a rectangle of finite numbers is refused. Making a `Kernel` is left to `cnnfilter.kernels.lookup`.
"""

from __future__ import annotations

import codecs
import io
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import KernelError, count_text
from cnnfilter.kernels.numbers import (
    cells_of,
    check_size,
    could_be_square,
    lines_of,
    numbers_of,
    read_brackets,
    read_numbers,
    refuse_ambiguous,
    refuse_ambiguous_shape,
    value_of,
)
from cnnfilter.kernels.plain_text import refuse_decimal_commas

_FILE_BYTES_MAX = 64 * 2**20
"""Bytes of the largest kernel file, so that a wrong path (a video, a device) does not fill the memory."""


class Table(NamedTuple):
    """The content of a text or file: the divided weights ``(kH, kW)``, their divisor, and an offset for results."""

    weights: NDArray[np.float64]
    divisor: float = 1.0
    offset: float = 0.0


def rectangle(rows: Sequence[Sequence[Any]]) -> NDArray[np.float64]:
    """Return rows of numbers or words as ``(kH, kW)`` float64, checked as by `numbers_of`.

    Examples
    --------
    >>> rectangle([["1/4", "1/2", "1/4"]])
    array([[0.25, 0.5 , 0.25]])
    """
    plain = [list(row) if isinstance(row, np.ndarray) else row for row in rows]
    return np.array(numbers_of(plain), dtype=np.float64)


def parse_numbers(text: str) -> Table:
    """Return the content of numbers in any notation that `read_numbers` reads.

    Examples
    --------
    >>> parse_numbers("0 -1 0; -1 5 -1; 0 -1 0").weights
    array([[ 0., -1.,  0.],
           [-1.,  5., -1.],
           [ 0., -1.,  0.]])
    """
    rows, divisor, offset = read_numbers(text)
    return _scaled(rectangle(rows), *_scale(divisor, offset))


def _parse_csv(text: str) -> Table:
    """Return the weights of CSV, one row a line.

    If the cells are separated by semicolons, a comma is the decimal mark, as European spreadsheets write it. A
    semicolon that only closes a line separates nothing.
    """
    lines = lines_of(text)
    if any(";" in line.rstrip(";") for line in lines):
        if all(line.endswith(";") for line in lines):
            lines = [line.removesuffix(";") for line in lines]
        return Table(rectangle([[cell.strip(' "').replace(",", ".") for cell in line.split(";")] for line in lines]))
    refuse_decimal_commas("\n".join(lines))
    if len(lines) > 1 and all(line.endswith(",") for line in lines):  # an empty column, as spreadsheets write it
        lines = [line.removesuffix(",") for line in lines]
    rows = [[cell.strip('"') for cell in cells_of(line.rstrip(";"), n)] for n, line in enumerate(lines, 1)]
    if len(rows) == 1 and not lines[0].endswith(";"):
        refuse_ambiguous(rows[0])
    return Table(rectangle(rows))


def _parse_json(text: str) -> Table:
    """Return the content of ``[[…], […]]``, or of an object with ``weights``, ``divisor`` (1) and ``offset`` (0)."""
    rows, divisor, offset = read_brackets(text)
    return _scaled(rectangle(rows), *_scale(divisor, offset))


def _scale(divisor: Any, offset: Any) -> tuple[float, float]:
    """Return the divisor and the offset as numbers, 1 and 0 for None; KernelError if they are not finite, or 0."""
    values = []
    for name, value, default in (("divisor", divisor, 1.0), ("offset", offset, 0.0)):
        try:
            number = default if value is None else value_of(value)
        except (ValueError, TypeError, OverflowError, ZeroDivisionError):
            number = math.nan
        if not math.isfinite(number):
            raise KernelError(f"the {name} {value} is not a finite number")
        values.append(number)
    if values[0] == 0:
        raise KernelError("the divisor is 0")
    return values[0], values[1]


def _scaled(weights: NDArray[np.float64], divisor: float, offset: float) -> Table:
    with np.errstate(over="ignore"):
        return Table(from_array(weights / divisor), divisor, offset)


def _parse_mat(text: str) -> Table:
    """Return the content of libvips' text matrix: width, height, optional scale and offset, then the rows."""
    if text.startswith("MATLAB"):
        raise KernelError("this .mat file is MATLAB's; wanted is libvips' text matrix, or save it as .csv")
    lines = lines_of(text)
    head = cells_of(lines[0], 1) if lines else []
    if not 2 <= len(head) <= 4 or not all(word.isdigit() for word in head[:2]):
        raise KernelError(
            "a .mat kernel begins with 'width height', 'width height scale' or 'width height scale offset'"
        )
    width, height = int(head[0]), int(head[1])
    check_size(height, width)
    divisor, offset = _scale(*[*head[2:], None, None][:2])
    rows = [cells_of(line, n) for n, line in enumerate(lines[1:], 1)]
    if (len(rows), len(rows[0]) if rows else width) != (height, width):
        have = f"{len(rows)} of {len(rows[0])}" if rows else "none"
        raise KernelError(
            f"the first line says {count_text(height, 'row')} of {count_text(width, 'number')}, but there are {have}"
        )
    weights = rectangle(rows)
    return _scaled(weights, divisor, offset)


def _parse_npy(data: bytes) -> Table:
    stream = io.BytesIO(data)
    shape, fortran, dtype = _npy_header(stream)
    if dtype.kind not in "biuf" or dtype.hasobject:
        raise KernelError(f"a .npy kernel holds real numbers, this one holds {dtype}")
    if len(shape) not in (1, 2):
        raise KernelError(f"a .npy kernel has the shape (height, width), this one has {shape}")
    check_size(*(shape if len(shape) == 2 else (1, *shape)))
    count = math.prod(shape)
    there = len(data) - stream.tell()
    if there < count * dtype.itemsize:
        raise KernelError(f"a .npy of {shape} {dtype} needs {count * dtype.itemsize} bytes, and there are {there}")
    values = np.frombuffer(data, dtype, count, stream.tell()).reshape(shape, order="F" if fortran else "C")
    with np.errstate(over="ignore"):
        return Table(from_array(values))


def _npy_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(stream)
    # numpy parses the header as Python source, and its documentation does not limit the errors that this raises.
    except Exception as error:
        raise KernelError(f"not a .npy file: {str(error).splitlines()[0]}") from None


def from_array(values: Any) -> NDArray[np.float64]:
    """Return a float64 copy of an array ``(kH, kW)`` or ``(kW,)``, checked as by `rectangle`."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise KernelError(f"a kernel holds real numbers, this array holds {array.dtype}")
    if array.ndim == 1:
        refuse_ambiguous_shape(array.size)
        array = array[None, :]
    if array.ndim != 2:
        raise KernelError(f"a kernel has the shape (height, width), this array has {array.shape}")
    check_size(*array.shape)
    weights = np.array(array, dtype=np.float64, order="C")
    if not np.isfinite(weights).all():
        i, j = np.argwhere(~np.isfinite(weights))[0]
        raise KernelError(f"row {i + 1}, column {j + 1}: {weights[i, j]} is not a finite number")
    return weights


def _text(parse: Callable[[str], Table]) -> Callable[[bytes], Table]:
    def read(data: bytes) -> Table:
        # A byte that cannot be decoded becomes a replacement character, which the error for its row and column shows.
        encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        return parse(data.decode(encoding, errors="replace"))

    return read


READERS: dict[str, Callable[[bytes], Table]] = {
    ".txt": _text(parse_numbers),
    ".csv": _text(_parse_csv),
    ".json": _text(_parse_json),
    ".npy": _parse_npy,
    ".mat": _text(_parse_mat),
}


def read_kernel_file(path: str) -> Table:
    """Read a kernel from a file by its suffix; a name without a suffix is read as rows of text.

    Raises
    ------
    KernelError
        If the file cannot be opened, has an unknown suffix, or holds no kernel. The message names the file.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix and suffix not in READERS:
        raise KernelError(f"{path}: kernels are read from {_listed(READERS)} files, not from {suffix}")
    try:
        with open(path, "rb") as stream:
            data = stream.read(_FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise KernelError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > _FILE_BYTES_MAX:
        raise KernelError(f"{path}: more than {_FILE_BYTES_MAX} bytes are no kernel")
    try:
        return READERS[suffix or ".txt"](data)
    except KernelError as error:
        raise KernelError(f"{path}: {error}") from None


def _listed(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}"


def _rows(weights: NDArray[np.float64], between: str) -> list[str]:
    """Return the rows as text; a single row that could be read as a square kernel ends with a semicolon."""
    rows = [between.join(repr(float(v)).removesuffix(".0") for v in row) for row in weights]
    return [rows[0] + ";"] if len(rows) == 1 and could_be_square(weights.shape[1]) else rows


def _refuse_offset(offset: float, suffix: str) -> None:
    if offset:
        raise KernelError(f"{suffix} files cannot hold the offset {offset:g}: write .mat or .json")


def kernel_text(weights: NDArray[np.float64]) -> str:
    """Return weights as text for ``-k``, with every digit.

    Examples
    --------
    >>> kernel_text(np.array([[0.25, 0.5, 0.25], [1, 2, 1]]))
    '0.25 0.5 0.25; 1 2 1'
    """
    return "; ".join(_rows(weights, " "))


def encode_kernel(weights: NDArray[np.float64], suffix: str, *, offset: float = 0.0) -> bytes:
    """Return the bytes of a kernel file, which `read_kernel_file` reads back as the same numbers.

    Raises
    ------
    KernelError
        If the suffix is not .txt, .csv, .json, .npy or .mat, or such files cannot hold the offset.
    """
    suffix = suffix.lower()
    if suffix not in READERS:
        raise KernelError(f"kernels are written as {_listed(READERS)} files, not as {suffix or 'a name without one'}")
    if suffix not in (".mat", ".json"):
        _refuse_offset(offset, suffix)
    if suffix == ".npy":
        stream = io.BytesIO()
        np.save(stream, weights, allow_pickle=False)
        return stream.getvalue()
    if suffix == ".json":
        import json

        content: Any = weights.tolist()
        return (json.dumps({"weights": content, "offset": offset} if offset else content) + "\n").encode()
    rows = _rows(weights, "," if suffix == ".csv" else " ")
    if suffix == ".mat":
        rows[0] = rows[0].rstrip(";")
        rows.insert(0, f"{weights.shape[1]} {weights.shape[0]} 1 {offset!r}")
    return ("\n".join(rows) + "\n").encode()
