"""Bit layouts of the SMMUv3, as IHI 0070 prints them. Names keep the printed case."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu_smmuv3_cmdqv.spec.context_descriptor import CD, L1CD
from viommu_smmuv3_cmdqv.spec.events import RECORDS
from viommu_smmuv3_cmdqv.spec.registers import CR0, CR2, GBPA, IDR0, IDR1, IDR3, IDR5, STRTAB_BASE, STRTAB_BASE_CFG
from viommu_smmuv3_cmdqv.spec.stream_table import L1STD, STE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.layout import Descriptor

REGISTERS = (IDR0, IDR1, IDR3, IDR5, CR0, CR2, GBPA, STRTAB_BASE, STRTAB_BASE_CFG)
STRUCTURES = (L1STD, STE, L1CD, CD)

LAYOUTS: Mapping[str, type[Descriptor]] = MappingProxyType(
    {layout.__name__: layout for layout in STRUCTURES + REGISTERS}
    | {event.name: record for event, record in RECORDS.items()}
)
"""Structures and registers by name; records by the name of their event."""
