"""vIOMMUs and what stands on them: made, found, taken down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from viommu.kernel_errors import Invalid, Unsupported
from viommu_amd_viommu.host.extensions import HARDWARE_VIOMMU, QueueType, ViommuAmd
from viommu_amd_viommu.host.guests import nested
from viommu_amd_viommu.host.guests.hardware_slice import GuestSlice
from viommu_amd_viommu.host.guests.iommu import GuestIommu
from viommu_amd_viommu.host.guests.page import WORDS, GuestPage
from viommu_amd_viommu.host.guests.queues import GuestQueues
from viommu_amd_viommu.host.paging import HostTables
from viommu_amd_viommu.host.ranges import PAGE

if TYPE_CHECKING:
    from viommu.objects.hw_queue import HwQueue
    from viommu.objects.viommu import Viommu
    from viommu.ops import DomainFlags, PagingDomain, UserData
    from viommu_amd_viommu.host.device import HostDevice
    from viommu_amd_viommu.host.guests.hardware import HardwareGuests
    from viommu_amd_viommu.host.guests.nested import NestedDomain
    from viommu_amd_viommu.host.unit import Unit

LAST_DEVICE_ID = 0xFFFF


def make(unit: Unit, viommu: Viommu, parent: PagingDomain | None, data: UserData | None) -> None:
    """Make a vIOMMU. Linux 7.2 takes any type, and looks at no data.

    Raises Invalid (parent, data), BadAddress, NoSpace, NoMemory.
    """
    guest = GuestIommu(unit, viommu)
    try:
        if unit.hardware is not None and viommu.type == HARDWARE_VIOMMU:
            _take_slice(guest, unit.hardware)
        if parent is not None:
            stand_on(guest, parent)
        if guest.queues is not None and data is not None:
            _show_registers(guest, guest.queues, data)
    except BaseException:
        destroy(guest)
        raise
    viommu.data = guest


def stand_on(guest: GuestIommu, parent: PagingDomain) -> None:
    """Let a vIOMMU stand on its parent. Raises Invalid, NoSpace."""
    if not isinstance(parent, HostTables) or not parent.nest_parent:
        raise Invalid("AMD vIOMMU", "parent", bound="host tables, allocated with NEST_PARENT")
    guest.stand_on(parent)


def destroy(guest: GuestIommu) -> None:
    """Take a vIOMMU down; nothing stands on it."""
    for region in guest.regions:
        guest.viommu.withdraw_registers(region)
    if guest.slice is not None:
        guest.slice.tear_down()


def alloc_nested(guest: GuestIommu, flags: DomainFlags, data: UserData) -> NestedDomain:  # noqa: ARG001
    """Make a nested domain. Raises Unsupported, Invalid, BadAddress, NoSpace."""
    if not guest.unit.profile.nested:
        raise Unsupported("AMD vIOMMU", "nested domain", bound="none: Linux 7.2 has not connected them")
    return nested.make(guest, data)


def connect(guest: GuestIommu, device: HostDevice, virtual_id: int) -> None:
    """Let a guest have a device. Raises Invalid."""
    if guest.slice is not None and virtual_id > LAST_DEVICE_ID:
        raise Invalid("AMD vDEVICE", "virt_id", virtual_id, f"a DeviceID, at most {LAST_DEVICE_ID:#x}")
    guest.connect(device, virtual_id)


def disconnect(guest: GuestIommu, device: HostDevice) -> None:
    """Let a guest have a device no more."""
    guest.disconnect(device)


def has_queue(guest: GuestIommu, queue_type: int) -> bool:
    """Say whether hardware has queues of a type for the guest."""
    return guest.queues is not None and queue_type in tuple(QueueType)


def add_queue(guest: GuestIommu, queue: HwQueue) -> None:
    """Let hardware use a queue. Raises Invalid, Exists."""
    if guest.queues is not None:
        guest.queues.add(queue)


def remove_queue(guest: GuestIommu, queue: HwQueue) -> None:
    """Let hardware use a queue no more."""
    if guest.queues is not None:
        guest.queues.remove(queue)


def _take_slice(guest: GuestIommu, hardware: HardwareGuests) -> None:
    guest.slice = GuestSlice.bring_up(hardware)
    guest.queues = GuestQueues(guest.slice)


def _show_registers(guest: GuestIommu, queues: GuestQueues, data: UserData) -> None:
    """Offer both pages, and tell where they are."""
    hardware, number = queues.slice.hardware, queues.slice.id
    page = GuestPage(guest.viommu.iommu.port.mapped, hardware.page(number))
    guest.regions.append(guest.viommu.offer_registers(page, PAGE, words=WORDS))
    guest.regions.append(guest.viommu.offer_registers(queues, PAGE))
    offsets = [region.offset for region in guest.regions]
    data.reply(
        HARDWARE_VIOMMU,
        ViommuAmd.least,
        ViommuAmd.of(out_vfmmio_mmap_offset=offsets[0], out_control_mmap_offset=offsets[1]).encode(),
    )
