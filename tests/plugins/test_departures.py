"""The rules that are shipped, on every mutation that was recorded."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from attrs import Factory, define

from tests.core.captured import RECORDINGS
from viommu.captures.capture import MUTATIONS, find, load
from viommu.replay import run as replay_module
from viommu.replay.departures import departures
from viommu.replay.run import replay

if TYPE_CHECKING:
    from pathlib import Path

    from viommu.replay.departure_rules import Case

WITH_MUTATIONS = [path for path in find(RECORDINGS) if (path / MUTATIONS).exists()]


@define
class Counted:
    """Stands in for the shipped lists, and counts how many rules excuse each row."""

    rules_for: Counter[int] = Factory(Counter)

    def reason(self, capture: str, case: Case) -> str | None:
        self.rules_for[sum(rule.excuses(case) for rule in departures().rules)] += 1
        return departures().reason(capture, case)


@pytest.mark.parametrize("path", WITH_MUTATIONS, ids=lambda path: path.name)
def test_one_rule_says_why_a_recorded_mutation_departs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    monkeypatch.setattr(replay_module, "departures", lambda: counted)
    capture = load(path)

    section = replay(capture, capture.machine(), ["mutations"]).sections["mutations"]

    assert section.rows == capture.counts["mutations"]
    assert section.disagreed == 0
    assert counted.rules_for[1] == section.departures
    assert set(counted.rules_for) <= {0, 1}
