"""Failure at the 1st, 2nd, ... n-th point where the kernel could fail leaves nothing behind, for every ioctl."""

from __future__ import annotations

import pytest

from tests.iommufd.ground import Ground
from tests.iommufd.scenarios import SCENARIOS, SWALLOW
from tests.iommufd.state import differences, pins_of, state_of
from viommu.failure import fail_nth
from viommu.iommufd.handlers import TABLE, ahead

POINTS = 200
"""More failure points than any ioctl has."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_fails_inside_leaves_nothing_behind(name: str) -> None:
    for nth in range(1, POINTS):
        ground = Ground()
        client = ground.client
        act = SCENARIOS[name](ground)
        before = state_of(client)
        with fail_nth(nth) as injection:
            act()
        result = client.result
        if injection.happened:
            assert result < 0 or name in SWALLOW, f"failure {nth} is swallowed"
            assert result >= 0 or not differences(before, state_of(client)), f"failure {nth} ({result}) leaves traces"
        client.close()
        assert not pins_of(client)
        assert client.process.account.pinned == 0
        if not injection.happened:
            assert result >= 0
            return
    pytest.fail("an ioctl without end of failure points")


def test_every_ioctl_has_a_scenario() -> None:
    rows = (*TABLE.values(), *ahead.NEW)
    named = {row.name.removeprefix("IOMMU_").removeprefix("VIOMMU_") for row in rows} - {"ALLOC"} | {"VIOMMU_ALLOC"}
    assert not [name for name in named if not any(name in scenario for scenario in SCENARIOS)]
