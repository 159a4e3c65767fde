"""How the invalidation queue is set up: what IQA and the translation mode say, until they change (VT-d 6.5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu_vtd.hardware.live.command_rules import Abilities
from viommu_vtd.spec.queue_registers import IQA, IQT, QueueError
from viommu_vtd.spec.registers import TranslationTableMode

if TYPE_CHECKING:
    from viommu_vtd.hardware.capabilities import RemappingUnit

PAGE_LG2 = 12
NARROW_LG2, WIDE_LG2 = 4, 5
"""log2 of a descriptor's bytes."""


@frozen
class QueueSetup:
    """A queue of 2^``entries_lg2`` descriptors of 2^``entry_lg2`` bytes. ``error``: why it cannot be one."""

    base: int
    entries_lg2: int
    entry_lg2: int
    able: Abilities
    error: QueueError | None

    @classmethod
    def of(cls, registered: int, unit: RemappingUnit) -> QueueSetup:
        """Read IQA."""
        address = IQA.decode(registered)
        entry_lg2 = WIDE_LG2 if address.DW else NARROW_LG2
        scalable = unit.root.TTM != TranslationTableMode.LEGACY
        able = Abilities(unit.cap, unit.ecap, scalable)
        return cls(address.Address, PAGE_LG2 + address.QS - entry_lg2, entry_lg2, able, _error(address, unit))

    @property
    def wide(self) -> bool:
        """Whether descriptors have 256 bits."""
        return self.entry_lg2 == WIDE_LG2

    def tail_error(self, tail: int) -> QueueError | None:
        """Say what is wrong with a value of IQT."""
        if tail & IQT.reserved_mask or tail >> self.entries_lg2 + self.entry_lg2:
            return QueueError.TAIL
        return QueueError.TAIL_ALIGNMENT if self.wide and tail & 1 << NARROW_LG2 else None

    def index(self, offset: int) -> int:
        """The descriptor that a value of IQH or IQT names."""
        return (offset >> self.entry_lg2) % (1 << self.entries_lg2)

    def offset(self, index: int) -> int:
        """The value of IQH that names a descriptor."""
        return index % (1 << self.entries_lg2) << self.entry_lg2


def _error(address: IQA, unit: RemappingUnit) -> QueueError | None:
    ecap = unit.ecap
    match unit.root.TTM:
        case TranslationTableMode.LEGACY:
            wide_needed = False
        case TranslationTableMode.SCALABLE if ecap.SMTS:
            wide_needed = True
        case TranslationTableMode.ABORT_DMA if ecap.ADMS:
            wide_needed = True
        case _:
            return QueueError.TABLE_MODE
    if (wide_needed and not address.DW) or (address.DW and not (ecap.SMTS or ecap.ADMS)):
        return QueueError.WIDTH
    return None
