"""Every layout of this driver by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu_amd_viommu.hardware.register_map import REGISTERS
from viommu_amd_viommu.spec.commands import COMMANDS, Opcode
from viommu_amd_viommu.spec.device_table import DTE
from viommu_amd_viommu.spec.events import EVENTS, EventCode
from viommu_amd_viommu.spec.gcr3 import GCR3Entry
from viommu_amd_viommu.spec.page_requests import GALogEntry, PPRLogEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.layout import Descriptor

STRUCTURES: tuple[type[Descriptor], ...] = (DTE, GCR3Entry, PPRLogEntry, GALogEntry)

LAYOUTS: Mapping[str, type[Descriptor]] = MappingProxyType(
    {
        **{layout.__name__: layout for layout in STRUCTURES},
        **{register.layout.__name__: register.layout for register in REGISTERS.values()},
        **{Opcode(code).name: layout for code, layout in COMMANDS.items()},
        **{EventCode(code).name: layout for code, layout in EVENTS.items()},
    }
)
"""Commands and events go by the name of their code, as recordings and dmesg print them."""
