"""The rules of the house: arrows, light starts, public names, documented modules."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import cnnfilter

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cnnfilter"

ARROWS = {
    "errors": "",
    "runtime": "",
    "jit": "errors runtime",
    "weights": "errors runtime",
    "images": "errors runtime jit",
    "kernels": "errors runtime weights",
    "filters": "errors runtime jit images kernels",
    "jobs": "errors runtime images",
    "layers": "errors runtime images kernels filters",
    "networks": "errors runtime jit weights images kernels filters layers",
    "training": "errors runtime jit weights images kernels filters layers networks",
    "cli": "errors runtime jit weights images kernels filters jobs layers networks training",
}
"""Which wings each wing may import from."""


def module_names() -> list[str]:
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    names = {".".join(path.parts).removesuffix("__init__").rstrip(".") for path in paths}
    return sorted(names - {"", "__main__"})


def wing(name: str) -> str:
    return name.split(".")[0]


@cache
def imports(name: str) -> frozenset[str]:
    """Return the package's modules that one imports anywhere, but for those it only names in annotations."""
    path = PACKAGE / Path(*name.split("."))
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    known = set(module_names())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cnnfilter"):
            base = (node.module or "").removeprefix("cnnfilter").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                found.add(inner if inner in known else base)
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("cnnfilter.") for alias in node.names if "cnnfilter." in alias.name}
    return frozenset(found - {"", name})


@pytest.mark.parametrize("name", [name for name in module_names() if wing(name) in ARROWS])
def test_a_wing_imports_only_from_those_below(name):
    allowed = {wing(name), *ARROWS[wing(name)].split()}
    wrong = {other for other in imports(name) if wing(other) in ARROWS and wing(other) not in allowed}
    assert not wrong, f"{name} imports {sorted(wrong)}; {wing(name)} may import from {ARROWS[wing(name)]}"


def test_no_module_needs_itself():
    TopologicalSorter({name: imports(name) for name in module_names()}).prepare()  # raises CycleError with the cycle


def test_only_the_loops_compilers_import_numba():
    for name in module_names():
        path = PACKAGE / Path(*name.split("."))
        text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
        found = [
            node
            for node in ast.walk(ast.parse(text))
            if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "numba")
            or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "numba" for alias in node.names))
        ]
        assert not found or name in ("jit.loop", "jit.instructions", "jit.float_vectors"), f"{name} imports numba"


@pytest.mark.parametrize("name", module_names())
def test_every_module_says_what_it_knows(name):
    assert (importlib.import_module(f"cnnfilter.{name}").__doc__ or "").strip(), name


@pytest.mark.parametrize("name", [name for name in cnnfilter.__all__ if name != "__version__"])
def test_public_names_are_there_and_documented(name):
    value = getattr(cnnfilter, name)
    assert inspect.getdoc(value), name
    assert name in dir(cnnfilter)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'sharpen'"):
        cnnfilter.sharpen  # noqa: B018 - to look is the test


def modules_after(code: str) -> set[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sorted(sys.modules))"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_the_package_is_light_to_import():
    loaded = modules_after("import cnnfilter")
    assert not loaded & {"numpy", "PIL", "numba", "click", "cnnfilter.filters.convolution.convolve"}
    assert not modules_after("from cnnfilter import convolve") & {"numba", "PIL", "click", "scipy"}


def test_names_of_the_field():
    for name in module_names():
        assert not set(name.split(".")) & {"utils", "util", "core", "common", "helpers", "misc"}, name
