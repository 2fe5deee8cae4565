"""Look for inputs that break what `targets` says, led by what the code covers.

    python tests/fuzz/run.py --seconds 600            all targets, one after the other
    python tests/fuzz/run.py --seconds 60 png kernel
    python tests/fuzz/run.py --runs 10000              as many inputs for each target, the same ones in every run

It needs atheris (``pip install atheris``). What it finds is kept in tests/fuzz/findings/TARGET, and
tests/fuzz/test_fuzz.py tries it again on every run from then on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FINDINGS = HERE / "findings"


def main() -> int:
    """Run each target in a process of its own, which atheris ends; return whether something was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--seconds", type=int, default=60, help="for all targets together, with new inputs in every run"
    )
    parser.add_argument("--runs", type=int, help="inputs for each target instead of seconds, from a fixed seed")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    arguments = parser.parse_args()
    if arguments.only:
        _fuzz(arguments.only, arguments.seconds, arguments.runs)
    from tests.fuzz.targets import TARGETS

    chosen = arguments.targets or list(TARGETS)
    if unknown := set(chosen) - set(TARGETS):
        parser.error(f"no target is called {unknown.pop()!r}; there are {', '.join(TARGETS)}")
    seconds = max(1, arguments.seconds // len(chosen))
    limit = ["--seconds", str(seconds)] if arguments.runs is None else ["--runs", str(arguments.runs)]
    environment = dict(os.environ) if arguments.runs is None else {**os.environ, "PYTHONHASHSEED": "0"}
    found = [
        name
        for name in chosen
        if subprocess.run([sys.executable, __file__, "--only", name, *limit], env=environment).returncode
    ]
    effort = f"{seconds} s" if arguments.runs is None else f"{arguments.runs} inputs"
    print(f"{len(chosen)} targets, {effort} each; found something in: {', '.join(found) or 'none'}")
    return bool(found)


def _fuzz(name: str, seconds: int, runs: int | None) -> None:
    import atheris

    with atheris.instrument_imports(include=["cnnfilter"]):
        from tests.fuzz import targets
    (FINDINGS / name).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for index, seed in enumerate(targets.seeds()[name]):
            Path(corpus, str(index)).write_bytes(seed)
        options = [
            *([f"-max_total_time={seconds}"] if runs is None else [f"-runs={runs}", "-seed=1"]),
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-verbosity=0",
            f"-artifact_prefix={FINDINGS / name}/",
        ]
        atheris.Setup([__file__, corpus, *options], targets.TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
