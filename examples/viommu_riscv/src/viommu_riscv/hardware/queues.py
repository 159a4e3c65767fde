"""Queues in memory by their registers: where they lie, how full they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu_riscv.spec.registers import QueueBase

if TYPE_CHECKING:
    from viommu.registers import RegisterFile


@frozen
class Ring:
    """A queue as it lies now. ``head`` and ``tail`` are indices."""

    base: int
    entries_lg2: int
    entry_bytes: int
    head: int
    tail: int

    @classmethod
    def of(cls, file: RegisterFile, letter: str, entry_bytes: int) -> Ring:
        """Read the registers of the queue whose names begin so (``C``, ``F``, ``P``)."""
        base = file.decoded(f"{letter}QB", QueueBase)
        lg2 = base.LOG2SZ_1 + 1
        inside = (1 << lg2) - 1
        size = entry_bytes << lg2
        # A base that is not aligned as the length needs leads nobody knows where: here, to the aligned one.
        return cls(base.PPN & -size if size > 1 << 12 else base.PPN, lg2, entry_bytes, *_indices(file, letter, inside))

    @property
    def waiting(self) -> int:
        """Entries that were written and not consumed."""
        return self.tail - self.head & (1 << self.entries_lg2) - 1

    @property
    def full(self) -> bool:
        """Whether one entry more would make it look empty."""
        return self.after(self.tail) == self.head

    def after(self, index: int, count: int = 1) -> int:
        """Give the index ``count`` entries on."""
        return index + count & (1 << self.entries_lg2) - 1

    def address(self, index: int) -> int:
        """Give the physical address of an entry."""
        return self.base + index * self.entry_bytes


def _indices(file: RegisterFile, letter: str, inside: int) -> tuple[int, int]:
    return file[f"{letter}QH"] & inside, file[f"{letter}QT"] & inside


def keep_inside(file: RegisterFile, name: str) -> None:
    """Keep an index that software stored inside its queue: the bits above it are not writable."""
    lg2 = file.decoded(f"{name[0]}QB", QueueBase).LOG2SZ_1 + 1
    file.change(name, clears=-1 << lg2)
