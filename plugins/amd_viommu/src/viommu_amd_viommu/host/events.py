"""Events: kept as a kernel's log keeps them, and told to the guest whose device they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_amd_viommu.host.guests import events as guest_events
from viommu_amd_viommu.spec.events import IotlbInvTimeout, decode_event

if TYPE_CHECKING:
    from viommu_amd_viommu.host.unit import Unit


def take(unit: Unit, raw: bytes) -> None:
    """Take one entry of the event log."""
    event = decode_event(raw)
    unit.events.append(event)
    unit.time_outs += isinstance(event, IotlbInvTimeout)
    guest_events.tell(unit, event)
