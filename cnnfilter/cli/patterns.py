"""Which paths are meant by ``--include`` and ``--exclude``."""

from __future__ import annotations

import os
from collections.abc import Iterable


class Patterns:
    """Which paths are meant: like one of `include`, if there are any, and like none of `exclude`.

    ``*``, ``?`` and ``[…]`` as in a shell, but in upper and lower case alike, and ``*`` for slashes too.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self.include = [pattern.lower() for pattern in include]
        self.exclude = [pattern.lower() for pattern in exclude]

    @property
    def any(self) -> bool:
        """Whether there is a pattern at all."""
        return bool(self.include or self.exclude)

    def file(self, path: str) -> bool:
        """Whether a file is to be read.

        >>> Patterns(["*.jpg"], ["*/raw/*"]).file("a/B.JPG"), Patterns(["*.jpg"], ["*/raw/*"]).file("a/raw/b.jpg")
        (True, False)
        """
        return (not self.include or _is_like(path, self.include)) and not _is_like(path, self.exclude)

    def folder(self, path: str) -> bool:
        """Whether a folder is to be looked into."""
        return not _is_like(path, self.exclude)


def _is_like(path: str, patterns: list[str]) -> bool:
    from fnmatch import fnmatchcase

    path = path.lower()
    name = os.path.basename(path)
    return any(fnmatchcase(path if "/" in pattern else name, pattern) for pattern in patterns)
