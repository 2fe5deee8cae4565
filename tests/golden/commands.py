"""Commands over the sample photos, and the hashes of all that they print and write.

    python -m tests.golden.commands -o hashes.json
    python -m tests.golden.commands --compare hashes.json

The first line runs every command and writes the hashes; the second one runs them again and prints which command gives
something else. ``--package DIR`` takes `cnnfilter` from another checkout. Hashes hold on one machine only: another
processor, or another version of numpy or Pillow, may give other last bits.

Compiled loops come from the user's cache, whose keys hold their code. To compile them anew, name an empty folder in
the variable CNNFILTER_CACHE_DIR.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"

COMMANDS = (
    # convolve: kernels, sizes, borders, signs, formats
    "convolve chelsea.png -k sobel-h --signed auto -o sobel-h.png",
    "convolve rocket.jpg -k sobel --algorithm auto -o sobel.jpg",
    "convolve coffee.png -k sharpen --border reflect --padding same -o sharpen.tif",
    "convolve coffee.png -k gaussian:3 --algorithm separable --border symmetric -o gaussian.webp",
    "convolve chelsea.png -k box:5 --padding valid --stride 2 -o box.ppm",
    "convolve camera.png -k gabor:8,45 --algorithm fft --border wrap --signed offset -o gabor.png",
    "convolve brick.png -k '0 -1 0; -1 5 -1; 0 -1 0' --algorithm direct --border zero --padding 2 -o text.bmp",
    "convolve coffee-16bit.png -k unsharp:2,0.8 --border constant:30000 --padding 3,0 -o unsharp.png",
    "convolve grey-16bit.png -k laplacian --dilation 2 --padding 1,2,3,0 --stride 1,2 --signed abs -o laplacian.tif",
    "convolve chelsea-alpha.png -k gaussian:2 --alpha filter -o alpha.png",
    "convolve palette.png -k motion:9,30 --border replicate --alpha drop -o palette.gif",
    "convolve camera.png -k prewitt-h -k prewitt-v --combine magnitude --dilation 1,2 -o magnitude.png",
    "convolve camera.png -k kirsch --combine max -o max.png",
    "convolve coins.png -k emboss -k @kernel.txt --combine mean --signed clip -o mean.png",
    "convolve camera.png -k scharr-h -k laplacian --combine sum --flip --bias 12 --signed stretch -o sum.png",
    "convolve coins.png -k gaussian:1 -k log:2 -k dog:1,2 --combine stack -f npy -o stack.npy",
    "convolve grass.png -k 'efficientnet-lite0#1[5]' -o learned.npy",
    "convolve coins.gif -k emboss -o emboss.gif",
    "convolve chelsea.png rocket.jpg grey-alpha.png photo.webp -k '1 2 1; 2 4 2; 1 2 1' --normalize -v -o several/",
    "convolve coffee-cmyk.jpg rocket-rotated.jpg -k sharpen-more --json -o 'sharp-{stem}.{ext}'",
    "convolve - -k high-pass -f png < photo.ppm",
    "convolve large.npy -k gaussian:2 -o large.tif",
    # pool
    "pool chelsea.png -o pooled.png",
    "pool coffee-16bit.png --op avg --size 3 --stride 2 --padding 1 --ceil-mode --no-count-include-pad -o avg.png",
    "pool camera.png coins.png --op max --size 3 --stride 1 --padding 1",
    "pool chelsea-alpha.png --op min --size 31 --stride 1 -o min-31.webp",
    "pool rocket.jpg --op avg --global -f npy -o mean.npy",
    "pool large.tif --size 4 --dilation 2 -o pooled.npy",
    # apply
    "apply 'conv sobel-h | relu | maxpool 2' rocket.jpg -o stack.png",
    "apply 'gray | conv sobel-h sobel-v laplacian emboss gaussian:3 | maxpool 4' coffee.png -o sheet.png",
    "apply \"conv '1 2 1; 2 4 2; 1 2 1' bias=10 | avgpool 2 | leaky:0.1 | minpool 3 stride=1\" photo.tif"
    " --signed stretch -o soft.jpg",
    "apply 'gray | conv log:1.4 | abs | tanh | globalpool avg' coins.png -f npy",
    "apply 'efficientnet-lite0[:3]' chelsea.png -f npy -o layers.npy",
    # kernels
    "kernels list",
    "kernels show sobel --png drawn.png",
    "kernels show 'efficientnet-lite0#1[5]' --json",
    "kernels fit coffee.png sharpen.tif --size 3x3",
    "kernels fit chelsea.png sobel-h.png --size 3x5 --bias -o fitted.mat",
    # describe
    "describe 'conv 32x3x3 | relu | maxpool 2 | mbconv 24x3x3 expand=6 | flatten | dense 10' --input 28x28x1",
    "describe efficientnet-lite0",
    "describe fashion",
    "describe digits --json",
    # classify, features, evaluate
    "classify chelsea.png --heatmap why.png",
    "classify coffee.png rocket.jpg photo.webp --format json --top 3 --json",
    "features chelsea.png coffee.png rocket-rotated.jpg -o features.npy",
    "evaluate digits digits --errors mistakes",
    "evaluate fashion clothes.csv --json --calibrate -o calibrated.safetensors",
    # train: a network from nothing, and a head on the network that ships
    "train textures -o textures.safetensors --layers 'conv 4x3x3 | batchnorm | relu | maxpool 2 | flatten | dropout 0.2"
    " | dense 2' --input 16x16x1 --epochs 2 --batch 8 --augment flip --seed 7 --threads 2",
    "train textures -o head.safetensors --seed 7 --threads 2",
    "classify -m textures.safetensors brick.png grass.png camera.png --format csv --top 2",
    # refusals
    "convolve missing.png chelsea.png -k sharpen -o found/",
    "convolve chelsea.png -k sobbel -o unknown.png",
    "pool coins.png -o pooled.png",
    "export digits -o digits.txt",
)
"""The commands that are run, in this order and in one folder, so that a command may read what an earlier one wrote."""

# The only thing that varies is how long something took, and how long training is guessed to take, which is measured
# too. Only the time itself is cut out: the rest of an epoch's line, such as its loss, has to stay.
_TIME_AT_END = re.compile(rb"\b\d+(\.\d+)? (ms|s|min)$", re.MULTILINE)
"""On stderr: ``train`` ends the lines of its plan and of its epochs with a time, ``-v`` those of its steps."""
_TIME_IN_JSON = re.compile(rb'(?<="seconds": )[\d.e-]+')
"""On stdout or stderr, in what ``--json`` reports of an input and of the whole run."""

LONGEST = 600
"""Seconds after which a command is ended, and the run with it: something waits for ever."""

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Outcome:
    """The traces of a command: its output and its files.

    Attributes
    ----------
    exit_code : int
    stdout, stderr : str
        Hashes of the streams, without times.
    files : dict of str to str or None
        Hashes of the files that were written, by their paths; None for one that was removed.
    """

    exit_code: int
    stdout: str
    stderr: str
    files: dict[str, str | None]


# --- inputs ------------------------------------------------------------------------------------------------


def make_inputs(folder: Path) -> None:
    """Fill a folder with all that the commands read."""
    for path in SAMPLES.iterdir():
        if path.suffix in (".png", ".jpg", ".gif"):
            shutil.copyfile(path, folder / path.name)
    (folder / "kernel.txt").write_text("0 1 0\n1 -4.5 1\n0 1 0.25\n", encoding="utf-8")
    _make_kinds(folder)
    _make_large(folder)
    _make_textures(folder)
    _make_digits(folder)
    _make_clothes(folder)


def _photo(name: str, mode: str) -> Image.Image:
    with Image.open(SAMPLES / name) as photo:
        return photo.convert(mode)


def _make_kinds(folder: Path) -> None:
    """Write pictures of kinds and formats that the samples lack."""
    grey = _pixels("camera.png")[100:260, 150:350].astype(np.uint16)
    Image.fromarray(grey * 256 + grey[::-1]).save(folder / "grey-16bit.png")
    coins = _photo("coins.png", "L")
    Image.merge("LA", (coins, Image.linear_gradient("L").resize(coins.size))).save(folder / "grey-alpha.png")
    _photo("rocket.jpg", "RGB").resize((240, 160)).quantize(32).save(folder / "palette.png", transparency=3)
    coffee = _photo("coffee.png", "RGB").crop((100, 50, 341, 231))
    coffee.save(folder / "photo.ppm")
    coffee.save(folder / "photo.tif", compression="tiff_lzw")
    coffee.save(folder / "photo.webp", lossless=True)


def _pixels(name: str) -> NDArray[np.uint8]:
    return np.asarray(_photo(name, "L"))


def _make_large(folder: Path) -> None:
    """Write a picture of more than 64 MiB, from which on files are mapped rather than read."""
    photo = np.asarray(_photo("coffee.png", "RGB"))
    np.save(folder / "large.npy", np.tile(photo, (12, 8, 1)))


def _crops(pixels: NDArray[np.uint8], side: int) -> Iterator[NDArray[np.uint8]]:
    """Yield squares from left to right and from top to bottom, none of which overlap."""
    for top in range(0, pixels.shape[0] - side + 1, side):
        for left in range(0, pixels.shape[1] - side + 1, side):
            yield pixels[top : top + side, left : left + side]


def _make_textures(folder: Path) -> None:
    """Write class folders of two textures, 16 pictures each."""
    for name in ("brick", "grass"):
        (folder / "textures" / name).mkdir(parents=True)
        for number, crop in enumerate(_crops(_pixels(f"{name}.png"), 128)):
            Image.fromarray(crop[:64, :64]).save(folder / "textures" / name / f"{number:02}.png")


def _make_digits(folder: Path) -> None:
    """Write IDX files of 8x8 pictures that show no digits but are as dark and bright, with labels that mean nothing."""
    crops = np.stack([_stretched(crop) for crop in _crops(_pixels("coins.png")[:64], 8)])
    labels = np.arange(len(crops), dtype=np.uint8) % 10
    (folder / "digits").mkdir()
    for name, array in (("images", crops), ("labels", labels)):
        header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
        path = folder / "digits" / f"t10k-{name}-idx{array.ndim}-ubyte"
        path.write_bytes(header + array.tobytes())


def _stretched(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    least, most = int(pixels.min()), int(pixels.max())
    return ((pixels.astype(np.int64) - least) * 255 // max(1, most - least)).astype(np.uint8)


def _make_clothes(folder: Path) -> None:
    """Write 28x28 pictures and a CSV file that calls them clothes."""
    (folder / "clothes").mkdir()
    lines = ["path,label"]
    classes = ("T-shirt/top", "bag", "sneaker")
    for number, crop in enumerate(_crops(_pixels("grass.png")[:84], 28)):
        path = f"clothes/{number:02}.png"
        Image.fromarray(crop).save(folder / path)
        lines.append(f"{path},{classes[number % len(classes)]}")
    (folder / "clothes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


# --- running -----------------------------------------------------------------------------------------------


def run_all(package: Path) -> dict[str, Outcome]:
    """Run the commands of a checkout in a temporary folder, and return what each left behind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder)
        return {command: run(command, folder, package) for command in COMMANDS}


