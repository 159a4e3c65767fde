"""Every recorded call of a real kernel, made anew: the same answers, the same bytes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from viommu.oracle.recording import recordings_in
from viommu.oracle.replay import replay
from viommu.oracle.report import told_difference
from viommu.oracle.subject import Subject

if TYPE_CHECKING:
    from viommu.oracle.comparison import Case

DATA = Path(__file__).parents[1] / "data" / "oracle"


def disagreements(cases: list[Case]) -> list[str]:
    return ["\n".join((case.name, *told_difference(case.first))) for case in cases if case.first is not None]


@pytest.mark.parametrize("fixture", sorted({path.name.split(".")[0] for path in (DATA / "selftests").iterdir()}))
def test_the_kernels_own_selftests_are_answered_as_the_kernel_answers_them(fixture: str) -> None:
    cases = [case for path in recordings_in(DATA.glob(f"selftests/{fixture}.*")) for case in replay(path, Subject)]
    assert cases
    assert not disagreements(cases)


def test_the_corner_cases_are_answered_as_the_kernel_answers_them() -> None:
    cases = list(replay(DATA / "probes.jsonl", Subject))
    assert sum(case.judged for case in cases) == 614
    assert not disagreements(cases)


def test_random_calls_are_answered_as_the_kernel_answers_them() -> None:
    cases = [case for path in recordings_in([DATA / "random"]) for case in replay(path, Subject)]
    assert sum(case.calls for case in cases) == 2099
    assert not disagreements(cases)


def test_every_kind_of_call_is_judged() -> None:
    calls: Counter[str] = Counter()
    for case in replay(DATA / "probes.jsonl", Subject):
        calls["all"] += case.calls
    assert calls["all"] > 860
