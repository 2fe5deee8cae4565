"""Images larger than memory: npy and TIFF files that are mapped.

A file whose pixels are stored as an array is mapped itself. Pixels that have to be unpacked, converted or turned go to
a temporary file that has no name, so that the system removes it in any case. A result is computed in the mapped pages
of the file that is to be written, or in such a temporary file.

Pages that were used are released every few milliseconds, so that memory holds only the bands that are worked on. The
system's disk cache keeps as many of them as memory allows.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from cnnfilter.images.coding.settings import NO_SETTINGS, Settings
from cnnfilter.images.coding.tiff_layout import Page
from cnnfilter.images.coding.tiff_packing import choose_packing, coding_of
from cnnfilter.images.formats import npy, tiff, tiff_tags
from cnnfilter.images.formats.tiff_segments import SegmentedPage, open_segmented_page
from cnnfilter.images.image import CHANNELS, AsImageError, Image, as_pixels, check_size, turn_back
from cnnfilter.images.metadata import Metadata, upright
from cnnfilter.runtime.atomic_files import flush, replace_file
from cnnfilter.runtime.parallel import repeating

MIN_MAPPED_BYTES = 64 << 20
"""Bytes of pixels from which on a file is mapped; smaller files are read into memory."""

MIN_UNPACKED_FILE_BYTES = 256 << 20
"""Bytes of pixels from which on they are unpacked into a temporary file: writing it to a disk takes time."""

RELEASE_INTERVAL_SECONDS = 0.005
"""Seconds after which the pages that were used are released again."""

MAPPED_FILES_CAN_MOVE = os.name != "nt"
"""Whether a file can be renamed and removed while its pages are mapped, which Windows refuses."""

_PIECE_BYTES = 8 << 20
"""Bytes that are converted at a time."""


class MappedArray:
    """A mapped file as an array; used as a context, it releases pages that were used on a thread of its own.

    Attributes
    ----------
    array : (H, W, C) array
    """

    def __init__(self, file: int, shape: tuple[int, ...], dtype: np.dtype[Any], start: int, *, writable: bool) -> None:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(file, start + math.prod(shape) * dtype.itemsize, access=access)
        self.array: np.ndarray = np.frombuffer(self._map, dtype, math.prod(shape), start).reshape(shape)

    def _release_pages(self) -> None:
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def __enter__(self) -> Self:
        # Without a thread, the system releases pages when it needs memory.
        self._releasing = repeating(self._release_pages, RELEASE_INTERVAL_SECONDS)
        self._releasing.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._releasing.__exit__(None, None, None)
        del self.array
        with suppress(BufferError):  # another array still uses the pages
            self._map.close()


def temporary_array(folder: str | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> MappedArray:
    """Return an array in a file without a name, in `folder` or in the system's folder for temporary files."""
    with tempfile.TemporaryFile(dir=folder) as file:
        _reserve_disk(file.fileno(), math.prod(shape) * dtype.itemsize)
        return MappedArray(file.fileno(), shape, dtype, 0, writable=True)


def _reserve_disk(file: int, size: int) -> None:
    """Allocate a file's bytes on the disk; filling a mapped file on a full disk would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


# --- reading ------------------------------------------------------------------------------------------


def map_picture(path: str, max_pixels: int, stack: ExitStack, folder: Callable[[], str | None]) -> Image | None:
    """Return the image in a file, mapped until `stack` closes; None if it is small, or cannot be mapped.

    Parameters
    ----------
    folder : called for the folder of a temporary file, if one is needed; None is the system's

    Raises
    ------
    ImageError
        The file is cut off or not a picture, or has more than `max_pixels`.
    """
    with open(path, "rb") as file:
        head = file.read(6)
        file.seek(0)
        if head == b"\x93NUMPY":
            return _map_npy(file, max_pixels, stack, folder)
        if head[:4] in tiff_tags.SIGNATURES:
            return _map_tiff(file, path, max_pixels, stack, folder)
    return None


def _map_npy(file: BinaryIO, max_pixels: int, stack: ExitStack, folder: Callable[[], str | None]) -> Image | None:
    size = os.fstat(file.fileno()).st_size
    if size < MIN_MAPPED_BYTES:
        return None
    with AsImageError("cannot be decoded as npy"):
        found = npy.read_header(io.BytesIO(file.read(1 << 16)), size, max_pixels)
    is_as_stored = found.dtype in (np.uint8, np.uint16, np.float32) and found.dtype.isnative and not found.fortran_order
    if not is_as_stored and size < MIN_UNPACKED_FILE_BYTES:
        return None
    shape = found.shape[::-1] if found.fortran_order else found.shape
    mapping = stack.enter_context(MappedArray(file.fileno(), shape, found.dtype, found.start, writable=False))
    array = mapping.array.T if found.fortran_order else mapping.array
    if not is_as_stored:
        array = _converted(array, stack, folder())
    return Image(array, npy.mode_for(array.dtype, array.shape[2]), "npy")


def _converted(array: np.ndarray, stack: ExitStack, folder: str | None) -> np.ndarray:
    """Return an array of any type as pixels in a temporary file."""
    dtype = as_pixels(array[:1, :1]).dtype
    new = stack.enter_context(temporary_array(folder, array.shape, dtype)).array
    rows = max(1, _PIECE_BYTES // (array[0].size * array.itemsize))
    for first in range(0, len(array), rows):
        new[first : first + rows] = as_pixels(array[first : first + rows])
    return new


def _map_tiff(
    file: BinaryIO, path: str, max_pixels: int, stack: ExitStack, folder: Callable[[], str | None]
) -> Image | None:
    if tiff_tags.bytes_of_pixels(file) < MIN_MAPPED_BYTES:
        return None
    with open_segmented_page(path, max_pixels) as page:
        if page is None:
            return None
        file.seek(0)
        orientation, metadata = upright(tiff.metadata_of(file), page.shape[1::-1])
        coding = coding_of(file)
        if page.start is not None and orientation == 1:
            array = stack.enter_context(
                MappedArray(file.fileno(), page.shape, page.dtype, page.start, writable=False)
            ).array
        elif math.prod(page.shape) * page.dtype.itemsize < MIN_UNPACKED_FILE_BYTES:
            return None
        else:
            array = _unpacked(page, orientation, stack, folder())
    return Image(array, page.mode, "tiff", metadata, bands=page.bands, coding=coding)


def _unpacked(page: SegmentedPage, orientation: int, stack: ExitStack, folder: str | None) -> np.ndarray:
    """Return a page's pixels, upright, in a temporary file."""
    height, width, channels = page.shape
    shape = (width, height, channels) if orientation > 4 else page.shape
    new = stack.enter_context(temporary_array(folder, shape, page.dtype)).array
    as_filed = turn_back(new, orientation)
    for segment in page.segments():
        segment.fill(as_filed)
    return new


