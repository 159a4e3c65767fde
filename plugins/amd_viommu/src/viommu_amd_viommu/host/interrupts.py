"""What an interrupt asks for: both logs are read, and passed on to whom they concern."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_amd_viommu.host import events, page_requests

if TYPE_CHECKING:
    from viommu_amd_viommu.host.unit import Unit


def hear(unit: Unit) -> None:
    """Do what an interrupt of hardware's asks for, as soon as nobody has the command buffer. From any thread."""
    unit.queue.turns.leave(lambda: service(unit))


def service(unit: Unit) -> None:
    """Read both logs: one message stands for either."""
    for raw in unit.event_log.take():
        events.take(unit, raw)
    if unit.able.page_requests:
        page_requests.service(unit)
