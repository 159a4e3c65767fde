"""The commands that the host's driver gives (AMD 48882, 2.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu_amd_viommu.host.ranges import EVERYTHING
from viommu_amd_viommu.spec.commands import (
    CompletePprRequest,
    CompletionWait,
    InvalidateDevtabEntry,
    InvalidateIommuAll,
    InvalidateIommuPages,
    InvalidateIotlbPages,
    Opcode,
    ResetVmmio,
)

if TYPE_CHECKING:
    from viommu_amd_viommu.host.ranges import Pages

ATS_QUEUE_DEPTH = 32
"""MaxPend: how many invalidations a device may have to work on at once."""


def completion_wait(address: int, data: int) -> CompletionWait:
    """Store ``data`` when everything before is done."""
    return CompletionWait(Opcode=Opcode.COMPLETION_WAIT, s=1, Address=address, Data=data)


def device_entry(device: int) -> InvalidateDevtabEntry:
    """Forget a device table entry."""
    return InvalidateDevtabEntry(Opcode=Opcode.INVALIDATE_DEVTAB_ENTRY, DeviceID=device)


def everything() -> InvalidateIommuAll:
    """Forget all entries and all translations."""
    return InvalidateIommuAll(Opcode=Opcode.INVALIDATE_IOMMU_ALL)


def pages_of_domain(domain: int, pages: Pages = EVERYTHING, *, directories: bool = True) -> InvalidateIommuPages:
    """Forget translations by host tables of a DomainID, and those behind guest tables.

    Without ``directories``, entries that lead to tables are still as they were.
    """
    return InvalidateIommuPages(
        Opcode=Opcode.INVALIDATE_IOMMU_PAGES,
        DomainID=domain,
        PDE=directories,
        S=pages.sized,
        Address=pages.address,
    )


def pages_of_pasid(
    domain: int, pasid: int, pages: Pages = EVERYTHING, *, directories: bool = True
) -> InvalidateIommuPages:
    """Forget translations by the guest tables of one (DomainID, PASID). ``directories`` as in `pages_of_domain`."""
    return InvalidateIommuPages(
        Opcode=Opcode.INVALIDATE_IOMMU_PAGES,
        DomainID=domain,
        PASID=pasid,
        GN=1,
        PDE=directories,
        S=pages.sized,
        Address=pages.address,
    )


def device_tlb(device: int, pasid: int | None, pages: Pages = EVERYTHING) -> InvalidateIotlbPages:
    """Have a device forget translations; PASID None: those without one."""
    return InvalidateIotlbPages(
        Opcode=Opcode.INVALIDATE_IOTLB_PAGES,
        DeviceID=device,
        QueueID=device,
        MaxPend=ATS_QUEUE_DEPTH,
        PASID=pasid or 0,
        GN=pasid is not None,
        S=pages.sized,
        Address=pages.address,
    )


def reset_guest(guest: int) -> ResetVmmio:
    """Clear the registers of a guest's IOMMU."""
    return ResetVmmio(Opcode=Opcode.RESET_VMMIO, GuestID=guest, All=1, vCMD=1)


def page_response(device: int, pasid: int | None, tag: int, status: int) -> CompletePprRequest:
    """Answer a group of page requests."""
    return CompletePprRequest(
        Opcode=Opcode.COMPLETE_PPR_REQUEST,
        DeviceID=device,
        PASID=pasid or 0,
        GN=pasid is not None,
        Tag=tag,
        Status=status,
    )
