"""The catalogue as data: complete, consistent, printable, and light."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cnnfilter.kernels.catalogue import ENTRIES, FAMILIES, OTHER_NAMES

PROMISED = """
    identity box blur gaussian binomial motion disk sharpen sharpen-more unsharp high-boost high-pass
    high-pass-5 low-pass laplacian laplacian-8 log dog outline sobel sobel-h sobel-v scharr scharr-h
    scharr-v prewitt prewitt-h prewitt-v roberts roberts-1 roberts-2 farid farid-h farid-v frei-chen
    frei-chen-h frei-chen-v kirsch robinson emboss line-h line-v line-45 line-135 gabor
""".split()  # noqa: SIM905

each_entry = pytest.mark.parametrize("entry", ENTRIES.values(), ids=list(ENTRIES))


def test_every_promised_name_is_there_and_no_other():
    assert sorted(ENTRIES) == sorted(PROMISED)


@each_entry
def test_an_entry_has_a_purpose_and_a_source(entry):
    assert entry.purpose
    assert entry.source
    assert entry.family in FAMILIES


@each_entry
def test_an_entry_prints_on_one_line_of_any_terminal(entry):
    line = f"  {entry.usage:<22}  {entry.purpose}"
    assert line.isascii()
    assert len(line) <= 80
    assert "\n" not in entry.source


@each_entry
def test_an_entry_defines_its_weights_once(entry):
    ways = [bool(entry.rows), bool(entry.column and entry.row), bool(entry.formula)]
    assert sum(ways) == (0 if entry.members and not entry.formula else 1)
    assert bool(entry.column) == bool(entry.row)


@each_entry
def test_members_and_their_combination_go_together(entry):
    assert bool(entry.members) == bool(entry.combine)
    assert all(member.partition(":")[0] in ENTRIES for member in entry.members)


@each_entry
def test_parameters_come_with_an_example_and_defaults_in_range(entry):
    assert bool(entry.parameters) == bool(entry.example)
    for parameter in entry.parameters:
        if not parameter.choices and parameter.default is not None:
            assert parameter.minimum <= parameter.default <= parameter.maximum_allowed


def test_names_from_elsewhere_lead_to_names_of_ours():
    assert set(OTHER_NAMES.values()) <= set(ENTRIES)
    assert not set(OTHER_NAMES) & set(ENTRIES)


def test_every_family_has_members():
    assert {entry.family for entry in ENTRIES.values()} == set(FAMILIES)


def test_the_catalogue_needs_no_numpy():
    code = "import sys, cnnfilter.kernels.catalogue; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
