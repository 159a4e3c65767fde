"""What every domain has: the caches that may know it, and a DomainID in each IOMMU where it needs one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Iterable

    from viommu_amd_viommu.host.device import HostDevice
    from viommu_amd_viommu.host.tags import Tag
    from viommu_amd_viommu.host.unit import Unit


@define
class Membership:
    """A domain's DomainID in one IOMMU, and by how many it is used."""

    domain: int
    users: int = 0


@define(eq=False, repr=False)
class Domain:
    """A domain; ``devices`` are those that it governs, with the PASID (0: without)."""

    members: dict[Unit, Membership] = field(factory=dict)
    tags: Counter[Tag] = field(factory=Counter)
    devices: list[tuple[HostDevice, int]] = field(factory=list)

    def join(self, unit: Unit) -> int:
        """Use it once more in an IOMMU; its DomainID there. Raises NoSpace."""
        member = self.members.get(unit)
        if member is None:
            member = self.members[unit] = Membership(unit.ids.take(unit.name))
        member.users += 1
        return member.domain

    def leave(self, unit: Unit) -> None:
        """Use it once less; with the last use its DomainID is free. Nothing in caches bears it then."""
        member = self.members[unit]
        member.users -= 1
        if not member.users:
            del self.members[unit]
            unit.ids.give_back(member.domain)

    def id_in(self, unit: Unit) -> int:
        """Give its DomainID in an IOMMU that uses it."""
        return self.members[unit].domain

    def add_tags(self, tags: Iterable[Tag]) -> None:
        """Take note of caches that fill from now on; several devices may stand for the same."""
        self.tags.update(tags)

    def remove_tags(self, tags: Iterable[Tag]) -> None:
        """Let go of caches."""
        for tag in tags:
            self.tags[tag] -= 1
            if not self.tags[tag]:
                del self.tags[tag]
