"""What this hardware calls a fault that translation met: VT-d's codes, from the neutral `Fault`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.faults import Access, FaultClass, FaultKind, Stage
from viommu_vtd.spec.faults import FaultReason
from viommu_vtd.translate import PROTECTED, in_interrupt_range

if TYPE_CHECKING:
    from viommu.faults import Fault


def legacy_reason(fault: Fault) -> FaultReason:
    """Legacy mode: a missing right and a missing entry are one and the same."""
    match fault.kind:
        case FaultKind.INPUT_SIZE:
            return FaultReason.ADDRESS_BEYOND_MGAW
        case FaultKind.EXTERNAL_ABORT:
            # The specification counts an unreadable top-level table as invalid programming of the context entry.
            return FaultReason.CONTEXT_INVALID if fault.top else FaultReason.NEXT_TABLE_ACCESS
        case FaultKind.RESERVED:
            return FaultReason.PAGE_ENTRY_RESERVED
        case FaultKind.BLOCKED_OUTPUT:
            return FaultReason.INTERRUPT_RANGE
    wanted = fault.missing or fault.access
    return FaultReason.WRITE_DENIED if wanted & Access.WRITE else FaultReason.READ_DENIED


def scalable_reason(fault: Fault) -> FaultReason:
    """Scalable mode: first and second stage have codes of their own."""
    if fault.kind is FaultKind.BLOCKED_OUTPUT or _beside_protected_memory(fault):
        return FaultReason.SM_INTERRUPT_RANGE
    match fault.stage:
        case Stage.STAGE1:
            return _first_stage(fault)
        case Stage.STAGE2 if fault.fault_class is FaultClass.TABLE:
            return _first_stage_behind_second(fault)
        case Stage.STAGE2:
            return _second_stage(fault)
    if fault.kind is FaultKind.PERMISSION:
        return FaultReason.SUPERVISOR_DISABLED
    return FaultReason.ADDRESS_BEYOND_HOST


def _beside_protected_memory(fault: Fault) -> bool:
    """Whether one context keeps an access from the interrupt range and from protected memory, and this is the first."""
    return fault.stage is Stage.NONE and bool(fault.driver_bits & PROTECTED) and in_interrupt_range(fault.iova)


def _first_stage(fault: Fault) -> FaultReason:
    match fault.kind:
        case FaultKind.INPUT_SIZE:
            return FaultReason.FS_NOT_CANONICAL
        case FaultKind.EXTERNAL_ABORT:
            return FaultReason.FS_TOP_ENTRY_ACCESS if fault.top else FaultReason.FS_ENTRY_ACCESS
        case FaultKind.RESERVED:
            return FaultReason.FS_RESERVED
        case FaultKind.UPDATE_FORBIDDEN:
            return FaultReason.FS_UPDATE_NOT_SNOOPED
        case FaultKind.UPDATE_FAILED:
            return FaultReason.FS_UPDATE_FAILED
        case FaultKind.PERMISSION if fault.missing & Access.PRIVILEGED:
            return FaultReason.FS_USER_DENIED
        case FaultKind.PERMISSION if fault.missing & Access.WRITE:
            return FaultReason.SM_WRITE_DENIED
        case FaultKind.PERMISSION:
            return FaultReason.FS_EXECUTE_DENIED
    return FaultReason.FS_NOT_PRESENT


def _first_stage_behind_second(fault: Fault) -> FaultReason:
    """The address of a first-stage entry did not pass second stage. No right at all denies reading too."""
    match fault.kind:
        case FaultKind.INPUT_SIZE:
            return FaultReason.FS_TABLE_BEYOND_SS
        case FaultKind.TRANSLATION | FaultKind.PERMISSION if fault.for_update:
            return FaultReason.FS_UPDATE_DENIED_BY_SS
        case FaultKind.TRANSLATION | FaultKind.PERMISSION if fault.for_top:
            return FaultReason.FS_TOP_READ_DENIED_BY_SS
        case FaultKind.TRANSLATION | FaultKind.PERMISSION:
            return FaultReason.FS_READ_DENIED_BY_SS
    return _second_stage(fault)


def _second_stage(fault: Fault) -> FaultReason:
    match fault.kind:
        case FaultKind.INPUT_SIZE:
            return FaultReason.ADDRESS_BEYOND_SS
        case FaultKind.EXTERNAL_ABORT:
            return FaultReason.SS_TOP_ENTRY_ACCESS if fault.top else FaultReason.SS_ENTRY_ACCESS
        case FaultKind.RESERVED:
            return FaultReason.SS_RESERVED
        case FaultKind.UPDATE_FORBIDDEN:
            return FaultReason.SS_UPDATE_NOT_SNOOPED
        case FaultKind.UPDATE_FAILED:
            return FaultReason.SS_UPDATE_FAILED
        case FaultKind.PERMISSION if fault.granted & (Access.READ | Access.WRITE):
            return FaultReason.SM_WRITE_DENIED if fault.missing & Access.WRITE else FaultReason.SM_READ_DENIED
    return FaultReason.SS_NOT_PRESENT
