"""Text of kernels without the marks of other languages: comments, continued lines, assignments; decimal commas refused.

The numbers themselves are read in `cnnfilter.kernels.numbers`.
"""

from __future__ import annotations

import re

from cnnfilter.errors import KernelError

# A comment of C (/* … */, //), of a shell (#) or of Octave (%). Those of % and // stand at the start or after a space.
_COMMENT = r"(?m)/\*[\s\S]*?\*/|#.*|(?:^|(?<=\s))(?:%|//).*"
# The end of a line that goes on in the next one: … of MATLAB, after which the rest is a comment, or \ of a shell and C.
_CONTINUATION = r"\.\.\..*(?:\n|\r\n?|$)|\\[ \t]*(?:\n|\r\n?)"
# The name before a matrix in brackets, as in "k = [1 2 1]" of Octave or "float k[3] = {1, 2, 1}" of C.
_ASSIGNMENT = r"[A-Za-z_][\w\s*\[\]]*=\s*(?=[\[{])"
_BYTE_ORDER_MARK = "\ufeff"

_DECIMAL_COMMA = r"([-+\N{MINUS SIGN}]?\d+),(\d+)"
_WHOLE_NUMBER = r"[-+\N{MINUS SIGN}]?\d+"
_SHOWN_CHARACTERS_MAX = 60
"""Longest text that a message about decimal commas repeats in each of its two readings."""


def plain_text(text: str) -> str:
    r"""Return a text without comments and assignments, in which continued lines are joined.

    >>> plain_text("k = [1 2 ...  the first half\n 1;  % and a comment\n 0 1 0];")
    '[1 2   1;  \n 0 1 0];'
    """
    joined = re.sub(_CONTINUATION, " ", re.sub(_COMMENT, "", text.removeprefix(_BYTE_ORDER_MARK)))
    return re.sub(_ASSIGNMENT, "", joined.strip(), count=1) if re.match(_ASSIGNMENT, joined.strip()) else joined.strip()


def refuse_decimal_commas(text: str) -> None:
    """Refuse rows such as ``0,5 1,5``, which can be decimal numbers, or rows of whole numbers.

    A row whose words are separated by commas alone, or by commas and spaces together, is not refused.

    Raises
    ------
    KernelError
        The message shows both readings.
    """
    rows = [row for row in re.split(r"[;\n\[\]{}]", text) if row.strip(" \t\r,")]
    cells = [row.rstrip(" \t\r,").split() for row in rows]
    words = [word for row in cells for word in row]
    decimals = [word for word in words if re.fullmatch(_DECIMAL_COMMA, word)]
    if not decimals or max(map(len, cells)) < 2:
        return
    if not all(re.fullmatch(_DECIMAL_COMMA, word) or re.fullmatch(_WHOLE_NUMBER, word) for word in words):
        return
    if len(rows) > 1:  # a comma separates numbers of a row, as a space does
        others = [re.split(r"[\s,]+", " ".join(row)) for row in cells]
    elif "," in cells[0][0]:
        others = [word.split(",") for word in words]
    else:
        others = [row.split() for row in rows[0].split(",") if row.strip()]
        if len(others) >= 3 and {len(row) for row in others} == {len(others)}:
            return  # a square, as in 1 2 1,2 4 2,1 2 1
    readings = [[[re.sub(_DECIMAL_COMMA, r"\1.\2", word) for word in row] for row in cells], others]
    shown = ["; ".join(map(" ".join, reading)) for reading in readings if len({len(row) for row in reading}) == 1]
    if shown:
        written = " or ".join(f"'{_shown(reading)}'" for reading in shown)
        raise KernelError(f"'{decimals[0]}' can be a decimal number or two numbers: write {written}")


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else text[: _SHOWN_CHARACTERS_MAX // 2].rpartition(" ")[0] + " …"
