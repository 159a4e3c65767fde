"""The caches that may know a domain: what has to be told when the domain's pages go."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen

from viommu_amd_viommu.host import requests
from viommu_amd_viommu.host.ranges import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from viommu_amd_viommu.host.ranges import Pages
    from viommu_amd_viommu.host.unit import Unit
    from viommu_amd_viommu.spec.commands import AnyCommand


@frozen
class HostTag:
    """Translations of one DomainID: by host tables, and behind guest tables."""

    unit: Unit
    domain: int

    def commands(self, pages: Pages, *, directories: bool) -> list[AnyCommand]:
        """Drop pages."""
        return [requests.pages_of_domain(self.domain, pages, directories=directories)]


@frozen
class GuestTag:
    """Translations by the guest tables of one (DomainID, PASID)."""

    unit: Unit
    domain: int
    pasid: int

    def commands(self, pages: Pages, *, directories: bool) -> list[AnyCommand]:
        """Drop pages."""
        return [requests.pages_of_pasid(self.domain, self.pasid, pages, directories=directories)]


@frozen
class DeviceTag:
    """The TLB of a device, for requests of one PASID or without (None)."""

    unit: Unit
    device: int
    pasid: int | None

    def commands(self, pages: Pages, *, directories: bool) -> list[AnyCommand]:  # noqa: ARG002
        """Drop pages; a device's TLB has no directories."""
        return [requests.device_tlb(self.device, self.pasid, pages)]


@frozen
class GuestDeviceTag:
    """The TLB of a device that a guest gives PASIDs to: nobody can tell which of its addresses lead to some page."""

    unit: Unit
    device: int
    pasids: int
    """How many PASIDs the device has."""

    def commands(self, pages: Pages, *, directories: bool) -> Sequence[bytes]:  # noqa: ARG002
        """Drop everything, whatever its PASID: one command for each, as there is none for all."""
        return _whole_tlb(self.device, self.pasids)


@lru_cache(maxsize=64)
def _whole_tlb(device: int, pasids: int) -> tuple[bytes, ...]:
    """Give the same commands as at the last time: there may be thousands."""
    return tuple(requests.device_tlb(device, pasid).encode() for pasid in (None, *range(pasids)))


Tag: TypeAlias = HostTag | GuestTag | DeviceTag | GuestDeviceTag


def is_of_device(tag: Tag, device: int) -> bool:
    """Say whether a tag stands for the TLB of a device."""
    return isinstance(tag, DeviceTag | GuestDeviceTag) and tag.device == device


def drop(tags: Iterable[Tag], pages: Pages = EVERYTHING, *, directories: bool = True) -> None:
    """Have caches drop pages, and what leads to tables: IOTLBs first, as device TLBs would fill from them again."""
    batches: dict[Unit, list[AnyCommand | bytes]] = {}
    for tag in sorted(tags, key=lambda tag: isinstance(tag, DeviceTag | GuestDeviceTag)):
        batches.setdefault(tag.unit, []).extend(tag.commands(pages, directories=directories))
    for unit, commands in batches.items():
        unit.execute(commands)
