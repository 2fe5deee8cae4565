"""``cnnfilter apply``: send pictures through a stack of layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from cnnfilter.cli import options
from cnnfilter.cli.clipping import NETWORK_RULE, ClippingRule, rule_of_layers
from cnnfilter.cli.completion import complete_layers
from cnnfilter.cli.read_write import Pictures, pictures
from cnnfilter.images.formats.detect import ARRAY_FORMATS, FLOAT_FORMATS

if TYPE_CHECKING:
    from cnnfilter.images.image import Image
    from cnnfilter.jobs.job import Job

HELP = """\
Send pictures through a stack of layers. Each is read once and written once, with float32 in between.

LAYERS are stages separated by bars, as in 'conv sobel-h | relu | maxpool 2'. "conv" takes fixed kernels, and
applies each of them to each map, as convolve does: around a map its edge is repeated, unless border= names another
border. A kernel typed as numbers is quoted. Around the maps of a network's learned layers there are zeros instead.
The other stages are maxpool, minpool, avgpool, globalpool, relu, relu6, leaky:0.1, sigmoid, tanh, softmax, abs and
gray. "cnnfilter describe" shows the shapes.

The first stage may be a network: MODEL is efficientnet-lite0 or a model file, and MODEL[:3] are its first three
layers. The picture is then prepared as the network requires.

The maps are written as a picture where each channel of the picture has one map. All others are written as a contact
sheet, on which each map is labelled and stretched to its own range; --sheet and --no-sheet decide otherwise. With
-f npy the maps are written as they are.

\b
Examples:
  cnnfilter apply 'conv sobel-h | relu | maxpool 2' photo.jpg -o edges.png
  cnnfilter apply 'gray | conv sobel-h sobel-v laplacian emboss gaussian:3 | maxpool 4' photo.jpg -o sheet.png
  cnnfilter apply "conv '1 2 1; 2 4 2; 1 2 1' bias=10 | avgpool 2" photo.jpg --signed stretch -o soft.png
  cnnfilter apply 'gray | conv sobel stride=2' -r photos -o maps/
  cnnfilter apply 'efficientnet-lite0[:3]' photo.jpg -o maps.png
  cat photo.jpg | cnnfilter apply 'gray | conv log:1.4 | abs | globalpool avg' -f npy > number.npy
"""


@click.command("apply", help=HELP, short_help="Send pictures through a stack of layers.")
@click.argument("layers", metavar="LAYERS", shell_complete=complete_layers)
@options.signed
@click.option(
    "--sheet/--no-sheet",
    default=None,
    help="Write the maps as a contact sheet, or as the channels of a picture (in TIFF as pages).  [default: a sheet, "
    "unless each channel has one map]",
)
@options.alpha
@options.scale
@pictures
def command(
    pictures: Pictures,
    layers: str,
    signed: str,
    sheet: bool | None,
    alpha: str,
    scale: tuple[float, float] | None,
) -> None:
    with options.errors_about("'LAYERS'"):
        found = _network_filter(layers, scale)
    if found is None and scale is not None:
        raise options.needs("--scale", "a network, such as MODEL[:3]")
    with options.errors_about("'LAYERS'"):
        apply_to, clipping = found or _stack_filter(layers, alpha, signed)

    def apply(job: Job) -> None:
        from cnnfilter.images.image import mode_of

        image = job.read()
        rule = clipping.of(image)
        is_array = job.format in ARRAY_FORMATS
        image, clipped = apply_to(
            image,
            signed=signed,
            sheet=_is_sheet(sheet, image, job.format),
            dtype=None if is_array and signed == "auto" else job.dtype_for(image),
            max_pixels=job.max_pixels,
            allocate=job.allocate_for(image),
        )
        job.warn_clipped(clipped, rule.advice, rule.min_share)
        if image.mode == "maps" and image.bands is None and job.format not in FLOAT_FORMATS:
            image = image.replace(mode=mode_of(image.pixels.shape[2]))
        job.write(image)

    pictures.run(apply, tag="maps", lossless=sheet is False)  # two or four maps are a picture with alpha


def _is_sheet(sheet: bool | None, image: Image, format: str | None) -> bool | None:
    """Return whether the maps are written as a contact sheet; None if that depends on the layers."""
    if sheet is None and format in ARRAY_FORMATS:
        return False
    if sheet is None and image.mode == "maps" and format not in FLOAT_FORMATS:
        return True  # the format cannot hold so many channels
    return sheet


ImageFilter = Callable[..., "tuple[Image, float]"]


def _stack_filter(text: str, alpha: str, signed: str) -> tuple[ImageFilter, ClippingRule]:
    """Return the filter of layers without learned weights, and its rule about clipped samples."""
    from cnnfilter.layers.names import check

    check(text)  # before numpy is imported
    from cnnfilter.layers.images import apply_layers
    from cnnfilter.layers.stack import parse_layers, refuse_learned

    stack = parse_layers(text)
    refuse_learned(stack)
    return partial(apply_layers, layers=stack, alpha=alpha), rule_of_layers(stack, signed)


def _network_filter(text: str, scale: tuple[float, float] | None) -> tuple[ImageFilter, ClippingRule] | None:
    """Return the filter of the first layers of a network and the layers after it; None if there is no network.

    Its rule about clipped samples is returned, too.
    """
    from cnnfilter.weights import is_model

    first, bar, rest = text.partition("|")
    if not first.strip().endswith("]") and not is_model(first.strip()):
        return None  # decided before numpy is imported
    from cnnfilter.layers.stack import Layers, parse_layers, refuse_learned
    from cnnfilter.networks.images import apply_network
    from cnnfilter.networks.network import load_first_layers

    layers = load_first_layers(first.strip())
    then = parse_layers(rest) if bar else None
    if layers is None:
        return None
    refuse_learned(then or Layers())
    layers = replace(layers, network=layers.network.with_scale(scale))

    def apply(image: Image, *, allocate: object, **how: Any) -> tuple[Image, float]:
        return apply_network(image, layers, then, **how)

    return apply, NETWORK_RULE
