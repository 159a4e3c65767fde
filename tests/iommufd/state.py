"""Everything that a failed call must leave as it was, in values that can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from viommu.objects.device import Device
from viommu.objects.fault import FaultQueue
from viommu.objects.ioas import Ioas
from viommu.objects.viommu import Viommu

if TYPE_CHECKING:
    from tests.iommufd.client import Client

State = dict[str, Any]


def state_of(client: Client) -> State:
    """The ids, who holds whom, what every IOAS maps, what is pinned and charged, what is open."""
    context = client.file.context
    table = context.table
    account = client.process.account
    return {
        "objects": {found.id: (type(found).__name__, found.users) for found in table},
        "reserved ids": len(table),
        "ioas": {found.id: ioas_state(found) for found in table if isinstance(found, Ioas)},
        "attachments": {found.id: attachments_of(found) for found in table if isinstance(found, Device)},
        "viommus": {found.id: viommu_state(found) for found in table if isinstance(found, Viommu)},
        "faults": {
            found.id: (len(found.waiting), len(found.delivered)) for found in table if isinstance(found, FaultQueue)
        },
        "container": context.compat and context.compat.id,
        "pins": pins_of(client),
        "account": (account.pinned, account.locked, account.user.locked),
        "fds": sorted(client.process.files),
    }


def attachments_of(device: Device) -> tuple[object, ...]:
    """What a device is attached to by PASID, and its vDEVICE."""
    attached = {pasid: attachment.hwpt.id for pasid, attachment in device.group.attachments.items()}
    return attached, device.vdevice and device.vdevice.id


def viommu_state(viommu: Viommu) -> tuple[object, ...]:
    """What a vIOMMU stands on, its devices, event queues and hardware queues."""
    return (
        viommu.stage2 and viommu.stage2.id,
        viommu.fault and viommu.fault.id,
        {virt_id: vdevice and vdevice.id for virt_id, vdevice in viommu.vdevices.items()},
        sorted(viommu.queues),
        sorted(viommu.data.queues),
    )


def pins_of(client: Client) -> dict[int, int]:
    """How often each page of the process is pinned, by address."""
    pages = client.process.anonymous.pages
    return {index: page.pin_count for index, page in pages.items() if page.pin_count}


def differences(before: State, after: State) -> dict[str, tuple[Any, Any]]:
    """What is not as it was."""
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def ioas_state(ioas: Ioas) -> tuple[object, ...]:
    """What an IOAS maps, keeps free and follows."""
    space = ioas.space
    return (
        [(area.start, area.last, int(area.prot), area.accesses, area.locks, len(area.filled)) for area in space.areas],
        sorted((reserved.start, reserved.last) for reserved in space.reserved),
        space.allowed,
        space.alignment,
        ioas.huge_pages,
        (len(ioas.domains), len(ioas.hwpts), len(ioas.accesses)),
    )
