"""What a device table entry decides for one access, check by check (AMD 48882, 2.2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from viommu.faults import Refusal
from viommu.formats import Context
from viommu_amd_viommu import translate
from viommu_amd_viommu.hardware.attribution import attribution
from viommu_amd_viommu.hardware.guest_root import GuestRoots
from viommu_amd_viommu.hardware.refusals import BAD_ENCODING, NOT_PRESENT, RESERVED, illegal_entry, page_fault

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog
    from viommu.memory import PhysicalMemory
    from viommu_amd_viommu.hardware.refusals import EventRefusal
    from viommu_amd_viommu.hardware.settings import Settings
    from viommu_amd_viommu.spec.device_table import DTE

_LOWER_HALF = (1 << 128) - 1
_MODE_RESERVED = 7


@frozen
class Decision:
    """One device table entry, asked for one PASID (None: a request without)."""

    memory: PhysicalMemory
    settings: Settings
    entry: DTE
    pasid: int | None
    log: ConfigurationLog

    def outcome(self) -> Context | EventRefusal:
        """The first check that fails refuses; V=0 forwards."""
        found = self._checked()
        if isinstance(found, Refusal):
            return evolve(found, attribution=attribution(self.entry, self.pasid))
        return found

    def _checked(self) -> Context | EventRefusal:
        if not self.entry.V:
            self.log.note("DTE.V=0: forwarded untranslated")
            return translate.UNTRANSLATED
        if refusal := self.reserved_bits():
            return refusal
        self._tell_exclusion()
        if not self.entry.TV:
            return _blocked()
        return self._bad_encoding() or self._beyond_hardware() or self._translated()

    def before_tables(self) -> EventRefusal | None:
        """What refuses any request of the device: the checks that come before those of ATS."""
        refusal = self.reserved_bits()
        if refusal is None and not self.entry.TV:
            refusal = _blocked()
        return None if refusal is None else evolve(refusal, attribution=attribution(self.entry, self.pasid))

    def reserved_bits(self) -> EventRefusal | None:
        """IV tells whether the upper half means anything, as V does for the lower one."""
        checked = self.entry.reserved_set if self.entry.IV else self.entry.reserved_set & _LOWER_HALF
        return illegal_entry(RESERVED, f"DTE has reserved bits set: {checked:#x}") if checked else None

    def _tell_exclusion(self) -> None:
        for start, last in self.settings.exclusion_for(self.entry):
            self.log.note(f"exclusion range {start:#x}-{last:#x}: forwarded untranslated")

    def _untranslated_input(self) -> tuple[tuple[int, int], ...]:
        """Ranges that no table is asked about."""
        interrupts = self.pasid is None and translate.interrupts_pass(self.entry)
        return (*self.settings.exclusion_for(self.entry), *([translate.INTERRUPT_RANGE] if interrupts else []))

    def _bad_encoding(self) -> EventRefusal | None:
        entry, settings = self.entry, self.settings
        if entry.Mode == _MODE_RESERVED:
            return illegal_entry(BAD_ENCODING, "DTE.Mode=7 is reserved")
        if not entry.GV:
            return None
        if not settings.guest_translation:
            return illegal_entry(RESERVED, "DTE.GV=1 needs Control.GTEn=1 and EFR.GT=1")
        if settings.gcr3_levels <= entry.GLX:
            return illegal_entry(BAD_ENCODING, f"DTE.GLX={entry.GLX} is above {settings.gcr3_levels - 1}")
        if translate.guest_levels(entry) > settings.guest_levels:
            return illegal_entry(
                BAD_ENCODING, f"DTE.GuestPagingMode={entry.GuestPagingMode:d} is above {settings.guest_levels - 4}"
            )
        return None

    def _beyond_hardware(self) -> EventRefusal | None:
        if self.entry.Mode > self.settings.host_levels:
            return page_fault(BAD_ENCODING, f"DTE.Mode={self.entry.Mode} is above {self.settings.host_levels}")
        if self.pasid is not None and not self.entry.GV:
            return page_fault(NOT_PRESENT, f"PASID {self.pasid:#x}: DTE.GV=0, the device has no guest tables")
        return None

    def _translated(self) -> Context | EventRefusal:
        pasid = translate.guest_pasid(self.entry, self.pasid)
        if pasid is not None:
            return self._by_guest_tables(pasid)
        self.log.note(_host_note(self.entry))
        return Context(
            stage2=translate.host_tables(self.entry, self.settings),
            stage2_tag=self.entry.DomainID,
            rights=translate.root_rights(self.entry),
            untranslated_input=self._untranslated_input(),
            driver_bits=int(attribution(self.entry, self.pasid)),
        )

    def _by_guest_tables(self, pasid: int) -> Context | EventRefusal:
        roots = GuestRoots(
            memory=self.memory,
            table=self.entry.GCR3,
            levels=self.entry.GLX + 1,
            pasid_bits=self.settings.pasid_bits(self.entry.GLX + 1),
            behind=translate.host_tables_for_configuration(self.entry) if self.settings.control.GCR3TRPMode else None,
        )
        root = roots.find(pasid, self.log)
        if isinstance(root, Refusal):
            return root
        self.log.note(f"guest tables of PASID {pasid:#x}, {translate.guest_levels(self.entry)} levels")
        self.log.note(_host_note(self.entry))
        return Context(
            stage1=translate.guest_tables(root, self.entry, self.settings, sign_extended=self.pasid is not None),
            stage2=translate.host_tables(self.entry, self.settings),
            stage1_tag=pasid,
            stage2_tag=self.entry.DomainID,
            rights=translate.root_rights(self.entry),
            untranslated_input=self._untranslated_input(),
            driver_bits=int(attribution(self.entry, self.pasid)),
        )


def _blocked() -> EventRefusal:
    return page_fault(NOT_PRESENT, "DTE.TV=0: DMA is blocked")


def _host_note(entry: DTE) -> str:
    if entry.Mode:
        return f"host tables, {entry.Mode} levels, DomainID {entry.DomainID:#x}"
    return "DTE.Mode=0: no host tables"
