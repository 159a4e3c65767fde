"""One device behind an SMMU, as the SMMU's driver knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.kernel_errors import OutOfRangeSize
from viommu_smmuv3_cmdqv.host import commands, entries
from viommu_smmuv3_cmdqv.host.abilities import LARGEST_LINEAR_CDMAX
from viommu_smmuv3_cmdqv.host.entries import Stream
from viommu_smmuv3_cmdqv.host.entry_writer import write_cd, write_ste
from viommu_smmuv3_cmdqv.host.tables import CD_LEAF_LG2, CdTable
from viommu_smmuv3_cmdqv.spec.context_descriptor import CD
from viommu_smmuv3_cmdqv.spec.stream_table import STE

if TYPE_CHECKING:
    from viommu.objects.physical import PhysicalDevice
    from viommu_smmuv3_cmdqv.host.domain import Domain
    from viommu_smmuv3_cmdqv.host.smmu import Smmu
    from viommu_smmuv3_cmdqv.host.vsmmu import VirtualMaster

NO_PASID = 0


@define(eq=False, repr=False)
class Master:
    """A device with one StreamID. ``ats``, ``stalls``, ``ssid_bits``: what it has and its SMMU allows.

    ``attached``: domains by PASID, 0 that of transactions without one. ``ats_on``: the device asks for translations.
    ``virtual``: whose events a guest is to see.
    """

    physical: PhysicalDevice
    smmu: Smmu
    sid: int
    ats: bool = False
    stalls: bool = False
    ssid_bits: int = 0
    ats_on: bool = False
    table: CdTable | None = None
    attached: dict[int, Domain] = field(factory=dict)
    virtual: VirtualMaster | None = None

    def __repr__(self) -> str:
        return f"<Master {self.name!r}, StreamID {self.sid:#x}>"

    @classmethod
    def of(cls, physical: PhysicalDevice, smmu: Smmu) -> Master:
        """Say what of a device's features its SMMU allows."""
        features, able = physical.features, smmu.able
        stalls = bool(able.forces_stalls or (able.stalls and features.stalls))
        ssid_bits = min(features.pasid_bits, able.ssid_bits)
        if not able.idr0.CD2L:
            ssid_bits = min(ssid_bits, LARGEST_LINEAR_CDMAX)
        # An access that waits must not be an answer to ATS.
        ats = bool(features.ats and able.idr0.ATS and not stalls)
        return cls(physical, smmu, physical.requester, ats, stalls, ssid_bits)

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.physical.name

    def probe(self) -> None:
        """Let the SMMU know it; its stream aborts. Raises OutOfRangeSize, NoMemory."""
        smmu = self.smmu
        if self.sid >> smmu.able.sid_bits:
            raise OutOfRangeSize(self.name, "StreamID", self.sid, f"below {1 << smmu.able.sid_bits:#x}")
        with smmu.lock:
            if smmu.streams.add(self.sid):
                smmu.queue.submit([commands.forget_ste(self.sid, leaf=False)])
            smmu.masters[self.sid] = self

    def release(self) -> None:
        """Let the SMMU forget it; nothing is attached."""
        with self.smmu.lock:
            self.install(entries.ABORTS)
            del self.smmu.masters[self.sid]
            if self.table is not None:
                self.table.free()
                self.table = None

    @property
    def stream(self) -> Stream:
        """What STEs say of it now."""
        return Stream(self.smmu.able, stalls=self.stalls, ats=self.ats_on)

    # --- structures

    @property
    def ste(self) -> STE:
        """Its STE, as memory has it."""
        raw = self.smmu.memory.read(self.smmu.streams.ste(self.sid), STE.size)
        return STE.decode(raw or bytes(STE.size))

    def install(self, ste: STE) -> None:
        """Change its STE."""

        def sync() -> None:
            self.smmu.queue.submit([commands.forget_ste(self.sid)])

        write_ste(self.smmu.memory, self.smmu.streams.ste(self.sid), ste, sync)

    def make_room(self, ssid: int) -> CdTable:
        """Give its CD table, with room for the CD of an SSID. Raises NoMemory."""
        table = self.table
        if table is None:
            two_level = bool(self.smmu.able.idr0.CD2L) and self.ssid_bits > CD_LEAF_LG2
            table = self.table = CdTable(self.smmu.memory, self.smmu.frames, self.ssid_bits, two_level)
        if table.add(ssid) and self._uses_table:
            self.smmu.queue.submit([commands.forget_cd(self.sid, ssid, leaf=False)])
        return table

    def write_cd(self, ssid: int, cd: CD) -> None:
        """Change a CD that there is room for."""
        table = self.make_room(ssid)

        def sync() -> None:
            self.smmu.queue.submit([commands.forget_cd(self.sid, ssid)])

        write_cd(self.smmu.memory, table.cd(ssid), cd, sync)
        table.used.add(ssid)

    def clear_cd(self, ssid: int) -> None:
        """Make a CD invalid, if it is not."""
        if self.table is not None and ssid in self.table.used:
            self.write_cd(ssid, CD())
            self.table.used.remove(ssid)

    @property
    def has_substreams(self) -> bool:
        """Whether PASIDs are attached."""
        return self.table is not None and self.table.has_substreams

    @property
    def _uses_table(self) -> bool:
        ste = self.ste
        return bool(ste.V and self.table is not None and ste.Config & 1 and ste.S1ContextPtr == self.table.address)

    # --- its own TLB

    def forget_device_tlb(self, ssid: int | None = None) -> None:
        """Empty it, or drop what it has of one PASID."""
        self.smmu.queue.submit([commands.forget_all_in_device(self.sid, ssid)])
