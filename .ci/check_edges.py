"""Check that a picture shows the horizontal edges of another: the Sobel kernel by plain numpy, border replicated."""

import sys

import numpy as np
from PIL import Image

source, edges = (np.asarray(Image.open(path)).astype(int) for path in sys.argv[1:3])
padded = np.pad(source, ((1, 1), (1, 1), (0, 0)), mode="edge")
across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
expected = np.minimum(np.abs(across[2:] - across[:-2]), 255)
assert edges.shape == source.shape, f"{edges.shape} is not the size of the source, {source.shape}"
assert np.array_equal(edges, expected), f"{(edges != expected).mean():.1%} of the samples differ"
print("edges.png is right")
