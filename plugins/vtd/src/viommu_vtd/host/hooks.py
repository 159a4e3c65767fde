"""The driver face: each hook of `viommu.hookspecs` for iommufd, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import hookimpl
from viommu.iommufd.uapi import HwInfoVtd
from viommu.kernel_errors import Unsupported
from viommu.ops import DeviceFacts, HwInfo, RegionKind, ReservedRegion
from viommu_vtd.host import attach, dirty, making, nested, page_requests
from viommu_vtd.host.paging import SecondStageDomain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.objects.physical import PhysicalDevice
    from viommu.ops import DirtyBitmap, DomainFlags, PageFault, UserArray, UserData
    from viommu_vtd.host.attach import AnyDomain
    from viommu_vtd.host.device import HostDevice
    from viommu_vtd.host.nested import NestedDomain
    from viommu_vtd.host.paging import PagingDomain

HW_INFO_TYPE = 1
"""IOMMU_HW_INFO_TYPE_INTEL_VTD"""
ERRATUM_772415 = 1
"""Flag of hw_info: second stage of a nesting parent must not be read-only. Linux always sets it."""

MESSAGES = ReservedRegion(0xFEE0_0000, 0xFEEF_FFFF, RegionKind.MSI)


# --- alloc


@hookimpl
def viommu_device_facts(device: PhysicalDevice) -> DeviceFacts:
    """DMA is coherent always; what else there is, the unit's ECAP and the device say."""
    host = _host(device)
    able = host.unit.able
    return DeviceFacts(
        enforces_coherency=able.snoop_control,
        dirty_tracking=able.dirty,
        ats=host.ats,
        max_pasids=host.pasids,
        pasid_exec=bool(host.pasids) and device.features.pasid_exec,
        pasid_privileged=bool(host.pasids) and device.features.pasid_privileged,
    )


@hookimpl
def viommu_reserved_regions(device: PhysicalDevice) -> Sequence[ReservedRegion]:  # noqa: ARG001
    """Writes to the interrupt range are interrupts."""
    return (MESSAGES,)


@hookimpl
def viommu_hw_info(device: PhysicalDevice, data_type: int) -> HwInfo:
    """CAP and ECAP as they are."""
    if data_type not in {0, HW_INFO_TYPE}:
        raise Unsupported(device.name, "data_type", data_type, f"0 or {HW_INFO_TYPE}")
    registers = _host(device).unit.registers
    info = HwInfoVtd.of(flags=ERRATUM_772415, cap_reg=int(registers.cap), ecap_reg=int(registers.ecap))
    return HwInfo(HW_INFO_TYPE, info.encode())


@hookimpl
def viommu_alloc_paging(device: PhysicalDevice, flags: DomainFlags, data: UserData | None) -> PagingDomain:
    """First stage wherever it will do."""
    return making.make(_host(device).unit, flags, data)


@hookimpl
def viommu_alloc_nested(
    device: PhysicalDevice, parent: PagingDomain, flags: DomainFlags, data: UserData
) -> NestedDomain:
    """Nest directly on a parent, as mainline does."""
    return nested.make(_host(device).unit.able, parent, flags, data)


@hookimpl
def viommu_free_domain(domain: AnyDomain) -> None:
    """Give its table back."""
    domain.free()


# --- attach


@hookimpl
def viommu_attach(device: PhysicalDevice, pasid: int, domain: AnyDomain, page_requests: bool) -> None:
    """Block first, whatever governed before."""
    attach.attach(_host(device), pasid, domain, page_requests=page_requests)


@hookimpl
def viommu_detach(device: PhysicalDevice, pasid: int) -> None:
    """Block."""
    attach.block(_host(device), pasid)


@hookimpl
def viommu_reset(device: PhysicalDevice) -> None:
    """A reset device has nothing in its TLB that could be invalidated."""


# --- invalidate


@hookimpl
def viommu_invalidate_nested(domain: NestedDomain, requests: UserArray) -> bool:
    """Drop pages of a guest's first stage, device TLBs included."""
    domain.invalidate(requests)
    return True


# --- fault, dirty


@hookimpl
def viommu_page_response(device: PhysicalDevice, fault: PageFault, success: bool) -> None:
    """Send a page group response."""
    page_requests.respond(_host(device), fault, success=success)


@hookimpl
def viommu_set_dirty_tracking(domain: PagingDomain, enable: bool) -> bool:
    """Switch SSADE."""
    if isinstance(domain, SecondStageDomain):
        domain.set_tracking(enable)
    return True


@hookimpl
def viommu_read_dirty(domain: PagingDomain, iova: int, length: int, clear: bool, bitmap: DirtyBitmap | None) -> bool:
    """Read the dirty flags of leaves."""
    if isinstance(domain, SecondStageDomain):
        dirty.report(domain, iova, length, bitmap, clear=clear)
    return True


def _host(device: PhysicalDevice) -> HostDevice:
    host: HostDevice = device.data
    return host
