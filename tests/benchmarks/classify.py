"""``python -m tests.benchmarks.classify``: EfficientNet-Lite0 beside PyTorch and onnxruntime, and whole processes."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cnnfilter.networks.network import load_model
from tests.benchmarks.networks import onnx_forward, torch_forward

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def turns(forwards: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the fastest of some rounds for each, in seconds; they take turns, so that all see the same machine."""
    best = dict.fromkeys(forwards, float("inf"))
    for _ in range(rounds):
        for name, forward in forwards.items():
            for _ in range(2):
                began = time.perf_counter()
                forward()
                best[name] = min(best[name], time.perf_counter() - began)
    return best


def forward_rows(threads: int, rounds: int) -> None:
    network = load_model()
    rng = np.random.default_rng(1)
    peers = {"PyTorch eager": torch_forward, "onnxruntime": onnx_forward}
    made = {}
    for name, make in peers.items():
        try:
            made[name] = make(network, threads)
        except ImportError:
            print(f"{name} is not installed")
    for size in (1, 8):
        batch = rng.standard_normal((size, *network.input_shape)).astype(np.float32)
        ours = network.forward(batch, threads=threads)
        for name, forward in made.items():
            np.testing.assert_allclose(forward(batch), ours, atol=1e-2 * np.abs(ours).max(), err_msg=name)
        calls = {"cnnfilter": lambda batch=batch: network.forward(batch, threads=threads)}
        calls |= {name: lambda f=f, batch=batch: f(batch) for name, f in made.items()}
        seconds = turns(calls, rounds)
        for name, taken in seconds.items():
            ratio = taken / seconds["cnnfilter"]
            print(
                f"forward, batch {size}, {threads} threads  {name:15} {1e3 * taken / size:8.2f} ms a picture"
                f" {ratio:6.2f}x"
            )


_DATA_LOADER = """
import sys
import numpy as np, torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
sys.path.insert(0, {root!r})
from cnnfilter.networks.network import load_model
from tests.benchmarks.networks import torch_forward
network = load_model()
forward = torch_forward(network, torch.get_num_threads())
class Photos(Dataset):
    def __init__(self, paths): self.paths = paths
    def __len__(self): return len(self.paths)
    def __getitem__(self, index):
        image = Image.open(self.paths[index]).convert("RGB")
        width, height = image.size
        side = int(min(width, height) * 0.875)
        left, top = (width - side + 1) // 2, (height - side + 1) // 2
        image = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
        return (np.asarray(image, np.float32) - 127) / 128
if __name__ == "__main__":
    for batch in DataLoader(Photos(sys.argv[1:]), batch_size=16, num_workers=2, multiprocessing_context="fork"):
        for row in forward(batch.numpy()): print(network.classes[row.argmax()])
"""


def process_rows(rounds: int, photos: int) -> None:
    root = str(SAMPLES.parent)
    python = sys.executable
    one = [python, "-m", "cnnfilter", "classify", str(SAMPLES / "chelsea.png")]
    rows = {"cnnfilter classify, one photo": one, "import torch": [python, "-c", "import torch"]}
    _print(turns({name: _runner(command, root) for name, command in rows.items()}, rounds))
    print(f"peak memory of one photo: {_peak(one, root):.0f} MB")
    with tempfile.TemporaryDirectory() as folder:
        paths = _photos(Path(folder), photos)
        script = Path(folder) / "script.py"
        script.write_text(_DATA_LOADER.format(root=root))
        many = {
            f"cnnfilter classify, {photos} photos": [python, "-m", "cnnfilter", "classify", *paths],
            f"PyTorch eager, DataLoader, {photos} photos": [python, str(script), *paths],
        }
        _print(turns({name: _runner(command, root) for name, command in many.items()}, max(1, rounds // 3)))


def _print(seconds: dict[str, float]) -> None:
    ours = next(iter(seconds.values()))
    for name, taken in seconds.items():
        print(f"{name:45} {taken:7.3f} s {taken / ours:6.2f}x")


def _runner(command: list[str], folder: str) -> Callable[[], object]:
    return lambda: subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _peak(command: list[str], folder: str) -> float:
    """Return the most memory that a process held, in MB (Linux counts in KiB)."""
    code = f"import resource, subprocess; subprocess.run({command!r}, stdout=subprocess.DEVNULL); "
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    told = subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True)
    return int(told.stdout) * 1024 / 1e6


def _photos(folder: Path, count: int) -> list[str]:
    """Write JPEG photos of 0.2 MP."""
    from PIL import Image

    names = ("chelsea.png", "coffee.png", "rocket.jpg", "camera.png")
    paths = []
    for index in range(count):
        photo = Image.open(SAMPLES / names[index % len(names)]).convert("RGB").resize((520, 390))
        paths.append(str(folder / f"{index}.jpg"))
        photo.save(paths[-1], quality=90)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--only", choices=["forward", "process"])
    asked = parser.parse_args()
    if asked.only != "process":
        forward_rows(asked.threads, asked.rounds)
    if asked.only != "forward":
        process_rows(asked.rounds, asked.photos)


if __name__ == "__main__":
    main()
