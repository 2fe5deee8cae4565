"""Options that several commands share, their types, and the way of pictures through a command."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from cnnfilter.errors import CnnfilterError

if TYPE_CHECKING:
    from cnnfilter.batch import Task
    from cnnfilter.kernels import KernelSet

    Type = click.ParamType[Any]
    Choice = click.Choice[str]
else:  # older versions of click have no generic types
    Type = click.ParamType
    Choice = click.Choice

Function = TypeVar("Function", bound=Callable[..., Any])

FORMATS = ("png", "jpg", "webp", "tiff", "gif", "bmp", "ppm", "npy")
_OTHER_NAMES = {"jpeg": "jpg", "tif": "tiff", "pgm": "ppm", "pnm": "ppm", "apng": "png"}

# ---------------------------------------------------------------- types


class Pair(Type):
    """``N`` or ``H,W`` (``HxW`` is understood too), each from `least` up."""

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


class Padding(Type):
    """``same``, ``valid``, ``N``, ``H,W`` or ``T,R,B,L``."""

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
        return _starting(("same", "valid"), incomplete)


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
        return _starting((*self.names, "constant:"), incomplete)


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
    """One of `FORMATS`, also by other names that people use."""

    def __init__(self) -> None:
        super().__init__(FORMATS, case_sensitive=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        name = str(value).lower().lstrip(".")
        return super().convert(_OTHER_NAMES.get(name, name), param, ctx)


class KernelText(Type):
    """A kernel as text. The command makes numbers of it, when the rest of the line has been found right."""

    name = "KERNEL"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from cnnfilter.catalogue import ENTRIES

        found = _starting(ENTRIES, incomplete)
        return found or [CompletionItem(incomplete, type="file")]


def _starting(names: Any, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def at_least_one_kernel(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a line without a kernel, and say where there are some."""
    if not value and not ctx.resilient_parsing:
        raise click.UsageError(
            "Missing option '-k' / '--kernel', such as -k sharpen (cnnfilter kernels lists the names).", ctx
        )
    return value


# ---------------------------------------------------------------- from text to what the library takes


@contextlib.contextmanager
def about(hint: str) -> Iterator[None]:
    """Turn an error about what was typed into a usage error that names the option or argument."""
    try:
        yield
    except (CnnfilterError, OSError) as error:
        raise click.BadParameter(str(error), param_hint=hint) from error


def find_kernels(specs: tuple[str, ...], *, flip: bool = False, normalize: bool = False) -> list[KernelSet]:
    """Return the kernels that each ``-k`` names; one for most, two for ``sobel``."""
    from cnnfilter.kernels import KernelSet, find_kernels

    found = []
    with about("'-k' / '--kernel'"):
        for named in map(find_kernels, specs):
            kernels = [kernel.flip() for kernel in named] if flip else list(named)
            kernels = [kernel.normalized() for kernel in kernels] if normalize else kernels
            found.append(KernelSet(kernels, named.combine, named.name))
    return found


# ---------------------------------------------------------------- pictures in and out


