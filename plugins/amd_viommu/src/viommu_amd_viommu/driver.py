"""The entry point ``amd_viommu``: the hooks, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.hookspecs import DriverInfo, hookimpl
from viommu.kernel_errors import Unsupported
from viommu_amd_viommu import explain
from viommu_amd_viommu.hardware import AmdIommu, features
from viommu_amd_viommu.host import (
    attach,
    device_tlbs,
    dirty,
    hw_info,
    interrupts,
    page_requests,
    paging,
    probing,
)
from viommu_amd_viommu.host.guests import invalidate, viommus
from viommu_amd_viommu.host.unit import Unit
from viommu_amd_viommu.layouts import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from viommu.hookspecs import Decoded, HardwareModel, Registers
    from viommu.layout import Descriptor
    from viommu.memory import PhysicalMemory
    from viommu.objects.hw_queue import HwQueue
    from viommu.objects.physical import PhysicalDevice, PhysicalIommu
    from viommu.objects.vdevice import Vdevice
    from viommu.objects.viommu import Viommu
    from viommu.ops import (
        DeviceFacts,
        DeviceTlbRequest,
        DirtyBitmap,
        DomainFlags,
        HwInfo,
        PageFault,
        ReservedRegion,
        UserArray,
        UserData,
    )
    from viommu.platform import Platform
    from viommu.testing import GuestKit
    from viommu_amd_viommu.host.device import HostDevice
    from viommu_amd_viommu.host.guests.nested import NestedDomain
    from viommu_amd_viommu.host.paging import HostTables, PagingDomain

hookspec_version = 1

_INFO = DriverInfo(
    name="amd_viommu",
    title="AMD IOMMU (AMD-Vi)",
    requester_bits=16,
    pasid_bits=20,
    supports=(
        "host tables (v1), 1 to 6 levels, every page size",
        "guest tables (v2), 4 and 5 levels, through GCR3 tables of 1 to 3 levels",
        "guest tables over host tables",
        "pass-through",
        "device-table segments",
        "registers, command buffer, event and PPR logs with their overflow and their doubles",
        "device TLBs (ATS) and page requests (PRI), with automatic responses",
        "interrupts by MSI and by the XT registers",
        "a host driver: paging domains of both kinds, dirty tracking, page requests, hw_info",
        "ahead of mainline: nested domains, PASIDs, invalidation by vIOMMU, events to a guest",
        "hardware vIOMMUs: guests own command buffer, event log and PPR log",
    ),
    specification="AMD 48882",
)


@hookimpl
def viommu_driver_info() -> DriverInfo:
    """Who this driver is."""
    return _INFO


@hookimpl
def viommu_layouts() -> Mapping[str, type[Descriptor]]:
    """Every structure, register and event record."""
    return LAYOUTS


@hookimpl
def viommu_hardware(memory: PhysicalMemory, registers: Registers, platform: Platform) -> HardwareModel:
    """One IOMMU, which can do all that is modelled where no register is given.

    Raises BadRegister where the registers describe no such IOMMU.
    """
    return AmdIommu.of(memory, features.of(registers), platform)


@hookimpl
def viommu_kinds() -> Mapping[str, tuple[int, ...]]:
    """Commands, log entries, structures, page-table entries, and every register by its name."""
    return explain.KINDS


@hookimpl
def viommu_decode(kind: str, raw: bytes) -> Decoded:
    """Explain bytes."""
    return explain.decode(kind, raw)


@hookimpl
def viommu_log_line(line: str) -> tuple[str, bytes] | None:
    """Recognise what Linux's driver logs under ``AMD-Vi:``."""
    return explain.recognised(line)


@hookimpl
def viommu_conformance() -> GuestKit:
    """Say how guests use it."""
    from viommu_amd_viommu.conformance import KIT  # noqa: PLC0415 - who only uses the driver does without

    return KIT


# --- bring-up


@hookimpl
def viommu_probe(iommu: PhysicalIommu) -> None:
    """Bring an IOMMU up."""
    iommu.data = Unit.bring_up(iommu.name, iommu.port.memory, iommu.port.frames, iommu.port, iommu.policy)


@hookimpl
def viommu_probe_device(device: PhysicalDevice) -> None:
    """Know a device, blocked."""
    device.data = probing.add(_unit(device), device)


@hookimpl
def viommu_release_device(device: PhysicalDevice) -> None:
    """Forget a device."""
    probing.remove(_device(device))


@hookimpl
def viommu_interrupt(iommu: PhysicalIommu) -> None:
    """Read the logs: one message stands for all that hardware has to say."""
    if iommu.data is not None:
        interrupts.hear(iommu.data)


# --- alloc


@hookimpl
def viommu_device_facts(device: PhysicalDevice) -> DeviceFacts:
    """What a device and its IOMMU can do."""
    return hw_info.facts(_device(device))


@hookimpl
def viommu_reserved_regions(device: PhysicalDevice) -> Sequence[ReservedRegion]:
    """Interrupts, and HyperTransport's range."""
    return hw_info.reserved_regions(_unit(device))


