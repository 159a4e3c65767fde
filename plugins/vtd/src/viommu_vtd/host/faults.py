"""The host's side of fault recording: records are read, cleared, kept, and told to the guests that they concern."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_vtd.spec.faults import FSTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from viommu_vtd.host.registers import UnitRegisters
    from viommu_vtd.spec.faults import FRCD


def service(registers: UnitRegisters, take: Callable[[FRCD], None]) -> None:
    """Read records from the first one on, until one is free; then let hardware record again."""
    status = registers.read(FSTS)
    if status.PPF:
        for record in _records(registers, status.FRI):
            take(record)
    registers.write(FSTS(PFO=1))


def _records(registers: UnitRegisters, first: int) -> Iterator[FRCD]:
    """Give and clear records. At most one round: hardware may write new ones meanwhile, and interrupts for them."""
    count = registers.cap.NFR + 1
    for index in range(first, first + count):
        record = registers.read_record(index % count)
        if not record.F:
            return
        registers.clear_record(index % count)
        yield record