class Pictures:
    """What was asked of the pictures that a command reads and writes."""

    def __init__(
        self,
        *,
        input: tuple[str, ...],
        output: str | None = None,
        format: str | None = None,
        force: bool = False,
        strip: bool = False,
        recursive: bool = False,
        max_pixels: int | None = None,
        jobs: int | None = None,
        threads: int | None = None,
        verbose: bool = False,
        quiet: bool = False,
    ) -> None:
        self.inputs = list(input) or ["-"]
        self.output = output
        self.format = format
        self.force = force
        self.strip = strip
        self.recursive = recursive
        self.max_pixels = max_pixels
        self.jobs = jobs
        self.threads = threads
        self.verbose = verbose
        self.quiet = quiet
        if self.inputs.count("-") > 1:
            raise click.BadParameter("'-' (stdin) can be read only once.", param_hint="'INPUT'")
        if "-" in self.inputs and sys.stdin is not None and sys.stdin.isatty():
            ask_for_input(explicit="-" in input)
        if output is not None:  # refuses what can be no output, before anything heavy is imported
            from cnnfilter.cli.targets import Naming

            Naming(output, format, tag="", to_stdout=False)

    def run(self, work: Callable[[Task], Any], *, tag: str) -> None:
        """Read, work on and write every picture; end with exit code 1 if one failed.

        Parameters
        ----------
        work : callable
            Takes a `Task`: reads, calls the library, writes.
        tag : str
            What is done, for the names of results that nobody named.
        """
        from cnnfilter import batch
        from cnnfilter.cli import targets
        from cnnfilter.cli.report import Reporter, announce_compilation

        announce_compilation(quiet=self.quiet)
        sources = list(targets.find_sources(self.inputs, self.recursive, leave_out=self.output))
        naming = targets.Naming(self.output, self.format, tag, to_stdout=len(sources) == 1 and not sys.stdout.isatty())
        if naming.to_stdout and sys.stdout.isatty():
            raise click.BadParameter(
                "stdout is a terminal, which shows no pictures: redirect it, or name a file.",
                param_hint="'-o' / '--output'",
            )
        tasks = [
            batch.Task(source, target, strip=self.strip, max_pixels=self.max_pixels)
            for source, target in zip(sources, targets.plan(sources, naming, force=self.force), strict=True)
        ]
        with (
            Reporter(len(tasks), verbose=self.verbose, quiet=self.quiet, paths=naming.chosen_here) as reporter,
            contextlib.closing(batch.run(tasks, work, jobs=self.jobs, threads=self.threads)) as ended,
        ):
            for task in ended:
                reporter.report(task)
        if reporter.failed:
            raise click.exceptions.Exit(1)


def ask_for_input(explicit: bool) -> None:
    """Refuse to wait for a picture to be typed."""
    command = click.get_current_context().command_path
    what = "'-' is the terminal" if explicit else "no picture was given"
    raise click.UsageError(
        f"{what}. Name a file, or send one through a pipe:\n  {command} photo.jpg …\n  cat photo.jpg | {command} …"
    )


def pictures(function: Function) -> Function:
    """Give a command INPUT and the options of reading and writing, as one argument ``pictures``."""
    names = list(inspect.signature(Pictures).parameters)

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        chosen = Pictures(**{name: values.pop(name) for name in names})
        return function(chosen, **values)

    for option in reversed(_PICTURE_OPTIONS):
        command = option(command)
    return command  # type: ignore[return-value]


_INPUT = click.argument("input", nargs=-1, type=click.Path(readable=False))
_WRITING = (
    click.option(
        "-o",
        "--output",
        type=click.Path(readable=False),
        metavar="OUT",
        help="A file, a folder (out/), a template with {stem} {name} {ext} {dir} {index}, or - for stdout. "
        "Without it: stdout if that is not a terminal and there is one input, else a file named after the "
        "input in the current folder.",
    ),
    click.option(
        "-f",
        "--format",
        type=Format(),
        help="Format of the result. Without it: what the suffix of OUT says, else the input's if that loses "
        "nothing, else png.",
    ),
    click.option("--force", is_flag=True, help="Replace files that exist, the input too."),
)
_RECURSIVE = click.option(
    "-r", "--recursive", is_flag=True, help="Read the pictures in folders, and below; hidden ones not."
)
_STRIP = click.option("--strip", is_flag=True, help="Leave out profile, EXIF, resolution and texts.")
_READING = (
    click.option(
        "--max-pixels",
        type=Count(),
        metavar="N",
        help="Accept pictures of up to N pixels (width x height x frames).  [default: 89478485]",
    ),
    click.option(
        "-j",
        "--jobs",
        type=Count(),
        metavar="N",
        help="Pictures at a time.  [default: one per core]",
    ),
    click.option(
        "--threads",
        type=Count(),
        metavar="N",
        help="Threads for one picture.  [default: the free cores]",
    ),
    click.option("-v", "--verbose", is_flag=True, help="Say what was done, how and how long it took (on stderr)."),
    click.option("-q", "--quiet", is_flag=True, help="No warnings, and no paths of written files."),
)
_PICTURE_OPTIONS = (_INPUT, *_WRITING, _RECURSIVE, _STRIP, *_READING)
READING_OPTIONS = (_INPUT, _RECURSIVE, *_READING)
"""For commands that read pictures and write none."""

alpha = click.option(
    "--alpha",
    type=click.Choice(["keep", "filter", "drop"]),
    default="keep",
    show_default=True,
    help="Keep the alpha channel, filter it like a colour, or drop it. Colour is weighted by it anyway.",
)
