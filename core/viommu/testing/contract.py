"""The kit as tests: a class from which a driver's test class derives."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

import pytest

from viommu.testing.catalogue import rules
from viommu.testing.report import story
from viommu.testing.runner import Options, Outcome, ask
from viommu.testing.subject import Subject

if TYPE_CHECKING:
    from viommu.testing.guest_kit import GuestKit
    from viommu.testing.rule import Rule

__all__ = ["DriverContract"]

EFFORT, SEED = "VIOMMU_CONFORM_EFFORT", "VIOMMU_CONFORM_SEED"
"""Variables of the environment that count instead of what a class says."""

RULES = rules()


class DriverContract:
    """What every driver owes. ``driver``: an object with hooks (a module), or the name of an installed one.

    ``guest_kit`` None: what the driver's `viommu_conformance` gives. ``effort`` and ``seed`` as `viommu conform` has
    them; VIOMMU_CONFORM_EFFORT and VIOMMU_CONFORM_SEED in the environment count instead. Each rule is a test by its
    id; one that does not apply is skipped, and says why.
    """

    driver: ClassVar[object] = None
    guest_kit: ClassVar[GuestKit | None] = None
    effort: ClassVar[float] = 0.3
    seed: ClassVar[int] = 0

    @pytest.mark.parametrize("asked", RULES, ids=[rule.id for rule in RULES])
    def test_rule(self, asked: Rule) -> None:
        """Ask one rule."""
        effort, seed = os.environ.get(EFFORT, self.effort), os.environ.get(SEED, self.seed)
        verdict = ask(_subject(type(self)), asked, Options(effort=float(effort), seed=int(seed)))
        if verdict.outcome is Outcome.SKIPPED:
            pytest.skip(verdict.reason)
        if verdict.outcome is Outcome.FAILED:
            pytest.fail(story(verdict), pytrace=False)


_SUBJECTS: dict[type[DriverContract], Subject] = {}


def _subject(contract: type[DriverContract]) -> Subject:
    """Bind a driver once for all of its rules."""
    if contract not in _SUBJECTS:
        _SUBJECTS[contract] = Subject.of(contract.driver, contract.guest_kit)
    return _SUBJECTS[contract]
