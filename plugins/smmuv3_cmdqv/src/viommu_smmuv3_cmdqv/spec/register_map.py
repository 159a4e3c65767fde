"""Where each register is (IHI 0070, 6.2): byte offset from the SMMU's base, and layout. Page 1 starts at 0x10000."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu_smmuv3_cmdqv.spec import queue_registers as queues
from viommu_smmuv3_cmdqv.spec import registers as control

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.layout import Descriptor

REGISTERS: Mapping[str, tuple[int, type[Descriptor]]] = MappingProxyType(
    {
        "IDR0": (0x00, control.IDR0),
        "IDR1": (0x04, control.IDR1),
        "IDR2": (0x08, control.IDR2),
        "IDR3": (0x0C, control.IDR3),
        "IDR4": (0x10, control.IDR4),
        "IDR5": (0x14, control.IDR5),
        "IIDR": (0x18, control.IIDR),
        "AIDR": (0x1C, control.AIDR),
        "CR0": (0x20, control.CR0),
        "CR0ACK": (0x24, control.CR0ACK),
        "CR1": (0x28, control.CR1),
        "CR2": (0x2C, control.CR2),
        "STATUSR": (0x40, control.STATUSR),
        "GBPA": (0x44, control.GBPA),
        "AGBPA": (0x48, control.AGBPA),
        "IRQ_CTRL": (0x50, queues.IRQ_CTRL),
        "IRQ_CTRLACK": (0x54, queues.IRQ_CTRLACK),
        "GERROR": (0x60, queues.GERROR),
        "GERRORN": (0x64, queues.GERRORN),
        "GERROR_IRQ_CFG0": (0x68, queues.GERROR_IRQ_CFG0),
        "GERROR_IRQ_CFG1": (0x70, queues.GERROR_IRQ_CFG1),
        "GERROR_IRQ_CFG2": (0x74, queues.GERROR_IRQ_CFG2),
        "STRTAB_BASE": (0x80, control.STRTAB_BASE),
        "STRTAB_BASE_CFG": (0x88, control.STRTAB_BASE_CFG),
        "CMDQ_BASE": (0x90, queues.CMDQ_BASE),
        "CMDQ_PROD": (0x98, queues.CMDQ_PROD),
        "CMDQ_CONS": (0x9C, queues.CMDQ_CONS),
        "EVENTQ_BASE": (0xA0, queues.EVENTQ_BASE),
        "EVENTQ_PROD": (0x100A8, queues.EVENTQ_PROD),
        "EVENTQ_CONS": (0x100AC, queues.EVENTQ_CONS),
        "EVENTQ_IRQ_CFG0": (0xB0, queues.EVENTQ_IRQ_CFG0),
        "EVENTQ_IRQ_CFG1": (0xB8, queues.EVENTQ_IRQ_CFG1),
        "EVENTQ_IRQ_CFG2": (0xBC, queues.EVENTQ_IRQ_CFG2),
        "PRIQ_BASE": (0xC0, queues.PRIQ_BASE),
        "PRIQ_PROD": (0x100C8, queues.PRIQ_PROD),
        "PRIQ_CONS": (0x100CC, queues.PRIQ_CONS),
        "PRIQ_IRQ_CFG0": (0xD0, queues.PRIQ_IRQ_CFG0),
        "PRIQ_IRQ_CFG1": (0xD8, queues.PRIQ_IRQ_CFG1),
        "PRIQ_IRQ_CFG2": (0xDC, queues.PRIQ_IRQ_CFG2),
    }
    | {f"PIDR{4 + n}": (0xFD0 + 4 * n, control.PIDR) for n in range(4)}
    | {f"PIDR{n}": (0xFE0 + 4 * n, control.PIDR) for n in range(4)}
    | {f"CIDR{n}": (0xFF0 + 4 * n, control.CIDR) for n in range(4)}
)
