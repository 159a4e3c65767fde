"""What user space gives and reads: structures of this driver's own, beyond mainline's."""

from __future__ import annotations

from viommu.iommufd.experimental import FIRST_FOREIGN_TYPE
from viommu.iommufd.uapi_struct import UapiStruct, u32, u64

TYPE = FIRST_FOREIGN_TYPE + 0x7000
"""Of vIOMMUs, of their data and events."""


class HwptAcme(UapiStruct, name="viommu_hwpt_acme"):
    """Data of HWPT_ALLOC on a vIOMMU: a guest's page table, and the space that it calls it."""

    table: u64
    space: u32
    reserved: u32


class AcmeInvalidate(UapiStruct, name="viommu_acme_invalidate"):
    """One entry of HWPT_INVALIDATE on a vIOMMU: 2^(12 + lg2) bytes of one space of the guest's."""

    address: u64
    space: u32
    lg2: u32
