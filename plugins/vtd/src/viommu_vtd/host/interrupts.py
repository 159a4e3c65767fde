"""From an interrupt's message to the work that it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_vtd.host import faults, page_requests
from viommu_vtd.host.unit import MESSAGES

if TYPE_CHECKING:
    from viommu.platform import Interrupt
    from viommu_vtd.host.unit import Unit


def hear(unit: Unit, interrupt: Interrupt) -> None:
    """Do what a message tells to, as soon as the unit's queue is free. From any thread, at any moment."""
    if interrupt.data == MESSAGES["FE"]:
        unit.queue.turns.leave(lambda: faults.service(unit))
    elif interrupt.data == MESSAGES["PE"]:
        unit.queue.turns.leave(lambda: page_requests.service(unit))
