"""From an STE and a SubstreamID to a CD: linear and two-level tables, at IPAs where stage 2 is on (IHI 0070, 3.3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from viommu.addresses import align_down
from viommu.faults import Access, FaultKind, Refusal
from viommu.formats import Context, walk
from viommu_smmuv3_cmdqv.hardware.faults import event_of
from viommu_smmuv3_cmdqv.hardware.refusals import refuse
from viommu_smmuv3_cmdqv.recording import recording_of
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD, L1CD
from viommu_smmuv3_cmdqv.spec.events import EventId
from viommu_smmuv3_cmdqv.spec.stream_table import ContextTableFormat, DefaultSubstream
from viommu_smmuv3_cmdqv.translate import forced_write_back

if TYPE_CHECKING:
    from viommu.faults import ConfigurationLog
    from viommu.formats import ArmStage2, Result
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu_smmuv3_cmdqv.features import Features
    from viommu_smmuv3_cmdqv.spec.stream_table import STE

LEAF_LG2: dict[int, int] = {ContextTableFormat.TWO_LEVEL_4K: 6, ContextTableFormat.TWO_LEVEL_64K: 10}
"""Log2 of the CDs in one leaf table of a two-level CD table."""
SMALLEST_ALIGNMENT = 64


def select_substream(ste: STE, ssid: int | None) -> int | Refusal | None:
    """Which CD of a stream with stage 1 governs a transaction; None: stage 1 is bypassed (S1DSS)."""
    if ssid is None:
        return _default_substream(ste)
    if ssid >> ste.S1CDMax or not ste.S1CDMax:
        detail = f"{1 << ste.S1CDMax} CDs" if ste.S1CDMax else "no substreams"
        return refuse(EventId.C_BAD_SUBSTREAMID, f"substream {ssid:#x} of a stream with {detail}")
    if ssid == 0 and ste.S1DSS == DefaultSubstream.SUBSTREAM_0:
        return refuse(EventId.F_STREAM_DISABLED, "substream 0 belongs to transactions without a SubstreamID")
    return ssid


def _default_substream(ste: STE) -> int | Refusal | None:
    if not ste.S1CDMax or ste.S1DSS == DefaultSubstream.SUBSTREAM_0:
        return 0
    if ste.S1DSS == DefaultSubstream.BYPASS_STAGE1:
        return None
    return refuse(EventId.F_STREAM_DISABLED, "S1DSS ends transactions without a SubstreamID")


def is_device(memory_attributes: int, *, forced: bool) -> bool:
    """Whether a stage-2 leaf's MemAttr, read as S2FWB (``forced``) says, makes the page Device memory."""
    return not memory_attributes & (0b0100 if forced else 0b1100)


@frozen
class ContextTable:
    """Reads the CDs of one stream; ``stage2`` translates the addresses of what it reads."""

    memory: PhysicalMemory
    ste: STE
    stage2: ArmStage2 | None
    features: Features
    log: ConfigurationLog

    def find_cd(self, ssid: int) -> CD | Refusal:
        """Read the CD of substream ``ssid``, or say why there is none. The CD is not checked yet."""
        address = self._cd_address(ssid)
        if isinstance(address, Refusal):
            return address
        raw = self._fetch(CD, address, f"substream {ssid:#x}")
        return raw if isinstance(raw, Refusal) else CD.decode(raw)

    def _cd_address(self, ssid: int) -> int | Refusal:
        ste = self.ste
        leaf_lg2 = LEAF_LG2.get(ste.S1Fmt) if ste.S1CDMax else None
        if leaf_lg2 is not None:
            return self._two_level(ssid, leaf_lg2)
        return align_down(ste.S1ContextPtr, CD.size << ste.S1CDMax) + ssid * CD.size

    def _two_level(self, ssid: int, leaf_lg2: int) -> int | Refusal:
        table_size = L1CD.size << max(0, self.ste.S1CDMax - leaf_lg2)
        table = align_down(self.ste.S1ContextPtr, max(SMALLEST_ALIGNMENT, table_size))
        first = ssid >> leaf_lg2 << leaf_lg2
        raw = self._fetch(L1CD, table + (ssid >> leaf_lg2) * L1CD.size, f"substreams {first:#x} and up")
        if isinstance(raw, Refusal):
            return raw
        l1cd = L1CD.decode(raw)
        if not l1cd.V:
            return refuse(EventId.C_BAD_SUBSTREAMID, f"L1CD of substream {ssid:#x} is not valid")
        leaf_size = CD.size << leaf_lg2
        return align_down(l1cd.L2PTR, leaf_size) + (ssid & (1 << leaf_lg2) - 1) * CD.size

    def _fetch(self, structure: type[Descriptor], address: int, note: str) -> bytes | Refusal:
        if self.stage2 is not None:
            pa = self._translated(structure, address)
            if isinstance(pa, Refusal):
                return pa
            note, address = f"{note}, IPA {address:#x}", pa
        raw = self.memory.read(address, structure.size)
        self.log.fetched(structure, address, raw, note)
        if raw is None:
            detail = f"{structure.__name__} at {address:#x} cannot be read"
            return refuse(EventId.F_CD_FETCH, detail, address=address)
        return raw

    def _translated(self, structure: type[Descriptor], ipa: int) -> int | Refusal:
        context = Context(stage2=self.stage2, driver_bits=int(recording_of(self.ste, None, self.features)))
        result = walk(self.memory.engine, context, ipa, Access.READ, stores=False)
        name = structure.__name__
        if result.kind != FaultKind.NONE:
            kind = FaultKind(result.kind)
            return self._stage2_fault(
                event_of(kind, result.stage), result, f"stage 2 refuses the fetch of a {name} at IPA {ipa:#x}"
            )
        if self.ste.S2PTW and is_device(result.attrs2, forced=forced_write_back(self.ste, self.features)):
            detail = f"{name} at IPA {ipa:#x} lies in Device memory (S2PTW)"
            return self._stage2_fault(EventId.F_PERMISSION, result, detail)
        return result.pa

    def _stage2_fault(self, event: EventId, result: Result, detail: str) -> Refusal:
        return evolve(refuse(event, detail), walk=result)
