"""The arithmetic of queues: indices with a wrap flag above them (IHI 0070, 3.5.1)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from attrs import frozen

from viommu.addresses import align_down
from viommu_smmuv3_cmdqv.spec.queue_registers import CMDQ_BASE

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.hardware.silicon import Silicon
    from viommu_smmuv3_cmdqv.spec.registers import IDR1

LARGEST_LG2 = 19
"""Of any queue; index and wrap flag fill bits 19:0 of its registers then."""
SMALLEST_ALIGNMENT = 32
POINTER = (1 << LARGEST_LG2 + 1) - 1
OVERFLOW = 1 << 31
"""PROD.OVFLG and CONS.OVACKFLG."""


@frozen
class Ring:
    """Where a queue lies and how it counts. A pointer is an index with the wrap flag in the bit above."""

    base: int
    lg2: int
    entry_size: int

    @classmethod
    def of(cls, base: int, most_lg2: int, entry_size: int) -> Ring:
        """Read a base register (all queues have one layout); a queue is no larger than IDR1 allows."""
        fields = CMDQ_BASE.decode(base)
        lg2 = min(fields.LOG2SIZE, most_lg2, LARGEST_LG2)
        return cls(align_down(fields.ADDR, max(SMALLEST_ALIGNMENT, entry_size << lg2)), lg2, entry_size)

    @property
    def entries(self) -> int:
        """How many entries fit."""
        return 1 << self.lg2

    def index(self, pointer: int) -> int:
        """The entry that a pointer names."""
        return pointer & self.entries - 1

    def address(self, pointer: int) -> int:
        """Where that entry is."""
        return self.base + self.index(pointer) * self.entry_size

    def after(self, pointer: int, count: int = 1) -> int:
        """The pointer ``count`` entries further on."""
        return pointer + count & 2 * self.entries - 1

    def waiting(self, prod: int, cons: int) -> int:
        """How many entries are between two pointers; more than there are where software wrote nonsense."""
        return prod - cons & 2 * self.entries - 1

    def is_full(self, prod: int, cons: int) -> bool:
        """Whether no entry is free."""
        return self.waiting(prod, cons) >= self.entries


@lru_cache(maxsize=64)
def _ring(base: int, idr1: IDR1, name: str, entry_size: int) -> Ring:
    """Software sets a queue up once and rings its doorbell ever after."""
    return Ring.of(base, int(getattr(idr1, name)), entry_size)


def command_ring(chip: Silicon) -> Ring:
    """Where the command queue lies."""
    return _ring(chip.registers["CMDQ_BASE"], chip.features.idr1, "CMDQS", 16)


def event_ring(chip: Silicon) -> Ring:
    """Where the event queue lies."""
    return _ring(chip.registers["EVENTQ_BASE"], chip.features.idr1, "EVTQS", 32)


def request_ring(chip: Silicon) -> Ring:
    """Where the PRI queue lies."""
    return _ring(chip.registers["PRIQ_BASE"], chip.features.idr1, "PRIQS", 16)
