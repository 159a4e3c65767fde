"""`VtdHardware`: one remapping unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import field, frozen

from viommu.faults import FaultKind, Report, Stage
from viommu_vtd.hardware import legacy, scalable
from viommu_vtd.hardware.access_bits import EXECUTES, PRIVILEGED, READS, WRITES
from viommu_vtd.hardware.capabilities import RemappingUnit
from viommu_vtd.hardware.reasons import legacy_reason, scalable_reason
from viommu_vtd.hardware.search import Search
from viommu_vtd.spec.faults import FRCD, FaultReason
from viommu_vtd.spec.registers import TranslationTableMode
from viommu_vtd.translate import INTERRUPT_RANGE, PROTECTED, SILENCED, TRANSLATED, in_interrupt_range, passing

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog, Fault, Refusal
    from viommu.formats import Context
    from viommu.hookspecs import Registers
    from viommu.memory import PhysicalMemory

PASID_KNOWN = range(FaultReason.PASID_TABLE_ACCESS, 0x100)
"""Reasons that are found once the PASID's table is: the record of an earlier one names no PASID."""


@frozen
class VtdHardware:
    """The silicon of one remapping unit (a `viommu.hookspecs.HardwareModel`)."""

    memory: PhysicalMemory
    unit: RemappingUnit
    mode: int = field(init=False)
    """The translation table mode: a `TranslationTableMode`, or a number that is none."""
    _translated: dict[bool, Context] = field(init=False, factory=dict, eq=False, repr=False)

    @mode.default
    def _mode(self) -> int:
        return self.unit.root.TTM

    @classmethod
    def of(cls, memory: PhysicalMemory, registers: Registers, *, host_address_width: int | None = None) -> VtdHardware:
        """Make one from its registers. Raises as `RemappingUnit` says, which also explains the width."""
        return cls(memory, RemappingUnit.of(registers, host_address_width))

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        """Find what governs one (source-id, PASID); see `viommu.hookspecs.HardwareModel`."""
        search = Search(self.unit, self.memory, log)
        if not self.unit.status.TES:
            log.note("GSTS.TES is 0: translation is off")
            return passing(self.unit, input_bits=64)
        refusal = self.mode_refusal(search)
        if refusal is not None:
            return refusal
        configured = scalable.configure if self._scalable else legacy.configure
        return configured(search, requester, pasid)

    def mode_refusal(self, search: Search) -> Refusal | None:
        """Refuse whatever the translation table mode refuses; None where it has tables."""
        match self.mode:
            case TranslationTableMode.LEGACY:
                return None
            case TranslationTableMode.SCALABLE if self.unit.ecap.SMTS:
                return None
            case TranslationTableMode.ABORT_DMA if self.unit.ecap.ADMS:
                return search.refuse(FaultReason.ABORT_DMA_MODE, "RTADDR.TTM aborts all DMA")
            case mode:
                return search.refuse(FaultReason.TABLE_MODE_INVALID, f"RTADDR.TTM {mode} is not one that ECAP has")

    def translated(self, *, silenced: bool) -> Context:
        """Give what governs requests whose address ATS gave: outside the interrupt range they pass."""
        found = self._translated.get(silenced)
        if found is None:
            bits = TRANSLATED | (SILENCED if silenced else 0)
            found = self._translated[silenced] = passing(self.unit, driver_bits=bits, blocked=INTERRUPT_RANGE)
        return found

    def report(self, fault: Fault) -> Report:
        """Give the reason (``0x71``) and the fault recording register, 16 bytes in memory order."""
        refusal = fault.refusal
        if refusal is not None and refusal.silent:
            return Report("abort", refusal.reason)
        reason = self.reason(fault)
        silenced = _is_silenced(fault) if refusal is None else refusal.suppressed
        name = f"{reason:#x}"
        return Report("abort", name) if silenced else Report("fault", name, _record(fault, reason).encode())

    def reason(self, fault: Fault) -> FaultReason:
        """Give the reason of a fault that is not silent."""
        if fault.refusal is not None:
            return FaultReason(fault.refusal.code)
        return scalable_reason(fault) if self._scalable else legacy_reason(fault)

    @property
    def _scalable(self) -> bool:
        return self.mode == TranslationTableMode.SCALABLE


def _is_silenced(fault: Fault) -> bool:
    return bool(fault.driver_bits & SILENCED) or is_unrecorded(fault)


def is_unrecorded(fault: Fault) -> bool:
    """Whether hardware records no fault of this kind at all.

    These are what protected memory refuses (11.4.16), and translated requests to the interrupt range (3.14).
    """
    if in_interrupt_range(fault.iova):
        return bool(fault.driver_bits & TRANSLATED)
    before_tables = fault.kind is FaultKind.PERMISSION and fault.stage is Stage.NONE
    return before_tables and bool(fault.driver_bits & PROTECTED)


def _record(fault: Fault, reason: FaultReason) -> FRCD:
    """T and T2 tell the access: read, write, or both as an atomic operation has it."""
    access = int(fault.access)
    read, write = access & READS, access & WRITES
    pasid = fault.pasid if reason in PASID_KNOWN else None
    return FRCD(
        FI=fault.iova & FRCD.FI.maximum,
        SID=fault.requester,
        T2=int(bool(read and write)),
        PRIV=int(pasid is not None and bool(access & PRIVILEGED)),
        EXE=int(pasid is not None and bool(access & EXECUTES)),
        PP=int(pasid is not None),
        FR=reason,
        PASID=pasid or 0,
        T=int(bool(read)),
        F=1,
    )