# --- writing ------------------------------------------------------------------------------------------


class NewFile:
    """A file whose pixels are computed in its mapped pages, under a hidden name until `keep`.

    Used as a context, it removes the file at the end unless `keep` was called.

    Attributes
    ----------
    array : (H, W, C) array
        The pixels, which the file has between `head` and `tail`.
    """

    def __init__(
        self, path: str, head: bytes, tail: bytes, shape: tuple[int, ...], dtype: np.dtype[Any], *, force: bool
    ) -> None:
        self._start, self._end = len(head), len(head) + math.prod(shape) * dtype.itemsize
        self._tail_bytes = len(tail)
        with ExitStack() as stack:
            self._file = stack.enter_context(replace_file(path, force=force))
            self._file.write(head)
            self._file.flush()
            _reserve_disk(self._file.fileno(), self._end + len(tail))
            self._file.seek(self._end)
            self._file.write(tail)
            self._file.flush()
            mapping = MappedArray(self._file.fileno(), shape, dtype, len(head), writable=True)
            self.array = stack.enter_context(mapping).array
            self._stack = stack.pop_all()

    def holds(self, pixels: np.ndarray) -> bool:
        """Return whether `pixels` are the file's array."""
        return np.may_share_memory(self.array, pixels)

    def replace_frame(self, head: bytes, tail: bytes) -> None:
        """Write other bytes before and after the pixels, as many as there are."""
        assert (len(head), len(tail)) == (self._start, self._tail_bytes)
        self._file.seek(0)
        self._file.write(head)
        self._file.seek(self._end)
        self._file.write(tail)

    def keep(self) -> None:
        """Flush the file to the disk and give it its name."""
        with self._stack:
            flush(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(_NotKeptError):
            self._stack.__exit__(_NotKeptError, _NotKeptError(), None)


class _NotKeptError(Exception):
    """Raised into `replace_file`, which removes the hidden file."""


def head_and_tail_of(
    format: str | None,
    like: Image,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    metadata: Metadata,
    settings: Settings = NO_SETTINGS,
) -> tuple[bytes, bytes] | None:
    """Return the bytes before and after the pixels of a file; None if the pixels are not one array in that format.

    They are not in a TIFF file that is compressed or has tiles, as that of `like` or as the settings say.
    """
    if format == "npy":
        return npy.header(shape, dtype), b""
    if format != "tiff" or shape[2] != like.pixels.shape[2] or not (like.mode in CHANNELS or like.bands):
        return None
    packing = choose_packing(like.coding, settings, dtype, like.mode)
    if not packing.is_plain:
        return None
    return tiff.head_and_tail(Page(shape, dtype, like.mode, like.bands, metadata, metadata.exif, rows=packing.rows))


def new_array(
    path: str | None,
    frame: tuple[bytes, bytes] | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    force: bool,
    max_pixels: int,
) -> NewFile | MappedArray:
    """Return an array for a result: in the file at `path`, or, without `path` or `frame`, in a temporary file.

    Under Windows it is always in a temporary file, from which the result is written.

    Parameters
    ----------
    frame : what `head_and_tail_of` returns

    Raises
    ------
    ImageError
        The result would have more than `max_pixels`.
    """
    check_size(shape[1], shape[0], max_pixels)
    if path is None or frame is None or not MAPPED_FILES_CAN_MOVE:
        return temporary_array(os.path.dirname(path) or "." if path else None, shape, dtype)
    return NewFile(path, *frame, shape, dtype, force=force)
