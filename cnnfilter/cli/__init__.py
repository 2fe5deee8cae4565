"""The command line: the group of commands, and the exit codes.

Each command has a module in `cnnfilter.cli.commands`, which is imported when the command is called. This
module turns every error into one line on stderr and an exit code:

    0  done                       4    a check said no
    1  an input failed            130  interrupted (128 + the signal's number; 143 for SIGTERM)
    2  the command line is wrong  141  the reader of the output closed the pipe; nothing is printed
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

from cnnfilter import __version__
from cnnfilter.cli.messages import EXIT_FAILED, QUIET, accept_every_character, one_line, reason, say
from cnnfilter.errors import CnnfilterError
from cnnfilter.runtime import limits
from cnnfilter.runtime.limits import MIN_MEMORY_BYTES, allowed_memory

# The commands in the order of `cnnfilter --help`, and the module of each.
COMMANDS = {
    "convolve": "cnnfilter.cli.commands.convolve",
    "pool": "cnnfilter.cli.commands.pool",
    "apply": "cnnfilter.cli.commands.apply",
    "kernels": "cnnfilter.cli.commands.kernels",
    "describe": "cnnfilter.cli.commands.describe",
    "classify": "cnnfilter.cli.commands.classify",
    "features": "cnnfilter.cli.commands.features",
    "train": "cnnfilter.cli.commands.train",
    "evaluate": "cnnfilter.cli.commands.evaluate",
    "export": "cnnfilter.cli.commands.export",
    "warmup": "cnnfilter.cli.commands.warmup",
}

_START_BYTES_MIN = (144 << 20, 92 << 20)
"""Bytes of address space and of data that Python and numpy need to start: with less, they can crash the process.

OpenBLAS ends it below 138 and 87 MiB on processors without AVX-512, below 112 and 56 MiB on others (measured).
"""

_UNEXPANDED: dict[str, Any] = {"windows_expand_args": False}
"""On Windows, click would expand the patterns of --include and --exclude, too. `Selection` expands those of INPUT."""

EXIT_CLOSED_PIPE = 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1


class Stopped(KeyboardInterrupt):
    """A signal that ends the program, raised so that everything is cleaned up as after Ctrl-C."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


class Commands(click.Group):
    """A group that imports a command when it is called, and turns every error into a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command {name!r}.{_advice(name)}")
        return super().resolve_command(ctx, args)

    def make_context(self, *given: Any, **more: Any) -> click.Context:
        try:
            return super().make_context(*given, **more)
        except BrokenPipeError as error:  # the reader of the help closed the pipe
            raise click.exceptions.Exit(EXIT_CLOSED_PIPE) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            refuse_little_memory()
            with _warnings_after_all(ctx):
                return super().invoke(ctx)
        except CnnfilterError as error:
            raise click.ClickException(str(error)) from error
        except MemoryError as error:
            raise click.ClickException(reason(error)) from error
        except ImportError as error:
            if not limits.is_memory_error(error):
                raise
            raise click.ClickException(reason(MemoryError())) from error
        except BrokenPipeError as error:  # caught here, because click would exit with 1
            raise click.exceptions.Exit(EXIT_CLOSED_PIPE) from error
        except KeyboardInterrupt as stop:
            if sys.stderr and sys.stderr.isatty():
                click.echo(err=True)  # the shell's prompt starts below the echoed ^C
            for note in getattr(stop, "__notes__", ()) if _is_ctrl_c(stop) else ():
                with contextlib.suppress(OSError):  # a terminal that has hung up
                    say(note)
            raise click.exceptions.Exit(getattr(stop, "exit_code", 128 + signal.SIGINT)) from stop

    def main(  # type: ignore[override]  # the base class has two overloads
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **_UNEXPANDED | extra)
        sys.exit(self._run(args, extra))

    def _run(self, args: Sequence[str] | None, extra: dict[str, Any]) -> int:
        _open_closed_streams()
        accept_every_character()
        if "_CNNFILTER_COMPLETE" in os.environ:
            from cnnfilter.cli.completion import register

            register()
        try:
            with _signals_raise():
                code: int = super().main(args, standalone_mode=False, **_UNEXPANDED | extra)
                if not code:
                    sys.stdout.flush()
                    return 0
        except click.UsageError as error:  # some lines: the usage, then the error
            text = io.StringIO()
            error.show(text)
            click.echo(one_line(text.getvalue(), keep="\n"), nl=False, err=True)
            code = error.exit_code
        except click.ClickException as error:
            say("Error", error.format_message())
            code = error.exit_code
        except click.Abort as error:  # Ctrl-C while click reads the command line
            code = getattr(error.__cause__, "exit_code", 128 + signal.SIGINT)
        except Stopped as stop:  # the signal came after the command had ended
            code = stop.exit_code
        except BrokenPipeError:
            code = EXIT_CLOSED_PIPE
        except OSError as error:
            say("Error", str(error.filename or "stdout"), reason(error))
            code = EXIT_FAILED
        _give_up_stdout()
        return code


@contextlib.contextmanager
def _warnings_after_all(ctx: click.Context) -> Iterator[None]:
    """Print each warning that belongs to no job once, when the command has ended, and none if it ends with an error.

    Warnings of a job are reported with it (`cnnfilter.jobs.run`). What Pillow says of a picture that is no job, such as
    one of a data set, would not name the picture, and is left out.
    """
    texts: dict[str, None] = {}

    def keep(message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any) -> None:
        if f"{os.sep}PIL{os.sep}" not in filename:
            texts[str(message).strip()] = None

    with warnings.catch_warnings():
        warnings.showwarning = keep
        try:
            yield
        except click.exceptions.Exit:
            _print_warnings(ctx, texts)
            raise
        _print_warnings(ctx, texts)


def _print_warnings(ctx: click.Context, texts: Iterable[str]) -> None:
    for text in () if ctx.meta.get(QUIET) else texts:
        say("Warning", text)


def _is_ctrl_c(stop: KeyboardInterrupt) -> bool:
    return getattr(stop, "exit_code", None) in (None, 128 + signal.SIGINT)


def refuse_little_memory() -> None:
    """Refuse to start under a memory limit that is too low for any work.

    Raises
    ------
    CnnfilterError
        The message names the limit, and the memory that small pictures need.
    """
    for allowed, needed, name in zip(allowed_memory(), _START_BYTES_MIN, ("-v", "-d"), strict=True):
        if allowed is not None and allowed < needed:
            raise CnnfilterError(
                f"{allowed >> 20} MB of memory are allowed (ulimit {name}); "
                f"{max(MIN_MEMORY_BYTES, needed) >> 20} would do for small pictures"
            )


def _advice(name: str) -> str:
    """Return advice for an unknown command: the order of the words, or a similar name."""
    if os.path.exists(name):
        return f" The command comes before the file, as in: cnnfilter convolve {name} -k sharpen"
    import difflib

    close = difflib.get_close_matches(name, COMMANDS, n=1)
    return f" Did you mean {close[0]!r}?" if close else f" There are: {', '.join(COMMANDS)}."


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Raise `Stopped` for SIGINT, SIGTERM and SIGHUP, so that no partly written file remains.

    A signal that was ignored before (by ``nohup``) stays ignored. Only the first signal raises; later ones do nothing,
    so that they cannot interrupt the clean-up. (Setting SIG_IGN instead would let Python print a warning for a signal
    that arrives at that moment: python/cpython#87572.)
    """
    before: dict[int, Any] = {}
    stopped = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            raise Stopped(number)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    with contextlib.suppress(ValueError):  # not the main thread, which cannot set handlers
        for number in numbers:
            handler = signal.getsignal(number)
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, stop)
                before[number] = handler
    try:
        yield
    finally:
        for number, handler in before.items() if not stopped else ():
            signal.signal(number, handler)


