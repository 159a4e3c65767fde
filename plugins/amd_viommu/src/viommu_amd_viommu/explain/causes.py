"""What is likely wrong where an event was logged, likeliest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_amd_viommu.spec import events as spec
from viommu_amd_viommu.spec.events import EventCode

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_MEMORY = "the address lies where no memory answers: a wrong base register, or tables freed too early"

_FIXED: Mapping[int, tuple[str, ...]] = {
    EventCode.DEV_TAB_HW_ERROR: (_NO_MEMORY, "Device Table Base is wrong, or a segment's base is"),
    EventCode.PAGE_TAB_HW_ERROR: (
        _NO_MEMORY,
        "a page-table pointer in the device table entry or in an upper table is wrong",
        "a table is in memory that refuses the store of an accessed or dirty bit",
    ),
    EventCode.ILLEGAL_COMMAND_ERROR: (
        "reserved bits of the command are set, or its feature is absent from EFR",
        "the tail was moved past what was written: the entry is an old or an empty one",
        "the entry was written after the tail, without a barrier between them",
    ),
    EventCode.COMMAND_HW_ERROR: (
        "the address of the command buffer's base is wrong",
        "the store address of a COMPLETION_WAIT lies where no memory takes it",
    ),
    EventCode.IOTLB_INV_TIMEOUT: (
        "the device is gone, in reset or hung while its device TLB was being invalidated",
        "DTE.I is set for a device that has no ATS enabled",
        "the device answers slower than Control.InvTimeOut allows",
    ),
    EventCode.INVALID_DEVICE_REQUEST: (
        "ATS is enabled in the device and not in its device table entry (DTE.I=0)",
        "the device sends translated requests that no translation request gave it",
    ),
    EventCode.INVALID_PPR_REQUEST: (
        "page requests are enabled in the device and not in its device table entry (DTE.PPR=0)",
        "Control.PPREn is 0",
    ),
    EventCode.EVENT_COUNTER_ZERO: ("a performance counter wrapped; nothing is wrong",),
    EventCode.GUEST_EVENT_FAULT: ("the guest's event log is full, or its buffer cannot be reached",),
    EventCode.VIOMMU_HW_ERROR: ("an ID of the guest has no mapping, or a mapping table cannot be read",),
    EventCode.RMP_FAULT: ("the page belongs to another guest, or has another size than the RMP says (SEV-SNP)",),
    EventCode.RMP_HW_ERROR: ("the RMP could not be read",),
}


def causes(event: spec.AnyEvent) -> tuple[str, ...]:
    """What is likely wrong."""
    if isinstance(event, spec.IoPageFault):
        return _interrupt(event) if event.I else _page_fault(event)
    if isinstance(event, spec.IllegalDevTableEntry):
        return _illegal_entry(event)
    return _FIXED.get(event.EventCode, ())


def _page_fault(event: spec.IoPageFault) -> tuple[str, ...]:
    if not event.PR:
        guest = ("its PASID has no valid GCR3 entry, or more bits than the GCR3 table has",) if event.GN else ()
        return (
            "the address is not mapped: the driver unmapped it too early, or the device uses a stale or wrong address",
            *guest,
            "the device is blocked (DTE.TV=0): no driver has attached it to a domain",
            "the address lies beyond what the page table's levels reach",
        )
    if event.RZ:
        return ("a page-table entry has reserved bits set, or an address beyond the physical address width",)
    if event.PE:
        what = "a write to a page that is mapped for reading" if event.RW else "a read of a page that grants no reads"
        user = ("a user access to a page of the supervisor (U/S clear)",) if event.US else ()
        execute = ("an instruction fetch from a page that is not executable",) if event.NX else ()
        return (*execute, what, *user, "the device table entry grants no such access (DTE.IR, DTE.IW)")
    return (
        "a page-table entry's NextLevel does not fall, or its page size is impossible at its level",
        "address bits of a skipped level are not zero",
        "DTE.Mode has more levels than EFR.HATS allows",
    )


def _interrupt(event: spec.IoPageFault) -> tuple[str, ...]:
    if event.RZ:
        return ("an interrupt remapping entry has reserved bits or a reserved type",)
    if event.PR:
        return ("an interrupt remapping entry does not allow this interrupt",)
    return (
        "the interrupt's remapping entry is not enabled (RemapEn=0): the device's MSI data is stale or wrong",
        "the interrupt's index lies beyond the table (DTE.IntTabLen)",
    )


def _illegal_entry(event: spec.IllegalDevTableEntry) -> tuple[str, ...]:
    if event.RZ:
        return ("the device table entry has reserved bits set", "DTE.GV is set and guest translation is off")
    return (
        "a level field of the entry is out of range (DTE.Mode, GLX or GuestPagingMode)",
        "the DeviceID lies beyond the device table: Device Table Base has too small a size",
    )
