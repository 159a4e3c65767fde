"""The page of rules is current, so is the score in the README; known bugs are still where the list says, and found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tools import conformance_pages, kill_mutants

if TYPE_CHECKING:
    from pathlib import Path


def test_the_catalogue_is_what_the_rules_say() -> None:
    assert conformance_pages.PAGE.read_text() == conformance_pages.catalogue(), "run tools/conformance_pages.py"


def test_the_score_in_the_readme_is_current() -> None:
    assert conformance_pages.in_readme() == conformance_pages.scores(effort=0.02), "run tools/conformance_pages.py"


@pytest.mark.parametrize("mutant", kill_mutants.listed(), ids=lambda mutant: mutant.id)
def test_a_known_bug_can_still_be_put_in(mutant: kill_mutants.Mutant, tmp_path: Path) -> None:
    mutant.put_into(tmp_path)
    changed = (tmp_path / mutant.module / mutant.path).read_text()
    compile(changed, mutant.path, "exec")


def test_bugs_are_spread_over_drivers_and_areas() -> None:
    drivers = [mutant.driver for mutant in kill_mutants.listed()]
    assert {drivers.count(name) for name in set(drivers)} == {10}
    assert len({mutant.area for mutant in kill_mutants.listed()}) >= 8


def test_the_page_tells_of_a_whole_run() -> None:
    found = json.loads(kill_mutants.FOUND.read_text())
    assert list(found) == [mutant.id for mutant in kill_mutants.listed()]
    assert sum(bool(row["rule"]) for row in found.values()) >= 28


@pytest.mark.long
@pytest.mark.parametrize("driver", ["vtd", "smmuv3_cmdqv", "amd_viommu"])
def test_the_kit_finds_known_bugs(driver: str) -> None:
    escaped = [
        mutant.id
        for mutant in kill_mutants.listed()
        if mutant.driver == driver and not kill_mutants.ask(mutant, 1.0).rule
    ]
    assert len(escaped) <= 1, escaped
