"""Find pictures that are in two splits: files of the same bytes, or pictures that are nearly equal.

An evaluation on pictures that were also trained on gives too high an accuracy.

The fingerprint of a picture is a difference hash (N. Krawetz, "Kind of Like That", 2013), across and down: 128 bits,
each of which tells whether one of 8x8 areas is brighter than its neighbour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.training.data.examples import Examples

NEAR_BITS_MAX = 8
"""Bits of 128 in which the fingerprints of nearly equal pictures differ at most, chosen by hand.

Fingerprints of unrelated pictures differ in 64 bits on average.
"""

_BAND_COUNT = 8
"""Bands of 16 bits into which a fingerprint is cut.

Two fingerprints that differ in 7 bits or fewer agree in at least one band, and with 8 bits almost always do.
"""


class Duplicate(NamedTuple):
    """Two pictures of different splits, and whether their bytes are the same."""

    one: str
    split: str
    other: str
    other_split: str
    exact: bool


def fingerprint(pixels: NDArray[np.uint8]) -> bytes:
    """Return the fingerprint (16 bytes) of a picture (H, W, C); those of nearly equal pictures differ in few bits."""
    from PIL import Image

    grey = pixels.mean(axis=2).astype(np.float32)
    picture = Image.fromarray(grey)
    across = np.asarray(picture.resize((9, 8), Image.Resampling.BOX))
    down = np.asarray(picture.resize((8, 9), Image.Resampling.BOX))
    bits = [across[:, 1:] > across[:, :-1], down[1:] > down[:-1]]
    return np.packbits(np.concatenate([part.ravel() for part in bits])).tobytes()


def find_duplicates(
    splits: Mapping[str, Examples], fingerprints: Mapping[str, Sequence[bytes | None]] | None = None
) -> list[Duplicate]:
    """Find the pictures that two splits share.

    Parameters
    ----------
    fingerprints : mapping, optional
        The fingerprints of the pictures of each split; without them only files of the same bytes are found.
    """
    found: dict[tuple[str, str], Duplicate] = {}
    names = list(splits)
    digests = {split: _digests(part) for split, part in splits.items()}
    for position, split in enumerate(names):
        for other in names[position + 1 :]:
            pairs = [(pair, True) for pair in _same(digests[split], digests[other])]
            if fingerprints:
                pairs += [(pair, False) for pair in _near(fingerprints[split], fingerprints[other])]
            for (one, two), exact in pairs:
                titles = splits[split].name(one), splits[other].name(two)
                found.setdefault(titles, Duplicate(titles[0], split, titles[1], other, exact))
    return list(found.values())


def _digests(examples: Examples) -> list[bytes | None]:
    """Return the checksum of each stored picture; None where it cannot be read."""

    def digest(index: int) -> bytes | None:
        try:
            return examples.digest(index)
        except OSError:
            return None

    return [digest(index) for index in range(len(examples))]


def _same(ones: Sequence[bytes | None], others: Sequence[bytes | None]) -> list[tuple[int, int]]:
    """Return the positions of equal checksums: for each of `others` the first of `ones`."""
    places = {digest: index for index, digest in reversed(list(enumerate(ones))) if digest is not None}
    return [(places[digest], index) for index, digest in enumerate(others) if digest in places]


def _near(ones: Sequence[bytes | None], others: Sequence[bytes | None]) -> list[tuple[int, int]]:
    """Return the positions of near fingerprints; only those that agree in at least one band are compared."""
    bands: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for index, bits in enumerate(ones):
        if bits is not None and any(bits):  # the fingerprint of a uniform picture is 0, and tells nothing
            for band in range(_BAND_COUNT):
                bands[band, bits[2 * band : 2 * band + 2]].append(index)
    pairs = []
    for index, bits in enumerate(others):
        if bits is None or not any(bits):
            continue
        whole = int.from_bytes(bits, "big")
        near = {one for band in range(_BAND_COUNT) for one in bands.get((band, bits[2 * band : 2 * band + 2]), ())}
        for one in sorted(near):
            if (int.from_bytes(ones[one] or b"", "big") ^ whole).bit_count() <= NEAR_BITS_MAX:
                pairs.append((one, index))
                break
    return pairs
