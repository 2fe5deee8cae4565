"""Formats that Pillow decodes and encodes: WebP, AVIF, BMP, GIF and TGA; parts of TIFF and JPEG for their modules.

The plugin of a format is imported and called by its name. ``PIL.Image.open`` would import a dozen plugins and try
them all; one of them starts Ghostscript.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import struct
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnfilter.errors import ImageError
from cnnfilter.images import gif, gif_frames
from cnnfilter.images.coding import coding
from cnnfilter.images.coding.settings import NO_SETTINGS, Settings
from cnnfilter.images.image import Image, check_size, warn, whole_numbers
from cnnfilter.images.metadata import XMP, Metadata, resolution
from cnnfilter.images.tags import iptc
from cnnfilter.images.unpacking import tga
from cnnfilter.runtime.parallel import off_the_main_thread

if TYPE_CHECKING:
    from PIL import Image as PillowImage

_PLUGINS = {
    "avif": ("AvifImagePlugin", "AvifImageFile"),
    "bmp": ("BmpImagePlugin", "BmpImageFile"),
    "gif": ("GifImagePlugin", "GifImageFile"),
    "jpg": ("JpegImagePlugin", "JpegImageFile"),
    "tga": ("TgaImagePlugin", "TgaImageFile"),
    "tiff": ("TiffImagePlugin", "TiffImageFile"),
    "webp": ("WebPImagePlugin", "WebPImageFile"),
}

# The mode of `Image` for each mode of Pillow, and the modes that Pillow converts to first; all others become RGB.
_MODES = {"L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "CMYK": "CMYK"}
_CONVERTED_MODES = {"1": "L", "La": "LA", "RGBa": "RGBA", "PA": "RGBA"}

_PALETTE_BAND_PIXELS = 1 << 20  # pixels whose palette colours are looked up at a time, 4 MB in Pillow
_MAX_JPEG_SEGMENT_BYTES = 65_502  # 65,533 of a segment (ITU-T T.81, B.1.1.4) hold this much behind XMP's name


def read(data: bytes, format: str, max_pixels: int) -> Image:
    """Decode the bytes of a file of this format, with all its frames."""
    try:
        return _read(data, format, max_pixels)
    except OSError:
        if format != "tga" or (uncompressed := tga.uncompressed(data)) is None:
            raise
        return _read(uncompressed, format, max_pixels)


def _read(data: bytes, format: str, max_pixels: int) -> Image:
    with pillow_limit.at_least(max_pixels), open_file(data, format) as picture:
        check_size(picture.width, picture.height, max_pixels)
        metadata = read_metadata(picture)
        if format == "gif" and (shown := _frames_to_compose(data)):
            return off_the_main_thread(lambda: _composed(data, shown, _loop(picture, format), metadata, max_pixels))
        count = _count_frames(picture)
        if count > 1:
            check_size(picture.width, picture.height, max_pixels, count)
            image = off_the_main_thread(lambda: _animation(picture, format, metadata, count))
        else:
            pixels, mode = off_the_main_thread(lambda: to_array(picture))
            image = Image(pixels, mode, format, metadata)
        return image.replace(coding=coding.of_file(data, format))


class _PillowLimit:
    """A limit of Pillow that is global to the process, raised while a larger picture is decoded or encoded."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name
        self.lock = Lock()
        self.asked_for: list[int] = []
        self.own: int | None = None

    @contextlib.contextmanager
    def at_least(self, value: int) -> Iterator[None]:
        """Allow that much while the context lasts, on any thread."""
        module = importlib.import_module(f"PIL.{self.module}")
        with self.lock:
            if not self.asked_for:
                self.own = getattr(module, self.name)
            self.asked_for.append(value)
            setattr(module, self.name, self._limit())
        try:
            yield
        finally:
            with self.lock:
                self.asked_for.remove(value)
                setattr(module, self.name, self._limit())

    def _limit(self) -> int | None:
        return None if self.own is None else max([self.own, *self.asked_for])


pillow_limit = _PillowLimit("Image", "MAX_IMAGE_PIXELS")
"""The most pixels of a picture that is decoded."""

