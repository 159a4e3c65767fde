"""What the sanitizer names as enough, held against what hardware makes of such a descriptor."""

from __future__ import annotations

import re

import pytest

from viommu.faults import Access
from viommu.stale import StaleUse
from viommu_vtd.hardware.capabilities import RemappingUnit
from viommu_vtd.hardware.live.cures import cure
from viommu_vtd.hardware.live.invalidation import device_range
from viommu_vtd.hardware.live.register_map import FULL_CAP, FULL_ECAP
from viommu_vtd.spec.registers import GSTS, RTADDR

UNIT = RemappingUnit(FULL_CAP, FULL_ECAP, GSTS(TES=1), RTADDR(TTM=1), 48)
IOVA = 0x1234_5678_9000


@pytest.mark.parametrize("pasid", [None, 7])
@pytest.mark.parametrize("page_size", [0, 1 << 12, 1 << 21, 1 << 30])
def test_a_device_tlb_is_cured_by_the_page_that_it_held_and_no_more(page_size: int, pasid: int | None) -> None:
    use = StaleUse("device TLB", 0x108, pasid, IOVA, Access.READ, None, None, page_size=page_size)

    told = cure(use, UNIT)

    kind = (
        "device-TLB invalidate (type 3)" if pasid is None else "PASID-based device-TLB invalidate (type 8): PASID=0x7"
    )
    assert told.startswith(kind)
    found = re.search(r"SID=0x108, S=(\d), ADDR=(0x[0-9a-f]+)", told)
    assert found is not None
    size = max(page_size, 1 << 12)
    first = IOVA - IOVA % size
    assert device_range(int(found[2], 16), sized=found[1] == "1") == (first, first + size - 1)
