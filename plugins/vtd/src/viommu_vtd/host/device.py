"""One device behind a unit, as the unit's driver knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_vtd.host import entries, requests
from viommu_vtd.host.frames import install, remove
from viommu_vtd.host.tables import PasidTables
from viommu_vtd.spec.root_context import ContextEntry, ScalableContextEntry

if TYPE_CHECKING:
    from viommu.layout import Descriptor
    from viommu.objects.physical import PhysicalDevice
    from viommu_vtd.host.domain import Domain
    from viommu_vtd.host.unit import Unit


@define(eq=False)
class HostDevice:
    """A device. ``ats``, ``page_requests`` and ``pasids`` (how many; 0: none) are what it has and its unit allows.

    In scalable mode it has PASID tables from the first moment; until something is attached no entry is present.
    """

    physical: PhysicalDevice
    unit: Unit
    source: int
    ats: bool = False
    page_requests: bool = False
    pasids: int = 0
    tables: PasidTables | None = None
    attached: dict[int, Domain] = field(factory=dict)
    """Domains by PASID; 0 is that of requests without PASID."""

    @classmethod
    def of(cls, physical: PhysicalDevice, unit: Unit) -> HostDevice:
        """Say what of a device's features its unit allows: page requests need ATS, and scalable mode."""
        features, ecap = physical.features, unit.registers.ecap
        ats = bool(features.ats and ecap.DT)
        pasids = min(1 << features.pasid_bits, unit.able.pasids) if features.pasid_bits else 0
        asks = bool(ats and features.page_requests and ecap.PRS and unit.able.scalable)
        return cls(physical, unit, physical.requester, ats, asks, pasids)

    def probe(self) -> None:
        """Let the unit know it, blocked. Raises NoMemory."""
        unit = self.unit
        with unit.lock:
            at = unit.root.context(self.source)
            if unit.able.scalable:
                self.tables = PasidTables(unit.memory, unit.frames, self.pasids)
                self._install_context(at, self.tables)
            unit.devices[self.source] = self

    def release(self) -> None:
        """Let the unit forget it; nothing is attached."""
        unit = self.unit
        with unit.lock:
            del unit.devices[self.source]
            if self.tables is not None:
                remove(unit.memory, self.context_entry(), ScalableContextEntry.size)
                unit.submit([requests.context_of_device(0, self.source), *self.forget_device_tlb()])
                self.tables.free()
                self.tables = None

    def forget_device_tlb(self, pasid: int = requests.NO_PASID) -> list[Descriptor]:
        """Give the descriptors that empty its TLB of one PASID."""
        return [requests.device_tlb(self.source, pasid, requests.EVERYTHING)] if self.ats else []

    def context_entry(self) -> int:
        """Find its context entry. Raises NoMemory."""
        return self.unit.root.context(self.source)

    def clear_legacy_context(self, domain: int) -> None:
        """Block it in legacy mode: the entry goes, then what caches hold of it."""
        remove(self.unit.memory, self.context_entry(), ContextEntry.size)
        self.unit.submit(
            [
                requests.context_of_device(domain, self.source),
                requests.iotlb_of_domain(domain),
                *self.forget_device_tlb(),
            ]
        )

    def _install_context(self, at: int, tables: PasidTables) -> None:
        context = entries.scalable_context(
            tables, ats=self.ats, pasids=bool(self.pasids), page_requests=self.page_requests
        )
        install(self.unit.memory, at, context)
        if self.unit.caching_mode:
            self.unit.submit([requests.context_of_device(0, self.source), *self.forget_device_tlb()])
