"""What governs a device, put in the place of what does now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import Invalid, NoDevice, Unsupported

from viommu_riscv.host.device import NO_PROCESS
from viommu_riscv.host.domains import FirstStageDomain

if TYPE_CHECKING:
    from viommu_riscv.host.device import AnyDomain, HostDevice


def attach(device: HostDevice, pasid: int, domain: AnyDomain, *, page_requests: bool) -> None:
    """Let a domain govern a device's PASID. Raises Invalid, Unsupported, NoDevice, NoSpace, NoMemory.

    Where this raises, what governed still does.
    """
    with device.unit.lock:
        _check(device, pasid, domain)
        if page_requests and not device.page_requests:
            raise NoDevice(device.physical.name, "page requests", bound="made by it (PRI), for a HWPT with a FAULT")
        old = device.attached.get(pasid)
        if old is domain:
            return
        device.prepare(pasid)
        domain.govern(device, pasid)
        device.set(pasid, domain)
        if old is not None:
            old.ungovern(device, pasid)


def block(device: HostDevice, pasid: int) -> None:
    """Let nothing govern a device's PASID: DMA is refused, and no cache remembers what it had."""
    with device.unit.lock:
        old = device.attached.get(pasid)
        if old is None:
            return
        device.set(pasid, None)
        old.ungovern(device, pasid)


def _check(device: HostDevice, pasid: int, domain: AnyDomain) -> None:
    domain.check(device.unit)
    what = device.physical.name
    if pasid != NO_PROCESS:
        if pasid >= device.processes:
            raise Unsupported(what, "PASID", pasid, f"below {device.processes:#x}")
        if not isinstance(domain, FirstStageDomain):
            raise Invalid(what, "PASID", pasid, "with a first-stage domain: second stage is a device's")
        if not isinstance(device.attached.get(NO_PROCESS, domain), FirstStageDomain):
            raise Invalid(what, "PASID", pasid, "beside a first-stage domain, or none, for requests without PASID")
    elif not isinstance(domain, FirstStageDomain) and any(device.attached.keys() - {NO_PROCESS}):
        raise Invalid(what, "PASIDs", bound="none attached beside second stage, or a guest's")
