"""Making paging domains: which stage, how wide, in which sizes (Linux: domain_alloc_paging_flags)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import Unsupported
from viommu.ops import DomainFlags
from viommu_vtd.host.paging import FirstStageDomain, SecondStageDomain
from viommu_vtd.host.table import TableKind

if TYPE_CHECKING:
    from viommu.ops import UserData
    from viommu_vtd.host.abilities import Abilities
    from viommu_vtd.host.paging import PagingDomain
    from viommu_vtd.host.unit import Unit

WHAT = "paging domain"
SECOND_STAGE_FLAGS = DomainFlags.NEST_PARENT | DomainFlags.DIRTY_TRACKING | DomainFlags.PASID


def make(unit: Unit, flags: DomainFlags, data: UserData | None) -> PagingDomain:
    """Make an empty one: first stage wherever there is no reason against it. Raises Unsupported, NoMemory."""
    if data is not None:
        raise Unsupported(WHAT, "data_type", data.type, "0: it takes no driver data")
    if not flags & ~DomainFlags.PASID and unit.able.first_stage:
        return _first_stage(unit)
    _check_second_stage(unit.able, flags)
    return _second_stage(unit, flags)


def _check_second_stage(able: Abilities, flags: DomainFlags) -> None:
    if flags & ~SECOND_STAGE_FLAGS:
        raise Unsupported(WHAT, "flags", int(flags), f"of {int(SECOND_STAGE_FLAGS):#x}")
    if DomainFlags.NEST_PARENT in flags and not able.nested:
        raise Unsupported(WHAT, "flags", int(flags), "without NEST_PARENT: the unit cannot nest (ECAP.NEST)")
    if DomainFlags.DIRTY_TRACKING in flags and not able.dirty:
        raise Unsupported(WHAT, "flags", int(flags), "without DIRTY_TRACKING: the unit has no SSADS")
    if not able.second_stage or not able.second_stage_width:
        raise Unsupported(WHAT, "second stage", bound="of a unit that has it (ECAP.SSTS, CAP.SAGAW, CAP.MGAW)")


def _first_stage(unit: Unit) -> FirstStageDomain:
    able = unit.able
    return FirstStageDomain(
        table=unit.make_table(TableKind(True, able.first_stage_levels, able.first_stage_pages)),
        page_sizes=able.first_stage_pages,
        aperture=(0, (1 << able.first_stage_bits) - 1),
        levels=able.first_stage_levels,
    )


def _second_stage(unit: Unit, flags: DomainFlags) -> SecondStageDomain:
    able = unit.able
    return SecondStageDomain(
        memory=unit.memory,
        table=unit.make_table(TableKind(False, able.second_stage_width + 2, able.second_stage_pages)),
        page_sizes=able.second_stage_pages,
        aperture=(0, (1 << able.second_stage_bits) - 1),
        width=able.second_stage_width,
        bits=able.second_stage_bits,
        dirty_tracking=DomainFlags.DIRTY_TRACKING in flags,
        nest_parent=DomainFlags.NEST_PARENT in flags,
    )
