"""Find pictures that are there twice: in two splits, or in two classes of one split.

An evaluation on pictures that were also trained on gives too high an accuracy, and of two equal pictures in two classes
one has a wrong label. Files of the same bytes are found, and pictures that are nearly equal: copies that were encoded
or resized again.

Two pictures are compared by their small versions (16x16): their means and contrasts must agree, and the correlation of
what is left must be high. The thresholds are measured: on shapes, arcs and lines of bars on plain backgrounds, textures
of 32x32 with noise, digits, and photos.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnnfilter.training.data.examples import Examples

_SIDE = 16
"""Height and width of the small versions.

With 8, different lines of bars look alike (1 pair in 20); with 24, copies of half the size are missed more often.
"""

_COARSE_SIDE = 4
"""Height and width of the means by which pairs are chosen for the full comparison, which costs 16 times as much."""

_DISTANCE_MAX = 0.3
_PLAIN_DISTANCE_MAX = 0.2
"""Largest distance of nearly equal pictures: 0 for equal ones, and about 1.4 for unrelated ones.

Measured with networks of 224x224x3, 64x64x3 and 32x32x1. Different pictures are taken for equal in 0 of 32,220 pairs of
shapes on plain backgrounds (1 of 700 where the network sees no colours), 1 of 430 pairs of digits, 1 of 7,000 of
textures, 0 of 1,770 of lines of bars, and 0 of 435 of photos. Of copies as JPEG of quality 30 to 95, WebP of 30 and 80,
and GIF, all are found, but for 1 % of the textures; of copies that are resized by 0.25 to 2, all of photos, shapes and
bars, and 85 % of arcs and textures of 32x32 and 64x64, whose lines are then less than a pixel wide.
"""

_PLAIN_SHARE = 0.4
"""Share of a small version that has its median colour, from which the picture counts as one on a plain background."""

_PLAIN_LEVELS = 8.0
"""Levels of 255 within which colours count as equal for that."""

_CONTRAST_RATIO_MIN = 0.7
"""Smallest ratio of the contrasts (standard deviations). Copies have 0.75 and more, except textures of a few pixels."""

_MEAN_DIFFERENCE_MAX = 0.15
"""Largest difference of the mean colours, in units of the contrast. Copies have 0.1 at most."""

_CONTRAST_MIN = 1.0
"""Levels of contrast below which a picture is even, and tells nothing."""

_BLOCK_PICTURES = 512
"""Pictures that are compared with all others at once, which bounds memory."""

_DENSE_SHARE = 0.02
"""Share of all pairs from which the patterns of all are multiplied at once, chosen by hand.

