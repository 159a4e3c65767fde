"""Which event a neutral fault is: the one table that reports and configuration fetches share (IHI 0070, 7.3)."""

from __future__ import annotations

from viommu.faults import FaultKind, Stage
from viommu_smmuv3_cmdqv.spec.events import EventId

EVENT_OF_KIND = {
    FaultKind.INPUT_SIZE: EventId.F_TRANSLATION,
    FaultKind.TRANSLATION: EventId.F_TRANSLATION,
    FaultKind.PERMISSION: EventId.F_PERMISSION,
    FaultKind.ACCESS_FLAG: EventId.F_ACCESS,
    FaultKind.ADDRESS_SIZE: EventId.F_ADDR_SIZE,
    FaultKind.EXTERNAL_ABORT: EventId.F_WALK_EABT,
    FaultKind.UPDATE_FAILED: EventId.F_WALK_EABT,
}
"""Arm's tables give no other kinds."""

TRANSLATION_EVENTS = (EventId.F_TRANSLATION, EventId.F_ADDR_SIZE, EventId.F_ACCESS, EventId.F_PERMISSION)
"""The events that CD.R, CD.S, STE.S2R and STE.S2S govern."""


def event_of(kind: FaultKind, stage: int) -> EventId:
    """The event of a fault that a walk met, or that bypass met: there the address size is all that is checked."""
    if kind is FaultKind.INPUT_SIZE and stage == Stage.NONE:
        return EventId.F_ADDR_SIZE
    return EVENT_OF_KIND[kind]
