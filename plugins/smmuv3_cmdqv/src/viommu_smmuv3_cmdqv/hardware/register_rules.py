"""Which bits of which register software may write, and when (IHI 0070, 6.3: guarded, read-only, preset)."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from viommu.registers import Register
from viommu_smmuv3_cmdqv.spec.queue_registers import IRQ_CTRL
from viommu_smmuv3_cmdqv.spec.register_map import REGISTERS
from viommu_smmuv3_cmdqv.spec.registers import CR0, CR1, CR2, GBPA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu.registers import RegisterFile, Store
    from viommu_smmuv3_cmdqv.features import Features

READ_ONLY = frozenset(
    {"IDR0", "IDR1", "IDR2", "IDR3", "IDR4", "IDR5", "IIDR", "AIDR", "CR0ACK", "STATUSR", "AGBPA", "IRQ_CTRLACK"}
    | {"GERROR"}
    | {f"PIDR{n}" for n in range(8)}
    | {f"CIDR{n}" for n in range(4)}
)
"""AGBPA is the implementer's: this one has none."""

DECLARED: Mapping[str, Register] = MappingProxyType(
    {
        name: Register(offset, layout, writable=0 if name in READ_ONLY else None)
        for name, (offset, layout) in REGISTERS.items()
    }
)

EVERY_BIT = (1 << 64) - 1
TABLE_ATTRIBUTES = int(CR1(TABLE_IC=3, TABLE_OC=3, TABLE_SH=3))
QUEUE_ATTRIBUTES = int(CR1(QUEUE_IC=3, QUEUE_OC=3, QUEUE_SH=3))
QUEUE_ENABLES = int(CR0(CMDQEN=1, EVTQEN=1, PRIQEN=1))


def kept_bits(store: Store, registers: RegisterFile, features: Features) -> int:
    """Give the bits that a store may not change."""
    rule = _RULES.get(store.name)
    return 0 if rule is None else rule(store, registers["CR0"], registers["IRQ_CTRL"], features)


def _cr0(_: Store, _cr0: int, _irq: int, features: Features) -> int:
    """Enables of what the SMMU lacks stay 0."""
    idr0 = features.idr0
    lacking = CR0(
        PRIQEN=not idr0.PRI,
        ATSCHK=not idr0.ATS,
        VMW=0 if idr0.VMW else CR0.VMW.maximum,
        DPT_WALK_EN=not features.idr3.DPT,
    )
    return int(lacking)


def _cr1(_: Store, cr0: int, _irq: int, _features: Features) -> int:
    tables = TABLE_ATTRIBUTES if cr0 & int(CR0(SMMUEN=1)) else 0
    return tables | (QUEUE_ATTRIBUTES if cr0 & QUEUE_ENABLES else 0)


def _cr2(_: Store, cr0: int, _irq: int, features: Features) -> int:
    if cr0 & int(CR0(SMMUEN=1)):
        return EVERY_BIT
    return int(CR2(E2H=not features.idr0.HYP, REC_CFG_ATS=not features.idr0.ATSRECERR))


def _gbpa(store: Store, _cr0: int, _irq: int, _features: Features) -> int:
    """Only a write that sets UPDATE counts; it takes effect at once, so UPDATE is never seen."""
    return int(GBPA(UPDATE=1)) if GBPA.decode(store.written).UPDATE else EVERY_BIT


def _tables(_: Store, cr0: int, _irq: int, features: Features) -> int:
    return EVERY_BIT if cr0 & int(CR0(SMMUEN=1)) or features.idr1.TABLES_PRESET else 0


def _queue(enable: int, *, base: bool) -> Callable[[Store, int, int, Features], int]:
    """A queue's base and hardware's end of it: only while the queue is off, and not where the base is preset."""

    def rule(_: Store, cr0: int, _irq: int, features: Features) -> int:
        return EVERY_BIT if cr0 & enable or (base and features.idr1.QUEUES_PRESET) else 0

    return rule


def _message(enable: int) -> Callable[[Store, int, int, Features], int]:
    """An interrupt's message: only while the interrupt is off, and where there are messages."""

    def rule(_: Store, _cr0: int, irq: int, features: Features) -> int:
        return EVERY_BIT if irq & enable or not features.idr0.MSI else 0

    return rule


def _irq_ctrl(_: Store, _cr0: int, _irq: int, features: Features) -> int:
    return int(IRQ_CTRL(PRIQ_IRQEN=not features.idr0.PRI))


_CMDQEN, _EVTQEN, _PRIQEN = int(CR0(CMDQEN=1)), int(CR0(EVTQEN=1)), int(CR0(PRIQEN=1))
_RULES: Mapping[str, Callable[[Store, int, int, Features], int]] = MappingProxyType(
    {
        "CR0": _cr0,
        "CR1": _cr1,
        "CR2": _cr2,
        "GBPA": _gbpa,
        "IRQ_CTRL": _irq_ctrl,
        "STRTAB_BASE": _tables,
        "STRTAB_BASE_CFG": _tables,
        "CMDQ_BASE": _queue(_CMDQEN, base=True),
        "CMDQ_CONS": _queue(_CMDQEN, base=False),
        "EVENTQ_BASE": _queue(_EVTQEN, base=True),
        "EVENTQ_PROD": _queue(_EVTQEN, base=False),
        "PRIQ_BASE": _queue(_PRIQEN, base=True),
        "PRIQ_PROD": _queue(_PRIQEN, base=False),
    }
    | {f"GERROR_IRQ_CFG{n}": _message(int(IRQ_CTRL(GERROR_IRQEN=1))) for n in range(3)}
    | {f"EVENTQ_IRQ_CFG{n}": _message(int(IRQ_CTRL(EVENTQ_IRQEN=1))) for n in range(3)}
    | {f"PRIQ_IRQ_CFG{n}": _message(int(IRQ_CTRL(PRIQ_IRQEN=1))) for n in range(3)}
)
"""The bits of a register that keep their value at a store: of (store, CR0, IRQ_CTRL, features)."""
