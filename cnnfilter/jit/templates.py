"""Write a loop's text once, with a line for each tap where the compiler should see them all.

A tap that is an index into an array of run-time offsets keeps LLVM from vectorising; a slice of its own
for each tap does not. No loop over taps can express that, so the lines are repeated in the text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import product
from typing import Any


def unroll(text: str, **counts: int | Sequence[int]) -> str:
    """Repeat each line of `text` that names a count, once for each of its values: those below it, or those it holds.

    >>> print(unroll("total = 0\\ntotal += w{t} * s{t}", t=2))
    total = 0
    total += w0 * s0
    total += w1 * s1
    """
    ranges = {name: range(count) if isinstance(count, int) else count for name, count in counts.items()}
    lines = []
    for line in textwrap.dedent(text).strip("\n").splitlines():
        named = [name for name in counts if f"{{{name}}}" in line]
        for values in product(*(ranges[name] for name in named)):
            repeated = line
            for name, value in zip(named, values, strict=True):
                repeated = repeated.replace(f"{{{name}}}", str(value))
            lines.append(repeated)
    return "\n".join(lines)


def put(text: str, mark: str, part: str) -> str:
    """Put the lines of `part` in the place of the lines that are `mark`, as far to the right.

    >>> print(put("if a:\\n    B", "B", "c()\\nd()"))
    if a:
        c()
        d()
    """
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        lines += [indent + each for each in part.splitlines()] if line.strip() == mark else [line]
    return "\n".join(lines)


def define(text: str, name: str, module: str, **values: Any) -> Any:
    """Return the function `name` that `text` defines, as one of `module` that sees `values`."""
    namespace = {"__name__": module, **values}
    exec(text, namespace)
    return namespace[name]
