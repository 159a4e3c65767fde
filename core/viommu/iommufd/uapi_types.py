"""Which numbers of the uAPI stand for which vendor's data, and which structure each number's data has (Linux 7.2)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from viommu.errors import BadValue
from viommu.iommufd import experimental, uapi
from viommu.iommufd.uapi_struct import UapiStruct

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "HwInfoType",
    "HwQueueType",
    "HwptDataType",
    "InvalidateDataType",
    "VeventqType",
    "ViommuType",
]


class HwptDataType(IntEnum):
    """Driver data of HWPT_ALLOC."""

    NONE = 0
    VTD_S1 = 1
    ARM_SMMUV3 = 2
    AMD_GUEST = 3


class HwInfoType(IntEnum):
    """What GET_HW_INFO gives."""

    NONE = 0
    INTEL_VTD = 1
    ARM_SMMUV3 = 2
    TEGRA241_CMDQV = 3
    AMD = 4


class InvalidateDataType(IntEnum):
    """Entries of HWPT_INVALIDATE: the first for a nested HWPT, the second for a vIOMMU."""

    VTD_S1 = 0
    VIOMMU_ARM_SMMUV3 = 1


class ViommuType(IntEnum):
    """Types of vIOMMUs."""

    DEFAULT = 0
    ARM_SMMUV3 = 1
    TEGRA241_CMDQV = 2


class VeventqType(IntEnum):
    """Types of VEVENTQs."""

    DEFAULT = 0
    ARM_SMMUV3 = 1
    TEGRA241_CMDQV = 2


class HwQueueType(IntEnum):
    """Types of HW_QUEUEs."""

    DEFAULT = 0
    TEGRA241_CMDQV = 1


HWPT_TYPES: dict[type[UapiStruct], int] = {
    uapi.HwptVtdS1: HwptDataType.VTD_S1,
    uapi.HwptArmSmmuv3: HwptDataType.ARM_SMMUV3,
    uapi.HwptAmdGuest: HwptDataType.AMD_GUEST,
    experimental.HwptVtdGuest: experimental.ExperimentalType.VTD,
}

INVALIDATE_TYPES: dict[type[UapiStruct], int] = {
    uapi.HwptVtdS1Invalidate: InvalidateDataType.VTD_S1,
    uapi.ViommuArmSmmuv3Invalidate: InvalidateDataType.VIOMMU_ARM_SMMUV3,
    experimental.VtdDescriptor: experimental.ExperimentalType.VTD,
}


def type_of(data: object, types: Mapping[type[UapiStruct], int], given: int | None) -> int:
    """Give the number that says what data is: the given one, else that of its structure. Raises BadValue."""
    if given is not None:
        return given
    found = types.get(type(data)) if isinstance(data, UapiStruct) else None
    if found is None:
        known = ", ".join(struct.__name__ for struct in types)
        raise BadValue("data of type", type(data).__name__, f"one of {known}: give data_type for anything else")
    return found
