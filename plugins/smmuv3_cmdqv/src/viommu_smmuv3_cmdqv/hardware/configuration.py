"""From (StreamID, SubstreamID) to a Context, by reading the structures in memory (IHI 0070, chapter 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from viommu.faults import Refusal
from viommu_smmuv3_cmdqv import translate
from viommu_smmuv3_cmdqv.hardware.context import ContextTable, select_substream
from viommu_smmuv3_cmdqv.hardware.legality import cd_complaint, ste_complaint
from viommu_smmuv3_cmdqv.hardware.refusals import abort, refuse
from viommu_smmuv3_cmdqv.hardware.stream import find_ste
from viommu_smmuv3_cmdqv.spec.events import EventId
from viommu_smmuv3_cmdqv.spec.stream_table import StreamConfig

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog
    from viommu.formats import ArmStage2, Context
    from viommu.memory import PhysicalMemory
    from viommu_smmuv3_cmdqv.features import Features
    from viommu_smmuv3_cmdqv.spec.stream_table import STE


@frozen
class Configuration:
    """What the structures in memory say under one state of the registers: Non-secure state, AArch64 tables."""

    memory: PhysicalMemory
    features: Features

    def configure(self, requester: int, pasid: int | None, log: ConfigurationLog) -> Context | Refusal:
        """Find what governs one (StreamID, SubstreamID), as `viommu.hookspecs.HardwareModel` promises."""
        if not self.features.cr0.SMMUEN:
            return self.disabled(log)
        ste = self.stream(requester, log)
        if isinstance(ste, Refusal):
            return ste
        if ste.Config < StreamConfig.BYPASS:
            return abort("STE.Config", f"Config {int(ste.Config)} ends every transaction")
        return self._stream(ste, pasid, log)

    def stream(self, requester: int, log: ConfigurationLog) -> STE | Refusal:
        """Find the STE of one StreamID: one that is legal, or lets nothing pass."""
        ste = find_ste(self.memory, self.features, requester, log)
        if isinstance(ste, Refusal):
            return ste
        if not ste.V:
            return refuse(EventId.C_BAD_STE, "V is 0")
        complaint = ste_complaint(ste, self.features) if ste.Config >= StreamConfig.BYPASS else None
        return ste if complaint is None else refuse(EventId.C_BAD_STE, complaint)

    def disabled(self, log: ConfigurationLog) -> Context | Refusal:
        """What becomes of a transaction while CR0.SMMUEN is 0 (GBPA)."""
        if self.features.gbpa.ABORT:
            return abort("GBPA.ABORT", "the SMMU is disabled and GBPA.ABORT ends every transaction")
        log.note("the SMMU is disabled: bypass, as GBPA says")
        return translate.disabled(self.features)

    def _stream(self, ste: STE, ssid: int | None, log: ConfigurationLog) -> Context | Refusal:
        stage2 = translate.stage2_of(ste, self.features)
        if not ste.Config & 1:
            if ssid is not None:
                return refuse(EventId.C_BAD_SUBSTREAMID, f"substream {ssid:#x} of a stream without stage 1")
            log.note("no stage translates" if stage2 is None else "stage 1 is off")
            return translate.without_stage1(ste, stage2, self.features)
        substream = select_substream(ste, ssid)
        if isinstance(substream, Refusal):
            return substream
        if substream is None:
            log.note("S1DSS: stage 1 is bypassed without a SubstreamID")
            return translate.without_stage1(ste, stage2, self.features)
        return self._with_stage1(ste, substream, stage2, log)

    def _with_stage1(
        self, ste: STE, substream: int, stage2: ArmStage2 | None, log: ConfigurationLog
    ) -> Context | Refusal:
        cd = ContextTable(self.memory, ste, stage2, self.features, log).find_cd(substream)
        if isinstance(cd, Refusal):
            return cd
        complaint = cd_complaint(cd, ste, self.features)
        if complaint is not None:
            return refuse(EventId.C_BAD_CD, complaint)
        return translate.with_stage1(ste, cd, stage2, self.features)
