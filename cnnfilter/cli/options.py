"""Types of options, options and checks that commands share, and the way from text to kernels and networks."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from cnnfilter.cli.completion import complete_kernel, starting
from cnnfilter.cli.messages import QUIET
from cnnfilter.errors import CnnfilterError
from cnnfilter.runtime import limits
from cnnfilter.runtime.limits import parse_size

if TYPE_CHECKING:
    from cnnfilter.kernels.kernel import KernelSet
    from cnnfilter.networks.network import Network
    from cnnfilter.training.data.dataset import Dataset

    Type = click.ParamType[Any]
    Choice = click.Choice[str]
else:  # older versions of click have no generic types
    Type = click.ParamType
    Choice = click.Choice

FORMATS = ("png", "jpg", "webp", "avif", "tiff", "gif", "bmp", "ppm", "npy", "txt", "csv")
_FORMAT_SYNONYMS = {"jpeg": "jpg", "tif": "tiff", "pgm": "ppm", "pnm": "ppm", "apng": "png"}

# ---------------------------------------------------------------- types


class Pair(Type):
    """One whole number ``N`` or two as ``H,W`` or ``HxW``, each from `least` up."""

    name = "N|H,W"

    def __init__(self, least: int) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        numbers = _whole_numbers(value)
        if numbers is None or len(numbers) > 2 or min(numbers) < self.least:
            self.fail(
                f"{value!r} is neither a whole number from {self.least} up nor two of them as height,width "
                f"(such as {max(self.least, 2)} or {max(self.least, 2)},{self.least}).",
                param,
                ctx,
            )
        return numbers[0] if len(numbers) == 1 else tuple(numbers)


def _whole_numbers(text: str) -> list[int] | None:
    parts = text.lower().replace("x", ",").split(",")
    try:
        numbers = [int(part) for part in parts]
    except ValueError:
        return None
    return numbers if max(map(abs, numbers)) < 2**62 else None


class Count(Type):
    """A whole number from 1 up."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        numbers = _whole_numbers(str(value))
        if numbers is None or len(numbers) != 1 or numbers[0] < 1:
            self.fail(f"{value!r} is not a whole number from 1 up.", param, ctx)
        return numbers[0]


