"""What every domain has: a DID in each unit that it is used in, and a list of the caches that know it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from attrs import define, field, frozen

from viommu_vtd.host import requests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.layout import Descriptor
    from viommu_vtd.host.device import HostDevice
    from viommu_vtd.host.requests import Pages
    from viommu_vtd.host.unit import Unit


@frozen
class Drop:
    """What caches are to forget of a domain. ``leaf_only``: entries above leaves are what they were."""

    pages: Pages
    leaf_only: bool = False


@frozen
class CacheTag:
    """One cache that may hold translations of a domain.

    ``source`` None: the unit's IOTLB; else that device's TLB. ``nested``: what it holds went through a first stage on
    top of the domain, and is known by the address that went in there.
    """

    unit: Unit
    domain: int
    pasid: int
    source: int | None = None
    nested: bool = False

    def drop(self, wanted: Drop, *, first_stage: bool) -> Descriptor:
        """Give the descriptor that drops pages of the domain that this is a tag of."""
        if self.source is not None:
            # Nobody can tell which of a guest's addresses lead to these pages.
            return requests.device_tlb(self.source, self.pasid, requests.EVERYTHING if self.nested else wanted.pages)
        if first_stage:
            return requests.pasid_iotlb(self.domain, self.pasid, wanted.pages, leaf_only=wanted.leaf_only)
        return requests.iotlb_pages(self.unit.registers.cap, self.domain, wanted.pages, leaf_only=wanted.leaf_only)


@define
class Membership:
    """A domain's place in one unit."""

    domain: int
    users: int = 0


@define(eq=False)
class Domain:
    """A domain. ``devices`` are those (and their PASIDs) that it governs."""

    by_first_stage: ClassVar[bool] = False
    """Whether the IOTLB is told by PASID what to drop."""

    units: dict[Unit, Membership] = field(factory=dict)
    tags: Counter[CacheTag] = field(factory=Counter)
    devices: list[tuple[HostDevice, int]] = field(factory=list)

    def join(self, unit: Unit) -> int:
        """Use it once more in a unit; its DID there. Raises NoSpace."""
        with unit.lock:
            member = self.units.get(unit)
            if member is None:
                member = self.units[unit] = Membership(unit.ids.take(unit.name))
            member.users += 1
            return member.domain

    def leave(self, unit: Unit) -> None:
        """Use it once less; the DID is free with the last."""
        with unit.lock:
            member = self.units[unit]
            member.users -= 1
            if not member.users:
                del self.units[unit]
                unit.ids.give_back(member.domain)

    def id_in(self, unit: Unit) -> int:
        """Give its DID in a unit that it is used in."""
        return self.units[unit].domain

    def govern(self, device: HostDevice, pasid: int) -> None:
        """Take note of a device's PASID, and of the caches that fill from now on."""
        self.devices.append((device, pasid))
        self.tags.update(self._tags_of(device, pasid, nested=False))

    def ungovern(self, device: HostDevice, pasid: int) -> None:
        """Forget a device's PASID."""
        self.devices.remove((device, pasid))
        self.forget_tags(self._tags_of(device, pasid, nested=False))

    def forget_tags(self, tags: list[CacheTag]) -> None:
        """Let go of tags; the same tag may stand for several devices."""
        for tag in tags:
            self.tags[tag] -= 1
            if not self.tags[tag]:
                del self.tags[tag]

    def drop(self, *wanted: Drop) -> None:
        """Have all caches drop pages. IOTLBs come before device TLBs, which would fill from them again."""
        self._drop(sorted(self.tags, key=lambda tag: tag.source is not None), wanted)

    def appeared(self, pages: Pages) -> None:
        """Tell units in caching mode of pages that are present now, of which they may remember that they were not.

        First-stage tables need none of it.
        """
        if not self.by_first_stage and self.tags:
            told = [tag for tag in self.tags if tag.source is None and tag.unit.caching_mode]
            self._drop(told, (Drop(pages),))

    def _drop(self, tags: list[CacheTag], wanted: Sequence[Drop]) -> None:
        batches: dict[Unit, list[Descriptor]] = {}
        for tag in tags:
            batch = batches.setdefault(tag.unit, [])
            batch += [tag.drop(one, first_stage=self.by_first_stage) for one in wanted]
        for unit, descriptors in batches.items():
            unit.submit(descriptors)

    def _tags_of(self, device: HostDevice, pasid: int, *, nested: bool) -> list[CacheTag]:
        unit = device.unit
        found = [CacheTag(unit, self.id_in(unit), pasid, None, nested)]
        if device.ats:
            found.append(CacheTag(unit, self.id_in(unit), pasid, device.source, nested))
        return found
