"""``python -m tests.benchmarks``: measure, and print a table."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.benchmarks.measure import Row

_DISTRIBUTIONS = (
    *(
        "numpy",
        "numba",
        "opencv-python-headless",
        "opencv-python",
        "scipy",
        "scikit-image",
        "pillow",
        "torch",
    ),
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure cnnfilter side by side with the tools that a user would pick instead, in turns. "
        "Ratios are peer over cnnfilter: 2.00x is twice as fast as the peer. Peers that are not installed "
        "are left out.",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="rows with NAME in 'section/row'; may be repeated",
    )
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    parser.add_argument("--quick", action="store_true", help="small pictures and few rounds: does it run at all?")
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="on both sides (default: 1 in process, all cores for whole processes)",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="turns of each row at the most (default: 9)")
    parser.add_argument("--json", action="store_true", help="print every number as JSON instead of the table")
    parser.add_argument("--fit", action="store_true", help="fit the cost model of cnnfilter/engine_choice.py instead")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parse(arguments)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = str(asked.threads or 1)  # before numpy is imported
    if asked.fit:
        from tests.benchmarks import fit

        for line in fit.report(quick=asked.quick):
            print(line, flush=True)
        return 0
    with tempfile.TemporaryDirectory(prefix="cnnfilter-benchmarks-") as folder:
        return _run(asked, Path(folder))


def _run(asked: argparse.Namespace, folder: Path) -> int:
    from tests.benchmarks import table, whole_process
    from tests.benchmarks.measure import measure
    from tests.benchmarks.roofline import measure_roofline

    rows = [
        row
        for row in _rows(asked, folder)
        if not asked.only or any(name.lower() in row.full_name.lower() for name in asked.only)
    ]
    if asked.list or not rows:
        print("\n".join(row.full_name for row in rows) or f"no row is named {', '.join(asked.only)}; --list tells")
        return 0 if rows else 2
    rounds, budget = asked.rounds or (2 if asked.quick else 9), 0.2 if asked.quick else 3.0
    roofline = measure_roofline(asked.threads or 1, rounds=3 if asked.quick else 7)
    say = table.write_error if asked.json else print
    versions = {**table.libraries(_DISTRIBUTIONS), **whole_process.versions()}
    head = [*table.machine(), ", ".join(f"{name} {version}" for name, version in versions.items())]
    head.append(
        f"one turn after the other, medians; sgemm {roofline.multiplies / 1e9:.1f} G multiply-adds/s, "
        f"copy {roofline.bytes / 1e9:.1f} GB/s (read and written) on {asked.threads or 1} thread(s)"
    )
    if asked.quick:
        head.append("--quick: pictures are small, so the targets, set for full size, say little")
    say("\n".join(head))
    results = []
    try:
        for section, several in itertools.groupby(rows, key=lambda row: row.section):
            found = []
            for row in several:
                found.append(measure(row, rounds=rounds, budget=budget))
                if sys.stderr.isatty():
                    print(f"\r{row.full_name[:70]:<70}", end="\r", file=sys.stderr, flush=True)
            results += found
            say("\n".join(table.render(section, found, roofline)))
    finally:
        whole_process.stop()
    say("\n".join(table.summary(results)))
    if asked.json:
        print(json.dumps({"machine": head, "versions": versions, "rows": table.as_json(results)}, indent=1))
    return 0


def _rows(asked: argparse.Namespace, folder: Path) -> Iterator[Row]:
    from cnnfilter.runtime.parallel import default_threads
    from tests.benchmarks import in_process, whole_process

    inner = in_process.Setting(threads=asked.threads or 1)
    outer = whole_process.Setting(folder, threads=asked.threads or default_threads())
    if asked.quick:
        inner = in_process.Setting(side=256, large=(300, 400), threads=inner.threads)
        outer = whole_process.Setting(folder, outer.threads, small=(64, 64), large=(300, 400), middle=(200, 300))
    for section in (
        in_process.dense_rows,
        in_process.named_rows,
        in_process.pooling_rows,
    ):
        yield from section(inner)
    if default_threads() >= 2:
        yield from in_process.thread_rows(inner)
    for whole in (
        whole_process.start_rows,
        whole_process.file_rows,
        whole_process.large_kernel_rows,
        whole_process.memory_rows,
    ):
        yield from whole(outer)


if __name__ == "__main__":
    sys.exit(main())
