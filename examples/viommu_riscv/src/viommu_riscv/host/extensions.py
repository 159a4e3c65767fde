"""What user space gives and is given: types that no kernel has, in the range that viommu leaves to others."""

from __future__ import annotations

from viommu.iommufd.experimental import FIRST_FOREIGN_TYPE
from viommu.iommufd.uapi_struct import UapiStruct, bytes16, bytes32, u32, u64

TYPE = FIRST_FOREIGN_TYPE + 0x5256
"""Of vIOMMUs, VEVENTQs, driver data and hw_info ("RV")."""


class HwInfoRiscv(UapiStruct, name="viommu_hw_info_riscv"):
    """GET_HW_INFO: registers as hardware has them."""

    capabilities: u64
    fctl: u32
    reserved: u32


class HwptRiscv(UapiStruct, name="viommu_hwpt_riscv"):
    """HWPT_ALLOC on a vIOMMU: three words of the guest's device context.

    Of ``tc``, PDTV, DPE, SADE and SBE count; of ``ta``, PSCID. Addresses in ``fsc`` are the guest's.
    """

    tc: u64
    ta: u64
    fsc: u64


class CommandRiscv(UapiStruct, name="viommu_command_riscv"):
    """One request of HWPT_INVALIDATE: a command as the guest wrote it, with its own ids."""

    command: bytes16


class VeventRiscv(UapiStruct, name="viommu_vevent_riscv"):
    """A fault record in the guest's words: DID is the virtual id."""

    record: bytes32