def _open_closed_streams() -> None:
    """Open the null device for each standard stream that is closed (``>&-``).

    Otherwise the next file that is opened gets the descriptor of stdout, and the output is written into it. The
    null device is opened for reading, so that writing fails as it does for a closed stream.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # the lowest free number is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - it stays open


def _give_up_stdout() -> None:
    """Flush stdout, or close it if that fails, so that Python does not report the failure again when it exits."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.close()


main = Commands(
    "cnnfilter",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""\
Filter pictures with the layers of a convolutional network.

It applies named or custom kernels (sharpen, edges, high-pass), pooling, and stacks of both to files, folders and
pipes. The results have the numbers that PyTorch and ONNX give.

\b
Examples:
  cnnfilter convolve photo.jpg -k sharpen
  cnnfilter convolve photo.jpg -k sobel -o edges.png
  cat photo.jpg | cnnfilter convolve -k high-pass | cnnfilter pool --size 4 > small.png
  cnnfilter apply 'conv sobel-h sobel-v | relu | maxpool 2' photo.jpg -o maps.png
  cnnfilter classify photo.jpg

Each command has its own help: cnnfilter convolve --help.
""",
    epilog="""\
\b
Completion of commands, options, kernels, layers, models and files:
  bash (~/.bashrc):  eval "$(_CNNFILTER_COMPLETE=bash_source cnnfilter)"
  zsh (~/.zshrc):    eval "$(_CNNFILTER_COMPLETE=zsh_source cnnfilter)"
  fish (~/.config/fish/completions/cnnfilter.fish):  _CNNFILTER_COMPLETE=fish_source cnnfilter | source

\b
Limits, and the options that raise them:
  pixels, width x height x frames   89,478,485   --max-pixels N
  frames of an animation            10,000       --max-frames N
  rows or columns of a kernel       1,023        --max-kernel N
  a model's file                    1G           --max-model SIZE
  memory                            none         --max-memory SIZE

Large .npy and .tif files (with one page; LZW, Deflate, PackBits or no compression) are filtered and pooled in little
memory if the result is an .npy or .tif file, too. All other pictures have to fit into memory.

Exit codes: 0 done; 1 an input failed; 2 the command line is wrong; 4 a check said no; 130 interrupted.
""",
)
click.version_option(__version__, prog_name="cnnfilter", message="%(prog)s %(version)s")(main)
