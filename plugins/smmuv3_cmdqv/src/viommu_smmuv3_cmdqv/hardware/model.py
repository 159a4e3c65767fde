"""The silicon of one SMMU: from (StreamID, SubstreamID) to a Context, and from a fault to its event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.faults import FaultKind, Refusal, Report
from viommu_smmuv3_cmdqv import translate
from viommu_smmuv3_cmdqv.hardware.context import ContextTable, select_substream
from viommu_smmuv3_cmdqv.hardware.legality import cd_complaint, ste_complaint
from viommu_smmuv3_cmdqv.hardware.recording import Recording, recording_of
from viommu_smmuv3_cmdqv.hardware.refusals import abort, refuse
from viommu_smmuv3_cmdqv.hardware.report import report_fault, report_refusal
from viommu_smmuv3_cmdqv.hardware.stream import find_ste
from viommu_smmuv3_cmdqv.spec.events import EventId
from viommu_smmuv3_cmdqv.spec.stream_table import InstructionOverride, PrivilegeOverride, StreamConfig

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog, Fault
    from viommu.formats import Context
    from viommu.memory import PhysicalMemory
    from viommu_smmuv3_cmdqv.features import Features
    from viommu_smmuv3_cmdqv.spec.stream_table import STE

REMEMBERED = 65536
"""How many (stream, substream) pairs' recording policies are kept: as many as the engine keeps Contexts."""


class _Unheard:
    """A log that nobody reads."""

    def fetched(self, structure: type, address: int, raw: bytes | None, note: str = "") -> None:
        """Forget it."""

    def note(self, text: str) -> None:
        """Forget it."""


@define
class Smmuv3:
    """An SMMUv3's translation side, Non-secure state, AArch64 tables.

    Its only state is what a configuration cache would hold beside the Context: whether faults of a (stream,
    substream) are recorded, as its CD and STE said when they were last read.
    """

    memory: PhysicalMemory
    features: Features
    _recording: dict[tuple[int, int | None], Recording] = field(factory=dict, init=False, repr=False)

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        """Find what governs one (StreamID, SubstreamID), as `viommu.hookspecs.HardwareModel` promises."""
        if not self.features.cr0.SMMUEN:
            return self._disabled(log)
        ste = find_ste(self.memory, self.features, requester, log)
        if isinstance(ste, Refusal):
            return ste
        if not ste.V:
            return refuse(EventId.C_BAD_STE, "V is 0")
        if ste.Config < StreamConfig.BYPASS:
            return abort("STE.Config", f"Config {int(ste.Config)} ends every transaction")
        complaint = ste_complaint(ste, self.features)
        if complaint is not None:
            return refuse(EventId.C_BAD_STE, complaint)
        return self._stream(ste, requester, pasid, log)

    def report(self, fault: Fault) -> Report:
        """Say of a refused access what the SMMU would record."""
        if not self.features.cr0.SMMUEN and fault.kind is FaultKind.INPUT_SIZE:
            return Report("abort", "CR0.SMMUEN")
        recording = self._recording_of(fault.requester, fault.pasid)
        if fault.refusal is not None:
            return report_refusal(fault, fault.refusal, recording)
        return report_fault(fault, recording)

    def _disabled(self, log: ConfigurationLog) -> Context | Refusal:
        if self.features.gbpa.ABORT:
            return abort("GBPA.ABORT", "the SMMU is disabled and GBPA.ABORT ends every transaction")
        log.note("the SMMU is disabled: bypass, as GBPA says")
        return translate.bypass(self.features)

    def _stream(self, ste: STE, sid: int, ssid: int | None, log: ConfigurationLog) -> Context | Refusal:
        self._note_overrides(ste, log)
        self._remember(sid, ssid, recording_of(ste, None))
        if not ste.Config & 1:
            if ssid is not None:
                return refuse(EventId.C_BAD_SUBSTREAMID, f"substream {ssid:#x} of a stream without stage 1")
            log.note("stage 1 is off" if ste.Config & 2 else "Config 4: bypass")
            return translate.translation(ste, None, translate.stage2_of(ste, self.features), self.features)
        return self._with_stage1(ste, sid, ssid, log)

    def _with_stage1(self, ste: STE, sid: int, ssid: int | None, log: ConfigurationLog) -> Context | Refusal:
        stage2 = translate.stage2_of(ste, self.features)
        substream = select_substream(ste, ssid)
        if isinstance(substream, Refusal):
            return substream
        if substream is None:
            log.note("S1DSS: stage 1 is bypassed without a SubstreamID")
            return translate.translation(ste, None, stage2, self.features)
        cd = ContextTable(self.memory, ste, stage2, self.features, log).find_cd(substream)
        if isinstance(cd, Refusal):
            return cd
        complaint = cd_complaint(cd, ste, self.features)
        if complaint is not None:
            return refuse(EventId.C_BAD_CD, complaint)
        self._remember(sid, ssid, recording_of(ste, cd))
        return translate.translation(ste, cd, stage2, self.features)

    def _note_overrides(self, ste: STE, log: ConfigurationLog) -> None:
        if not self.features.idr1.ATTR_PERMS_OVR:
            return
        if ste.PRIVCFG in (PrivilegeOverride.UNPRIVILEGED, PrivilegeOverride.PRIVILEGED):
            log.note(f"PRIVCFG {int(ste.PRIVCFG)} is not applied: accesses keep their own privilege")
        if ste.INSTCFG in (InstructionOverride.DATA, InstructionOverride.INSTRUCTION):
            log.note(f"INSTCFG {int(ste.INSTCFG)} is not applied: accesses stay data or instruction")

    def _remember(self, sid: int, ssid: int | None, recording: Recording) -> None:
        if len(self._recording) >= REMEMBERED:
            self._recording.clear()
        self._recording[sid, ssid] = recording

    def _recording_of(self, sid: int, ssid: int | None) -> Recording:
        known = self._recording.get((sid, ssid))
        if known is None:
            self.configure(sid, ssid, _Unheard())
            known = self._recording.get((sid, ssid), Recording())
        return known
