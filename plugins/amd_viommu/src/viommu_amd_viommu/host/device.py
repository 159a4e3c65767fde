"""One device behind an IOMMU, as the IOMMU's driver knows it: what governs it, and the entry that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_amd_viommu.host import entries
from viommu_amd_viommu.host.entries import GuestRoots
from viommu_amd_viommu.host.gcr3 import Gcr3Tables, levels_for
from viommu_amd_viommu.host.guests.nested import NestedDomain
from viommu_amd_viommu.host.paging import GuestTables, HostTables
from viommu_amd_viommu.host.tags import DeviceTag, GuestDeviceTag, GuestTag, HostTag

if TYPE_CHECKING:
    from viommu.objects.physical import PhysicalDevice
    from viommu_amd_viommu.host.domain import Domain
    from viommu_amd_viommu.host.tags import Tag
    from viommu_amd_viommu.host.unit import Unit
    from viommu_amd_viommu.spec.device_table import DTE

NO_PASID = 0
"""The PASID by which iommufd means requests without one; hardware keeps entry 0 of GCR3 tables for them (GIOV)."""


@define(eq=False, repr=False)
class OwnRoots:
    """GCR3 tables of a device, and the DomainID that tags what they lead to: one for each device, as Linux has it."""

    tables: Gcr3Tables
    domain: int


@define(eq=False, repr=False)
class HostDevice:
    """A device. ``ats``, ``page_requests`` and ``pasids`` (how many; 0: none) are what it has and its IOMMU allows."""

    physical: PhysicalDevice
    unit: Unit
    id: int
    ats: bool = False
    page_requests: bool = False
    pasids: int = 0
    roots: OwnRoots | None = None
    attached: dict[int, Domain] = field(factory=dict)
    """Domains by PASID; 0: requests without."""

    def __repr__(self) -> str:
        return f"<DeviceID {self.id:#06x} of {self.unit.name}, attached PASIDs {sorted(self.attached)}>"

    @property
    def without_pasid(self) -> Domain | None:
        """What governs requests without PASID."""
        return self.attached.get(NO_PASID)

    @property
    def has_pasids(self) -> bool:
        """Whether something is attached to a PASID."""
        return any(pasid != NO_PASID for pasid in self.attached)

    @property
    def uses_roots(self) -> bool:
        """Whether something that is attached needs GCR3 tables of the host's making."""
        return any(isinstance(domain, GuestTables) for domain in self.attached.values())

    def entry(self) -> DTE:
        """Give the device table entry of what is attached."""
        domain = self.without_pasid
        if isinstance(domain, NestedDomain):
            return domain.entry(self)
        if isinstance(domain, HostTables):
            return entries.host_translated(domain.id_in(self.unit), domain.stage, ats=self.ats)
        if self.roots is None or not self.uses_roots:
            return entries.blocked()
        # GIOV is set even where nothing governs requests without PASID: entry 0 is invalid then, and refuses them.
        # With GIOV clear they would pass untranslated, there being no host tables.
        roots = GuestRoots(
            self.roots.tables.root,
            self.roots.tables.levels,
            without_pasid=True,
            five_levels=self.unit.able.five_levels,
            page_requests=self.page_requests,
        )
        return entries.guest_translated(self.roots.domain, roots, ats=self.ats)

    def update_entry(self) -> None:
        """Store the entry, and have hardware read it anew."""
        with self.unit.lock:
            self.unit.table.replace(self.id, self.entry())

    def own_roots(self) -> OwnRoots:
        """Give the GCR3 tables; they are made when they are first needed. Raises NoMemory, NoSpace."""
        if self.roots is None:
            unit = self.unit
            tables = Gcr3Tables(unit.memory, unit.frames, levels_for(max(self.pasids, 1)))
            try:
                self.roots = OwnRoots(tables, unit.ids.take(unit.name))
            except BaseException:
                tables.free()
                raise
        return self.roots

    def drop_roots(self) -> None:
        """Give the GCR3 tables back if nothing needs them; caches bear their DomainID no more."""
        if self.roots is None or self.uses_roots:
            return
        self.unit.ids.give_back(self.roots.domain)
        self.roots.tables.free()
        self.roots = None

    def tags_of(self, domain: Domain, pasid: int) -> list[Tag]:
        """Name the caches that may know what a domain gives this device."""
        unit = self.unit
        found: list[Tag] = []
        if isinstance(domain, GuestTables) and self.roots is not None:
            found.append(GuestTag(unit, self.roots.domain, pasid))
        else:
            found.append(HostTag(unit, domain.id_in(unit)))
        if self.ats and isinstance(domain, NestedDomain):
            found.append(GuestDeviceTag(unit, self.id, self.pasids))
        elif self.ats:
            found.append(DeviceTag(unit, self.id, None if pasid == NO_PASID else pasid))
        return found
