"""What surrounds a guest's IOMMU: the host's platform, seen by the guest's ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, evolve

from viommu.addresses import RequesterId
from viommu.platform import Interrupt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.memory import PhysicalMemory
    from viommu.platform import BadAnswer, Caches, DeviceInvalidation, PageResponse, Platform, StallResolution
    from viommu_amd_viommu.hardware.guests.maps import IdMaps


@define(eq=False, repr=False)
class GuestPlatform:
    """The platform of the logs of one guest (`viommu.platform.Platform`)."""

    host: Platform
    maps: IdMaps
    memory: PhysicalMemory
    """What a guest names lies behind its translation, and is not reached by this."""
    caches: Caches

    def interrupt(self, interrupt: Interrupt) -> None:
        """Signal the guest. Which vCPU takes it is not modelled: no message is stored."""
        self.host.interrupt(Interrupt(interrupt.source, guest=self.maps.guest))

    def invalidate_device(self, invalidation: DeviceInvalidation) -> bool | BadAnswer:
        """Tell a device of the guest's to drop translations."""
        host_id = self.maps.devices.get(invalidation.requester)
        return host_id is None or self.host.invalidate_device(evolve(invalidation, requester=RequesterId(host_id)))

    def respond(self, response: PageResponse) -> None:
        """Answer a device of the guest's."""
        host_id = self.maps.devices.get(response.requester)
        if host_id is not None:
            self.host.respond(evolve(response, requester=RequesterId(host_id)))

    def resolve_stall(self, resolution: StallResolution) -> None:
        """Nothing stalls."""

    def observe(self, event: str, facts: Mapping[str, object]) -> None:
        """Tell of it as of the host's, with the guest's number."""
        self.host.observe(event, {**facts, "guest": self.maps.guest})