def run(command: str, folder: Path, package: Path) -> Outcome:
    """Run one command in a process of its own; ``< FILE`` at its end is its stdin."""
    words = shlex.split(command)
    source = folder / words.pop() if words[-2:-1] == ["<"] else Path(os.devnull)
    before = _stamps(folder)
    with source.open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-m", "cnnfilter", *(word for word in words if word != "<")],
            stdin=stdin,
            capture_output=True,
            cwd=folder,
            env=_environment(package),
            timeout=LONGEST,
        )
    return Outcome(
        done.returncode,
        _hash(_TIME_IN_JSON.sub(b"(time)", done.stdout)),
        _hash(_TIME_AT_END.sub(b"(time)", _TIME_IN_JSON.sub(b"(time)", done.stderr))),
        _written(folder, before, _stamps(folder)),
    )


def _environment(package: Path) -> dict[str, str]:
    """Return the variables of this process, but for those that change what is found or how it is laid out."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CNNFILTER_MODEL", "COLUMNS", "LINES")}
    return kept | {"PYTHONPATH": str(package)}


def _stamps(folder: Path) -> dict[str, Stamp]:
    """Return what changes when a file is written, even if its bytes stay, for every file of a folder."""
    paths = (path for path in folder.rglob("*") if not path.is_dir())
    stats = {path.relative_to(folder).as_posix(): path.lstat() for path in paths}
    return {name: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in sorted(stats.items())}


def _written(folder: Path, before: dict[str, Stamp], after: dict[str, Stamp]) -> dict[str, str | None]:
    removed = {name: None for name in before if name not in after}
    changed = (name for name, stamp in after.items() if before.get(name) != stamp)
    return {name: _hash((folder / name).read_bytes()) for name in changed} | removed


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# --- comparing ---------------------------------------------------------------------------------------------


def differences(before: Outcome, after: Outcome) -> list[str]:
    """Say in what two outcomes differ.

    >>> differences(Outcome(0, "a", "b", {"x": "c", "y": "d"}), Outcome(1, "a", "e", {"x": "f", "z": "g"}))
    ['exit code: 1, was 0', 'stderr', 'file x', 'file y: not written', 'file z: not written before']
    """
    found = []
    if before.exit_code != after.exit_code:
        found.append(f"exit code: {after.exit_code}, was {before.exit_code}")
    found += [name for name in ("stdout", "stderr") if getattr(before, name) != getattr(after, name)]
    for path in sorted(before.files.keys() | after.files.keys()):
        if path not in after.files:
            found.append(f"file {path}: not written")
        elif path not in before.files:
            found.append(f"file {path}: not written before")
        elif before.files[path] != after.files[path]:
            found.append(f"file {path}")
    return found


def compare(before: dict[str, Outcome], after: dict[str, Outcome]) -> int:
    """Print every command that differs, and in what; return how many do."""
    count = 0
    for command in dict.fromkeys((*before, *after)):
        if command not in before or command not in after:
            found = ["only among the hashes" if command in before else "not among the hashes"]
        else:
            found = differences(before[command], after[command])
        if found:
            count += 1
            print(command, *(f"  {each}" for each in found), sep="\n")
    return count


# --- the command line --------------------------------------------------------------------------------------


def write_hashes(path: Path, outcomes: dict[str, Outcome]) -> None:
    """Write outcomes as JSON."""
    text = json.dumps({command: asdict(outcome) for command, outcome in outcomes.items()}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def read_hashes(path: Path) -> dict[str, Outcome]:
    """Read what `write_hashes` wrote."""
    return {command: Outcome(**fields) for command, fields in json.loads(path.read_text(encoding="utf-8")).items()}


def main() -> int:
    """Run the commands, and write or compare their hashes; return 1 if any differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.commands", description="Hash what commands write.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the hashes into this JSON file")
    action.add_argument("--compare", type=Path, metavar="FILE", help="print what differs from the hashes in this file")
    parser.add_argument(
        "--package", type=Path, default=ROOT, metavar="DIR", help="where cnnfilter is imported from (default: here)"
    )
    options = parser.parse_args()
    package = options.package.resolve()
    if not (package / "cnnfilter" / "__main__.py").is_file():
        parser.error(f"there is no package cnnfilter in {options.package}")
    before = read_hashes(options.compare) if options.compare else None
    began = time.monotonic()
    outcomes = run_all(package)
    print(f"{len(outcomes)} commands in {time.monotonic() - began:.0f} s", file=sys.stderr)
    if before is None:
        write_hashes(options.output, outcomes)
        return 0
    different = compare(before, outcomes)
    print(f"{different} of {len(before | outcomes)} differ", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