block_limit = _PillowLimit("ImageFile", "MAXBLOCK")
"""The bytes of the encoders' buffer; a progressive JPEG file has to fit into it."""


@functools.cache
def silence_logging(library: str) -> None:
    """Keep a library's log messages from the terminal, where Python prints them if no handler is set."""
    logging.getLogger(library).addHandler(logging.NullHandler())


def open_file(data: bytes | io.BytesIO, format: str) -> Any:
    """Return a Pillow image of a file's bytes or stream, opened by the plugin of its format, with no pixel decoded."""
    silence_logging("PIL")
    module, name = _PLUGINS[format]
    plugin = getattr(importlib.import_module(f"PIL.{module}"), name)
    return plugin(data if isinstance(data, io.BytesIO) else io.BytesIO(data))


def _frames_to_compose(data: bytes) -> list[gif_frames.Frame]:
    """Return the frames of a GIF file; none if there is one that fills the screen, which Pillow decodes itself.

    Raises
    ------
    ImageError
        The file is cut off.
    """
    gif.refuse_cut(data)
    shown = list(gif_frames.frames(data))
    is_still = len(shown) == 1 and shown[0].covers(*gif_frames.screen_size(data, shown[0]))
    return [] if is_still else shown


def _composed(
    data: bytes, shown: list[gif_frames.Frame], loop: int | None, metadata: Metadata, max_pixels: int
) -> Image:
    """Return a GIF file's frames as an animation, or as a picture if there is one frame."""
    width, height = gif_frames.screen_size(data, shown[0])
    check_size(width, height, max_pixels, len(shown))
    for frame in shown:
        if frame.width and frame.height:
            check_size(frame.width, frame.height, max_pixels)
    pictures, mode = gif_frames.compose(shown, width, height, _gif_indices)
    if len(shown) == 1:
        return Image(pictures[0], mode, "gif", metadata)
    durations = tuple(frame.milliseconds for frame in shown)
    return Image(pictures[0], mode, "gif", metadata, tuple(pictures), durations, loop)


def _gif_indices(file: bytes) -> np.ndarray:
    with open_file(file, "gif") as picture:
        return np.array(picture)


def _count_frames(picture: PillowImage.Image) -> int:
    return int(getattr(picture, "n_frames", 1))


def _animation(picture: PillowImage.Image, format: str, metadata: Metadata, count: int) -> Image:
    """Return an animation whose frames are complete: each is drawn on what the earlier ones left."""
    frames, durations = [], []
    for index in range(count):
        picture.seek(index)
        frames.append(np.asarray(picture.convert("RGBA")))
        durations.append(round(picture.info.get("duration", 0)))
    mode = "RGBA"
    if all((frame[:, :, 3] == 255).all() for frame in frames):
        mode = "RGB"
        for index, frame in enumerate(frames):  # one by one, so that only one frame is in memory twice
            frames[index] = np.ascontiguousarray(frame[:, :, :3])
    return Image(frames[0], mode, format, metadata, tuple(frames), tuple(durations), _loop(picture, format))


def _loop(picture: PillowImage.Image, format: str) -> int | None:
    """Return the repetitions after the first showing, which GIF counts; WebP counts the first one, too."""
    loop = picture.info.get("loop")
    if format == "gif" or not loop:
        return loop
    return loop - 1 if loop > 1 else None


def to_array(picture: PillowImage.Image) -> tuple[np.ndarray, str]:
    """Return the pixels (H, W, C) of a Pillow image of any mode, and their mode."""
    mode = picture.mode
    if mode == "P":
        return _from_palette(picture)
    if mode in ("1", "L", "RGB") and "transparency" in picture.info:
        picture = picture.convert("RGBA" if mode == "RGB" else "LA")
    elif mode in _CONVERTED_MODES:
        picture = picture.convert(_CONVERTED_MODES[mode])
    elif mode.startswith("I;16"):
        return np.array(picture).astype(np.uint16, copy=False)[:, :, None], "L"
    elif mode == "I":
        return _unsigned_if_it_fits(np.array(picture))[:, :, None], "L"
    elif mode == "F":
        return np.array(picture)[:, :, None], "L"
    elif mode == "LAB":
        picture = _from_lab(picture)
    elif mode not in _MODES:
        picture = picture.convert("RGB")
    pixels = np.asarray(picture)  # not np.array, which would make a second copy
    return (pixels[:, :, None] if pixels.ndim == 2 else pixels), _MODES[picture.mode]


