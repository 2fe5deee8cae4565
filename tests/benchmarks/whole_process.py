"""Rows that run whole programs, from a file to a file, beside vips, ImageMagick, GraphicsMagick and G'MIC.

All of them write the same picture in the same format: ``sobel-h`` as drawn, negative values cut at 0. JPEG is
written with quality 95 and whole chroma by all (G'MIC halves it), and once more as each does by itself. PNG
likewise: with DEFLATE level 1 (G'MIC cannot be told), and as each does by itself. The row filters and vips'
precision are those with which each is fastest.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import launcher, pictures
from tests.benchmarks.measure import OURS, Constant, Contender, Row, Target, Unavailable

REPOSITORY = Path(__file__).resolve().parents[2]
BASE = [sys.executable, "-c", "import numpy, PIL.Image, click"]
_BASE_NAME = "python, numpy, Pillow, click"
_SOBEL = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Setting:
    """The folder of the files, the threads of all, and the (height, width) of the pictures."""

    folder: Path
    threads: int
    small: tuple[int, int] = (512, 512)
    large: tuple[int, int] = (3000, 4000)
    middle: tuple[int, int] = (2000, 3000)

    def environment(self) -> dict[str, str]:
        limits = ("VIPS_CONCURRENCY", "MAGICK_THREAD_LIMIT", "OMP_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(limits, str(self.threads)), "PYTHONPATH": str(REPOSITORY)}
        # Installed programs have their bytecode, so the measured ones may keep it too. This process has set the threads
        # of its own BLAS; a program that a user starts has no such setting.
        for name in ("PYTHONDONTWRITEBYTECODE", "OPENBLAS_NUM_THREADS"):
            environment.pop(name, None)
        return environment

    def picture(self, name: str, suffix: str) -> str:
        """Return the path of the ``small``, ``middle`` or ``large`` picture, made when first wanted."""
        return str(pictures.save(self.folder / (name + suffix), *getattr(self, name)))

    def pixels(self, name: str) -> str:
        height, width = getattr(self, name)
        return f"{height * width / 1e6:.3g} MP"


# --- running programs ---------------------------------------------------------------------------------


@functools.cache
def _launcher() -> Any:
    command = [sys.executable, "-S", "-E", launcher.__file__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run(command: list[str], setting: Setting) -> dict[str, Any]:
    """Run a program in the launcher and return what it tells.

    Raises
    ------
    RuntimeError
        The program failed.
    """
    server = _launcher()
    order = {"command": command, "environment": setting.environment(), "folder": str(setting.folder)}
    server.stdin.write(json.dumps(order) + "\n")
    server.stdin.flush()
    told: dict[str, Any] = json.loads(server.stdout.readline())
    if told["code"] != 0:
        raise RuntimeError(f"{' '.join(command)[:120]} …: {told['said'].strip()[-120:]}")
    return told


def stop() -> None:
    """End the launcher, if there is one."""
    if _launcher.cache_info().currsize:
        server = _launcher()
        server.stdin.close()
        server.wait()
        server.stdout.close()
        _launcher.cache_clear()


class Program:
    """A whole process, timed in seconds, or its peak memory in bytes over that of an idle one."""

    def __init__(self, command: list[str], setting: Setting, output: str | None = None, memory: bool = False):
        self.command, self.setting, self.output, self.memory = command, setting, output, memory
        self.took = 0.0

    def first(self) -> str | None:
        self.took = run(self.command, self.setting)["seconds"]
        return self.output

    def sample(self) -> float:
        if self.memory:
            idle = run(BASE, self.setting)["peak"]
            return float(run(self.command, self.setting)["peak"] - idle)
        return float(run(self.command, self.setting)["seconds"])


@functools.cache
def program(*names: str, says: str = "") -> str:
    """Return the first program of these names on the PATH that says what it should to ``-version``.

    Raises
    ------
    Unavailable
        There is none.
    """
    for name in names:
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            path = shutil.which(name, path=folder)
            if path and says in _version(path):
                return path
    raise Unavailable(f"{' or '.join(names)} is not installed")


@functools.cache
def _version(path: str) -> str:
    """Return what a program says it is."""
    option = "-version" if Path(path).name in ("convert", "magick", "gm", "gmic") else "--version"
    said = subprocess.run([path, option], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return re.sub(r"\x1b\[[0-9;]*m", "", said.stdout + said.stderr)


def versions() -> dict[str, str]:
    """Return the versions of the programs that are here."""
    found = {}
    finders: dict[str, Callable[[], str]] = {
        "vips": lambda: program("vips"),
        "ImageMagick": _imagemagick,
        "GraphicsMagick": lambda: program("gm"),
        "G'MIC": lambda: program("gmic"),
    }
    for name, finder in finders.items():
        try:
            number = re.search(r"\d+\.\d+[\d.-]*", _version(finder()))
        except Unavailable:
            continue
        found[name] = number[0] if number else "?"
    return found


def _imagemagick() -> str:
    return program("magick", "convert", says="ImageMagick")


# --- one filter, five programs ------------------------------------------------------------------------


@dataclass(frozen=True)
class Filtering:
    """The work of one row: a picture, a format, a kernel of whole numbers with its divisor.

    `settled`: the peers are told how to write, so that all write alike; else they do as they always do.
    """

    setting: Setting
    picture: str
    suffix: str
    weights: np.ndarray
    divisor: int = 1
    settled: bool = True

    @property
    def source(self) -> str:
        return self.setting.picture(self.picture, self.suffix)

    def output(self, tool: str) -> str:
        return str(self.setting.folder / f"{tool}{self.suffix}")

    def rows(self, between: str, after: str) -> str:
        return after.join(between.join(f"{value / self.divisor:.9g}" for value in row) for row in self.weights)

    def contenders(self) -> dict[str, Callable[[], Contender]]:
        commands = {
            OURS: self.ours,
            "vips": self.vips,
            "GraphicsMagick": self.graphicsmagick,
            "ImageMagick": self.imagemagick,
            "G'MIC": self.gmic,
        }
        return {
            name: lambda name=name, command=command: Program(command(), self.setting, self.output(_plain(name)))  # type: ignore[misc]
            for name, command in commands.items()
        }

    def ours(self) -> list[str]:
        name = "sobel-h"
        if self.weights is not _SOBEL:
            name = str(self.setting.folder / f"kernel-{len(self.weights)}.txt")
            Path(name).write_text(self.rows(" ", "\n") + "\n")
        return [
            *(
                sys.executable,
                "-m",
                "cnnfilter",
                "convolve",
                self.source,
                "-k",
                name,
                "--signed",
                "clip",
                "--force",
            ),
            *("--quiet", "--threads", str(self.setting.threads), "-o", self.output(OURS)),
        ]

    def vips(self) -> list[str]:
        mask = self.setting.folder / f"vips-{len(self.weights)}.mat"
        rows = "\n".join(" ".join(map(str, row)) for row in self.weights)
        mask.write_text(f"{self.weights.shape[1]} {self.weights.shape[0]} {self.divisor} 0\n{rows}\n")
        how = {".png": "[compression=1]", ".jpg": "[Q=95,subsample_mode=off]"}[self.suffix]
        output = self.output("vips") + (how if self.settled else "")
        return [program("vips"), "conv", self.source, output, str(mask), "--precision", "integer"]

    def _magick(self, path: list[str], tool: str, weights: str) -> list[str]:
        # For PNG the digits of a quality are the DEFLATE level and the row filter (1 is sub).
        how = {".png": ["-quality", "11"], ".jpg": ["-quality", "95", "-sampling-factor", "1x1"]}[self.suffix]
        how = how if self.settled else []
        return [*path, self.source, "-convolve", weights, *how, self.output(tool)]

    def imagemagick(self) -> list[str]:
        return self._magick([_imagemagick()], "ImageMagick", self.rows(",", ","))

    def graphicsmagick(self) -> list[str]:
        weights = ",".join(map(str, self.weights.ravel()))  # it divides by the sum itself
        if len(weights) > 1024:
            raise Unavailable("GraphicsMagick refuses a kernel of so many characters")
        return self._magick([program("gm"), "convert"], "GraphicsMagick", weights)

    def gmic(self) -> list[str]:
        quality = ",95" if self.suffix == ".jpg" and self.settled else ""
        return [
            *(program("gmic"), "-v", "-1", self.source, f"({self.rows(',', ';')})", "-correlate[-2]", "[-1]"),
            *("-keep[-2]", "-cut", "0,255", "-o", self.output("GMIC") + quality),
        ]


def _plain(name: str) -> str:
    return name.replace("'", "")


def same_picture(ours: str, theirs: str) -> bool:
    """Return whether two files show the same: to 1 level inside for PNG, to 2 levels in the mean for JPEG."""
    from PIL import Image

    first, second = (np.asarray(Image.open(path).convert("RGB")).astype(np.int16) for path in (ours, theirs))
    if first.shape != second.shape:
        return False
    inside = np.abs(first - second)[16:-16, 16:-16]
    return bool(inside.max() <= 1 if ours.endswith(".png") else inside.mean() <= 2)


# --- the rows -----------------------------------------------------------------------------------------


def start_rows(setting: Setting) -> Iterator[Row]:
    """Starting up, beside the least that a Python tool of this kind imports."""

    def base() -> Contender:
        return Program(BASE, setting)

    ours = [sys.executable, "-m", "cnnfilter"]
    for name, arguments, within in (
        ("--help", ["--help"], 0.6),
        ("convolve --help", ["convolve", "--help"], 0.6),
    ):
        yield Row(
            "start",
            name,
            lambda arguments=arguments: {  # type: ignore[misc]
                OURS: lambda: Program([*ours, *arguments], setting),
                _BASE_NAME: base,
            },
            targets=(Target((_BASE_NAME,), within=within),),
        )
    bounds = {_BASE_NAME: 1.45, "GraphicsMagick": 2.0, "ImageMagick": 1.1, "G'MIC": 0.8}
    targets = tuple(Target((peer,), within=bound) for peer, bound in bounds.items())
    for name, settled in (("peers' own level", False), ("level 1", True)):
        work = Filtering(setting, "small", ".png", _SOBEL, settled=settled)
        yield Row(
            "start",
            "sobel-h {}x{} PNG, {}".format(*setting.small, name),
            lambda work=work: {**work.contenders(), _BASE_NAME: base},  # type: ignore[misc]
            targets=() if settled else targets,
            agree=same_picture,
        )


_NATIVE = ("vips", "GraphicsMagick", "ImageMagick", "G'MIC")


def file_rows(setting: Setting) -> Iterator[Row]:
    """12 MP from file to file."""
    size = setting.pixels("large")
    bounds = {"vips": 1.2, "GraphicsMagick": 0.8, "ImageMagick": 0.45, "G'MIC": 0.45}
    against_all = tuple(Target((peer,), within=bound) for peer, bound in bounds.items())
    for name, settled in (("quality 95", True), ("peers' own quality", False)):
        work = Filtering(setting, "large", ".jpg", _SOBEL, settled=settled)
        targets = against_all if settled else ()
        agree = same_picture if settled else None
        yield Row("files", f"sobel-h {size} JPEG, {name}", work.contenders, targets=targets, agree=agree)
    for name, settled in (("level 1", True), ("peers' own level", False)):
        work = Filtering(setting, "large", ".png", _SOBEL, settled=settled)
        fastest = (Target(_NATIVE, within=0.35),)
        yield Row("files", f"sobel-h {size} PNG, {name}", work.contenders, targets=fastest, agree=same_picture)
    yield Row(
        "file size",
        f"sobel-h {size} PNG",
        lambda: _file_sizes(Filtering(setting, "large", ".png", _SOBEL)),
        targets=(Target(("libpng level 1",), within=1.0),),
        unit="MB",
    )


def _file_sizes(work: Filtering) -> dict[str, Callable[[], Contender]]:
    """Return the size of our file, and of the same pixels written by libpng (in Pillow) and by the peers."""
    from PIL import Image

    run(work.ours(), work.setting)
    again = Path(work.output("libpng"))
    Image.open(work.output(OURS)).save(again, compress_level=1)
    sizes = {OURS: Path(work.output(OURS)).stat().st_size, "libpng level 1": again.stat().st_size}
    for peer, command in (("vips", work.vips), ("GraphicsMagick", work.graphicsmagick)):
        try:
            run(command(), work.setting)
        except Unavailable:
            continue
        sizes[f"{peer} level 1"] = Path(work.output(peer)).stat().st_size
    return {name: lambda size=size: Constant(size) for name, size in sizes.items()}  # type: ignore[misc]


def large_kernel_rows(setting: Setting) -> Iterator[Row]:
    """A dense 31x31 kernel on 6 MP, JPEG to JPEG, so that the file is not what takes long."""
    weights = np.random.default_rng(31).integers(1, 10, (31, 31))
    work = Filtering(setting, "middle", ".jpg", weights, divisor=int(weights.sum()))
    targets = (Target(_NATIVE, within=0.1),)
    yield Row(
        "large-kernel",
        f"31x31 {setting.pixels('middle')} JPEG",
        work.contenders,
        targets=targets,
        agree=same_picture,
    )


_MEMORY: tuple[tuple[str, str, list[str]], ...] = (
    ("sobel-h", ".jpg", ["convolve", "-k", "sobel-h"]),
    ("sobel-h", ".png", ["convolve", "-k", "sobel-h"]),
    ("sobel", ".png", ["convolve", "-k", "sobel"]),
    ("gaussian:10", ".png", ["convolve", "-k", "gaussian:10"]),
    ("gabor:20,30 by FFT", ".png", ["convolve", "-k", "gabor:20,30", "--algorithm", "fft"]),
    ("max pool 2", ".png", ["pool"]),
    ("avg pool 3/1", ".png", ["pool", "--op", "avg", "--size", "3", "--stride", "1"]),
)


def memory_rows(setting: Setting) -> Iterator[Row]:
    """Peak memory over an idle process: decoded input, encoded output and 100 MB are allowed."""
    for name, suffix, arguments in _MEMORY:
        yield Row(
            "memory",
            f"{name} {setting.pixels('large')} {suffix[1:].upper()}",
            functools.partial(_memory_contenders, setting, suffix, arguments),
            targets=(Target(("limit",), within=1.0),),
            unit="MB",
        )


def _memory_contenders(setting: Setting, suffix: str, arguments: list[str]) -> dict[str, Callable[[], Contender]]:
    output = str(setting.folder / f"memory{suffix}")
    height, width = setting.large
    command = [sys.executable, "-m", "cnnfilter", *arguments, setting.picture("large", suffix)]
    command += ["--force", "--quiet", "--threads", str(setting.threads), "-o", output]

    def limit() -> Contender:  # ours has run by now
        return Constant(height * width * 3 + Path(output).stat().st_size + 100 * _MEGABYTE)

    return {OURS: lambda: Program(command, setting, output, memory=True), "limit": limit}
