"""``python -m tests.benchmarks.train``: a training step beside PyTorch's, and a head on a thousand photos."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cnnfilter import load_folder
from cnnfilter.layers.stack import parse_layers
from cnnfilter.runtime.blas import one_thread
from cnnfilter.training.data.examples import read_each
from cnnfilter.training.gradients.stack import Stack, Targets
from cnnfilter.training.optimisers import AdamW
from tests.benchmarks.classify import turns

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SHAPE, CLASSES = (28, 28, 1), 10

NETWORKS = {
    "two convolutions": (
        "conv 32x3x3 | relu | maxpool 2 | conv 64x3x3 | relu | maxpool 2 | flatten | dense 10",
        [("conv", 1, 32), "relu", "pool", ("conv", 32, 64), "relu", "pool", ("dense", 3136)],
    ),
    "batch norm": (
        "conv 32x3x3 | batchnorm | relu | maxpool 2 | conv 64x3x3 | batchnorm | relu | maxpool 2 | flatten | dense 10",
        [
            *(("conv", 1, 32), ("norm", 32), "relu", "pool"),
            *(("conv", 32, 64), ("norm", 64), "relu", "pool", ("dense", 3136)),
        ],
    ),
}

Step = Callable[[], float]


def our_step(text: str, pictures: np.ndarray, labels: np.ndarray, threads: int) -> tuple[Step, Stack]:
    """Return a step of ours, which gives its mean loss, and the stack."""
    stack = Stack(parse_layers(text), SHAPE, np.random.default_rng(0), threads)
    optimiser = AdamW(stack.values, stack.weight_decay_mask, 0.0)
    targets = Targets(labels, np.ones(len(labels), np.float32))

    def fill(first: int, end: int, out: np.ndarray) -> None:
        out[...] = pictures[first:end]

    def step() -> float:
        with one_thread():
            batch_loss = stack.learn(len(labels), fill, targets, (0,))
            optimiser.step(stack.gradients, 1e-3)
        return batch_loss.loss / len(labels)

    return step, stack


def torch_step(layers: list[Any], stack: Stack, pictures: np.ndarray, labels: np.ndarray, threads: int) -> Step:
    """Return the same step of PyTorch, from the same numbers."""
    import torch

    torch.set_num_threads(threads)
    kinds = {
        "conv": lambda inputs, outputs: torch.nn.Conv2d(inputs, outputs, 3, padding=1),
        "norm": torch.nn.BatchNorm2d,
        "dense": lambda inputs: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(inputs, CLASSES)),
        "relu": torch.nn.ReLU,
        "pool": lambda: torch.nn.MaxPool2d(2),
    }
    made = [kinds[layer]() if isinstance(layer, str) else kinds[layer[0]](*layer[1:]) for layer in layers]
    network = torch.nn.Sequential(*made)
    with torch.no_grad():
        kernels = [layer.values["kernel"] for layer in stack.layers if "kernel" in layer.values]
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.copy_(torch.from_numpy(kernels.pop(0).transpose(3, 2, 0, 1).copy()))
                module.bias.zero_()
            elif isinstance(module, torch.nn.Linear):  # flatten goes map by map there
                turned = kernels.pop(0).reshape(7, 7, -1, CLASSES).transpose(3, 2, 0, 1).reshape(CLASSES, -1)
                module.weight.copy_(torch.from_numpy(turned.copy()))
                module.bias.zero_()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.0)
    batch = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy())
    wanted = torch.from_numpy(labels)

    def step() -> float:
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(batch), wanted)
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def step_rows(threads: int, rounds: int, size: int) -> None:
    rng = np.random.default_rng(1)
    pictures = rng.standard_normal((size, *SHAPE)).astype(np.float32)
    labels = rng.integers(0, CLASSES, size)
    for name, (text, layers) in NETWORKS.items():
        ours, stack = our_step(text, pictures, labels, threads)
        steps: dict[str, Step] = {"cnnfilter": ours}
        try:
            steps["PyTorch"] = torch_step(layers, stack, pictures, labels, threads)
        except ImportError:
            print("PyTorch is not installed")
        losses = [[step() for _ in range(3)] for step in steps.values()]
        for other in losses[1:]:
            np.testing.assert_allclose(other, losses[0], rtol=1e-3, err_msg="the losses go different ways")
        seconds = turns(steps, rounds)
        for peer, taken in seconds.items():
            ratio = taken / seconds["cnnfilter"]
            print(f"step, batch {size}, {threads} threads, {name:17} {peer:10} {1e3 * taken:8.1f} ms {ratio:6.2f}x")


def head_row(photos: int) -> None:
    """Train a head on photos of 0.3 MP in ten folders, as a whole process."""
    from PIL import Image

    names = ("camera.png", "chelsea.png", "coffee.png", "brick.png", "grass.png", "coins.png", "rocket.jpg")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(photos):
            label = number % 10
            photo = Image.open(SAMPLES / names[label % len(names)]).convert("RGB")
            photo = photo.rotate(90 * (label // len(names)))
            left, top = rng.integers(0, photo.width // 4), rng.integers(0, photo.height // 4)
            box = (left, top, left + photo.width * 3 // 4, top + photo.height * 3 // 4)
            path = Path(folder, str(label), f"{number}.jpg")
            path.parent.mkdir(exist_ok=True)
            photo.crop(box).resize((640, 480)).save(path, quality=90)
        command = [sys.executable, "-m", "cnnfilter", "train", folder, "-o", f"{folder}/m.safetensors", "-q"]
        began = time.perf_counter()
        subprocess.run(command, cwd=SAMPLES.parent, check=True, stdout=subprocess.DEVNULL)
        print(f"a head on {photos} photos of 0.3 MP, 10 classes, whole process {time.perf_counter() - began:8.2f} s")
        began = time.perf_counter()
        read_each(load_folder(folder, validation=0).train, lambda number, photo: None)
        print(f"decoding those alone, as many threads {time.perf_counter() - began:28.2f} s")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--only", choices=["step", "head"])
    asked = parser.parse_args(arguments)
    if asked.only != "head":
        step_rows(asked.threads, asked.rounds, asked.batch)
    if asked.only != "step":
        head_row(asked.photos)


if __name__ == "__main__":
    main()