class Pixels(Type):
    """A number of pixels, such as ``200000000``, ``200M`` or ``200e6``; k, M and G are powers of 1000."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from decimal import Decimal  # float does not hold every number below 2**62

        text = re.sub(r",(?=\d{3}(\D|$))", "", str(value).strip().lower())
        match = re.fullmatch(r"(\d{1,19}(?:\.\d{0,18})?)(?:e\+?(\d{1,2}))? ?([kmg]?)(?:p|px|pixels)?", text)
        number = Decimal(match[1]) * 10 ** (int(match[2] or 0) + 3 * " kmg".index(match[3] or " ")) if match else 0
        if not 1 <= number < 2**62 or number % 1:
            self.fail(f"{value!r} is not a number of pixels, such as 200000000 or 200M (million).", param, ctx)
        return int(number)


class Size(Type):
    """A number of bytes, such as ``500M`` or ``2G``, from `least` up."""

    name = "SIZE"

    def __init__(self, least: int = 1) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            size = parse_size(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a size, such as 500M or 2G.", param, ctx)
        if size < self.least:
            self.fail(f"{value!r} is less than the program itself needs, {self.least >> 20}M.", param, ctx)
        return size


class Padding(Type):
    """A padding: ``same``, ``valid``, ``N``, ``H,W`` or ``T,R,B,L``."""

    name = "same|valid|N|H,W|T,R,B,L"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str) or value in ("same", "valid"):
            return value
        numbers = _whole_numbers(value)
        if numbers is None or len(numbers) not in (1, 2, 4) or min(numbers) < 0:
            self.fail(
                f"{value!r} is none of same, valid, N, H,W or T,R,B,L with whole numbers from 0 up "
                "(such as 1 or 0,1,1,0).",
                param,
                ctx,
            )
        return numbers[0] if len(numbers) == 1 else tuple(numbers)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return starting(("same", "valid"), incomplete)


class Border(Type):
    """The name of a border, or ``constant:V``."""

    name = "BORDER"
    names = ("replicate", "reflect", "symmetric", "wrap", "zero")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        kind, colon, number = str(value).partition(":")
        known = value in self.names or (kind == "constant" and colon and _finite(number) is not None)
        if not known:
            names = ", ".join(self.names)
            self.fail(f"{value!r} is none of {names} or constant:V (such as constant:255).", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return starting((*self.names, "constant:"), incomplete)


class Number(Type):
    """A number that is neither NaN nor infinite."""

    name = "V"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = _finite(value)
        if number is None:
            self.fail(f"{value!r} is not a finite number (such as 128 or -0.5).", param, ctx)
        return number


def _finite(text: Any) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class Format(Choice):
    """One of `FORMATS`, or a usual synonym such as ``jpeg``."""

    def __init__(self) -> None:
        super().__init__(FORMATS, case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name = str(value).lower().lstrip(".")
        return super().convert(_FORMAT_SYNONYMS.get(name, name), param, ctx)


class KernelText(Type):
    """A kernel as text, which the command parses after the rest of the command line has been checked."""

    name = "KERNEL"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return complete_kernel(ctx, param, incomplete)


class Share(Type):
    """A share such as ``0.9`` or ``90%``, from 0 to 1."""

    name = "P"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"{text!r} is not a share, such as 0.9 or 90%.", param, ctx)
        return share


class Duration(Type):
    """A duration such as ``90``, ``90s``, ``10m`` or ``1.5h``, in seconds."""

    name = "T"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        match = re.fullmatch(r"(\d+\.?\d*)(s|m|h)?", str(value))
        if match is None or not 0 < float(match[1]) < 1e6:
            self.fail(f"{value!r} is not a time, such as 90s, 10m or 1.5h.", param, ctx)
        return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2] or "s"]


class Positive(Type):
    """A number above 0, or from 0 up to below `end`."""

    name = "V"

    def __init__(self, *, zero: bool = False, end: float = math.inf) -> None:
        self.zero = zero
        self.end = end

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (number > 0 or (self.zero and number == 0)) or number >= self.end:
            limit = "" if self.end == math.inf else f" and below {self.end:g}"
            self.fail(f"{value!r} is not a number {'from 0 up' if self.zero else 'above 0'}{limit}.", param, ctx)
        return number


class Shape(Type):
    """A shape ``HxWxC`` of whole numbers from 1 up."""

    name = "HxWxC"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        numbers = re.split("[x,]", value.lower())
        if len(numbers) != 3 or not all(re.fullmatch("0*[1-9][0-9]{0,5}", number) for number in numbers):
            self.fail(
                f"{value!r} is not height x width x channels, such as 28x28x1 (grey) or 224x224x3 (colour).",
                param,
                ctx,
            )
        return tuple(map(int, numbers))


class KernelSize(Type):
    """The size of a kernel: ``N``, ``HxW`` or ``H,W``, from 1 up."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        match = re.fullmatch(r"(\d{1,4})(?:[x,](\d{1,4}))?", str(value).strip().lower())
        if not match or "0" in (match[1].lstrip("0") or "0", (match[2] or "1").lstrip("0") or "0"):
            self.fail(f"{value!r} is not a size such as 5, 5x5 or 3x7 (height x width).", param, ctx)
        return int(match[1]), int(match[2] or match[1])


class Scale(Type):
    """A scale ``LO,HI``: two finite numbers, of which the first is smaller."""

    name = "LO,HI"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        ends = [_finite(part) for part in value.split(",")]
        if len(ends) != 2 or ends[0] is None or ends[1] is None or ends[0] >= ends[1]:
            self.fail(
                f"{value!r} is not two numbers, of which the first is smaller (such as 0,1 or -0.5,0.5).", param, ctx
            )
        return tuple(ends)


# ---------------------------------------------------------------- options that commands share

Command = Callable[..., Any]


