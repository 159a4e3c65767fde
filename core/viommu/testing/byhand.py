"""A machine that is programmed by hand, with a page table that the kit writes into physical memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.memory import PhysicalMemory
from viommu.testing.tables import PAGE, Tables

if TYPE_CHECKING:
    from viommu.backing import View
    from viommu.machine import Machine
    from viommu.testing.subject import Subject

RAM_PAGES = 1024


@define(eq=False)
class Ram:
    """RAM of which pages are taken, by their physical addresses (a `viommu.testing.GuestMemory`)."""

    memory: PhysicalMemory
    view: View = field(init=False)
    _next: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Have it from the machine."""
        self.view = self.memory.add_ram(RAM_PAGES * PAGE)
        self._next = self.view.pa()

    def take(self, pages: int = 1) -> int:
        """Take zeroed pages, aligned to their size rounded up to a power of two."""
        size = PAGE << (pages - 1).bit_length()
        at = -(-self._next // size) * size
        self._next = at + pages * PAGE
        assert self._next <= self.view.pa() + RAM_PAGES * PAGE, "RAM is full"  # noqa: S101 - a bug of the kit
        return at

    def write(self, address: int, data: bytes) -> None:
        """Store bytes."""
        self.memory.write(address, data)

    def read(self, address: int, length: int) -> bytes:
        """Load bytes."""
        return self.memory.read(address, length) or bytes(length)


@define(eq=False)
class ByHand:
    """A machine whose first requester's DMA goes through ``tables``."""

    machine: Machine
    tables: Tables
    requester: int
    ram: Ram

    @classmethod
    def of(cls, subject: Subject) -> ByHand:
        """Write tables and structures, then make the hardware."""
        bare, ram = subject.kit.bare, Ram(PhysicalMemory())
        assert bare is not None  # noqa: S101 - a rule that needs BARE has it
        tables, requester = Tables(ram, bare.tables), subject.requesters[0]
        values = bare.program(ram.memory, requester, tables.root, ram.take)
        machine = subject.machine(memory=ram.memory, registers={**subject.kit.registers, **values})
        return cls(machine, tables, requester, ram)
