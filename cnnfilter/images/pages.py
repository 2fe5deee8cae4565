"""The choice of a file's pages, such as ``1,3-5``; pages are counted from 1.

This module does not import numpy, so that the command line can refuse a wrong choice without that delay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import BinaryIO

from cnnfilter.errors import ImageError

FIRST = "first"
"""The choice of the first page alone, whatever the others are."""

_RANGE = r"\s*([1-9][0-9]{0,8})\s*(?:(-)\s*([1-9][0-9]{0,8})?\s*)?"

Pages = str | Sequence[int] | None
"""A choice of pages: as text, as numbers, `FIRST`, or None for all."""


def parse_pages(text: str) -> list[tuple[int, int | None]]:
    """Return the first and the last page of each range in a text; the last is None for the last page of the file.

    Raises
    ------
    ImageError
        The text is no list of pages.

    Examples
    --------
    >>> parse_pages("1,3-5,7-")
    [(1, 1), (3, 5), (7, None)]
    """
    ranges: list[tuple[int, int | None]] = []
    for part in text.split(","):
        match = re.fullmatch(_RANGE, part)
        if match is None or (match[3] and int(match[3]) < int(match[1])):
            raise ImageError(f"{text!r} is not a list of pages, counted from 1, such as 2 or 1,3-5 or 4-")
        ranges.append((int(match[1]), (int(match[3]) if match[3] else None) if match[2] else int(match[1])))
    return ranges


def choose_pages(pages: Pages, count: int, fault: str = "") -> list[int]:
    """Return the numbers of the chosen pages of a file.

    Parameters
    ----------
    pages : the choice
    count : the pages that were found in the file
    fault : what is wrong with the next page, or empty

    Raises
    ------
    ImageError
        A chosen page is not there, is damaged, or is chosen twice; or there is no page at all.

    Examples
    --------
    >>> choose_pages("1,3-", 4)
    [1, 3, 4]
    """
    if not count:
        raise ImageError(f"page 1: {fault}" if fault else "it has no page")
    if pages == FIRST:
        return [1]
    chosen: list[int] = []
    for first, last in _ranges(pages):
        if fault and (last is None or count < last) and first <= count + 1:
            raise ImageError(f"page {count + 1}: {fault}")
        if max(first, last or 1) > count or first < 1:
            there = f"it has {count} pages" if count > 1 else "it has 1 page"
            raise ImageError(f"there is no page {first if not 1 <= first <= count else last}; {there}")
        chosen += range(first, (last or count) + 1)
    if len(set(chosen)) < len(chosen):
        twice = next(number for number in chosen if chosen.count(number) > 1)
        raise ImageError(f"page {twice} is chosen twice")
    return chosen


def _ranges(pages: Pages) -> list[tuple[int, int | None]]:
    if pages is None:
        return [(1, None)]
    return parse_pages(pages) if isinstance(pages, str) else [(number, number) for number in pages]


def count_pages(file: BinaryIO) -> tuple[int, str]:
    """Return the number of pages of a TIFF file, and what is wrong with the next one, or "".

    Raises
    ------
    ImageError
        It has more pages than can be read.
    """
    from cnnfilter.images.formats.tiff_tags import follow_directories, without_copies

    directories, fault = follow_directories(file)
    pages = len(without_copies(file, directories))
    file.seek(0)
    return pages, fault
