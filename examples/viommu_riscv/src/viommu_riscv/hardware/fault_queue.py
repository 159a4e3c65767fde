"""The fault queue."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from attrs import define, field

from viommu_riscv.hardware.interrupts import FAULTS
from viommu_riscv.hardware.queues import Ring
from viommu_riscv.hardware.words import in_memory
from viommu_riscv.spec.records import Cause, FaultRecord, TransactionType
from viommu_riscv.spec.registers import Fctl, Fqcsr

if TYPE_CHECKING:
    from viommu.memory import PhysicalMemory
    from viommu.platform import Platform
    from viommu.registers import RegisterFile

    from viommu_riscv.hardware.interrupts import Interrupts

ERRORS = Fqcsr.fqmf.mask | Fqcsr.fqof.mask


@define(eq=False, repr=False)
class FaultQueue:
    """Records of refused accesses, until it is full, or memory refuses one: then software has to clear the error."""

    file: RegisterFile
    memory: PhysicalMemory
    platform: Platform
    address_bits: int
    interrupts: Interrupts = field(init=False)
    _lock: Lock = field(factory=Lock)

    @property
    def active(self) -> bool:
        """Whether records are taken at all."""
        return bool(self.file["FQCSR"] & Fqcsr.fqon.mask)

    def tell(self, record: FaultRecord) -> None:
        """Queue a record; where that cannot be it is lost."""
        with self._lock:
            written = self._append(record)
        name = Cause(record.CAUSE).name
        self.platform.observe("riscv.fault", {"cause": name, "record": name if written else None})
        if written:
            self.interrupts.new_entry(FAULTS)
        self.interrupts.update()

    def tell_unsent(self, address: int) -> None:
        """Tell of an interrupt message that no memory takes."""
        self.tell(FaultRecord(CAUSE=Cause.MSI_WRITE_ACCESS, TTYP=TransactionType.NONE, iotval=address))

    def _append(self, record: FaultRecord) -> bool:
        if not self.active or self.file["FQCSR"] & ERRORS:
            return False
        ring = Ring.of(self.file, "F", FaultRecord.size)
        if ring.full:
            self.file.change("FQCSR", sets=Fqcsr.fqof.mask)
            return False
        raw = in_memory(record.encode(), big_endian=bool(self.file.decoded("FCTL", Fctl).BE))
        at = ring.address(ring.tail)
        if at >> self.address_bits or not self.memory.write(at, raw):
            self.file.change("FQCSR", sets=Fqcsr.fqmf.mask)
            return False
        self.file["FQT"] = ring.after(ring.tail)
        return True
