"""Attaching domains to devices, and blocking them (Linux: attach_dev, set_dev_pasid, blocked_domain)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from viommu.kernel_errors import Invalid, NoDevice, Unsupported
from viommu_vtd.host import pasid_entries
from viommu_vtd.host.nested import NestedDomain
from viommu_vtd.host.paging import PagingDomain
from viommu_vtd.host.requests import NO_PASID

if TYPE_CHECKING:
    from viommu_vtd.host.device import HostDevice

AnyDomain: TypeAlias = PagingDomain | NestedDomain


def attach(device: HostDevice, pasid: int, domain: AnyDomain, *, page_requests: bool = False) -> None:
    """Let a domain govern a device's PASID instead of whatever does now. Where it fails the device may be blocked.

    ``page_requests``: somebody takes those of the device, which then has to make some.

    Raises Invalid, Unsupported, NoDevice, NoSpace, NoMemory, Busy.
    """
    with device.unit.lock:
        if pasid == NO_PASID:
            block(device, pasid)
            domain.check(device.unit.able)
            _check_page_requests(device, page_requests)
            _install(device, pasid, domain, domain.join(device.unit))
        else:
            _attach_pasid(device, pasid, domain, page_requests)


def block(device: HostDevice, pasid: int) -> None:
    """Let nothing govern a device's PASID: its DMA is refused, and no cache remembers what it had."""
    with device.unit.lock:
        domain = device.attached.pop(pasid, None)
        if domain is None:
            return
        domain.ungovern(device, pasid)
        if device.unit.able.scalable:
            pasid_entries.tear_down(device, pasid)
        else:
            device.clear_legacy_context(domain.id_in(device.unit))
        domain.leave(device.unit)


def _attach_pasid(device: HostDevice, pasid: int, domain: AnyDomain, page_requests: bool) -> None:
    """What governs the PASID stays until the DID is there."""
    if not device.unit.able.pasids:
        raise Unsupported(f"device {device.source:#06x}", "PASID", pasid, "none: its unit has no PASIDs")
    if isinstance(domain, PagingDomain) and domain.dirty_tracking:
        raise Invalid("domain", "flags", bound="without DIRTY_TRACKING, which needs a device without PASID")
    domain.check(device.unit.able)
    _check_page_requests(device, page_requests)
    number = domain.join(device.unit)
    block(device, pasid)
    _install(device, pasid, domain, number)


def _check_page_requests(device: HostDevice, wanted: bool) -> None:
    if wanted and not device.page_requests:
        raise NoDevice(
            f"device {device.source:#06x}", "page requests", bound="made by it (PRI), for a HWPT with a FAULT"
        )


def _install(device: HostDevice, pasid: int, domain: AnyDomain, number: int) -> None:
    try:
        domain.install(device, pasid, number)
    except BaseException:
        domain.leave(device.unit)
        raise
    device.attached[pasid] = domain
    domain.govern(device, pasid)