@hookimpl
def viommu_hw_info(device: PhysicalDevice, data_type: int) -> HwInfo:
    """EFR and EFR2."""
    return hw_info.hw_info(_unit(device), data_type)


@hookimpl
def viommu_alloc_paging(device: PhysicalDevice, flags: DomainFlags, data: UserData | None) -> PagingDomain:
    """Host tables, or guest tables for PASIDs."""
    return paging.make(_unit(device), flags, data)


@hookimpl
def viommu_free_domain(domain: PagingDomain | NestedDomain) -> None:
    """Give back what a domain has."""
    domain.free()


@hookimpl
def viommu_supports(device: PhysicalDevice, viommu_type: int) -> bool:  # noqa: ARG001
    """Linux 7.2 does not look at the type."""
    return True


@hookimpl
def viommu_init(viommu: Viommu, parent: PagingDomain | None, data: UserData | None) -> None:
    """Make a vIOMMU."""
    viommus.make(viommu.iommu.data, viommu, parent, data)


@hookimpl
def viommu_set_stage2(viommu: Viommu, parent: PagingDomain) -> None:
    """Let an empty vIOMMU stand on its parent."""
    viommus.stand_on(viommu.data, parent)


@hookimpl
def viommu_destroy(viommu: Viommu) -> None:
    """Take a vIOMMU down."""
    viommus.destroy(viommu.data)


@hookimpl
def viommu_alloc_nested_on(viommu: Viommu, flags: DomainFlags, data: UserData) -> NestedDomain:
    """Make a nested domain of a guest's DTE."""
    return viommus.alloc_nested(viommu.data, flags, data)


@hookimpl
def viommu_vdevice_init(vdevice: Vdevice) -> None:
    """Let a guest know a device."""
    viommus.connect(vdevice.viommu.data, _device(vdevice.device.physical), vdevice.virt_id)


@hookimpl
def viommu_vdevice_destroy(vdevice: Vdevice) -> None:
    """Let a guest know a device no more."""
    viommus.disconnect(vdevice.viommu.data, _device(vdevice.device.physical))


# --- attach


@hookimpl
def viommu_attach(device: PhysicalDevice, pasid: int, domain: PagingDomain | NestedDomain) -> None:
    """Let a domain govern a device."""
    attach.attach(_device(device), pasid, domain)


@hookimpl
def viommu_detach(device: PhysicalDevice, pasid: int) -> None:
    """Block."""
    attach.block(_device(device), pasid)


@hookimpl
def viommu_reset(device: PhysicalDevice) -> None:
    """Forget what the device's TLB knew."""
    probing.was_reset(_device(device))


# --- vqueue


@hookimpl
def viommu_supports_hw_queue(viommu: Viommu, queue_type: int) -> bool:
    """Command buffer, event log, PPR log, where hardware runs the guest's IOMMU."""
    return viommus.has_queue(viommu.data, queue_type)


@hookimpl
def viommu_hw_queue_init(queue: HwQueue, index: int, base_pa: int) -> None:  # noqa: ARG001
    """Refuse: hardware knows guests' queues by guests' addresses alone."""
    raise Unsupported(queue.title, "flags", 0, "IOVA: hardware translates a guest's queues itself")


@hookimpl
def viommu_hw_queue_init_iova(queue: HwQueue, index: int) -> None:  # noqa: ARG001
    """Give the guest a queue."""
    viommus.add_queue(queue.viommu.data, queue)


@hookimpl
def viommu_hw_queue_destroy(queue: HwQueue) -> None:
    """Take a queue away."""
    viommus.remove_queue(queue.viommu.data, queue)


# --- invalidate, fault, dirty


@hookimpl
def viommu_invalidate(viommu: Viommu, requests: UserArray) -> bool:
    """Execute a guest's commands."""
    if not _unit_of(viommu).profile.nested:
        raise Unsupported(viommu.title, "invalidation", bound="none: Linux 7.2 has it not connected")
    invalidate.invalidate(viommu.data, requests)
    return True


@hookimpl
def viommu_invalidate_device_tlb(viommu: Viommu, requests: Sequence[DeviceTlbRequest]) -> int:
    """Have devices drop translations that ATS gave them."""
    return device_tlbs.invalidate(_unit_of(viommu), requests)


@hookimpl
def viommu_page_response(device: PhysicalDevice, fault: PageFault, success: bool) -> None:
    """Answer a group of page requests."""
    page_requests.respond(_device(device), fault, success=success)


@hookimpl
def viommu_set_dirty_tracking(domain: HostTables, enable: bool) -> bool:
    """Switch dirty tracking."""
    domain.set_tracking(enable)
    return True


@hookimpl
def viommu_read_dirty(domain: HostTables, iova: int, length: int, clear: bool, bitmap: DirtyBitmap | None) -> bool:
    """Report what devices wrote to."""
    dirty.read(domain, iova, length, bitmap, clear=clear)
    return True


def _unit(device: PhysicalDevice) -> Unit:
    found: Unit = device.iommu.data
    return found


def _unit_of(viommu: Viommu) -> Unit:
    found: Unit = viommu.iommu.data
    return found


def _device(device: PhysicalDevice) -> HostDevice:
    found: HostDevice = device.data
    return found
