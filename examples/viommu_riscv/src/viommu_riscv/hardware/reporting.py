"""What the fault queue is told of a refused access: cause, and two addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.faults import Access, FaultClass, FaultKind, Report, Stage

from viommu_riscv.hardware.ats import TranslatedRefusal
from viommu_riscv.hardware.contexts import SILENCED, TRANSLATED
from viommu_riscv.hardware.directories import ABORTS
from viommu_riscv.spec.records import (
    IMPLICIT,
    IMPLICIT_WRITE,
    TOLD_IN_SPITE_OF_DTF,
    Cause,
    FaultRecord,
    TransactionType,
)

if TYPE_CHECKING:
    from viommu.faults import Fault

ADDRESS_LAST = (1 << 64) - 1

ACCESS = (Cause.INSTRUCTION_ACCESS, Cause.READ_ACCESS, Cause.WRITE_ACCESS)
PAGE = (Cause.INSTRUCTION_PAGE, Cause.READ_PAGE, Cause.WRITE_PAGE)
GUEST_PAGE = (Cause.INSTRUCTION_GUEST_PAGE, Cause.READ_GUEST_PAGE, Cause.WRITE_GUEST_PAGE)
UNTRANSLATED = (
    TransactionType.UNTRANSLATED_EXECUTE,
    TransactionType.UNTRANSLATED_READ,
    TransactionType.UNTRANSLATED_WRITE,
)
TRANSLATED_TYPES = (
    TransactionType.TRANSLATED_EXECUTE,
    TransactionType.TRANSLATED_READ,
    TransactionType.TRANSLATED_WRITE,
)


def cause_of(fault: Fault) -> Cause:
    """Name the cause."""
    sort = _sort(fault.access)
    if fault.refusal is not None:
        return Cause(fault.refusal.code) if fault.refusal.walk is None else GUEST_PAGE[sort]
    if fault.stage is Stage.NONE:  # the process may not be privileged
        return Cause.TYPE_DISALLOWED
    if fault.stage is Stage.FLAT:
        return _message_cause(fault)
    if fault.kind in ABORTS:
        return ACCESS[sort]
    return GUEST_PAGE[sort] if fault.stage is Stage.STAGE2 else PAGE[sort]


def _message_cause(fault: Fault) -> Cause:
    match fault.kind:
        case FaultKind.TRANSLATION:
            return Cause.MSI_NOT_VALID
        case FaultKind.MALFORMED | FaultKind.RESERVED:
            return Cause.MSI_MISCONFIGURED
        case FaultKind.PERMISSION:
            return ACCESS[_sort(fault.access)]
    # An entry that was read, and leads to where no memory can be: the access itself finds that out.
    return ACCESS[_sort(fault.access)] if fault.entry_value else Cause.MSI_ACCESS


def guest_address(fault: Fault, cause: Cause) -> int:
    """Give iotval2: the guest's physical address of a guest-page fault, and what ran into it."""
    if cause not in GUEST_PAGE:
        return 0
    if fault.refusal is not None and fault.refusal.walk is not None:
        return fault.refusal.walk.ipa & ~3 | IMPLICIT
    implicit = fault.fault_class is FaultClass.TABLE
    return fault.ipa & ~3 | (IMPLICIT if implicit else 0) | (IMPLICIT_WRITE if implicit and fault.for_update else 0)


def silent(fault: Fault, cause: Cause) -> bool:
    """Whether tc.DTF keeps it out of the queue."""
    by_bits = bool(fault.driver_bits & SILENCED)
    by_refusal = fault.refusal is not None and fault.refusal.suppressed
    return (by_bits or by_refusal) and cause not in TOLD_IN_SPITE_OF_DTF


def transaction_of(fault: Fault) -> TransactionType:
    """Name the sort of transaction."""
    translated = isinstance(fault.refusal, TranslatedRefusal) or fault.driver_bits & TRANSLATED
    return (TRANSLATED_TYPES if translated else UNTRANSLATED)[_sort(fault.access)]


def record_of(fault: Fault, cause: Cause, transaction: TransactionType) -> FaultRecord:
    """Write the record."""
    with_process = fault.pasid is not None
    return FaultRecord(
        CAUSE=cause,
        PID=fault.pasid or 0,
        PV=with_process,
        PRIV=with_process and Access.PRIVILEGED in fault.access,
        TTYP=transaction,
        DID=fault.requester,
        iotval=fault.iova & ADDRESS_LAST,
        iotval2=guest_address(fault, cause) & ADDRESS_LAST,
    )


def told(cause: Cause, record: bytes | None) -> Report:
    """Say what becomes of the access."""
    return Report("fault", hex(cause), record)


def _sort(access: Access) -> int:
    """Number instruction fetches, reads and writes; what does both is a write (an AMO)."""
    if Access.EXECUTE in access:
        return 0
    return 2 if Access.WRITE in access else 1
