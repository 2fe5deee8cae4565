"""Results as a table for people, and as JSON for programs."""

from __future__ import annotations

import itertools
import math
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any

from tests.benchmarks.bounds import bound_of
from tests.benchmarks.measure import OURS, Result, Target
from tests.benchmarks.roofline import Roofline

MEANS = {
    "dense-u8": Target(("OpenCV",), faster=2.0),
    "dense-f32": Target(("OpenCV",), faster=1.5),
    "named": Target(("OpenCV",), faster=1.5),
}
"""The target of a section's geometric mean."""


def render(section: str, results: Sequence[Result], roofline: Roofline | None) -> list[str]:
    """Return the lines of one section: a column for each peer, with how many times as fast as it we are."""
    peers = list(dict.fromkeys(name for result in results for name in result.samples if name != OURS))
    measured = roofline is not None and any(result.row.multiplies for result in results)
    titles = [section, OURS, *peers]
    titles += ["Gmadd/s, of sgemm", "GB/s, of copy"] if measured else []
    lines = [[*titles, "wanted", "reached", "met"]]
    for result in results:
        lines += _lines(result, peers, roofline if measured else None, len(titles))
    lines += [[*mean[:1], *[""] * (len(titles) - 1), *mean[1:]] for mean in means(section, results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    notes = [f"  {result.row.name}: {result.row.note}" for result in results if result.row.note]
    notes += [
        f"  {result.row.name}: {name} gives another result (≠)"
        for result in results
        for name in sorted(result.differing)
    ]
    left_out = {f"  {name}: {why}" for result in results for name, why in result.left_out.items()}
    return ["", text[0], "─" * max(map(len, text)), *text[1:], *notes, *sorted(left_out)]


def _lines(result: Result, peers: Sequence[str], roofline: Roofline | None, width: int) -> list[list[str]]:
    unit, row = result.row.unit, result.row
    cells = [row.name, quantity(result.median(OURS), unit) if result.samples.get(OURS) else "FAILED"]
    for peer in peers:
        if not result.samples.get(peer):
            cells.append("")
            continue
        sign = "≠" if peer in result.differing else ""
        ratio = f" {result.ratio(peer):.2f}x" if result.samples.get(OURS) else ""
        cells.append(f"{quantity(result.median(peer), unit)}{sign}{ratio}")
    if roofline is not None:
        cells += ["", ""]
        if row.multiplies and result.samples.get(OURS):
            seconds = result.median(OURS)
            for place, (amount, most) in enumerate(
                ((row.multiplies, roofline.multiplies), (row.moved, roofline.bytes)), start=-2
            ):
                cells[place] = f"{amount / seconds / 1e9:.1f}  {amount / seconds / most:.0%}"
    verdicts = result.verdicts() or [("", None, None)]
    lines: list[list[str]] = []
    for wanted, reached, met in verdicts:
        lines.append([*(cells if not lines else [""] * width), wanted, *_reached(wanted, reached, met)])
    return lines


def _reached(wanted: str, reached: float | None, met: bool | None) -> list[str]:
    if reached is None or met is None:
        return ["", "no such peer" if wanted else ""]
    return [f"{reached:.2f}", "yes" if met else "NO"]


def means(section: str, results: Sequence[Result]) -> list[list[str]]:
    """Return a section's geometric mean, where there is a target for it: name, wanted, reached, met."""
    target = MEANS.get(section)
    values = [value for result in results if target and (value := target.reached(result)) is not None]
    if target is None or not values:
        return []
    mean = math.exp(sum(map(math.log, values)) / len(values))
    return [["geometric mean", target.wanted(target.peers[0]), *_reached("", mean, target.is_met(mean))]]


def quantity(value: float, unit: str) -> str:
    """Write seconds or bytes in three digits.

    >>> quantity(0.00123, "s"), quantity(2.5, "s"), quantity(18_200_000, "MB")
    ('1.23 ms', '2.50 s', '18.2 MB')
    """
    if unit == "MB":
        return f"{_three_digits(value / 1e6)} MB"
    return f"{_three_digits(value)} s" if value >= 1 else f"{_three_digits(value * 1e3)} ms"


def _three_digits(value: float) -> str:
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def machine() -> list[str]:
    """Return lines that say where the numbers come from."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            processor = next(
                (line.partition(":")[2].strip() for line in file if line.startswith("model name")), processor
            )
    except OSError:
        pass
    load = ""
    if hasattr(os, "getloadavg") and (busy := os.getloadavg()[0]) > 0.5:
        load = f"; load {busy:.1f} before the start, so read ratios and not digits"
    return [f"{processor}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}{load}"]


def libraries(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of the installed ones among some distributions."""
    from importlib import metadata

    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return every number that was measured, with what was wanted and reached."""
    return [
        {
            "section": result.row.section,
            "row": result.row.name,
            "unit": {"s": "seconds", "MB": "bytes"}[result.row.unit],
            "samples": result.samples,
            "ratios": {
                peer: result.ratio(peer) for peer in result.samples if peer != OURS and result.samples.get(OURS)
            },
            "multiply_adds": result.row.multiplies,
            "bytes": result.row.moved,
            "targets": [
                {"wanted": wanted, "reached": reached, "met": met} for wanted, reached, met in result.verdicts()
            ],
            "differing": sorted(result.differing),
            "left_out": result.left_out,
        }
        for result in results
    ]


def summary(results: Sequence[Result]) -> list[str]:
    """Return how many targets are met, and the names of the rows that miss one."""
    judged = [
        (f"{result.row.full_name}: {wanted}, reached {reached:.2f}", met)
        for result in results
        for wanted, reached, met in result.verdicts()
        if reached is not None
    ]
    for section, several in itertools.groupby(results, key=lambda result: result.row.section):
        judged += [
            (f"{section}/{name}: {wanted}, reached {reached}", met == "yes")
            for name, wanted, reached, met in means(section, list(several))
        ]
    failed = [
        f"{result.row.full_name}: {result.left_out.get(OURS)}" for result in results if not result.samples.get(OURS)
    ]
    lines = ["", f"{sum(bool(met) for _, met in judged)} of {len(judged)} targets met."]
    for text, met in judged:
        if not met:
            bound = bound_of(text)
            lines.append(f"  missed: {text}" + (f"; bound by: {bound}" if bound else ""))
    return lines + [f"  failed: {text}" for text in failed]


def write_error(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
