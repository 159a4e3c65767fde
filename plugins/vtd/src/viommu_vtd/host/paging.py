"""Paging domains: a first-stage or second-stage table that an IOAS fills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu.kernel_errors import Invalid
from viommu.ops import may_write
from viommu_vtd.host import entries, pasid_entries
from viommu_vtd.host.abilities import PAGE_1G, PAGE_2M
from viommu_vtd.host.domain import Domain, Drop
from viommu_vtd.host.frames import install
from viommu_vtd.host.requests import Pages, context_of_device, iotlb_of_domain

if TYPE_CHECKING:
    from viommu.memory import PhysicalMemory
    from viommu.ops import Prot
    from viommu_vtd.host.abilities import Abilities
    from viommu_vtd.host.device import HostDevice
    from viommu_vtd.host.nested import NestedDomain
    from viommu_vtd.host.table import Table


SNP = 1 << 11
"""Of a second-stage leaf."""


@define(eq=False, kw_only=True)
class PagingDomain(Domain):
    """A page table of the host (`viommu.ops.PagingDomain`). ``tracking``: writes are noted now."""

    table: Table
    page_sizes: int
    aperture: tuple[int, int]
    dirty_tracking: bool = False
    nest_parent: bool = False
    tracking: bool = False
    snoop: bool = False
    mapped: bool = False
    """Something was mapped once."""

    def map(self, iova: int, pa: int, length: int, prot: Prot, largest: int | None) -> None:
        """Map a range. Raises Invalid (prot), NoMemory."""
        self.check_prot(prot)
        self.table.map(iova, pa, length, prot, largest, self.leaf_bits)
        self.mapped = True
        self.appeared(Pages.around(iova, iova + length - 1))

    def unmap(self, iova: int, length: int) -> None:
        """Unmap a range, and let no cache remember it; only then may its tables be used for something else."""
        gone = self.table.unmap(iova, length)
        if self.tags:
            self.drop(Drop(Pages.around(iova, iova + length - 1), leaf_only=not gone.tables))
        gone.free()

    @property
    def leaf_bits(self) -> int:
        """Bits of every new leaf, besides rights."""
        return 0

    def physical(self, iova: int) -> int | None:
        """Translate one IOVA."""
        return self.table.physical(iova)

    def enforce_coherency(self) -> bool:
        """Make all DMA snoop, if every unit that it is used in can."""
        if not all(unit.able.snoop_control for unit in self.units):
            return False
        return self.force_snooping()

    def check_prot(self, prot: Prot) -> None:
        """Refuse rights that the table cannot have. Raises Invalid."""

    def force_snooping(self) -> bool:
        """Make all DMA snoop; whether that could be done."""
        raise NotImplementedError

    def check(self, able: Abilities) -> None:
        """Refuse a unit that this table does not fit. Raises Invalid."""
        raise NotImplementedError

    def install(self, device: HostDevice, pasid: int, domain: int) -> None:
        """Let the table govern a device's PASID. Raises Busy, NoMemory."""
        raise NotImplementedError

    def free(self) -> None:
        """Give the table back; nothing is attached."""
        self.table.free()


@define(eq=False, kw_only=True)
class FirstStageDomain(PagingDomain):
    """First stage, as a CPU has it: what is mapped can be read."""

    by_first_stage = True
    levels: int

    def force_snooping(self) -> bool:
        """Set PGSNP in every entry that names the table."""
        self.snoop = True
        for device, pasid in self.devices:
            pasid_entries.set_snoop(device, pasid)
        return True

    def check(self, able: Abilities) -> None:
        """Refuse a unit without first stage, 1 GiB pages or 5 levels where the table has them."""
        if not able.first_stage:
            raise Invalid("first-stage domain", "unit", bound="one with first stage, in scalable mode")
        _check_sizes(self.page_sizes, able.first_stage_pages, "first-stage domain")
        if self.levels > able.first_stage_levels:
            raise Invalid("first-stage domain", "levels", self.levels, f"at most {able.first_stage_levels}")

    def install(self, device: HostDevice, pasid: int, domain: int) -> None:
        """Install a PASID table entry."""
        entry = entries.first_stage(device.unit.able, domain, self.table.root, levels=self.levels, snoop=self.snoop)
        pasid_entries.set_up(device, pasid, entry)


@define(eq=False, kw_only=True)
class SecondStageDomain(PagingDomain):
    """Second stage. ``nested`` are the guests' tables that stand on it."""

    memory: PhysicalMemory
    width: int
    bits: int
    nested: list[NestedDomain] = field(factory=list)

    def check_prot(self, prot: Prot) -> None:
        """A nesting parent takes nothing read-only: hardware with erratum 772415 would write to it nevertheless."""
        if self.nest_parent and not may_write(prot):
            raise Invalid("nesting parent", "prot", int(prot), "writable (erratum 772415)")

    @property
    def leaf_bits(self) -> int:
        """SNP, where all DMA is to snoop."""
        return SNP if self.snoop else 0

    def force_snooping(self) -> bool:
        """Set SNP in every leaf, which must be decided before there is one."""
        if self.mapped and not self.snoop:
            return False
        self.snoop = True
        return True

    def check(self, able: Abilities) -> None:
        """Refuse a unit that lacks what the table uses."""
        what = "second-stage domain"
        if self.snoop and not able.snoop_control:
            raise Invalid(what, "snoop control", bound="a unit that has it (ECAP.SC)")
        if self.dirty_tracking and not able.dirty:
            raise Invalid(what, "dirty tracking", bound="a unit that has it (ECAP.SSADS)")
        if self.nest_parent and not able.nested:
            raise Invalid(what, "nesting", bound="a unit that has it (ECAP.NEST)")
        if not able.second_stage:
            raise Invalid(what, "unit", bound="one with second stage (ECAP.SSTS)")
        if able.address_bits < self.bits:
            raise Invalid(what, "address width", self.bits, f"at most MGAW, {able.address_bits} bits")
        if not able.cap.SAGAW >> self.width & 1:
            raise Invalid(what, "AW", self.width, f"one of CAP.SAGAW {able.cap.SAGAW:#x}")
        _check_sizes(self.page_sizes, able.second_stage_pages, what)

    @property
    def stage(self) -> entries.SecondStage:
        """The table as entries name it."""
        return entries.SecondStage(self.table.root, self.width, self.tracking)

    def install(self, device: HostDevice, pasid: int, domain: int) -> None:
        """Install a PASID table entry, or a context entry in legacy mode."""
        if device.unit.able.scalable:
            pasid_entries.set_up(device, pasid, entries.second_stage(device.unit.able, domain, self.stage))
            return
        install(device.unit.memory, device.context_entry(), entries.legacy_context(domain, self.stage, ats=device.ats))
        if device.unit.caching_mode:
            device.unit.submit([context_of_device(0, device.source), iotlb_of_domain(domain)])

    def set_tracking(self, enable: bool) -> None:
        """Note writes, or no more, by devices that are attached to it and to what stands on it."""
        self.tracking = enable
        for domain in (self, *self.nested):
            for device, pasid in domain.devices:
                pasid_entries.set_dirty(device, pasid, enable=enable)


def _check_sizes(used: int, known: int, what: str) -> None:
    for size in (PAGE_2M, PAGE_1G):
        if used & size and not known & size:
            raise Invalid(what, "page size", size, f"one of {known:#x}")
