"""The driver face: the hooks of `viommu.hookspecs` for iommufd, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import hookimpl
from viommu.kernel_errors import Invalid, IoError, Unsupported
from viommu.ops import DeviceFacts, HwInfo

from viommu_riscv.host import attach, dirty, domains, interrupts, nested, requests
from viommu_riscv.host.device import HostDevice
from viommu_riscv.host.extensions import TYPE, CommandRiscv, HwInfoRiscv
from viommu_riscv.host.guests import GuestIommu
from viommu_riscv.host.unit import Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from viommu.objects.physical import PhysicalDevice, PhysicalIommu
    from viommu.objects.vdevice import Vdevice
    from viommu.objects.viommu import Viommu
    from viommu.ops import DeviceTlbRequest, DirtyBitmap, DomainFlags, PageFault, UserArray, UserData

    from viommu_riscv.host.device import AnyDomain
    from viommu_riscv.host.domains import PagingDomain, SecondStageDomain
    from viommu_riscv.host.nested import NestedDomain

DEVICE_LAST = 0xFF_FFFF


# --- bring-up


@hookimpl
def viommu_probe(iommu: PhysicalIommu) -> None:
    """Bring an IOMMU up."""
    iommu.data = Unit.bring_up(iommu.name, iommu.port, iommu.policy)


@hookimpl
def viommu_probe_device(device: PhysicalDevice) -> None:
    """Know a device, blocked."""
    host = HostDevice.of(device, device.iommu.data)
    host.probe()
    device.data = host


@hookimpl
def viommu_release_device(device: PhysicalDevice) -> None:
    """Forget a device."""
    _host(device).release()


@hookimpl
def viommu_interrupt(iommu: PhysicalIommu) -> None:
    """Read the queues that hardware fills."""
    if iommu.data is not None:
        interrupts.hear(iommu.data)


# --- alloc


@hookimpl
def viommu_device_facts(device: PhysicalDevice) -> DeviceFacts:
    """DMA is coherent always; what else there is, capabilities and the device say."""
    host = _host(device)
    return DeviceFacts(
        enforces_coherency=True,
        dirty_tracking=host.unit.able.dirty,
        ats=host.ats,
        max_pasids=host.processes,
        pasid_privileged=bool(host.processes) and device.features.pasid_privileged,
    )


@hookimpl
def viommu_hw_info(device: PhysicalDevice, data_type: int) -> HwInfo:
    """Capabilities and fctl as they are."""
    if data_type not in {0, TYPE}:
        raise Unsupported(device.name, "data_type", data_type, f"0 or {TYPE:#x}")
    registers = _host(device).unit.registers
    info = HwInfoRiscv.of(capabilities=registers["CAPABILITIES"], fctl=registers["FCTL"])
    return HwInfo(TYPE, info.encode())


@hookimpl
def viommu_alloc_paging(device: PhysicalDevice, flags: DomainFlags, data: UserData | None) -> PagingDomain:
    """First stage wherever it will do."""
    return domains.make(_host(device).unit, flags, data)


@hookimpl
def viommu_free_domain(domain: AnyDomain) -> None:
    """Give back what a domain has."""
    domain.free()


@hookimpl
def viommu_supports(device: PhysicalDevice, viommu_type: int) -> bool:
    """One type, where both stages are there."""
    return viommu_type == TYPE and _host(device).unit.able.nested


@hookimpl
def viommu_init(viommu: Viommu, parent: SecondStageDomain | None, data: UserData | None) -> None:
    """Make a guest's IOMMU."""
    if data is not None:
        raise Unsupported(viommu.title, "data_type", data.type, "0: it takes no driver data")
    guest = GuestIommu(viommu, viommu.iommu.data)
    if parent is not None:
        guest.stand_on(parent)
    viommu.data = guest


@hookimpl
def viommu_set_stage2(viommu: Viommu, parent: SecondStageDomain) -> None:
    """Stand on a parent."""
    _guest(viommu).stand_on(parent)


@hookimpl
def viommu_destroy(viommu: Viommu) -> None:
    """Leave the parent."""
    _guest(viommu).destroy()


@hookimpl
def viommu_alloc_nested_on(viommu: Viommu, flags: DomainFlags, data: UserData) -> NestedDomain:
    """Nest a guest's first stage."""
    return nested.make(_guest(viommu), flags, data)


@hookimpl
def viommu_vdevice_init(vdevice: Vdevice) -> None:
    """Accept a virtual device_id."""
    if vdevice.virt_id > DEVICE_LAST:
        raise Invalid(vdevice.title, "virt_id", vdevice.virt_id, f"a device_id, at most {DEVICE_LAST:#x}")


# --- attach


@hookimpl
def viommu_attach(device: PhysicalDevice, pasid: int, domain: AnyDomain, page_requests: bool) -> None:
    """Let a domain govern a device."""
    attach.attach(_host(device), pasid, domain, page_requests=page_requests)


@hookimpl
def viommu_detach(device: PhysicalDevice, pasid: int) -> None:
    """Block."""
    attach.block(_host(device), pasid)


# --- invalidate


@hookimpl
def viommu_invalidate(viommu: Viommu, requests: UserArray) -> bool:
    """Execute a batch of a guest's commands."""
    if not requests.count and requests.type == TYPE:
        return True
    raw = requests.whole(TYPE, CommandRiscv.total)
    try:
        requests.done = _guest(viommu).run(raw)
    except Invalid as error:
        requests.done = error.done or 0
        raise
    if requests.done < requests.count:
        raise IoError(viommu.title, f"command {requests.done}", bound="answered by the device")
    return True


@hookimpl
def viommu_invalidate_device_tlb(viommu: Viommu, requests: Sequence[DeviceTlbRequest]) -> int:
    """Tell devices, and nobody else."""
    return _tell_devices(_guest(viommu).unit, requests)


# --- fault, dirty


@hookimpl
def viommu_page_response(device: PhysicalDevice, fault: PageFault, success: bool) -> None:
    """Send a page-request group response."""
    interrupts.respond(_host(device), fault, success=success)


@hookimpl
def viommu_set_dirty_tracking(domain: SecondStageDomain, enable: bool) -> bool:
    """Hardware notes writes always; whether they are told is switched."""
    domain.tracking = enable
    return True


@hookimpl
def viommu_read_dirty(
    domain: SecondStageDomain, iova: int, length: int, clear: bool, bitmap: DirtyBitmap | None
) -> bool:
    """Read the dirty flags of leaves."""
    dirty.report(domain, iova, length, bitmap, clear=clear)
    return True


def _tell_devices(unit: Unit, wanted: Sequence[DeviceTlbRequest]) -> int:
    for done, one in enumerate(wanted):
        device = unit.devices.get(one.device.requester)
        if device is None or not device.ats:
            continue
        pages = requests.Pages.around(one.start, one.last)
        processes = {None, *device.attached.keys() - {0}} if one.every_pasid else {one.pasid}
        commands = [requests.device_tlb(device.id, process, pages) for process in processes]
        if not unit.submit(commands):
            return done
    return len(wanted)


def _host(device: PhysicalDevice) -> HostDevice:
    host: HostDevice = device.data
    return host


def _guest(viommu: Viommu) -> GuestIommu:
    guest: GuestIommu = viommu.data
    return guest
