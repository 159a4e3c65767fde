"""The host's side of fault recording: records are read, cleared, kept, and told to the guests that they concern."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_vtd.host import guest_events
from viommu_vtd.spec.faults import FSTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from viommu_vtd.host.unit import Unit
    from viommu_vtd.spec.faults import FRCD


def service(unit: Unit) -> None:
    """Take records, then let hardware record again."""
    status = unit.registers.read(FSTS)
    if status.PPF:
        for record in _records(unit, status.FRI):
            unit.faults.append(record)
            guest_events.tell_fault(unit, record)
    unit.registers.write(FSTS(PFO=1))


def _records(unit: Unit, first: int) -> Iterator[FRCD]:
    """Give and clear records, from the first that is set. One round at most: for later ones an interrupt comes."""
    count = unit.registers.cap.NFR + 1
    for index in range(first, first + count):
        record = unit.registers.read_record(index % count)
        if not record.F:
            return
        unit.registers.clear_record(index % count)
        yield record