A product of matrices is far quicker than as many single products.
"""

_PAIRS_AT_ONCE = 4096
"""Pairs whose patterns are copied and compared at once: 24 MiB."""

Values = NDArray[np.float32]


class Duplicate(NamedTuple):
    """Two pictures of two splits, or of two classes of one split; and whether their bytes are the same.

    The labels are the numbers of their classes.
    """

    one: str
    split: str
    other: str
    other_split: str
    exact: bool
    label: int = 0
    other_label: int = 0


def fingerprint(pixels: NDArray[np.uint8]) -> bytes:
    """Return the small version of a picture (H, W, C), as bytes; empty for an even picture, which tells nothing."""
    from PIL import Image

    channels = [Image.fromarray(pixels[:, :, channel].astype(np.float32)) for channel in range(pixels.shape[2])]
    small = np.stack([np.asarray(one.resize((_SIDE, _SIDE), Image.Resampling.BOX)) for one in channels], axis=2)
    even = (small - small.mean(axis=(0, 1))).std() < _CONTRAST_MIN
    return b"" if even else (small + np.float32(0.5)).astype(np.uint8).tobytes()


def find_duplicates(
    splits: Mapping[str, Examples], fingerprints: Mapping[str, Sequence[bytes | None]] | None = None
) -> list[Duplicate]:
    """Find the pictures that two splits share, and those that two classes of one split share.

    Parameters
    ----------
    fingerprints : mapping, optional
        The fingerprints of the pictures of each split; without them only files of the same bytes are found.
    """
    found: dict[tuple[str, str], Duplicate] = {}
    names = list(splits)
    digests = {split: _digests(part) for split, part in splits.items()}
    looks = {split: _Looks.of(fingerprints[split]) for split in names} if fingerprints else {}
    for position, split in enumerate(names):
        for other in names[position:]:
            ones, others = splits[split].labels, splits[other].labels
            same_split = split == other
            pairs = [(pair, True) for pair in _same(digests[split], digests[other], ones, others, same_split)]
            if looks:
                pairs += [(pair, False) for pair in _near(looks[split], looks[other], ones, others, same_split)]
            for (one, two), exact in pairs:
                titles = splits[split].name(one), splits[other].name(two)
                labels = int(ones[one]), int(others[two])
                found.setdefault(titles, Duplicate(titles[0], split, titles[1], other, exact, *labels))
    return list(found.values())


def _digests(examples: Examples) -> list[bytes | None]:
    """Return the checksum of each stored picture; None where it cannot be read."""

    def digest(index: int) -> bytes | None:
        try:
            return examples.digest(index)
        except OSError:
            return None

    return [digest(index) for index in range(len(examples))]


Labels = NDArray[np.int64]


def _same(
    ones: Sequence[bytes | None],
    others: Sequence[bytes | None],
    labels: Labels,
    other_labels: Labels,
    same_split: bool,
) -> list[tuple[int, int]]:
    """Return the positions of equal checksums: for each of `others` the first of `ones`.

    In one split, that is the first picture of each checksum, if it has another label.
    """
    places = {digest: index for index, digest in reversed(list(enumerate(ones))) if digest is not None}
    pairs = [(places[digest], index) for index, digest in enumerate(others) if digest in places]
    return [(one, two) for one, two in pairs if not same_split or labels[one] != other_labels[two]]


class _Looks(NamedTuple):
    """The small versions that tell something: their places, patterns of mean 0 and length 1, means and contrasts."""

    places: Labels
    patterns: Values
    coarse: Values
    means: Values
    contrasts: Values
    distances: Values

    @classmethod
    def of(cls, fingerprints: Sequence[bytes | None]) -> _Looks:
        """Return the small versions of the pictures that have one."""
        places = [index for index, small in enumerate(fingerprints) if small]
        whole = np.frombuffer(b"".join(fingerprints[index] or b"" for index in places), np.uint8)
        channels = len(whole) // (len(places) * _SIDE * _SIDE) if places else 1
        small = whole.reshape(len(places), _SIDE * _SIDE, channels).astype(np.float32)
        means = small.mean(axis=1)
        away = small - means[:, None]
        contrasts = away.std(axis=(1, 2))
        patterns = away / (contrasts * np.float32(np.sqrt(_SIDE * _SIDE * channels)))[:, None, None]
        cell = _SIDE // _COARSE_SIDE
        cells = patterns.reshape(len(places), _COARSE_SIDE, cell, _COARSE_SIDE, cell, channels)
        background = np.median(small, axis=1, keepdims=True)
        plain = (np.abs(small - background) < _PLAIN_LEVELS).all(axis=2).mean(axis=1) >= _PLAIN_SHARE
        return cls(
            np.array(places, np.int64),
            patterns.reshape(len(places), _SIDE * _SIDE * channels),
            # A sum over a cell, divided by the root of its size, is no longer than the cell.
            (cells.sum(axis=(2, 4)) / np.float32(cell)).reshape(len(places), _COARSE_SIDE * _COARSE_SIDE * channels),
            means,
            contrasts,
            np.where(plain, _PLAIN_DISTANCE_MAX, _DISTANCE_MAX).astype(np.float32),
        )

    def part(self, start: int, end: int) -> _Looks:
        """Return some of the small versions."""
        return _Looks._make(values[start:end] for values in self)


def _near(
    ones: _Looks, others: _Looks, labels: Labels, other_labels: Labels, same_split: bool
) -> Iterator[tuple[int, int]]:
    """Yield the positions of nearly equal pictures: for each of `others` the first of `ones`.

    In one split, that is the first picture before it that has another label.
    """
    for start in range(0, len(others.places), _BLOCK_PICTURES):
        block = others.part(start, start + _BLOCK_PICTURES)
        earlier = ones.part(0, start + _BLOCK_PICTURES) if same_split else ones
        two, one = _may_be_near(earlier, block)
        if same_split:
            wanted = (earlier.places[one] < block.places[two]) & (
                labels[earlier.places[one]] != other_labels[block.places[two]]
            )
            two, one = two[wanted], one[wanted]
        limits = np.minimum(earlier.distances[one], block.distances[two])
        near = _squared_distances(earlier, block, one, two) <= limits**2
        rows, firsts = np.unique(two[near], return_index=True)
        yield from zip(earlier.places[one[near][firsts]].tolist(), block.places[rows].tolist(), strict=True)


def _squared_distances(ones: _Looks, block: _Looks, one: Labels, two: Labels) -> Values:
    """Return the squared distances of the patterns of pairs, by places in `ones` and `block`."""
    if one.size > _DENSE_SHARE * len(ones.places) * len(block.places):
        products: Values = (block.patterns @ ones.patterns.T)[two, one]
    else:
        products = np.empty(one.size, np.float32)
        for start in range(0, one.size, _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            products[part] = np.einsum("ij,ij->i", ones.patterns[one[part]], block.patterns[two[part]])
    return 2 - 2 * products


def _may_be_near(ones: _Looks, block: _Looks) -> tuple[Labels, Labels]:
    """Return the pairs (places in `block` and in `ones`) that have like coarse patterns, contrasts and means."""
    # |a - b|² of the coarse patterns is at most that of the patterns.
    lengths = (block.coarse**2).sum(axis=1)[:, None] + (ones.coarse**2).sum(axis=1)[None]
    lengths -= 2 * (block.coarse @ ones.coarse.T)
    two, one = np.nonzero(lengths <= np.float32(_DISTANCE_MAX**2))
    larger = np.maximum(block.contrasts[two], ones.contrasts[one])
    close = np.minimum(block.contrasts[two], ones.contrasts[one]) >= _CONTRAST_RATIO_MIN * larger
    apart = ((block.means[two] - ones.means[one]) ** 2).mean(axis=1)
    close &= apart <= (_MEAN_DIFFERENCE_MAX * larger) ** 2
    return two[close], one[close]
