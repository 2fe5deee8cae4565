"""``python -m tests.benchmarks.batches``: many small files beside ImageMagick, GraphicsMagick, libvips and a script.

All get the same files; the script and ImageMagick write JPEG at the same quality and chroma as cnnfilter. Each
runs on all cores: xargs starts as many processes of the others as there are cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from cnnfilter.runtime.parallel import default_threads

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SHARPEN = "0,-1,0,-1,5,-1,0,-1,0"
SOBEL = "-1,-2,-1,0,0,0,1,2,1"

SCRIPT = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import cv2, numpy as np
from PIL import Image
cv2.setNumThreads(1)
os.makedirs("out")
sharpen = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)
def jpg(name):
    pixels = np.asarray(Image.open("in/" + name))
    Image.fromarray(cv2.filter2D(pixels, -1, sharpen)).save("out/" + name, quality=95, subsampling=0)
def png(name):
    pixels = np.asarray(Image.open("in/" + name)).astype(np.float32)
    sides = [cv2.Sobel(pixels, cv2.CV_32F, x, 1 - x, borderType=cv2.BORDER_REPLICATE) for x in (0, 1)]
    Image.fromarray(np.clip(cv2.magnitude(*sides) + 0.5, 0, 255).astype(np.uint8)).save("out/" + name)
with ThreadPoolExecutor(int(sys.argv[2])) as pool:
    list(pool.map({"jpg": jpg, "png": png}[sys.argv[1]], os.listdir("in")))
"""

Lines = dict[str, list[str]]


def lines(kind: str, cores: int) -> Lines:
    """Return the command of each tool, run where in/ is, to fill out/."""
    many = ["xargs", f"-P{cores}", "-n", "25"]
    weights = SHARPEN if kind == "jpg" else SOBEL
    kernel = "3x3:" + weights
    rows = "; ".join(" ".join(weights.split(",")[i : i + 3]) for i in (0, 3, 6))
    Path("mask.mat").write_text("3 3\n" + rows.replace("; ", "\n") + "\n")
    saved = ["-quality", "95", "-sampling-factor", "1x1"] if kind == "jpg" else []
    spec = "sharpen" if kind == "jpg" else "sobel"
    ours = [sys.executable, "-m", "cnnfilter", "convolve", "-k", spec, "-r", "in", "-o", "out/", "-f", kind, "-q"]
    target = "../out/{}" + ("[Q=95]" if kind == "jpg" else "")
    return {
        "cnnfilter": ours,
        "script": [sys.executable, "-c", SCRIPT, kind, str(cores)],
        "mogrify": [*many, "mogrify", "-path", "../out", *saved, "-morphology", "Correlate", kernel],
        "gm mogrify": [*many, "gm", "mogrify", "-output-directory", "../out", *saved, "-convolve", weights],
        "vips": ["xargs", f"-P{cores}", "-I{}", "vips", "conv", "{}", target, "../mask.mat"],
    }


def make_files(kind: str, count: int, size: tuple[int, int]) -> None:
    """Fill in/ with crops of the sample photos."""
    os.makedirs("in")
    photos = [Image.open(SAMPLES / name).convert("RGB") for name in ("chelsea.png", "coffee.png", "rocket.jpg")]
    rng = np.random.default_rng(1)
    for index in range(count):
        photo = photos[index % len(photos)]
        left, top = (int(rng.integers(0, side // 5)) for side in photo.size)
        box = (left, top, left + photo.width * 4 // 5, top + photo.height * 4 // 5)
        options = {"quality": 90} if kind == "jpg" else {}
        photo.crop(box).resize(size, Image.Resampling.BICUBIC).save(f"in/{index:05}.{kind}", **options)


def run(line: list[str]) -> float:
    """Return the seconds that a command took."""
    shutil.rmtree("out", ignore_errors=True)
    listed = line[0] == "xargs"
    if listed:
        os.makedirs("out")
    names = "".join(f"{name}\n" for name in sorted(os.listdir("in"))).encode()
    os.sync()  # what another has left for the disk
    began = time.perf_counter()
    with subprocess.Popen(line, cwd="in" if listed else ".", stdin=subprocess.PIPE) as process:
        process.communicate(names if listed else b"")
    seconds = time.perf_counter() - began
    assert process.returncode == 0, line
    assert len(os.listdir("out")) == len(os.listdir("in")), line
    return seconds


def available(name: str, line: list[str]) -> bool:
    """Return whether a tool is installed."""
    program = line[line.index("xargs") + 1 :] if line[0] == "xargs" else line
    words = [word for word in program if not word.startswith("-") and not word.isdigit()]
    if name == "script":
        return subprocess.run([sys.executable, "-c", "import cv2"], capture_output=True).returncode == 0
    return shutil.which(words[0]) is not None


def compare(kind: str, count: int, size: tuple[int, int], rounds: int, say: Callable[[str], None]) -> None:
    """Run every tool in turns, and print how many files each does in a second."""
    cores = default_threads()
    make_files(kind, count, size)
    here = {name: line for name, line in lines(kind, cores).items() if available(name, line)}
    times: dict[str, list[float]] = {name: [] for name in here}
    for _ in range(rounds):
        for name, line in here.items():
            times[name].append(run(line))
    say(f"{count} {kind} files of {size[0]}x{size[1]}, {cores} cores, {rounds} turns")
    ours = times["cnnfilter"]
    for name, seconds in times.items():
        ratio = statistics.median(theirs / own for theirs, own in zip(seconds, ours, strict=True))
        say(f"  {name:<11} {count / statistics.median(seconds):7.1f} files/s   {ratio:5.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, metavar="N", help="of each kind (default: 2000 jpg, 500 png)")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = str(SAMPLES.parent)
    for kind, count, size in (("jpg", 2000, (640, 480)), ("png", 500, (1152, 864))):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            compare(kind, asked.files or count, size, asked.rounds, print)
            os.chdir(SAMPLES.parent)


if __name__ == "__main__":
    main()
