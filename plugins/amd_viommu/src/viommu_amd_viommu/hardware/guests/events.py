"""A guest's event log: in guest memory, in the guest's ids, and told to the host where it cannot be written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from viommu_amd_viommu.hardware.events import Events
from viommu_amd_viommu.hardware.logs import EVENT_LOG, RecordLog
from viommu_amd_viommu.spec import inferred
from viommu_amd_viommu.spec.events import EventCode, GuestEventFault

if TYPE_CHECKING:
    from viommu_amd_viommu.spec.events import AnyEvent


@define(eq=False, repr=False)
class GuestEvents(Events):
    """Where a guest's events go. ``host`` is the host's log, ``guest`` the GuestID."""

    host: Events
    guest: int
    log: RecordLog = field(init=False)

    @property
    def runs(self) -> bool:
        """Whether the guest's log takes events, or would if it had room."""
        return bool(self.file["STATUS"] & EVENT_LOG.run)

    def tell(self, event: AnyEvent) -> None:
        """Log an event. A log that is full halts and says so itself; one that memory refuses is told to the host."""
        overflows = EVENT_LOG.a.overflow | EVENT_LOG.b.overflow
        ran, full = self.runs, self.file["STATUS"] & overflows
        super().tell(event)
        became_full = self.file["STATUS"] & overflows & ~full
        if inferred.TELLS_ALL_LOST_EVENTS and ran and not self.runs and not became_full:
            self.host.tell(GuestEventFault(EventCode=EventCode.GUEST_EVENT_FAULT, GuestID=self.guest, vEVENT=1))
