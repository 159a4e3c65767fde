"""Bit layouts of the SMMUv3, as IHI 0070 prints them. Names keep the printed case."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu_smmuv3_cmdqv.spec.cmdqv_registers import CMDQV_REGISTERS
from viommu_smmuv3_cmdqv.spec.commands import COMMANDS
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD, L1CD
from viommu_smmuv3_cmdqv.spec.events import RECORDS
from viommu_smmuv3_cmdqv.spec.page_requests import PageRequestRecord
from viommu_smmuv3_cmdqv.spec.register_map import REGISTERS
from viommu_smmuv3_cmdqv.spec.stream_table import L1STD, STE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.layout import Descriptor

STRUCTURES: tuple[type[Descriptor], ...] = (L1STD, STE, L1CD, CD)

LAYOUTS: Mapping[str, type[Descriptor]] = MappingProxyType(
    {layout.__name__: layout for layout in (*STRUCTURES, *CMDQV_REGISTERS)}
    | {name: layout for name, (_, layout) in REGISTERS.items()}
    | {event.name: record for event, record in RECORDS.items()}
    | {f"CMD_{opcode.name}": command for opcode, command in COMMANDS.items()}
    | {"PRI_REQUEST": PageRequestRecord}
)
"""Structures and registers by name; records by the name of their event, commands by theirs."""
