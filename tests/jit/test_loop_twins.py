"""Every compiled loop has a twin in the tests of its folder."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

import tests.filters.loop_twins
import tests.images.loop_twins
import tests.networks.loop_twins
import tests.training.loop_twins
from cnnfilter.jit.loop import Loop, every_loop, import_loops

TWINS: dict[str, ModuleType] = {
    "filters": tests.filters.loop_twins,
    "images": tests.images.loop_twins,
    "networks": tests.networks.loop_twins,
    "training": tests.training.loop_twins,
}


def loops_of(folder: str) -> list[Loop]:
    import_loops()
    return [loop for loop, _ in every_loop() if loop.function.__module__.startswith(f"cnnfilter.{folder}.")]


def test_each_folder_with_loops_has_twins() -> None:
    import_loops()
    modules = {
        loop.function.__module__ for loop, _ in every_loop() if loop.function.__module__.startswith("cnnfilter.")
    }
    assert {module.split(".")[1] for module in modules} == set(TWINS)


@pytest.mark.parametrize("folder", TWINS)
def test_every_loop_has_a_twin_that_says_what_it_computes(folder: str) -> None:
    for loop in loops_of(folder):
        twin = getattr(TWINS[folder], loop.function.__name__, None)
        assert inspect.getdoc(twin), f"{loop.name} has no twin in {TWINS[folder].__name__}"
