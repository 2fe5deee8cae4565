"""Loops whose Python source is made from a template, with one line for each tap, row or vector.

An array of tap offsets that is indexed at run time keeps LLVM from using vector instructions; a variable of its own for
each tap does not. A loop over taps cannot express that, so the template's lines are repeated.

``python -m cnnfilter.jit.templates`` lists the generated loops, and with a name prints their source.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from itertools import product
from typing import Any


def unroll(text: str, **counts: int | Sequence[int]) -> str:
    """Repeat each line of `text` that names a count, once for each value: 0 to the count − 1, or those of a sequence.

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
    """Replace each line of `text` that is `mark` by the lines of `part`, with the indentation of the mark.

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
    """Return the function `name` that `text` defines as a function of `module`, with `values` as its globals.

    The function keeps the text as its attribute ``generated_source``.
    """
    namespace = {"__name__": module, **values}
    exec(text, namespace)
    function: Any = namespace[name]
    function.generated_source = text
    return function


def generated_sources() -> dict[str, str]:
    """Return the source of each loop that is made from a template, by the loop's name.

    Of a family of loops, these are the usual ones that ``cnnfilter warmup`` compiles.
    """
    from cnnfilter.jit.loop import every_loop, import_loops

    import_loops()
    loops = {loop.name: loop.generated_source for loop, _ in every_loop()}
    return {name: source for name, source in loops.items() if source is not None}


def _answers_to(name: str, asked: str) -> bool:
    """Return whether `asked` is a loop's name, or its module or function, with or without the folders before it.

    >>> [_answers_to("filters.convolution.direct.taps(0, 2)", asked) for asked in ("direct.taps", "direct", "rect")]
    [True, True, False]
    """
    path = name.partition("(")[0]
    module = path.rpartition(".")[0]
    return asked == name or any(f".{known}".endswith(f".{asked}") for known in (path, module))


def main(arguments: Sequence[str]) -> int:
    """Print the names of the generated loops, or the source of one; return the exit code: 2 for an unknown name."""
    sources = generated_sources()
    if not arguments:
        print("\n".join(sources))
        return 0
    asked = " ".join(arguments)
    found = [f"# {name}\n{source.strip()}" for name, source in sources.items() if _answers_to(name, asked)]
    if found:
        print("\n\n\n".join(found))
        return 0
    import difflib

    paths = [name.partition("(")[0].split(".") for name in sources]
    known = {word for path in paths for word in (path[-1], path[-2], ".".join(path))} | set(sources)
    near = difflib.get_close_matches(asked, sorted(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "without a name, all names are listed"
    print(f"Error: no generated loop {asked!r}; {hint}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    import signal

    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as for any command whose output `head` cuts
    sys.exit(main(sys.argv[1:]))
