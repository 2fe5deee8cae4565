"""Names of classes: as text, in their order, and as a list for messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cnnfilter.training.data.table_columns import nfc


def listed(names: Sequence[str], shown_max: int = 12) -> str:
    """Return names between commas; of more than `shown_max` only the first and the last ones.

    >>> listed(["a", "b"]), listed([str(n) for n in range(100)], 4)
    ("'a', 'b'", "'0', '1', … 96 more …, '98', '99'")
    """
    shown = [repr(name) for name in names]
    if len(shown) > shown_max:
        shown = [*shown[: shown_max // 2], f"… {len(shown) - shown_max // 2 * 2} more …", *shown[-(shown_max // 2) :]]
    return ", ".join(shown) or "none"


def class_text(label: Any) -> str:
    """Return a label of an array as the name of a class, in the Unicode form NFC."""
    return nfc(label.decode(errors="replace") if isinstance(label, bytes) else str(label))


def is_text(name: str) -> bool:
    """Return whether a name can be written as UTF-8; half a surrogate pair, or a byte of a path, cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def are_numbers(classes: Sequence[str]) -> bool:
    """Return whether all names are whole numbers, written without leading zeros."""
    return all(name.isascii() and name.isdecimal() and str(int(name)) == name for name in classes)


def sorted_classes(names: Iterable[str]) -> list[str]:
    """Return the names in their order; if all are numbers, in the order of their values."""
    found = sorted(names)
    return sorted(found, key=int) if are_numbers(found) else found
