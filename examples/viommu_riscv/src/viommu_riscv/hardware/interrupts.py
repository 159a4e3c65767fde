"""Interrupts: a pending bit for each cause, signalled by a wire or a message (ipsr, icvec, msi_cfg_tbl)."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from attrs import define, field, frozen
from viommu.platform import Interrupt

from viommu_riscv.hardware.register_map import CQCSR_CLEARS, FQCSR_CLEARS, PQCSR_CLEARS
from viommu_riscv.spec.registers import Cqcsr, Fctl, Fqcsr, Icvec, Ipsr, MsiVectorControl, Pqcsr

if TYPE_CHECKING:
    from collections.abc import Callable

    from viommu.platform import Platform
    from viommu.registers import RegisterFile


@frozen
class Source:
    """A cause. It is due while ``enable`` and one of ``errors`` are set in the register ``control``."""

    name: str
    pending: int
    control: str
    enable: int
    errors: int
    vector: str


COMMANDS = Source("command queue", Ipsr.cip.mask, "CQCSR", Cqcsr.cie.mask, CQCSR_CLEARS, "civ")
FAULTS = Source("fault queue", Ipsr.fip.mask, "FQCSR", Fqcsr.fie.mask, FQCSR_CLEARS, "fiv")
PAGE_REQUESTS = Source("page-request queue", Ipsr.pip.mask, "PQCSR", Pqcsr.pie.mask, PQCSR_CLEARS, "piv")
SOURCES = (COMMANDS, FAULTS, PAGE_REQUESTS)


@define(eq=False, repr=False)
class Interrupts:
    """Sets pending bits, and signals each that becomes set. ``unsent`` is told of a message that cannot be sent."""

    file: RegisterFile
    platform: Platform
    address_bits: int
    unsent: Callable[[int], None]
    _masked: set[int] = field(factory=set)
    """Vectors with a message that waits for its mask to go."""
    _lock: Lock = field(factory=Lock)

    def new_entry(self, source: Source) -> None:
        """Software has something to read in this source's queue."""
        if self.file[source.control] & source.enable:
            self._raise(source)

    def update(self) -> None:
        """Set what errors keep pending, whether they are new or software has just cleared the bit."""
        for source in SOURCES:
            control = self.file[source.control]
            if control & source.enable and control & source.errors:
                self._raise(source)

    def unmasked(self, vector: int) -> None:
        """Send what waited for a vector's mask to go."""
        with self._lock:
            waited = vector in self._masked and not self._is_masked(vector)
            if waited:
                self._masked.remove(vector)
        if waited:
            self._send("masked", vector)

    def _raise(self, source: Source) -> None:
        with self._lock:
            if self.file["IPSR"] & source.pending:
                # Software has been told. Were the bit set once more, software that clears it just now would find it
                # set, with no interrupt for it, and none ever after.
                return
            self.file.change("IPSR", sets=source.pending)
            vector: int = getattr(self.file.decoded("ICVEC", Icvec), source.vector)
            wired = bool(self.file.decoded("FCTL", Fctl).WSI)
            waits = not wired and self._is_masked(vector)
            if waits:
                self._masked.add(vector)
        if wired:
            self.platform.interrupt(Interrupt(source.name))
        elif not waits:
            self._send(source.name, vector)

    def _is_masked(self, vector: int) -> bool:
        return bool(self.file.decoded(f"MSI_VEC_CTL_{vector}", MsiVectorControl).M)

    def _send(self, name: str, vector: int) -> None:
        address, data = self.file[f"MSI_ADDR_{vector}"], self.file[f"MSI_DATA_{vector}"]
        if address >> self.address_bits:
            self.unsent(address)
        else:
            self.platform.interrupt(Interrupt(name, address, data))
