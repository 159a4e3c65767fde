"""The table of ioctls as an earlier kernel has it (`viommu.uapi_profiles`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from attrs import evolve

from viommu.iommufd.handlers import TABLE
from viommu.iommufd.uapi_struct import UapiStruct, u32
from viommu.uapi_profiles import Feature

if TYPE_CHECKING:
    from viommu.iommufd.dispatch import AnyIoctl
    from viommu.uapi_profiles import Profile

VIOMMU_ALLOC = 0x90
IOCTLS = {0x93: Feature.VEVENTQ_ALLOC, 0x94: Feature.HW_QUEUE_ALLOC}


class ShortViommuAlloc(UapiStruct, name="iommu_viommu_alloc"):
    """VIOMMU_ALLOC before a driver could be given data."""

    size: u32
    flags: u32
    type: u32
    dev_id: u32
    hwpt_id: u32
    out_viommu_id: u32
    data_len: ClassVar[int] = 0
    data_uptr: ClassVar[int] = 0


def table_of(profile: Profile) -> dict[int, AnyIoctl]:
    """Give a release's rows, by their low byte."""
    table = {low: row for low, row in TABLE.items() if low not in IOCTLS or not profile.lacks(IOCTLS[low])}
    if profile.lacks(Feature.VIOMMU_DATA):
        table[VIOMMU_ALLOC] = evolve(table[VIOMMU_ALLOC], struct=ShortViommuAlloc)
    return table
