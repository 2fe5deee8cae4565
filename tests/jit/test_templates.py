"""Sources that templates make, and the command that prints them."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from cnnfilter.jit.loop import every_loop, import_loops
from cnnfilter.jit.templates import define, generated_sources, main


def test_a_name_prints_the_source_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    import_loops()
    name, source = next((loop.name, loop.generated_source) for loop, _ in every_loop() if loop.generated_source)
    assert source
    assert main([name]) == 0
    assert capsys.readouterr().out == f"# {name}\n{source.strip()}\n"


def test_each_generated_source_defines_its_loop() -> None:
    for name, source in generated_sources().items():
        (function,) = ast.parse(source).body
        assert isinstance(function, ast.FunctionDef)
        assert function.name == name.partition("(")[0].rpartition(".")[2]


@pytest.mark.parametrize(
    ("asked", "functions"),
    [
        ("direct", {"taps", "tile", "integers", "separable", "separable_tile"}),
        ("filters.convolution.direct", {"taps", "tile", "integers", "separable", "separable_tile"}),
        ("direct.taps", {"taps"}),
        ("taps", {"taps"}),
        ("winograd", {"to_tiles", "add_from_tiles", "out_of_tiles", "into_tiles"}),
    ],
)
def test_a_module_or_a_function_is_a_name_too(
    asked: str, functions: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([asked]) == 0
    tree = ast.parse(capsys.readouterr().out)
    assert {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} == functions


def test_a_name_with_spaces_needs_no_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["networks.layer.depthwise(3,", "3,", "1)"]) == 0
    assert capsys.readouterr().out.startswith("# networks.layer.depthwise(3, 3, 1)\ndef depthwise(")


def test_without_a_name_all_names_are_listed() -> None:
    done = subprocess.run([sys.executable, "-m", "cnnfilter.jit.templates"], capture_output=True, text=True, check=True)
    names = done.stdout.splitlines()
    assert len(names) == len(set(names)) > 50
    assert set(names) <= set(generated_sources())  # other tests have made more
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("direkt", "did you mean 'direct'?"), ("depthwize", "did you mean 'depthwise'?"), ("?", "all names are listed")],
)
def test_an_unknown_name_is_one_line_and_exit_code_2(asked: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([asked]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"Error: no generated loop {asked!r}; ")
    assert shown.err.endswith(f"{hint}\n")
    assert shown.err.count("\n") == 1


def test_a_function_keeps_the_text_that_defines_it() -> None:
    doubled = define("def doubled(value):\n    return FACTOR * value", "doubled", __name__, FACTOR=2)
    assert doubled(3) == 6
    assert doubled.__module__ == __name__
    assert doubled.generated_source.startswith("def doubled")