def _unsigned_if_it_fits(values: np.ndarray) -> np.ndarray:
    """Return uint16 if the values fit, else float32; Pillow's mode I holds 16-bit grey in 32 bits."""
    if values.min() >= 0 and values.max() <= 65535:
        return values.astype(np.uint16)
    return whole_numbers(values)


def _from_palette(picture: PillowImage.Image) -> tuple[np.ndarray, str]:
    """Return the colours of a palette image, as grey if all of them are grey."""
    transparent = "transparency" in picture.info or (picture.palette is not None and picture.palette.mode == "RGBA")
    mode = "RGBA" if transparent else "RGB"
    pixels = np.empty((picture.height, picture.width, len(mode)), np.uint8)
    rows = max(1, _PALETTE_BAND_PIXELS // picture.width)
    grey = True
    for top in range(0, picture.height, rows):  # Pillow takes four bytes a pixel, in two copies
        band = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        colours = pixels[top : top + rows]
        colours[...] = np.asarray(band.convert(mode))
        grey = grey and bool((colours[:, :, 1:3] == colours[:, :, :1]).all())
    if not grey:
        return pixels, "RGBA" if pixels.shape[2] == 4 else "RGB"
    return np.ascontiguousarray(pixels[:, :, ::3]), "LA" if pixels.shape[2] == 4 else "L"


def _from_lab(picture: PillowImage.Image) -> PillowImage.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
    assert converted is not None  # it is None only for a conversion in place
    return converted


def read_metadata(picture: PillowImage.Image) -> Metadata:
    """Return the metadata of an image that Pillow has opened."""
    info: Mapping[Any, Any] = picture.info
    text = {key: str(value) for key, value in getattr(picture, "text", {}).items()}
    comment, xmp = info.get("comment"), info.get("xmp")
    if comment:
        text["Comment"] = _as_text(comment)
    if xmp:
        text[XMP] = _as_text(xmp)
    icc, exif = info.get("icc_profile"), info.get("exif")
    records = _iptc(info.get("photoshop"))
    return Metadata(icc or None, exif or None, resolution(info.get("dpi")), text, iptc=records)


def _iptc(resources: Any) -> bytes | None:
    """Return IPTC's records from the resources of a JPEG file's Photoshop segments, by their numbers."""
    records = resources.get(iptc.RESOURCE) if isinstance(resources, dict) else None
    return iptc.without_previews(records) if isinstance(records, bytes) else None


def _iptc_segment(records: bytes) -> bytes:
    """Return the segment of a JPEG file that holds IPTC's records: APP13 with one Photoshop resource."""
    resource = struct.pack(">4sHHI", b"8BIM", iptc.RESOURCE, 0, len(records)) + records + bytes(len(records) % 2)
    content = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content


def _as_text(value: Any) -> str:
    """Return a comment as text: files do not name its encoding, so it is UTF-8 if it is valid, else Latin-1."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def encode(image: Image, format: str, settings: Settings = NO_SETTINGS) -> bytes:
    """Return an image as the bytes of a file; the format must hold its mode and depth."""
    from PIL import Image as PillowImage

    frames = image.frames or (image.pixels,)
    pictures = [PillowImage.fromarray(f[:, :, 0] if f.shape[2] == 1 else f) for f in frames]
    if image.mode == "CMYK":
        pictures = [PillowImage.frombytes("CMYK", (f.shape[1], f.shape[0]), f) for f in frames]
    options = save_options(image, format, settings)
    if len(pictures) > 1:
        options |= _animation_options(image, format) | {"save_all": True, "append_images": pictures[1:]}
    stream = io.BytesIO()
    off_the_main_thread(lambda: pictures[0].save(stream, format=format, **options))
    if format == "webp" and image.has_alpha:
        _mark_alpha(stream.getbuffer())
    if format == "avif" and coding.is_lossless(format, image.coding, settings):
        _check_lossless_avif(stream.getvalue(), frames, asked=settings.lossless)
    return stream.getvalue()


def _check_lossless_avif(data: bytes, frames: Sequence[np.ndarray], *, asked: bool) -> None:
    """Check that an AVIF file holds the very pixels: Pillow converts colours to YCbCr, which rounds them.

    Raises
    ------
    ImageError
        It does not, and it was asked for.

    Warns
    -----
    ImageWarning
        It does not, and the input was such a file.
    """
    with open_file(data, "avif") as picture:
        off = 0
        for index, frame in enumerate(frames):
            picture.seek(index)
            decoded = np.asarray(picture.convert({1: "L", 3: "RGB", 4: "RGBA"}[frame.shape[2]])).reshape(frame.shape)
            off = max(off, int(np.abs(decoded.astype(np.int16) - frame).max()))
    if off and asked:
        raise ImageError(f"avif cannot be written without loss in these colours: they are off by up to {off}; webp can")
    if off:
        warn(
            f"the input is a lossless avif, but colours written as avif are off by up to {off}; webp and png keep them"
        )


def _mark_alpha(file: memoryview) -> None:
    """Set the alpha flag of an extended WebP file.

    The encoder of animations does not set it if it can crop every frame to an opaque rectangle. The transparent rest
    of the canvas would then be read as black.
    """
    if bytes(file[12:16]) == b"VP8X":
        file[20] |= 0x10


def _animation_options(image: Image, format: str) -> dict[str, Any]:
    options: dict[str, Any] = {"duration": list(image.durations)}
    if format == "gif":
        options["disposal"] = 2 if image.has_alpha else 1
        return options if image.loop is None else options | {"loop": image.loop}
    return options | {"loop": 1 if image.loop is None else image.loop + 1 if image.loop else 0}


def save_options(image: Image, format: str, settings: Settings = NO_SETTINGS) -> dict[str, Any]:
    """Return the options of Pillow's ``save`` for an image: how it is compressed, and its metadata."""
    metadata = image.metadata
    options = coding.save_options(format, image.coding, settings)
    if format == "avif" and image.mode == "L":
        options["subsampling"] = "4:0:0"  # no chroma
    if icc := metadata.icc_for(image.mode):
        options["icc_profile"] = icc
    if metadata.exif and format in ("jpg", "webp", "avif"):
        options["exif"] = b"Exif\0\0" + metadata.exif
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    if (comment := metadata.text.get("Comment")) and format in ("jpg", "gif"):
        options["comment"] = comment.encode()
    if (xmp := metadata.text.get(XMP)) and format in ("jpg", "webp", "avif"):
        options["xmp"] = xmp.encode()
    if metadata.iptc and format == "jpg":
        if len(metadata.iptc) > _MAX_JPEG_SEGMENT_BYTES:
            warn(f"jpg holds no iptc of {len(metadata.iptc):,} bytes: it is left out")
        else:
            options["extra"] = _iptc_segment(metadata.iptc)
    if format == "jpg":
        for name in ("exif", "xmp", "comment"):
            if len(options.get(name, b"")) > _MAX_JPEG_SEGMENT_BYTES:
                warn(f"jpg holds no {name} of {len(options.pop(name)):,} bytes: it is left out")
    return options


def cmyk_to_rgb(pixels: np.ndarray, icc: bytes) -> np.ndarray:
    """Return CMYK pixels, uint8 (H, W, 4), as sRGB (H, W, 3) by their ICC profile."""
    from PIL import Image as PillowImage

    return np.array(_by_profile(PillowImage.frombytes("CMYK", pixels.shape[1::-1], pixels), icc))


def _by_profile(inks: PillowImage.Image, icc: bytes) -> PillowImage.Image:
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        converted = ImageCms.profileToProfile(inks, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (OSError, ImageCms.PyCMSError):
        return inks.convert("RGB")
    return converted or inks.convert("RGB")
