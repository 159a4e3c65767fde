"""What devices can be attached to: page tables that an IOAS fills, and guests' STEs on top of one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field, frozen

from viommu.kernel_errors import OutOfRangeSize
from viommu.ops import may_write
from viommu_smmuv3_cmdqv.host import commands
from viommu_smmuv3_cmdqv.host.commands import AddressSpace, Span
from viommu_smmuv3_cmdqv.host.entries import Stage2, stage1_cd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu.io_page_table import IoPageTable
    from viommu.ops import Prot
    from viommu_smmuv3_cmdqv.host.entries import Stream
    from viommu_smmuv3_cmdqv.host.master import Master
    from viommu_smmuv3_cmdqv.host.smmu import Smmu
    from viommu_smmuv3_cmdqv.host.vsmmu import NestedDomain
    from viommu_smmuv3_cmdqv.spec.commands import Command
    from viommu_smmuv3_cmdqv.spec.context_descriptor import CD


@frozen
class Place:
    """Where a page table is used: by a device's PASID (0: without one), or by a guest's stage 1 on it."""

    master: Master
    ssid: int
    nested: bool = False

    def forget(self, start: int, last: int) -> Command:
        """Have the device forget addresses; nobody can tell which of a guest's addresses lead to them."""
        if self.nested:
            return commands.forget_all_in_device(self.master.sid)
        return commands.forget_in_device(self.master.sid, self.ssid or None, start, last)


@define(eq=False, kw_only=True)
class PagingDomain:
    """A page table of the host's (`viommu.ops.PagingDomain`). ``places``: where it is used."""

    smmu: Smmu
    table: IoPageTable
    page_sizes: int
    aperture: tuple[int, int]
    granule_lg2: int
    dirty_tracking: bool = False
    nest_parent: bool = False
    coherent: bool = False
    places: list[Place] = field(factory=list)

    @property
    def space(self) -> AddressSpace:
        """By which tag caches know it."""
        raise NotImplementedError

    @property
    def spaces(self) -> Iterable[AddressSpace]:
        """All tags by which caches know it."""
        return (self.space,)

    def map(self, iova: int, pa: int, length: int, prot: Prot, largest: int | None) -> None:
        """Map a range; no cache ever remembers that nothing was there. Raises NoMemory, OutOfRangeSize (pa)."""
        bits = self.smmu.able.output_bits
        if pa + length - 1 >> bits:
            raise OutOfRangeSize("domain", "physical address", pa, f"of {bits} bits, as {self.smmu.name} has")
        self.table.map(iova, pa, length, prot, largest, self.leaf_bits(writable=may_write(prot)))

    def unmap(self, iova: int, length: int) -> None:
        """Unmap a range, and let no cache remember it; only then may its tables be used for something else."""
        gone = self.table.unmap(iova, length)
        if gone.page_lg2 is not None and self.places:
            self.forget(gone.iova, gone.length, gone.page_lg2, leaf=not gone.tables)
        gone.free()

    def physical(self, iova: int) -> int | None:
        """Translate one IOVA."""
        return self.table.physical(iova)

    def enforce_coherency(self) -> bool:
        """DMA of devices behind a root complex with CANWBS is coherent whatever they ask for: all of ours are."""
        self.coherent = True
        return True

    def leaf_bits(self, *, writable: bool) -> int:  # noqa: ARG002
        """Bits of a new leaf, besides rights."""
        return 0

    def forget(self, start: int, length: int, page_lg2: int, *, leaf: bool) -> None:
        """Have every cache forget addresses: the IOTLB first, from which devices' TLBs would fill again."""
        span = Span(start, length, page_lg2, self.granule_lg2, leaf, self.smmu.able.ranges)
        for space in self.spaces:
            self.smmu.invalidate([*span.commands(space), *self.forget_above(space)])
        self.smmu.invalidate(place.forget(start, start + length - 1) for place in self.places if place.master.ats_on)

    def forget_above(self, space: AddressSpace) -> Iterable[Command]:  # noqa: ARG002
        """Forget what stands on it: guests' stage 1."""
        return ()

    def use(self, place: Place) -> None:
        """Take note of a place, before hardware knows."""
        self.places.append(place)

    def leave(self, place: Place) -> None:
        """Forget a place, once hardware has; with the last one its tags are nowhere any more."""
        self.places.remove(place)
        if not self.places:
            self.smmu.invalidate(space.everything() for space in self.spaces)

    def free(self) -> None:
        """Give table and tag back; it is used nowhere."""
        self.table.free()


@define(eq=False, kw_only=True)
class Stage1Domain(PagingDomain):
    """A stage-1 table, named by CDs."""

    asid: int

    @property
    def space(self) -> AddressSpace:
        """Its ASID."""
        return AddressSpace(asid=self.asid, el2=self.smmu.able.el2)

    def cd(self, stream: Stream) -> CD:
        """Give the CD of a device."""
        return stage1_cd(
            stream,
            table=self.table.root,
            asid=self.asid,
            granule_lg2=self.granule_lg2,
            dirty=self.dirty_tracking,
        )

    def free(self) -> None:
        """Give table and ASID back."""
        super().free()
        with self.smmu.lock:
            self.smmu.asids.give_back(self.asid)


@define(eq=False, kw_only=True)
class Stage2Domain(PagingDomain):
    """A stage-2 table, named by STEs. ``input_bits``, ``top_level`` as Arm has them."""

    vmid: int
    input_bits: int
    top_level: int
    forced_write_back: bool = False
    guests: Counter[int] = field(factory=Counter)
    """VMIDs of guests on it that have others than its own, and how many guests have each."""

    @property
    def space(self) -> AddressSpace:
        """Its VMID."""
        return AddressSpace(vmid=self.vmid)

    @property
    def spaces(self) -> Iterable[AddressSpace]:
        """Its VMID, and those of its guests."""
        return (self.space, *(AddressSpace(vmid=vmid) for vmid in self.guests))

    @property
    def stage(self) -> Stage2:
        """The table as STEs name it."""
        return Stage2(
            self.table.root, self.vmid, self.input_bits, self.top_level, self.granule_lg2, self.forced_write_back
        )

    def forget_above(self, space: AddressSpace) -> Iterable[Command]:
        """What stage 1 gave is known by a guest's addresses: all of it goes."""
        return (commands.forget_stage1_of_vm(space.vmid),) if self.nest_parent else ()

    def free(self) -> None:
        """Give table and VMID back."""
        super().free()
        with self.smmu.lock:
            self.smmu.vmids.give_back(self.vmid)


Domain: TypeAlias = "PagingDomain | NestedDomain"
