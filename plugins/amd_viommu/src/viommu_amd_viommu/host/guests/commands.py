"""A guest's commands made the host's: which are a guest's to give, and whose ids they name.

The same rules hold for hardware that executes a guest's command buffer by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from viommu.kernel_errors import IoError
from viommu_amd_viommu.host import requests
from viommu_amd_viommu.host.ranges import EVERYTHING
from viommu_amd_viommu.spec.commands import (
    STORE_BYTES,
    CompletePprRequest,
    CompletionWait,
    InvalidateDevtabEntry,
    InvalidateInterruptTable,
    InvalidateIommuAll,
    InvalidateIommuPages,
    InvalidateIotlbPages,
    PrefetchIommuPages,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from viommu_amd_viommu.host.guests.iommu import GuestIommu
    from viommu_amd_viommu.spec.commands import AnyCommand

OfDevice: TypeAlias = InvalidateDevtabEntry | InvalidateInterruptTable | PrefetchIommuPages | CompletePprRequest


def rewrite(command: AnyCommand, guest: GuestIommu) -> list[AnyCommand]:
    """Give the host's commands for a guest's. Raises IoError where hardware would refuse it."""
    rewriter = REWRITERS.get(type(command))
    if rewriter is None:
        raise IoError("guest command", "opcode", int(command.Opcode), "one that a guest may give")
    if command.reserved_set:
        raise IoError("guest command", "reserved bits", command.reserved_set, "0")
    return rewriter(command, guest)


def complete(command: CompletionWait, guest: GuestIommu) -> None:
    """Store what a completion wait stores, at the guest's address. The interrupt is for the VMM to give.

    Raises IoError where the guest has no memory there that it may write.
    """
    if not command.s:
        return
    pa = guest.parent.writable(command.Address)
    if pa is None or not guest.unit.memory.write(pa, command.Data.to_bytes(STORE_BYTES, "little")):
        raise IoError("guest command", "store address", command.Address, "memory that the guest may write")


def _completion_wait(command: CompletionWait, guest: GuestIommu) -> list[AnyCommand]:  # noqa: ARG001
    """Every batch ends with one of the host's own."""
    return []


def _of_device(command: OfDevice, guest: GuestIommu) -> list[AnyCommand]:
    return [command.replace(DeviceID=_device(command.DeviceID, guest))]


def _device_tlb(command: InvalidateIotlbPages, guest: GuestIommu) -> list[AnyCommand]:
    device = _device(command.DeviceID, guest)
    return [command.replace(DeviceID=device, QueueID=device)]


def _pages(command: InvalidateIommuPages, guest: GuestIommu) -> list[AnyCommand]:
    """A DomainID that no nested domain has tags nothing. Without GN all of the domain goes.

    The host tables behind a guest's are the host's, and by their addresses no nested translation can be told.
    """
    domain = guest.domains.find(command.DomainID)
    if domain is None:
        return []
    return [command.replace(DomainID=domain)] if command.GN else [requests.pages_of_domain(domain, EVERYTHING)]


def _everything(command: InvalidateIommuAll, guest: GuestIommu) -> list[AnyCommand]:  # noqa: ARG001
    """All of the guest's, and nothing of anybody else's."""
    domains = [requests.pages_of_domain(domain) for domain in guest.domains]
    return [*domains, *(requests.device_entry(device.id) for device in guest.known)]


def _device(virtual_id: int, guest: GuestIommu) -> int:
    device = guest.host_device(virtual_id)
    if device is None:
        raise IoError("guest command", "DeviceID", virtual_id, "that of a vDEVICE")
    return device.id


REWRITERS: Mapping[type[AnyCommand], Callable[..., list[AnyCommand]]] = {
    CompletionWait: _completion_wait,
    InvalidateDevtabEntry: _of_device,
    InvalidateInterruptTable: _of_device,
    PrefetchIommuPages: _of_device,
    CompletePprRequest: _of_device,
    InvalidateIommuPages: _pages,
    InvalidateIotlbPages: _device_tlb,
    InvalidateIommuAll: _everything,
}
"""What a guest may give. INSERT_GUEST_EVENT and RESET_VMMIO are the host's alone."""
