"""The GCR3 walk: from a PASID to the root of its guest page table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.faults import Access, FaultKind, Refusal
from viommu.formats import Context, walk
from viommu_amd_viommu.hardware.refusals import NOT_PRESENT, cause_of, page_fault, page_table_error
from viommu_amd_viommu.spec.gcr3 import INDEX_BITS, GCR3Entry

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog
    from viommu.formats import AmdV1
    from viommu.memory import PhysicalMemory
    from viommu_amd_viommu.hardware.refusals import EventRefusal


@frozen
class GuestRoots:
    """The GCR3 tables of one device.

    ``levels`` of them begin at ``table``; PASIDs have ``pasid_bits``. Where the tables lie at guest-physical
    addresses, ``behind`` is the host format that translates those.
    """

    memory: PhysicalMemory
    table: int
    levels: int
    pasid_bits: int
    behind: AmdV1 | None

    def find(self, pasid: int, log: ConfigurationLog) -> int | EventRefusal:
        """The guest CR3 of a PASID."""
        if pasid >> self.pasid_bits:
            return page_fault(NOT_PRESENT, f"PASID {pasid:#x} is above {(1 << self.pasid_bits) - 1:#x}")
        table = self.table
        for level in reversed(range(self.levels)):
            index = pasid >> INDEX_BITS * level & (1 << INDEX_BITS) - 1
            entry = self._entry(table + index * GCR3Entry.size, f"level {level + 1}, index {index:#x}", log)
            if isinstance(entry, Refusal):
                return entry
            table = entry.Address
        return table

    def _entry(self, address: int, place: str, log: ConfigurationLog) -> GCR3Entry | EventRefusal:
        pa = self._machine_address(address, log)
        if isinstance(pa, Refusal):
            return pa
        raw = self.memory.read(pa, GCR3Entry.size)
        log.fetched(GCR3Entry, pa, raw, place)
        if raw is None:
            return page_table_error(pa)
        entry = GCR3Entry.decode(raw)
        return entry if entry.V else page_fault(NOT_PRESENT, f"GCR3 entry of {place} has V=0")

    def _machine_address(self, address: int, log: ConfigurationLog) -> int | EventRefusal:
        """Where a GCR3 entry really lies."""
        if self.behind is None:
            return address
        result = walk(self.memory.engine, Context(stage2=self.behind), address, Access.READ, stores=False)
        kind = FaultKind(result.kind)
        if kind is FaultKind.NONE:
            log.note(f"host tables put GCR3 entry {address:#x} at {result.pa:#x}")
            return result.pa
        if kind is FaultKind.EXTERNAL_ABORT:
            return page_table_error(result.entry_address, result)
        return page_fault(cause_of(kind), f"host tables refuse GCR3 entry {address:#x}", result)
