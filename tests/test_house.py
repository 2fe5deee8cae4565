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

DOORS = {
    "errors": "errors",
    "runtime": "limits threads parallel prefetch buffers atomic_files blas",
    "jit": "loop instructions float_vectors integer_vectors prefix_sums templates",
    "weights": "weights safetensors trained_pictures",
    "images": "image files pages metadata dtypes colour mapped_files contact_sheets formats.detect coding.settings "
    "streams.pictures",
    "kernels": "kernel lookup catalogue text files structure fitting",
    "filters": "windows images maps output convolution.convolve pooling.pool pooling.images",
    "jobs": "job source_target run sorting streamed",
    "layers": "stack layer fixed learned activations answers grammar names images summary",
    "networks": "network float_scales model_file preparation map_convolutions layer_loops images labels "
    "learned_filters heatmap onnx",
    "training": "train evaluation head network augmentation progress plots data.dataset data.decoded data.examples "
    "data.tables data.duplicates",
    "cli": "",
}
"""Which modules of each wing other wings may import; the others are private to their wing."""

LAZY = ("", "cli", "images.files")
"""The modules that import others of the package by a string, each from a table."""

IMPORTERS = (*LAZY, "jit.loop", "images.formats.pillow", "images.formats.tiff_segments")
"""The modules that import by a string: every module of loops, to compile them all, and modules of other packages."""

MAX_FILES_PER_FOLDER = 14


def module_names() -> list[str]:
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    names = {".".join(path.parts).removesuffix("__init__").rstrip(".") for path in paths}
    return sorted(names - {"", "__main__"})


def wing(name: str) -> str:
    return name.split(".")[0]


def is_compiled(name: str) -> bool:
    return name.endswith("_loops") or wing(name) == "jit"


def syntax_of(name: str) -> ast.Module:
    path = PACKAGE / Path(*name.split("."))
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))


@cache
def imports(name: str, *, annotations: bool = True) -> frozenset[str]:
    """Return the modules of the package that one imports anywhere, also in functions and, if asked, for annotations."""
    tree = syntax_of(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not annotations:
            node.body = []
    known = set(module_names())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cnnfilter"):
            base = (node.module or "").removeprefix("cnnfilter").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                found.add(inner if inner in known else base)
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{name} imports relative to itself")
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("cnnfilter.") for alias in node.names if "cnnfilter." in alias.name}
    return frozenset(found - {"", name})


def test_the_root_holds_the_wings():
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    wings = {name for name in ARROWS if name != "errors"}
    assert entries == {"__init__.py", "__main__.py", "errors.py", *wings}
    assert {wing(name) for name in module_names()} == set(ARROWS)


def folders() -> list[Path]:
    return sorted({path.parent for path in PACKAGE.rglob("*.py")})


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: str(folder.relative_to(PACKAGE)))
def test_a_folder_holds_few_files_and_says_what_for(folder):
    assert len(list(folder.glob("*.py"))) <= MAX_FILES_PER_FOLDER, folder
    body = ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body
    if folder not in (PACKAGE, PACKAGE / "cli", PACKAGE / "weights"):
        assert len(body) == 1, f"{folder / '__init__.py'} holds its docstring and nothing else"


@pytest.mark.parametrize("name", module_names())
def test_a_wing_imports_only_from_those_below(name):
    allowed = {wing(name), *ARROWS[wing(name)].split()}
    wrong = {other for other in imports(name) if wing(other) not in allowed}
    assert not wrong, f"{name} imports {sorted(wrong)}; {wing(name)} may import from {ARROWS[wing(name)]}"


@pytest.mark.parametrize("name", module_names())
def test_a_wing_imports_only_the_doors_of_others(name):
    wrong = {other for other in imports(name) if wing(other) != wing(name) and not is_door(other)}
    assert not wrong, f"{name} imports {sorted(wrong)}, which are private to their wings"


def is_door(name: str) -> bool:
    first, _, rest = name.partition(".")
    return (rest or first) in DOORS[first].split()


def test_every_door_is_there():
    doors = {name for name in module_names() if wing(name) != "cli" and is_door(name)}
    assert len(doors) == sum(len(names.split()) for names in DOORS.values())


@pytest.mark.parametrize(
    "name", [name for name in module_names() if not name.endswith("_loops") and wing(name) != "jit"]
)
def test_only_loops_know_how_instructions_are_made(name):
    assert not imports(name) & {f"jit.{door}" for door in DOORS["jit"].split() if door != "loop"}


def test_no_module_needs_itself():
    graph = {name: imports(name, annotations=False) for name in module_names()}
    TopologicalSorter(graph).prepare()  # raises CycleError with the cycle


@pytest.mark.parametrize("name", ["", *module_names()])
def test_no_import_by_a_string_but_from_the_lazy_tables(name):
    tree = syntax_of(name) if name else ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    called = {ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"import_module", "__import__"} or name in IMPORTERS, f"{name} imports by a string"
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    modules = {f"cnnfilter.{other}" for other in module_names()}
    assert not texts & modules or name in LAZY, f"{name} names modules in strings: {sorted(texts & modules)}"


@pytest.mark.parametrize(
    "name", [name for name in module_names() if not name.endswith("_loops") and wing(name) != "jit"]
)
def test_only_jit_and_loops_name_the_compiler(name):
    tree = syntax_of(name)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not {each.partition(".")[0] for each in imported | used} & {"numba", "llvmlite"}


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
