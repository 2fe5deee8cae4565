"""The job of one picture: read it, compute, write the result, and collect its notes and warnings.

Running many jobs, and their errors, are left to `cnnfilter.jobs.run`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

from cnnfilter.errors import ImageError
from cnnfilter.images.formats.detect import ARRAY_FORMATS, FLOAT_FORMATS, MAPPED_FORMATS, TEXT_FORMATS
from cnnfilter.jobs.source_target import STDOUT, Source, Target, open_stdout
from cnnfilter.runtime import limits

if TYPE_CHECKING:
    import numpy as np

    from cnnfilter.images.image import Image
    from cnnfilter.images.mapped_files import NewFile


MIN_CLIPPED_SHARE_WARNED = 0.01
"""Share of the samples above which clipping is warned of: fewer are hardly visible."""

MIN_MAPPED_BYTES = 64 << 20
"""Bytes of pixels from which a picture may be mapped; `cnnfilter.images.mapped_files` decides."""

MAX_DEFLATE_RATIO = 1000
"""Bytes of pixels for a byte of a TIFF file at most: Deflate packs 1000 to 1 at best (RFC 1951, section 3.2.5)."""


NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})
"""No option of `write_image` for the compression of a result."""


class Job:
    """One input: where it comes from and goes, its notes and warnings, its error and its result.

    A run may have a million jobs, so attributes that only some jobs need, or only while they run, are set late.
    """

    stopping = threading.Event()
    resources: contextlib.ExitStack
    has_ended = False
    is_mapped = False
    output_file: NewFile | None = None
    _written: tuple[BinaryIO, contextlib.ExitStack] | None = None
    writes_late = False
    """Whether the result for stdout is kept until those before it are written."""
    _late: list[bytes] | None = None

    def __init__(
        self,
        source: Source,
        target: Target | None = None,
        *,
        strip: bool = False,
        settings: Mapping[str, Any] = NO_SETTINGS,
        max_pixels: int | None = None,
        accept_truncated: bool = False,
        axes: str | None = None,
        detailed: bool = False,
    ) -> None:
        self.source = source
        self.target = target
        self.strip = strip
        self.settings = settings
        self.detailed = detailed
        self.accept_truncated = accept_truncated
        self.axes = axes
        self.limit: dict[str, Any] = {} if max_pixels is None else {"max_pixels": max_pixels}
        self.threads: int | None = None
        self.began = time.perf_counter()
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.seconds = 0.0
        self.failed_at: str | None = None
        self.error: BaseException | None = None
        self.result: Any = None

    @property
    def skip_reason(self) -> str | None:
        """The reason why the job is not run; None if it is."""
        return self.target.skip_reason if self.target else None

    @property
    def max_pixels(self) -> int:
        """The largest number of pixels that the picture and its result may have."""
        pixels: int = self.limit.get("max_pixels", limits.PIXELS)
        return pixels

    @property
    def format(self) -> str | None:
        """The format of the result; None where no result is written."""
        return self.target.format if self.target else None

    def read(self) -> Image:
        """Read the picture."""
        from cnnfilter.images.files import read_image

        began = time.perf_counter()
        pages = self.source.pages or ("first" if self.format != "tiff" else None)
        image = self._mapped() or read_image(
            self.source.path_or_data(),
            accept_truncated=self.accept_truncated,
            pages=pages,
            axes=self.axes,
            **self.limit,
        )
        if image.page_count > 1 and self.target is not None:
            count = f"the first of {image.page_count} is written"
            self.warn(f"{self.format} holds one page: {count}; tiff would keep all, {{page}} in OUT writes each")
        self.note(lambda: f"read {describe(image)} in {_milliseconds(began)}")
        self.began = time.perf_counter()
        return image

    def read_first_frame(self, use: str) -> Image:
        """Read the picture for a result of its first frame or page; warn if it has more.

        `use` ends the warning: "only the first of 3 frames is classified".
        """
        image = self.read()
        if (count := max(len(image.frames), image.page_count)) > 1:
            kind = "frames" if image.durations else "pages"
            self.warn(f"only the first of {count} {kind} {use}")
        return image

    def _mapped(self) -> Image | None:
        """Return a large npy or TIFF file as a mapped picture if its result is one too; else None."""
        if self.format not in MAPPED_FORMATS or not self.source.is_file or self.source.pages is not None:
            return None
        if self.axes is not None:
            return None
        if os.path.getsize(self.source.path) < MIN_MAPPED_BYTES // MAX_DEFLATE_RATIO:
            return None
        from cnnfilter.images import mapped_files

        try:
            image = mapped_files.map_picture(self.source.path, self.max_pixels, self.resources, self._temporary_folder)
        except ImageError:
            if not self.accept_truncated:
                raise
            image = None  # `read_image` reads what there is
        self.is_mapped = image is not None
        return image

    def _temporary_folder(self) -> str | None:
        """Return the folder of temporary files: that of the result, whose disk needs the space anyway."""
        if self.target is None or not self.target.is_file:
            return None
        self.target.create_folder()
        return os.path.dirname(self.target.path) or "."

    def allocate_for(self, image: Image) -> Callable[..., np.ndarray]:
        """Return the function that makes the array of a result: for a mapped picture, in the file to be written."""
        import numpy as np

        return self._new_array_for(image) if self.is_mapped and self.target is not None else np.empty

    def _new_array_for(self, image: Image) -> Callable[..., np.ndarray]:
        import numpy as np

        def allocate(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
            from cnnfilter.images import mapped_files
            from cnnfilter.images.coding.settings import Settings
            from cnnfilter.images.metadata import Metadata, with_size

            assert self.target is not None
            dtype = np.dtype(dtype)
            metadata = Metadata() if self.strip else with_size(image.metadata, shape[1], shape[0])
            frame = mapped_files.head_and_tail_of(self.format, image, shape, dtype, metadata, Settings(**self.settings))
            path = self.target.path if self.target.is_file else None
            with self._writing(self.target.name):
                self._temporary_folder()
                new = mapped_files.new_array(
                    path, frame, shape, dtype, force=self.target.force, max_pixels=self.max_pixels
                )
            self.resources.enter_context(new)
            self.output_file = new if isinstance(new, mapped_files.NewFile) else None
            return new.array

        return allocate

    def _update_georeference(self, image: Image) -> None:
        """Write the georeference of the result, which was not known when its file was begun."""
        from cnnfilter.images import mapped_files
        from cnnfilter.images.files import warn_of_lost_metadata
        from cnnfilter.images.metadata import with_size

        if self.strip or image.metadata.georeference is None or self.output_file is None:
            return
        warn_of_lost_metadata(image.metadata, str(self.format), image.mode)
        pixels = image.pixels
        metadata = with_size(image.metadata, pixels.shape[1], pixels.shape[0])
        frame = mapped_files.head_and_tail_of(self.format, image, pixels.shape, pixels.dtype, metadata)
        if frame is not None:
            self.output_file.replace_frame(*frame)

    def _write_file(self, image: Image, options: dict[str, Any]) -> None:
        from cnnfilter.images.files import write_image
        from cnnfilter.runtime.atomic_files import replace_file

        assert self.target is not None
        if self.output_file is not None and self.output_file.holds(image.pixels):
            self._update_georeference(image)
            self.output_file.keep()
            return
        self.target.create_folder()
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(replace_file(self.target.path, force=self.target.force))
            write_image(file, image, **options)
            file.flush()
            self._written = file, stack.pop_all()

    def finish(self) -> None:
        """Flush the file that was written to the disk, and rename it to the target."""
        if self._written is None:
            return
        assert self.target is not None
        (_, stack), self._written = self._written, None
        with self._writing(self.target.name):
            stack.close()

    def discard(self) -> None:
        """Remove the file that was written, because the job failed afterwards."""
        self._late = None
        if self._written is None:
            return
        (_, stack), self._written = self._written, None
        stack.__exit__(InterruptedError, InterruptedError(), None)

    def write(self, image: Image) -> None:
        """Write the picture in the format of the target.

        A file becomes the target when the job is finished (`finish`).
        """
        assert self.target is not None
        if self.stopping.is_set():  # the process may end before the file is complete
            raise InterruptedError(errno.EINTR, "interrupted")
        self.note(lambda: f"computed in {_milliseconds(self.began)}")
        began = time.perf_counter()
        image = self._converted(image)
        with self._writing(self.target.name):
            options: dict[str, Any] = {
                "format": self.format,
                "strip": self.strip,
                "threads": self.threads,
                **self.settings,
                **self.limit,
            }
            if self.target.path == STDOUT:
                self._write_stdout(image, options)
            else:
                self._write_file(image, options)
        self.note(lambda: f"wrote {describe(image)} as {self.format} in {_milliseconds(began)}")

    def _write_stdout(self, image: Image, options: dict[str, Any]) -> None:
        """Write the picture to stdout, or keep its bytes for `write_late`. A blank line separates matrices."""
        from cnnfilter.images.files import encode_image, write_image

        between = b"\n" if self.source.number > 1 and self.format in TEXT_FORMATS else b""
        if self.writes_late:
            self._late = [between, encode_image(image, **options)]
            return
        open_stdout().write(between)
        write_image(open_stdout(), image, **options)
        sys.stdout.flush()

    def write_late(self) -> None:
        """Write the result that `write` has kept for stdout, if there is one."""
        from cnnfilter.runtime.atomic_files import write_all

        parts, self._late = self._late, None
        if parts is None:
            return
        with self._writing("stdout"):
            for part in parts:
                write_all(open_stdout(), part)
            sys.stdout.flush()

    def dtype_for(self, image: Image, *, signed: bool = False) -> np.dtype[Any]:
        """Return the dtype of the samples of a result of `image`.

        It is that of the picture, except for arrays and texts of `signed` values (float32) and for float pictures whose
        target holds no floats (uint8).
        """
        import numpy as np

        if self.format in ARRAY_FORMATS and signed:
            return np.dtype(np.float32)
        if image.pixels.dtype == np.float32 and self.format not in FLOAT_FORMATS:
            largest = float(np.nanmax(np.abs(image.colour)))
            if 0 < largest <= 1:
                self.warn(
                    f"its values reach {largest:.3g} and those of {self.format} 255, so that it comes out "
                    "black; --signed stretch of convolve or apply spreads them"
                )
            return np.dtype(np.uint8)
        return image.pixels.dtype

    def _converted(self, image: Image) -> Image:
        """Return `image`; where it has floats and the target holds none, with samples from 0 to 255."""
        dtype = self.dtype_for(image)
        if dtype == image.pixels.dtype:
            return image
        import numpy as np

        from cnnfilter.images.dtypes import to_picture

        shares = []

        def convert(pixels: np.ndarray) -> np.ndarray:
            if image.has_alpha:  # of a float picture, 1 is opaque
                pixels = pixels.copy()
                pixels[:, :, -1] *= np.iinfo(dtype).max
            picture, clipped = to_picture(pixels, dtype)
            shares.append(clipped)
            return picture

        image = image.map(convert)
        self.warn_clipped(max(shares), "-f npy would avoid it")
        return image

    def warn_clipped(self, share: float, advice: str, min_share: float = MIN_CLIPPED_SHARE_WARNED) -> None:
        """Warn of the share of samples outside the range of the picture if it exceeds `min_share`."""
        if share > min_share:
            self.warn(f"{share:.0%} of the samples are clipped to the range of the picture; {advice}")

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.failed_at = name
            raise

    def reset(self) -> None:
        """Forget the notes and the error of an attempt, before another."""
        self.notes, self.error, self.failed_at = [], None, None

    def note(self, text: Callable[[], str]) -> None:
        """Keep the line that `text` returns, if details were asked for; otherwise `text` is not called."""
        if self.detailed:
            self.notes.append(text())

    def warn(self, text: str) -> None:
        """Keep a warning, once; ``--quiet`` suppresses it."""
        text = text.strip()  # Pillow's end with spaces
        if text not in self.warnings:
            self.warnings.append(text)


def _milliseconds(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.0f} ms"


def describe(image: Image) -> str:
    """Return the size, mode and type of a picture, such as ``512x384 RGB uint8``."""
    height, width, channels = image.pixels.shape
    mode = f"{channels} maps" if image.mode == "maps" else image.mode
    frames = f"{len(image.frames)} frames of " if len(image.frames) > 1 else ""
    if image.pages:
        frames = f"{len(image.pages)} pages, the first "
    return f"{frames}{width}x{height} {mode} {image.pixels.dtype}"
