"""Refusals: why a transaction is ended before any page table is walked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.faults import Refusal

if TYPE_CHECKING:
    from viommu_smmuv3_cmdqv.spec.events import EventId


def refuse(event: EventId, detail: str, *, address: int | None = None) -> Refusal:
    """End the transaction and record ``event``; ``address`` is that of what could not be read."""
    return Refusal(event.name, int(event), address=address, detail=detail)


def abort(reason: str, detail: str) -> Refusal:
    """End the transaction without a record; ``reason`` is the field that says so."""
    return Refusal(reason, silent=True, detail=detail)
