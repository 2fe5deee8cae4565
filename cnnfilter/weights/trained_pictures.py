"""The pictures that a network was trained on, as a model file remembers them: their number, and digests of them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cnnfilter.errors import ModelError


@dataclass(frozen=True)
class TrainedPictures:
    """Digests by which an evaluation knows the pictures that a network was trained on.

    A digest is the first 6 bytes of the SHA-256 of a picture as the network gets it: cropped, resized, as bytes. Of
    more than `DIGESTS_MAX` digests the smallest are kept, which are a random sample, so that 32 kB of a file hold them.

    Attributes
    ----------
    count : the number of training pictures.
    digests : in increasing order, without repetitions.
    """

    DIGESTS_MAX: ClassVar = 4096
    _BYTES: ClassVar = 6

    count: int
    digests: tuple[bytes, ...]

    @classmethod
    def of(cls, digests: Sequence[bytes]) -> TrainedPictures:
        """Return what is kept of the digests of all training pictures."""
        return cls(len(digests), tuple(sorted(set(digests))[: cls.DIGESTS_MAX]))

    @classmethod
    def digest(cls, pixels: NDArray[np.uint8]) -> bytes:
        """Return the digest of a picture (H, W, C) as the network gets it."""
        return hashlib.sha256(np.ascontiguousarray(pixels).data).digest()[: cls._BYTES]

    def find(self, digests: Sequence[bytes]) -> tuple[int, int]:
        """Return how many pictures were trained on, and of how many that is known: of all, unless it is a sample."""
        kept = frozenset(self.digests)
        is_sample = len(self.digests) == self.DIGESTS_MAX
        known = [one for one in digests if not is_sample or one <= self.digests[-1]]
        return len([one for one in known if one in kept]), len(known)

    def as_record(self) -> dict[str, Any]:
        """Return the fields for a JSON object."""
        return {"count": self.count, "digests": base64.b64encode(b"".join(self.digests)).decode()}

    @classmethod
    def from_text(cls, text: str) -> TrainedPictures:
        """Return what JSON holds; ModelError if it is not what `as_record` gives."""
        try:
            fields = json.loads(text)
            count = fields["count"]
            data = base64.b64decode(fields["digests"], validate=True)
            digests = tuple(data[start : start + cls._BYTES] for start in range(0, len(data), cls._BYTES))
        except (KeyError, TypeError, ValueError, RecursionError):
            count, digests = 0, ()
        sizes = {len(one) for one in digests}
        if type(count) is not int or not 1 <= len(digests) <= min(count, cls.DIGESTS_MAX) or sizes != {cls._BYTES}:
            raise ModelError("its trained pictures are not a number and digests")
        return cls(count, digests)
