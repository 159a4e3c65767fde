"""Every layout of this driver by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu_amd_viommu.spec import registers
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.events import EVENTS, EventCode
from viommu_amd_viommu.spec.gcr3 import GCR3Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.layout import Descriptor

_STRUCTURES: tuple[type[Descriptor], ...] = (
    DTE,
    GCR3Entry,
    registers.Control,
    registers.EFR,
    registers.EFR2,
    registers.Status,
    registers.DeviceTableBase,
    registers.DeviceTableSegmentBase,
    registers.BufferBase,
    registers.ExclusionBase,
    registers.ExclusionLimit,
)

LAYOUTS: Mapping[str, type[Descriptor]] = MappingProxyType(
    {
        **{layout.__name__: layout for layout in _STRUCTURES},
        **{EventCode(code).name: layout for code, layout in EVENTS.items()},
    }
)
"""Events go by the name of their code, as dmesg prints them."""