def add_options(options: Collection[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Return a decorator that gives a command these options, in this order."""

    def decorate(function: Command) -> Command:
        for option in reversed([*options]):
            function = option(function)
        return function

    return decorate


alpha = click.option(
    "--alpha",
    type=click.Choice(["keep", "filter", "drop"]),
    default="keep",
    show_default=True,
    help="Keep the alpha channel, filter it like a colour, or drop it. In every case, transparent pixels count less "
    "for the colours around them.",
)

signed = click.option(
    "--signed",
    type=click.Choice(["auto", "clip", "abs", "offset", "stretch"]),
    default="auto",
    show_default=True,
    help="How values below 0 are written to a picture: without their sign (abs), as 0 (clip), halved and added to half "
    "of the range (offset), or with all values spread over the range (stretch). auto means abs for kernels that sum to "
    "0 and come without a bias or an offset, else clip.",
)


scale = click.option(
    "--scale",
    type=Scale(),
    metavar="LO,HI",
    help="The values of float pictures that are black and white.  [default: those that the model keeps, else 0,1, "
    "0,255 or 0,65535, whichever the values fit]",
)


def note_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Keep whether ``--quiet`` was given for the warnings after the command, and return it."""
    ctx.meta[QUIET] = value
    return value


def _parsed_columns(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:
    """Return the columns of a table as names or numbers."""
    if value is None:
        return None
    from cnnfilter.training.data.tables import parse_columns

    with errors_about("'--columns'"):
        return parse_columns(value)


dataset_options = add_options(
    [
        click.option(
            "--threads",
            type=Count(),
            metavar="N",
            help="Use N threads; the result does not depend on it.  [default: all cores]",
        ),
        click.option(
            "--max-pixels",
            type=Pixels(),
            metavar="N",
            default=limits.PIXELS,
            show_default=True,
            help="Accept pictures of up to N pixels, such as 200M for 200 million.",
        ),
        click.option(
            "--columns",
            metavar="PATH,LABEL",
            callback=_parsed_columns,
            help="For a table: its columns of path and label, by name or number.  [default: found by names and "
            "contents]",
        ),
        click.option(
            "--root",
            type=click.Path(exists=True, file_okay=False),
            metavar="DIR",
            help="For a table: the folder that its paths start from.  [default: the folder of the table]",
        ),
        click.option(
            "--suffix",
            default="",
            metavar="SUFFIX",
            help="For a table: a suffix to add to the paths that lack it, such as .jpg.",
        ),
        scale,
        click.option(
            "--axes",
            type=click.Choice(["nhwc", "nchw", "hwc", "chw"]),
            help="Order of the axes of arrays in .npz and .npy files: channels last or first.  [default: the one that "
            "can be meant]",
        ),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            callback=note_quiet,
            help="Print no progress, no warnings and no list of skipped pictures.",
        ),
    ]
)
"""The options of commands that read labelled pictures: `train` and `evaluate`."""

# ---------------------------------------------------------------- checks that commands share


def at_least_one_kernel(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a command line without a kernel, and say how to list the names."""
    if not value and not ctx.resilient_parsing:
        raise click.UsageError(
            "Missing option '-k' / '--kernel', such as -k sharpen (cnnfilter kernels lists the names).", ctx
        )
    return value


def first_given(names: Collection[str]) -> str | None:
    """Return the first option of the parameters `names` that was given on the command line; None if none was."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        if name in names and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            return parameter.opts[0]
    return None


def refuse_unused_scale(scale: tuple[float, float] | None, dataset: Dataset) -> None:
    """Refuse ``--scale`` for data without float pictures."""
    if scale is not None and dataset.scale is None:
        raise click.UsageError(
            f"--scale belongs to float pictures, and {dataset.name} has none: bytes are on 0…255, 16-bit samples on "
            "0…65535."
        )


def needs(option: str, needed: str) -> click.UsageError:
    """Return the usage error for an option that has no meaning without another one."""
    return click.UsageError(f"{option} belongs to {needed}, which is not given.")


def refuse_without_package(package: str, message: str, *, extra: str) -> None:
    """Refuse to go on without a package of an extra, and say how to install it."""
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise click.ClickException(f"{message}: pip install 'cnnfilter[{extra}]' brings it")


# ---------------------------------------------------------------- from text to what the library takes


@contextlib.contextmanager
def errors_about(hint: str) -> Iterator[None]:
    """Turn an error of the package or of a file into a usage error that names the option or argument `hint`."""
    try:
        yield
    except (CnnfilterError, OSError) as error:
        raise click.BadParameter(str(error), param_hint=hint) from error


def find_kernels(specs: tuple[str, ...], *, flip: bool = False, normalize: bool = False) -> list[KernelSet]:
    """Return the kernels of each ``-k``: one for most names, two for ``sobel`` and others."""
    from cnnfilter.kernels.text import check

    found = []
    with errors_about("'-k' / '--kernel'"):
        for spec in specs:
            check(spec)  # before numpy is imported
        from cnnfilter.kernels.kernel import KernelSet
        from cnnfilter.kernels.lookup import find_kernels

        for named in map(find_kernels, specs):
            kernels = [kernel.flip() for kernel in named] if flip else list(named)
            kernels = [kernel.normalized() for kernel in kernels] if normalize else kernels
            found.append(KernelSet(kernels, named.combine, named.name))
    return found


def load_network(name: str, hint: str = "'MODEL'", scale: tuple[float, float] | None = None) -> Network:
    """Return the network of a model file, or of a model that comes with the package; `scale` as ``--scale`` says."""
    from cnnfilter.networks.network import load_model

    context = click.get_current_context(silent=True)
    if context is not None and context.get_parameter_source("model") is ParameterSource.ENVIRONMENT:
        hint = "the variable CNNFILTER_MODEL"
    with errors_about(hint):
        return load_model(name).with_scale(scale)
