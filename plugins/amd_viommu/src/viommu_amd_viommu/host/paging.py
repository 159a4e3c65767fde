"""Paging domains: host tables (v1) and guest tables of the host's making (v2), filled by an IOAS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu import table_shapes
from viommu.io_page_table import IoPageTable
from viommu.kernel_errors import Unsupported
from viommu.ops import DomainFlags
from viommu_amd_viommu.host import tags
from viommu_amd_viommu.host.domain import Domain
from viommu_amd_viommu.host.entries import HostStage
from viommu_amd_viommu.host.ranges import Pages

if TYPE_CHECKING:
    from viommu.ops import Prot, UserData
    from viommu_amd_viommu.host.abilities import Abilities
    from viommu_amd_viommu.host.guests.hardware_slice import GuestSlice
    from viommu_amd_viommu.host.unit import Unit

NO_FLAGS = DomainFlags(0)
FLAGS = DomainFlags.NEST_PARENT | DomainFlags.DIRTY_TRACKING | DomainFlags.PASID

FOUR_LEVEL_BITS, FIVE_LEVEL_BITS = 47, 56
"""What guest tables translate without sign extension: the lower half of what they reach with it."""


@define(eq=False, repr=False, kw_only=True)
class PagingDomain(Domain):
    """A page table of the host (`viommu.ops.PagingDomain`)."""

    table: IoPageTable
    page_sizes: int
    aperture: tuple[int, int]
    dirty_tracking: bool = False

    def map(self, iova: int, pa: int, length: int, prot: Prot, largest: int | None) -> None:
        """Map a range. Raises NoMemory. Absent entries are cached by no hardware that is modelled (NpCache=0)."""
        self.table.map(iova, pa, length, prot, largest)

    def unmap(self, iova: int, length: int) -> None:
        """Unmap a range, and let no cache remember it; only then may tables that went be used for something else."""
        gone = self.table.unmap(iova, length)
        directories = bool(gone.tables) or self.leads_to_guests
        tags.drop(self.tags, Pages.around(iova, iova + length - 1), directories=directories)
        gone.free()

    @property
    def leads_to_guests(self) -> bool:
        """Whether guests' tables lie behind it: caches of what leads to these go with any page."""
        return False

    def physical(self, iova: int) -> int | None:
        """Translate one IOVA."""
        return self.table.physical(iova)

    def enforce_coherency(self) -> bool:
        """Host tables have FC in every leaf. Guest tables cannot have it, and Linux says yes nevertheless."""
        return True

    def free(self) -> None:
        """Give the table back; nothing is attached."""
        self.table.free()


@define(eq=False, repr=False, kw_only=True)
class HostTables(PagingDomain):
    """Host (v1) tables. ``tracking``: writes are noted now."""

    levels: int
    nest_parent: bool = False
    tracking: bool = False
    nested: list[Domain] = field(factory=list)
    """Guests' tables that stand on it."""
    slices: list[GuestSlice] = field(factory=list)
    """Guests whose memory it is, where hardware runs their IOMMUs."""

    @property
    def leads_to_guests(self) -> bool:
        """Whether guests' GCR3 tables may lie in its pages."""
        return bool(self.nested)

    def writable(self, iova: int) -> int | None:
        """Translate one IOVA, where devices may write."""
        leaf, write = self.table.leaf(iova), self.table.shape.rights[2]
        return leaf.pa if leaf is not None and leaf.entry & write else None

    @property
    def stage(self) -> HostStage:
        """The table as entries name it."""
        return HostStage(self.table.root, self.levels, self.tracking)

    def set_tracking(self, enable: bool) -> None:
        """Note writes, or no more, by every device that is under the table.

        Caches forget what they know to be dirty already, so that the next write is noted.
        """
        self.tracking = enable
        for domain in (self, *self.nested):
            for device, _ in domain.devices:
                device.update_entry()
        for guest in self.slices:
            guest.update_entry()
        tags.drop(self.tags)


@define(eq=False, repr=False, kw_only=True)
class GuestTables(PagingDomain):
    """Guest (v2) tables, which GCR3 tables lead to. ``five_levels``: as deep as all of the IOMMU's."""

    five_levels: bool


def make(unit: Unit, flags: DomainFlags, data: UserData | None) -> PagingDomain:
    """Make a domain for what it is wanted for (Linux: amd_iommu_domain_alloc_paging_flags).

    Raises Unsupported, NoMemory.
    """
    able = unit.able
    if flags & ~FLAGS or data is not None:
        raise Unsupported("AMD domain", "flags", int(flags), f"of {int(FLAGS):#x}, and no driver data")
    if DomainFlags.PASID in flags:
        _check_pasid(able, flags)
        return guest_tables(unit)
    if not flags and not able.host_tables:
        return guest_tables(unit)
    _check_host_flags(able, flags)
    return host_tables(unit, flags)


def host_tables(unit: Unit, flags: DomainFlags = NO_FLAGS) -> HostTables:
    """Make host tables as deep as hardware takes them. Raises Unsupported, NoMemory."""
    if not unit.able.host_tables:
        raise Unsupported("AMD domain", "EFR.HATS", 3, "a depth of host tables")
    shape = table_shapes.amd_v1(unit.able.host_levels)
    return HostTables(
        table=IoPageTable(unit.frames, shape),
        page_sizes=shape.page_sizes,
        aperture=(0, (1 << min(shape.input_bits, 64)) - 1),
        dirty_tracking=DomainFlags.DIRTY_TRACKING in flags,
        levels=unit.able.host_levels,
        nest_parent=DomainFlags.NEST_PARENT in flags,
    )


def guest_tables(unit: Unit) -> GuestTables:
    """Make guest tables. Raises Unsupported, NoMemory."""
    able = unit.able
    if not able.guest_tables:
        raise Unsupported("AMD domain", "EFR", int(able.efr), "with GT, PPR and GIO")
    shape = table_shapes.x86(5 if able.five_levels else 4)
    bits = FIVE_LEVEL_BITS if able.five_levels else FOUR_LEVEL_BITS
    return GuestTables(
        table=IoPageTable(unit.frames, shape),
        page_sizes=shape.page_sizes,
        aperture=(0, (1 << bits) - 1),
        five_levels=able.five_levels,
    )


def _check_pasid(able: Abilities, flags: DomainFlags) -> None:
    if flags & ~DomainFlags.PASID:
        raise Unsupported("AMD domain", "flags", int(flags), "PASID alone: host tables know no PASIDs")
    if not able.pasids:
        raise Unsupported("AMD domain", "flags", int(flags), "without PASID: EFR has not both GT and PPR")


def _check_host_flags(able: Abilities, flags: DomainFlags) -> None:
    if DomainFlags.DIRTY_TRACKING in flags and not able.dirty:
        raise Unsupported("AMD domain", "flags", int(flags), "without DIRTY_TRACKING: EFR.HD is 0")
    if DomainFlags.NEST_PARENT in flags and not able.nested:
        raise Unsupported("AMD domain", "flags", int(flags), "without NEST_PARENT: GT, GIO and GCR3TRPMode are needed")
